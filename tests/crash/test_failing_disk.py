"""The N-th write, sync, rename, close … of an export fails, as a full or a broken disk fails.

Such a run ends with 0 and a whole output, or with 7 and one sentence, the command that goes on as
its last line, and the old output or the whole new one in place. The same command again, on a disk
that is well, ends with the bytes of an undisturbed run.
"""

import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

OpenSite = Callable[..., AbstractContextManager[Any]]
CAN_FAIL = (
    "write,writev,pwrite64,pwritev,fsync,fdatasync,rename,renameat,renameat2,close,ftruncate,"
    "fallocate,mkdir,openat"
)
SIZES = ("--batch-size", "28", "--workers", "1")
AT_A_TIME = 2


@dataclass(frozen=True)
class Failure:
    """The N-th system call of this name on a group of files fails."""

    group: str
    call: str
    number: int
    error: str

    def __str__(self) -> str:
        return f"{self.error} of {self.call} {self.number} on the {self.group}"


def measure(open_site: OpenSite, directory: Path) -> tuple[bytes, list[Failure]]:
    """Run an export for each group; return its output and all that can fail."""
    failures, outputs = [], []
    for group in ("journal", "output", "report"):
        with open_site(directory / group, "o.csv") as site:
            result = site.run_traced(group, f"--trace={CAN_FAIL}", arguments=SIZES)
            assert result.returncode == 0, result.stderr
            failures += [
                Failure(group, call, number, error)
                for call, count in sorted(site.counts().items())
                # Python itself lists the directory when it starts.
                if (group, call) != ("output", "openat")
                for number in range(1, count + 1)
                for error in ("ENOSPC", "EIO")
            ]
            outputs.append(site.target.read_bytes())
    assert outputs[0] == outputs[1] == outputs[2]
    return outputs[0], failures


def fail_and_repeat(
    open_site: OpenSite, directory: Path, quiet: bytes, failure: Failure, *, in_process: bool
) -> int:
    """Return the exit code of the run that met the failure."""
    with open_site(directory, "o.csv") as site:
        inject = f"--inject={failure.call}:error={failure.error}:when={failure.number}"
        failed = site.run_traced(failure.group, f"--trace={failure.call}", inject, arguments=SIZES)
        log = (site.directory / "strace").read_text(errors="replace")
        # DuckDB's threads share the work anew each time: the last calls of one may not come.
        assert "INJECTED" in log or failed.returncode == 0
        stderr = failed.stderr.decode()
        output = site.target.read_bytes()
        assert failed.returncode in {0, 7}, stderr
        if failed.returncode == 0:
            assert output == quiet
        else:
            assert output in {site.old, quiet}
            assert stderr.splitlines()[-1].startswith("  bulkfetch export --url "), stderr
            assert "Traceback" not in stderr
        if in_process:
            site.go_on(batch_size=28, workers=1)
        else:
            again = site.run(*SIZES)
            assert again.returncode == 0, again.stderr
        assert site.target.read_bytes() == quiet
        journal = site.journal.name
        assert set(site.created()) - {"r.json"} == {site.output, journal, f"{journal}.lock"}
    shutil.rmtree(directory)
    return int(failed.returncode)


def sweep(open_site: OpenSite, tmp_path: Path, stride: int, each_as_a_command: int) -> list[int]:
    """Let every `stride`-th failure happen; return the exit codes.

    Of so many repetitions one is the command itself; the others do the same in this process.
    """
    quiet, failures = measure(open_site, tmp_path)

    def harm(numbered: tuple[int, Failure]) -> int | str:
        number, failure = numbered
        try:
            return fail_and_repeat(
                open_site,
                tmp_path / str(number),
                quiet,
                failure,
                in_process=bool(number % each_as_a_command),
            )
        except AssertionError as wrong:
            return f"{failure}: {wrong}"

    with ThreadPoolExecutor(AT_A_TIME) as pool:
        endings = list(pool.map(harm, enumerate(failures[::stride])))
    wrongs = [ending for ending in endings if isinstance(ending, str)]
    assert not wrongs, "\n".join(wrongs)
    return [ending for ending in endings if isinstance(ending, int)]


@pytest.mark.usefixtures("strace")
def test_some_failures_of_the_disk_never_end_in_a_short_file(
    open_site: OpenSite, tmp_path: Path
) -> None:
    assert 7 in sweep(open_site, tmp_path, stride=29, each_as_a_command=1)


@pytest.mark.sweep
@pytest.mark.timeout(900)
@pytest.mark.usefixtures("strace")
def test_no_failure_of_the_disk_ends_in_a_short_file(open_site: OpenSite, tmp_path: Path) -> None:
    codes = sweep(open_site, tmp_path, stride=1, each_as_a_command=5)
    assert codes.count(7) > 100
