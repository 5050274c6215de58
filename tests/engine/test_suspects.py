"""Bisection against a service that rejects whole calls and does not say why."""

import itertools
import math
import tracemalloc
from collections import Counter, deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bulkfetch.engine.suspects import Ask, Culprit, Doubt, Step, Suspects
from bulkfetch.plan.frontier import Frontier
from bulkfetch.plan.rectangle import Axis, Rectangle, make_rectangle

Pair = tuple[str, str]


@dataclass
class Search:
    """What a run of calls came to."""

    calls: int = 0
    answered: list[Rectangle] = field(default_factory=list)
    named: set[Pair] = field(default_factory=set)
    culprits: list[Culprit] = field(default_factory=list)

    @property
    def fetched(self) -> Counter[Pair]:
        return Counter(pair for rectangle in self.answered for pair in pairs(rectangle))


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
    suspects = Suspects([region])
    found = Search()
    calls: list[Rectangle] = []
    while True:
        while len(calls) < in_flight and not (
            not frontier.has_pieces and is_held_back(frontier, suspects)
        ):
            batch = frontier.take()
            if batch is None:
                break
            calls.append(batch)
        if not calls:
            assert frontier.is_empty
            assert suspects.withheld() == []
            return found
        batch = calls.pop(random.randrange(len(calls)) if random else 0)
        found.calls += 1
        assert found.calls < 100_000, "the search does not end"
        if not is_rejected(batch):
            found.answered.append(batch)
            steps = suspects.clear(batch)
        elif frontier.excludes_some_of(batch):
            frontier.give_back(batch)
            steps = suspects.let_go(batch)
        else:
            steps = suspects.reject(batch)
        for step in settled(suspects, steps, is_rejected, found):
            if isinstance(step, Ask):
                frontier.give_back(step.rectangle)
                continue
            found.culprits.append(step)
            blamed = step.rectangle
            if step.axis is not None:
                ids = blamed.side(step.axis)
                assert ids is not None
                assert len(ids) == 1
                frontier.exclude(step.axis, ids)
                blamed = region.replace(step.axis, ids)
            found.named.update(pairs(blamed))


def settled(
    suspects: Suspects, steps: list[Step], is_rejected: Callable[[Rectangle], bool], found: Search
) -> Iterator[Ask | Culprit]:
    """Ask witnesses where there are doubts; their rows do not count."""
    waiting = deque(steps)
    while waiting:
        step = waiting.popleft()
        if not isinstance(step, Doubt):
            yield step
            continue
        trial = suspects.try_doubt(step)
        answer: bool | None = None
        try:
            while True:
                question = trial.send(answer)
                found.calls += 1
                answer = is_rejected(question)
                if not answer:
                    waiting.extend(suspects.clear(question))
        except StopIteration as settled:
            waiting.extend(settled.value)


def is_held_back(frontier: Frontier, suspects: Suspects) -> bool:
    whole = frontier.next_whole
    return whole is not None and suspects.holds_back(whole)


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


thoroughly = settings(max_examples=150, deadline=None)


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


@pytest.mark.parametrize("course", ["c0", None])
def test_four_bad_learners_of_five_do_not_make_the_only_course_bad(course: str | None) -> None:
    ids = names("l", 5)
    region = make_rectangle(ids, ["c0"] if course else None)
    found = search(region, lambda batch: not set(ids[:4]).isdisjoint(batch.learners or ()))
    assert {learner for learner, _ in found.named} == set(ids[:4])
    assert [learner for learner, _ in found.fetched] == ids[4:]


def search_for(region: Rectangle, axis: Axis, bad: str) -> Search:
    return search(region, lambda batch: bad in (batch.named(axis) or ()))


@pytest.mark.parametrize("ids", [*range(2, 40), 63, 64, 65, 90, 91, 128, 129, 181, 500])
@pytest.mark.parametrize("axis", Axis)
def test_one_id_on_one_side_costs_two_calls_for_each_halving_at_most(axis: Axis, ids: int) -> None:
    units = names("u", ids)
    region = Rectangle(None, None).replace(axis, tuple(units))
    for bad in units if ids < 130 else Random(1).sample(units, 60):
        found = search_for(region, axis, bad)
        assert found.calls - 1 <= 2 * math.log2(ids)
        assert [culprit.axis for culprit in found.culprits] == [axis]
        assert {unit for pair in found.named for unit in pair if unit} == {bad}


