"""Make a further output from a finished journal, without a call."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from bulkfetch.engine.outcome import Unfetched
from bulkfetch.errors import IncompleteError, ListingError
from bulkfetch.export.completeness import find_missing
from bulkfetch.export.journal import Journal
from bulkfetch.export.publish import Published, publish
from bulkfetch.export.sinks.sink import Sink
from bulkfetch.plan.region import rest_of


@dataclass(frozen=True, slots=True)
class Republished:
    """What was written, and why it is not all; None if it is."""

    published: Published
    lack: IncompleteError | ListingError | None


def republish(
    journal_path: Path,
    sink: Sink,
    *,
    partial: bool = False,
    should_stop: Callable[[], bool] = lambda: False,
) -> Republished:
    """Publish a journal that an export has finished.

    Args:
        journal_path: the journal.
        sink: where to.
        partial: publish also what an unfinished export has fetched so far.
        should_stop: as for `publish`.

    Raises:
        UsageError: there is no such journal, or the output can never be written.
        JournalError: a run holds it, or it is damaged or no journal.
        ListingError: the account's ids are not all in it.
        IncompleteError: parts of what the journal is for were not fetched.
        SinkError: the output cannot be written.
    """
    sink.check()
    journal = Journal.open_existing(journal_path)
    try:
        lack = _find_lack(journal)
        if lack is not None and not partial:
            raise lack
        return Republished(publish(journal, sink, should_stop=should_stop), lack)
    finally:
        journal.close()


def _find_lack(journal: Journal) -> IncompleteError | ListingError | None:
    if journal.covers_region():
        return None
    identity = journal.identity
    if not identity.is_settled:
        return ListingError(
            f"The journal {journal.path} does not hold all of the account's ids yet: "
            "run the export again."
        )
    missing = rest_of(identity.region, journal.finished())
    if not missing:
        return None
    quarantined, failed = journal.unfetched()
    before = Unfetched(tuple(quarantined), tuple(failed))
    unfetched = find_missing(missing, before, Unfetched())
    return IncompleteError(unfetched.quarantined, unfetched.failed)
