"""What became of every id asked for: returned, in part, confirmed empty, quarantined or failed.

Pure. What was fetched comes from the journal as rectangles; what could not be fetched, as entries
that name ids with a cause. Every pair of the region that no finished batch covers is *missing*.
The five states part the ids of a side; the first that holds is the id's:

* *quarantined*: an entry names it as rejected by the service, and a pair of it is missing still.
* *failed*: no row of it came, and a pair of it is missing, whoever is to blame: zero is not
  unknown.
* *in part*: a row of it came, and a pair of it was not fetched that was not rejected either.
* *returned*: a row of it came.
* *confirmed empty*: every pair of it was fetched, and no row came.

An entry does not quarantine the ids of a side that it has no list of, or that it covers whole (but
for ids that are at fault themselves) while its other side is a part: a learner who is rejected
takes no course with him. So an id that is returned may lack the pairs with ids of the other side
that are quarantined; those are listed with their causes.
"""

from collections.abc import Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, replace

from bulkfetch.engine.outcome import Unfetched
from bulkfetch.errors import FailedIds
from bulkfetch.plan.marks import without
from bulkfetch.plan.rectangle import Axis, Rectangle, Side, subtract_from
from bulkfetch.plan.region import Region

NEVER_ASKED = "not fetched: the export ended before it was asked for"
UNCONFIRMED = "no enrollment came, but not all was fetched, so that it cannot be confirmed as empty"


@dataclass(frozen=True, slots=True)
class IdCounts:
    """How many ids of a side were asked for, and in which state each ended; the five add up."""

    asked: int
    returned: int
    in_part: int
    confirmed_empty: int
    quarantined: int
    failed: int


@dataclass(frozen=True, slots=True)
class PairCounts:
    """How many pairs were asked for and are missing; `quarantined` were rejected as pairs.

    A side that is not asked for by ids counts as one.
    """

    asked: int
    missing: int
    quarantined: int


def find_missing(missing: Sequence[Rectangle], before: Unfetched, now: Unfetched) -> Unfetched:
    """Name everything that is missing, by what is known of it last.

    Args:
        missing: disjoint rectangles without a learner in two of them, as `rest_of` makes them.
        before: what earlier runs could not fetch. Of it remains what this run did not try again.
        now: what this run could not fetch.

    Returns:
        Entries that cover all that is missing, and name nothing that is not.
    """
    # What was tried says more than what was only given up, and this run more than an earlier one.
    sources = [
        (source, is_tried) for is_tried in (True, False) for source in (now, before) if source
    ]
    quarantined: list[FailedIds] = []
    failed: list[FailedIds] = []
    rest = list(missing)
    for source, is_tried in sources:
        if not rest:
            break
        unexplained = _Rest(rest)
        claimed: list[Rectangle] = []
        for entries, kept in ((source.quarantined, quarantined), (source.failed, failed)):
            tried = [entry for entry in entries if (entry.attempts > 0) is is_tried]
            parts = [part for entry in tried for part in unexplained.keep(entry)]
            kept.extend(parts)
            claimed += map(_rectangle, parts)
        rest = subtract_from(rest, claimed)
    failed += [FailedIds(some.learners, some.courses, NEVER_ASKED, 0) for some in rest]
    return Unfetched(tuple(quarantined), tuple(failed))


def count_ids(
    region: Region,
    missing: Sequence[Rectangle],
    entries: Unfetched,
    seen: Mapping[Axis, AbstractSet[str]],
) -> tuple[dict[Axis, IdCounts | None], tuple[FailedIds, ...]]:
    """Count the states that the ids asked for ended in.

    Args:
        region: what was asked for.
        missing: disjoint rectangles of it that were not fetched.
        entries: the same, named by `find_missing`.
        seen: the ids that occur in rows.

    Returns:
        The counts of each side, None where no ids were asked for; and entries for the ids that
        failed without being named by any: no row of them came, and not all of them was fetched.
    """
    everything = (*entries.quarantined, *entries.failed)
    at_fault = {
        axis: {
            unit
            for rectangle in map(_rectangle, everything)
            if rectangle.side(axis.other) is None
            for unit in rectangle.side(axis) or ()
        }
        for axis in Axis
    }
    # Whoever is rejected takes nothing of the other side with him.
    not_fetched = subtract_from(list(missing), map(_rectangle, entries.quarantined))
    counts: dict[Axis, IdCounts | None] = {}
    unconfirmed: list[FailedIds] = []
    for axis in Axis:
        asked = region.side(axis)
        if asked is None:
            counts[axis] = None
            continue
        quarantined = _named(region, axis, entries.quarantined, at_fault)
        rest = without(without(asked, seen[axis]), quarantined)  # of which no row came
        failed = _named(region, axis, entries.failed, at_fault).intersection(rest)
        unsure_of = frozenset(without(rest, failed) if missing else ())
        doubtful = [
            (ids, rectangle)
            for rectangle in missing
            if (ids := tuple(sorted(unsure_of.intersection(rectangle.side(axis) or ()))))
        ]
        # Disjoint rectangles may still share ids of one side: each is counted once.
        unsure = {unit for ids, _ in doubtful for unit in ids}
        unconfirmed += [
            FailedIds(part.learners, part.courses, UNCONFIRMED, 0)
            for ids, rectangle in doubtful
            for part in (rectangle.replace(axis, ids),)
        ]
        lacking: set[str] = set()
        for rectangle in not_fetched:
            lacking.update(rectangle.side(axis) or asked)
        in_part = sum(unit in seen[axis] and unit not in quarantined for unit in lacking)
        counts[axis] = IdCounts(
            asked=len(asked),
            returned=len(asked) - len(quarantined) - len(rest) - in_part,
            in_part=in_part,
            confirmed_empty=len(rest) - len(failed) - len(unsure),
            quarantined=len(quarantined),
            failed=len(failed) + len(unsure),
        )
    return counts, tuple(unconfirmed)


