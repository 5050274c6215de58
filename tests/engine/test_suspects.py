"""Bisection against a service that rejects whole calls and does not say why."""

import itertools
import math
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bulkfetch.engine.suspects import Culprit, Halves, Suspects
from bulkfetch.plan.frontier import Frontier
from bulkfetch.plan.rectangle import Axis, Rectangle, make_rectangle

Pair = tuple[str, str]


@dataclass
class Search:
    """What a run of calls came to."""

    calls: int = 0
    fetched: Counter[Pair] = field(default_factory=Counter)
    named: set[Pair] = field(default_factory=set)
    culprits: list[Culprit] = field(default_factory=list)


def pairs(rectangle: Rectangle) -> list[Pair]:
    return list(itertools.product(rectangle.learners or ("",), rectangle.courses or ("",)))


def search(
    region: Rectangle,
    is_rejected: Callable[[Rectangle], bool],
    *,
    batch_size: int = 10_000,
    in_flight: int = 1,
    random: Random | None = None,
) -> Search:
    """Fetch a region as the engine does; answers arrive in random order, if asked to."""
    frontier = Frontier([region], batch_size=batch_size)
    suspects = Suspects()
    found = Search()
    calls: list[Rectangle] = []
    while True:
        while len(calls) < in_flight and (batch := frontier.take()) is not None:
            calls.append(batch)
        if not calls:
            return found
        batch = calls.pop(random.randrange(len(calls)) if random else 0)
        found.calls += 1
        assert found.calls < 100_000, "the search does not end"
        if not is_rejected(batch):
            suspects.clear(batch)
            found.fetched.update(pairs(batch))
        elif frontier.excludes_some_of(batch):
            frontier.give_back(batch)
        else:
            verdict = suspects.accuse(batch)
            if isinstance(verdict, Halves):
                frontier.give_back(*verdict.pieces, go_first=verdict.go_first)
                continue
            found.culprits.append(verdict)
            blamed = verdict.rectangle
            if verdict.axis is not None:
                ids = blamed.side(verdict.axis)
                assert ids is not None
                assert len(ids) == 1
                frontier.exclude(verdict.axis, ids)
                blamed = region.replace(verdict.axis, ids)
            found.named.update(pairs(blamed))


def names(prefix: str, count: int) -> list[str]:
    return [f"{prefix}{i:04}" for i in range(count)]


@st.composite
def services(draw: st.DrawFn, *, pairs_per_id: int) -> tuple[Rectangle, set[Pair], set[Pair]]:
    """Draw a region, the pairs with a bad learner or course, and the bad pairs of sound ids."""
    learners = names("l", draw(st.integers(1, 14)))
    courses = names("c", draw(st.integers(1, 11)))
    everything = list(itertools.product(learners, courses))
    bad_learners = draw(st.sets(st.sampled_from(learners), max_size=3))
    bad_courses = draw(st.sets(st.sampled_from(courses), max_size=2))
    bad_pairs: set[Pair] = set()
    used: Counter[str] = Counter()
    for pair in draw(st.lists(st.sampled_from(everything), max_size=6)):
        if all(used[unit] < pairs_per_id for unit in pair):
            bad_pairs.add(pair)
            used.update(pair)
    by_id = {pair for pair in everything if pair[0] in bad_learners or pair[1] in bad_courses}
    return make_rectangle(learners, courses), by_id, bad_pairs - by_id


thoroughly = settings(max_examples=400, deadline=None)


@thoroughly
@given(
    services(pairs_per_id=1), st.integers(1, 15), st.integers(1, 6),
    st.randoms(use_true_random=True),
)  # fmt: skip
def test_every_fault_is_named_and_every_sound_pair_is_fetched(
    service: tuple[Rectangle, set[Pair], set[Pair]],
    batch_size: int,
    in_flight: int,
    random: Random,
) -> None:
    region, by_id, bad_pairs = service
    bad = by_id | bad_pairs
    found = search(
        region,
        lambda batch: not bad.isdisjoint(pairs(batch)),
        batch_size=batch_size,
        in_flight=in_flight,
        random=random,
    )
    assert set(found.fetched.values()) <= {1}
    assert found.named == bad
    assert found.fetched.keys() == set(pairs(region)) - bad


