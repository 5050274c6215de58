"""The planner: exact covers whatever the shape and however often it changes, and few calls."""

import functools
import math
import random
from collections import Counter
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bulkfetch.errors import UsageError
from bulkfetch.plan.cost import Bounds
from bulkfetch.plan.frontier import Frontier
from bulkfetch.plan.planner import Planner
from bulkfetch.plan.rectangle import Axis, CannotSplitError, Rectangle, make_rectangle, split
from bulkfetch.plan.region import PairSet, Region, Selector, make_pair_set, rest_of
from bulkfetch.plan.shapes import Shape

Pair = tuple[str, str]

LEARNERS = [f"l{i:02}" for i in range(24)]
COURSES = [f"c{i:02}" for i in range(12)]


class Account:
    """Answers rectangles as the service does, and counts what it was asked."""

    def __init__(
        self,
        rows: Callable[[str], list[str]],
        learners: list[str],
        *,
        call_s: float = 0.3,
        row_s: float = 0.0002,
        id_s: float = 0.0,
    ) -> None:
        self.rows = [(learner, course) for learner in learners for course in rows(learner)]
        self.by_learner: dict[str, list[Pair]] = {}
        self.by_course: dict[str, list[Pair]] = {}
        for row in self.rows:
            self.by_learner.setdefault(row[0], []).append(row)
            self.by_course.setdefault(row[1], []).append(row)
        self.speed = (call_s, row_s, id_s)

    def answer(self, rectangle: Rectangle) -> tuple[list[Pair], float]:
        learners, courses = rectangle.named(Axis.LEARNERS), rectangle.named(Axis.COURSES)
        if learners is not None:
            found = [row for unit in learners for row in self.by_learner.get(unit, [])]
            if courses is not None:
                named = set(courses)
                found = [row for row in found if row[1] in named]
        elif courses is not None:
            found = [row for unit in courses for row in self.by_course.get(unit, [])]
        else:
            found = self.rows
        call_s, row_s, id_s = self.speed
        ids = len(learners or ()) + len(courses or ())
        return found, call_s + row_s * len(found) + id_s * ids


class Outcome:
    """What a run over an account came to."""

    def __init__(self) -> None:
        self.kept: list[Pair] = []
        self.finished: list[Rectangle] = []
        self.calls = 0
        self.received = 0


def run(
    region: Region,
    account: Account,
    planner: Planner,
    *,
    batch_size: int = 100,
    done: tuple[Rectangle, ...] = (),
    most_rows: float = float("inf"),
    most_ids: float = float("inf"),
    stop_after: float = float("inf"),
    workers: int = 3,
    randomness: random.Random | None = None,
) -> Outcome:
    """Run a plan as the engine does: several batches open, the too large halved or narrowed."""
    frontier = Frontier(batch_size=batch_size)
    planner.begin(rest_of(region, done), frontier)
    selector, outcome = Selector(region), Outcome()
    draw = randomness or random.Random(1)
    opened: list[Rectangle] = []
    while outcome.calls < stop_after:
        while len(opened) < workers and (batch := frontier.take()) is not None:
            opened.append(batch)
        if not opened:
            break
        batch = opened.pop(draw.randrange(len(opened)))
        outcome.calls += 1
        found, seconds = account.answer(batch)
        named = [len(batch.named(axis) or ()) for axis in Axis]
        is_request = max(named) > most_ids
        if is_request or len(found) > most_rows:
            axis = batch.longer_axis()
            try:
                pieces = split(batch, axis)
            except CannotSplitError:
                if planner.narrow(batch):
                    continue
            else:
                frontier.shrink(axis, pieces[0].width(axis))
                if not is_request:
                    planner.note_too_large(batch)
                frontier.give_back(*pieces)
                continue
        selection = selector.select(batch)
        kept = [row for row in found if selection is None or selection(*row)]
        outcome.kept += kept
        outcome.received += len(found)
        outcome.finished.append(Rectangle(batch.learners, batch.courses))
        planner.note(
            batch,
            received=len(found),
            kept=len(kept),
            body_bytes=460 * len(found),
            seconds=seconds,
        )
    return outcome


def wanted_rows(region: Region, account: Account) -> Counter[Pair]:
    if isinstance(region, PairSet):
        return Counter(row for row in account.rows if row in region)
    learners, courses = (set(side or ()) for side in map(region.side, Axis))
    return Counter(
        row
        for row in account.rows
        if (not learners or row[0] in learners) and (not courses or row[1] in courses)
    )


