"""One run at a time: an advisory lock on a file beside the journal.

The lock is the kernel's and ends with the process, so a lock file left behind is no obstacle. It is
a file of its own because SQLite's own locks would be released when any descriptor of the journal
is closed.
"""

import contextlib
import fcntl
import os
from pathlib import Path

from bulkfetch.errors import JournalError, SinkError


class JournalLockedError(JournalError):
    """Another run uses the journal."""


class JournalLock:
    """The lock of one journal, held from construction until `release`.

    Args:
        journal: the file by its real name, without links: that name's lock is the journal's.
        is_shared: hold it together with others that hold it so, who only read.
        is_made: make the lock file if there is none; else nobody is kept out then.

    Raises:
        JournalLockedError: another process holds it.
        SinkError: the lock file cannot be made, or its file system has no locks.
    """

    def __init__(self, journal: Path, *, is_shared: bool = False, is_made: bool = True) -> None:
        path = lock_path(journal)
        flags = os.O_RDWR | os.O_CREAT if is_made else os.O_RDONLY
        self._descriptor: int | None = None
        try:
            self._descriptor = os.open(path, flags | os.O_CLOEXEC, 0o600)
        except OSError as error:
            if not is_made and not path.exists():
                return
            raise SinkError(f"The lock file {path} cannot be opened: {error.strerror}.") from None
        try:
            fcntl.flock(
                self._descriptor, (fcntl.LOCK_SH if is_shared else fcntl.LOCK_EX) | fcntl.LOCK_NB
            )
        except OSError as error:
            os.close(self._descriptor)
            if isinstance(error, BlockingIOError):
                raise JournalLockedError(
                    f"Another run is using the journal {journal}. Wait for it, or stop it."
                ) from None
            raise SinkError(
                f"The lock file {path} cannot be locked: {error.strerror}. "
                "Name a journal on a local disk."
            ) from None

    def release(self) -> None:
        """Let the next run have the journal."""
        if self._descriptor is not None:
            with contextlib.suppress(OSError):  # nothing was written to it
                os.close(self._descriptor)


def lock_path(journal: Path) -> Path:
    """Return the lock file of a journal."""
    return journal.with_name(journal.name + ".lock")
