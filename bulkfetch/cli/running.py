"""Run a job under signals, and turn every ending into an exit code and its last lines.

The first SIGINT, SIGTERM or SIGHUP stops the job: no new call, the batch in hand whole in the
journal or not at all. What has not ended after a moment, or a second signal, ends the process.
Whatever the ending, the last line is the command that goes on from there.
"""

import contextlib
import os
import signal
import sys
import threading
import traceback
from collections.abc import Generator
from dataclasses import dataclass, replace
from typing import Any

import anyio

from bulkfetch.cli.console import Console
from bulkfetch.cli.exit_codes import ExitCode, exit_code_of
from bulkfetch.cli.option import option_of
from bulkfetch.cli.process import stopping_signals
from bulkfetch.cli.progress import Job, show_progress
from bulkfetch.cli.standing import Standing
from bulkfetch.errors import BulkfetchError, IncompleteError, SettingError

_PATIENCE_S = 1.4
_WORDS_S = 0.2
_SIGNAL_EXIT = 128
_WORDS: dict[int, str] = {signal.SIGINT: "Interrupted", signal.SIGHUP: "The terminal was closed"}


@dataclass(slots=True)
class Ending:
    """How a command ended.

    Attributes:
        code: the exit code, as a number.
        standing: where it stands then, if it can say.
        unwritten: the sentence that says so, if what is incomplete was not written.
        resume: how to go on, if not as was meant at first.
    """

    code: int = ExitCode.COMPLETE
    standing: Standing | None = None
    unwritten: str = ""
    resume: "Resume | None" = None


@dataclass(frozen=True, slots=True)
class Resume:
    """How to go on: the command, and whether what was fetched so far is kept for it.

    `retry_command` asks for what was quarantined, too; None where there is no such thing. `rest`
    says how to get what is missing.
    """

    command: str
    is_kept: bool = True
    retry_command: str | None = None
    rest: str = "Ask again for the rest with:"