sides = [
    st.none() | st.lists(st.sampled_from(pool), min_size=1, max_size=len(pool)).map(tuple)
    for pool in (LEARNERS, COURSES)
]
regions: st.SearchStrategy[Region] = st.builds(make_rectangle, *sides) | st.lists(
    st.tuples(st.sampled_from(LEARNERS), st.sampled_from(COURSES)), min_size=1, max_size=40
).map(make_pair_set)


@st.composite
def accounts(draw: st.DrawFn) -> Account:
    courses = draw(
        st.lists(
            st.lists(st.sampled_from([*COURSES, "other"]), max_size=5),
            min_size=len(LEARNERS),
            max_size=len(LEARNERS),
        )
    )
    learners = [*LEARNERS, "stranger"]
    of = dict(zip(learners, [*courses, COURSES], strict=True))
    return Account(
        lambda learner: of[learner],
        learners,
        call_s=draw(st.floats(0.01, 5)),
        row_s=draw(st.floats(0, 1)),
        id_s=draw(st.floats(0, 1)),
    )


class Fickle(Planner):
    """Changes its mind at random, more often than any cost would make it."""

    def __init__(self, region: Region, randomness: random.Random, shapes: list[Shape]) -> None:
        super().__init__(region, Bounds(workers=1))
        self.randomness = randomness
        self.shapes = shapes

    def _reconsider(self) -> None:
        if self._frontier is None or self.randomness.random() < 0.3:
            return
        self.choice = type(self.choice)(self.randomness.choice(self.shapes), "a whim")
        if self.randomness.random() < 0.5 and not isinstance(self._region, PairSet):
            self._add_probe(self.choice.shape, self.estimates()[0])
        else:
            self._add(self._frontier.withdraw())


@settings(max_examples=200, deadline=None)
@given(
    regions,
    accounts(),
    st.integers(1, 30),
    st.integers(1, 40),
    st.integers(1, 20),
    st.randoms(use_true_random=False),
    st.booleans(),
)
def test_no_row_is_lost_or_kept_twice_whatever_the_revisions(
    region: Region,
    account: Account,
    batch_size: int,
    most_rows: int,
    most_ids: int,
    randomness: random.Random,
    is_fickle: bool,
) -> None:
    """Interrupted and resumed: what was finished and the rest are all of it, each row once."""
    shapes = [each.shape for each in Planner(region).estimates()]

    def plan() -> Planner:
        if is_fickle:
            return Fickle(region, randomness, shapes)
        return Planner(region, Bounds(workers=1, batch_size=batch_size))

    go_on = functools.partial(
        run,
        region,
        account,
        batch_size=batch_size,
        most_rows=most_rows,
        most_ids=most_ids,
        randomness=randomness,
    )
    first = go_on(plan(), stop_after=randomness.randrange(1, 12))
    then = go_on(plan(), done=tuple(first.finished))
    assert Counter(first.kept + then.kept) == wanted_rows(region, account)
    assert rest_of(region, first.finished + then.finished) == []


@settings(max_examples=150, deadline=None)
@given(regions, accounts(), st.integers(1, 30))
def test_each_shape_that_is_possible_fetches_all_of_it(
    region: Region, account: Account, batch_size: int
) -> None:
    for each in Planner(region).estimates():
        planner = Planner(region, Bounds(batch_size=batch_size), shape=each.shape)
        assert planner.choice.reason == "pinned"
        outcome = run(region, account, planner, batch_size=batch_size)
        assert Counter(outcome.kept) == wanted_rows(region, account)
        assert planner.shape is each.shape


def test_a_shape_that_is_not_possible_is_refused() -> None:
    with pytest.raises(UsageError, match="learners, whole are"):
        Planner(make_rectangle("ab", None), shape=Shape.COURSES)


def many(prefix: str, count: int) -> list[str]:
    return [f"{prefix}{i:06}" for i in range(count)]


def test_three_courses_and_a_million_learners_are_no_ten_thousand_calls() -> None:
    region = make_rectangle(many("l", 1_000_000), many("c", 3))
    for batch_size in (None, 100):
        planner = Planner(region, Bounds(batch_size=batch_size))
        chosen = next(each for each in planner.estimates() if each.shape is planner.shape)
        assert chosen.calls <= 1_000
        assert chosen.risk < (0.1 if batch_size is None else 0.5)


