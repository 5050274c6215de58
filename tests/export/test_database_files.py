"""DuckDB and SQLite files, read with their own libraries."""

import contextlib
import random
import sqlite3
from collections.abc import Callable
from datetime import UTC, date, datetime
from pathlib import Path

import duckdb
import pytest

from bulkfetch.export.formats import OutputFormat
from bulkfetch.export.journal import FinishedBatch, Journal, JournalIdentity
from bulkfetch.export.publish import publish
from bulkfetch.export.sinks.files import FileSink
from bulkfetch.record import FIELD_NAMES, Enrollment

Enrollments = Callable[[int], list[Enrollment]]
Finished = Callable[..., FinishedBatch]

ODD = Enrollment(
    "e'1", 'c\n"', "ł\u2028🎓", date(1, 2, 3), date(9999, 12, 31), date(2022, 8, 2), False, -128,
    "=cmd", datetime(1, 2, 3, 4, 5, 6, tzinfo=UTC), datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC),
)  # fmt: skip


def read_duckdb(path: Path, query: str = "FROM enrollments ORDER BY enrollment_id") -> list[object]:
    with duckdb.connect(str(path), read_only=True) as connection:
        connection.execute("SET TimeZone = 'UTC'")
        rows = connection.sql(query).to_arrow_table().to_pylist()
    return [tuple(row.values()) for row in rows]


def read_sqlite(path: Path, query: str = "SELECT * FROM enrollments") -> list[object]:
    with contextlib.closing(sqlite3.connect(path)) as connection:
        return connection.execute(query).fetchall()


def as_sqlite(row: Enrollment) -> tuple[object, ...]:
    return tuple(
        value.strftime("%Y-%m-%dT%H:%M:%SZ").rjust(20, "0")
        if isinstance(value, datetime)
        else str(value)
        if isinstance(value, date)
        else value
        for value in row
    )


def test_duckdb_holds_every_row_typed(
    journal: Journal, enrollments: Enrollments, finished: Finished, tmp_path: Path
) -> None:
    rows = [*enrollments(300), ODD]
    journal.commit(finished(rows))
    published = publish(journal, FileSink(tmp_path / "o.duckdb", OutputFormat.DUCKDB))
    assert read_duckdb(tmp_path / "o.duckdb") == sorted(rows)
    columns = read_duckdb(
        tmp_path / "o.duckdb",
        "SELECT column_name, data_type, is_nullable FROM information_schema.columns",
    )
    assert columns == [
        ("enrollment_id", "VARCHAR", "NO"), ("course_id", "VARCHAR", "NO"),
        ("learner_id", "VARCHAR", "NO"), ("access_date", "DATE", "YES"),
        ("due_date", "DATE", "YES"), ("expiration_date", "DATE", "YES"),
        ("should_lock_after_due_date", "BOOLEAN", "YES"),
        ("enrollment_type_group", "TINYINT", "YES"), ("issued_certificate_id", "VARCHAR", "YES"),
        ("cert_issue_date", "TIMESTAMP WITH TIME ZONE", "YES"),
        ("cert_expiry_date", "TIMESTAMP WITH TIME ZONE", "YES"),
    ]  # fmt: skip
    assert published.bytes_written == (tmp_path / "o.duckdb").stat().st_size


def test_sqlite_holds_every_row_with_iso_text_and_0_and_1(
    journal: Journal, enrollments: Enrollments, finished: Finished, tmp_path: Path
) -> None:
    rows = [*enrollments(300), ODD]
    journal.commit(finished(rows))
    publish(journal, FileSink(tmp_path / "o.sqlite", OutputFormat.SQLITE))
    assert read_sqlite(tmp_path / "o.sqlite") == [as_sqlite(row) for row in sorted(rows)]
    columns = read_sqlite(
        tmp_path / "o.sqlite", "SELECT name FROM pragma_table_info('enrollments')"
    )
    assert columns == [(name,) for name in FIELD_NAMES]
    certified = sum(
        row.cert_issue_date is not None and row.cert_issue_date.year > 1900 for row in rows
    )
    asked = "SELECT count(*) FROM enrollments WHERE julianday(cert_issue_date) > 2415020"
    assert read_sqlite(tmp_path / "o.sqlite", asked) == [(certified,)]
    assert read_sqlite(tmp_path / "o.sqlite", "PRAGMA integrity_check") == [("ok",)]


@pytest.mark.parametrize(
    ("output_format", "read"),
    [(OutputFormat.DUCKDB, read_duckdb), (OutputFormat.SQLITE, read_sqlite)],
    ids=["duckdb", "sqlite"],
)
def test_the_rows_do_not_depend_on_the_order_of_arrival(
    identity: JournalIdentity,
    enrollments: Enrollments,
    finished: Finished,
    tmp_path: Path,
    output_format: OutputFormat,
    read: Callable[[Path], list[object]],
) -> None:
    """Nor on what the file held before."""
    rows = enrollments(500)
    rows += [rows[5], rows[7]._replace(due_date=date(2030, 1, 1))]
    target = tmp_path / "o"
    outputs = []
    for seed in range(2):
        random.Random(seed).shuffle(rows)
        journal = Journal.open(tmp_path / f"j{seed}", identity, now=0.0)
        journal.commit(finished(rows[:200]))
        journal.commit(finished(rows[200:]))
        published = publish(journal, FileSink(target, output_format))
        journal.close()
        assert (published.rows, published.duplicates, published.conflict_count) == (500, 1, 1)
        outputs.append(read(target))
    assert outputs[0] == outputs[1]
    assert len(outputs[0]) == 500
