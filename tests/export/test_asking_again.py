"""What an earlier run quarantined is asked for again, at about a call each; in virtual time."""

import csv
import io
import math
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from random import Random
from typing import Any

import anyio
import pytest
from virtual_time import run_virtually

from bulkfetch import IncompleteError, Options
from bulkfetch.export.job import ExportJob, ExportSettings
from bulkfetch.export.sinks.choose import choose_sink
from bulkfetch.inputs import make_pairs, make_region
from bulkfetch.plan.region import Region
from bulkfetch.runtime import Runtime
from bulkfetch.service import Credentials
from bulkfetch.simulator import Account, Call, Simulator, parse_profile
from bulkfetch.simulator.service import Reply

ACCOUNT = Account(300, 120, 9_000, seed=3)
LEARNERS, COURSES = sorted(ACCOUNT.learner_ids), sorted(ACCOUNT.course_ids)
WORKERS = 4
OPTIONS = Options(batch_size=10, workers=WORKERS)
BAD = sorted(Random(1).sample(LEARNERS, 11))
BAD_COURSES = sorted(Random(2).sample(COURSES, 3))

Pair = tuple[str, str]


@dataclass(frozen=True)
class Bad:
    """What the service rejects."""

    learners: Sequence[str] = ()
    courses: Sequence[str] = ()
    pairs: Sequence[Pair] = ()

    def rejects(self, learner: str, course: str) -> bool:
        return learner in self.learners or course in self.courses or (learner, course) in self.pairs


@dataclass(frozen=True)
class Step:
    """One run: what is bad meanwhile, and how it is told to go on."""

    bad: Bad
    retry: bool = True
    options: Options = OPTIONS
    stop_after: int | None = None  # calls


@dataclass
class Run:
    """What came of one."""

    calls: list[Call] = field(default_factory=list)
    report: dict[str, Any] = field(default_factory=dict)
    error: IncompleteError | None = None
    rows: set[Pair] = field(default_factory=set)

    @property
    def quarantined(self) -> set[Pair | str]:
        """The ids that are named by themselves, and the pairs."""
        return {
            (entry["learner_ids"][0], entry["course_ids"][0])
            if entry["learner_ids"] and entry["course_ids"]
            else (entry["learner_ids"] or entry["course_ids"])[0]
            for entry in self.report["quarantined"]
        }


def runs(*steps: Step, region: Region | None = None) -> list[Run]:
    """Run one journal's export several times."""

    async def main(runtime: Runtime) -> list[Run]:
        profile = parse_profile({"latency": {"base_ms": 300}})
        with tempfile.TemporaryDirectory() as name:
            async with Simulator(ACCOUNT, profile, seed=1, clock=runtime.clock) as simulator:
                settings = ExportSettings(
                    base_url=simulator.url,
                    credentials=Credentials(simulator.token, None, None),
                    region=region or make_region(LEARNERS, COURSES),
                    sink=choose_sink(f"{name}/o.csv", io.BytesIO()),
                    journal=Path(name) / "journal",
                )
                return [await run(settings, step, simulator, runtime) for step in steps]

    return run_virtually(main)


async def run(settings: ExportSettings, step: Step, simulator: Simulator, runtime: Runtime) -> Run:
    reject(simulator, step.bad)
    job = ExportJob(
        replace(settings, options=step.options, retry_quarantined=step.retry), runtime=runtime
    )
    found, before = Run(), len(simulator.ledger.calls)

    async def watch(scope: anyio.CancelScope) -> None:
        stop_after = step.stop_after or math.inf
        while len(simulator.ledger.calls) - before < stop_after:  # noqa: ASYNC110 - it has no event
            await anyio.sleep(0.05)
        job.stop()
        scope.cancel()

    async with anyio.create_task_group() as group:
        group.start_soon(watch, group.cancel_scope)
        try:
            await job.run()
        except IncompleteError as error:
            found.error = error
        group.cancel_scope.cancel()
    found.calls = simulator.ledger.calls[before:]
    found.report = job.report()
    output = settings.journal.with_name("o.csv")
    if output.exists():
        with output.open(newline="") as file:
            found.rows = {(row["learner_id"], row["course_id"]) for row in csv.DictReader(file)}
    return found