@pytest.mark.parametrize(
    ("batch_size", "workers", "per_second"), [(100, 10, 2.0), (20, 2, math.inf), (50, 2, 3.0)]
)
def test_small_batches_that_are_pinned_do_not_become_giant_answers(
    batch_size: int, workers: int, per_second: float
) -> None:
    """Few calls for all learners would be faster on paper, if the service answered so much."""
    region = make_rectangle(many("l", 100_000), many("c", 300))
    bounds = Bounds(batch_size=batch_size, workers=workers, per_second=per_second)
    planner = Planner(region, bounds)
    assert planner.shape is Shape.LEARNERS
    assert "may well be too large" in planner.choice.reason


def test_a_guess_is_tried_with_one_batch_before_small_ones_that_are_pinned_are_left() -> None:
    learners = many("l", 100_000)
    region = make_rectangle(learners, many("c", 3))
    planner = Planner(region, Bounds(batch_size=100))
    assert planner.shape is Shape.COURSES_ONLY
    frontier = Frontier(batch_size=100)
    planner.begin([region], frontier)
    first, second = frontier.take(), frontier.take()
    assert first is not None
    assert second is not None
    assert (first.named(Axis.LEARNERS), first.width(Axis.COURSES)) == (None, 1)
    assert second.width(Axis.LEARNERS) == 100

    planner = Planner(region, Bounds(batch_size=100))
    account = Account(lambda learner: ["c000001"] if learner.endswith("0") else [], learners)
    outcome = run(region, account, planner)
    assert Counter(outcome.kept) == wanted_rows(region, account)
    assert outcome.calls < 50  # 1,000 along the learners
    assert planner.shape is Shape.COURSES_ONLY


def test_a_hundred_thousand_learners_in_fifty_courses_are_a_thousand_calls_at_most() -> None:
    region = make_rectangle(many("l", 100_000), many("c", 50))
    planner = Planner(region, Bounds(batch_size=100))
    assert planner.shape is Shape.LEARNERS
    account = Account(lambda _learner: ["c000001"], many("l", 100_000))
    assert run(region, account, planner).calls <= 1_000


def test_a_limit_of_ids_is_answered_by_picking_the_courses_here() -> None:
    """Both lists are limited to 200: 300 courses need two calls each, or none of them named."""
    learners, courses = many("l", 20_000), many("c", 300)
    draw = random.Random(5)
    region = make_rectangle(learners, courses)
    account = Account(lambda _learner: draw.sample(courses, 3), learners)
    planner = Planner(region, Bounds(workers=4, batch_size=200))
    outcome = run(region, account, planner, most_ids=200, batch_size=200)
    assert Counter(outcome.kept) == wanted_rows(region, account)
    assert planner.shape is Shape.LEARNERS_ONLY
    assert outcome.calls < 150  # 200 with both named
    assert outcome.received < 1.1 * len(outcome.kept)


def test_courses_are_not_picked_here_where_the_rest_of_a_learner_is_most_of_it() -> None:
    """The probe shows that picking here would throw away nine rows of ten."""
    learners, courses = many("l", 20_000), many("c", 300)
    others = many("other", 300)
    draw = random.Random(6)
    region = make_rectangle(learners, courses)
    account = Account(
        lambda _learner: [draw.choice(courses), *draw.sample(others, 40)], learners, row_s=0.002
    )
    planner = Planner(region, Bounds(workers=4, batch_size=200))
    outcome = run(region, account, planner, most_ids=200, batch_size=200)
    assert Counter(outcome.kept) == wanted_rows(region, account)
    assert planner.shape is not Shape.LEARNERS_ONLY
    assert outcome.received < 1.5 * len(outcome.kept)  # the probe's rows, no more


def test_a_course_that_is_too_large_is_asked_for_by_its_learners() -> None:
    learners = many("l", 30_000)
    region = make_rectangle(learners, many("c", 3))
    account = Account(lambda _learner: ["c000001"], learners)
    planner = Planner(region, Bounds(workers=4), shape=Shape.COURSES_ONLY)
    outcome = run(region, account, planner, batch_size=1_000, most_rows=2_000)
    assert Counter(outcome.kept) == wanted_rows(region, account)
    assert outcome.calls <= 3 + 2 + 30


