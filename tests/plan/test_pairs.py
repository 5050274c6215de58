"""Listed pairs are covered by few rectangles: each once, and what is not wanted costs little."""

import random
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bulkfetch.plan.cutting import regroup
from bulkfetch.plan.pairs import Prices, cover
from bulkfetch.plan.rectangle import Axis, Rectangle
from bulkfetch.plan.region import make_pair_set

moderately = settings(max_examples=200, deadline=None)
pair_lists = st.lists(
    st.tuples(st.sampled_from("abcdefghij"), st.sampled_from("123456")), min_size=1, max_size=50
)
cheap = Prices(surplus_pair=0.001, named_id=0.0001)
dear = Prices(surplus_pair=10.0, named_id=0.0)


def pairs_of(rectangles: list[Rectangle]) -> list[tuple[str, str]]:
    return [
        (learner, course)
        for each in rectangles
        for learner in each.learners or ()
        for course in each.courses or ()
    ]


@moderately
@given(
    pair_lists,
    st.sampled_from(Axis),
    st.integers(1, 8),
    st.integers(1, 8),
    st.floats(0, 2),
    st.floats(0, 0.1),
)
def test_every_wanted_pair_is_covered_and_no_pair_twice(
    pairs: list[tuple[str, str]],
    axis: Axis,
    most_ids: int,
    most_others: int,
    surplus_pair: float,
    named_id: float,
) -> None:
    wanted = list(make_pair_set(pairs).rectangles)
    if axis is Axis.COURSES:
        wanted = regroup(wanted, Axis.COURSES)
    prices = Prices(surplus_pair, named_id)
    covering = cover(wanted, axis, most_ids=most_ids, most_others=most_others, prices=prices)
    covered = pairs_of(covering)
    assert len(covered) == len(set(covered))
    assert set(covered) >= set(pairs)
    along = [unit for each in covering for unit in each.side(axis) or ()]
    assert len(along) == len(set(along))
    for each in covering:
        assert each in wanted or (
            each.width(axis) <= most_ids and each.width(axis.other) <= most_others
        )
        assert all(list(side or ()) == sorted(set(side or ())) for side in map(each.side, Axis))
    cost = sum(
        1 + named_id * (each.width(Axis.LEARNERS) + each.width(Axis.COURSES)) for each in covering
    ) + surplus_pair * (len(covered) - len(set(pairs)))
    apart = sum(
        1 + named_id * (each.width(Axis.LEARNERS) + each.width(Axis.COURSES)) for each in wanted
    )
    assert cost <= apart + 1e-9


@moderately
@given(pair_lists)
def test_turning_keeps_the_pairs(pairs: list[tuple[str, str]]) -> None:
    turned = regroup(make_pair_set(pairs).rectangles, Axis.COURSES)
    assert sorted(pairs_of(turned)) == sorted(set(pairs))
    courses = [course for each in turned for course in each.courses or ()]
    assert len(courses) == len(set(courses))


def test_surplus_that_costs_more_than_a_call_is_not_asked_for() -> None:
    wanted = make_pair_set([("a", "1"), ("b", "1"), ("c", "2")]).rectangles
    apart = cover(wanted, Axis.LEARNERS, most_ids=9, most_others=9, prices=dear)
    assert sorted(pairs_of(apart)) == [("a", "1"), ("b", "1"), ("c", "2")]
    together = cover(wanted, Axis.LEARNERS, most_ids=9, most_others=9, prices=cheap)
    assert together == [Rectangle(("a", "b", "c"), ("1", "2"))]


@pytest.mark.parametrize(("kinds", "calls"), [(4, 40), (100, 45)])
def test_learners_who_want_alike_share_calls(kinds: int, calls: int) -> None:
    """4,000 learners, in groups that each want five courses: 40 calls of 100 is the least."""
    draw = random.Random(3)
    courses = [f"c{i:03}" for i in range(200)]
    curricula = [draw.sample(courses, 5) for _ in range(kinds)]
    pairs = [(f"l{i:04}", course) for i in range(4_000) for course in draw.choice(curricula)]
    wanted = make_pair_set(pairs).rectangles
    covering = cover(wanted, Axis.LEARNERS, most_ids=100, most_others=500, prices=cheap)
    assert sum(-(-each.width(Axis.LEARNERS) // 100) for each in covering) <= calls + kinds
    assert set(pairs_of(covering)) >= set(pairs)


def test_many_pairs_are_covered_within_seconds() -> None:
    draw = random.Random(4)
    pairs = [(f"l{i}", f"c{draw.randrange(300)}") for i in range(50_000) for _ in range(3)]
    wanted = make_pair_set(pairs).rectangles
    started = time.process_time()
    covering = cover(wanted, Axis.LEARNERS, most_ids=100, most_others=5_000, prices=cheap)
    assert time.process_time() - started < 10
    assert len(covering) < 2_000
