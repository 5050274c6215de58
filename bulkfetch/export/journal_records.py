"""What the journal keeps, as records: inputs, batches, pages, and what runs have done."""

from dataclasses import dataclass

import pyarrow as pa

from bulkfetch.errors import Anomaly, JournalError
from bulkfetch.http.address import SOAP_PATH
from bulkfetch.plan.rectangle import Axis, Rectangle
from bulkfetch.plan.region import Region
from bulkfetch.words import counted, counted_side


class ChangedInputsError(JournalError):
    """The journal belongs to other ids, another endpoint or another operation."""


@dataclass(frozen=True, slots=True)
class JournalIdentity:
    """What must not change between the runs of one export.

    Attributes:
        operation: that is called.
        endpoint: the service's base URL.
        region: what is asked for.
        discovered: the axes whose ids come from the account; until their listing is complete, the
            region has no side there.
        soap_path: where calls go, below the base URL.
    """

    operation: str
    endpoint: str
    region: Region
    discovered: frozenset[Axis] = frozenset()
    soap_path: str = SOAP_PATH

    @property
    def url(self) -> str:
        """What is called."""
        return self.endpoint + self.soap_path

    @property
    def is_settled(self) -> bool:
        """Whether the region is known: no listing is unfinished."""
        return all(self.region.side(axis) is not None for axis in self.discovered)


@dataclass(frozen=True, slots=True)
class FinishedBatch:
    """A batch to be kept. Times are seconds since 1970.

    `latency_s` is of the call that answered, from the first byte sent to the last one read.
    """

    rectangle: Rectangle
    batches: list[pa.RecordBatch]
    rows: int
    surplus: int
    attempts: int
    started_at: float
    ended_at: float
    wire_bytes: int
    body_bytes: int
    anomalies: tuple[Anomaly, ...]
    latency_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Effort:
    """What a run has done so far, failed calls included."""

    calls: int = 0
    retries: int = 0
    splits: int = 0
    confirmations: int = 0
    cap_checks: int = 0
    wire_bytes: int = 0
    body_bytes: int = 0


@dataclass(frozen=True, slots=True)
class RunRecord:
    """One run, or all runs together.

    Attributes:
        runs: how many.
        started_at: when the first of them did, in seconds since 1970; None without any.
        effort: of all of them, up to the last commit of one that was killed.
        batches: that were finished.
        rows: in them.
        latencies_s: of the call that answered, for each batch, ascending.
    """

    runs: int
    started_at: float | None
    effort: Effort
    batches: int
    rows: int
    latencies_s: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class JournalTotals:
    """Sums over the finished batches."""

    batches: int
    rows: int
    attempts: int
    wire_bytes: int
    body_bytes: int
    anomalies: int
    surplus: int


def compare_regions(was: JournalIdentity, now: JournalIdentity) -> list[str]:
    """Say how what is asked for differs between two runs; nothing if it does not."""
    found = [difference for axis in Axis if (difference := _compare_axis(axis, was, now))]
    if not found and was.region != now.region and not was.discovered:
        old = counted(was.region.pairs, "pair was", "pairs were")
        found = [f"{old} asked for, now {counted(now.region.pairs, 'other is', 'others are')}"]
    return found


def _compare_axis(axis: Axis, was: JournalIdentity, now: JournalIdentity) -> str | None:
    """Say how the ids asked for along an axis differ between two runs; None if they do not."""
    name = axis.value
    before, after = was.region.side(axis), now.region.side(axis)
    if axis in was.discovered or axis in now.discovered:
        if axis in was.discovered and axis in now.discovered:
            return None
        old, new = (
            f"all {name} of the account"
            if axis in identity.discovered
            else f"no {name} by their ids"
            if side is None
            else f"a list of {counted_side(len(side), name)}"
            for identity, side in ((was, before), (now, after))
        )
        return f"{old} were asked for, now it is {new}"
    if before == after:
        return None
    if before is None or after is None:
        here = "was given" if before is not None else "is given now"
        return f"a list of {name} {here} and is not in the other run"
    added, removed = set(after) - set(before), set(before) - set(after)
    gone, more = counted(len(removed), "is", "are"), counted(len(added), "is", "are")
    return f"of {counted_side(len(before), name)}, {gone} gone and {more} new"
