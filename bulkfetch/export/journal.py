"""The journal: every finished batch, in one SQLite file that survives being killed.

WAL and synchronous=FULL, one transaction a batch: rows (Arrow IPC, zstd) beside the rectangle that
they answer, with a checksum over all of it. kill -9 in a loop tore none of 60 such files, where
JSON checkpoints tore 50. The file's inputs are part of it: a run with other ids or another endpoint
is refused, one with another token or batch size is not. The checksums are verified when the journal
is opened, because damage that is found only on publishing is found after an hour of fetching.

Methods block, and are called by one thread at a time.
"""

import contextlib
import hashlib
import json
import os
import sqlite3
import struct
import zlib
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from bulkfetch.errors import (
    Anomaly,
    FailedIds,
    JournalError,
    SinkError,
    UsageError,
)
from bulkfetch.export.database import (
    APPLICATION_ID,
    START_ANEW,
    DamagedJournalError,
    checkpoint,
    connect,
    discard,
    is_blank,
    mapped,
    pragma,
)
from bulkfetch.export.lock import JournalLock
from bulkfetch.plan.rectangle import Axis, Rectangle, Side
from bulkfetch.record import arrow_schema

_VERSION = 1
_SCHEMA = """
CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE side (id INTEGER PRIMARY KEY, digest BLOB NOT NULL UNIQUE, ids BLOB NOT NULL);
CREATE TABLE batch (
  id INTEGER PRIMARY KEY,
  learners INTEGER REFERENCES side, courses INTEGER REFERENCES side,
  row_count INTEGER NOT NULL, surplus INTEGER NOT NULL, attempts INTEGER NOT NULL,
  started_at REAL NOT NULL, ended_at REAL NOT NULL,
  wire_bytes INTEGER NOT NULL, body_bytes INTEGER NOT NULL,
  arrow BLOB NOT NULL, checksum INTEGER NOT NULL
);
CREATE TABLE anomaly (batch INTEGER NOT NULL REFERENCES batch,
  enrollment_id TEXT NOT NULL, field TEXT NOT NULL, raw TEXT NOT NULL);
CREATE TABLE unfetched (kind TEXT NOT NULL, learners INTEGER REFERENCES side,
  courses INTEGER REFERENCES side, cause TEXT NOT NULL, attempts INTEGER NOT NULL,
  at REAL NOT NULL);
"""


class ChangedInputsError(JournalError):
    """The journal belongs to other ids, another endpoint or another operation."""


@dataclass(frozen=True, slots=True)
class JournalIdentity:
    """What must not change between the runs of one export."""

    operation: str
    endpoint: str
    region: Rectangle


@dataclass(frozen=True, slots=True)
class FinishedBatch:
    """A batch to be kept. Times are seconds since 1970."""

    rectangle: Rectangle
    batches: list[pa.RecordBatch]
    rows: int
    surplus: int
    attempts: int
    started_at: float
    ended_at: float
    wire_bytes: int
    body_bytes: int
    anomalies: tuple[Anomaly, ...]


@dataclass(frozen=True, slots=True)
class JournalTotals:
    """Sums over the finished batches."""

    batches: int
    rows: int
    attempts: int
    wire_bytes: int
    body_bytes: int
    anomalies: int


