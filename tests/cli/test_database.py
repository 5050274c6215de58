"""The command line with a database as its output."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import adbc_driver_postgresql.dbapi
import pytest

from bulkfetch.record import Enrollment

Bulkfetch = Callable[..., subprocess.CompletedProcess[bytes]]
Serve = Callable[..., Any]
Database = Any
JOURNAL = "enrollments.postgresql.bulkfetch"


def expected(place: Any) -> list[Enrollment]:
    return sorted(place.account.enrollments())


def test_an_export_fills_a_table_and_the_second_run_makes_no_call_and_no_change(
    bulkfetch: Bulkfetch, serve: Serve, database: Database
) -> None:
    place = serve("flaky")
    first = bulkfetch(*place.export("--attempts", "9", output=database.url))
    assert first.returncode == 0, first.stderr
    assert database.rows() == expected(place)
    assert b"5,000 inserted, 0 updated" in first.stderr
    assert (place.directory / JOURNAL).exists()
    calls = len(place.simulator.ledger.calls)
    again = bulkfetch(*place.export(output=database.url))
    assert (again.returncode, len(place.simulator.ledger.calls)) == (0, calls)
    assert b"0 inserted, 0 updated" in again.stderr


def test_a_file_and_a_table_come_from_one_journal(
    bulkfetch: Bulkfetch, serve: Serve, database: Database
) -> None:
    place = serve()
    assert bulkfetch(*place.export()).returncode == 0
    database.query(
        "CREATE TABLE enrollments (enrollment_id text PRIMARY KEY, course_id text, learner_id text,"
        " access_date date, due_date date, expiration_date date,"
        " should_lock_after_due_date boolean, enrollment_type_group smallint,"
        " issued_certificate_id text, cert_issue_date timestamptz, cert_expiry_date timestamptz)"
    )
    learner, course = place.account.learner_ids[0], place.account.course_ids[0]
    database.query(f"INSERT INTO enrollments VALUES ('left', '{course}', '{learner}')")
    database.query(f"INSERT INTO enrollments VALUES ('elsewhere', '{course}', 'another')")
    result = bulkfetch(
        *("publish", "o.csv.bulkfetch", "-o", database.url, "--gone", "mark"),
    )
    assert result.returncode == 0, result.stderr
    assert b"5,000 inserted, 0 updated, 1 gone" in result.stderr
    assert b"postgres:@" not in result.stderr
    assert database.query("SELECT enrollment_id FROM enrollments WHERE gone_at IS NOT NULL") == [
        ("left",)
    ]
    result = bulkfetch("publish", "o.csv.bulkfetch", "-o", database.url, "--gone", "delete")
    assert b"0 inserted, 0 updated, 1 gone" in result.stderr
    assert database.query("SELECT count(*) FROM enrollments") == [(5_001,)]


def test_a_database_that_is_down_is_exit_7_before_any_call(
    bulkfetch: Bulkfetch, serve: Serve
) -> None:
    place = serve()
    url = "postgresql://me:@127.0.0.1:9/lms?schema=x"
    result = bulkfetch(*place.export(output=url))
    assert (result.returncode, len(place.simulator.ledger.calls)) == (7, 0)
    lines = result.stderr.decode().strip().splitlines()
    assert lines[-3].startswith(
        "The database postgresql://127.0.0.1:9/lms?schema=x cannot be reached: "
    )
    assert lines[-3].endswith("Connection refused.")
    assert lines[-1].strip().startswith("bulkfetch export --url")
    assert not (place.directory / JOURNAL).exists()


def test_a_table_that_is_not_ours_is_exit_7_before_any_call(
    bulkfetch: Bulkfetch, serve: Serve, database: Database
) -> None:
    place = serve()
    database.query("CREATE TABLE enrollments (enrollment_id int PRIMARY KEY, course_id text)")
    result = bulkfetch(*place.export(output=database.url))
    assert (result.returncode, len(place.simulator.ledger.calls)) == (7, 0)
    assert b"enrollment_id is integer, not text; it has no column learner_id" in result.stderr


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://me:s3cr3t@127.0.0.1:9/lms",
        "postgres://127.0.0.1:9/lms?user=me&password=s3cr3t",
        "postgresql+psycopg://me:s3cr3t@127.0.0.1/lms",
        "POSTGRES://me:s3cr3t@127.0.0.1/lms",
    ],
)
def test_a_password_in_the_url_is_refused_and_not_repeated(
    bulkfetch: Bulkfetch, serve: Serve, url: str
) -> None:
    place = serve()
    for arguments in (place.export("--report", "r.json", output=url), ["publish", "j", "-o", url]):
        result = bulkfetch(*arguments)
        assert (result.returncode, len(place.simulator.ledger.calls)) == (2, 0)
        assert b"s3cr3t" not in result.stdout + result.stderr
    assert [path.name for path in place.directory.iterdir() if "s3cr3t" in path.name] == []


@pytest.mark.parametrize("output", ["o.csv", "-", "o.sqlite"])
def test_gone_goes_with_a_database_only(bulkfetch: Bulkfetch, serve: Serve, output: str) -> None:
    place = serve()
    result = bulkfetch(*place.export("--gone", "delete", output=output))
    assert (result.returncode, len(place.simulator.ledger.calls)) == (2, 0)
    assert b"--gone goes with a database" in result.stderr


def test_what_is_not_complete_is_added_only_if_asked_for_and_proves_nothing_gone(
    bulkfetch: Bulkfetch, serve: Serve, database: Database
) -> None:
    place = serve()
    bad = place.account.learner_ids[17]
    place = serve({"name": "poison", "permanent": {"poison_learners": [bad]}})
    assert bulkfetch("export", *place.export()[1:], "--partial").returncode == 3
    assert bulkfetch("publish", "o.csv.bulkfetch", "-o", database.url).returncode == 3
    assert database.query("SELECT to_regclass('enrollments') IS NULL") == [(True,)]
    publish = ("publish", "o.csv.bulkfetch", "-o", database.url, "--partial", "--gone", "delete")
    assert bulkfetch(*publish).returncode == 3
    rows = [row for row in expected(place) if row.learner_id != bad]
    assert database.rows() == rows
    course, other = place.account.course_ids[0], place.account.learner_ids[18]
    for number, learner in enumerate((bad, other)):
        database.query(f"INSERT INTO enrollments VALUES ('0{number}', '{course}', '{learner}')")
    assert b"1 gone" in bulkfetch(*publish).stderr
    assert [row[0] for row in database.rows()] == ["00", *(row.enrollment_id for row in rows)]


class Blocked:
    """The command, waiting for a lock on the table; it has copied its rows by then."""

    def __init__(self, place: Any, database: Database, *arguments: str) -> None:
        self.other = adbc_driver_postgresql.dbapi.connect(database.url)
        with self.other.cursor() as cursor:
            cursor.execute("LOCK TABLE enrollments")
        self.process = subprocess.Popen(
            [sys.executable, "-m", "bulkfetch", *place.export(*arguments, output=database.url)],
            cwd=place.directory,
            stderr=subprocess.PIPE,
        )
        waiting = (
            "SELECT count(*) FROM pg_locks WHERE NOT granted AND mode = 'ShareRowExclusiveLock'"
        )
        deadline = time.monotonic() + 60
        while database.query(waiting) == [(0,)]:
            assert time.monotonic() < deadline
            time.sleep(0.05)

    def end(self) -> tuple[int, str]:
        _, stderr = self.process.communicate(timeout=30)
        return self.process.returncode, stderr.decode()

    def release(self) -> None:
        """Let go of the lock, if there is still a server to tell."""
        with contextlib.suppress(adbc_driver_postgresql.dbapi.Error):
            self.other.close()


def test_a_server_killed_at_the_end_is_exit_7_and_the_same_command_goes_on_without_a_call(
    bulkfetch: Bulkfetch, serve: Serve, database: Database
) -> None:
    place = serve()
    assert bulkfetch(*place.export(output=database.url)).returncode == 0
    database.query("DELETE FROM enrollments WHERE enrollment_id < '8'")
    left = database.rows()
    calls = len(place.simulator.ledger.calls)
    blocked = Blocked(place, database)
    database.server.kill()
    code, stderr = blocked.end()
    blocked.release()
    database.server.start()
    assert code == 7, stderr
    lines = stderr.strip().splitlines()
    assert "failed: " in lines[-3]
    assert lines[-1].strip().startswith("bulkfetch export --url")
    assert database.rows() == left
    assert bulkfetch(*place.export(output=database.url)).returncode == 0
    assert database.rows() == expected(place)
    assert len(place.simulator.ledger.calls) == calls


def test_a_signal_ends_it_soon_though_it_waits_for_the_server(
    bulkfetch: Bulkfetch, serve: Serve, database: Database
) -> None:
    place = serve()
    assert bulkfetch(*place.export(output=database.url)).returncode == 0
    database.query("DELETE FROM enrollments")
    blocked = Blocked(place, database)
    started = time.monotonic()
    os.kill(blocked.process.pid, signal.SIGTERM)
    code, stderr = blocked.end()
    assert (code, time.monotonic() - started < 2) == (143, True)
    assert stderr.strip().splitlines()[-1].strip().startswith("bulkfetch export --url")
    blocked.release()
    assert database.rows() == []
    assert bulkfetch(*place.export(output=database.url)).returncode == 0
    assert database.rows() == expected(place)
