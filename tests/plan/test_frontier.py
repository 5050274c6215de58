"""The frontier: what was taken and what remains are always the region, each pair once."""

import time
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)

from bulkfetch.plan.frontier import OTHER_SIDE_CAP, Cut, Frontier, default_cut
from bulkfetch.plan.rectangle import Axis, CannotSplitError, Rectangle, make_rectangle, split

Pair = tuple[str | None, str | None]

LEARNERS = [f"l{i:02}" for i in range(23)]
COURSES = [f"c{i:02}" for i in range(17)]


def sides(pool: list[str]) -> st.SearchStrategy[list[str] | None]:
    """Draw the first so many ids, or any of them, or no filter."""
    some = st.integers(1, len(pool)).map(lambda count: pool[:count])
    return some | st.lists(st.sampled_from(pool), min_size=1) | st.none()


regions = st.builds(make_rectangle, sides(LEARNERS), sides(COURSES))


asked_regions = st.builds(
    lambda region, unsent: region.leaving_out(*unsent), regions, st.sets(st.sampled_from(Axis))
)


def named_width(rectangle: Rectangle, axis: Axis) -> int:
    return len(rectangle.named(axis) or (None,))


def pairs(*rectangles: Rectangle) -> Counter[Pair]:
    return Counter(
        (learner, course)
        for rectangle in rectangles
        for learner in (rectangle.learners or (None,))
        for course in (rectangle.courses or (None,))
    )


def take_all(frontier: Frontier) -> list[Rectangle]:
    batches = []
    while (batch := frontier.take()) is not None:
        batches.append(batch)
    assert frontier.take() is None
    return batches


@settings(max_examples=200, deadline=None)
@given(asked_regions, st.sampled_from(Axis), st.integers(1, 30), st.integers(1, 20))
def test_batches_cover_the_region_once_and_keep_to_their_sizes(
    region: Rectangle, axis: Axis, batch_size: int, cap: int
) -> None:
    frontier = Frontier(batch_size=batch_size, other_side_cap=cap)
    frontier.add(Cut(region, axis))
    assert frontier.batch_size == batch_size
    assert frontier.axis is axis
    batches = take_all(frontier)
    assert pairs(*batches) == pairs(region)
    assert frontier.remaining() == []
    for batch in batches:
        assert batch.unsent == region.unsent
        assert named_width(batch, axis) <= batch_size
        assert named_width(batch, axis.other) <= cap


@pytest.mark.parametrize(
    ("sides", "unsent", "axis"),
    [
        (("ab", "12"), (), Axis.LEARNERS),
        (("ab", None), (), Axis.LEARNERS),
        ((None, "12"), (), Axis.COURSES),
        (("ab", "12"), (Axis.COURSES,), Axis.LEARNERS),
        (("ab", "12"), (Axis.LEARNERS,), Axis.COURSES),
    ],
)
def test_batches_run_along_the_learners_if_calls_name_them(
    sides: tuple[str | None, str | None], unsent: tuple[Axis, ...], axis: Axis
) -> None:
    assert default_cut(make_rectangle(*sides).leaving_out(*unsent)).axis is axis


def test_a_million_learners_in_three_courses_are_few_calls_along_the_courses() -> None:
    region = make_rectangle((f"l{i}" for i in range(1_000_000)), "abc")
    for unsent, calls in (((), 200), ((Axis.LEARNERS,), 1)):
        frontier = Frontier(batch_size=100)
        frontier.add(Cut(region.leaving_out(*unsent), Axis.COURSES))
        assert len(take_all(frontier)) == calls


def test_what_is_added_first_goes_before_what_is_begun() -> None:
    frontier = Frontier([make_rectangle("abc", "1")], batch_size=1)
    assert frontier.take() == make_rectangle("a", "1")
    frontier.add(Cut(make_rectangle("x", "12"), Axis.COURSES), go_first=True)
    assert take_all(frontier) == [
        make_rectangle("x", "1"),
        make_rectangle("x", "2"),
        make_rectangle("b", "1"),
        make_rectangle("c", "1"),
    ]


def test_a_large_region_is_cut_into_whole_rows() -> None:
    region = make_rectangle((f"l{i}" for i in range(100_000)), (f"c{i}" for i in range(50)))
    batches = take_all(Frontier([region], batch_size=100))
    assert len(batches) == 1_000
    assert {len(batch.learners or ()) for batch in batches} == {100}
    assert all(batch.courses is region.courses for batch in batches)  # shared, not copied
    assert [unit for batch in batches for unit in batch.learners or ()] == list(
        region.learners or ()
    )


