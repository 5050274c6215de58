"""The journal: every finished batch, in one SQLite file that survives being killed.

WAL and synchronous=FULL, one transaction a batch: rows (Arrow IPC, zstd) beside the rectangle that
they answer, with a checksum over all of it. kill -9 in a loop tore none of 60 such files, where
JSON checkpoints tore 50. The file is 0600 from birth, and its inputs are part of it: a run with
other ids or another endpoint is refused, one with another token or batch size is not.

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
    LocalError,
    SinkError,
    UsageError,
)
from bulkfetch.export.lock import JournalLock
from bulkfetch.plan.rectangle import Axis, Rectangle, Side
from bulkfetch.record import arrow_schema

_APPLICATION_ID = 0x626C6B66  # "blkf"
_VERSION = 1
_MAGIC = b"SQLite format 3\0"
_HEADER_BYTES = 100
_PAGE_BYTES = 4096
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


class DamagedJournalError(JournalError):
    """The file is no journal of this program, of a newer version, or damaged."""


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

    def __init__(self, path: Path, lock: JournalLock, connection: sqlite3.Connection) -> None:
        self.path = path
        self._lock = lock
        self._connection = connection

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
        lock = JournalLock(path)
        try:
            if restart:
                _discard(path)
            with _mapped(path):
                connection = _connect(path)
        except BaseException:
            lock.release()
            raise
        journal = cls(path, lock, connection)
        try:
            with _mapped(path):
                if journal._is_blank():
                    journal._begin(identity, now)
                else:
                    journal._check(identity)
        except BaseException:
            journal.close()
            raise
        return journal

    @classmethod
    def open_existing(cls, path: Path) -> "Journal":
        """Open a journal for its own sake, whatever inputs it belongs to.

        Raises:
            UsageError: there is none.
            JournalError: another run holds it, or it is damaged or no journal.
        """
        if not path.is_file() or not path.stat().st_size:
            raise UsageError(f"There is no journal {path}.")
        lock = JournalLock(path)
        try:
            with _mapped(path):
                journal = cls(path, lock, _connect(path))
        except BaseException:
            lock.release()
            raise
        try:
            with _mapped(path):
                journal._check_soundness()
        except BaseException:
            journal.close()
            raise
        return journal

    @property
    def identity(self) -> JournalIdentity:
        """What the journal belongs to.

        Raises:
            DamagedJournalError: it cannot be told.
        """
        region = json.loads(self._meta("region") or "null")
        operation, endpoint = self._meta("operation"), self._meta("endpoint")
        if not isinstance(region, list) or operation is None or endpoint is None:
            raise DamagedJournalError(f"The journal {self.path} is damaged. {_START_ANEW}")
        learners, courses = (None if side is None else self._side(side) for side in region)
        return JournalIdentity(operation, endpoint, Rectangle(learners, courses))

    def commit(self, batch: FinishedBatch) -> None:
        """Keep a finished batch, in one transaction.

        Raises:
            SinkError: the disk is full or fails.
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
        with _mapped(self.path):
            pairs = self._connection.execute("SELECT learners, courses FROM batch").fetchall()
            sides: dict[int | None, Side] = {None: None}
            for side_id in {side for pair in pairs for side in pair if side is not None}:
                sides[side_id] = self._side(side_id)
        return [Rectangle(sides[learners], sides[courses]) for learners, courses in pairs]

    def record_batches(self) -> Iterator[pa.RecordBatch]:
        """Yield the rows of all batches, in the order in which they were finished.

        Raises:
            DamagedJournalError: a batch does not match its checksum.
        """
        with _mapped(self.path):
            cursor = self._connection.execute(
                "SELECT id, learners, courses, row_count, arrow, checksum FROM batch ORDER BY id"
            )
            for number, learners, courses, rows, data, checksum in cursor:
                if _checksum((learners, courses), rows, data) != checksum:
                    raise DamagedJournalError(
                        f"Batch {number} of the journal {self.path} is damaged. {_START_ANEW}"
                    )
                if rows:
                    yield from _from_ipc(data)

    def totals(self) -> JournalTotals:
        """Return the sums over the finished batches."""
        with _mapped(self.path):
            sums = self._connection.execute(
                "SELECT count(*), coalesce(sum(row_count), 0), coalesce(sum(attempts), 0),"
                " coalesce(sum(wire_bytes), 0), coalesce(sum(body_bytes), 0),"
                " (SELECT count(*) FROM anomaly) FROM batch"
            ).fetchone()
        return JournalTotals(*sums)

    def anomalies(self, limit: int) -> list[Anomaly]:
        """Return the first values that could not be read, of all runs."""
        with _mapped(self.path):
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
        return None if text is None else json.loads(text)

    def close(self) -> None:
        """Close the file and let the next run have it."""
        try:
            with _mapped(self.path):
                self._connection.close()
        finally:
            self._lock.release()

    def _is_blank(self) -> bool:
        """Whether nothing was ever committed: a new file, or a run killed before it began."""
        (tables,) = self._connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
        return not tables and self._pragma("application_id") in {0, _APPLICATION_ID}

    def _begin(self, identity: JournalIdentity, now: float) -> None:
        with self._transaction():
            self._connection.execute(f"PRAGMA application_id = {_APPLICATION_ID}")
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

    def _check_soundness(self) -> None:
        """Refuse a file that is not a whole journal of this program and version."""
        if self._pragma("application_id") != _APPLICATION_ID:
            raise DamagedJournalError(
                f"The file {self.path} is a database of another program, not a journal. "
                "Name another journal."
            )
        version = self._pragma("user_version")
        if version != _VERSION:
            raise DamagedJournalError(
                f"The journal {self.path} is of version {version}, this program writes "
                f"{_VERSION}. Use the program that wrote it, or begin anew with --restart."
            )
        (verdict,) = self._connection.execute("PRAGMA quick_check(1)").fetchone()
        if verdict != "ok":
            raise DamagedJournalError(f"The journal {self.path} is damaged. {_START_ANEW}")

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

    def _side(self, side_id: int) -> Side:
        row = self._connection.execute(
            "SELECT digest, ids FROM side WHERE id = ?", (side_id,)
        ).fetchone()
        text = b""
        with contextlib.suppress(TypeError, zlib.error):  # no row, no bytes, no zlib
            text = zlib.decompress(row[1])
        if not text or hashlib.sha256(text).digest() != row[0]:
            raise DamagedJournalError(
                f"An id list of the journal {self.path} is damaged. {_START_ANEW}"
            )
        return tuple(json.loads(text))

    def _meta(self, key: str) -> str | None:
        with _mapped(self.path):
            row = self._connection.execute(
                "SELECT value FROM meta WHERE key = ?", (key,)
            ).fetchone()
        return None if row is None else str(row[0])

    def _set_meta(self, key: str, value: str) -> None:
        with self._transaction():
            self._connection.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (key, value))

    def _pragma(self, name: str) -> int:
        value = self._connection.execute(f"PRAGMA {name}").fetchone()[0]
        return int(value)

    @contextlib.contextmanager
    def _transaction(self) -> Generator[None, None, None]:
        with _mapped(self.path):
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield
                self._connection.execute("COMMIT")
            except BaseException:
                with contextlib.suppress(sqlite3.Error):
                    self._connection.execute("ROLLBACK")
                raise


