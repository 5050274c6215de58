"""Read what an export left: a journal, or a published file, as rows of the record's schema.

A file's columns are found by name and cast to their types; what publishing did to them is undone:
apostrophes before what a spreadsheet would run as a formula, times as text, missing values. Files
carry no region, so what they cover is not known; a journal's finished rectangles say it.
"""

import contextlib
import csv
import sqlite3
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from pathlib import Path

import duckdb
import pyarrow as pa

from bulkfetch.errors import UsageError
from bulkfetch.export.database import APPLICATION_ID
from bulkfetch.export.formats import CHOICES, OutputFormat, format_of
from bulkfetch.export.journal import Journal
from bulkfetch.export.journal_file import Access
from bulkfetch.export.sinks.copied import FORMULA
from bulkfetch.export.sorting import MEMORY_LIMIT_MB, connect, naive_schema
from bulkfetch.plan.coverage import Coverage, cover
from bulkfetch.record import FIELD_NAMES, FIELDS, TABLE_NAME, Field, FieldType

_SQLITE_MAGIC = b"SQLite format 3\0"
_APPLICATION_ID_AT = slice(68, 72)
_LONGEST_LINE_BYTES = 16 * 1024 * 1024
_STREAM_ROWS = 16_384
_SQL_TYPES = {
    FieldType.TEXT: "VARCHAR",
    FieldType.DATE: "DATE",
    FieldType.BOOL: "BOOLEAN",
    FieldType.INT8: "TINYINT",
}


@dataclass(frozen=True, slots=True)
class Source:
    """Rows to compare.

    Attributes:
        name: the path.
        batches: the rows, in any order; read once, while the source is open.
        coverage: what was asked for; None where that is not known.
    """

    name: str
    batches: Iterator[pa.RecordBatch]
    coverage: Coverage | None


@contextlib.contextmanager
def open_source(
    path: Path, directory: Path, *, csv_raw: bool = False
) -> Generator[Source, None, None]:
    """Open a journal or a published file.

    Args:
        path: of either; which one it is shows in its beginning and its suffix.
        directory: for what is spilled.
        csv_raw: a CSV was published with its cells as they are; one that shows it needs no saying.

    Raises:
        UsageError: there is no such file, it is of no such kind, or lacks columns. Values that
            cannot be read raise it while the rows are read.
        JournalError: a run holds the journal, or it is damaged.
    """
    if _is_journal(path):
        journal = Journal.open_existing(path, Access.READ)
        try:
            coverage = cover(journal.identity.region, journal.finished())
            yield Source(str(path), journal.record_batches(), coverage)
        finally:
            journal.close()
        return
    kind = _kind_of(path)
    with connect(MEMORY_LIMIT_MB, directory) as connection:
        connection.execute("SET TimeZone = 'UTC'")
        with _mapped(path):
            if kind is OutputFormat.SQLITE:
                connection.register("source", _read_sqlite(path))
            else:
                _view(connection, path, kind)
            columns = connection.sql("DESCRIBE SELECT * FROM source").fetchall()
            types = {str(name).lower(): str(kind) for name, kind, *_ in columns}
            _require_columns(path, types)
            is_safe = kind is OutputFormat.CSV and not csv_raw and not _is_raw(connection)
            values = [_value(field, types[field.name], is_safe=is_safe) for field in FIELDS]
            rows = connection.sql(f"SELECT {', '.join(values)} FROM source")  # noqa: S608 - own names
            reader = rows.to_arrow_reader(_STREAM_ROWS)
        yield Source(str(path), _checked(path, reader), None)


def _is_journal(path: Path) -> bool:
    """Whether a file is a journal by its beginning, or a database that can be nothing else."""
    try:
        if path.exists() and not path.is_file():
            raise UsageError(f"{path} is not a regular file.")
        with path.open("rb") as file:
            header = file.read(100)
    except OSError as error:
        raise UsageError(f"The file {path} cannot be read: {error.strerror}.") from None
    if not header.startswith(_SQLITE_MAGIC):
        return False
    if int.from_bytes(header[_APPLICATION_ID_AT], "big") == APPLICATION_ID:
        return True
    with contextlib.suppress(UsageError):
        return format_of(str(path)) is not OutputFormat.SQLITE
    return True


def _kind_of(path: Path) -> OutputFormat:
    try:
        return format_of(str(path))
    except UsageError:
        raise UsageError(
            f"The file {path} is neither a journal nor a published file, whose name ends in one "
            f"of {CHOICES}."
        ) from None


