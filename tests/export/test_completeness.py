"""Every id asked for ends in one of five states, whatever was fetched and whatever went wrong."""

from collections.abc import Iterable
from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from bulkfetch.engine.outcome import Unfetched
from bulkfetch.errors import FailedIds
from bulkfetch.export.completeness import (
    NEVER_ASKED,
    PairCounts,
    count_ids,
    count_pairs,
    find_missing,
)
from bulkfetch.inputs import make_region
from bulkfetch.plan.rectangle import Axis, Rectangle, Side, subtract

LEARNERS = tuple(f"l{n}" for n in range(6))
COURSES = tuple(f"c{n}" for n in range(4))
Pair = tuple[str | None, str | None]


def pairs_of(region: Rectangle, rectangles: Iterable[Rectangle]) -> set[Pair]:
    """Return the pairs of the region that rectangles cover, one by one."""
    pairs = set()
    for rectangle in rectangles:
        for learner in region.learners or (None,):
            for course in region.courses or (None,):
                if (rectangle.learners is None or learner in rectangle.learners) and (
                    rectangle.courses is None or course in rectangle.courses
                ):
                    pairs.add((learner, course))
    return pairs


def within(region: Rectangle, unfetched: Unfetched) -> Unfetched:
    """Leave ids off a side that the region does not filter on: no call of a run has any there."""

    def clip(entry: FailedIds) -> FailedIds:
        return replace(
            entry,
            learner_ids=region.learners and entry.learner_ids,
            course_ids=region.courses and entry.course_ids,
        )

    return Unfetched(tuple(map(clip, unfetched.quarantined)), tuple(map(clip, unfetched.failed)))


def rectangle_of(entry: FailedIds) -> Rectangle:
    return Rectangle(entry.learner_ids, entry.course_ids)


def sides(ids: tuple[str, ...]) -> st.SearchStrategy[Side]:
    subsets = st.sets(st.sampled_from(ids), min_size=1).map(lambda some: tuple(sorted(some)))
    return st.one_of(st.none(), st.just(ids), subsets)


rectangles = st.builds(Rectangle, sides(LEARNERS), sides(COURSES))
regions = st.builds(
    Rectangle,
    st.sampled_from([None, LEARNERS, LEARNERS[:1]]),
    st.sampled_from([None, COURSES, COURSES[:1]]),
)
entries = st.builds(
    FailedIds,
    sides(LEARNERS),
    sides(COURSES),
    st.sampled_from(["rejected", "timed out"]),
    st.integers(0, 3),
    st.none(),
)
unfetched = st.builds(
    Unfetched,
    st.lists(entries, max_size=3).map(tuple),
    st.lists(entries, max_size=3).map(tuple),
)


@settings(max_examples=400, deadline=None)
@given(
    region=regions,
    finished=st.lists(rectangles, max_size=4),
    before=unfetched,
    now=unfetched,
    rows=st.sets(st.tuples(st.sampled_from(LEARNERS), st.sampled_from(COURSES))),
)
def test_the_five_states_add_up_and_zero_is_never_unknown(
    region: Rectangle,
    finished: list[Rectangle],
    before: Unfetched,
    now: Unfetched,
    rows: set[tuple[str, str]],
) -> None:
    before, now = within(region, before), within(region, now)
    finished = [
        Rectangle(region.learners and some.learners, region.courses and some.courses)
        for some in finished
    ]
    fetched = pairs_of(region, finished)
    asked = pairs_of(region, [region])
    missing = subtract(region, finished)
    found = find_missing(subtract(region, finished), before, now)
    named = [*found.quarantined, *found.failed]
    # All that is missing is named, and an entry stays only while something it claims is missing.
    assert asked - fetched <= pairs_of(region, map(rectangle_of, named))
    for entry in named:
        assert pairs_of(region, [rectangle_of(entry)]) - fetched
    assert bool(found) == bool(missing)

    seen: dict[Axis, set[str]] = {axis: set() for axis in Axis}
    for learner, course in rows:
        if pairs_of(region, [Rectangle((learner,), (course,))]) & fetched:
            seen[Axis.LEARNERS].add(learner)
            seen[Axis.COURSES].add(course)
    counts, unconfirmed = count_ids(region, missing, found, seen)
    for position, axis in enumerate(Axis):
        ids, count = region.side(axis), counts[axis]
        if ids is None:
            assert count is None
            continue
        assert count is not None
        assert count.asked == len(ids)
        states = (
            *(count.returned, count.in_part, count.confirmed_empty),
            *(count.quarantined, count.failed),
        )
        assert min(states) >= 0
        assert sum(states) == len(ids)
        whole = {
            unit for unit in ids if not any(pair[position] == unit for pair in asked - fetched)
        }
        assert count.confirmed_empty == len(whole - seen[axis])
        assert count.returned >= len(whole & seen[axis])
        if not missing:
            assert count.in_part == count.quarantined == count.failed == 0
        # What lacks a pair that was not rejected is not returned, and whoever has rows not failed.
        rejected = pairs_of(region, map(rectangle_of, found.quarantined))
        lacking = {pair[position] for pair in asked - fetched - rejected}
        with_rows = seen[axis].intersection(ids)
        assert count.in_part <= len(with_rows & lacking) <= count.in_part + count.quarantined
        assert count.returned <= len(with_rows - lacking)
        assert count.failed <= len(set(ids) - with_rows)
        # Whoever failed is named by an entry, whoever was quarantined by one of those.
        for state, some in (
            (count.quarantined, found.quarantined),
            (count.failed, (*found.failed, *unconfirmed)),
        ):
            named_ids = {unit for entry in some for unit in rectangle_of(entry).side(axis) or ()}
            assert state <= len(named_ids.intersection(ids))


