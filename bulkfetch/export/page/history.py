"""The record of the runs over time, as the journal keeps it, read for drawing.

The format is that of `bulkfetch.pace.timeline`. What cannot be read as that is no record: a page
without pictures is better than none.
"""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from statistics import median
from typing import Any

_VERSION = 1
_KEPT_BETWEEN = 0.02  # of the time at work, where runs follow one another
_FIELDS = ("t", "in_flight", "limit", "batch_size", "latency_s", "calls", "retries", "rows")


@dataclass(frozen=True, slots=True)
class Moment:
    """One interval of the record. `t` is seconds since its beginning.

    `latency_s` is None where no call succeeded; `phase` is "slow start", "steady", "gate" (waiting
    as a Retry-After asked), "outage", or "" where it is not told.
    """

    t: float
    in_flight: float
    limit: float
    batch_size: float
    latency_s: float | None
    calls: float
    retries: float
    rows: float
    phase: str


@dataclass(frozen=True, slots=True)
class Mark:
    """Where a run went on from the one before: `t` as in moments, `at` in seconds since 1970."""

    t: float
    at: float


@dataclass(frozen=True, slots=True)
class History:
    """What happened when: moments in order, each standing for `interval_s` seconds.

    `marks` stand between the runs; of the time between two runs, a little is left.
    """

    interval_s: float
    moments: tuple[Moment, ...]
    marks: tuple[Mark, ...] = ()

    @property
    def duration_s(self) -> float:
        """From the beginning to the end of the last interval."""
        return self.moments[-1].t + self.interval_s

    def summed(self, most: int) -> "History":
        """Return the same in at most so many intervals of equal length."""
        interval_s = max(self.interval_s, self.duration_s / most)
        groups = groupby(self.moments, key=lambda moment: int(moment.t / interval_s))
        return History(
            interval_s,
            tuple(_merge(number * interval_s, list(members)) for number, members in groups),
            self.marks,
        )

    def series(self, value: Callable[[Moment], float | None]) -> list[tuple[float, float | None]]:
        """Return a value over time, with a gap before each mark."""
        points = [(moment.t, value(moment)) for moment in self.moments]
        for mark in self.marks:
            before = max((m.t for m in self.moments if m.t < mark.t), default=mark.t)
            points.append((min(before + self.interval_s, mark.t), None))
        return sorted(points, key=lambda point: (point[0], point[1] is not None))

    def phases(self, phase: str) -> Iterator[tuple[float, float]]:
        """Yield when a phase began and ended, each time."""
        began: float | None = None
        for moment in self.moments:
            if moment.phase == phase and began is None:
                began = moment.t
            elif moment.phase != phase and began is not None:
                yield began, moment.t
                began = None
        if began is not None:
            yield began, self.duration_s


def read_history(record: object, starts: Sequence[float] = ()) -> History | None:
    """Read a record; None if there is none, or nothing in it.

    Args:
        record: as the journal keeps it.
        starts: when the runs began, in seconds since 1970, in order.
    """
    try:
        history = _read(record)
        began_at = float(record["began_at"])  # type: ignore[index]
    except (KeyError, TypeError, ValueError):
        return None
    return history and _join_runs(history, [Mark(at - began_at, at) for at in starts[1:]])


def _join_runs(history: History, starts: Sequence[Mark]) -> History:
    """Mark where runs began, and cut out most of the time in which none was."""
    at_work_s = len(history.moments) * history.interval_s
    kept_s = max(history.interval_s, at_work_s * _KEPT_BETWEEN)
    moments, marks, cut_s, end_s = [], [], 0.0, 0.0
    left = deque(starts)
    for moment in history.moments:
        # The interval in which a run begins may have begun before it.
        while left and left[0].t < moment.t + history.interval_s:
            mark = left.popleft()
            if end_s:
                cut_s = max(cut_s, moment.t - end_s - kept_s)
                marks.append(Mark(moment.t - cut_s, mark.at))
        moments.append(replace(moment, t=moment.t - cut_s))
        end_s = moments[-1].t + history.interval_s
    return History(history.interval_s, tuple(moments), tuple(marks))


def _read(record: Any) -> History | None:
    if record["version"] != _VERSION:
        return None
    fields: list[str] = list(record["fields"])
    columns = [fields.index(name) for name in _FIELDS]
    phase = fields.index("phase") if "phase" in fields else None
    moments = []
    for sample in record["samples"]:
        values = [None if sample[at] is None else float(sample[at]) for at in columns]
        t, in_flight, limit, batch_size, latency_s, calls, retries, rows = values
        moments.append(
            Moment(
                *(t or 0.0, in_flight or 0.0, limit or 0.0, batch_size or 0.0, latency_s),
                *(calls or 0.0, retries or 0.0, rows or 0.0),
                phase="" if phase is None else str(sample[phase]),
            )
        )
    moments.sort(key=lambda moment: moment.t)
    interval_s = float(record["interval_s"])
    return History(interval_s, tuple(moments)) if moments and interval_s > 0 else None


def _merge(t: float, moments: Sequence[Moment]) -> Moment:
    """Make one of neighbours: the most in flight, the latest settings, the sums of what came."""
    latencies = [moment.latency_s for moment in moments if moment.latency_s is not None]
    return Moment(
        t=t,
        in_flight=max(moment.in_flight for moment in moments),
        limit=moments[-1].limit,
        batch_size=moments[-1].batch_size,
        latency_s=median(latencies) if latencies else None,
        calls=sum(moment.calls for moment in moments),
        retries=sum(moment.retries for moment in moments),
        rows=sum(moment.rows for moment in moments),
        phase=moments[-1].phase,
    )
