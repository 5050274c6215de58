"""Publish a journal: a pure, sorted function of what it holds, with memory that stays flat.

DuckDB sorts the journal's rows, spilling to disk; repeated ids are merged in the sorted stream; a
second DuckDB writes the file. So the same rows give the same bytes of CSV and JSONL, in whatever
order and from however many runs they came. The sort's memory is set so low that a million rows
spill already: then the peak is the same for any number of rows (measured with 96, 160 and 256 MB:
305, 371 and 405 MB for 1 M rows, 306, 374 and 471 MB for 3 M; the smaller take half as long again).
"""

import contextlib
import functools
import shutil
import tempfile
import threading
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import duckdb
import pyarrow as pa
import pyarrow.compute as pc

from bulkfetch.errors import Conflict, LocalError, SinkError
from bulkfetch.export.atomic import replacing
from bulkfetch.export.formats import OutputFormat
from bulkfetch.export.journal import Journal
from bulkfetch.export.merge import Merger
from bulkfetch.record import FIELD_NAMES, FIELDS, FieldType, arrow_schema

_MEMORY_LIMIT_MB = 128
_STREAM_ROWS = 16_384
_COPY_BYTES = 1024 * 1024
_WATCH_EVERY_S = 0.1
# What a spreadsheet may run: the signs, their full-width forms, and control characters that it
# skips. Quotes before one of them are counted in, so that taking one away restores the cell.
_FORMULA = "^'*[=+\\-@\\t\\r\\n\uff1d\uff0b\uff0d\uff20]"
_STOPPED = "Publishing was stopped; nothing was put in place."


class PublishingStopped(LocalError):  # noqa: N818 - not a failure: it was asked for
    """Publishing was told to stop; nothing was put in place."""


@dataclass(frozen=True, slots=True)
class Published:
    """What a publication wrote, and what it merged away."""

    rows: int
    duplicates: int
    conflict_count: int
    conflicts: tuple[Conflict, ...]
    bytes_written: int


def publish(
    journal: Journal,
    target: Path | BinaryIO,
    output_format: OutputFormat,
    *,
    csv_raw: bool = False,
    memory_limit_mb: int = _MEMORY_LIMIT_MB,
    should_stop: Callable[[], bool] = lambda: False,
) -> Published:
    """Write the journal's rows, each enrollment once, sorted by enrollment_id.

    Args:
        journal: what to publish.
        target: a file, which is replaced whole or not at all, or a stream, which is written last.
        output_format: of the output.
        csv_raw: write text cells of CSV as they are. Otherwise a cell that a spreadsheet would
            run as a formula gets an apostrophe before it; a reader takes one apostrophe away from
            each cell that matches `^''*[=+-@…]`.
        memory_limit_mb: for the sort.
        should_stop: asked between steps.

    Raises:
        SinkError: the output or the space for sorting cannot be written.
        JournalError: the journal is damaged.
        PublishingStopped: `should_stop` said so.
    """
    write = functools.partial(
        _write,
        journal,
        output_format=output_format,
        csv_raw=csv_raw,
        memory_limit_mb=memory_limit_mb,
        should_stop=should_stop,
    )
    if isinstance(target, Path):
        with replacing(target) as temporary:
            merger = write(temporary)
            size = temporary.stat().st_size
    else:
        with tempfile.TemporaryDirectory(
            prefix=".bulkfetch-", dir=journal.path.absolute().parent
        ) as directory:
            temporary = Path(directory) / "output"
            temporary.touch(0o600)
            merger = write(temporary)
            size = temporary.stat().st_size
            try:
                with temporary.open("rb") as file:
                    shutil.copyfileobj(file, target, _COPY_BYTES)
                target.flush()
            except OSError as error:
                raise SinkError(f"The output stream cannot be written: {error.strerror}.") from None
    return Published(
        rows=merger.rows,
        duplicates=merger.duplicates,
        conflict_count=merger.conflict_count,
        conflicts=tuple(merger.conflicts),
        bytes_written=size,
    )


def returned_ids(journal: Journal) -> tuple[set[str], set[str]]:
    """Return the learner ids and the course ids that occur in the journal's rows.

    Raises:
        JournalError: the journal is damaged.
    """
    learners: set[str] = set()
    courses: set[str] = set()
    for batch in journal.record_batches():
        courses.update(pc.unique(batch.column(1)).to_pylist())
        learners.update(pc.unique(batch.column(2)).to_pylist())
    return learners, courses


def _write(
    journal: Journal,
    temporary: Path,
    *,
    output_format: OutputFormat,
    csv_raw: bool,
    memory_limit_mb: int,
    should_stop: Callable[[], bool],
) -> Merger:
    """Sort, merge and write to a file that exists."""
    merger = Merger()
    failures: list[BaseException] = []
    with (
        tempfile.TemporaryDirectory(
            prefix=".bulkfetch-sort-", dir=journal.path.absolute().parent
        ) as spill,
        _connect(memory_limit_mb, spill) as sorter,
        _connect(memory_limit_mb, spill) as writer,
        _interrupting((sorter, writer), should_stop),
    ):
        try:
            rows = _guard(_naive(journal.record_batches()), failures, should_stop)
            sorted_rows = _sort(sorter, rows)
            merged = _guard(merger.merge(sorted_rows), failures, should_stop)
            _copy(writer, merged, temporary, output_format, csv_raw=csv_raw)
        except (duckdb.Error, pa.ArrowException, OSError) as error:
            if failures:
                raise failures[0] from None
            if should_stop():
                raise PublishingStopped(_STOPPED) from None
            reason = str(error).splitlines()[0]
            raise SinkError(f"The output cannot be written: {reason}.") from None
    return merger


