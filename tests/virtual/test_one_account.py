"""Fetches of one client at the same time: together they do what one may."""

from collections import Counter
from typing import Any

import anyio
import pytest
from virtual_time import run_virtually

from bulkfetch import Client, IncompleteError, Options
from bulkfetch.runtime import Runtime
from bulkfetch.simulator import Account, Simulator, parse_profile

ACCOUNT = Account(2_000, 10, 10_000)


def fetch_in_parts(
    options: Options, parts: int = 3, **profile: Any
) -> tuple[Simulator, Counter[str]]:
    """Fetch the account in parts at the same time; return how often each enrollment came."""
    came: Counter[str] = Counter()

    async def main(runtime: Runtime) -> Simulator:
        document = parse_profile({"latency": {"base_ms": 400}, **profile})
        async with (
            Simulator(ACCOUNT, document, clock=runtime.clock) as simulator,
            Client(
                simulator.url, token=simulator.token, options=options, runtime=runtime
            ) as client,
            anyio.create_task_group() as group,
        ):

            async def fetch(learners: list[str]) -> None:
                async for row in client.enrollments(learner_ids=learners):
                    came[row.enrollment_id] += 1

            for part in range(parts):
                group.start_soon(fetch, list(ACCOUNT.learner_ids)[part::parts])
        return simulator

    return run_virtually(main), came


def test_calls_in_flight_are_those_of_the_account() -> None:
    simulator, came = fetch_in_parts(Options(workers=4, batch_size=40))
    assert len(came) == len(ACCOUNT)
    assert set(came.values()) == {1}
    assert simulator.ledger.max_in_flight == 4
    # They take turns: no part is left to the end.
    calls = simulator.ledger.calls
    ends = [
        max(call.started_s for call in calls if set(part) & set(call.learner_ids or ()))
        for part in (list(ACCOUNT.learner_ids)[number::3] for number in range(3))
    ]
    assert min(ends) > 0.8 * max(ends)


def test_the_rate_is_that_of_the_account() -> None:
    simulator, came = fetch_in_parts(Options(workers=20, batch_size=20, rate=5))
    assert set(came.values()) == {1}
    starts = sorted(call.started_s for call in simulator.ledger.calls)
    assert all(later - earlier > 0.95 for earlier, later in zip(starts, starts[5:], strict=False))


def test_who_is_told_to_wait_has_all_wait() -> None:
    limit = {"max_in_flight": {"at": 5, "past": "429", "retry_after_s": 3}}
    simulator, came = fetch_in_parts(Options(batch_size=20), limits=limit)
    assert set(came.values()) == {1}
    calls = simulator.ledger.calls
    refused = [call for call in calls if call.status == 429]
    assert refused
    for refusal in refused:
        assert refusal.finished_s is not None
        until = refusal.finished_s + 3
        assert not [call for call in calls if refusal.finished_s + 1e-6 < call.started_s < until]


def test_a_fetch_after_one_that_gave_up_begins_anew() -> None:
    async def main(runtime: Runtime) -> int:
        out = parse_profile({"schedule": [{"from_s": 0, "to_s": 100, "outage": True}]})
        async with (
            Simulator(ACCOUNT, out, clock=runtime.clock) as simulator,
            Client(
                simulator.url,
                token=simulator.token,
                options=Options(max_outage_s=10),
                runtime=runtime,
            ) as client,
        ):
            with pytest.raises(IncompleteError, match="does not answer"):
                await client.enrollments(learner_ids=ACCOUNT.learner_ids).to_arrow()
            assert runtime.clock() < 60
            await runtime.sleep(100)
            table = await client.enrollments(learner_ids=ACCOUNT.learner_ids).to_arrow()
            return int(table.num_rows)

    assert run_virtually(main) == len(ACCOUNT)


def test_one_that_is_left_gives_its_places_to_the_other() -> None:
    rows = 0

    async def main(runtime: Runtime) -> Simulator:
        slow = parse_profile({"latency": {"base_ms": 1_000}})
        async with (
            Simulator(ACCOUNT, slow, clock=runtime.clock) as simulator,
            Client(
                simulator.url,
                token=simulator.token,
                options=Options(workers=2, batch_size=50),
                runtime=runtime,
            ) as client,
            anyio.create_task_group() as group,
        ):

            async def leave() -> None:
                with anyio.move_on_after(3):
                    await client.enrollments(learner_ids=ACCOUNT.learner_ids[:1000]).to_arrow()

            async def stay() -> None:
                nonlocal rows
                rows = len(
                    await client.enrollments(learner_ids=ACCOUNT.learner_ids[1000:]).to_arrow()
                )

            group.start_soon(leave)
            group.start_soon(stay)
        return simulator

    simulator = run_virtually(main)
    assert simulator.ledger.max_in_flight == 2
    assert rows == sum(index >= 1000 for index in ACCOUNT.learner_of)