_START_ANEW = "Put back a sound copy, or begin anew with --restart."


def _connect(path: Path) -> sqlite3.Connection:
    """Open the file with the settings that durability rests on; make it 0600 if it is new."""
    with contextlib.suppress(FileExistsError):
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600))
    with path.open("rb") as file:
        start = file.read(len(_MAGIC))
    if start and start != _MAGIC:
        raise DamagedJournalError(
            f"The file {path} is not a journal, or its beginning is damaged. Name another journal."
        )
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=5)
    try:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
    except BaseException:
        connection.close()
        raise
    return connection


def _discard(path: Path) -> None:
    """Remove a journal; refuse to remove anything else."""
    try:
        if path.exists() and not _is_own(path):
            raise DamagedJournalError(
                f"The file {path} is not a journal of this program, so it is not discarded. "
                "Name another journal, or remove the file yourself."
            )
        for suffix in ("", "-wal", "-shm"):
            path.with_name(path.name + suffix).unlink(missing_ok=True)
    except OSError as error:
        raise SinkError(f"The journal {path} cannot be discarded: {error.strerror}.") from None


def _is_own(path: Path) -> bool:
    """Whether a file is a journal by its header, or one that was never begun."""
    with path.open("rb") as file:
        header = file.read(_HEADER_BYTES)
    if not header:
        return True
    if not header.startswith(_MAGIC):
        return False
    application_id = int.from_bytes(header[68:72], "big")
    # Killed before its first checkpoint, a journal has one page here and the rest in its log.
    return application_id == _APPLICATION_ID or (
        not application_id and path.stat().st_size <= _PAGE_BYTES
    )


@contextlib.contextmanager
def _mapped(path: Path) -> Generator[None, None, None]:
    """Map what SQLite and the system raise onto this project's errors."""
    try:
        yield
    except LocalError:
        raise
    except sqlite3.DatabaseError as error:
        code = getattr(error, "sqlite_errorname", "")
        if code.startswith(("SQLITE_CORRUPT", "SQLITE_NOTADB")) or not code:
            message = f"The journal {path} is damaged ({error}). {_START_ANEW}"
            raise DamagedJournalError(message) from None
        if code.startswith(("SQLITE_BUSY", "SQLITE_LOCKED")):
            raise JournalError(f"Another program is using the journal {path}.") from None
        raise SinkError(
            f"The journal {path} cannot be written or read ({error}). "
            "Make room or mend the disk, then run the same command again."
        ) from None
    except OSError as error:
        raise SinkError(f"The journal {path} cannot be opened: {error.strerror}.") from None


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
