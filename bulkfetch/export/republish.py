"""Make a further output from a finished journal, without a call."""

from collections.abc import Callable
from pathlib import Path

from bulkfetch.engine.outcome import Unfetched
from bulkfetch.errors import IncompleteError, ListingError
from bulkfetch.export.completeness import find_missing
from bulkfetch.export.journal import Journal
from bulkfetch.export.publish import Published, publish
from bulkfetch.export.sinks.sink import Sink
from bulkfetch.plan.region import rest_of


def republish(
    journal_path: Path,
    sink: Sink,
    *,
    partial: bool = False,
    should_stop: Callable[[], bool] = lambda: False,
) -> Published:
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
        if not partial:
            _require_complete(journal)
        return publish(journal, sink, should_stop=should_stop)
    finally:
        journal.close()


def _require_complete(journal: Journal) -> None:
    if journal.covers_region():
        return
    identity = journal.identity
    if not identity.is_settled:
        raise ListingError(
            f"The journal {journal.path} does not hold all of the account's ids yet: "
            "run the export again."
        )
    missing = rest_of(identity.region, journal.finished())
    if missing:
        quarantined, failed = journal.unfetched()
        before = Unfetched(tuple(quarantined), tuple(failed))
        unfetched = find_missing(missing, before, Unfetched())
        raise IncompleteError(unfetched.quarantined, unfetched.failed)
