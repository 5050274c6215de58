"""The journal's file as a file: opened with what durability rests on, told from others, discarded.

SQLite in WAL mode with synchronous=FULL, 0600 from birth. Whatever SQLite and the system raise is
mapped onto this project's errors in one place.

Who only reads changes nothing: without a log the file is opened as one that nobody writes, so that
SQLite makes no files beside it; with a log of a killed run SQLite reads both, from a copy where
nothing can be made beside them.
"""

import contextlib
import os
import shutil
import sqlite3
import stat
import tempfile
from collections.abc import Generator
from pathlib import Path

from bulkfetch.errors import JournalError, LocalError, SinkError
from bulkfetch.export import wal

APPLICATION_ID = 0x626C6B66  # "blkf"
START_ANEW = "Put back a sound copy, or begin anew with --restart."

LOGS = ("-wal", "-shm", "-journal")

_MAGIC = b"SQLite format 3\0"
_HEADER_BYTES = 100
_PAGE_BYTES = 4096


class DamagedJournalError(JournalError):
    """The file is no journal of this program, of a newer version, or damaged."""


def connect(path: Path) -> sqlite3.Connection:
    """Open the file, or make it; whatever a killed run left in its log is in the file afterwards.

    Raises:
        DamagedJournalError: it is something else, and stays as it is; or its log is damaged.
        OSError, sqlite3.Error: it cannot be opened; see `mapped`.
    """
    with contextlib.suppress(FileExistsError):
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600))
    require_own(path)
    _require_sound_log(path)
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=5)
    try:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        checkpoint(connection)
    except BaseException:
        connection.close()
        raise
    return connection


@contextlib.contextmanager
def reading(path: Path) -> Generator[sqlite3.Connection, None, None]:
    """Open the file to be read, with what a killed run left in its log; nothing is changed.

    Raises:
        DamagedJournalError: it is something else, or its log is damaged.
        OSError, sqlite3.Error: it cannot be opened; see `mapped`.
    """
    require_own(path)
    _require_sound_log(path)
    log = _beside(path, "-wal")
    has_log = log.exists() and log.stat().st_size > 0
    with contextlib.ExitStack() as stack:
        if has_log and not os.access(path.parent, os.W_OK):
            copies = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bulkfetch-")))
            for file in (path, log):
                shutil.copyfile(file, copies / file.name)
            path = copies / path.name
        uri = f"{path.absolute().as_uri()}?mode=ro{'' if has_log else '&immutable=1'}"
        connection = sqlite3.connect(
            uri, uri=True, isolation_level=None, check_same_thread=False, timeout=5
        )
        with contextlib.closing(connection):
            yield connection


def checkpoint(connection: sqlite3.Connection) -> None:
    """Bring everything from the log into the file, and empty the log."""
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()


def is_blank(connection: sqlite3.Connection) -> bool:
    """Whether nothing was ever committed: a new file, or a run killed before it began.

    All of the header is looked at, so that no damage makes a begun journal look new.
    """
    (tables,) = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
    pages = pragma(connection, "page_count")
    marks = pragma(connection, "application_id"), pragma(connection, "user_version")
    return not tables and pages <= 1 and marks == (0, 0)


def pragma(connection: sqlite3.Connection, name: str) -> int:
    """Return a number that SQLite keeps."""
    return int(connection.execute(f"PRAGMA {name}").fetchone()[0])


def discard(path: Path) -> None:
    """Remove a journal; refuse to remove anything else.

    Raises:
        DamagedJournalError: it is something else.
        SinkError: it cannot be removed.
    """
    try:
        require_own(path, is_discarded=True)
        for suffix in ("", *LOGS):
            _beside(path, suffix).unlink(missing_ok=True)
    except OSError as error:
        raise SinkError(f"The journal {path} cannot be discarded: {error.strerror}.") from None


@contextlib.contextmanager
def mapped(path: Path) -> Generator[None, None, None]:
    """Map what SQLite and the system raise onto this project's errors.

    Raises:
        DamagedJournalError: SQLite finds the file damaged.
        JournalError: another program has it locked.
        SinkError: the disk is full or fails, or the file cannot be opened.
    """
    try:
        yield
    except LocalError:
        raise
    except sqlite3.DatabaseError as error:
        code = getattr(error, "sqlite_errorname", "")
        if code.startswith(("SQLITE_CORRUPT", "SQLITE_NOTADB")) or not code:
            message = f"The journal {path} is damaged ({error}). {START_ANEW}"
            raise DamagedJournalError(message) from None
        if code.startswith(("SQLITE_BUSY", "SQLITE_LOCKED")):
            raise JournalError(f"Another program is using the journal {path}.") from None
        raise SinkError(
            f"The journal {path} cannot be written or read ({error}). "
            "Make room or mend the disk, then run the same command again."
        ) from None
    except UnicodeDecodeError:
        # A message of SQLite's quoted the damage.
        raise DamagedJournalError(f"The journal {path} is damaged. {START_ANEW}") from None
    except OSError as error:
        raise SinkError(f"The journal {path} cannot be opened: {error.strerror}.") from None


def require_own(path: Path, *, is_discarded: bool = False) -> None:
    """Look at a file, if there is one, and change nothing.

    Raises:
        DamagedJournalError: it is something else than a journal, and stays as it is.
        JournalError: it has a second name.
        OSError: it cannot be looked at.
    """
    try:
        status = path.stat()
    except FileNotFoundError:
        return
    if not stat.S_ISREG(status.st_mode):
        raise DamagedJournalError(f"{path} is not a regular file. Name another journal.")
    if not _is_own(path):
        if is_discarded:
            raise DamagedJournalError(
                f"The file {path} is not a journal of this program, so it is not discarded. "
                "Name another journal, or remove the file yourself."
            )
        raise DamagedJournalError(
            f"The file {path} is not a journal of this program, or its beginning is damaged. "
            "Name another journal."
        )
    if status.st_nlink > 1 and not is_discarded:
        raise JournalError(
            f"The journal {path} has a second name (a hard link), under which another run could "
            "be using it with a log of its own. Remove that name, or copy the file."
        )


def _is_own(path: Path) -> bool:
    """Whether a regular file is a journal by its header, or one that was never begun."""
    with path.open("rb") as file:
        header = file.read(_HEADER_BYTES)
    if not header:
        return True
    if not header.startswith(_MAGIC):
        return False
    application_id = int.from_bytes(header[68:72], "big")
    # Killed before its first checkpoint, a journal has one page here and the rest in its log.
    return application_id == APPLICATION_ID or (
        not application_id and path.stat().st_size <= _PAGE_BYTES
    )


def _require_sound_log(path: Path) -> None:
    if wal.is_damaged(_beside(path, "-wal")):
        raise DamagedJournalError(f"The log {path}-wal of the journal is damaged. {START_ANEW}")


def _beside(path: Path, suffix: str) -> Path:
    return path.with_name(path.name + suffix)
