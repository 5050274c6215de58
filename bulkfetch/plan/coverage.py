"""What of a region is finished: the question whether a pair was asked for, for many pairs at once.

Rectangles that share their lists, as the batches of a run do, come down to one list of courses for
each kind of learner, however many rectangles there are. A database can join that.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from bulkfetch.plan.rectangle import Covered, Rectangle, Side
from bulkfetch.plan.region import PairSet, Region


@dataclass(frozen=True, slots=True)
class Coverage:
    """The pairs of a region that are finished.

    Attributes:
        course_sides: lists of courses, each once; None is every course.
        learners: for a learner, the number of the list that is finished for it.
        other_learners: the same for every learner that is not named; None for no list.
    """

    course_sides: tuple[Side, ...]
    learners: Mapping[str, int]
    other_learners: int | None


def cover(region: Region, finished: Iterable[Rectangle]) -> Coverage:
    """Return which pairs of `region` lie in a finished rectangle.

    `finished` may overlap each other and reach beyond the region; what does is not covered. In a
    region of every learner, only rectangles of every learner count. The cost is proportional to
    the ids in `finished`, not to the pairs.
    """
    parts = region.rectangles if isinstance(region, PairSet) else (region,)
    covered = Covered(parts, finished)
    numbers: dict[Side, int] = {}
    learners: dict[str, int] = {}
    others: int | None = None
    for part in parts:
        for sides, units in covered.groups_of(part):
            courses = _within(part.courses, sides)
            if courses == ():
                continue
            number = numbers.setdefault(courses, len(numbers))
            if units is None:
                others = number
            else:
                learners.update(dict.fromkeys(units, number))
    return Coverage(tuple(numbers), learners, others)


def _within(wanted: Side, sides: frozenset[Side]) -> Side:
    """Return the courses wanted that are in one of the sides; () for none."""
    if None in sides:
        return wanted
    courses = {course for side in sides if side is not None for course in side}
    return tuple(sorted(courses if wanted is None else courses.intersection(wanted)))
