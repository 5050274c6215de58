"""Names of files that a command is given: nothing is written over what else it reads or writes.

A journal and an output take more names than their own: logs, a lock, directories and files that are
there for a while. All of these are taken, whatever links lead to them, so that what a command says
it has written is there, and whole.
"""

import os
from dataclasses import dataclass
from enum import Enum, auto
from pathlib import Path

from bulkfetch.errors import UsageError
from bulkfetch.export.atomic import scratch_path, temporary_paths
from bulkfetch.export.database import LOGS
from bulkfetch.export.lock import lock_path
from bulkfetch.words import counted

_DATABASE_LOG = ".wal"  # DuckDB's, beside a file that it writes


class Role(Enum):
    """What a command does with a file."""

    JOURNAL = auto()  # goes on with it
    SOURCE = auto()  # reads it, and makes files beside it: a journal
    OUTPUT = auto()  # replaces it
    INPUT = auto()  # reads it


@dataclass(frozen=True, slots=True)
class Named:
    """A file that a command is given.

    Attributes:
        option: by which it is named, or what the argument is called.
        path: of the file.
        role: what is done with it.
    """

    option: str
    path: Path
    role: Role


def check_names(*files: Named) -> None:
    """Check that files do not stand in each other's way, and that their names are not too long.

    Raises:
        UsageError: two options name one file, one names a file that belongs to another's, or a
            name leaves no room for those that are made beside it.
    """
    own: dict[Path, Named] = {}
    for file in files:
        other = own.setdefault(_place(file.path), file)
        is_read = {file.role, other.role} <= {Role.INPUT, Role.SOURCE}
        if other.option != file.option and not is_read:
            raise UsageError(f"{other.option} and {file.option} name the same file {file.path}.")
    for owner in files:
        beside = {_place(path) for path in _beside(owner)}
        for file in files:
            place = _place(file.path)
            if not beside.isdisjoint((place, *place.parents)):
                raise UsageError(
                    f"{file.option} names {file.path}, which is kept for what {owner.option} "
                    f"needs beside {owner.path}: give it another name."
                )
        _check_length(owner)


def _beside(file: Named) -> list[Path]:
    """Return what a command makes beside a file."""
    real = file.path.resolve()
    if file.role is Role.INPUT:
        return []
    if file.role is Role.OUTPUT:
        return temporary_paths(real)
    logs = [real.with_name(real.name + suffix) for suffix in LOGS]
    scratch = [scratch_path(real, purpose) for purpose in ("scratch", "verify")]
    return [*logs, lock_path(real), *scratch]


def _check_length(file: Named) -> None:
    """Check that the longest name that is made beside a file fits its directory.

    Raises:
        UsageError: it does not.
    """
    if file.role not in {Role.JOURNAL, Role.OUTPUT}:
        return
    try:
        most = os.pathconf(file.path.resolve().parent, "PC_NAME_MAX")
    except (OSError, ValueError):
        return  # there is no such directory, which is said elsewhere
    longest = max(len(os.fsencode(path.name)) for path in _beside(file)) + len(_DATABASE_LOG)
    if longest > most:
        raise UsageError(
            f"The name {file.path.name} ({file.option}) is too long by "
            f"{counted(longest - most, 'byte')} for the files that are made beside it: "
            "give it a shorter one."
        )


def _place(path: Path) -> Path:
    """Return where a path leads, spelled in one way where the case of letters makes no difference.

    Raises:
        UsageError: it leads in a circle.
    """
    try:
        real = path.resolve()
    except (OSError, RuntimeError):
        raise UsageError(f"The path {path} leads nowhere: its links go in a circle.") from None
    return real.with_name(real.name.casefold()) if _folds_case(real.parent) else real


def _folds_case(directory: Path) -> bool:
    """Whether names that differ in the case of letters alone are the same, if that can be told."""
    swapped = directory.with_name(directory.name.swapcase()) if directory.name else directory
    try:
        return swapped != directory and swapped.samefile(directory)
    except OSError:
        return False