def test_the_other_side_is_cut_beyond_its_cap() -> None:
    region = make_rectangle(["l"], (f"c{i}" for i in range(OTHER_SIDE_CAP + 1)))
    widths = [batch.width(Axis.COURSES) for batch in take_all(Frontier([region], batch_size=9))]
    assert widths == [OTHER_SIDE_CAP, 1]


@pytest.mark.parametrize("sides", [(None, None), (["l"], None), (None, ["c"]), (["l"], ["c"])])
def test_a_single_unit_is_one_batch(sides: tuple[list[str] | None, list[str] | None]) -> None:
    region = make_rectangle(*sides)
    assert take_all(Frontier([region], batch_size=1, other_side_cap=1)) == [region]


def test_nothing_is_no_batches() -> None:
    frontier = Frontier([], batch_size=1)
    assert frontier.take() is None
    assert frontier.remaining() == []


def test_pieces_go_first_and_in_order() -> None:
    frontier = Frontier([make_rectangle("abcdef", "12")], batch_size=2)
    batches = [frontier.take(), frontier.take()]
    (ab, cd) = [split(batch) for batch in batches if batch is not None]
    frontier.give_back(*ab)
    frontier.give_back(*cd)
    assert take_all(frontier) == [*cd, *ab, make_rectangle("ef", "12")]
    frontier.give_back(*ab)
    frontier.give_back(*cd, go_first=False)
    assert take_all(frontier) == [*ab, *cd]


def test_a_row_that_is_begun_is_lowered_at_once() -> None:
    """A million learners in one row must not all be refused for the courses named with them."""
    region = make_rectangle("abc", "12345")
    frontier = Frontier([region], batch_size=1, other_side_cap=3)
    first = frontier.take()
    assert first == make_rectangle("a", "123")
    frontier.shrink(Axis.COURSES, 2)
    rest = take_all(frontier)
    assert max(batch.width(Axis.COURSES) for batch in rest) == 2
    assert rest[:2] == [make_rectangle("b", "12"), make_rectangle("c", "12")]
    assert pairs(first, *rest) == pairs(region)


def test_ids_excluded_one_after_the_other_are_all_left_out() -> None:
    frontier = Frontier([make_rectangle("abcdef", "123")], batch_size=2)
    frontier.exclude(Axis.COURSES, ["1"])
    assert frontier.take() == make_rectangle("ab", "23")
    frontier.exclude(Axis.COURSES, ["2"])
    frontier.exclude(Axis.LEARNERS, ["c", "d", "e"])
    assert frontier.excludes_some_of(make_rectangle("ab", "23"))
    assert not frontier.excludes_some_of(make_rectangle("ab", "3"))
    assert take_all(frontier) == [make_rectangle("f", "3")]
    frontier.give_back(make_rectangle("ab", "23"), make_rectangle("ab", "2"))
    assert frontier.remaining() == [make_rectangle("ab", "3")]


def test_a_million_ids_are_taken_one_by_one_in_linear_time() -> None:
    """Taking a batch must not copy the rest of the side."""
    region = make_rectangle((f"l{i}" for i in range(1_000_000)), None)
    frontier = Frontier([region], batch_size=1)
    started = time.process_time()
    for _ in range(2_000):
        assert frontier.take() is not None
    assert time.process_time() - started < 1
    across = make_rectangle(["l"], (f"c{i}" for i in range(1_000_000)))
    frontier = Frontier([across], batch_size=1, other_side_cap=1)
    for _ in range(2_000):
        assert frontier.take() is not None
    assert time.process_time() - started < 2


