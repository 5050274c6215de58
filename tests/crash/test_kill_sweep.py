"""SIGKILL at every write-like system call of an export; then the same command again.

After each kill the journal opens, holds every batch that was acknowledged, and nothing of it is
asked for again (C1); the output is the old whole file or the new one (C2); everything is private
(S5). After the resume, which has another batch size and other workers, the bytes are those of an
undisturbed run (I5) and nothing else is left in the directory.
"""

import json
import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

OpenSite = Callable[..., AbstractContextManager[Any]]
WRITE_LIKE = (
    "write,writev,pwrite64,pwritev,pwritev2,copy_file_range,sendfile,fsync,fdatasync,"
    "sync_file_range,rename,renameat,renameat2,link,linkat,unlink,unlinkat,ftruncate,truncate,"
    "fallocate,mkdir,mkdirat,rmdir,chmod,fchmod,fchmodat,openat"
)
SIZES = ("--batch-size", "8", "--workers", "1")
OTHER_SIZES = ("--batch-size", "7", "--workers", "3")
KILLED = 137, -9
AT_A_TIME = 2


@dataclass(frozen=True)
class Point:
    """The k-th system call of this name, by any thread, on a group of files."""

    group: str
    call: str
    number: int

    def __str__(self) -> str:
        return f"{self.call} {self.number} on the {self.group}"


@dataclass(frozen=True)
class Quiet:
    """What an undisturbed run wrote, and at how many points it can be killed."""

    output: bytes
    points: list[Point]


def measure(open_site: OpenSite, directory: Path, output: str) -> Quiet:
    """Run an export for each group, and count what it does."""
    points, outputs = [], []
    for group in ("journal", "output", "report"):
        with open_site(directory / group, output) as site:
            result = site.run_traced(group, f"--trace={WRITE_LIKE}", arguments=SIZES)
            assert result.returncode == 0, result.stderr
            counts = site.counts()
            points += [
                Point(group, call, number)
                for call in sorted(counts)
                for number in range(1, counts[call] + 1)
            ]
            outputs.append(site.target.read_bytes())
    assert outputs[0] == outputs[1] == outputs[2]
    return Quiet(outputs[0], points)


def kill_and_resume(
    open_site: OpenSite, directory: Path, quiet: Quiet, point: Point, *, in_process: bool
) -> bool:
    with open_site(directory, f"o.{directory.parent.name}") as site:
        kill = f"--inject={point.call}:signal=KILL:when={point.number}"
        killed = site.run_traced(point.group, f"--trace={point.call}", kill, arguments=SIZES)
        if killed.returncode == 0:  # the call did not come this time: DuckDB's threads vary
            assert site.target.read_bytes() == quiet.output
            return False
        assert killed.returncode in KILLED, killed.stderr
        assert not [name for name, mode in site.created().items() if mode & 0o077]
        assert site.target.read_bytes() in {site.old, quiet.output}
        kept, before = site.kept(), len(site.asked())
        if in_process:
            site.go_on(batch_size=7, workers=3)
        else:
            resumed = site.run(*OTHER_SIZES)
            assert resumed.returncode == 0, resumed.stderr
            assert json.loads((site.directory / "r.json").read_text())["complete"] is True
        assert not site.pairs(kept) & site.pairs(site.asked(before))
        assert site.target.read_bytes() == quiet.output
        journal, report = site.journal.name, {"r.json", ".r.json.bulkfetch-part"}
        assert set(site.created()) - report == {site.output, journal, f"{journal}.lock"}
        assert in_process or ".r.json.bulkfetch-part" not in site.created()
    shutil.rmtree(directory)
    return True


def sweep(
    open_site: OpenSite, tmp_path: Path, output: str, stride: int, each_as_a_command: int
) -> int:
    """Kill an export at every `stride`-th point; return at how many it was.

    Of so many resumes one is the command itself; the others do the same in this process.
    """
    (tmp_path / output).mkdir()
    quiet = measure(open_site, tmp_path / output, f"o.{output}")
    points = quiet.points[::stride]

    def harm(numbered: tuple[int, Point]) -> str | bool:
        number, point = numbered
        try:
            return kill_and_resume(
                open_site,
                tmp_path / output / str(number),
                quiet,
                point,
                in_process=bool(number % each_as_a_command),
            )
        except AssertionError as wrong:
            return f"{point}: {wrong}"

    with ThreadPoolExecutor(AT_A_TIME) as pool:
        endings = list(pool.map(harm, enumerate(points)))
    wrongs = [ending for ending in endings if isinstance(ending, str)]
    assert not wrongs, "\n".join(wrongs)
    return endings.count(True)


@pytest.mark.usefixtures("strace")
@pytest.mark.parametrize("output", ["csv", "parquet"])
def test_a_kill_at_some_writes_loses_and_repeats_nothing(
    open_site: OpenSite, tmp_path: Path, output: str
) -> None:
    assert sweep(open_site, tmp_path, output, stride=31, each_as_a_command=1) >= 5


@pytest.mark.sweep
@pytest.mark.timeout(900)
@pytest.mark.usefixtures("strace")
@pytest.mark.parametrize("output", ["csv", "parquet"])
def test_a_kill_at_any_write_loses_and_repeats_nothing(
    open_site: OpenSite, tmp_path: Path, output: str
) -> None:
    assert sweep(open_site, tmp_path, output, stride=1, each_as_a_command=5) >= 150
