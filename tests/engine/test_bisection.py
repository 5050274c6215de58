"""What bisection costs the service, counted in its own ledger, over HTTP."""

import math
from collections.abc import Sequence
from random import Random
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from virtual_time import run_virtually

from bulkfetch import Client, IncompleteError, Options
from bulkfetch.runtime import Runtime
from bulkfetch.simulator import Account, Call, Simulator, parse_profile


class Run:
    """One fetch: the calls that the service saw, the learners that came, and what is named."""

    def __init__(
        self,
        account: Account,
        options: Options,
        *,
        learners: Sequence[str] | None = None,
        courses: Sequence[str] | None = None,
        seed: int = 0,
        **permanent: Any,
    ) -> None:
        profile = parse_profile({"latency": {"base_ms": 500}, "permanent": permanent})
        self.learners: set[str] = set()
        self.rows = 0
        self.named: tuple[Any, ...] = ()

        async def main(runtime: Runtime) -> list[Call]:
            async with (
                Simulator(account, profile, seed=1, clock=runtime.clock) as simulator,
                Client(
                    simulator.url, token=simulator.token, options=options, runtime=runtime
                ) as client,
            ):
                fetch = client.enrollments(learner_ids=learners, course_ids=courses)
                try:
                    async for row in fetch:
                        self.learners.add(row.learner_id)
                        self.rows += 1
                except IncompleteError as error:
                    self.named = (*error.quarantined, *error.failed)
                self.cap_checks = fetch.report.cap_checks
                self.confirmations = fetch.report.confirmations
                return list(simulator.ledger.calls)

        self.calls = run_virtually(main, seed=seed)

    @property
    def named_learners(self) -> list[str]:
        return sorted(unit for entry in self.named for unit in entry.learner_ids or ())

    @property
    def named_courses(self) -> list[str]:
        return sorted(unit for entry in self.named for unit in entry.course_ids or ())


def along_learners(batch_size: int, workers: int = 4) -> Options:
    return Options(shape="learners", batch_size=batch_size, workers=workers)


@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    ids=st.integers(2, 1_500),
    most=st.integers(1, 8),
    per_id=st.sampled_from([0.2, 1.0, 5.0]),
    workers=st.integers(1, 8),
    random=st.randoms(use_true_random=False),
)
def test_each_bad_learner_costs_two_calls_for_each_halving_of_its_batch(
    ids: int, most: int, per_id: float, workers: int, random: Random
) -> None:
    """Whatever the size, and however many learners have no enrollments."""
    account = Account(ids, 5, min(ids * 5, max(1, int(per_id * ids))))
    batch = random.randint(2, ids)
    bad = sorted(random.sample(account.learner_ids, min(most, ids)))
    options = along_learners(batch, workers)
    sound = Run(account, options, learners=account.learner_ids)
    found = Run(account, options, learners=account.learner_ids, poison_learners=bad)
    assert found.named_learners == bad
    assert found.rows == sound.rows - sum(
        account.learner_ids[index] in bad for index in account.learner_of
    )
    bound = len(bad) * 2 * math.log2(batch)
    # Where three are found before anything was answered, pairs from all over the list are tried.
    extra = len(found.calls) - len(sound.calls) - found.confirmations
    assert extra - (found.cap_checks - sound.cap_checks) <= bound
    # Whether an answer may be capped is found out with other answers, and so at another price.
    assert extra <= bound + 6


@pytest.mark.parametrize("ids", [2, 3, 7, 100, 129, 1_000])
def test_one_bad_learner_is_found_within_the_bound_wherever_it_stands(ids: int) -> None:
    account = Account(ids, 10, ids * 8)
    learners = sorted(account.learner_ids)
    sound = Run(account, along_learners(ids), learners=learners)
    for bad in (
        learners if ids < 10 else [learners[0], learners[-1], *Random(1).sample(learners, 6)]
    ):
        found = Run(account, along_learners(ids), learners=learners, poison_learners=[bad])
        assert found.named_learners == [bad]
        assert found.learners == sound.learners - {bad}
        assert len(found.calls) - len(sound.calls) <= 2 * math.log2(ids) + 1


BOTH = Account(400, 30, 6_000)


def test_with_both_sides_named_a_bad_learner_costs_two_calls_more() -> None:
    options = Options(shape="both", batch_size=100, workers=4)
    ids: dict[str, Any] = {"learners": BOTH.learner_ids, "courses": BOTH.course_ids}
    sound = Run(BOTH, options, **ids)
    for bad in BOTH.learner_ids[::90]:
        found = Run(BOTH, options, **ids, poison_learners=[bad])
        assert (found.named_learners, found.named_courses) == ([bad], [])
        assert len(found.calls) - len(sound.calls) <= 2 * math.log2(100) + 2


