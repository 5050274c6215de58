"""The table in a real PostgreSQL."""

import dataclasses
import sys
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import adbc_driver_postgresql.dbapi
import pyarrow as pa
import pytest

from bulkfetch.errors import SinkError, UsageError
from bulkfetch.export.journal import FinishedBatch, Journal, JournalIdentity
from bulkfetch.export.publish import Published, publish
from bulkfetch.export.sinks.postgres import Gone
from bulkfetch.export.sinks.postgres.sink import PostgresSink
from bulkfetch.export.sinks.postgres.url import parse_url
from bulkfetch.export.sinks.sink import Publication, Written
from bulkfetch.export.stopping import PublishingStopped
from bulkfetch.record import FIELD_NAMES, Enrollment

Enrollments = Callable[[int], list[Enrollment]]
Finished = Callable[..., FinishedBatch]
Database = Any

ODD = Enrollment(
    "e'1", 'c\n"', "ł\u2028🎓", date(1, 2, 3), date(9999, 12, 31), date(2022, 8, 2), False, -128,
    "\\N", datetime(1, 2, 3, 4, 5, 6, tzinfo=UTC), datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC),
)  # fmt: skip
COLUMNS = [
    ("enrollment_id", "text", "NO"), ("course_id", "text", "NO"), ("learner_id", "text", "NO"),
    ("access_date", "date", "YES"), ("due_date", "date", "YES"), ("expiration_date", "date", "YES"),
    ("should_lock_after_due_date", "boolean", "YES"), ("enrollment_type_group", "smallint", "YES"),
    ("issued_certificate_id", "text", "YES"),
    ("cert_issue_date", "timestamp with time zone", "YES"),
    ("cert_expiry_date", "timestamp with time zone", "YES"),
]  # fmt: skip


def sink(database: Database, parameters: str = "", gone: Gone = Gone.KEEP) -> PostgresSink:
    return PostgresSink(parse_url(database.url + parameters), gone)


def load(
    path: Path, batches: list[FinishedBatch], identity: JournalIdentity, target: PostgresSink
) -> Published:
    """Publish a journal of these batches."""
    journal = Journal.open(path, identity, now=0.0, restart=True)
    try:
        for batch in batches:
            journal.commit(batch)
        return publish(journal, target)
    finally:
        journal.close()


def versions(database: Database) -> list[tuple[Any, ...]]:
    """Where and by whom each row was written: it changes with any write to it."""
    return list(
        database.query(
            "SELECT enrollment_id, ctid::text, xmin::text, xmax::text FROM enrollments ORDER BY 1"
        )
    )


def test_a_table_is_made_on_first_use_and_holds_every_value(
    journal: Journal, enrollments: Enrollments, finished: Finished, database: Database
) -> None:
    rows = [*enrollments(300), ODD]
    journal.commit(finished(rows[:100]))
    journal.commit(finished(rows[100:]))
    sink(database).check()
    assert database.query("SELECT to_regclass('enrollments') IS NULL") == [(True,)]
    published = publish(journal, sink(database))
    assert published.changes == {"inserted": 301, "updated": 0}
    assert database.rows() == sorted(rows)
    columns = database.query(
        "SELECT column_name::text, data_type::text, is_nullable::text"
        " FROM information_schema.columns"
        " WHERE table_name = 'enrollments' AND table_schema = current_schema()"
        " ORDER BY ordinal_position"
    )
    assert columns == COLUMNS
    key = database.query(
        "SELECT pg_get_constraintdef(oid) FROM pg_constraint WHERE contype = 'p'"
        " AND conrelid = 'enrollments'::regclass"
    )
    assert key == [("PRIMARY KEY (enrollment_id)",)]


def test_the_second_time_changes_nothing(
    journal: Journal, enrollments: Enrollments, finished: Finished, database: Database
) -> None:
    journal.commit(finished(enrollments(300)))
    publish(journal, sink(database))
    before = versions(database)
    sink(database).check()
    assert publish(journal, sink(database)).changes == {"inserted": 0, "updated": 0}
    assert versions(database) == before


