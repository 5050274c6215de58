"""Publish a journal: a pure, sorted function of what it holds, with memory that stays flat.

DuckDB sorts the journal's rows, spilling to disk; repeated ids are merged in the sorted stream; a
sink writes it. So the same rows give the same bytes of CSV and JSONL and the same rows of every
other output, in whatever order and from however many runs they came.
"""

from collections.abc import Callable
from dataclasses import dataclass

import duckdb
import pyarrow as pa

from bulkfetch.errors import Conflict, SinkError
from bulkfetch.export.atomic import scratch_of
from bulkfetch.export.journal import Journal
from bulkfetch.export.merge import Merger
from bulkfetch.export.sinks.sink import Publication, Sink
from bulkfetch.export.sorting import MEMORY_LIMIT_MB, connect, sort
from bulkfetch.export.stopping import PublishingStopped, Stopping


@dataclass(frozen=True, slots=True)
class Published:
    """What a publication wrote, and what it merged away.

    `changes` are those of a table in a database server: rows inserted, updated, marked or deleted.
    """

    rows: int
    duplicates: int
    conflict_count: int
    conflicts: tuple[Conflict, ...]
    bytes_written: int
    changes: dict[str, int] | None


def publish(
    journal: Journal,
    sink: Sink,
    *,
    memory_limit_mb: int = MEMORY_LIMIT_MB,
    should_stop: Callable[[], bool] = lambda: False,
) -> Published:
    """Write the journal's rows, each enrollment once, sorted by enrollment_id.

    Args:
        journal: what to publish.
        sink: where to.
        memory_limit_mb: for the sort, and for a writer that has such a limit.
        should_stop: asked between steps and, from another thread, during them.

    Raises:
        SinkError: the output or the space for sorting cannot be written.
        JournalError: the journal is damaged.
        PublishingStopped: `should_stop` said so.
    """
    merger = Merger()
    failures: list[BaseException] = []
    stopping = Stopping(should_stop)
    try:
        with (
            scratch_of(journal.path, "scratch") as directory,
            connect(memory_limit_mb, directory) as sorter,
            stopping.interrupting(sorter.interrupt),
            stopping.watching(),
        ):
            rows = sort(sorter, stopping.guard(journal.record_batches(), failures))
            written = sink.write(
                stopping.guard(merger.merge(rows), failures),
                Publication(journal, directory, memory_limit_mb, stopping),
            )
    except (SinkError, duckdb.Error, pa.ArrowException, OSError) as error:
        # The first cause, not what a library made of it on the way.
        cause = failures[0] if failures else error
        if not isinstance(cause, duckdb.Error | pa.ArrowException | OSError):
            raise cause from None
        if should_stop():
            raise PublishingStopped from None
        reason = str(cause).splitlines()[0]
        raise SinkError(f"The output cannot be written: {reason}.") from None
    return Published(
        rows=merger.rows,
        duplicates=merger.duplicates,
        conflict_count=merger.conflict_count,
        conflicts=tuple(merger.conflicts),
        bytes_written=written.bytes_written,
        changes=written.changes,
    )
