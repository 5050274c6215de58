"""Run a scenario in virtual time, twice with different settings, and hold it against the account.

What is wrong comes back as sentences: rows lost, twice, foreign or altered; an incomplete run that
did not say so, or one that gave up where patience would have helped; a hang; tasks left behind; two
settings that come to different bytes.
"""

import asyncio
import csv
import io
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from chaos.scenario import Scenario, make_scenario
from virtual_time import HangError, run_virtually

from bulkfetch.client import Client
from bulkfetch.errors import BulkfetchError, FailedIds, IncompleteError
from bulkfetch.export.job import ExportJob, ExportSettings
from bulkfetch.export.sinks.choose import choose_sink
from bulkfetch.inputs import make_region
from bulkfetch.options import Options
from bulkfetch.record import Enrollment
from bulkfetch.runtime import Runtime
from bulkfetch.service import Credentials
from bulkfetch.simulator import Simulator


@dataclass(slots=True)
class Outcome:
    """What came of a run.

    Attributes:
        ending: "complete", or the error's name and text.
        rows: what was handed on, by id.
        problems: what is wrong about it.
        output: the file's bytes, of an export.
    """

    ending: str = "complete"
    rows: list[tuple[str, Enrollment | None]] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    output: bytes = b""
    calls: int = 0
    faults: Counter[str] = field(default_factory=Counter)
    seconds: float = 0.0


def check(seed: int) -> tuple[list[str], list[Outcome]]:
    """Run both settings of a seed; return what is wrong, and what came of them."""
    scenario = make_scenario(seed)
    outcomes = [_run(scenario, options) for options in scenario.settings]
    problems = [
        f"seed {seed}, setting {number}: {problem}"
        for number, outcome in enumerate(outcomes)
        for problem in outcome.problems
    ]
    first, second = outcomes
    if first.ending == second.ending == "complete" and first.output != second.output:
        problems.append(f"seed {seed}: two settings wrote different files")
    return problems, outcomes


def _run(scenario: Scenario, options: Options) -> Outcome:
    outcome = Outcome()

    async def main(runtime: Runtime) -> tuple[Simulator, BulkfetchError | None]:
        simulator = Simulator(
            scenario.account, scenario.profile, seed=scenario.seed, clock=runtime.clock
        )
        async with simulator:
            work = _export if scenario.exports else _iterate
            failure = None
            try:
                await work(scenario, simulator, options, runtime, outcome)
            except BulkfetchError as error:
                failure = error
                outcome.ending = f"{type(error).__name__}: {error}"
        left = asyncio.all_tasks() - {asyncio.current_task()}
        outcome.problems += [f"left behind: {task!r}" for task in left]
        outcome.seconds = runtime.clock()
        return simulator, failure

    try:
        simulator, error = run_virtually(main, seed=scenario.seed)
    except HangError as hang:
        outcome.problems.append(f"hangs: {hang}")
        return outcome
    ledger = simulator.ledger
    outcome.calls = len(ledger.calls)
    outcome.faults = Counter(call.fault for call in ledger.calls if call.fault)
    outcome.problems += judge(scenario, simulator, outcome, error)
    return outcome


async def _iterate(
    scenario: Scenario, simulator: Simulator, options: Options, runtime: Runtime, outcome: Outcome
) -> None:
    async with Client(
        simulator.url,
        client_id=simulator.client_id,
        client_secret=simulator.client_secret,
        options=options,
        runtime=runtime,
    ) as client:
        fetch = client.enrollments(learner_ids=scenario.learner_ids, course_ids=scenario.course_ids)
        async for row in fetch:
            outcome.rows.append((row.enrollment_id, row))


async def _export(
    scenario: Scenario, simulator: Simulator, options: Options, runtime: Runtime, outcome: Outcome
) -> None:
    with tempfile.TemporaryDirectory() as directory:
        target = Path(directory) / "enrollments.csv"
        job = ExportJob(
            ExportSettings(
                base_url=simulator.url,
                credentials=Credentials(
                    client_id=simulator.client_id, client_secret=simulator.client_secret
                ),
                region=make_region(scenario.learner_ids, scenario.course_ids),
                sink=choose_sink(str(target), io.BytesIO()),
                journal=Path(directory) / "journal",
                options=options,
                partial=True,
            ),
            runtime=runtime,
        )
        try:
            await job.run()
        finally:
            partial = target.with_name("enrollments.partial.csv")
            for path in (target, partial):
                if path.exists():
                    outcome.output = path.read_bytes()
                    with path.open(newline="", encoding="utf-8") as file:
                        outcome.rows = [
                            (row["enrollment_id"], None) for row in csv.DictReader(file)
                        ]


def judge(
    scenario: Scenario, simulator: Simulator, outcome: Outcome, error: BulkfetchError | None
) -> Iterator[str]:
    """Say what is wrong about the rows and the way the run ended."""
    account, dialect = scenario.account, scenario.profile.dialect
    wanted = {
        row.enrollment_id: row
        for row in map(
            account.enrollment, account.select(scenario.learner_ids, scenario.course_ids)
        )
    }
    counts = Counter(enrollment_id for enrollment_id, _ in outcome.rows)
    if foreign := counts.keys() - wanted.keys():
        yield f"{len(foreign)} foreign rows"
    if twice := [enrollment_id for enrollment_id, count in counts.items() if count > 1]:
        yield f"{len(twice)} rows more than once"
    for enrollment_id, row in outcome.rows:
        true = wanted.get(enrollment_id)
        if row is not None and true is not None and row != dialect.as_seen(true):
            yield f"altered: {row}"
    missing = {key: row for key, row in wanted.items() if key not in counts}
    yield from _judge_missing(scenario, simulator, error, missing)


def _judge_missing(
    scenario: Scenario,
    simulator: Simulator,
    error: BulkfetchError | None,
    missing: Mapping[str, Enrollment],
) -> Iterator[str]:
    if missing and error is None:
        yield f"{len(missing)} rows lost without a word"
    if isinstance(error, IncompleteError):
        named = (*error.quarantined, *error.failed)
        lost = [row for row in missing.values() if not any(_names(entry, row) for entry in named)]
        if lost:
            yield f"{len(lost)} rows missing that the error does not name"
    if not scenario.heals:
        return
    poisoned = simulator.poison_learners | simulator.poison_courses
    spared = [
        row
        for row in missing.values()
        if row.learner_id not in poisoned and row.course_id not in poisoned
    ]
    if spared:
        yield f"{len(spared)} healthy rows missing: {error}"
    if error is not None and not isinstance(error, IncompleteError):
        yield f"failed: {type(error).__name__}: {error}"


def _names(entry: FailedIds, row: Enrollment) -> bool:
    return (entry.learner_ids is None or row.learner_id in entry.learner_ids) and (
        entry.course_ids is None or row.course_id in entry.course_ids
    )