class Journal:
    """An open journal, locked for this run. Open it with `Journal.open`."""

    def __init__(self, path: Path, *, restart: bool = False) -> None:
        self.path = path
        self._lock = JournalLock(path)
        try:
            if restart:
                discard(path)
            with mapped(path):
                self._connection = connect(path)
                self._file = path.stat()
        except BaseException:
            self._lock.release()
            raise

    @classmethod
    def open(
        cls, path: Path, identity: JournalIdentity, *, now: float, restart: bool = False
    ) -> "Journal":
        """Open the journal of an export, or begin it.

        Args:
            path: the file.
            identity: what the journal must belong to.
            now: seconds since 1970, noted as the start of a new journal.
            restart: discard the journal that is there, damaged or not.

        Raises:
            JournalError: another run holds it, it belongs to other inputs, it is damaged, or it
                is no journal: such a file is never discarded.
            SinkError: it cannot be written.
        """
        journal = cls(path, restart=restart)
        with journal._closed_on_failure():
            if is_blank(journal._connection):
                journal._begin(identity, now)
            else:
                journal._check(identity)
        return journal

    @classmethod
    def open_existing(cls, path: Path) -> "Journal":
        """Open a journal for its own sake, whatever inputs it belongs to.

        Raises:
            UsageError: there is none.
            JournalError: another run holds it, or it is damaged or no journal.
        """
        with mapped(path):
            if not path.is_file() or not path.stat().st_size:
                raise UsageError(f"There is no journal {path}.")
        journal = cls(path)
        with journal._closed_on_failure():
            journal._check_soundness()
        return journal

    @contextlib.contextmanager
    def _closed_on_failure(self) -> Generator[None, None, None]:
        try:
            with mapped(self.path):
                yield
        except BaseException:
            self.close()
            raise

    @property
    def identity(self) -> JournalIdentity:
        """What the journal belongs to.

        Raises:
            DamagedJournalError: it cannot be told.
        """
        operation, endpoint = self._meta("operation"), self._meta("endpoint")
        try:
            learners, courses = json.loads(self._meta("region") or "null")
        except (ValueError, TypeError):
            operation = None
        if operation is None or endpoint is None:
            raise self._damaged()
        return JournalIdentity(
            operation, endpoint, Rectangle(self._side_of(learners), self._side_of(courses))
        )

    def commit(self, batch: FinishedBatch) -> None:
        """Keep a finished batch, in one transaction.

        Raises:
            SinkError: the disk is full or fails, or the file was removed.
        """
        data = _to_ipc(batch.batches)
        numbers = (batch.rows, batch.surplus, batch.attempts)
        sizes = (batch.wire_bytes, batch.body_bytes)
        with self._transaction():
            sides = self._keep_sides(batch.rectangle)
            cursor = self._connection.execute(
                "INSERT INTO batch (learners, courses, row_count, surplus, attempts, started_at,"
                " ended_at, wire_bytes, body_bytes, arrow, checksum)"
                " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                (
                    *sides,
                    *numbers,
                    batch.started_at,
                    batch.ended_at,
                    *sizes,
                    data,
                    _checksum(sides, batch.rows, data),
                ),
            )
            self._connection.executemany(
                "INSERT INTO anomaly VALUES (?, ?, ?, ?)",
                [(cursor.lastrowid, a.enrollment_id, a.field, a.raw) for a in batch.anomalies],
            )

    def finished(self) -> list[Rectangle]:
        """Return the rectangles of all finished batches.

        Raises:
            DamagedJournalError: a side does not match its digest.
        """
        with mapped(self.path):
            pairs = self._connection.execute("SELECT learners, courses FROM batch").fetchall()
            sides: dict[int | None, Side] = {}
            for side_id in {side for pair in pairs for side in pair}:
                sides[side_id] = self._side_of(side_id)
        return [Rectangle(sides[learners], sides[courses]) for learners, courses in pairs]

    def record_batches(self) -> Iterator[pa.RecordBatch]:
        """Yield the rows of all batches, in the order in which they were finished.

        Raises:
            DamagedJournalError: a batch does not match its checksum.
        """
        with mapped(self.path):
            for rows, data in self._verified():
                if rows:
                    yield from _from_ipc(data)

    def _verified(self) -> Iterator[tuple[int, bytes]]:
        """Yield row count and serialized rows of each batch, checked."""
        cursor = self._connection.execute(
            "SELECT id, learners, courses, row_count, arrow, checksum FROM batch ORDER BY id"
        )
        for number, learners, courses, rows, data, checksum in cursor:
            if _checksum((learners, courses), rows, data) != checksum:
                raise DamagedJournalError(
                    f"Batch {number} of the journal {self.path} is damaged. {START_ANEW}"
                )
            yield rows, data

    def totals(self) -> JournalTotals:
        """Return the sums over the finished batches."""
        with mapped(self.path):
            sums = self._connection.execute(
                "SELECT count(*), coalesce(sum(row_count), 0), coalesce(sum(attempts), 0),"
                " coalesce(sum(wire_bytes), 0), coalesce(sum(body_bytes), 0),"
                " (SELECT count(*) FROM anomaly) FROM batch"
            ).fetchone()
        return JournalTotals(*sums)

    def anomalies(self, limit: int) -> list[Anomaly]:
        """Return the first values that could not be read, of all runs."""
        with mapped(self.path):
            return [
                Anomaly(*values)
                for values in self._connection.execute(
                    "SELECT enrollment_id, field, raw FROM anomaly ORDER BY rowid LIMIT ?", (limit,)
                )
            ]

    def set_unfetched(
        self, quarantined: Sequence[FailedIds], failed: Sequence[FailedIds], now: float
    ) -> None:
        """Keep what the latest run could not fetch, instead of what an earlier one could not."""
        with self._transaction():
            self._connection.execute("DELETE FROM unfetched")
            for kind, entries in (("quarantined", quarantined), ("failed", failed)):
                for entry in entries:
                    sides = self._keep_sides(Rectangle(entry.learner_ids, entry.course_ids))
                    self._connection.execute(
                        "INSERT INTO unfetched VALUES (?, ?, ?, ?, ?, ?)",
                        (kind, *sides, entry.cause, entry.attempts, now),
                    )

    def set_report(self, report: dict[str, object]) -> None:
        """Keep the report of the latest run."""
        self._set_meta("report", json.dumps(report))

    def report(self) -> dict[str, Any] | None:
        """Return the report of the latest run that came to an end."""
        text = self._meta("report")
        try:
            return None if text is None else json.loads(text)
        except ValueError:
            raise self._damaged() from None

    def close(self) -> None:
        """Close the file and let the next run have it."""
        try:
            with mapped(self.path):
                self._connection.close()
        finally:
            self._lock.release()

    def _begin(self, identity: JournalIdentity, now: float) -> None:
        with self._transaction():
            self._connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
            self._connection.execute(f"PRAGMA user_version = {_VERSION}")
            for statement in _SCHEMA.split(";")[:-1]:
                self._connection.execute(statement)
            sides = self._keep_sides(identity.region)
            for key, value in (
                ("operation", identity.operation),
                ("endpoint", identity.endpoint),
                ("region", json.dumps(sides)),
                ("begun_at", str(now)),
            ):
                self._connection.execute("INSERT INTO meta VALUES (?, ?)", (key, value))
        # A begun journal is told from a new file by the file alone, however its log fares.
        checkpoint(self._connection)

    def _check_soundness(self) -> None:
        """Refuse a file that is not a whole journal of this program and version."""
        if pragma(self._connection, "application_id") != APPLICATION_ID:
            raise DamagedJournalError(
                f"The file {self.path} is a database of another program, not a journal. "
                "Name another journal."
            )
        version = pragma(self._connection, "user_version")
        if version != _VERSION:
            raise DamagedJournalError(
                f"The journal {self.path} is of version {version}, this program writes "
                f"{_VERSION}. Use the program that wrote it, or begin anew with --restart."
            )
        (verdict,) = self._connection.execute("PRAGMA quick_check(1)").fetchone()
        if verdict != "ok":
            raise self._damaged()
        for _ in self._verified():
            pass

    def _check(self, identity: JournalIdentity) -> None:
        """Refuse a journal that is not of these inputs."""
        self._check_soundness()
        was = self.identity
        differences = [
            f"{name} was {before!r}, is {now!r}"
            for name, before, now in (
                ("the operation", was.operation, identity.operation),
                ("the endpoint", was.endpoint, identity.endpoint),
            )
            if before != now
        ]
        for axis in Axis:
            difference = _compare(axis, was.region.side(axis), identity.region.side(axis))
            if difference:
                differences.append(difference)
        if differences:
            raise ChangedInputsError(
                f"The journal {self.path} belongs to other inputs: {'; '.join(differences)}. "
                "Give the same inputs, name another journal, or begin anew with --restart."
            )

    def _keep_sides(self, rectangle: Rectangle) -> tuple[int | None, int | None]:
        return self._keep_side(rectangle.learners), self._keep_side(rectangle.courses)

    def _keep_side(self, side: Side) -> int | None:
        """Store a side once, however many batches share it."""
        if side is None:
            return None
        text = json.dumps(side).encode()
        digest = hashlib.sha256(text).digest()
        found = self._connection.execute("SELECT id FROM side WHERE digest = ?", (digest,))
        row = found.fetchone()
        if row is not None:
            return int(row[0])
        return self._connection.execute(
            "INSERT INTO side (digest, ids) VALUES (?, ?)", (digest, zlib.compress(text))
        ).lastrowid

    def _side_of(self, side_id: object) -> Side:
        """Read a side back; None is no filter."""
        if side_id is None:
            return None
        row = self._connection.execute(
            "SELECT digest, ids FROM side WHERE id = ?", (side_id,)
        ).fetchone()
        text = b""
        with contextlib.suppress(TypeError, zlib.error):  # no row, no bytes, no zlib
            text = zlib.decompress(row[1])
        if not text or hashlib.sha256(text).digest() != row[0]:
            raise DamagedJournalError(
                f"An id list of the journal {self.path} is damaged. {START_ANEW}"
            )
        return tuple(json.loads(text))

    def _meta(self, key: str) -> str | None:
        with mapped(self.path):
            row = self._connection.execute(
                "SELECT value FROM meta WHERE key = ?", (key,)
            ).fetchone()
        return None if row is None else str(row[0])

    def _set_meta(self, key: str, value: str) -> None:
        with self._transaction():
            self._connection.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (key, value))

    @contextlib.contextmanager
    def _transaction(self) -> Generator[None, None, None]:
        with mapped(self.path):
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield
                self._connection.execute("COMMIT")
            except BaseException:
                with contextlib.suppress(sqlite3.Error):
                    self._connection.execute("ROLLBACK")
                raise
        self._check_present()

    def _check_present(self) -> None:
        """Refuse to go on in a file that was removed: SQLite would, and keep nothing."""
        with contextlib.suppress(OSError):
            if os.path.samestat(self.path.stat(), self._file):
                return
        raise SinkError(
            f"The journal {self.path} was removed or replaced while it was in use. "
            "What it held is lost; the same command begins anew."
        )

    def _damaged(self) -> DamagedJournalError:
        return DamagedJournalError(f"The journal {self.path} is damaged. {START_ANEW}")


