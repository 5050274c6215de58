"""CSV, JSONL and Parquet, written by DuckDB's COPY.

CSV is that of RFC 4180: commas, CRLF after every record, a cell in quotes where it holds a comma,
a quote or a line break, quotes doubled. A missing value is nothing, an empty text is `""`. Dates
and times are ISO 8601, times end in Z. A text cell that a spreadsheet would run as a formula gets
an apostrophe before it; cells that begin with apostrophes before such a sign are counted in, so
that taking one apostrophe from each cell that matches `^''*[=+-@…]` gives every cell back.
"""

from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa

from bulkfetch.export.formats import OutputFormat
from bulkfetch.export.sinks.sink import Publication
from bulkfetch.export.sorting import connect, naive_schema
from bulkfetch.record import FIELDS, FieldType

# What a spreadsheet may run: the signs, their full-width forms, and control characters that it
# skips.
FORMULA = "^'*[=+\\-@\\t\\r\\n\uff1d\uff0b\uff0d\uff20]"
FILE_OPTIONS = {
    OutputFormat.CSV: "FORMAT csv, HEADER true, DELIMITER ',', QUOTE '\"', ESCAPE '\"', "
    "NEW_LINE '\\r\\n'",
    OutputFormat.JSONL: "FORMAT json, ARRAY false",
    # DuckDB's own row groups: a scan of a million rows can use eight threads and skip by id.
    OutputFormat.PARQUET: "FORMAT parquet, COMPRESSION zstd, ROW_GROUP_SIZE 122880",
}


def copy(
    rows: Iterator[pa.RecordBatch],
    path: Path,
    publication: Publication,
    output_format: OutputFormat,
    *,
    csv_raw: bool,
) -> None:
    """Write rows to a file in their order; `csv_raw` leaves the text cells of CSV as they are."""
    columns = ", ".join(
        cell(field.name, field.type, output_format, csv_raw=csv_raw) for field in FIELDS
    )
    quoted = str(path).replace("'", "''")
    with (
        connect(publication.memory_limit_mb, publication.directory) as connection,
        publication.stopping.interrupting(connection.interrupt),
    ):
        connection.register("rows", pa.RecordBatchReader.from_batches(naive_schema(), rows))
        connection.execute(
            f"COPY (SELECT {columns} FROM rows) TO '{quoted}'"
            f" ({FILE_OPTIONS[output_format]}, USE_TMP_FILE false)"
        )


def cell(name: str, kind: FieldType, output_format: OutputFormat, *, csv_raw: bool) -> str:
    """Return what is selected for a column, in SQL, so that the file holds what it should."""
    if kind is FieldType.TIMESTAMP:
        if output_format is OutputFormat.PARQUET:
            return f"{name} AT TIME ZONE 'UTC' AS {name}"
        return f"strftime({name}, '%Y-%m-%dT%H:%M:%SZ') AS {name}"
    if kind is FieldType.TEXT and output_format is OutputFormat.CSV and not csv_raw:
        pattern = FORMULA.replace("'", "''")
        return (
            f"CASE WHEN regexp_matches({name}, '{pattern}') "
            f"THEN '''' || {name} ELSE {name} END AS {name}"
        )
    return name