def test_a_wrong_guess_is_revised_in_the_run() -> None:
    """Courses picked here looked cheap; the account holds a hundred times the learners."""
    learners = many("l", 40_000)
    region = make_rectangle(learners[:2_000], many("c", 2_000))
    account = Account(
        lambda learner: [f"c{int(learner[1:]) % 2_000:06}"], learners, id_s=0.001, call_s=0.1
    )
    planner = Planner(region, Bounds(workers=2, batch_size=100))
    outcome = run(region, account, planner, batch_size=100)
    assert Counter(outcome.kept) == wanted_rows(region, account)
    assert planner.shape is Shape.LEARNERS_ONLY
    assert "times as fast" in planner.choice.reason
    assert planner.revisions == 1


@pytest.mark.parametrize(
    ("largest", "shape"), [(3_000, Shape.LEARNERS), (90_000, Shape.COURSES_ONLY)]
)
def test_far_larger_answers_with_surplus_are_not_changed_to_before_any_was_nearly_so_large(
    largest: int, shape: Shape
) -> None:
    """Calls of one size that stood in a queue make rows look free."""
    learners, courses = many("l", 100_000), many("c", 300)
    region = make_rectangle(learners, courses)
    planner = Planner(region, Bounds(workers=64))
    planner.begin([region], Frontier(batch_size=300))
    course = region.replace(Axis.COURSES, tuple(courses[:1])).leaving_out(Axis.LEARNERS)
    for at in range(0, 30_000, 300):
        batch = region.replace(Axis.LEARNERS, tuple(learners[at : at + 300]))
        rows = largest if not at else 2_900 + at % 700
        planner.note(batch, received=rows, kept=rows, body_bytes=400 * rows, seconds=2.5)
        if not at:
            planner.note(course, received=900, kept=600, body_bytes=360_000, seconds=2.5)
    assert planner.shape is shape
    found = {each.shape: each for each in planner.estimates()}
    # Whoever was asked for before comes again.
    assert found[Shape.COURSES_ONLY].surplus > 0.2 * found[Shape.COURSES_ONLY].rows


def test_sparse_pairs_take_few_calls_and_little_surplus() -> None:
    draw = random.Random(7)
    learners, courses = many("l", 20_000), many("c", 300)
    of = {learner: draw.sample(courses, 10) for learner in learners}
    account = Account(lambda learner: of[learner], learners)
    region = make_pair_set((learner, of[learner][0]) for learner in learners[::4])
    planner = Planner(region, Bounds(batch_size=100))
    outcome = run(region, account, planner)
    assert Counter(outcome.kept) == wanted_rows(region, account)
    assert len(outcome.kept) == 5_000
    assert outcome.calls <= 80
    assert outcome.received < 12 * 5_000


def test_the_same_calls_give_the_same_plan() -> None:
    draw = random.Random(8)
    region = make_rectangle(many("l", 3_000), many("c", 400))
    of = {learner: draw.sample(region.courses or (), 3) for learner in region.learners or ()}
    plans = []
    for _ in range(2):
        account = Account(lambda learner: of[learner], many("l", 3_000))
        planner = Planner(region, Bounds(workers=2))
        outcome = run(region, account, planner, most_ids=50)
        plans.append((outcome.finished, planner.choice, planner.estimates()))
    assert plans[0] == plans[1]


@pytest.mark.parametrize("kept_learners", [1, 300, 1_999])
@pytest.mark.parametrize("kept_courses", [None, 2])
def test_what_an_earlier_run_kept_is_not_asked_for_again(
    kept_learners: int, kept_courses: int | None
) -> None:
    learners, courses = many("l", 2_000), many("c", 3)
    region = make_rectangle(learners, courses)
    learners_done, courses_done = learners[:kept_learners], courses[:kept_courses]
    done = (make_rectangle(learners_done, courses_done),)
    account = Account(lambda learner: courses[: int(learner[1:]) % 4], learners)
    planner = Planner(region)
    frontier = Frontier(batch_size=100)
    planner.begin(rest_of(region, done), frontier)
    while (batch := frontier.take()) is not None:
        asked, seconds = account.answer(batch)
        kept = [row for row in asked if row[0] in learners_done and row[1] in courses_done]
        assert kept == []
        planner.note(batch, received=len(asked), kept=len(asked), body_bytes=0, seconds=seconds)
