"""What of a region is finished: the question whether a pair was asked for, for many pairs at once.

Rectangles that share their lists, as the batches of a run do, come down to one list of courses for
each kind of learner, however many rectangles there are. A database can join that.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from bulkfetch.plan.rectangle import Rectangle, Side


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


def cover(region: Rectangle, finished: Iterable[Rectangle]) -> Coverage:
    """Return which pairs of `region` lie in a finished rectangle.

    `finished` may overlap each other and reach beyond the region; what does is not covered. The
    cost is proportional to the ids in `finished`, not to the pairs.
    """
    sides_of: dict[str, set[Side]] = {}
    everywhere: set[Side] = set()
    for rectangle in finished:
        if rectangle.learners is None:
            everywhere.add(rectangle.courses)
        else:
            for learner in rectangle.learners:
                sides_of.setdefault(learner, set()).add(rectangle.courses)
    numbers: dict[Side, int] = {}
    seen: dict[frozenset[Side], int | None] = {}

    def number_of(sides: frozenset[Side]) -> int | None:
        if sides not in seen:
            courses = _within(region.courses, sides)
            seen[sides] = None if courses == () else numbers.setdefault(courses, len(numbers))
        return seen[sides]

    learners = {}
    for learner in sides_of if region.learners is None else region.learners:
        number = number_of(frozenset(sides_of.get(learner, set()) | everywhere))
        if number is not None:
            learners[learner] = number
    others = number_of(frozenset(everywhere)) if region.learners is None else None
    return Coverage(tuple(numbers), learners, others)


def _within(region: Side, sides: frozenset[Side]) -> Side:
    """Return the courses of the region that are in one of the sides; () for none."""
    if None in sides:
        return region
    courses = {course for side in sides if side is not None for course in side}
    return tuple(sorted(courses if region is None else courses.intersection(region)))
