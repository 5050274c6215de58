"""Real exports as real processes, under strace: what each test needs to harm them and to judge."""

import os
import re
import shutil
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from anyio.from_thread import BlockingPortal, start_blocking_portal

from bulkfetch.errors import UsageError
from bulkfetch.export.formats import format_of
from bulkfetch.export.job import ExportJob, ExportSettings
from bulkfetch.export.journal import Journal
from bulkfetch.export.sinks.files import FileSink
from bulkfetch.inputs import make_region
from bulkfetch.options import Options
from bulkfetch.plan.rectangle import Rectangle
from bulkfetch.service import Credentials
from bulkfetch.simulator import Account, Simulator, load_profile

Result = subprocess.CompletedProcess[bytes]
OLD = b"what an earlier export wrote\n"
INPUTS = {"learners.txt", "courses.txt", "token.txt"}
# What an export writes, by what it is for. Counted apart, because strace counts for each thread
# and system call by itself: the k-th of one group is then always the same one.
GROUPS = ("journal", "output", "report")


@dataclass(frozen=True)
class Site:
    """A directory with inputs and an old output, and a service of its own with a ledger."""

    directory: Path
    simulator: Simulator
    output: str
    portal: BlockingPortal
    starter: Any
    old: bytes = OLD

    @property
    def target(self) -> Path:
        return self.directory / self.output

    @property
    def journal(self) -> Path:
        return self.directory / f"{self.output}.bulkfetch"

    def command(self, *more: str) -> list[str]:
        return [sys.executable, "-m", "bulkfetch", *self._arguments(*more)]

    def _arguments(self, *more: str) -> list[str]:
        return [
            *("export", "--url", self.simulator.url),
            *("--token-file", "token.txt", "--learners", "learners.txt"),
            *("--courses", "courses.txt", "-o", self.output, "--report", "r.json", *more),
        ]

    def run(self, *more: str, prefix: list[str] | None = None) -> Result:
        """Run an export to its end, with a umask that hides nothing."""
        if prefix is None:
            return self._start(*more)
        return subprocess.run(
            [*prefix, *self.command(*more)],
            cwd=self.directory,
            capture_output=True,
            check=False,
            timeout=180,
            umask=0,
            env=environment(),
        )

    def run_traced(self, group: str, *options: str, arguments: Sequence[str]) -> Result:
        """Run an export to its end, with strace looking at one group of files, and only at it."""

        @contextmanager
        def trace(process: int) -> Iterator[None]:
            tracer = subprocess.Popen([*self._strace(group, *options), "-p", str(process)])
            status = Path(f"/proc/{process}/status")
            while "\nTracerPid:\t0\n" in status.read_text():
                assert tracer.poll() is None
                time.sleep(0.001)
            yield
            assert tracer.wait() == 0

        return self._start(*arguments, meet=trace)

    def _start(self, *more: str, **settings: Any) -> Result:
        result: Result = self.starter.run(
            *self._arguments(*more),
            directory=self.directory,
            environment=environment(),
            umask=0,
            **settings,
        )
        return result

    def go_on(self, *, batch_size: int, workers: int) -> None:
        """Do what the same command does, in this process: a sweep starts enough of them."""
        account = self.simulator.account
        settings = ExportSettings(
            base_url=self.simulator.url,
            credentials=Credentials(token=self.simulator.token),
            region=make_region(account.learner_ids, account.course_ids),
            sink=FileSink(self.target, format_of(self.output)),
            journal=self.journal,
            options=Options(batch_size=batch_size, workers=workers),
        )
        self.portal.call(ExportJob(settings).run)

    def strace(self, group: str, *options: str) -> list[str]:
        """Return what runs a command under strace, looking at one group of files alone."""
        return [*self._strace(group, *options), "--"]

    def _strace(self, group: str, *options: str) -> list[str]:
        return [
            *("strace", "-f", "-qq", "-y", "-o", str(self.directory / "strace")),
            *(f"--trace-path={path}" for path in self.paths(group)),
            *options,
        ]

    def paths(self, group: str) -> list[str]:
        """Return every path of a group as the program names it, and the directory."""
        here, name = self.directory, self.output
        journal = self.journal.name
        by_group = {
            "journal": [
                *(journal, f"{journal}.lock"),
                *(str(here / f"{journal}{suffix}") for suffix in ("", "-wal", "-shm", "-journal")),
                str(here / f"{journal}.lock"),
            ],
            "output": [
                *(str(here / kind.format(name)) for kind in ("{}", ".{}.bulkfetch-part")),
                str(here / f".{name}.bulkfetch-try"),
                str(here / f".{journal}.bulkfetch-scratch"),
                str(here),
            ],
            "report": [
                str(here / file) for file in ("r.json", ".r.json.bulkfetch-part")
            ],
        }  # fmt: skip
        return by_group[group]

    def counts(self) -> Counter[str]:
        """Return how often the busiest thread made each system call that strace has logged."""
        log = (self.directory / "strace").read_text(errors="replace")
        made = Counter(re.findall(r"^(\d+) +(\w+)\(", log, re.MULTILINE))
        busiest: Counter[str] = Counter()
        for (_, name), count in made.items():
            busiest[name] = max(busiest[name], count)
        return busiest

    def kept(self) -> list[Rectangle]:
        """Return what a copy of the journal holds, as it is right now."""
        copy = self.directory.with_name(f"{self.directory.name}-copy")
        copy.mkdir()
        for suffix in ("", "-wal", "-journal"):
            file = self.journal.with_name(self.journal.name + suffix)
            if file.exists():
                shutil.copy(file, copy / f"journal{suffix}")
        try:
            journal = Journal.open_existing(copy / "journal")
        except UsageError:
            return []  # nothing was ever written
        else:
            finished = journal.finished()
            journal.close()
            return finished
        finally:
            shutil.rmtree(copy)

    def asked(self, start: int = 0) -> list[Rectangle]:
        """Return what the service was asked for, from its `start`-th call on."""
        return [
            Rectangle(call.learner_ids, call.course_ids)
            for call in self.simulator.ledger.calls[start:]
        ]

    def pairs(self, rectangles: list[Rectangle]) -> set[tuple[str, str]]:
        """Return the pairs of learner and course that rectangles cover."""
        account = self.simulator.account
        return {
            (learner, course)
            for rectangle in rectangles
            for learner in rectangle.learners or account.learner_ids
            for course in rectangle.courses or account.course_ids
        }

    def created(self) -> dict[str, int]:
        """Return the modes of what the export created, by name."""
        return {
            path.name: path.stat().st_mode & 0o777
            for path in self.directory.iterdir()
            if path.name not in INPUTS | {"strace"}
        }