def _compare(axis: Axis, was: Side, now: Side) -> str | None:
    """Say how two id lists differ, in numbers; None if they do not."""
    if was == now:
        return None
    if was is None or now is None:
        here = "was given" if was is not None else "is given now"
        return f"a list of {axis.value} {here} and is not in the other run"
    added, removed = set(now) - set(was), set(was) - set(now)
    return f"of {len(was):,} {axis.value}, {len(removed):,} are gone and {len(added):,} are new"


def _checksum(sides: tuple[int | None, int | None], rows: int, data: bytes) -> int:
    numbers = struct.pack("<qqq", sides[0] or 0, sides[1] or 0, rows)
    return zlib.crc32(data, zlib.crc32(numbers))


def _to_ipc(batches: Sequence[pa.RecordBatch]) -> bytes:
    """Serialize rows; no rows are no bytes."""
    if not batches:
        return b""
    sink = pa.BufferOutputStream()
    options = pa.ipc.IpcWriteOptions(compression="zstd")
    with pa.ipc.new_stream(sink, arrow_schema(), options=options) as writer:
        for batch in batches:
            writer.write_batch(batch)
    return bytes(sink.getvalue())


def _from_ipc(data: bytes) -> Iterator[pa.RecordBatch]:
    with pa.ipc.open_stream(data) as reader:
        yield from reader
