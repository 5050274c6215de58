"""The region that is asked for: a rectangle of two id lists, or pairs listed one by one.

Calls ask for rectangles and may answer more than is wanted: a side that is left unsent, or the
rectangle around some listed pairs. What of an answer is wanted is decided here.
"""

from collections.abc import Iterable, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass

from bulkfetch.plan.rectangle import Axis, Rectangle, Side, subtract, subtract_from

_SETS_KEPT = 4
_BETWEEN = "\x1f"


class PairSet:
    """Pairs of a learner and a course, grouped: the learners with the same courses are a rectangle.

    Args:
        rectangles: disjoint, without a learner in two of them; both sides have ids.

    Raises:
        ValueError: a learner is in two of them, or there are none.
    """

    def __init__(self, rectangles: Iterable[Rectangle]) -> None:
        self.rectangles = tuple(sorted(rectangles, key=lambda each: each.learners or ()))
        self._courses_of: dict[str, frozenset[str]] = {}
        courses: set[str] = set()
        for rectangle in self.rectangles:
            assert rectangle.learners is not None
            assert rectangle.courses is not None
            shared = frozenset(rectangle.courses)
            courses |= shared
            self._courses_of.update(dict.fromkeys(rectangle.learners, shared))
        if len(self._courses_of) != sum(map(_count_learners, self.rectangles)) or not courses:
            raise ValueError("There are no pairs, or a learner is in two rectangles of them.")
        self.learners: tuple[str, ...] = tuple(sorted(self._courses_of))
        self.courses: tuple[str, ...] = tuple(sorted(courses))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, PairSet) and self.rectangles == other.rectangles

    def __hash__(self) -> int:
        return hash(self.rectangles)

    def __repr__(self) -> str:
        return (
            f"<PairSet of {self.pairs} pairs: {len(self.learners)} learners,"
            f" {len(self.courses)} courses>"
        )

    def side(self, axis: Axis) -> Side:
        """Return all ids that occur along an axis."""
        return self.learners if axis is Axis.LEARNERS else self.courses

    def width(self, axis: Axis) -> int:
        """Return how many ids occur along an axis."""
        return len(self.learners if axis is Axis.LEARNERS else self.courses)

    @property
    def pairs(self) -> int:
        """How many pairs there are."""
        return sum(rectangle.pairs for rectangle in self.rectangles)

    def courses_of(self, learner_id: str) -> AbstractSet[str]:
        """Return the courses that a learner is paired with."""
        return self._courses_of.get(learner_id, frozenset())

    def __contains__(self, pair: tuple[str, str]) -> bool:
        return pair[1] in self._courses_of.get(pair[0], ())


Region = Rectangle | PairSet


def list_pairs(region: PairSet) -> tuple[str, ...]:
    """List the pairs as text, sorted: a learner, U+001F (which no id holds), a course."""
    return tuple(
        sorted(
            f"{learner}{_BETWEEN}{course}"
            for rectangle in region.rectangles
            for learner in rectangle.learners or ()
            for course in rectangle.courses or ()
        )
    )


def read_pairs(listed: Iterable[str]) -> PairSet:
    """Make a pair set of what `list_pairs` listed.

    Raises:
        ValueError: this is something else.
    """
    return make_pair_set((learner, course) for learner, course in map(_parted, listed))


def make_pair_set(pairs: Iterable[tuple[str, str]]) -> PairSet:
    """Group pairs of a learner id and a course id, in any order, with or without repetitions.

    Raises:
        ValueError: there are none.
    """
    courses_of: dict[str, set[str]] = {}
    for learner, course in pairs:
        courses_of.setdefault(learner, set()).add(course)
    return group_pairs(courses_of)


def group_pairs(courses_of: Mapping[str, AbstractSet[str]]) -> PairSet:
    """Make a pair set of the courses of each learner.

    Raises:
        ValueError: there are none.
    """
    groups: dict[frozenset[str], list[str]] = {}
    for learner in sorted(courses_of):
        groups.setdefault(frozenset(courses_of[learner]), []).append(learner)
    return PairSet(
        Rectangle(tuple(learners), tuple(sorted(courses))) for courses, learners in groups.items()
    )


def rest_of(region: Region, done: Iterable[Rectangle]) -> list[Rectangle]:
    """Return disjoint rectangles that cover exactly what of a region is not done."""
    if isinstance(region, PairSet):
        return subtract_from(region.rectangles, done)
    return subtract(region, done)


def count_wanted(region: Region, rectangle: Rectangle) -> int:
    """Return how many pairs of a rectangle within the region are wanted."""
    if not isinstance(region, PairSet):
        return rectangle.pairs
    courses = frozenset(rectangle.courses or region.courses)
    return sum(
        len(region.courses_of(learner) & courses)
        for learner in rectangle.learners or region.learners
    )


@dataclass(frozen=True, slots=True)
class Selection:
    """The rows that are wanted of one answer; a side of None lets every id pass."""

    learners: frozenset[str] | None
    courses: frozenset[str] | None
    pairs: PairSet | None

    def __call__(self, learner_id: str, course_id: str) -> bool:
        """Whether a row of this learner in this course is wanted."""
        return (
            (self.learners is None or learner_id in self.learners)
            and (self.courses is None or course_id in self.courses)
            and (self.pairs is None or (learner_id, course_id) in self.pairs)
        )

    def takes_all(self, learner_ids: AbstractSet[str], course_ids: AbstractSet[str]) -> bool:
        """Whether rows with only these ids are all wanted, as far as can be said at once."""
        return (
            self.pairs is None
            and (self.learners is None or self.learners >= learner_ids)
            and (self.courses is None or self.courses >= course_ids)
        )


class Selector:
    """Makes the selection for each rectangle asked for; ids of shared sides are kept as sets.

    Args:
        region: what is wanted.
    """

    def __init__(self, region: Region | None = None) -> None:
        self._pairs = region if isinstance(region, PairSet) else None
        self._sets: dict[int, tuple[tuple[str, ...], frozenset[str]]] = {}

    def select(self, rectangle: Rectangle) -> Selection | None:
        """Return what to keep of the answer to a rectangle; None where all of it is wanted."""
        if not rectangle.unsent and self._pairs is None:
            return None
        learners, courses = (
            self._as_set(rectangle.side(axis)) if axis in rectangle.unsent else None
            for axis in Axis
        )
        return Selection(learners, courses, self._pairs)

    def _as_set(self, side: Side) -> frozenset[str] | None:
        if side is None:
            return None
        if id(side) not in self._sets:
            while len(self._sets) >= _SETS_KEPT:
                self._sets.pop(next(iter(self._sets)))
            # The side is kept with its set, so that its identity stays its own.
            self._sets[id(side)] = (side, frozenset(side))
        return self._sets[id(side)][1]


def _parted(text: str) -> list[str]:
    return text.split(_BETWEEN)


def _count_learners(rectangle: Rectangle) -> int:
    return rectangle.width(Axis.LEARNERS)
