"""What to ask for again, and in which other calls: what one call got wrong, another shall show.

A verification that asked as the export did would be cut off where the export was. So ids are
grouped anew at random, and where both lists are given, calls run along the other side: as many
pairs as before, of more learners and fewer courses. Without any list the calls name ids that the
rows hold: learners, and courses, which show rows of learners that nobody has seen yet.

Pure, but for the random that is handed in.
"""

from collections.abc import Iterable, Iterator, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from random import Random

from bulkfetch.plan.coverage import Coverage, cover
from bulkfetch.plan.rectangle import Axis, Rectangle, Side
from bulkfetch.plan.region import Region

_EMPTY_SHARE = 4  # one id in so many of a sample is one without rows, if there are as many
_LEARNERS_ACROSS = 1_000
_LEARNERS_OF_ROWS = 100
_COURSES_SAMPLED = 5


@dataclass(frozen=True, slots=True)
class Sample:
    """Ids of one side, chosen at random; some have rows and some are confirmed empty."""

    axis: Axis
    returned: frozenset[str]
    empty: frozenset[str]

    @property
    def ids(self) -> frozenset[str]:
        """All of them."""
        return self.returned | self.empty


def covered_area(region: Region, coverage: Coverage) -> Rectangle | None:
    """Return a rectangle around all that is finished; None if nothing is."""
    courses: set[str] = set()
    sides = coverage.course_sides
    for side in sides:
        courses.update(side or ())
    if not sides or (coverage.other_learners is None and not coverage.learners):
        return None
    learners = None if region.side(Axis.LEARNERS) is None else tuple(sorted(coverage.learners))
    has_courses = region.side(Axis.COURSES) is not None
    return Rectangle(learners, tuple(sorted(courses)) if has_courses else None)


def choose_sample(side: Iterable[str], axis: Axis, size: int, with_rows: AbstractSet[str],
                  random: Random) -> Sample:  # fmt: skip
    """Choose ids of a side: three in four that have rows, one that has none; others fill up.

    Args:
        side: to choose from.
        axis: which one it is.
        size: how many, at least 1.
        with_rows: the ids that have rows.
        random: decides.
    """
    ids = sorted(side)
    returned = [unit for unit in ids if unit in with_rows]
    empty = [unit for unit in ids if unit not in with_rows]
    empties = min(len(empty), max(size // _EMPTY_SHARE, size - len(returned), 1))
    return Sample(
        axis,
        frozenset(random.sample(returned, min(len(returned), max(size - empties, 1)))),
        frozenset(random.sample(empty, empties)),
    )


def regroup(area: Rectangle, finished: Sequence[Rectangle], random: Random) -> list[Rectangle]:
    """Cut an area into calls of about the size that the export's had, but other ones.

    Args:
        area: with ids along at least one side.
        finished: the rectangles of the export.
        random: decides which ids go together.
    """
    pairs = max(1, max((rectangle.pairs for rectangle in finished), default=1))
    if area.learners is None or area.courses is None:
        # The other side has no ids to run along: other groups, of another size.
        axis = Axis.COURSES if area.learners is None else Axis.LEARNERS
        size = max(1, 2 * pairs // 3)
        return [area.replace(axis, group) for group in _groups(area.side(axis), size, random)]
    across = min(len(area.learners), _LEARNERS_ACROSS)
    along = max(1, min(pairs // across, (len(area.courses) + 1) // 2))
    return [
        Rectangle(learners, courses)
        for learners in _groups(area.learners, across, random)
        for courses in _groups(area.courses, along, random)
    ]


def regroup_rows(
    learners: Iterable[str], courses: Iterable[str], random: Random, *, sample: int | None
) -> list[Rectangle]:
    """Return calls that show a whole account another way, by ids that its rows hold.

    They overlap. `sample` is how many learners are asked for, None for all.
    """
    named, across = sorted(learners), sorted(courses)
    if sample is not None:
        named = random.sample(named, min(sample, len(named)))
        across = random.sample(across, min(_COURSES_SAMPLED, len(across)))
    return [
        *(Rectangle(group, None) for group in _groups(named, _LEARNERS_OF_ROWS, random)),
        *(Rectangle(None, group) for group in _groups(across, 1, random)),
    ]


def cover_asked(area: Rectangle, fetched: Sequence[Rectangle]) -> Coverage:
    """Return what the calls covered; those that name one side each are taken together."""
    if area.learners is not None or area.courses is not None:
        return cover(area, fetched)
    every: Side = None
    courses = {course for rectangle in fetched for course in rectangle.courses or ()}
    learners = {learner for rectangle in fetched for learner in rectangle.learners or ()}
    return Coverage(
        (every, tuple(sorted(courses))), dict.fromkeys(learners, 0), 1 if courses else None
    )


def _groups(ids: Iterable[str] | None, size: int, random: Random) -> Iterator[tuple[str, ...]]:
    shuffled = sorted(ids or ())
    random.shuffle(shuffled)
    for start in range(0, len(shuffled), size):
        yield tuple(sorted(shuffled[start : start + size]))
