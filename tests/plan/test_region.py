"""Regions: pairs listed one by one, and what of an answer is wanted."""

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bulkfetch.plan.rectangle import Axis, Rectangle, make_rectangle
from bulkfetch.plan.region import (
    PairSet,
    Selector,
    count_wanted,
    make_pair_set,
    rest_of,
)

moderately = settings(max_examples=200, deadline=None)
pair_lists = st.lists(
    st.tuples(st.sampled_from("abcdef"), st.sampled_from("12345")), min_size=1, max_size=40
)
learners = st.none() | st.lists(st.sampled_from("abcdefgh"), min_size=1)
courses = st.none() | st.lists(st.sampled_from("123456"), min_size=1)
rectangles = st.builds(make_rectangle, learners, courses)


def pairs_of(region: PairSet) -> set[tuple[str, str]]:
    return {
        (learner, course)
        for rectangle in region.rectangles
        for learner in rectangle.learners or ()
        for course in rectangle.courses or ()
    }


def is_in(pair: tuple[str, str], rectangle: Rectangle) -> bool:
    return (rectangle.learners is None or pair[0] in rectangle.learners) and (
        rectangle.courses is None or pair[1] in rectangle.courses
    )


@moderately
@given(pair_lists, st.randoms())
def test_pairs_are_kept_exactly_whatever_their_order(
    pairs: list[tuple[str, str]], randomness: random.Random
) -> None:
    region = make_pair_set(pairs)
    assert pairs_of(region) == set(pairs)
    assert region.pairs == len(set(pairs))
    assert region.learners == tuple(sorted({learner for learner, _ in pairs}))
    assert region.courses == tuple(sorted({course for _, course in pairs}))
    assert all((pair in region) == (pair in set(pairs)) for pair in [*pairs, ("a", "1")])
    again = [*pairs, *pairs[:2]]
    randomness.shuffle(again)
    assert make_pair_set(again) == region
    assert hash(make_pair_set(again)) == hash(region)


def test_no_pairs_and_a_learner_in_two_groups_are_refused() -> None:
    with pytest.raises(ValueError, match="no pairs"):
        make_pair_set([])
    with pytest.raises(ValueError, match="two rectangles"):
        PairSet([make_rectangle("ab", "1"), make_rectangle("bc", "2")])


@moderately
@given(pair_lists, st.lists(rectangles, max_size=6))
def test_what_is_left_of_the_pairs_is_covered_once_and_only_that(
    pairs: list[tuple[str, str]], done: list[Rectangle]
) -> None:
    rest = rest_of(make_pair_set(pairs), done)
    for pair in {(learner, course) for learner in "abcdef" for course in "12345"}:
        is_wanted = pair in pairs and not any(is_in(pair, rectangle) for rectangle in done)
        assert sum(is_in(pair, rectangle) for rectangle in rest) == is_wanted


@moderately
@given(pair_lists, rectangles)
def test_the_wanted_pairs_of_a_rectangle_are_counted(
    pairs: list[tuple[str, str]], rectangle: Rectangle
) -> None:
    region = make_pair_set(pairs)
    assert count_wanted(region, rectangle) == sum(is_in(pair, rectangle) for pair in set(pairs))
    assert count_wanted(rectangle, rectangle) == rectangle.pairs


def test_nothing_is_dropped_where_the_call_names_what_is_wanted() -> None:
    assert Selector().select(make_rectangle("ab", "12")) is None
    assert Selector().select(make_rectangle("ab", None).leaving_out(Axis.COURSES)) is None


@moderately
@given(
    rectangles.filter(lambda each: each.learners and each.courses), st.sets(st.sampled_from(Axis))
)
def test_rows_outside_the_rectangle_are_not_wanted(region: Rectangle, unsent: set[Axis]) -> None:
    rectangle = region.leaving_out(*unsent)
    selection = Selector(region).select(rectangle)
    for learner in "abcdefgh":
        for course in "123456":
            if not is_in(
                (learner, course),
                Rectangle(rectangle.named(Axis.LEARNERS), rectangle.named(Axis.COURSES)),
            ):
                continue  # the answer would be refused
            is_wanted = selection is None or selection(learner, course)
            assert is_wanted == is_in((learner, course), region)
            if selection is not None:
                assert selection.takes_all({learner}, {course}) == is_wanted


@moderately
@given(pair_lists, rectangles)
def test_rows_of_pairs_that_are_not_listed_are_not_wanted(
    pairs: list[tuple[str, str]], rectangle: Rectangle
) -> None:
    selection = Selector(make_pair_set(pairs)).select(rectangle)
    assert selection is not None
    assert not selection.takes_all({"a"}, {"1"})
    for learner in "abcdefgh":
        for course in "123456":
            assert selection(learner, course) == ((learner, course) in pairs)


def test_the_sets_of_a_few_sides_are_kept() -> None:
    selector = Selector()
    sides = [tuple(f"{n}{i}" for i in range(3)) for n in range(9)]
    for side in [*sides, *sides]:
        selection = selector.select(Rectangle(("l",), side, frozenset({Axis.COURSES})))
        assert selection is not None
        assert selection.courses == frozenset(side)
