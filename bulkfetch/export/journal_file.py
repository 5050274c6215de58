"""The tables of the journal, locked for one run: transactions, single values, id lists.

The database has an application id and a version of its own, so that another program's or another
version's is refused by name. Id lists are kept once, under their digest, however many batches
share them.
"""

import contextlib
import hashlib
import itertools
import json
import os
import re
import sqlite3
import zlib
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from enum import Enum
from pathlib import Path
from types import MappingProxyType
from typing import Any

from bulkfetch.errors import SinkError
from bulkfetch.export.database import (
    APPLICATION_ID,
    START_ANEW,
    DamagedJournalError,
    checkpoint,
    connect,
    discard,
    mapped,
    pragma,
    reading,
    require_own,
)
from bulkfetch.export.lock import JournalLock
from bulkfetch.plan.rectangle import Side

_VERSION = 2
_SIDE_CHUNK = 1_000
_TEXT_BYTES = 1024 * 1024
_NO_LISTS: Mapping[int | None, Side] = MappingProxyType({None: None})
_SCHEMA = """
CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE side (id INTEGER PRIMARY KEY, digest BLOB NOT NULL UNIQUE, ids BLOB NOT NULL);
CREATE TABLE run (
  id INTEGER PRIMARY KEY, started_at REAL NOT NULL, ended_at REAL,
  calls INTEGER NOT NULL DEFAULT 0, retries INTEGER NOT NULL DEFAULT 0,
  splits INTEGER NOT NULL DEFAULT 0, confirmations INTEGER NOT NULL DEFAULT 0,
  cap_checks INTEGER NOT NULL DEFAULT 0,
  wire_bytes INTEGER NOT NULL DEFAULT 0, body_bytes INTEGER NOT NULL DEFAULT 0
);
CREATE TABLE batch (
  id INTEGER PRIMARY KEY, run INTEGER NOT NULL REFERENCES run,
  learners INTEGER REFERENCES side, courses INTEGER REFERENCES side,
  row_count INTEGER NOT NULL, surplus INTEGER NOT NULL, attempts INTEGER NOT NULL,
  started_at REAL NOT NULL, ended_at REAL NOT NULL, latency_s REAL NOT NULL,
  wire_bytes INTEGER NOT NULL, body_bytes INTEGER NOT NULL,
  learners_seen BLOB NOT NULL, courses_seen BLOB NOT NULL,
  arrow BLOB NOT NULL, checksum INTEGER NOT NULL
);
CREATE TABLE anomaly (batch INTEGER NOT NULL REFERENCES batch,
  enrollment_id TEXT NOT NULL, field TEXT NOT NULL, raw TEXT NOT NULL);
CREATE TABLE unfetched (kind TEXT NOT NULL, learners INTEGER REFERENCES side,
  courses INTEGER REFERENCES side, cause TEXT NOT NULL, attempts INTEGER NOT NULL,
  tried_at REAL);
CREATE TABLE page (axis TEXT NOT NULL, position INTEGER NOT NULL, token TEXT NOT NULL,
  next_token TEXT NOT NULL, ids INTEGER REFERENCES side, items INTEGER NOT NULL,
  latency_s REAL NOT NULL, received_at REAL NOT NULL, checksum INTEGER NOT NULL,
  PRIMARY KEY (axis, position)) WITHOUT ROWID;
"""


class Access(Enum):
    """What a journal is opened for."""

    EXPORT = "export"  # to be written, by one run at a time
    READ_ALONE = "read alone"  # with temporary data under its name, by one run at a time
    READ = "read"  # by many at a time, while nobody writes


