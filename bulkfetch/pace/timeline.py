"""The record of a run over time, for a picture of it: at most 2,000 samples, however long it takes.

Each sample stands for an interval. When there are too many, neighbours are merged two by two and
the interval doubles. As JSON (the journal keeps it under the key `timeline`):

    {"version": 1, "interval_s": 0.5, "began_at": 1767225600.0,
     "fields": ["t", "in_flight", "limit", "batch_size", "latency_s", "calls", "retries",
                "rows", "rate", "phase"],
     "samples": [[0.0, 4, 4, 50, 0.31, 6, 0, 3200, null, "slow start"], …]}

`t` is seconds since `began_at` (seconds since 1970), where the interval begins; intervals in which
nothing happened are left out. `in_flight` is the most calls under way, `limit` how many might be,
`batch_size` the ids of the latest call begun, `latency_s` the median of the calls that succeeded
(null if none), `calls` those that ended, `retries` those decided, `rows` those received, `rate` the
bound in calls a second (null for none), `phase` one of "slow start", "steady", "gate" (waiting as a
Retry-After asked), "outage". A resumed run appends its samples to those of the runs before it, with
`t` counted on.
"""

from dataclasses import dataclass, fields
from operator import attrgetter
from statistics import median

SAMPLES_KEPT = 2_000
_INTERVAL_S = 0.25


@dataclass(slots=True)
class Sample:
    """One interval: see the module."""

    t: float
    in_flight: int
    limit: int
    batch_size: int
    latency_s: float | None
    calls: int
    retries: int
    rows: int
    rate: float | None
    phase: str


_FIELDS = [field.name for field in fields(Sample)]
_values_of = attrgetter(*_FIELDS)  # ten times as fast as `astuple`


class Timeline:
    """Collects samples. Times are the injected clock's, in seconds.

    Args:
        began_at: when the run begins, on that clock.
        wall_began_at: the same in seconds since 1970.
    """

    def __init__(self, began_at: float, wall_began_at: float) -> None:
        self._began_at = began_at
        self._wall_began_at = wall_began_at
        self._interval_s = _INTERVAL_S
        self._samples: list[Sample] = []
        self._latencies: list[float] = []

    def observe(
        self,
        now: float,
        *,
        in_flight: int,
        limit: int,
        batch_size: int,
        rate: float | None,
        phase: str,
    ) -> None:
        """Note how things stand."""
        sample = self._at(now)
        sample.in_flight = max(sample.in_flight, in_flight)
        sample.limit, sample.batch_size = limit, batch_size or sample.batch_size
        sample.rate, sample.phase = rate, phase

    def on_end(self, now: float, *, seconds: float | None, rows: int) -> None:
        """Note that a call ended; `seconds` is None if it failed."""
        sample = self._at(now)
        sample.calls += 1
        sample.rows += rows
        if seconds is not None:
            self._latencies.append(seconds)
            sample.latency_s = median(self._latencies)

    def on_retry(self, now: float) -> None:
        """Note that a retry was decided."""
        self._at(now).retries += 1

    def to_json(self) -> dict[str, object]:
        """Return the record, ready for JSON."""
        return {
            "version": 1,
            "interval_s": self._interval_s,
            "began_at": self._wall_began_at,
            "fields": _FIELDS,
            "samples": [
                [round(value, 4) if isinstance(value, float) else value for value in _values_of(s)]
                for s in self._samples
            ],
        }

    def follow(self, before: dict[str, object]) -> None:
        """Put the record of the runs before this one in front of it."""
        samples, interval_s = before.get("samples"), before.get("interval_s")
        began_at = before.get("began_at")
        if not (
            isinstance(samples, list)
            and isinstance(interval_s, float)
            and isinstance(began_at, float)
            and before.get("version") == 1
        ):
            return
        self._began_at -= max(0.0, self._wall_began_at - began_at)
        self._wall_began_at = min(began_at, self._wall_began_at)
        self._interval_s = max(self._interval_s, interval_s)
        self._samples = [Sample(*sample) for sample in samples] + self._samples
        self._thin()

    def _at(self, now: float) -> Sample:
        """Return the sample of the interval that `now` lies in, beginning one if there is none."""
        t = (now - self._began_at) // self._interval_s * self._interval_s
        last = self._samples[-1] if self._samples else None
        if last is not None and t <= last.t:
            return last
        self._latencies.clear()
        sample = Sample(t, 0, 0, 0, None, 0, 0, 0, None, "")
        if last is not None:
            sample.limit, sample.batch_size = last.limit, last.batch_size
            sample.rate, sample.phase = last.rate, last.phase
        self._samples.append(sample)
        self._thin()
        return self._samples[-1]

    def _thin(self) -> None:
        while len(self._samples) > SAMPLES_KEPT:
            self._interval_s *= 2
            merged: list[Sample] = []
            for sample in self._samples:
                t = sample.t // self._interval_s * self._interval_s
                if merged and merged[-1].t == t:
                    _merge(merged[-1], sample)
                else:
                    sample.t = t
                    merged.append(sample)
            self._samples = merged


def _merge(first: Sample, second: Sample) -> None:
    """Add the second of two neighbours to the first."""
    if second.latency_s is not None:
        both = first.latency_s is not None
        first.latency_s = max(first.latency_s or 0, second.latency_s) if both else second.latency_s
    first.in_flight = max(first.in_flight, second.in_flight)
    first.limit, first.batch_size = second.limit, second.batch_size
    first.calls += second.calls
    first.retries += second.retries
    first.rows += second.rows
    first.rate, first.phase = second.rate, second.phase
