"""Write a file whole or not at all, readable by its owner alone.

Temporary file in the same directory, 0600 from birth; written, flushed, fsynced, closed with the
error looked at (on a full disk a small write fails only there); renamed over the target; then the
directory is fsynced. A target that is a link is followed, so that the link stays.
"""

import contextlib
import os
import tempfile
from collections.abc import Generator
from pathlib import Path

from bulkfetch.errors import SinkError, UsageError


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
    try:
        descriptor, probe = tempfile.mkstemp(prefix=".bulkfetch-", dir=target.parent)
        os.close(descriptor)
        Path(probe).unlink()
    except OSError as error:
        raise SinkError(
            f"The output's directory {target.parent} cannot be written to: {error.strerror}."
        ) from None


@contextlib.contextmanager
def replacing(target: Path) -> Generator[Path, None, None]:
    """Give a temporary file to write; put it in the target's place if the block succeeds.

    Raises:
        SinkError: the file cannot be made durable or put in place.
    """
    target = target.resolve()
    with _mapped(target):
        descriptor, name = tempfile.mkstemp(prefix=f".{target.name}.", dir=target.parent)
        os.close(descriptor)
    temporary = Path(name)
    try:
        yield temporary
        with _mapped(target):
            _sync(temporary)
            temporary.replace(target)
            _sync(target.parent)
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
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