def count_pairs(region: Region, missing: Sequence[Rectangle], entries: Unfetched) -> PairCounts:
    """Count the pairs that are missing; takes what `count_ids` takes."""
    return PairCounts(
        asked=region.pairs,
        missing=sum(rectangle.pairs for rectangle in missing),
        quarantined=sum(_rectangle(e).pairs for e in entries.quarantined if e.is_of_pairs),
    )


class _Rest:
    """What of the region is not explained yet, to be met with entries that claim parts of it."""

    def __init__(self, rectangles: Sequence[Rectangle]) -> None:
        self._rectangles = rectangles
        # Rectangles of one difference share no learner: each is found by its learners.
        self._of_learner = {
            learner: number
            for number, rectangle in enumerate(rectangles)
            for learner in rectangle.learners or ()
        }
        self._sets = [
            tuple(
                None if (side := rectangle.side(axis)) is None else frozenset(side) for axis in Axis
            )
            for rectangle in rectangles
        ]

    def keep(self, entry: FailedIds) -> list[FailedIds]:
        """Return the entry with the ids that still lack something of what it claims."""
        numbers: Iterable[int] = range(len(self._rectangles))
        if entry.learner_ids is not None and self._of_learner:
            found = (self._of_learner.get(learner) for learner in entry.learner_ids)
            numbers = sorted({number for number in found if number is not None})
        parts = []
        for number in numbers:
            learners_left, courses_left = self._sets[number]
            learners = _meet(entry.learner_ids, learners_left)
            courses = _meet(entry.course_ids, courses_left)
            if learners != () and courses != ():
                parts.append((learners, courses))
        if entry.learner_ids is None or entry.course_ids is None:
            # One side is not to blame: the entry stays one, with fewer ids.
            sides = [
                None
                if named is None
                else tuple(sorted({unit for ids in some for unit in ids or ()}))
                for named, some in (
                    (entry.learner_ids, [learners for learners, _ in parts]),
                    (entry.course_ids, [courses for _, courses in parts]),
                )
            ]
            parts = [(sides[0], sides[1])] if parts else []
        return [
            replace(entry, learner_ids=learners, course_ids=courses) for learners, courses in parts
        ]


def _meet(named: Side, left: AbstractSet[str] | None) -> Side:
    if named is None or left is None:
        return named
    return tuple(unit for unit in named if unit in left)


def _named(
    region: Region, axis: Axis, entries: Iterable[FailedIds], at_fault: Mapping[Axis, set[str]]
) -> set[str]:
    """Return the ids of a side that entries name; `at_fault` are those named on their own."""
    named: set[str] = set()
    for entry in entries:
        rectangle = _rectangle(entry)
        ids = rectangle.side(axis)
        if ids is not None and (
            not _is_whole(region, rectangle, axis, at_fault)
            or _is_whole(region, rectangle, axis.other, at_fault)
        ):
            named.update(ids)
    return named.intersection(region.side(axis) or ())


def _is_whole(
    region: Region, rectangle: Rectangle, axis: Axis, at_fault: Mapping[Axis, set[str]]
) -> bool:
    """Whether a rectangle covers a side of the region whole, but for ids at fault themselves."""
    ids, whole = rectangle.side(axis), region.side(axis)
    if ids is None or whole is None or len(ids) == len(whole):
        return True
    if len(ids) + len(at_fault[axis]) < len(whole):
        return False
    return at_fault[axis].union(ids).issuperset(whole)


def _rectangle(entry: FailedIds) -> Rectangle:
    return Rectangle(entry.learner_ids, entry.course_ids)
