"""What every output has in common: it takes sorted rows, each enrollment once.

A sink is checked before the first call to the service, and written to once, whole: what was there
before stays until all of the new is durable.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, Self

import pyarrow as pa

from bulkfetch.export.journal import Journal
from bulkfetch.export.stopping import Stopping


@dataclass(frozen=True, slots=True)
class Publication:
    """What a sink may need besides the rows.

    Attributes:
        journal: what is published.
        directory: for temporary data; it is private and removed afterwards.
        memory_limit_mb: for an engine that has such a limit.
        stopping: runs a callable that interrupts what the sink is waiting for.
    """

    journal: Journal
    directory: Path
    memory_limit_mb: int
    stopping: Stopping


@dataclass(frozen=True, slots=True)
class Written:
    """What a sink wrote.

    Attributes:
        bytes_written: of the file or stream; 0 for a table in a database server.
        changes: how many rows of such a table were inserted, updated, marked or deleted.
    """

    bytes_written: int
    changes: dict[str, int] | None = None


class Sink(Protocol):
    """An output. `write` gets the columns of `record.arrow_schema`, in the types of `sorting`."""

    @property
    def name(self) -> str | None:
        """What it is called in messages and reports, free of secrets; None for a stream."""

    def check(self) -> None:
        """Check that it can be written, without changing anything.

        Raises:
            UsageError: it can never be.
            SinkError: it cannot be as things are.
        """

    def partial(self) -> Self:
        """Return where rows of an export that is not complete go."""

    def write(self, rows: Iterator[pa.RecordBatch], publication: Publication) -> Written:
        """Write the rows, all or none.

        Raises:
            SinkError: it cannot be written.
        """
