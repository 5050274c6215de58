"""What the process sets up before anything else: private files, standard streams, early signals.

Light on imports, because it has to come before the heavy ones.
"""

import os
import resource
import shlex
import signal
import sys
from itertools import pairwise

from bulkfetch.errors import LocalError
from bulkfetch.redact import escape_controls
from bulkfetch.words import counted

MAX_QUARANTINED = "--max-quarantined"
RETRY_QUARANTINED = "--retry-quarantined"
_STANDARD_ERROR = 2
# Journal with its log, lock, output, spilled sort, event loop, resolver: measured, and half again.
_DESCRIPTORS_BESIDES_CALLS = 32
_DESCRIPTORS_PER_CALL = 2  # an empty answer is confirmed on a fresh connection


def set_up() -> None:
    """Make files private, closed standard streams harmless, and early signals one sentence."""
    os.umask(0o077)  # temporary files of libraries, too
    _open_closed_streams()
    for number in stopping_signals():
        signal.signal(number, _leave)


def stopping_signals() -> list[signal.Signals]:
    """Return what ends a run in order; without the terminal's end where nohup has it ignored."""
    signals = [signal.SIGINT, signal.SIGTERM]
    if signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:
        signals.append(signal.SIGHUP)
    return signals


def resume_command(
    arguments: list[str], *, retry_quarantined: bool = False, is_bounded: bool = True
) -> str:
    """Return the command that goes on, from this one's arguments. No argument holds a secret.

    It asks again for what was quarantined if told to; else what this run quarantined is left alone.
    Unless `is_bounded`, any number of ids may be.
    """
    kept = [each for each in arguments if each not in {"--restart", RETRY_QUARANTINED}]
    if not is_bounded:
        kept = [
            each
            for before, each in pairwise(["", *kept])
            if MAX_QUARANTINED not in {each, before} and not each.startswith(f"{MAX_QUARANTINED}=")
        ]
    kept += [RETRY_QUARANTINED] if retry_quarantined else []
    return _command(kept)


def _command(arguments: list[str]) -> str:
    """Return a command in one line, whatever its arguments hold, fit to be copied into a shell."""
    return " ".join(["bulkfetch", *map(_quote, arguments)])


def _quote(argument: str) -> str:
    """Quote an argument; what a terminal would obey or break a line at, as bash and zsh read it."""
    if escape_controls(argument) == argument:
        return shlex.quote(argument)
    quoted = "".join(
        "\\" + character
        if character in "\\'"
        else character
        if escape_controls(character) == character
        else "".join(f"\\x{byte:02x}" for byte in os.fsencode(character))
        for character in argument
    )
    return f"$'{quoted}'"


def fit_descriptors(workers: int | None, max_workers: int) -> int:
    """Return how many calls in flight find descriptors; raise the soft limit if need be.

    Args:
        workers: how many are asked for; None if that is to be found out.
        max_workers: the most that is to be found out.

    Raises:
        LocalError: the process may not have enough for those asked for, or for any.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = workers or max_workers
    needed = wanted * _DESCRIPTORS_PER_CALL + _DESCRIPTORS_BESIDES_CALLS
    if soft == resource.RLIM_INFINITY or soft >= needed:
        return wanted
    if hard == resource.RLIM_INFINITY or hard >= needed:
        resource.setrlimit(resource.RLIMIT_NOFILE, (needed, hard))
        return wanted
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    possible = (hard - _DESCRIPTORS_BESIDES_CALLS) // _DESCRIPTORS_PER_CALL
    if possible < (workers or 1):
        raise LocalError(
            f"This process may have {hard:,} files and connections open at a time, which is enough "
            f"for {counted(max(0, possible), 'call')} in flight: raise the limit (ulimit -n)"
            + (", or use fewer --workers." if possible > 0 else ".")
        )
    return possible


def _open_closed_streams() -> None:
    """Open what is closed of descriptors 0, 1 and 2, or the next file opened would be one of them.

    Standard output is opened for reading: writing to it remains the error that it was.
    """
    for descriptor in range(_STANDARD_ERROR + 1):
        try:
            os.fstat(descriptor)
        except OSError:
            # Takes the lowest that is free: this one.
            os.open(os.devnull, os.O_WRONLY if descriptor == _STANDARD_ERROR else os.O_RDONLY)
    if sys.stdin is None:
        sys.stdin = open(0, closefd=False, encoding="utf-8")  # noqa: SIM115
    if sys.stdout is None:
        sys.stdout = open(1, "w", closefd=False, encoding="utf-8")  # noqa: SIM115
    if sys.stderr is None:
        sys.stderr = open(2, "w", closefd=False, encoding="utf-8")  # noqa: SIM115


def _leave(number: int, _frame: object) -> None:
    """End at once: nothing was begun. Commands put their own handlers in this one's place."""
    command = _command(sys.argv[1:])
    try:
        os.write(2, f"\nStopped before it began. The command is:\n  {command}\n".encode())
    finally:
        os._exit(128 + number)
