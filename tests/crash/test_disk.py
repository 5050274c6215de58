"""Disks, directories, descriptors and streams that fail an export, without a tracer."""

import os
import resource
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import pytest

OpenSite = Callable[..., AbstractContextManager[Any]]
ROWS = 280


def wait_for(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.005)


def check_failure(result: subprocess.CompletedProcess[bytes], code: int) -> None:
    stderr = result.stderr.decode()
    assert result.returncode == code, stderr
    assert stderr.splitlines()[-1].startswith("  bulkfetch export --url "), stderr
    assert "Traceback" not in stderr


def is_whole(output: bytes) -> bool:
    return output.count(b"\n") == ROWS + 1


@contextmanager
def small_disk(directory: Path, size: str) -> Iterator[None]:
    """Mount a disk of its own at a directory; where that is not allowed, skip."""
    directory.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(directory)]
    if subprocess.run(mount, check=False, capture_output=True).returncode:
        pytest.skip("mounting is not allowed here; a limit of file size stands in for it")
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(directory)], check=True)


def test_a_disk_that_fills_is_exit_7_and_with_space_it_goes_on(
    open_site: OpenSite, tmp_path: Path
) -> None:
    with small_disk(tmp_path / "disk", "1m"), open_site(tmp_path / "disk", "o.csv") as site:
        ballast = tmp_path / "disk" / "ballast"
        ballast.write_bytes(bytes(850_000))
        check_failure(site.run("--batch-size", "4"), 7)
        assert site.target.read_bytes() == site.old
        kept, before = site.kept(), len(site.asked())
        ballast.unlink()
        assert site.run().returncode == 0
        assert is_whole(site.target.read_bytes())
        assert not site.pairs(kept) & site.pairs(site.asked(before))


@pytest.mark.parametrize("limit", [1_000, 20_000, 40_000])
def test_a_limit_of_file_size_is_exit_7_and_without_it_goes_on(
    open_site: OpenSite, tmp_path: Path, limit: int
) -> None:
    """At its beginning, in the journal, and in the output."""
    with open_site(tmp_path / "site", "o.csv") as site:
        limited = ["prlimit", f"--fsize={limit}", "--"]
        check_failure(site.run("--batch-size", "56", prefix=limited), 7)
        assert site.target.read_bytes() == site.old
        assert site.run().returncode == 0
        assert is_whole(site.target.read_bytes())


@pytest.mark.parametrize("lost", ["output", "journal"])
def test_a_directory_that_vanishes_is_exit_7(
    open_site: OpenSite, tmp_path: Path, lost: str
) -> None:
    with open_site(tmp_path / "site", "o.csv", profile="slow") as site:
        for name in ("output", "journal"):
            (tmp_path / name).mkdir()
        paths = ("-o", str(tmp_path / "output/o.csv"), "--journal", str(tmp_path / "journal/j"))
        process = subprocess.Popen(
            site.command(*paths, "--batch-size", "4", "--workers", "2"),
            cwd=site.directory,
            stderr=subprocess.PIPE,
        )
        wait_for(lambda: len(site.asked()) > 2)
        shutil.rmtree(tmp_path / lost)
        _, stderr = process.communicate(timeout=30)
        check_failure(subprocess.CompletedProcess([], process.returncode, b"", stderr), 7)
        (tmp_path / lost).mkdir()
        assert site.run(*paths).returncode == 0
        assert is_whole((tmp_path / "output/o.csv").read_bytes())


@pytest.mark.parametrize("option", ["-o", "--journal", "--report"])
@pytest.mark.parametrize("where", ["/proc/x.csv", "learners.txt/x.csv", "sealed/x.csv"])
def test_where_nothing_can_be_written_is_known_before_the_first_call(
    open_site: OpenSite, tmp_path: Path, option: str, where: str
) -> None:
    with open_site(tmp_path / "site", "o.csv") as site:
        (site.directory / "sealed").mkdir()
        (site.directory / "sealed").chmod(0o500)
        if where.startswith("sealed") and os.geteuid() == 0:
            pytest.skip("root may write anywhere")
        check_failure(site.run(option, where), 7)
        assert not site.asked()
        assert site.target.read_bytes() == site.old


@pytest.mark.parametrize("descriptors", [9, 16, 33])
def test_too_few_descriptors_are_known_before_the_first_call(
    open_site: OpenSite, tmp_path: Path, descriptors: int
) -> None:
    with open_site(tmp_path / "site", "o.csv") as site:
        result = site.run(prefix=["prlimit", f"--nofile={descriptors}:{descriptors}", "--"])
        check_failure(result, 7)
        assert not site.asked()
        assert b"ulimit" in result.stderr


def test_few_descriptors_do_for_few_workers_and_a_soft_limit_is_raised(
    open_site: OpenSite, tmp_path: Path
) -> None:
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    with open_site(tmp_path / "site", "o.csv") as site:
        few = ["prlimit", "--nofile=36:36", "--"]
        assert site.run("--workers", "2", prefix=few).returncode == 0
        assert site.run("--restart", prefix=few).returncode == 0
        check_failure(site.run("--restart", "--workers", "3", prefix=few), 7)
        soft = ["prlimit", f"--nofile=16:{hard}", "--"]
        assert site.run("--restart", prefix=soft).returncode == 0


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_closed_streams_do_not_matter_to_a_file(
    open_site: OpenSite, tmp_path: Path, closed: str
) -> None:
    with open_site(tmp_path / "site", "o.csv") as site:
        result = site.run(prefix=["sh", "-c", f'exec "$@" {closed}', "sh"])
        assert result.returncode == 0
        assert is_whole(site.target.read_bytes())
        assert b"Traceback" not in result.stderr


def test_a_closed_standard_output_is_known_before_the_first_call(
    open_site: OpenSite, tmp_path: Path
) -> None:
    with open_site(tmp_path / "site", "o.csv") as site:
        result = site.run("-o", "-", prefix=["sh", "-c", 'exec "$@" >&-', "sh"])
        check_failure(result, 7)
        assert not site.asked()
        gone = site.run("-o", "-", prefix=["sh", "-c", 'exec "$@" | :', "sh"])
        assert b"Traceback" not in gone.stderr


def test_a_reader_that_leaves_is_exit_7(open_site: OpenSite, tmp_path: Path) -> None:
    with open_site(tmp_path / "site", "o.csv", profile="slow") as site:
        process = subprocess.Popen(
            site.command("-o", "-"),
            cwd=site.directory,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        wait_for(lambda: len(site.asked()) > 0)
        assert process.stdout is not None
        process.stdout.close()
        process.stdout = None
        _, stderr = process.communicate(timeout=30)
        check_failure(subprocess.CompletedProcess([], process.returncode, b"", stderr), 7)


def test_of_two_runs_one_proceeds(open_site: OpenSite, tmp_path: Path) -> None:
    with open_site(tmp_path / "site", "o.csv", profile="slow") as site:
        sizes = ("--batch-size", "8", "--workers", "1")
        first = subprocess.Popen(
            site.command(*sizes), cwd=site.directory, stderr=subprocess.DEVNULL
        )
        wait_for(lambda: len(site.asked()) > 0)
        first.send_signal(signal.SIGSTOP)  # however slowly the others start
        threading.Event().wait(0.3)  # what it has sent arrives
        asked = len(site.asked())
        for more in ((), ("--restart",)):
            second = site.run(*more)
            check_failure(second, 6)
            assert b"Another run" in second.stderr
        assert len(site.asked()) == asked
        first.send_signal(signal.SIGCONT)
        assert first.wait(timeout=60) == 0
        assert is_whole(site.target.read_bytes())
