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
from bulkfetch.simulator import Account, Simulator, load_profile

ACCOUNT = Account(2_000, 20, 20_000)
OPTIONS = Options(batch_size=10, workers=4, shape="learners", retry=RetryPolicy(attempts=12))


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_a_limit_that_chance_made_does_not_hold_the_next_run_up(tmp_path: Path, seed: int) -> None:
    def makespan_s(runs_cut_short: int) -> float:
        directory = tmp_path / str(runs_cut_short)
        directory.mkdir()
        return run_virtually(
            lambda runtime: export(runtime, directory, seed, runs_cut_short), seed=seed
        )

    assert makespan_s(8) < 2 * makespan_s(0)


async def export(runtime: Runtime, directory: Path, seed: int, runs_cut_short: int) -> float:
    """Cut so many runs short, a second or so each; return how long the last takes."""
    chance = Random(seed)
    simulator = Simulator(ACCOUNT, load_profile("flaky"), seed=seed, clock=runtime.clock)
    async with simulator:
        settings = ExportSettings(
            base_url=simulator.url,
            credentials=Credentials(
                client_id=simulator.client_id, client_secret=simulator.client_secret
            ),
            region=make_region(ACCOUNT.learner_ids, ACCOUNT.course_ids),
            sink=choose_sink(str(directory / "rows.csv"), io.BytesIO()),
            journal=directory / "journal",
            options=OPTIONS,
        )
        for _ in range(runs_cut_short):
            with anyio.move_on_after(chance.uniform(0.1, 1.5)):
                await ExportJob(settings, runtime=runtime).run()
        started_s = runtime.clock()
        await ExportJob(settings, runtime=runtime).run()
        return runtime.clock() - started_s