def reject(simulator: Simulator, bad: Bad) -> None:
    """Have the service reject other things from now on, and pairs besides."""
    service = simulator._service
    service.poison_learners, service.poison_courses = (
        frozenset(bad.learners),
        frozenset(bad.courses),
    )
    usual: Callable[[Any, Call], Reply | None] = type(service)._check_ids

    def check(call: Call) -> Reply | None:
        learners, courses = set(call.learner_ids or LEARNERS), set(call.course_ids or COURSES)
        if any(learner in learners and course in courses for learner, course in bad.pairs):
            return service._soap_fault(call, "Wrong parameters")
        return usual(service, call)

    service._check_ids = check  # type: ignore[method-assign]


def wanted(learners: Sequence[str], courses: Sequence[str]) -> set[Pair]:
    return {
        (ACCOUNT.learner_ids[learner], ACCOUNT.course_ids[course])
        for learner, course in zip(ACCOUNT.learner_of, ACCOUNT.course_of, strict=True)
    } & {(learner, course) for learner in learners for course in courses}


def calls_naming(found: Run, unit: str) -> int:
    return sum(
        unit in (*(call.learner_ids or ()), *(call.course_ids or ())) for call in found.calls
    )


def missing(bad: Bad, region: Sequence[Pair] | None = None) -> int:
    pairs = region or [(learner, course) for learner in LEARNERS for course in COURSES]
    return sum(bad.rejects(*pair) for pair in pairs)


def test_learners_that_are_still_bad_cost_a_call_each() -> None:
    first, again = runs(Step(Bad(BAD)), Step(Bad(BAD)))
    assert first.quarantined == again.quarantined == set(BAD)
    # One that nobody accuses is asked for besides, and shows that it is not the courses.
    assert len(again.calls) <= len(BAD) + 2
    assert all(calls_naming(again, learner) == 1 for learner in BAD)
    assert again.report["pairs"]["missing"] == missing(Bad(BAD))
    assert again.report["ids"]["learners"]["quarantined"] == len(BAD)
    for entry in again.report["quarantined"]:
        assert "Wrong parameters" in entry["cause"]
        assert entry["attempts"] == 1
        assert entry["tried_at"] > max(old["tried_at"] for old in first.report["quarantined"])


@pytest.mark.parametrize("share", ["every second", "half at random", "the first half"])
def test_where_half_have_healed_it_costs_little_more_than_a_call_each(share: str) -> None:
    bad = sorted(Random(7).sample(LEARNERS, 120))
    still = {
        "every second": bad[::2],
        "half at random": Random(4).sample(bad, 60),
        "the first half": bad[:60],
    }[share]
    _, again = runs(Step(Bad(bad)), Step(Bad(still)))
    assert again.quarantined == set(still)
    assert len(again.calls) <= 1.2 * len(bad)
    assert again.report["pairs"]["missing"] == missing(Bad(still))
    assert again.report["ids"]["learners"]["failed"] == 0


def test_where_all_have_healed_they_are_soon_asked_for_together() -> None:
    bad = sorted(Random(7).sample(LEARNERS, 120))
    _, again = runs(Step(Bad(bad)), Step(Bad()))
    assert again.error is None
    assert again.report["quarantined"] == again.report["failed"] == []
    assert again.rows == {(row.learner_id, row.course_id) for row in ACCOUNT.enrollments()}
    assert len(again.calls) <= len(bad) / 10 + 25


def test_pairs_cost_a_call_each() -> None:
    random = Random(5)
    pairs = list(zip(random.sample(LEARNERS, 10), random.sample(COURSES, 10), strict=True))
    first, again, healed = runs(Step(Bad(pairs=pairs)), Step(Bad(pairs=pairs)), Step(Bad()))
    assert first.quarantined == again.quarantined == set(pairs)
    assert len(again.calls) == len(pairs)
    assert again.report["pairs"]["quarantined"] == len(pairs)
    assert healed.error is None
    assert len(healed.calls) <= len(pairs)


