"""Rectangles of learners × courses, and the algebra that everything else is made of.

A call asks for a rectangle; a plan is an exact cover of the region that was asked for. Shrinking a
batch, bisecting to an id at fault and resuming an export are split and subtract.

A side is a sorted tuple of ids, or None: no filter, one unit that cannot be split. Sides are
shared by reference, so that a thousand rectangles over one course list hold that list once.

A call may leave a side unsent although only some of its ids are wanted: the service then answers
more than the rectangle, and what lies outside is dropped on this side. The rectangle is what is
wanted all the same, so that plans stay exact covers whatever their calls name.
"""

import itertools
import math
from array import array
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import Enum
from itertools import chain, groupby

from bulkfetch.plan.marks import find, find_stretch

Side = tuple[str, ...] | None


class Axis(Enum):
    """The two directions of a region."""

    LEARNERS = "learners"
    COURSES = "courses"

    __hash__ = object.__hash__  # in C: sides are looked up by axis in every step

    @property
    def other(self) -> "Axis":
        """The other direction."""
        return Axis.COURSES if self is Axis.LEARNERS else Axis.LEARNERS


NOTHING_UNSENT: frozenset[Axis] = frozenset()


class CannotSplitError(ValueError):
    """The rectangle is a single pair, or has no filter along the axis."""


@dataclass(frozen=True, slots=True)
class Rectangle:
    """All pairs of `learners` × `courses`. Sides are sorted and unique, and never empty.

    Attributes:
        learners, courses: the ids wanted; None for no filter.
        unsent: the sides that a call does not name although they have ids.
    """

    learners: Side
    courses: Side
    unsent: frozenset[Axis] = NOTHING_UNSENT

    def __hash__(self) -> int:
        # Cheap on purpose: a side may have a million ids, and rectangles are keys.
        return hash((_mark(self.learners), _mark(self.courses), self.unsent))

    def side(self, axis: Axis) -> Side:
        """Return the ids wanted along an axis, or None for no filter."""
        return self.learners if axis is Axis.LEARNERS else self.courses

    def named(self, axis: Axis) -> Side:
        """Return the ids that a call names along an axis, or None where it names none."""
        if self.unsent and axis in self.unsent:
            return None
        return self.learners if axis is Axis.LEARNERS else self.courses

    def replace(self, axis: Axis, ids: Side) -> "Rectangle":
        """Return this rectangle with other ids along one axis."""
        if axis is Axis.LEARNERS:
            return Rectangle(ids, self.courses, self.unsent)
        return Rectangle(self.learners, ids, self.unsent)

    def leaving_out(self, *axes: Axis) -> "Rectangle":
        """Return the same pairs, asked for without naming these sides, and naming the others."""
        unsent = frozenset(axis for axis in axes if self.side(axis) is not None)
        return Rectangle(self.learners, self.courses, unsent)

    def width(self, axis: Axis) -> int:
        """Return how many units stand along an axis: ids, or 1 where there is no filter."""
        side = self.side(axis)
        return 1 if side is None else len(side)

    @property
    def pairs(self) -> int:
        """The number of pairs, an unfiltered side counting as one unit."""
        return self.width(Axis.LEARNERS) * self.width(Axis.COURSES)

    @property
    def is_indivisible(self) -> bool:
        """Whether a call names at most one id of each side."""
        learners, courses = self.named(Axis.LEARNERS), self.named(Axis.COURSES)
        return len(learners or ()) <= 1 and len(courses or ()) <= 1

    def longer_axis(self) -> Axis:
        """Return the axis along which a call names more; learners where they are equal."""
        learners, courses = (len(self.named(axis) or ("",)) for axis in Axis)
        return Axis.COURSES if courses > learners else Axis.LEARNERS


def make_rectangle(
    learner_ids: Iterable[str] | None, course_ids: Iterable[str] | None
) -> Rectangle:
    """Build a rectangle from ids in any order, with or without duplicates.

    Raises:
        ValueError: a given side has no ids.
    """
    sides: list[Side] = []
    for ids in (learner_ids, course_ids):
        # Sorted before repeated ids go: of a million ids, a set takes eight times the room.
        side = None if ids is None else tuple(unit for unit, _ in groupby(sorted(ids)))
        if side == ():
            raise ValueError("A side of a rectangle has no ids.")
        sides.append(side)
    return Rectangle(sides[0], sides[1])


def rectangle_along(axis: Axis, ids: Side, others: Side) -> Rectangle:
    """Return the rectangle with these ids along an axis, and others along the other one."""
    return Rectangle(None, None).replace(axis, ids).replace(axis.other, others)


def split(rectangle: Rectangle, axis: Axis | None = None) -> tuple[Rectangle, Rectangle]:
    """Split a rectangle in two along `axis`, or its longer side.

    Returns:
        Two rectangles that cover this one exactly and share no pair; along the axis they differ by
        at most one id. Bisection and shrinking after "too large" both rest on this.

    Raises:
        CannotSplitError: there are not two ids along the axis, or calls do not name them.
    """
    axis = axis or rectangle.longer_axis()
    side = _ids_to_split(rectangle, axis)
    middle = (len(side) + 1) // 2
    return rectangle.replace(axis, side[:middle]), rectangle.replace(axis, side[middle:])