def test_only_rows_that_changed_are_updated(
    enrollments: Enrollments,
    finished: Finished,
    identity: JournalIdentity,
    database: Database,
    tmp_path: Path,
) -> None:
    rows = enrollments(100)
    load(tmp_path / "j", [finished(rows)], identity, sink(database))
    before = versions(database)
    changed = {
        rows[3].enrollment_id: rows[3]._replace(due_date=date(2031, 1, 1)),
        rows[4].enrollment_id: rows[4]._replace(access_date=None),
        rows[5].enrollment_id: rows[5]._replace(learner_id="another"),
    }
    now = [changed.get(row.enrollment_id, row) for row in rows] + enrollments(101)[100:]
    published = load(tmp_path / "j", [finished(now)], identity, sink(database))
    assert published.changes == {"inserted": 1, "updated": 3}
    assert database.rows() == sorted(now)
    kept = [row for row in before if row[0] not in changed]
    assert [row for row in versions(database) if row in before] == kept


def test_one_id_in_two_batches_is_one_row_whatever_the_order(
    enrollments: Enrollments,
    finished: Finished,
    identity: JournalIdentity,
    database: Database,
    tmp_path: Path,
) -> None:
    rows = enrollments(20)
    other = rows[7]._replace(due_date=date(2030, 1, 1))
    batches = [finished(rows), finished([rows[5], other])]
    for order in (batches, batches[::-1]):
        published = load(tmp_path / "j", order, identity, sink(database))
        assert (published.rows, published.duplicates, published.conflict_count) == (20, 1, 1)
        assert len(database.rows()) == 20
    assert published.changes == {"inserted": 0, "updated": 0}


@pytest.mark.parametrize(
    ("change", "difference"),
    [
        ("DROP COLUMN due_date", r"it has no column due_date \(date\)"),
        ("ALTER enrollment_type_group TYPE text", "enrollment_type_group is text, not smallint"),
        ("ALTER cert_issue_date TYPE timestamp", "cert_issue_date is timestamp without time zone"),
        ("ALTER course_id TYPE varchar(36)", r"course_id is character varying\(36\), not text"),
        ("DROP CONSTRAINT enrollments_pkey", "enrollment_id has no primary key"),
        ("ALTER due_date SET NOT NULL", "due_date does not allow NULL"),
        ("ADD tenant int NOT NULL", "tenant needs a value"),
        ("ADD gone_at text", "gone_at is not a timestamp"),
        (
            "DROP due_date, ADD due_date date GENERATED ALWAYS AS (access_date) STORED",
            "due_date is generated by the server",
        ),
    ],
)
def test_another_table_is_refused_by_what_differs_and_left_alone(
    enrollments: Enrollments,
    finished: Finished,
    identity: JournalIdentity,
    database: Database,
    tmp_path: Path,
    change: str,
    difference: str,
) -> None:
    load(tmp_path / "j", [], identity, sink(database))
    database.query(f"ALTER TABLE enrollments {change}")
    for attempt in (
        lambda: sink(database).check(),
        lambda: load(tmp_path / "j", [finished(enrollments(3))], identity, sink(database)),
    ):
        with pytest.raises(SinkError, match=difference):
            attempt()
    assert database.rows() == []


def test_a_partitioned_table_without_a_partition_is_refused(database: Database) -> None:
    columns = ", ".join(f"{name} {kind}" for name, kind, _ in COLUMNS)
    database.query(
        f"CREATE TABLE enrollments ({columns}, PRIMARY KEY (enrollment_id))"
        " PARTITION BY HASH (enrollment_id)"
    )
    with pytest.raises(SinkError, match="it is partitioned and has no partition"):
        sink(database).check()


def test_columns_of_ones_own_are_welcome(
    journal: Journal, enrollments: Enrollments, finished: Finished, database: Database
) -> None:
    publish(journal, sink(database))
    database.query("ALTER TABLE enrollments ADD note text, ADD seen timestamptz DEFAULT now()")
    database.query("ALTER TABLE enrollments DROP note")
    journal.commit(finished(enrollments(3)))
    publish(journal, sink(database))
    names = ", ".join(FIELD_NAMES)
    assert database.query(f"SELECT {names} FROM enrollments ORDER BY 1") == sorted(enrollments(3))


def test_a_view_is_not_a_table(database: Database) -> None:
    database.query("CREATE VIEW enrollments AS SELECT 1 AS enrollment_id")
    with pytest.raises(SinkError, match="is not a table"):
        sink(database).check()


