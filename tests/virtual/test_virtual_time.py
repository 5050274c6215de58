import asyncio
import itertools
import os
import subprocess
import sys
from pathlib import Path

import anyio
import pytest
from virtual_time import HangError, run_virtually

from bulkfetch import Client, Options
from bulkfetch.runtime import Runtime
from bulkfetch.simulator import Account, Profile, Simulator, parse_profile

FAULTY = parse_profile(
    {
        "latency": {"base_ms": 200, "jitter_ms": 300},
        "capacity": {"slots": 3},
        "faults": {"http_503": 0.1, "reset": 0.05, "cut_chunked": 0.05, "cut_gzip": 0.05},
    }
)
BROWN_OUT = parse_profile(
    {
        "latency": {"base_ms": 200},
        "schedule": [{"from_s": 0, "to_s": 9e9, "error_rate": 0.5}],
    }
)
MANY_SMALL = Options(batch_size=10, workers=8)  # wait at the same time
STEADY = parse_profile({"latency": {"base_ms": 1000}, "capacity": {"slots": 2}})
ACCOUNT = Account(1_200, 20, 6_000)


def trace(profile: Profile, seed: int, options: Options | None = None) -> list[tuple[object, ...]]:
    """Fetch everything with the public client and return every call with its times."""

    async def main(runtime: Runtime) -> list[tuple[object, ...]]:
        async with (
            Simulator(ACCOUNT, profile, seed=seed, clock=runtime.clock) as simulator,
            Client(
                simulator.url, token=simulator.token, options=options, runtime=runtime
            ) as client,
        ):
            fetch = client.enrollments(learner_ids=ACCOUNT.learner_ids)
            ids = [row.enrollment_id async for row in fetch]
            assert len(set(ids)) == len(ids) == len(ACCOUNT)
            calls = simulator.ledger.calls
        return [(c.started_s, c.finished_s, c.status, c.fault, c.learner_ids) for c in calls]

    return run_virtually(main, seed=seed)


def test_calls_in_line_take_their_turns_exactly() -> None:
    ends = [call[1] for call in trace(STEADY, 1)]
    # But for the last: they are checked for silent caps when nothing else is in line.
    in_line = ends[:-4]
    assert len(in_line) > 20
    assert in_line == pytest.approx([1 + at // 2 for at in range(len(in_line))])


def test_two_runs_with_a_seed_have_the_same_trace() -> None:
    first = trace(FAULTY, 5)
    assert {call[3] for call in first} >= {"http_503"}
    assert trace(FAULTY, 5) == first
    assert trace(FAULTY, 6) != first


@pytest.mark.parametrize(
    "arguments", ["t.FAULTY, 5", "t.BROWN_OUT, 0, t.MANY_SMALL", "t.BROWN_OUT, 1, t.MANY_SMALL"]
)
def test_the_trace_is_the_same_in_another_process_with_other_hashes(arguments: str) -> None:
    root = Path(__file__).parents[2]
    script = (
        "import importlib.util, sys\n"
        f"spec = importlib.util.spec_from_file_location('t', {str(Path(__file__))!r})\n"
        "t = importlib.util.module_from_spec(spec); spec.loader.exec_module(t)\n"
        f"print(t.trace({arguments}))\n"
    )
    outputs = {
        subprocess.run(
            [sys.executable, "-c", script],
            env={**os.environ, "PYTHONHASHSEED": hash_seed, "PYTHONPATH": str(root / "benchmarks")},
            cwd=root,
            check=True,
            stdout=subprocess.PIPE,
        ).stdout
        for hash_seed in ("1", "2")
    }
    assert len(outputs) == 1


def test_a_wait_for_nothing_is_an_error_at_once() -> None:
    async def main(_runtime: Runtime) -> None:
        await anyio.Event().wait()

    with pytest.raises(HangError, match=r"Nothing is left to wait for(?s:.)*main:\d+"):
        run_virtually(main)


def test_a_run_past_its_limit_is_an_error() -> None:
    async def main(runtime: Runtime) -> None:
        for _ in itertools.count():
            await runtime.sleep(60)

    with pytest.raises(HangError, match="not ended after 3,600 virtual seconds"):
        run_virtually(main, limit_s=3600)


def test_endless_work_in_no_time_is_an_error() -> None:
    async def main(_runtime: Runtime) -> None:
        for _ in itertools.count():
            await asyncio.sleep(0)

    with pytest.raises(HangError, match="endlessly busy at"):
        run_virtually(main)


def test_a_failure_of_the_work_itself_comes_through() -> None:
    async def main(_runtime: Runtime) -> None:
        raise LookupError

    with pytest.raises(LookupError):
        run_virtually(main)


def test_who_sleeps_for_less_than_a_tick_gets_past_it() -> None:
    async def main(runtime: Runtime) -> float:
        wakes_at = runtime.clock() + 1.000_000_4
        while (rest := wakes_at - runtime.clock()) > 0:
            await runtime.sleep(rest)
        return runtime.clock()

    assert run_virtually(main) == pytest.approx(1, abs=1e-5)