@thoroughly
@given(st.integers(2, 3_000), st.integers(1, 40), st.integers(1, 5), st.randoms())
def test_each_of_several_ids_costs_no_more(
    ids: int, most: int, in_flight: int, random: Random
) -> None:
    units = names("u", ids)
    bad = set(random.sample(units, min(ids, most)))
    region = make_rectangle(units, None)
    found = search(
        region,
        lambda batch: not bad.isdisjoint(batch.learners or ()),
        in_flight=in_flight,
        random=random,
    )
    assert {unit for unit, _ in found.named} == bad
    assert len(found.fetched) == ids - len(bad)
    assert found.calls - 1 <= len(bad) * 2 * math.log2(ids)


SIZES = [(n, m) for n in (2, 3, 5, 8, 16, 33, 100) for m in (2, 3, 5, 8, 33)]


@pytest.mark.parametrize(("learners", "courses"), [*SIZES, (1_000, 300)])
def test_with_two_sides_a_learner_costs_two_calls_more(learners: int, courses: int) -> None:
    ids = names("l", learners)
    region = make_rectangle(ids, names("c", courses))
    for bad in ids[::7]:
        found = search_for(region, Axis.LEARNERS, bad)
        assert found.calls - 1 <= 2 * math.log2(learners) + 2
        assert [culprit.axis for culprit in found.culprits] == [Axis.LEARNERS]
        assert {unit for unit, _ in found.named} == {bad}


@pytest.mark.parametrize(("learners", "courses"), [*SIZES, (1_000, 300)])
def test_with_two_sides_a_course_costs_five_calls_more(learners: int, courses: int) -> None:
    ids = names("c", courses)
    region = make_rectangle(names("l", learners), ids)
    for bad in ids[::7]:
        found = search_for(region, Axis.COURSES, bad)
        assert found.calls - 1 <= 2 * math.log2(courses) + (5 if learners > 2 else 6)
        assert {unit for _, unit in found.named} == {bad}
        if learners > 2:
            assert [culprit.axis for culprit in found.culprits] == [Axis.COURSES]


@pytest.mark.parametrize(("learners", "courses"), SIZES)
def test_with_two_sides_a_pair_costs_two_calls_for_each_halving(
    learners: int, courses: int
) -> None:
    region = make_rectangle(names("l", learners), names("c", courses))
    for bad in pairs(region)[::11]:
        found = search(region, lambda batch, bad=bad: bad in pairs(batch))  # type: ignore[misc]
        assert found.calls - 1 <= 2 * math.log2(learners) + 2 * math.log2(courses)
        assert [culprit.axis for culprit in found.culprits] == [None]
        assert found.named == {bad}


@pytest.mark.parametrize("courses", [8, 33, 1_000])
def test_a_learner_alone_is_not_searched_pair_by_pair(courses: int) -> None:
    region = make_rectangle(["bad"], names("c", courses))
    found = search_for(region, Axis.LEARNERS, "bad")
    assert found.calls <= (3 + 8 if courses > 8 else 2 * 8)
    assert [culprit.axis for culprit in found.culprits] == [Axis.LEARNERS]


@pytest.mark.parametrize("in_flight", [1, 2, 10])
def test_a_course_that_spoils_every_batch_is_searched_for_once(in_flight: int) -> None:
    """The batches that are rejected meanwhile are parked, and no others are asked for."""
    region = make_rectangle(names("l", 4_000), names("c", 100))
    sound = search(region, lambda _: False, batch_size=100)
    found = search(
        region, lambda batch: "c0041" in (batch.courses or ()), batch_size=100, in_flight=in_flight
    )
    assert [culprit.axis for culprit in found.culprits] == [Axis.COURSES]
    assert found.calls - sound.calls <= 2 * math.log2(100) + 5 + in_flight


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
    assert Suspects([]).reject(whole) == [Culprit(whole, None)]


def test_ids_that_once_were_clear_are_searched_to_the_pair() -> None:
    suspects = Suspects([])
    region = make_rectangle("ab", "12")
    suspects.clear(region)
    open_, seen = [region], []
    while open_:
        for step in suspects.reject(open_.pop()):
            if isinstance(step, Ask):
                open_.append(step.rectangle)
            else:
                assert isinstance(step, Culprit)
                assert step.axis is None
                seen.append(step.rectangle)
    assert suspects.withheld() == []
    assert len(seen) == 4
    assert {rectangle.pairs for rectangle in seen} == {1}


def test_what_waits_is_asked_for_when_the_first_part_is_given_up() -> None:
    suspects = Suspects([])
    region = make_rectangle("abcd", None)
    (step,) = suspects.reject(region)
    assert isinstance(step, Ask)
    (rest,) = suspects.withheld()
    assert {*pairs(step.rectangle), *pairs(rest)} == set(pairs(region))
    assert suspects.let_go(step.rectangle) == [Ask(rest)]
    assert suspects.withheld() == []