def test_an_id_at_fault_takes_nothing_of_the_other_side_with_it() -> None:
    region = make_region(LEARNERS, COURSES)
    rest = region.replace(Axis.LEARNERS, LEARNERS[1:])
    bad = FailedIds(LEARNERS[:1], None, "rejected", 1, 5.0)
    now = Unfetched((bad,), ())
    found = find_missing(subtract(region, [rest]), Unfetched(), now)
    assert found == now
    seen = {Axis.LEARNERS: set(LEARNERS[1:4]), Axis.COURSES: set(COURSES[:3])}
    counts, unconfirmed = count_ids(region, subtract(region, [rest]), found, seen)
    learners, courses = counts[Axis.LEARNERS], counts[Axis.COURSES]
    assert learners is not None
    assert courses is not None
    assert (learners.returned, learners.confirmed_empty) == (3, 2)
    assert (learners.quarantined, learners.failed) == (1, 0)
    # The learner at fault may be enrolled in the course of which no row came.
    assert (courses.returned, courses.confirmed_empty) == (3, 0)
    assert (courses.quarantined, courses.failed) == (0, 1)
    assert [(entry.learner_ids, entry.course_ids) for entry in unconfirmed] == [
        (LEARNERS[:1], COURSES[3:])
    ]


def test_a_batch_that_fails_names_its_learners_a_pair_at_fault_both_of_its_ids() -> None:
    region = make_region(LEARNERS, COURSES)
    batch = FailedIds(LEARNERS[:2], COURSES, "timed out", 6, 5.0)
    pair = FailedIds(LEARNERS[5:], COURSES[:1], "rejected", 1, 6.0)
    rest = [
        Rectangle(LEARNERS[2:5], COURSES),
        Rectangle(LEARNERS[5:], COURSES[1:]),
    ]
    found = find_missing(subtract(region, rest), Unfetched(), Unfetched((pair,), (batch,)))
    seen = {Axis.LEARNERS: set(LEARNERS[2:]), Axis.COURSES: set(COURSES)}
    counts, unconfirmed = count_ids(region, subtract(region, rest), found, seen)
    learners, courses = counts[Axis.LEARNERS], counts[Axis.COURSES]
    assert learners is not None
    assert courses is not None
    assert (learners.returned, learners.quarantined, learners.failed) == (3, 1, 2)
    # Of each course something came, but not of the learners of the batch.
    assert (courses.returned, courses.in_part) == (0, 3)
    assert (courses.quarantined, courses.failed) == (1, 0)
    assert unconfirmed == ()
    # Neither of them is bad by itself: the pair is counted apart.
    assert count_pairs(region, subtract(region, rest), found) == PairCounts(24, 9, 1)


def test_what_was_tried_before_remains_until_it_is_fetched_or_tried_again() -> None:
    region = make_region(LEARNERS, COURSES)
    first = FailedIds(LEARNERS[:2], None, "rejected", 1, 5.0)
    second = FailedIds(LEARNERS[2:3], None, "rejected", 1, 5.0)
    before = Unfetched((first, second), ())
    tried = FailedIds(LEARNERS[2:3], COURSES, "timed out", 6, 9.0)
    given_up = FailedIds(LEARNERS[1:2], COURSES, "the service does not answer", 0)
    finished = [Rectangle(LEARNERS[:1], COURSES), Rectangle(LEARNERS[4:], COURSES)]
    found = find_missing(subtract(region, finished), before, Unfetched((), (tried, given_up)))
    assert found.quarantined == (FailedIds(LEARNERS[1:2], None, "rejected", 1, 5.0),)
    assert found.failed == (tried, FailedIds(LEARNERS[3:4], COURSES, NEVER_ASKED, 0))


def test_ids_at_fault_do_not_make_a_side_a_part() -> None:
    """Half of the courses were asked for, of all learners but one that is rejected."""
    region = make_region(LEARNERS, COURSES)
    finished = [Rectangle(LEARNERS[1:], COURSES[:2])]
    bad = FailedIds(LEARNERS[:1], None, "rejected", 1, 5.0)
    missing = subtract(region, finished)
    found = find_missing(missing, Unfetched(), Unfetched((bad,), ()))
    assert found.failed == (FailedIds(LEARNERS[1:], COURSES[2:], NEVER_ASKED, 0),)
    seen = {Axis.LEARNERS: set(LEARNERS[1:]), Axis.COURSES: set(COURSES[:2])}
    counts, _ = count_ids(region, missing, found, seen)
    learners, courses = counts[Axis.LEARNERS], counts[Axis.COURSES]
    assert learners is not None
    assert courses is not None
    assert (learners.in_part, learners.quarantined, learners.failed) == (5, 1, 0)
    assert (courses.returned, courses.failed) == (2, 2)
