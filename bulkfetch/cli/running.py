"""Run a job under signals, and turn every ending into an exit code and its last lines.

The first SIGINT or SIGTERM stops the job: no new call, the batch in hand whole in the journal or
not at all. What has not ended after a moment, or a second signal, ends the process.
"""

import contextlib
import os
import shlex
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Generator
from dataclasses import dataclass

import anyio

from bulkfetch.cli.console import Console
from bulkfetch.cli.exit_codes import ExitCode, exit_code_of
from bulkfetch.cli.progress import Job, show_progress
from bulkfetch.errors import BulkfetchError, IncompleteError

_PATIENCE_S = 1.5
_SIGNAL_EXIT = 128


@dataclass(slots=True)
class Ending:
    """How a command ended: an exit code, as a number."""

    code: int = ExitCode.COMPLETE


class TerminatedError(BaseException):
    """SIGTERM, while no event loop listens for it. Not for handlers of ordinary errors."""


async def run_job(job: Job, console: Console) -> int | None:
    """Run a job with its progress shown.

    Returns:
        The number of the signal that stopped it; None if it came to its end.

    Raises:
        BulkfetchError: what the job raised.
    """
    stopped_by: list[int] = []
    finished = False
    failure: BulkfetchError | None = None
    async with anyio.create_task_group() as group:
        job_scope = anyio.CancelScope()

        async def watch_signals() -> None:
            with anyio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
                async for number in signals:
                    if stopped_by:
                        os._exit(_SIGNAL_EXIT + number)
                    stopped_by.append(number)
                    _exit_later(number)
                    job.stop()
                    job_scope.cancel()

        group.start_soon(watch_signals)
        group.start_soon(show_progress, job, console)
        with job_scope:
            try:
                await job.run()
                finished = True
            except BulkfetchError as error:
                failure = error
        group.cancel_scope.cancel()
    if stopped_by and not finished:
        return stopped_by[0]
    if failure is not None:
        raise failure
    return None


def _exit_later(number: int) -> None:
    """End the process if what is under way (a long sort, a stuck disk) does not end soon."""
    timer = threading.Timer(_PATIENCE_S, os._exit, [_SIGNAL_EXIT + number])
    timer.daemon = True
    timer.start()


@contextlib.contextmanager
def ending(console: Console, resume: Callable[[], str | None]) -> Generator[Ending, None, None]:
    """Turn whatever ends the block into an exit code, and say it in one sentence.

    Args:
        console: where the last lines go.
        resume: gives the command that goes on from here, if there is one.
    """
    result = Ending()

    def terminate(_number: int, _frame: object) -> None:
        raise TerminatedError

    before = signal.signal(signal.SIGTERM, terminate)
    try:
        yield result
    except BulkfetchError as error:
        result.code = exit_code_of(error)
        command = None if result.code == ExitCode.USAGE else resume()
        _fail(console, str(error), _how(error), command, result.code)
    except (KeyboardInterrupt, TerminatedError) as error:
        number = signal.SIGINT if isinstance(error, KeyboardInterrupt) else signal.SIGTERM
        result.code = say_stopped(console, number, resume())
    except Exception as error:  # noqa: BLE001 - the last resort: a bug, said without locals
        result.code = ExitCode.BUG
        if os.environ.get("BULKFETCH_DEBUG") == "1":
            console.fail("".join(traceback.format_tb(error.__traceback__)))
        _fail(
            console,
            f"An unexpected {type(error).__name__} ended the run: this is a bug in bulkfetch "
            "(BULKFETCH_DEBUG=1 shows where).",
            "Go on with:",
            resume(),
            result.code,
        )
    finally:
        signal.signal(signal.SIGTERM, before)


def say_stopped(console: Console, number: int, command: str | None) -> int:
    """Say that a signal stopped the run, and return its exit code."""
    name = "Interrupted" if number == signal.SIGINT else "Terminated"
    code = _SIGNAL_EXIT + number
    _fail(console, f"{name}. What was fetched is kept.", "Go on with:", command, code)
    return code


def resume_command(arguments: list[str]) -> str:
    """Return the command that goes on, from this one's arguments. No argument holds a secret."""
    kept = [argument for argument in arguments if argument != "--restart"]
    return shlex.join(["bulkfetch", *kept])


def leave(code: int) -> None:
    """Exit, without a traceback where standard output was closed by its reader."""
    with contextlib.suppress(OSError, ValueError):
        sys.stdout.flush()
    with contextlib.suppress(OSError):
        # Whatever is left unwritten has been reported; the interpreter must not try again.
        if code:
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    sys.exit(code)


def _how(error: BulkfetchError) -> str:
    if isinstance(error, IncompleteError):
        return "What was fetched is kept in the journal. Ask again for the rest with:"
    return "When that is mended, go on with:"


def _fail(console: Console, sentence: str, how: str, command: str | None, code: int) -> None:
    if command is None:
        console.fail(sentence, exit_code=int(code))
    elif console.as_json:
        console.fail(sentence, exit_code=int(code), resume=command)
    else:
        console.fail(f"{sentence}\n{how}\n  {command}")