def test_courses_cost_a_call_each_and_those_that_have_healed_are_fetched_together() -> None:
    first, again, healed = runs(
        Step(Bad(courses=BAD_COURSES)),
        Step(Bad(courses=BAD_COURSES)),
        Step(Bad(courses=BAD_COURSES[:1])),
    )
    assert first.quarantined == again.quarantined == set(BAD_COURSES)
    assert len(again.calls) <= len(BAD_COURSES) + 2
    assert healed.quarantined == {BAD_COURSES[0]}
    assert healed.report["pairs"]["missing"] == len(LEARNERS)
    assert len(healed.calls) <= len(LEARNERS) / 10 + 15


def test_learners_courses_and_pairs_are_told_apart_again() -> None:
    sound = sorted({*LEARNERS} - {*BAD})
    pairs = [(sound[20], BAD_COURSES[0]), (sound[40], COURSES[7]), (sound[60], COURSES[9])]
    before = Bad(BAD, BAD_COURSES[1:], pairs)
    still = Bad(BAD[::2], BAD_COURSES[2:], pairs[1:])
    first, same, again = runs(Step(before), Step(before), Step(still))
    named = {*BAD, *BAD_COURSES[1:], *pairs}
    assert first.quarantined == same.quarantined == named
    assert len(same.calls) <= len(named) + 3
    assert again.quarantined == {*BAD[::2], *BAD_COURSES[2:], *pairs[1:]}
    assert again.report["pairs"]["missing"] == missing(still)


@pytest.mark.parametrize("still", [BAD, BAD[:5], []], ids=["all bad", "some healed", "all healed"])
def test_a_course_that_went_bad_since_is_found_and_no_learner_blamed_for_it(
    still: list[str],
) -> None:
    for course in COURSES[::30]:
        now = Bad(still, [course])
        _, again = runs(Step(Bad(BAD)), Step(now))
        assert again.quarantined == {*still, course}
        pairs = [(learner, each) for learner in BAD for each in COURSES]
        assert again.report["pairs"]["missing"] == missing(now, pairs)
        # Those under way when the first was rejected are asked for once more.
        assert len(again.calls) <= len(BAD) + 2 * math.log2(len(COURSES)) + 1 + 2 * WORKERS


def test_a_course_that_went_bad_since_is_found_where_one_learner_was_to_be_asked_for() -> None:
    for still in ([], BAD[:1]):
        _, again = runs(Step(Bad(BAD[:1])), Step(Bad(still, COURSES[5:6])))
        assert again.quarantined == {*still, COURSES[5]}
        assert len(again.calls) <= 2 * math.log2(len(COURSES)) + 4


def test_a_learner_that_went_bad_since_does_not_pass_for_the_course() -> None:
    """The learners that the courses are asked for with first."""
    now = Bad(LEARNERS[:1], BAD_COURSES[:1])
    _, again = runs(Step(Bad(courses=BAD_COURSES)), Step(now))
    assert again.quarantined == {LEARNERS[0], BAD_COURSES[0]}


@pytest.mark.parametrize("healed", [[], BAD[3:]])
def test_where_nobody_else_is_asked_for_they_are_judged_with_one_another(
    healed: list[str],
) -> None:
    still = [learner for learner in BAD if learner not in healed]
    region = make_region(BAD, COURSES[:12])
    first, again = runs(Step(Bad(BAD)), Step(Bad(still)), region=region)
    assert first.quarantined == set(BAD)
    assert again.quarantined == set(still)
    # One is searched for anew, and the others are judged by what that found.
    assert len(again.calls) <= 3 * len(BAD) + 30


@pytest.mark.parametrize("bad", [0, 1, 2, 13])
def test_learners_that_were_blamed_for_the_courses_are_had_as_soon_as_courses_are(bad: int) -> None:
    region = make_region(LEARNERS[:4], COURSES[:25])
    first, same = runs(Step(Bad(courses=COURSES)), Step(Bad(courses=COURSES)), region=region)
    assert not first.rows | same.rows
    for seed in range(3):
        still = Random(seed).sample(COURSES[:25], bad)
        if bad == 2:  # those that the retry before asked for by themselves
            still = sorted({(call.course_ids or ("",))[0] for call in same.calls[-2:]})
        *_, again = runs(Step(Bad(courses=COURSES)), Step(Bad(courses=still)), region=region)
        held_up = {
            (learner, course)
            for learner, course in wanted(LEARNERS[:4], COURSES[:25])
            if course not in still
        }
        named = again.quarantined
        assert not {
            pair for pair in held_up if pair in named or pair[0] in named or pair[1] in named
        }


