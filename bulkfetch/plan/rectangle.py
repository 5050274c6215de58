"""Rectangles of learners × courses, and the algebra that everything else is made of.

A call asks for a rectangle; a plan is an exact cover of the region that was asked for. Shrinking a
batch, bisecting to an id at fault and resuming an export are split and subtract.

A side is a sorted tuple of ids, or None: no filter, one unit that cannot be split. Sides are
shared by reference, so that a thousand rectangles over one course list hold that list once.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import Enum

Side = tuple[str, ...] | None


class Axis(Enum):
    """The two directions of a region."""

    LEARNERS = "learners"
    COURSES = "courses"


class CannotSplitError(ValueError):
    """The rectangle is a single pair, or has no filter along the axis."""


@dataclass(frozen=True, slots=True)
class Rectangle:
    """All pairs of `learners` × `courses`. Sides are sorted and unique, and never empty."""

    learners: Side
    courses: Side

    def side(self, axis: Axis) -> Side:
        """Return the ids along an axis, or None for no filter."""
        return self.learners if axis is Axis.LEARNERS else self.courses

    def replace(self, axis: Axis, ids: Side) -> "Rectangle":
        """Return this rectangle with other ids along one axis."""
        if axis is Axis.LEARNERS:
            return Rectangle(ids, self.courses)
        return Rectangle(self.learners, ids)

    def width(self, axis: Axis) -> int:
        """Return how many units stand along an axis: ids, or 1 where there is no filter."""
        side = self.side(axis)
        return 1 if side is None else len(side)

    @property
    def pairs(self) -> int:
        """The number of pairs, an unfiltered side counting as one unit."""
        return self.width(Axis.LEARNERS) * self.width(Axis.COURSES)

    def longer_axis(self) -> Axis:
        """Return the axis with more units; learners where they are equal."""
        if self.width(Axis.COURSES) > self.width(Axis.LEARNERS):
            return Axis.COURSES
        return Axis.LEARNERS


def make_rectangle(
    learner_ids: Iterable[str] | None, course_ids: Iterable[str] | None
) -> Rectangle:
    """Build a rectangle from ids in any order, with or without duplicates.

    Raises:
        ValueError: a given side has no ids.
    """
    sides: list[Side] = []
    for ids in (learner_ids, course_ids):
        side = None if ids is None else tuple(sorted(set(ids)))
        if side == ():
            raise ValueError("A side of a rectangle has no ids.")
        sides.append(side)
    return Rectangle(sides[0], sides[1])


def split(rectangle: Rectangle, axis: Axis | None = None) -> tuple[Rectangle, Rectangle]:
    """Split a rectangle in two along `axis`, or its longer side.

    Returns:
        Two rectangles that cover this one exactly and share no pair; along the axis they differ by
        at most one id. Bisection and shrinking after "too large" both rest on this.

    Raises:
        CannotSplitError: there are not two ids along the axis.
    """
    axis = axis or rectangle.longer_axis()
    side = rectangle.side(axis)
    if side is None or len(side) < 2:  # noqa: PLR2004 - what splitting needs
        raise CannotSplitError(f"There are not two {axis.value} to split.")
    middle = (len(side) + 1) // 2
    return rectangle.replace(axis, side[:middle]), rectangle.replace(axis, side[middle:])


def subtract(region: Rectangle, done: Iterable[Rectangle]) -> list[Rectangle]:
    """Return disjoint rectangles that cover exactly the pairs of `region` that `done` do not.

    `done` may overlap each other and reach beyond the region; a side without a filter covers every
    id. The cost is proportional to the ids in `done`, not to the pairs: learners are grouped by
    what is still wanted of them.
    """
    covered: dict[str | None, set[Side]] = {}
    everywhere: set[Side] = set()
    for rectangle in done:
        if rectangle.learners is None:
            everywhere.add(rectangle.courses)
        else:
            for learner in rectangle.learners:
                covered.setdefault(learner, set()).add(rectangle.courses)
    units: Sequence[str | None] = (None,) if region.learners is None else region.learners
    groups: dict[frozenset[Side], list[str | None]] = {}
    for unit in units:
        groups.setdefault(frozenset(covered.get(unit, set()) | everywhere), []).append(unit)
    rest = []
    for sides, members in groups.items():
        courses = _without(region.courses, sides)
        if courses == ():
            continue
        learners = None if region.learners is None else tuple(str(member) for member in members)
        rest.append(Rectangle(learners, courses))
    return rest


def _without(side: Side, covered: frozenset[Side]) -> Side:
    """Return the units of `side` in none of `covered`; () where nothing is left."""
    if None in covered:
        return ()
    if side is None:
        return None
    gone = {unit for ids in covered if ids is not None for unit in ids}
    return side if not gone else tuple(unit for unit in side if unit not in gone)