@contextlib.contextmanager
def _connect(memory_limit_mb: int, spill: str) -> Generator[duckdb.DuckDBPyConnection, None, None]:
    connection = duckdb.connect(
        ":memory:",
        config={
            "memory_limit": f"{memory_limit_mb}MB",
            "temp_directory": spill,
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


@contextlib.contextmanager
def _interrupting(
    connections: Sequence[duckdb.DuckDBPyConnection], should_stop: Callable[[], bool]
) -> Generator[None, None, None]:
    """Interrupt what runs in the block once `should_stop` says so: a sort asks nobody."""
    is_over = threading.Event()

    def watch() -> None:
        while not is_over.wait(_WATCH_EVERY_S):
            if should_stop():
                for connection in connections:
                    connection.interrupt()

    watcher = threading.Thread(target=watch, name="bulkfetch publish", daemon=True)
    watcher.start()
    try:
        yield
    finally:
        is_over.set()
        watcher.join()


def _guard(
    batches: Iterable[pa.RecordBatch],
    failures: list[BaseException],
    should_stop: Callable[[], bool],
) -> Iterator[pa.RecordBatch]:
    """Pass batches on; keep an exception, which DuckDB would turn into a text of its own."""
    try:
        for batch in batches:
            if should_stop():
                raise PublishingStopped(_STOPPED)  # noqa: TRY301 - kept like any other
            yield batch
    except GeneratorExit:
        raise
    except BaseException as error:
        failures.append(error)
        raise


def _naive(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """Take the time zone off the time stamps: all are UTC, and DuckDB would apply its own.

    Microseconds hold any year; DuckDB's seconds turn into nanoseconds, which end in 2262.
    """
    schema = _naive_schema()
    for batch in batches:
        yield batch.cast(schema)


def _naive_schema() -> pa.Schema:
    return pa.schema(
        [
            pa.field(field.name, pa.timestamp("us")) if pa.types.is_timestamp(field.type) else field
            for field in arrow_schema()
        ]
    )


def _sort(
    connection: duckdb.DuckDBPyConnection, batches: Iterator[pa.RecordBatch]
) -> Iterator[pa.RecordBatch]:
    """Sort by enrollment_id, then by every other column, nulls last."""
    connection.register("rows", pa.RecordBatchReader.from_batches(_naive_schema(), batches))
    order = ", ".join(f"{name} ASC NULLS LAST" for name in FIELD_NAMES)
    return iter(
        connection.sql(
            f"SELECT {', '.join(FIELD_NAMES)} FROM rows ORDER BY {order}"  # noqa: S608 - own names
        ).to_arrow_reader(_STREAM_ROWS)
    )


def _copy(
    connection: duckdb.DuckDBPyConnection,
    batches: Iterator[pa.RecordBatch],
    path: Path,
    output_format: OutputFormat,
    *,
    csv_raw: bool,
) -> None:
    """Write batches to a file in their order."""
    connection.register("rows", pa.RecordBatchReader.from_batches(_naive_schema(), batches))
    columns = ", ".join(_expression(output_format, csv_raw=csv_raw))
    options = {
        OutputFormat.CSV: "FORMAT csv, HEADER true, DELIMITER ',', QUOTE '\"', ESCAPE '\"'",
        OutputFormat.JSONL: "FORMAT json, ARRAY false",
        OutputFormat.PARQUET: "FORMAT parquet, COMPRESSION zstd, ROW_GROUP_SIZE 122880",
    }[output_format]
    quoted = str(path).replace("'", "''")
    connection.execute(
        f"COPY (SELECT {columns} FROM rows) TO '{quoted}'"  # noqa: S608 - own names
        f" ({options}, USE_TMP_FILE false)"
    )


def _expression(output_format: OutputFormat, *, csv_raw: bool) -> Iterator[str]:
    """Yield what is selected for each column."""
    for field in FIELDS:
        if field.type is FieldType.TIMESTAMP:
            if output_format is OutputFormat.PARQUET:
                yield f"{field.name} AT TIME ZONE 'UTC' AS {field.name}"
            else:
                yield f"strftime({field.name}, '%Y-%m-%dT%H:%M:%SZ') AS {field.name}"
        elif field.type is FieldType.TEXT and output_format is OutputFormat.CSV and not csv_raw:
            pattern = _FORMULA.replace("'", "''")
            yield (
                f"CASE WHEN regexp_matches({field.name}, '{pattern}') "
                f"THEN '''' || {field.name} ELSE {field.name} END AS {field.name}"
            )
        else:
            yield field.name