@thoroughly
@given(services(pairs_per_id=20), st.integers(1, 6), st.randoms(use_true_random=True))
def test_however_the_pairs_lie_nothing_goes_unnamed(
    service: tuple[Rectangle, set[Pair], set[Pair]], in_flight: int, random: Random
) -> None:
    """Several bad pairs of one id may pass for the id: more is named then, never less."""
    region, by_id, bad_pairs = service
    bad = by_id | bad_pairs
    found = search(
        region,
        lambda batch: not bad.isdisjoint(pairs(batch)),
        in_flight=in_flight,
        random=random,
    )
    assert set(found.fetched.values()) <= {1}
    assert found.named >= bad
    assert found.fetched.keys() | found.named == set(pairs(region))
    assert found.fetched.keys().isdisjoint(bad)


@pytest.mark.parametrize("courses", [None, 1, 2, 3, 50, 300])
@pytest.mark.parametrize("learners", [2, 3, 16, 100, 1_000])
def test_a_bad_learner_costs_two_calls_for_each_halving(learners: int, courses: int | None) -> None:
    ids = names("l", learners)
    region = make_rectangle(ids, None if courses is None else names("c", courses))
    bound = 1 + 2 * math.ceil(math.log2(learners)) + (3 if (courses or 1) > 1 else 0)
    for bad in {*ids[:3], *ids[-3:], *Random(1).sample(ids, 2)}:
        found = search(region, lambda batch, bad=bad: bad in (batch.learners or ()))  # type: ignore[misc]
        assert found.calls <= bound
        assert found.culprits[-1].axis is (None if courses == 1 else Axis.LEARNERS)
        assert found.culprits[-1].rectangle.learners == (bad,)
        assert len(found.culprits) <= 2
        assert {unit for unit, _ in found.named} == {bad}


@pytest.mark.parametrize("courses", [2, 3, 50, 300])
@pytest.mark.parametrize("learners", [None, 1, 2, 16, 100, 1_000])
def test_a_bad_course_costs_two_calls_for_each_halving_and_a_few_more(
    learners: int | None, courses: int
) -> None:
    ids = names("c", courses)
    region = make_rectangle(None if learners is None else names("l", learners), ids)
    halvings = math.ceil(math.log2(courses))
    bound = 1 + (4 * halvings + 10 if (learners or 1) > 1 else 2 * halvings)
    for bad in {*ids[:3], *ids[-3:]}:
        found = search(region, lambda batch, bad=bad: bad in (batch.courses or ()))  # type: ignore[misc]
        assert found.calls <= bound
        assert found.culprits[-1].rectangle.courses == (bad,)
        assert found.culprits[-1].axis is Axis.COURSES or learners in {1, 2}
        assert {unit for _, unit in found.named} == {bad}


def test_a_learner_with_one_bad_pair_keeps_the_others() -> None:
    """The courses and the other learners are long known to be sound, and still it is the pair."""
    region = make_rectangle(names("l", 40), names("c", 20))
    bad = ("l0025", "c0007")
    found = search(region, lambda batch: bad in pairs(batch), batch_size=10)
    assert found.named == {bad}
    assert [culprit.axis for culprit in found.culprits] == [None]
    assert len(found.fetched) == 799


def test_a_bad_learner_in_a_hundred_batches_is_excluded_from_all() -> None:
    region = make_rectangle(names("l", 10), names("c", 12_000))  # in three rows of batches
    found = search(region, lambda batch: "l0003" in (batch.learners or ()), batch_size=5)
    assert {unit for unit, _ in found.named} == {"l0003"}
    assert len(found.fetched) == 9 * 12_000
    assert found.calls < 6 + 2 * 3 + 4


def test_a_call_without_ids_is_at_fault_itself() -> None:
    whole = Rectangle(None, None)
    assert Suspects().accuse(whole) == Culprit(whole, None)


def test_ids_that_once_were_clear_are_halved_to_the_pair() -> None:
    suspects = Suspects()
    region = make_rectangle("ab", "12")
    suspects.clear(region)
    open_, seen = [region], []
    while open_:
        verdict = suspects.accuse(open_.pop())
        if isinstance(verdict, Halves):
            open_ += verdict.pieces
        else:
            assert verdict.axis is None
            seen.append(verdict.rectangle)
    assert len(seen) == 4
    assert {rectangle.pairs for rectangle in seen} == {1}
