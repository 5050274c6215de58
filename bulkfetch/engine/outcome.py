"""What a run has done: the counters while it runs, the record of it when asked."""

from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field

from bulkfetch.errors import Anomaly, Conflict, FailedIds
from bulkfetch.plan.rectangle import Axis, Rectangle
from bulkfetch.plan.region import Region
from bulkfetch.words import counted

ANOMALIES_KEPT = 1_000
CONFLICTS_KEPT = 1_000


@dataclass(frozen=True, slots=True)
class Unfetched:
    """What could not be fetched, by what became of it."""

    quarantined: tuple[FailedIds, ...] = ()
    failed: tuple[FailedIds, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.quarantined or self.failed)


@dataclass(frozen=True, slots=True)
class SilentCaps:
    """What a service leaves out in silence: rows past so many, bytes, ids of a list.

    About so many; None where nothing is proven to be left out.
    """

    rows: int | None = None
    body_bytes: int | None = None
    learner_ids: int | None = None
    course_ids: int | None = None

    def __bool__(self) -> bool:
        return self != SilentCaps()

    def __str__(self) -> str:
        parts = []
        if self.rows is not None and self.body_bytes is not None:
            parts.append(
                f"answers at about {counted(self.rows, 'row')} ({self.body_bytes:,} bytes)"
            )
        for ids, name in ((self.learner_ids, "learner"), (self.course_ids, "course")):
            if ids is not None:
                parts.append(f"lists of {name} ids at about {ids:,}")
        return f"the service silently cuts {' and '.join(parts)}" if parts else ""


@dataclass(slots=True)
class Counters:
    """The mutable numbers of a run, and what it gave up; one task at a time changes them."""

    calls: int = 0
    in_flight: int = 0
    most_in_flight: int = 0
    retries: int = 0
    splits: int = 0
    confirmations: int = 0
    cap_checks: int = 0
    hedges: int = 0
    batches: int = 0
    rows: int = 0
    surplus: int = 0
    wire_bytes: int = 0
    body_bytes: int = 0
    pairs_done: int = 0
    anomaly_count: int = 0
    anomalies: list[Anomaly] = field(default_factory=list)
    quarantined: dict[Rectangle, FailedIds] = field(default_factory=dict)
    failed: list[FailedIds] = field(default_factory=list)
    stopped_because: str = ""  # why the run did not come to its end; as the cause of what it left

    def note_resent(self) -> None:
        """Count a request that was sent once more on a fresh connection."""
        self.calls += 1
        self.retries += 1

    def unfetched(self) -> Unfetched:
        """Return what was given up so far."""
        return Unfetched(tuple(self.quarantined.values()), tuple(self.failed))

    def add_anomalies(self, anomalies: Sequence[Anomaly]) -> None:
        """Count anomalies, and keep the first thousand."""
        self.anomaly_count += len(anomalies)
        self.anomalies += anomalies[: max(0, ANOMALIES_KEPT - len(self.anomalies))]


@dataclass(frozen=True, slots=True)
class FetchReport:
    """What a fetch did, so far or in the end.

    Attributes:
        calls: requests sent, retries and confirmations included.
        retries: attempts after a first that failed.
        splits: batches asked again in two halves.
        confirmations: answers asked for again on a fresh connection.
        rows: rows received that are wanted, before duplicates are dropped.
        surplus: rows received besides, because the plan asked for more than is wanted.
        cap_checks: calls made to find out whether a silent cap cuts answers short.
        silent_caps: those that were proven; what they cut short was asked for again, in parts.
        hedges: slow calls that were made a second time.
        duplicates: rows dropped because the same row had come before.
        conflicts: the first thousand pairs of rows with one id and different content.
        conflict_count: all of them.
        anomalies: the first thousand values that could not be read.
        anomaly_count: all of them.
        confirmed_empty: ids asked for that have no enrollment, of learners and of courses.
        quarantined: ids that the service rejects.
        failed: ids that could not be fetched.
        wire_bytes: bytes of answers as received.
        body_bytes: bytes of answers, inflated.
        most_in_flight: the largest number of calls under way at once.
        duration_s: seconds from the first call to the end.
        is_complete: whether the fetch came to its end with nothing quarantined or failed.
    """

    calls: int
    retries: int
    splits: int
    confirmations: int
    cap_checks: int
    silent_caps: SilentCaps
    rows: int
    surplus: int
    hedges: int
    duplicates: int
    conflicts: tuple[Conflict, ...]
    conflict_count: int
    anomalies: tuple[Anomaly, ...]
    anomaly_count: int
    confirmed_empty_learners: int
    confirmed_empty_courses: int
    quarantined: tuple[FailedIds, ...]
    failed: tuple[FailedIds, ...]
    wire_bytes: int
    body_bytes: int
    most_in_flight: int
    duration_s: float
    is_complete: bool


def count_empty(
    region: Region, seen: Mapping[Axis, AbstractSet[str]], unfetched: Sequence[FailedIds]
) -> dict[Axis, int]:
    """Count the ids asked for that are confirmed to have no enrollment.

    An id is not confirmed if any part of its row or column is unfetched; an entry that does not
    name ids of a side concerns all of them.

    Args:
        region: what was asked for.
        seen: the ids that occur in rows.
        unfetched: what was quarantined or failed.
    """
    counts = {}
    for axis in Axis:
        asked = region.side(axis)
        unsure: set[str] = set()
        for entry in unfetched:
            named = entry.learner_ids if axis is Axis.LEARNERS else entry.course_ids
            unsure.update((asked or ()) if named is None else named)
        counts[axis] = sum(
            1 for unit in asked or () if unit not in seen[axis] and unit not in unsure
        )
    return counts
