"""Rectangles: split and subtract are exact covers."""

import random
import time
from collections import Counter
from collections.abc import Iterable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bulkfetch.plan.rectangle import (
    Axis,
    CannotSplitError,
    Rectangle,
    make_rectangle,
    split,
    subtract,
)

Pair = tuple[str | None, str | None]

moderately = settings(max_examples=300, deadline=None)
learners = st.none() | st.lists(st.sampled_from("abcdefgh"), min_size=1)
courses = st.none() | st.lists(st.sampled_from("123456"), min_size=1)
rectangles = st.builds(make_rectangle, learners, courses)


def pairs(rectangle: Rectangle) -> list[Pair]:
    """List the pairs; None is the one unit of a side without a filter."""
    return [
        (learner, course)
        for learner in (rectangle.learners or (None,))
        for course in (rectangle.courses or (None,))
    ]


def covers(rectangle: Rectangle, pair: Pair) -> bool:
    """Say whether a call for the rectangle returns all that a call for the pair would."""
    return (rectangle.learners is None or pair[0] in rectangle.learners) and (
        rectangle.courses is None or pair[1] in rectangle.courses
    )


def is_proper(rectangle: Rectangle) -> bool:
    sides: Iterable[tuple[str, ...] | None] = (rectangle.learners, rectangle.courses)
    return all(side is None or (side and list(side) == sorted(set(side))) for side in sides)


@moderately
@given(learners, courses, st.randoms())
def test_order_and_duplicates_do_not_matter(
    some: list[str] | None, other: list[str] | None, randomness: random.Random
) -> None:
    rectangle = make_rectangle(some, other)
    again = [None if ids is None else ids + ids[:3] for ids in (some, other)]
    for ids in again:
        randomness.shuffle(ids or [])
    assert make_rectangle(*again) == rectangle
    assert hash(make_rectangle(*again)) == hash(rectangle)
    assert is_proper(rectangle)
    assert rectangle.pairs == len(pairs(rectangle)) == len(set(pairs(rectangle)))


def test_any_iterable_of_ids_will_do() -> None:
    assert make_rectangle(iter("ba"), {"c": 1}) == Rectangle(("a", "b"), ("c",))


@pytest.mark.parametrize("sides", [([], ["c"]), (["l"], ()), ([], None)])
def test_an_empty_side_is_refused(sides: tuple[list[str] | None, list[str] | None]) -> None:
    with pytest.raises(ValueError, match="no ids"):
        make_rectangle(*sides)


@moderately
@given(rectangles, st.none() | st.sampled_from(Axis))
def test_the_two_halves_are_the_whole(rectangle: Rectangle, axis: Axis | None) -> None:
    along = axis or rectangle.longer_axis()
    if rectangle.side(along) is None or rectangle.width(along) < 2:
        with pytest.raises(CannotSplitError, match=along.value):
            split(rectangle, axis)
        return
    first, second = split(rectangle, axis)
    assert Counter(pairs(first) + pairs(second)) == Counter(pairs(rectangle))
    assert is_proper(first)
    assert is_proper(second)
    assert first.width(along) - second.width(along) in {0, 1}
    other = Axis.COURSES if along is Axis.LEARNERS else Axis.LEARNERS
    assert first.side(other) is second.side(other) is rectangle.side(other)


@pytest.mark.parametrize(
    ("sides", "axis"),
    [
        (("abc", "12"), Axis.LEARNERS),
        (("ab", "12"), Axis.LEARNERS),
        (("ab", "123"), Axis.COURSES),
        ((None, "1"), Axis.LEARNERS),
        ((None, "12"), Axis.COURSES),
        ((None, None), Axis.LEARNERS),
    ],
)
def test_the_longer_axis_is_learners_where_equal(
    sides: tuple[str | None, str | None], axis: Axis
) -> None:
    assert make_rectangle(*sides).longer_axis() is axis


