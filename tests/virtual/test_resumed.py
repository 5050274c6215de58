"""Runs that are cut short again and again hand on what helps, in virtual time."""

import io
from pathlib import Path
from random import Random

import anyio
import pytest
from virtual_time import run_virtually

from bulkfetch import Options, RetryPolicy
from bulkfetch.export.job import ExportJob, ExportSettings
from bulkfetch.export.sinks.choose import choose_sink
from bulkfetch.inputs import make_region
from bulkfetch.runtime import Runtime
from bulkfetch.service import Credentials
from bulkfetch.simulator import Account, Simulator, load_profile, parse_profile

PINNED = Options(batch_size=10, workers=4, shape="learners", retry=RetryPolicy(attempts=12))


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_a_limit_that_chance_made_does_not_hold_the_next_run_up(tmp_path: Path, seed: int) -> None:
    account, profile = Account(2_000, 20, 20_000), load_profile("flaky")

    async def export(runtime: Runtime, directory: Path, runs_cut_short: int) -> float:
        chance = Random(seed)
        simulator = Simulator(account, profile, seed=seed, clock=runtime.clock)
        async with simulator:
            settings = make_settings(simulator, directory, PINNED)
            for _ in range(runs_cut_short):
                with anyio.move_on_after(chance.uniform(0.1, 1.5)):
                    await ExportJob(settings, runtime=runtime).run()
            started_s = runtime.clock()
            await ExportJob(settings, runtime=runtime).run()
            return runtime.clock() - started_s

    def makespan_s(runs_cut_short: int) -> float:
        directory = tmp_path / str(runs_cut_short)
        directory.mkdir()
        return run_virtually(lambda runtime: export(runtime, directory, runs_cut_short), seed=seed)

    assert makespan_s(8) < 2 * makespan_s(0)


@pytest.mark.parametrize("seed", [1, 3])
def test_checks_that_were_in_vain_are_not_made_anew_by_each_run(tmp_path: Path, seed: int) -> None:
    profile = parse_profile(
        {
            "latency": {"base_ms": 150, "jitter_ms": 100, "per_row_us": 300},
            "capacity": {"slots": 8},
            "limits": {"max_rows": {"at": 400, "past": "504", "timeout_s": 8}},
        }
    )

    async def export(runtime: Runtime) -> int:
        chance, runs = Random(seed), 0
        account = Account(12_000, 60, 60_000, 1)
        simulator = Simulator(account, profile, seed=seed, clock=runtime.clock)
        async with simulator:
            settings = make_settings(simulator, tmp_path, Options())
            is_cut_short = True
            while is_cut_short:
                runs += 1
                with anyio.move_on_after(chance.uniform(2, 4)) as time_given:
                    await ExportJob(settings, runtime=runtime).run()
                is_cut_short = time_given.cancelled_caught
        return runs

    assert run_virtually(export, seed=seed, limit_s=60) < 12


def make_settings(simulator: Simulator, directory: Path, options: Options) -> ExportSettings:
    account = simulator.account
    return ExportSettings(
        base_url=simulator.url,
        credentials=Credentials(
            client_id=simulator.client_id, client_secret=simulator.client_secret
        ),
        region=make_region(account.learner_ids, account.course_ids),
        sink=choose_sink(str(directory / "rows.csv"), io.BytesIO()),
        journal=directory / "journal",
        options=options,
    )