def environment() -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if "BULKFETCH" not in name}
    return kept | {"PYTHONDONTWRITEBYTECODE": "1"}


@pytest.fixture(scope="session")
def strace() -> None:
    """Make sure that strace is here and may trace; CI must not pass without."""
    found = shutil.which("strace") is not None
    works = found and subprocess.run(["strace", "-qq", "-o", os.devnull, "true"], check=False)
    if not works or works.returncode:
        message = "strace is not installed or may not trace here"
        if os.environ.get("CI") == "true":
            pytest.fail(message)
        pytest.skip(message)


@pytest.fixture(scope="session")
def account() -> Account:
    return Account(learners=56, courses=5, enrollments=280, seed=5)


OpenSite = Callable[..., AbstractContextManager[Site]]


@pytest.fixture(scope="session")
def open_site(account: Account, starter: Any) -> Iterator[OpenSite]:
    """Open sites, from any thread; each has a service of its own."""
    with start_blocking_portal() as portal:

        @contextmanager
        def enter(
            directory: Path,
            output: str,
            *,
            profile: str = "steady",
            account: Account = account,
        ) -> Iterator[Site]:
            directory.mkdir(exist_ok=True)
            simulator = Simulator(account, load_profile(profile), seed=1)
            with portal.wrap_async_context_manager(simulator):
                (directory / "learners.txt").write_text("\n".join(account.learner_ids))
                (directory / "courses.txt").write_text("\n".join(account.course_ids))
                (directory / "token.txt").touch(0o600)
                (directory / "token.txt").write_text(simulator.token)
                (directory / output).touch(0o600)
                (directory / output).write_bytes(OLD)
                yield Site(directory, simulator, output, portal, starter)

        yield enter