def test_the_url_chooses_the_schema(
    journal: Journal, enrollments: Enrollments, finished: Finished, database: Database
) -> None:
    journal.commit(finished(enrollments(5)))
    chosen = sink(database, "&schema=%C3%9Cber%20%22x%22")
    with pytest.raises(SinkError, match=r"The schema 'Über \"x\"' does not exist"):
        chosen.check()
    database.query('CREATE SCHEMA "Über ""x"""')
    database.query(f"CREATE ROLE stranger_to_{database.schema} LOGIN")
    stranger = database.url.replace("postgres:@", f"stranger_to_{database.schema}@")
    with pytest.raises(SinkError, match="lacks USAGE on the schema"):
        PostgresSink(parse_url(stranger + "&schema=%C3%9Cber%20%22x%22")).check()
    chosen.check()
    assert publish(journal, chosen).changes == {"inserted": 5, "updated": 0}
    assert database.rows('"Über ""x""".enrollments') == sorted(enrollments(5))
    assert database.query("SELECT to_regclass('enrollments') IS NULL") == [(True,)]


@pytest.mark.parametrize(
    ("statements", "sentence"),
    [
        (["GRANT SELECT ON enrollments TO {role}"], "lacks INSERT, UPDATE on the table"),
        (["DROP TABLE enrollments"], "has no table enrollments, and this user may not create"),
        (["REVOKE USAGE ON SCHEMA {schema} FROM {role}"], "No schema of the search path"),
        (["ALTER ROLE {role} SET default_transaction_read_only = on"], "is read-only"),
        (["GRANT SELECT, INSERT, UPDATE ON enrollments TO {role}"], "only its owner can add it"),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
def test_what_a_user_may_not_do_is_known_before_the_first_call(
    journal: Journal, database: Database, statements: list[str], sentence: str
) -> None:
    publish(journal, sink(database))
    role = f"role_{database.schema}"
    first = [f"CREATE ROLE {role} LOGIN", f"GRANT USAGE ON SCHEMA {database.schema} TO {role}"]
    for statement in [*first, *statements]:
        database.query(statement.format(role=role, schema=database.schema))
    url = database.url.replace("postgres:@", f"{role}@")
    with pytest.raises(SinkError, match=sentence):
        PostgresSink(parse_url(url), Gone.MARK).check()


def test_text_is_utf_8_whatever_the_encoding_of_the_database(
    journal: Journal, finished: Finished, postgres_server: Any
) -> None:
    database = postgres_server.create_database("ENCODING 'LATIN1' LOCALE 'C' TEMPLATE template0")
    journal.commit(finished([Enrollment("e1", "Übung", "René")]))
    publish(journal, sink(database))
    assert database.query("SELECT course_id, learner_id FROM enrollments") == [("Übung", "René")]
    journal.commit(finished([Enrollment("e2", "🎓", "l")]))
    with pytest.raises(SinkError, match="no equivalent in encoding"):
        publish(journal, sink(database))
    assert len(database.rows()) == 1


def test_settings_of_a_role_that_would_stop_a_load_do_not(
    journal: Journal, enrollments: Enrollments, finished: Finished, database: Database
) -> None:
    role = f"role_{database.schema}"
    for statement in (
        f"CREATE ROLE {role} LOGIN",
        f"GRANT ALL ON SCHEMA {database.schema} TO {role}",
        f"ALTER ROLE {role} SET statement_timeout = '100ms'",
        f"ALTER ROLE {role} SET default_transaction_isolation = 'serializable'",
    ):
        database.query(statement)
    journal.commit(finished(enrollments(20_000)))
    target = PostgresSink(parse_url(database.url.replace("postgres:@", f"{role}@")))
    slow = Interfering(target, lambda: time.sleep(0.3))
    assert publish(journal, slow).changes == {"inserted": 20_000, "updated": 0}


def test_a_nul_which_no_text_of_postgresql_can_hold_is_one_sentence(
    journal: Journal, enrollments: Enrollments, finished: Finished, database: Database
) -> None:
    """XML cannot carry one, so that no answer brings one here; nor does it cut a text short."""
    publish(journal, sink(database))
    journal.commit(finished([*enrollments(3), Enrollment("e", "a\0b", "l")]))
    with pytest.raises(SinkError, match="invalid byte sequence"):
        publish(journal, sink(database))
    assert database.rows() == []


def test_a_missing_driver_is_said_by_name(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "adbc_driver_postgresql", None)
    with pytest.raises(UsageError, match=r"pip install 'bulkfetch\[postgres\]'"):
        sink(database).check()


def test_what_libpq_does_not_understand_is_a_usage_error(database: Database) -> None:
    with pytest.raises(UsageError, match="invalid URI query parameter"):
        sink(database, "&colour=red").check()


def test_a_password_comes_from_the_environment_and_is_not_shown(
    postgres_server: Any, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    access = postgres_server.data / "pg_hba.conf"
    before = access.read_text()
    database.query("CREATE ROLE locked LOGIN PASSWORD 's3cr3t-enough'")
    database.query("CREATE SCHEMA own AUTHORIZATION locked")
    access.write_text("local all locked scram-sha-256\n" + before)
    try:
        database.query("SELECT pg_reload_conf()")
        url = parse_url(database.url.replace("postgres:@", "locked@") + "&schema=own")
        monkeypatch.setenv("PGPASSWORD", "s3cr3t-wrong")
        with pytest.raises(SinkError, match="password authentication failed") as caught:
            PostgresSink(url).check()
        assert "s3cr3t" not in str(caught.value)
        monkeypatch.setenv("PGPASSWORD", "s3cr3t-enough")
        PostgresSink(url).check()
    finally:
        access.write_text(before)
        database.query("SELECT pg_reload_conf()")


@dataclasses.dataclass(frozen=True)
class Interfering:
    """A sink whose rows, after the first of them, come only when something has happened."""

    inner: PostgresSink
    happens: Callable[[], None]
    name: str = "interfering"

    def check(self) -> None:
        self.inner.check()

    def partial(self) -> "Interfering":
        return self

    def write(self, rows: Iterator[pa.RecordBatch], publication: Publication) -> Written:
        def interfered() -> Iterator[pa.RecordBatch]:
            yield next(rows)
            self.happens()
            yield from rows

        return self.inner.write(interfered(), publication)


def copies_under_way(database: Database) -> list[int]:
    return [
        pid
        for (pid,) in database.query(
            "SELECT pid FROM pg_stat_activity WHERE application_name = 'bulkfetch'"
            " AND query LIKE 'COPY%'"
        )
    ]


def test_a_server_killed_in_mid_copy_has_the_same_rows_when_it_is_back(
    journal: Journal, enrollments: Enrollments, finished: Finished, database: Database
) -> None:
    rows = enrollments(20_000)
    journal.commit(finished(rows[:2_000]))
    publish(journal, sink(database))
    journal.commit(finished(rows[2_000:]))

    def kill() -> None:
        assert len(copies_under_way(database)) == 1
        database.server.kill()

    with pytest.raises(SinkError, match=r"The database .* failed: "):
        publish(journal, Interfering(sink(database), kill))
    with pytest.raises(SinkError, match=r"The database .* cannot be reached: "):
        publish(journal, sink(database))
    database.server.start()
    assert database.rows() == sorted(rows[:2_000])
    assert publish(journal, sink(database)).changes == {"inserted": 18_000, "updated": 0}
    assert database.rows() == sorted(rows)


def test_a_connection_ended_in_mid_copy_leaves_the_table_as_it_was(
    journal: Journal, enrollments: Enrollments, finished: Finished, database: Database
) -> None:
    journal.commit(finished(enrollments(20_000)))

    def terminate() -> None:
        (pid,) = copies_under_way(database)
        database.query(f"SELECT pg_terminate_backend({pid})")

    with pytest.raises(SinkError, match=r"The database .* failed: "):
        publish(journal, Interfering(sink(database), terminate))
    assert database.query("SELECT to_regclass('enrollments') IS NULL") == [(True,)]
    assert publish(journal, sink(database)).changes == {"inserted": 20_000, "updated": 0}


def test_it_stops_soon_even_where_it_waits_for_a_lock(
    journal: Journal, enrollments: Enrollments, finished: Finished, database: Database
) -> None:
    publish(journal, sink(database))
    journal.commit(finished(enrollments(10)))
    stopped_at: list[float] = []

    def stop_when_it_waits() -> None:
        waiting = "SELECT count(*) FROM pg_locks WHERE NOT granted"
        while database.query(waiting) == [(0,)]:
            time.sleep(0.05)
        stopped_at.append(time.monotonic())

    with (
        adbc_driver_postgresql.dbapi.connect(database.url) as other,
        other.cursor() as cursor,
    ):
        cursor.execute("LOCK TABLE enrollments")
        watcher = threading.Thread(target=stop_when_it_waits)
        watcher.start()
        with pytest.raises(PublishingStopped):
            publish(journal, sink(database), should_stop=lambda: bool(stopped_at))
        assert time.monotonic() - stopped_at[0] < 2
        watcher.join()
    assert database.rows() == []
