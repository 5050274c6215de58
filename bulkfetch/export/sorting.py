"""Sort rows out of core, with DuckDB, in memory that stays flat.

The memory limit is set so low that a million rows spill already: then the peak is nearly the same
for any number of rows (1 M and 10 M rows as CSV: 282 and 305 MB with a limit of 96 MB, 311 and 342
with 128, which saves a tenth of the time).
"""

import contextlib
from collections.abc import Generator, Iterable, Iterator
from pathlib import Path

import duckdb
import pyarrow as pa

from bulkfetch.record import FIELD_NAMES, arrow_schema

MEMORY_LIMIT_MB = 96
_STREAM_ROWS = 16_384


@contextlib.contextmanager
def connect(memory_limit_mb: int, spill: Path) -> Generator[duckdb.DuckDBPyConnection, None, None]:
    """Open a DuckDB of one thread that keeps rows in order and spills to a directory."""
    connection = duckdb.connect(
        ":memory:",
        config={
            "memory_limit": f"{memory_limit_mb}MB",
            "temp_directory": str(spill),
            "threads": "1",
            "preserve_insertion_order": "true",
            "autoinstall_known_extensions": "false",
            "autoload_known_extensions": "false",
        },
    )
    try:
        yield connection
    finally:
        connection.close()


def naive_schema() -> pa.Schema:
    """Return the record's schema with time stamps in microseconds and without their zone.

    All are UTC, and DuckDB would apply a zone of its own. Microseconds hold any year; DuckDB's
    seconds turn into nanoseconds, which end in 2262.
    """
    return pa.schema(
        [
            pa.field(field.name, pa.timestamp("us")) if pa.types.is_timestamp(field.type) else field
            for field in arrow_schema()
        ]
    )


def sort(
    connection: duckdb.DuckDBPyConnection, batches: Iterable[pa.RecordBatch]
) -> Iterator[pa.RecordBatch]:
    """Sort by enrollment_id, then by every other column, nulls last.

    Args:
        connection: does it; interrupting it ends the sort.
        batches: of the record's schema, as it is or naive.

    Returns:
        Batches of the naive schema.
    """
    schema = naive_schema()
    rows = (batch.cast(schema) for batch in batches)
    connection.register("rows", pa.RecordBatchReader.from_batches(schema, rows))
    order = ", ".join(f"{name} ASC NULLS LAST" for name in FIELD_NAMES)
    return iter(
        connection.sql(
            f"SELECT {', '.join(FIELD_NAMES)} FROM rows ORDER BY {order}"  # noqa: S608 - own names
        ).to_arrow_reader(_STREAM_ROWS)
    )
