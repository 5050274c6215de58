"""Make a further output from a finished journal, without a call."""

from collections.abc import Callable
from pathlib import Path

from bulkfetch.errors import FailedIds, IncompleteError
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
        IncompleteError: parts of what the journal is for were not fetched.
        SinkError: the output cannot be written.
    """
    sink.check()
    journal = Journal.open_existing(journal_path)
    try:
        missing = rest_of(journal.identity.region, journal.finished())
        if missing and not partial:
            raise IncompleteError(
                (), [FailedIds(rest.learners, rest.courses, "not fetched", 0) for rest in missing]
            )
        return publish(journal, sink, should_stop=should_stop)
    finally:
        journal.close()