def test_the_one_other_course_tells_that_it_may_be_the_learner() -> None:
    region = make_pairs([(learner, course) for learner in LEARNERS[:3] for course in COURSES[:2]])
    for retries in (1, 2):
        steps = [Step(Bad(learners=LEARNERS[:1]))] * retries
        *_, again = runs(Step(Bad(courses=COURSES[:1])), *steps, region=region)
        assert again.quarantined <= {LEARNERS[0], (LEARNERS[0], COURSES[0])}


@pytest.mark.parametrize(
    ("region", "bad"),
    [
        (make_region(LEARNERS, None), Bad(learners=BAD)),
        (make_region(None, COURSES), Bad(courses=BAD_COURSES)),
    ],
    ids=["learners", "courses"],
)
def test_of_one_list_alone_nobody_else_is_asked_for(region: Region, bad: Bad) -> None:
    first, again = runs(Step(bad), Step(bad), region=region)
    assert first.quarantined == again.quarantined == {*bad.learners, *bad.courses}
    assert len(again.calls) == len(first.quarantined)


def test_listed_pairs_are_asked_for_again_alike() -> None:
    random = Random(8)
    listed = sorted({(random.choice(LEARNERS), random.choice(COURSES)) for _ in range(2_000)})
    region = make_pairs(listed)
    first, again, healed = runs(Step(Bad(BAD)), Step(Bad(BAD)), Step(Bad(BAD[:2])), region=region)
    assert first.quarantined == again.quarantined == set(BAD)
    assert len(again.calls) <= len(BAD) + 4
    assert healed.quarantined == set(BAD[:2])
    assert healed.report["pairs"]["missing"] == missing(Bad(BAD[:2]), listed)


def test_so_many_that_are_rejected_end_it_and_the_others_stay_as_they_are() -> None:
    bad = LEARNERS[100:140]
    bounded = replace(OPTIONS, max_quarantined=5)
    first, again, rest = runs(
        Step(Bad(bad)), Step(Bad(bad), options=bounded), Step(Bad(), retry=False)
    )
    assert len(again.calls) <= 5 + WORKERS + 2
    assert again.quarantined == set(bad)
    assert again.report["failed"] == first.report["failed"]
    old = {entry["learner_ids"][0]: entry for entry in first.report["quarantined"]}
    asked = {unit for call in again.calls for unit in call.learner_ids or ()}
    kept = [each for each in again.report["quarantined"] if each["learner_ids"][0] not in asked]
    assert len(kept) >= len(bad) - 5 - WORKERS
    assert all(entry == old[entry["learner_ids"][0]] for entry in kept)
    assert "more than 5 ids or pairs were rejected" in str(again.error)
    # They are still to be asked for, and those that were rejected again are not.
    assert rest.quarantined == set(bad) & asked


def test_a_retry_that_is_stopped_goes_on() -> None:
    bad = sorted(Random(7).sample(LEARNERS, 60))
    still = bad[::2]
    _, stopped, rest, same = runs(
        Step(Bad(bad)),
        Step(Bad(still), stop_after=20),
        Step(Bad(still), retry=False),
        Step(Bad(still)),
    )
    assert stopped.report["pairs"]["missing"] > missing(Bad(still))
    assert stopped.report["pairs"]["missing"] == len(stopped.quarantined) * len(COURSES)
    assert rest.quarantined == set(still)
    assert rest.report["pairs"]["missing"] == missing(Bad(still))
    assert len(stopped.calls) + len(rest.calls) <= 1.2 * len(bad) + 2 * WORKERS
    assert len(same.calls) <= len(still) + 2


def test_what_had_failed_is_fetched_in_the_same_run() -> None:
    stopped, again, last = runs(
        Step(Bad(BAD), stop_after=60), Step(Bad(BAD[::2])), Step(Bad(BAD[::2]))
    )
    assert 0 < len(stopped.quarantined) < len(BAD)
    assert again.quarantined == set(BAD[::2])
    assert again.report["pairs"]["missing"] == missing(Bad(BAD[::2]))
    assert len(last.calls) <= len(BAD[::2]) + 2