def _view(connection: duckdb.DuckDBPyConnection, path: Path, kind: OutputFormat) -> None:
    """Make the view `source` of a file's rows."""
    quoted = str(path).replace("'", "''")
    if kind is OutputFormat.DUCKDB:
        connection.execute(f"ATTACH '{quoted}' AS given (READ_ONLY)")
        read = f"given.{TABLE_NAME}"
    elif kind is OutputFormat.PARQUET:
        read = f"read_parquet('{quoted}')"
    elif kind is OutputFormat.JSONL:
        columns = ", ".join(f"{name}: 'VARCHAR'" for name in FIELD_NAMES)
        read = (
            f"read_json('{quoted}', format = 'newline_delimited', columns = {{{columns}}},"
            f" maximum_object_size = {_LONGEST_LINE_BYTES})"
        )
    else:
        columns = ", ".join(
            "'{}': 'VARCHAR'".format(name.replace("'", "''")) for name in _header(path)
        )
        read = (
            f"read_csv('{quoted}', auto_detect = false, header = true, delim = ',', quote = '\"',"
            f" escape = '\"', nullstr = '', allow_quoted_nulls = false, columns = {{{columns}}},"
            f" max_line_size = {_LONGEST_LINE_BYTES}, parallel = false)"
        )
    connection.execute(f"CREATE VIEW source AS SELECT * FROM {read}")  # noqa: S608 - quoted


def _header(path: Path) -> list[str]:
    """Return the column names of a CSV."""
    with path.open(encoding="utf-8-sig", newline="") as file:
        try:
            names = next(csv.reader(file), [])
        except (csv.Error, UnicodeDecodeError):
            names = []
    _require_columns(path, dict.fromkeys(names, ""))
    return names


def _require_columns(path: Path, names: dict[str, str]) -> None:
    missing = [name for name in FIELD_NAMES if name not in names]
    if missing:
        raise UsageError(
            f"The file {path} is not a published file of enrollments: it has no column "
            f"{', '.join(missing)}."
        )


def _read_sqlite(path: Path) -> pa.RecordBatchReader:
    """Read the table of an SQLite file as text."""
    schema = pa.schema([(name, pa.string()) for name in FIELD_NAMES])

    def read() -> Iterator[pa.RecordBatch]:
        uri = f"{path.resolve().as_uri()}?mode=ro"
        with contextlib.closing(sqlite3.connect(uri, uri=True, check_same_thread=False)) as file:
            columns = ", ".join(f"CAST({name} AS TEXT)" for name in FIELD_NAMES)
            cursor = file.execute(f"SELECT {columns} FROM {TABLE_NAME}")  # noqa: S608 - own names
            while rows := cursor.fetchmany(_STREAM_ROWS):
                arrays = [pa.array(values, pa.string()) for values in zip(*rows, strict=True)]
                yield pa.RecordBatch.from_arrays(arrays, schema=schema)

    with contextlib.closing(
        sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True)
    ) as file:
        found = file.execute("SELECT name FROM pragma_table_info(?)", (TABLE_NAME,)).fetchall()
    _require_columns(path, {str(name).lower(): "" for (name,) in found})
    return pa.RecordBatchReader.from_batches(schema, read())


def _is_raw(connection: duckdb.DuckDBPyConnection) -> bool:
    """Whether a cell of a CSV would be run by a spreadsheet, which publishing leaves only raw."""
    pattern = FORMULA.replace("^'*", "^")
    texts = [field.name for field in FIELDS if field.type is FieldType.TEXT]
    found = " OR ".join(f"regexp_matches({name}, '{pattern}')" for name in texts)
    ((count,),) = connection.sql(
        f"SELECT count(*) FROM (SELECT 1 FROM source WHERE {found} LIMIT 1)"  # noqa: S608 - own names
    ).fetchall()
    return bool(count)


def _value(field: Field, sql_type: str, *, is_safe: bool) -> str:
    """Return what is selected for a field, of whatever type the file has it."""
    name = field.name
    if field.type is FieldType.TIMESTAMP:
        if sql_type in {"VARCHAR", "TIMESTAMP WITH TIME ZONE"}:
            return f"CAST({name} AS TIMESTAMPTZ) AT TIME ZONE 'UTC' AS {name}"
        return f"CAST({name} AS TIMESTAMP) AS {name}"
    value = f"CAST({name} AS {_SQL_TYPES[field.type]})"
    if field.type is FieldType.TEXT and is_safe:
        # An apostrophe that publishing put before the cell, and none else.
        pattern = FORMULA.replace("^'*", "^''*").replace("'", "''")
        value = f"CASE WHEN regexp_matches({name}, '{pattern}') THEN {name}[2:] ELSE {name} END"
    return f"{value} AS {name}"


def _checked(path: Path, reader: pa.RecordBatchReader) -> Iterator[pa.RecordBatch]:
    """Read rows, and say in one sentence what cannot be read."""
    schema = naive_schema()
    with _mapped(path):
        for batch in reader:
            for field in FIELDS:
                if field.required and batch.column(field.name).null_count:
                    raise UsageError(f"The file {path} holds a row without {field.name}.")
            yield batch.cast(schema)


@contextlib.contextmanager
def _mapped(path: Path) -> Generator[None, None, None]:
    try:
        yield
    except (duckdb.InterruptException, duckdb.OutOfMemoryException):
        raise
    except (duckdb.Error, sqlite3.Error, pa.ArrowException, OSError, UnicodeDecodeError) as error:
        # What a stream of Arrow data raises comes as an OSError, with more lines than the reason.
        reason = str(error).splitlines()[0].rstrip(". ")
        raise UsageError(f"The file {path} cannot be read as enrollments: {reason}.") from None
