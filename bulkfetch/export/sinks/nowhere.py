"""Publish nowhere: rows are sorted, merged and counted, for a report without an output."""

from collections.abc import Iterator
from dataclasses import dataclass

import pyarrow as pa

from bulkfetch.export.sinks.sink import Publication, Written


@dataclass(frozen=True, slots=True)
class Nowhere:
    """Takes the rows and keeps none."""

    name: str | None = None

    def check(self) -> None:
        """Nothing can be wrong."""

    def partial(self) -> "Nowhere":
        """Return this."""
        return self

    def write(self, rows: Iterator[pa.RecordBatch], publication: Publication) -> Written:  # noqa: ARG002
        """Let the rows pass."""
        for _ in rows:
            pass
        return Written(0)