@moderately
@given(rectangles, st.lists(rectangles, max_size=6))
def test_what_is_left_is_covered_once_and_only_that(
    region: Rectangle, done: list[Rectangle]
) -> None:
    """Overlapping, foreign, repeated and unfiltered rectangles included."""
    rest = subtract(region, done)
    units = st_units(region, done)
    wanted = {
        pair
        for pair in units
        if covers(region, pair) and not any(covers(rectangle, pair) for rectangle in done)
    }
    for piece in rest:
        assert is_proper(piece)
        assert (piece.learners is None) == (region.learners is None)
        assert (piece.courses is None) == (region.courses is None)
    got = Counter(pair for piece in rest for pair in units if covers(piece, pair))
    # A side without a filter is one unit: it is left whole unless all of it is done.
    assert got.keys() >= wanted
    assert set(got.values()) <= {1}
    assert got.keys() <= {pair for pair in units if covers(region, pair)}
    if region.learners is not None and region.courses is not None:
        assert got.keys() == wanted


def st_units(region: Rectangle, done: list[Rectangle]) -> list[Pair]:
    """List every pair that tells two of these apart, and one that none of them names."""
    sides = [
        sorted({unit for one in (region, *done) for unit in (one.side(axis) or ())} | {"~"})
        for axis in Axis
    ]
    return [(learner, course) for learner in sides[0] for course in sides[1]]


@moderately
@given(rectangles, st.lists(rectangles, max_size=5))
def test_subtracting_what_is_left_as_well_leaves_nothing(
    region: Rectangle, done: list[Rectangle]
) -> None:
    assert subtract(region, [*done, *subtract(region, done)]) == []
    assert subtract(region, []) == [region]
    assert subtract(region, [region]) == []
    assert subtract(region, [Rectangle(None, None)]) == []


def test_a_large_export_is_resumed_within_seconds() -> None:
    region = make_rectangle((f"l{i:06}" for i in range(200_000)), (f"c{i:03}" for i in range(300)))
    assert region.learners is not None
    assert region.courses is not None
    randomness = random.Random(7)
    batches = [region.learners[i : i + 100] for i in range(0, 200_000, 100)]
    plain = [Rectangle(batch, region.courses) for batch in batches[:1_999]]
    half = [Rectangle(batch, region.courses[:150]) for batch in batches]
    scattered = [
        Rectangle(
            tuple(sorted(randomness.sample(region.learners, 100))),
            tuple(sorted(randomness.sample(region.courses, 30))),
        )
        for _ in range(2_000)
    ]
    for done, left in (
        (plain, [Rectangle(batches[1_999], region.courses)]),
        (half, [Rectangle(region.learners, region.courses[150:])]),
        (scattered, None),
    ):
        started = time.process_time()
        rest = subtract(region, done)
        assert time.process_time() - started < 5  # a second or so, on a machine that is idle
        assert left is None or rest == left


def test_what_a_call_leaves_out_is_wanted_and_not_named() -> None:
    region = make_rectangle("abc", "12")
    asked = region.leaving_out(Axis.COURSES)
    assert asked.named(Axis.COURSES) is None
    assert asked.named(Axis.LEARNERS) is region.learners
    assert (asked.courses, asked.pairs) == (region.courses, 6)
    assert asked != region
    assert asked.leaving_out() == region
    assert asked.longer_axis() is Axis.LEARNERS
    with pytest.raises(CannotSplitError):
        split(asked, Axis.COURSES)
    assert {half.unsent for half in split(asked)} == {asked.unsent}
    assert not asked.is_indivisible
    assert asked.replace(Axis.LEARNERS, ("a",)).is_indivisible
    assert make_rectangle("a", None).leaving_out(Axis.COURSES) == make_rectangle("a", None)


def test_many_finished_rectangles_over_one_long_list_are_subtracted_at_once() -> None:
    """As they stand in the journal of a run along the courses."""
    region = make_rectangle((f"l{i}" for i in range(200_000)), (f"c{i:03}" for i in range(300)))
    some = (region.learners or ())[:100_000]
    done = [Rectangle(some, (f"c{i:03}",)) for i in range(299)]
    started = time.process_time()
    rest = subtract(region, done)
    assert time.process_time() - started < 3
    assert sum(each.pairs for each in rest) == 100_000 + 100_000 * 300
