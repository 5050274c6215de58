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
_FORMULA = "^'*[=+\\-@\\t\\r\\n\uff1d\uff0b\uff0d\uff20]"
_OPTIONS = {
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
    columns = ", ".join(_expression(output_format, csv_raw=csv_raw))
    quoted = str(path).replace("'", "''")
    with (
        connect(publication.memory_limit_mb, publication.directory) as connection,
        publication.stopping.interrupting(connection.interrupt),
    ):
        connection.register("rows", pa.RecordBatchReader.from_batches(naive_schema(), rows))
        connection.execute(
            f"COPY (SELECT {columns} FROM rows) TO '{quoted}'"
            f" ({_OPTIONS[output_format]}, USE_TMP_FILE false)"
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
