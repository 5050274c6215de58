"""Write a file whole or not at all, readable by its owner alone.

Temporary file in the same directory, 0600 from birth; written, flushed, closed with the error
looked at (on a full disk a small write fails only there), fsynced; renamed over the target; then
the directory is fsynced. A target that is a link is followed, so that the link stays.

The temporary file's name is a function of the target's, and whoever writes it holds a lock on it:
so what a killed run left behind is told from what another run is writing, and is removed by the
next run instead of filling the directory. A descriptor is open from before the first byte until
after the fsync, because Linux reports a failed write-back to those that were open at the time.
"""

import contextlib
import fcntl
import os
import shutil
import tempfile
import time
from collections.abc import Generator
from pathlib import Path

from bulkfetch.errors import SinkError, UsageError

_TRIES = 20
_WAIT_S = 0.05


def check_target(target: Path) -> None:
    """Check that an output can be written where it is asked for, before any request.

    Raises:
        UsageError: it is a directory.
        SinkError: its directory is missing or cannot be written to.
    """
    target = target.resolve()
    if target.is_dir():
        raise UsageError(f"The output {target} is a directory: name a file in it.")
    if target.exists() and not target.is_file():
        raise UsageError(f"The output {target} is not a file: use -o - for standard output.")
    if not target.parent.is_dir():
        raise SinkError(f"The output's directory {target.parent} does not exist: create it first.")
    # Not the temporary file's own name: another run may be writing that.
    probe = _temporary(target, "try")
    try:
        probe.unlink(missing_ok=True)
        os.close(_create(probe))
        probe.unlink(missing_ok=True)
    except OSError as error:
        raise SinkError(
            f"The output {target} cannot be written to its directory: {error.strerror}."
        ) from None


@contextlib.contextmanager
def replacing(target: Path) -> Generator[Path, None, None]:
    """Give a temporary file to write; put it in the target's place if the block succeeds.

    Raises:
        SinkError: the file cannot be written, made durable or put in place, or another run is
            writing it. An `OSError` of the block counts as such.
    """
    target = target.resolve()
    temporary = _temporary(target, "part")
    with _mapped(target):
        descriptor = _create_locked(temporary)
    is_ours = True
    try:
        with _mapped(target):
            yield temporary
            os.fsync(descriptor)
            _sync(temporary)  # the same file, unless the block replaced it
            temporary.replace(target)
            is_ours = False  # from here on the name may be another run's
            _sync(target.parent)
    finally:
        with contextlib.suppress(OSError):
            if is_ours:
                temporary.unlink(missing_ok=True)
        with contextlib.suppress(OSError):
            os.close(descriptor)  # was synced: nothing is lost here


def temporary_paths(target: Path) -> list[Path]:
    """Return what is made beside an output while it is written, or tried."""
    return [_temporary(target, "part"), _temporary(target, "try")]


def _temporary(target: Path, purpose: str) -> Path:
    return target.with_name(f".{target.name}.bulkfetch-{purpose}")


@contextlib.contextmanager
def private_directory(directory: Path) -> Generator[Path, None, None]:
    """Make an empty directory for its owner alone; remove it, and all in it, afterwards.

    What a killed run left under this name is removed, too: hold the lock of what it belongs to.

    Raises:
        SinkError: it cannot be made.
    """
    try:
        with contextlib.suppress(FileNotFoundError):
            shutil.rmtree(directory)
        directory.mkdir(mode=0o700)
    except OSError as error:
        raise SinkError(
            f"The temporary directory {directory} cannot be made: {error.strerror}."
        ) from None
    try:
        yield directory
    finally:
        shutil.rmtree(directory, ignore_errors=True)


@contextlib.contextmanager
def scratch_of(journal: Path, purpose: str) -> Generator[Path, None, None]:
    """Make a private directory for what is made from a journal, whose lock is held.

    It stands beside the journal, where there is room for it; in the system's temporary directory
    if nothing can be made there.

    Raises:
        SinkError: it cannot be made.
    """
    real = journal.resolve()
    if os.access(real.parent, os.W_OK):
        with private_directory(scratch_path(real, purpose)) as directory:
            yield directory
    else:
        with contextlib.ExitStack() as stack:
            with _mapped(journal):
                made = stack.enter_context(tempfile.TemporaryDirectory(prefix="bulkfetch-"))
            yield Path(made)


def scratch_path(journal: Path, purpose: str) -> Path:
    """Return where the private directory of a journal stands."""
    return journal.with_name(f".{journal.name}.bulkfetch-{purpose}")


def _create(path: Path) -> int:
    """Create a file, and nothing else, and return its descriptor."""
    flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    return os.open(path, flags, 0o600)


def _create_locked(path: Path) -> int:
    """Create a file and lock it, in place of one that a killed run left.

    Raises:
        SinkError: another run holds it.
        OSError: it cannot be created.
    """
    for _ in range(_TRIES):
        with contextlib.suppress(FileExistsError):
            descriptor = _create(path)
            if _is_locked_here(descriptor, path):
                return descriptor
            os.close(descriptor)
        _remove_abandoned(path)
    raise SinkError(
        f"Another run is writing the same output ({path}). Wait for it, or name another output."
    )


def _remove_abandoned(path: Path) -> None:
    """Remove a temporary file that nobody is writing; wait a moment if somebody is."""
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        return
    try:
        if _is_locked_here(descriptor, path):
            path.unlink()
        else:
            time.sleep(_WAIT_S)
    finally:
        os.close(descriptor)


def _is_locked_here(descriptor: int, path: Path) -> bool:
    """Lock an open file; False if another run has it, or has it under this name no more."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        pass  # a file system without locks: the journal's lock has to do
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def _mapped(target: Path) -> Generator[None, None, None]:
    try:
        yield
    except OSError as error:
        raise SinkError(f"The output {target} cannot be written: {error.strerror}.") from None