class TerminatedError(BaseException):
    """SIGTERM or SIGHUP, while no event loop listens. Not for handlers of ordinary errors."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


async def run_job(job: Job, console: Console, resume: Resume) -> int | None:
    """Run a job with its progress shown.

    Args:
        job: what to run.
        console: where progress is shown.
        resume: how to go on if the process has to end in here.

    Returns:
        The number of the signal that stopped it; None if it came to its end.

    Raises:
        BulkfetchError: what the job raised.
    """
    stopped_by: list[int] = []
    timers: list[threading.Timer] = []
    finished = False
    failure: BulkfetchError | None = None
    async with anyio.create_task_group() as group:
        job_scope = anyio.CancelScope()

        async def watch_signals() -> None:
            with anyio.open_signal_receiver(*stopping_signals()) as signals:
                async for number in signals:
                    if stopped_by:
                        _exit_now(console, number, resume)
                    stopped_by.append(number)
                    timers.append(exit_later(console, number, resume))
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
    if finished:
        for timer in timers:
            timer.cancel()
        return None
    if stopped_by:
        return stopped_by[0]
    if failure is not None:
        raise failure
    return None


def exit_later(console: Console, number: int, resume: Resume) -> threading.Timer:
    """End the process if what is under way (a long sort, a stuck disk) does not end soon.

    The journal is then as after any other kill: each batch is in it whole or not at all.
    """
    timer = threading.Timer(_PATIENCE_S, _exit_now, [console, number, resume])
    timer.daemon = True
    timer.start()
    return timer


def _exit_now(console: Console, number: int, resume: Resume) -> None:
    """End the process, with the last lines unless the reader of standard error is stuck."""
    words = threading.Thread(target=say_stopped, args=(console, number, resume), daemon=True)
    words.start()
    words.join(_WORDS_S)
    os._exit(_SIGNAL_EXIT + number)


@contextlib.contextmanager
def ending(console: Console, resume: Resume | None) -> Generator[Ending, None, None]:
    """Turn whatever ends the block into an exit code, and say it in one sentence.

    Args:
        console: where the last lines go.
        resume: how to go on from here; None where there is nothing to go on with.
    """
    result = Ending()

    def terminate(number: int, _frame: object) -> None:
        raise TerminatedError(number)

    before: list[tuple[signal.Signals, Any]] = []
    is_begun = False
    try:
        for number in stopping_signals():
            before.append((number, signal.getsignal(number)))
            signal.signal(
                number, signal.default_int_handler if number == signal.SIGINT else terminate
            )
        is_begun = True
        yield result
    except BulkfetchError as error:
        result.code = exit_code_of(error)
        resume = result.resume or resume
        how = None if result.code == ExitCode.USAGE else resume
        if how is not None and how.retry_command and _is_quarantined_alone(error, how):
            how = replace(how, command=how.retry_command)
        unwritten = result.unwritten if result.code == ExitCode.INCOMPLETE else ""
        what = error.naming(option_of) if isinstance(error, SettingError) else str(error)
        said = "\n".join(filter(None, (what, unwritten)))
        _fail(console, said, _how(error, resume, result.standing), how, result.code)
    except (KeyboardInterrupt, TerminatedError, BaseExceptionGroup) as error:
        result.code = say_stopped(console, _signal_in(error), resume, result.standing)
        if not is_begun:  # there is no block to leave
            leave(result.code)
    except Exception as error:  # noqa: BLE001 - the last resort: a bug, said without locals
        result.code = ExitCode.BUG
        if os.environ.get("BULKFETCH_DEBUG") == "1":
            console.fail("".join(traceback.format_tb(error.__traceback__)))
        _fail(
            console,
            f"An unexpected {type(error).__name__} ended the run: this is a bug in bulkfetch "
            "(BULKFETCH_DEBUG=1 shows where).",
            "Go on with:",
            resume,
            result.code,
        )
    finally:
        for number, handler in before:
            signal.signal(number, handler)


def _signal_in(error: BaseException) -> int:
    """Return the number of the signal that an exception stands for.

    It is in a group where the signal came just before a task put its own handler in place. What
    stands for none is raised.
    """
    found: BaseException | None = error
    if isinstance(error, BaseExceptionGroup):
        found = error.subgroup((KeyboardInterrupt, TerminatedError))
    while isinstance(found, BaseExceptionGroup):
        found = found.exceptions[0]
    if not isinstance(found, KeyboardInterrupt | TerminatedError):
        raise error
    return signal_of(found)


def signal_of(error: KeyboardInterrupt | TerminatedError) -> int:
    """Return the number of the signal that an exception stands for."""
    return error.number if isinstance(error, TerminatedError) else signal.SIGINT


def say_stopped(
    console: Console, number: int, resume: Resume | None, standing: Standing | None = None
) -> int:
    """Say that a signal stopped the run, and return its exit code."""
    name = _WORDS.get(number, "Terminated")
    code = _SIGNAL_EXIT + number
    if resume is None or resume.is_kept:
        kept = standing or "What was fetched is kept."
        _fail(console, f"{name}. {kept}", "Go on with:", resume, code)
    else:
        _fail(console, f"{name}. Nothing is kept.", "Begin again with:", resume, code)
    return code


def leave(code: int) -> None:
    """Exit, without a traceback where standard output was closed by its reader."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            stream.flush()
    if code > _SIGNAL_EXIT:
        os._exit(code)  # all is closed; what the interpreter still tidies up takes its time
    with contextlib.suppress(OSError):
        # Whatever is left unwritten has been reported; the interpreter must not try again.
        if code:
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    sys.exit(code)


def _is_quarantined_alone(error: BulkfetchError, resume: Resume | None) -> bool:
    """Whether all that is missing was rejected, and may be asked for again."""
    return (
        isinstance(error, IncompleteError)
        and not error.failed
        and resume is not None
        and resume.retry_command is not None
    )


def _how(error: BulkfetchError, resume: Resume | None, standing: Standing | None) -> str:
    """Say what is kept and what is missing, and what the command that follows does."""
    if resume is not None and not resume.is_kept:
        return "Nothing is kept. Begin again with:"
    parts = [] if standing is None else [str(standing)]
    if _is_quarantined_alone(error, resume):
        if standing is not None and standing.is_mostly_fetched:
            parts.insert(0, standing.say_rest())
        parts.append("When what was rejected is mended, ask for it again with:")
    elif isinstance(error, IncompleteError):
        parts.append("Ask again for the rest with:" if resume is None else resume.rest)
    else:
        parts.append("When that is mended, go on with:")
    return " ".join(parts)


def _fail(console: Console, sentence: str, how: str, resume: Resume | None, code: int) -> None:
    if resume is None:
        console.fail(sentence, exit_code=int(code))
    elif console.as_json:
        console.fail(sentence, exit_code=int(code), resume=resume.command)
    else:
        console.fail(f"{sentence}\n{how}\n  {resume.command}")
