import contextlib
import fcntl
import os
import pty
import struct
import subprocess
import sys
import termios
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anyio.from_thread
import pytest

from bulkfetch.simulator import Account, Profile, Simulator, load_profile, parse_profile

Result = subprocess.CompletedProcess[bytes]


@dataclass(frozen=True)
class Place:
    """A directory with id files and a token, and a service that answers for them."""

    directory: Path
    simulator: Simulator
    account: Account

    def export(self, *arguments: str, output: str = "o.csv") -> list[str]:
        return [
            *("export", "--url", self.simulator.url, "--token-file", "token.txt"),
            *("--learners", "learners.txt", "--courses", "courses.txt", "-o", output, *arguments),
        ]


def environment(**more: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if "BULKFETCH" not in name}
    return kept | more


@pytest.fixture
def bulkfetch(tmp_path: Path, starter: Any) -> Callable[..., Result]:
    """Run the command in the test's directory."""

    def run(*arguments: str, stdin: bytes = b"", **variables: str) -> Result:
        result: Result = starter.run(
            *arguments, directory=tmp_path, stdin=stdin, environment=environment(**variables)
        )
        return result

    return run


@pytest.fixture
def terminal(tmp_path: Path) -> Callable[..., tuple[int, str]]:
    """Run the command at a terminal of 80 columns; return its exit code and what is shown."""

    def run(*arguments: str) -> tuple[int, str]:
        master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
        process = subprocess.Popen(
            [sys.executable, "-m", "bulkfetch", *arguments],
            cwd=tmp_path,
            env=environment(TERM="xterm"),
            stdin=slave,
            stdout=slave,
            stderr=slave,
        )
        os.close(slave)
        shown = b""
        with contextlib.suppress(OSError):  # how a terminal ends
            while part := os.read(master, 65536):
                shown += part
        os.close(master)
        return process.wait(timeout=60), shown.decode().replace("\r\n", "\n")

    return run


@pytest.fixture(scope="session")
def account() -> Account:
    return Account(learners=600, courses=20, enrollments=5_000, seed=5)


@pytest.fixture
def serve(tmp_path: Path, account: Account) -> Iterator[Callable[..., Place]]:
    """Serve the account with a profile, by name or as keys, from a thread."""
    with anyio.from_thread.start_blocking_portal() as portal:
        stops = []

        def start(profile: str | dict[str, object] = "steady", *, seed: int = 1) -> Place:
            read: Profile = (
                load_profile(profile) if isinstance(profile, str) else parse_profile(profile)
            )
            manager = portal.wrap_async_context_manager(Simulator(account, read, seed=seed))
            simulator = manager.__enter__()
            stops.append(manager)
            (tmp_path / "learners.txt").write_text("\n".join(account.learner_ids))
            (tmp_path / "courses.txt").write_text("\n".join(account.course_ids))
            (tmp_path / "token.txt").touch(0o600)
            (tmp_path / "token.txt").write_text(simulator.token)
            return Place(tmp_path, simulator, account)

        yield start
        for manager in stops:
            manager.__exit__(None, None, None)
