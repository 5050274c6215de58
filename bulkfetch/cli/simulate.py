"""`bulkfetch simulate`: a simulated account to develop against, until it is interrupted."""

import os
import shlex
import signal
from pathlib import Path

import anyio

from bulkfetch.cli.console import Console
from bulkfetch.errors import SinkError, UsageError
from bulkfetch.export.atomic import replacing
from bulkfetch.simulator import Account, Profile, Simulator
from bulkfetch.words import counted

LEARNERS_FILE, COURSES_FILE, TOKEN_FILE = "learners.txt", "courses.txt", "token.txt"


def make_account(learners: int, courses: int, enrollments: int, seed: int) -> Account:
    """Make the data of an account.

    Raises:
        UsageError: a number is out of range.
    """
    try:
        return Account(learners, courses, enrollments, seed)
    except ValueError as error:
        raise UsageError(f"Such an account cannot be made: {error}") from None


def write_inputs(account: Account, directory: Path) -> None:
    """Write the account's ids, one a line, for `bulkfetch export`.

    Raises:
        SinkError: they cannot be written.
    """
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SinkError(f"The directory {directory} cannot be made: {error.strerror}.") from None
    for name, ids in ((LEARNERS_FILE, account.learner_ids), (COURSES_FILE, account.course_ids)):
        with replacing(directory / name) as temporary:
            temporary.write_text("".join(f"{value}\n" for value in ids), encoding="utf-8")


async def serve(
    account: Account,
    profile: Profile,
    *,
    host: str,
    port: int,
    directory: Path,
    seed: int,
    console: Console,
) -> int:
    """Serve the account until a signal comes; return its number.

    The URL is the one line on standard output, for programs that start this one.

    Raises:
        SinkError: the port is taken, or the id files cannot be written.
    """
    write_inputs(account, directory)
    with anyio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        try:
            simulator = Simulator(account, profile, seed=seed, host=host, port=port)
            await simulator.__aenter__()
        except OSError as error:
            raise SinkError(
                f"The address {host}:{port} cannot be used: {error.strerror}."
            ) from None
        try:
            with replacing(directory / TOKEN_FILE) as temporary:
                temporary.write_text(simulator.token + "\n")
            os.write(1, f"{simulator.url}\n".encode())
            command = shlex.join(
                [
                    *("bulkfetch", "export", "--url", simulator.url),
                    *("--token-file", str(directory / TOKEN_FILE)),
                    *("--learners", str(directory / LEARNERS_FILE)),
                    *("--courses", str(directory / COURSES_FILE)),
                    *("-o", "enrollments.csv"),
                ]
            )
            console.say(
                "serving",
                f"{counted(len(account), 'enrollment')} of "
                f"{counted(len(account.learner_ids), 'learner')} in "
                f"{counted(len(account.course_ids), 'course')}, profile {profile.name}.\n"
                f"Client id {simulator.client_id}, client secret {simulator.client_secret} "
                "(made up, as everything here). Export it with:\n"
                f"  {command}\nCtrl-C ends it.",
                url=simulator.url,
            )
            async for number in signals:
                return int(number)
        finally:
            with anyio.CancelScope(shield=True):
                await simulator.__aexit__(None, None, None)
    return 0