class FrontierMachine(RuleBasedStateMachine):
    """Take, give back, shrink, exclude, cut anew and look, in any order."""

    @initialize(
        region=asked_regions,
        batch_size=st.integers(1, 9),
        cap=st.integers(1, 9),
        pieces=st.integers(1, 3),
    )
    def begin(self, region: Rectangle, batch_size: int, cap: int, pieces: int) -> None:
        parts = [region]
        for _ in range(pieces - 1):
            try:
                parts += split(parts.pop(0))
            except CannotSplitError:
                parts = parts or [region]
                break
        parts = parts if pairs(*parts) == pairs(region) else [region]
        self.frontier = Frontier(parts, batch_size=batch_size, other_side_cap=cap)
        self.wanted = pairs(region)  # neither taken nor excluded
        self.taken: list[Rectangle] = []
        self.batch_size = batch_size
        self.cap = cap
        self.named_caps = dict.fromkeys(Axis, 1_000)
        self.given_back: list[Rectangle] = []
        self.excluded: dict[Axis, set[str]] = {axis: set() for axis in Axis}

    def without_excluded(self, rectangle: Rectangle) -> set[Pair]:
        learners, courses = (
            [
                unit
                for unit in rectangle.side(axis) or (None,)
                if rectangle.named(axis) is None or unit not in self.excluded[axis]
            ]
            for axis in Axis
        )
        return {(learner, course) for learner in learners for course in courses}

    @rule()
    def take(self) -> None:
        axis = self.frontier.axis
        batch = self.frontier.take()
        if batch is None:
            assert not self.wanted
            return
        got = pairs(batch)
        assert set(got.values()) == {1}
        assert got.keys() <= self.wanted.keys()
        self.wanted -= got
        self.taken.append(batch)
        expected: set[Pair] = set()
        while self.given_back and not expected:  # a piece may be excluded altogether
            expected = self.without_excluded(self.given_back.pop(0))
        if expected:
            assert got.keys() == expected
        elif self.frontier.axis is axis:  # else the batch may be the first of the next one
            assert named_width(batch, axis) <= min(self.batch_size, self.named_caps[axis])
            assert named_width(batch, axis.other) <= min(self.cap, self.named_caps[axis.other])

    @precondition(lambda self: self.taken)
    @rule(data=st.data(), go_first=st.booleans())
    def give_back(self, data: st.DataObject, *, go_first: bool) -> None:
        batch = self.taken.pop(data.draw(st.integers(0, len(self.taken) - 1)))
        pieces: tuple[Rectangle, ...] = (batch,)
        sides = [axis for axis in Axis if named_width(batch, axis) > 1]
        if sides:
            pieces = split(batch, data.draw(st.sampled_from(sides)))
        self.frontier.give_back(*pieces, go_first=go_first)
        before, after = (pieces, self.given_back) if go_first else (self.given_back, pieces)
        self.given_back = [*before, *after]
        self.wanted += Counter(self.without_excluded(batch))

    @rule(axis=st.sampled_from(Axis), ids=st.integers(1, 30))
    def shrink(self, axis: Axis, ids: int) -> None:
        self.frontier.shrink(axis, ids)
        self.named_caps[axis] = min(self.named_caps[axis], ids)
        assert self.frontier.cap(axis) == min(self.cap, self.named_caps[axis])

    @rule(ids=st.integers(1, 30))
    def set_batch_size(self, ids: int) -> None:
        self.frontier.batch_size = self.batch_size = ids
        assert self.frontier.batch_size == min(ids, self.named_caps[self.frontier.axis])

    @rule(axis=st.sampled_from(Axis), unsent=st.sets(st.sampled_from(Axis)), first=st.booleans())
    def cut_anew(self, axis: Axis, unsent: set[Axis], *, first: bool) -> None:
        """As the planner does; pieces stay as they are."""
        withdrawn = self.frontier.withdraw()
        kept = Counter(pair for piece in self.given_back for pair in self.without_excluded(piece))
        assert pairs(*withdrawn) + kept == self.wanted
        cuts = [Cut(rectangle.leaving_out(*unsent), axis) for rectangle in withdrawn]
        for cut in cuts:
            self.frontier.add(cut, go_first=first)
        # An excluded id may have been wanted as long as no call named it.
        self.wanted = kept + Counter(
            pair for cut in cuts for pair in self.without_excluded(cut.rectangle)
        )

    @rule(axis=st.sampled_from(Axis), data=st.data())
    def exclude(self, axis: Axis, data: st.DataObject) -> None:
        pool = LEARNERS if axis is Axis.LEARNERS else COURSES
        ids = data.draw(st.lists(st.sampled_from(pool), max_size=4))
        self.frontier.exclude(axis, iter(ids))
        self.excluded[axis].update(ids)
        rest = self.frontier.remaining()
        self.frontier.give_back(*rest)
        self.given_back = list(rest)
        self.wanted = pairs(*rest)
        for batch in self.taken:
            assert self.frontier.excludes_some_of(batch) == any(
                not self.excluded[each].isdisjoint(batch.named(each) or ()) for each in Axis
            )

    @rule(restart=st.booleans())
    def look_at_what_remains(self, *, restart: bool) -> None:
        rest = self.frontier.remaining()
        assert pairs(*rest) == self.wanted
        assert self.frontier.take() is None
        assert self.frontier.remaining() == []
        if restart:  # as an export does when it is resumed
            self.frontier = Frontier(rest, batch_size=self.batch_size, other_side_cap=self.cap)
            for axis, ids in self.excluded.items():
                self.frontier.exclude(axis, ids)
                self.frontier.shrink(axis, self.named_caps[axis])
            self.given_back = []
        else:
            self.frontier.give_back(*rest)
            self.given_back = list(rest)

    @invariant()
    def every_side_has_ids(self) -> None:
        for batch in getattr(self, "taken", []):
            assert batch.learners != ()
            assert batch.courses != ()


FrontierMachine.TestCase.settings = settings(
    max_examples=200, stateful_step_count=30, deadline=None
)
TestFrontier = FrontierMachine.TestCase