class JournalFile:
    """The open file, locked for this run. Methods block, and are called by one thread at a time.

    Args:
        path: the file; made if there is none. A link stands for what it leads to.
        restart: discard the one that is there.
        access: what it is opened for.

    Raises:
        JournalError: another run holds it, or it is no journal.
        SinkError: it cannot be written.
    """

    def __init__(
        self, path: Path, *, restart: bool = False, access: Access = Access.EXPORT
    ) -> None:
        self.path = path
        self._resources = contextlib.ExitStack()
        with mapped(path), contextlib.ExitStack() as stack:
            real = path.resolve()
            require_own(real, is_discarded=restart)
            self._lock(stack, real, access)
            if restart:
                discard(real)
            if access is Access.EXPORT:
                self.connection = connect(real)
                stack.callback(self.connection.close)
            else:
                self.connection = stack.enter_context(reading(real))
            self._file = path.stat()
            self._resources = stack.pop_all()

    @staticmethod
    def _lock(stack: contextlib.ExitStack, path: Path, access: Access) -> None:
        """Lock the journal; where no lock file can be made, who only reads does without."""
        # Nor can an export run there, unless it may more than this user.
        is_made = access is Access.EXPORT or os.access(path.parent, os.W_OK)
        lock = JournalLock(path, is_shared=access is Access.READ, is_made=is_made)
        stack.callback(lock.release)

    def close(self) -> None:
        """Close the file and let the next run have it."""
        with mapped(self.path):
            self._resources.close()

    def create(self, fill: Callable[[], None]) -> None:
        """Make the tables, and what `fill` puts into them, in one transaction."""
        with self.transaction() as connection:
            connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
            connection.execute(f"PRAGMA user_version = {_VERSION}")
            for statement in _SCHEMA.split(";")[:-1]:
                connection.execute(statement)
            fill()
        # A begun journal is told from a new file by the file alone, however its log fares.
        checkpoint(self.connection)

    def check_soundness(self) -> None:
        """Refuse a file that is not a whole journal of this program and version.

        Raises:
            DamagedJournalError: it is not.
        """
        if pragma(self.connection, "application_id") != APPLICATION_ID:
            raise DamagedJournalError(
                f"The file {self.path} is a database of another program, not a journal. "
                "Name another journal."
            )
        version = pragma(self.connection, "user_version")
        if version != _VERSION:
            raise DamagedJournalError(
                f"The journal {self.path} is of version {version}, this program writes "
                f"{_VERSION}. Use the program that wrote it, or begin anew with --restart."
            )
        (verdict,) = self.connection.execute("PRAGMA quick_check(1)").fetchone()
        if verdict != "ok":
            raise self.damaged()

    @contextlib.contextmanager
    def transaction(self) -> Generator[sqlite3.Connection, None, None]:
        """Make everything in the block durable, or none of it."""
        with mapped(self.path):
            self.connection.execute("BEGIN IMMEDIATE")
            try:
                yield self.connection
                self.connection.execute("COMMIT")
            except BaseException:
                with contextlib.suppress(sqlite3.Error):
                    self.connection.execute("ROLLBACK")
                raise
        self._check_present()

    def select(self, statement: str, *values: object) -> list[Any]:
        """Return the rows that a statement finds."""
        with mapped(self.path):
            return self.connection.execute(statement, values).fetchall()

    def meta(self, key: str) -> str | None:
        """Return a single value by its name."""
        rows = self.select("SELECT value FROM meta WHERE key = ?", key)
        return str(rows[0][0]) if rows else None

    def set_meta(self, key: str, value: str) -> None:
        """Keep a single value under its name; call it within a transaction."""
        self.connection.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (key, value))

    def keep_side(self, side: Side) -> int | None:
        """Keep an id list once, and return its number; call it within a transaction."""
        if side is None:
            return None
        digest = _digest(_write(side))
        number = self._find_side(digest)
        if number is not None:
            return number
        deflate = zlib.compressobj()
        data = b"".join((*map(deflate.compress, _write(side)), deflate.flush()))
        return self.connection.execute(
            "INSERT INTO side (digest, ids) VALUES (?, ?)", (digest, data)
        ).lastrowid

    def _find_side(self, digest: bytes) -> int | None:
        found = self.connection.execute("SELECT id FROM side WHERE digest = ?", (digest,))
        row = found.fetchone()
        return None if row is None else int(row[0])

    def known(self, sides: Iterable[Side]) -> dict[int | None, Side]:
        """Return those id lists that are kept here, by number: so they need not be read.

        A list of a million ids takes a hundred megabytes.

        Raises:
            DamagedJournalError: what is kept does not match its digest.
        """
        found: dict[int | None, Side] = {None: None}
        for side in sides:
            number = None if side is None else self._find_side(_digest(_write(side)))
            if number is not None:
                found[number] = side
                for _ in self._side_pieces(number):
                    pass
        return found

    def sides(
        self, numbers: Iterable[int | None], known: Mapping[int | None, Side] = _NO_LISTS
    ) -> dict[int | None, Side]:
        """Return id lists by their numbers; None is no list. Those that are known are not read.

        Raises:
            DamagedJournalError: a list does not match its digest.
        """
        return {
            number: known[number] if number in known else tuple(json.loads(self._side_text(number)))
            for number in {None, *numbers}
        }

    def iterate_side(self, number: int | None) -> Iterator[str]:
        """Yield an id list, of which only the text is held, not the ids.

        Raises:
            DamagedJournalError: the list does not match its digest.
        """
        strings = re.finditer(rb'"(?:[^"\\]|\\.)*"', self._side_text(number))
        while some := [match[0] for match in itertools.islice(strings, _SIDE_CHUNK)]:
            yield from json.loads(b"[%b]" % b",".join(some))

    def _side_text(self, number: int | None) -> bytes:
        return b"".join(self._side_pieces(number))

    def _side_pieces(self, number: int | None) -> Iterator[bytes]:
        """Yield the text of an id list, which is sound if all of it can be had."""
        rows = self.select("SELECT digest, ids FROM side WHERE id = ?", number)
        hashing = hashlib.sha256()
        with contextlib.suppress(IndexError, TypeError, zlib.error):  # no row, bytes or zlib
            digest, data = rows[0]
            inflate = zlib.decompressobj()
            while text := inflate.decompress(data, _TEXT_BYTES):
                hashing.update(text)
                yield text
                data = inflate.unconsumed_tail
            if inflate.eof and hashing.digest() == digest:
                return
        raise self.damaged("An id list")

    def damaged(self, what: str = "The journal") -> DamagedJournalError:
        """Return the error that says so."""
        where = "" if what == "The journal" else "of the journal "
        return DamagedJournalError(f"{what} {where}{self.path} is damaged. {START_ANEW}")

    def _check_present(self) -> None:
        """Refuse to go on in a file that was removed: SQLite would, and keep nothing."""
        with contextlib.suppress(OSError):
            if os.path.samestat(self.path.stat(), self._file):
                return
        raise SinkError(
            f"The journal {self.path} was removed or replaced while it was in use. "
            "What it held is lost; the same command begins anew."
        )


def _write(side: Sequence[str]) -> Iterator[bytes]:
    """Yield an id list as JSON, piece by piece."""
    before = "["
    for start in range(0, max(1, len(side)), _SIDE_CHUNK):
        yield f"{before}{json.dumps(side[start : start + _SIDE_CHUNK])[1:-1]}".encode()
        before = ", "
    yield b"]"


def _digest(pieces: Iterable[bytes]) -> bytes:
    hashing = hashlib.sha256()
    for piece in pieces:
        hashing.update(piece)
    return hashing.digest()