@pytest.mark.parametrize("workers", [1, 4, 10])
def test_a_bad_course_is_named_once_though_it_spoils_every_batch(workers: int) -> None:
    options = Options(shape="both", batch_size=20, workers=workers)
    ids: dict[str, Any] = {"learners": BOTH.learner_ids, "courses": BOTH.course_ids}
    sound = Run(BOTH, options, **ids)
    for bad in BOTH.course_ids[::10]:
        found = Run(BOTH, options, **ids, poison_courses=[bad])
        assert (found.named_learners, found.named_courses) == ([], [bad])
        # The batches in flight when the first was rejected are asked for once more.
        extra = len(found.calls) - len(sound.calls) - (found.cap_checks - sound.cap_checks)
        assert extra <= 2 * math.log2(30) + 5 + workers


def test_healthy_learners_are_not_held_up_and_bisection_keeps_to_half_of_the_places() -> None:
    """Of 40 batches the first ten hold a bad learner; the others are fetched meanwhile."""
    account = Account(4_000, 10, 20_000)
    learners = sorted(account.learner_ids)
    bad = learners[50:1_000:100]
    found = Run(account, along_learners(100, workers=8), learners=learners, poison_learners=bad)
    assert found.named_learners == bad
    calls = sorted(found.calls, key=lambda call: call.started_s)
    whole = [call for call in calls if len(call.learner_ids or ()) == 100]
    last_whole_s = max(call.started_s for call in whole)
    # The first ten are never checked for caps, by their halves: these are of bisection.
    pieces = [
        call
        for call in calls
        if len(call.learner_ids or ()) < 100 and max(call.learner_ids or ()) < learners[1_000]
    ]
    assert last_whole_s < 40 / 4 * 0.5 * 1.5  # four places of eight, half a second a call
    for at_s in sorted({call.started_s for call in calls if call.started_s < last_whole_s}):
        under_way = [
            call for call in pieces if call.started_s <= at_s < (call.finished_s or math.inf)
        ]
        assert len(under_way) <= 8 / 2
    # In all, what the bad learners cost is a small share of what the others do.
    assert len(pieces) <= len(bad) * (2 * math.log2(100) + 1)


@pytest.mark.parametrize("step", [1, 2])
@pytest.mark.parametrize("workers", [1, 4])
def test_bad_learners_at_the_head_of_the_list_cost_no_course(workers: int, step: int) -> None:
    """More of them than are first in flight: nothing is answered, whatever course is named."""
    account = Account(1_500, 5, 6_000)
    learners = sorted(account.learner_ids)
    bad = learners[: 600 if step == 1 else 300 * step : step]
    found = Run(
        account,
        Options(shape="learners", workers=workers),
        learners=learners,
        courses=account.course_ids,
        poison_learners=bad,
    )
    assert (found.named_learners, found.named_courses) == (bad, [])
    assert found.learners == {account.learner_ids[index] for index in account.learner_of} - set(bad)


@pytest.mark.parametrize("batch_size", [1, 5])
def test_a_bad_course_is_named_though_each_batch_has_fewer_learners_than_courses(
    batch_size: int,
) -> None:
    account = Account(60, 20, 900)
    ids: dict[str, Any] = {"learners": account.learner_ids, "courses": account.course_ids}
    options = along_learners(batch_size)
    sound = Run(account, options, **ids)
    bad = account.course_ids[7]
    found = Run(account, options, **ids, poison_courses=[bad])
    assert (found.named_learners, found.named_courses) == ([], [bad])
    assert len(found.calls) - len(sound.calls) <= 2 * math.log2(20) + 6 + 4 + 3


def test_a_learner_and_a_course_bad_at_once_take_nobody_else_with_them() -> None:
    account = Account(300, 12, 3_000)
    learners, courses = sorted(account.learner_ids), sorted(account.course_ids)
    bad_learners, bad_courses = learners[10:200:7], [courses[2], courses[9]]
    found = Run(
        account,
        along_learners(20),
        learners=learners,
        courses=courses,
        poison_learners=bad_learners,
        poison_courses=bad_courses,
    )
    assert (found.named_learners, found.named_courses) == (bad_learners, bad_courses)


@pytest.mark.parametrize("deadline_s", [2.0, 4.0, 8.0])
def test_a_deadline_ends_the_search_for_anything_that_is_answered(deadline_s: float) -> None:
    account = Account(600, 30, 6_000)
    options = Options(deadline_s=deadline_s, rate=10)
    found = Run(account, options, learners=account.learner_ids, poison_learners=account.learner_ids)
    assert found.rows == 0
    assert max(call.started_s for call in found.calls) <= deadline_s
    assert found.named


@pytest.mark.parametrize("ids", [1, 4, 25])
def test_all_of_a_short_list_are_named_if_all_are_bad(ids: int) -> None:
    account = Account(ids, 5, ids * 3)
    found = Run(
        account,
        along_learners(2),
        learners=account.learner_ids,
        poison_learners=account.learner_ids,
    )
    assert found.named_learners == sorted(account.learner_ids)
    assert len(found.calls) <= 3 * ids
