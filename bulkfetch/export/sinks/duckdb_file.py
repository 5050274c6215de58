"""A DuckDB file with one table.

The table has no primary key: its index would have to fit into memory, and every id stands once in
sorted order anyway, so that DuckDB finds it by the ranges of its row groups.
"""

from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa

from bulkfetch.export.atomic import private_directory
from bulkfetch.export.sinks.sink import Publication
from bulkfetch.export.sorting import connect, naive_schema
from bulkfetch.record import FIELDS, TABLE_NAME, FieldType

_TYPES = {
    FieldType.TEXT: "VARCHAR",
    FieldType.DATE: "DATE",
    FieldType.BOOL: "BOOLEAN",
    FieldType.INT8: "TINYINT",
    FieldType.TIMESTAMP: "TIMESTAMPTZ",
}


def write_duckdb(rows: Iterator[pa.RecordBatch], path: Path, publication: Publication) -> None:
    """Write rows to a file, which is there and empty, as a database."""
    columns = ", ".join(
        f"{field.name} {_TYPES[field.type]}{' NOT NULL' if field.required else ''}"
        for field in FIELDS
    )
    values = ", ".join(
        f"{field.name} AT TIME ZONE 'UTC'" if field.type is FieldType.TIMESTAMP else field.name
        for field in FIELDS
    )
    # DuckDB refuses an empty file, and would make its own readable by others.
    with private_directory(path.with_name(f"{path.name}.d")) as private:
        database = private / "database"
        quoted = str(database).replace("'", "''")
        with (
            # Half of it is full after a million rows already, so that the peak is the same for
            # any number (measured: 361 MB for 1 M rows, 366 MB for 3 M; 376 and 430 with all).
            connect(publication.memory_limit_mb // 2, publication.directory) as connection,
            publication.stopping.interrupting(connection.interrupt),
        ):
            connection.register("rows", pa.RecordBatchReader.from_batches(naive_schema(), rows))
            connection.execute(f"ATTACH '{quoted}' AS target")
            connection.execute(f"CREATE TABLE target.{TABLE_NAME} ({columns})")
            connection.execute(f"INSERT INTO target.{TABLE_NAME} SELECT {values} FROM rows")
            connection.execute("DETACH target")  # writes the log into the file
        database.chmod(0o600)
        database.replace(path)