def split_evenly(rectangle: Rectangle, axis: Axis, most: int) -> list[Rectangle]:
    """Split a rectangle along `axis` in as few parts as have at most `most` ids each; 0 is in two.

    Returns:
        Parts that cover this one exactly and share no pair; they differ by at most one id.

    Raises:
        CannotSplitError: there are not two ids along the axis, or calls do not name them.
    """
    side = _ids_to_split(rectangle, axis)
    parts = max(2, math.ceil(len(side) / most)) if most else 2
    bounds = [len(side) * part // parts for part in range(parts + 1)]
    return [rectangle.replace(axis, side[low:high]) for low, high in itertools.pairwise(bounds)]


def _ids_to_split(rectangle: Rectangle, axis: Axis) -> tuple[str, ...]:
    side = rectangle.named(axis)
    if side is None or len(side) < 2:  # noqa: PLR2004 - what splitting needs
        raise CannotSplitError(f"There are not two {axis.value} to split.")
    return side


def subtract(region: Rectangle, done: Iterable[Rectangle]) -> list[Rectangle]:
    """Return disjoint rectangles that cover exactly the pairs of `region` that `done` do not.

    See `subtract_from`.
    """
    return subtract_from([region], done)


def subtract_from(regions: Sequence[Rectangle], done: Iterable[Rectangle]) -> list[Rectangle]:
    """Return disjoint rectangles that cover exactly what `done` leave of `regions`.

    `done` may overlap each other and reach beyond the regions; a side without a filter covers every
    id. The regions share no learner. The cost is proportional to the distinct sides in `done`, not
    to the pairs: learners are grouped by what is still wanted of them. See `Covered` for memory.
    """
    covered = Covered(regions, done)
    rest = []
    for region in regions:
        for sides_done, learners in covered.groups_of(region):
            courses = _without(region.courses, sides_done)
            if courses != ():
                rest.append(Rectangle(learners, courses))
    return rest


class Covered:
    """The courses that are done, learner by learner, at four bytes a learner.

    Args:
        regions: they share no learner.
        done: may overlap each other and reach beyond the regions. Those over one list of learners
            are one entry, wherever they stand in a list; in a stream, if they follow one another,
            and no more of it is held than that.
    """

    def __init__(self, regions: Sequence[Rectangle], done: Iterable[Rectangle]) -> None:
        sides = [region.learners for region in regions if region.learners is not None]
        self._learners = sides[0] if len(sides) == 1 else tuple(sorted(chain.from_iterable(sides)))
        # Of each learner the number of a set of sides: what is done of it.
        self._numbers = array("I", bytes(4 * len(self._learners)))
        self._sets: list[frozenset[Side]] = [frozenset()]
        self._number_of = {self._sets[0]: 0}
        self._unions: dict[tuple[int, frozenset[Side]], int] = {}
        everywhere: set[Side] = set()
        if isinstance(done, Sequence):
            done = sorted(done, key=lambda rectangle: id(rectangle.learners))
        for learners, courses in _by_learners(done):
            if learners is None or learners == self._learners:
                everywhere |= courses
            else:
                self._add(learners, courses)
        self._everywhere = frozenset(everywhere)

    def groups_of(self, region: Rectangle) -> list[tuple[frozenset[Side], Side]]:
        """Return the sides of courses that are done of a region, and of which of its learners."""
        learners = region.learners
        if learners is None:
            return [(self._everywhere, None)]
        numbers: Iterable[int] = self._numbers
        if learners is not self._learners:
            numbers = (self._numbers[bisect_left(self._learners, unit)] for unit in learners)
        groups: dict[frozenset[Side], list[str]] = {}
        group_of: dict[int, list[str]] = {}
        for learner, number in zip(learners, numbers, strict=True):
            if number not in group_of:
                sides = self._everywhere | self._sets[number]
                group_of[number] = groups.setdefault(sides, [])
            group_of[number].append(learner)
        return [
            (sides, learners if len(members) == len(learners) else tuple(members))
            for sides, members in groups.items()
        ]

    def _add(self, learners: tuple[str, ...], courses: frozenset[Side]) -> None:
        start, numbers = find_stretch(self._learners, learners), self._numbers
        if start is None:
            for learner in learners:
                place = find(self._learners, learner)
                if place is not None:
                    numbers[place] = self._union(numbers[place], courses)
            return
        end = start + len(learners)
        stretch = numbers[start:end]
        if stretch.count(stretch[0]) == len(stretch):
            numbers[start:end] = array("I", [self._union(stretch[0], courses)]) * len(stretch)
        else:
            numbers[start:end] = array("I", [self._union(number, courses) for number in stretch])

    def _union(self, number: int, courses: frozenset[Side]) -> int:
        """Return the number of a set with more sides."""
        found = self._unions.get((number, courses))
        if found is None:
            sides = self._sets[number] | courses
            found = self._number_of.setdefault(sides, len(self._sets))
            if found == len(self._sets):
                self._sets.append(sides)
            self._unions[number, courses] = found
        return found


def _by_learners(done: Iterable[Rectangle]) -> Iterator[tuple[Side, frozenset[Side]]]:
    """Yield a list of learners once for all rectangles over it that follow one another."""
    learners: Side = None
    courses: set[Side] = set()
    for rectangle in done:
        if rectangle.learners is not learners and courses:
            yield learners, frozenset(courses)
            courses = set()
        learners = rectangle.learners
        courses.add(rectangle.courses)
    if courses:
        yield learners, frozenset(courses)


def _without(side: Side, covered: frozenset[Side]) -> Side:
    """Return the units of `side` in none of `covered`; () where nothing is left."""
    if None in covered:
        return ()
    if side is None:
        return None
    gone = {unit for ids in covered if ids is not None for unit in ids}
    return side if not gone else tuple(unit for unit in side if unit not in gone)


def _mark(side: Side) -> tuple[int, str, str] | None:
    return None if side is None else (len(side), side[0], side[-1])