@thoroughly
@given(
    st.integers(1, 14), st.integers(1, 11), st.integers(1, 15), st.integers(1, 6),
    st.sampled_from([0.1, 0.3, 0.6]), st.randoms(use_true_random=True),
)  # fmt: skip
def test_where_rejections_come_and_go_nothing_is_lost(
    learners: int, courses: int, batch_size: int, in_flight: int, share: float, random: Random
) -> None:
    region = make_rectangle(names("l", learners), names("c", courses))
    found = search(
        region,
        lambda _: random.random() < share,
        batch_size=batch_size,
        in_flight=in_flight,
        random=random,
    )
    assert set(found.fetched.values()) <= {1}
    assert found.fetched.keys() | found.named == set(pairs(region))


@pytest.mark.parametrize("in_flight", [1, 4, 10])
@pytest.mark.parametrize("step", [1, 2, 3])
@pytest.mark.parametrize("courses", [1, 2, 5, 40])
def test_bad_learners_that_stand_side_by_side_are_not_taken_for_bad_courses(
    courses: int, step: int, in_flight: int
) -> None:
    """The first batches are rejected whatever course they name."""
    ids = names("l", 1_200)
    region = make_rectangle(ids, names("c", courses))
    bad = set(ids[0:400:step])
    found = search(
        region,
        lambda batch: not bad.isdisjoint(batch.learners or ()),
        batch_size=100,
        in_flight=in_flight,
    )
    assert {unit for unit, _ in found.named} == bad
    assert len(found.fetched) == (1_200 - len(bad)) * courses
    assert found.calls < 12 + 2 * math.log2(100) * len(bad) + 30


@pytest.mark.parametrize("in_flight", [1, 4])
def test_every_second_id_of_either_side_may_be_bad(in_flight: int) -> None:
    learners, courses = names("l", 300), names("c", 20)
    for axis, bad in (
        (Axis.LEARNERS, set(learners[::2])),
        (Axis.LEARNERS, set(learners[1::2])),
        (Axis.COURSES, set(courses[::2])),
        (Axis.COURSES, set(courses[:15])),
    ):
        found = search(
            make_rectangle(learners, courses),
            lambda batch, axis=axis, bad=bad: not bad.isdisjoint(batch.named(axis) or ()),  # type: ignore[misc]
            batch_size=50,
            in_flight=in_flight,
        )
        assert {culprit.axis for culprit in found.culprits} == {axis}
        named = {unit for culprit in found.culprits for unit in culprit.rectangle.side(axis) or ()}
        assert named == bad


def test_bad_learners_side_by_side_and_a_bad_course() -> None:
    learners = names("l", 1_000)
    bad = set(learners[:300])
    found = search(
        make_rectangle(learners, names("c", 10)),
        lambda batch: "c0007" in (batch.courses or ()) or not bad.isdisjoint(batch.learners or ()),
        batch_size=100,
        in_flight=4,
    )
    assert len(found.fetched) == 700 * 9
    assert sum(culprit.axis is Axis.COURSES for culprit in found.culprits) == 1


@pytest.mark.parametrize("batch_size", [1, 2, 3, 7])
@pytest.mark.parametrize("in_flight", [1, 4])
def test_a_bad_course_is_named_once_though_batches_are_small(
    batch_size: int, in_flight: int
) -> None:
    """Smaller than the list of courses: a learner alone cannot tell a course from a pair."""
    region = make_rectangle(names("l", 90), names("c", 20))
    found = search(
        region,
        lambda batch: "c0011" in (batch.courses or ()),
        batch_size=batch_size,
        in_flight=in_flight,
    )
    assert [culprit.axis for culprit in found.culprits] == [Axis.COURSES]
    assert len(found.fetched) == 90 * 19
    assert found.calls <= 90 / batch_size + 1 + 2 * math.log2(20) + 6 + in_flight


def test_a_region_that_is_all_bad_is_named_with_few_questions_to_others() -> None:
    found = search(make_rectangle(names("l", 200), names("c", 6)), lambda _: True, batch_size=50)
    assert len(found.named) == 1_200
    assert found.calls < 200


def test_what_is_known_of_a_long_list_takes_a_byte_an_id() -> None:
    learners = tuple(f"learner-{number:06}" for number in range(200_000))
    region = Rectangle(learners, None)
    batches = [
        region.replace(Axis.LEARNERS, learners[start : start + 100])
        for start in range(0, len(learners), 100)
    ]
    tracemalloc.start()
    suspects = Suspects([region])
    for batch in batches:
        suspects.clear(batch)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 2 * len(learners)
