"""Commands that only read a journal leave it, and what stands beside it, as it is."""

import contextlib
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

Bulkfetch = Callable[..., subprocess.CompletedProcess[bytes]]
Serve = Callable[..., Any]
TOKEN = ("--token-file", "token.txt")


def contents(directory: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in directory.iterdir() if path.is_file()}


def read_by_all(directory: str) -> list[tuple[str, ...]]:
    journal = f"{directory}/k"
    return [
        ("publish", journal, "-o", "p.csv"),
        ("report", journal, "-o", "r.html"),
        ("diff", journal, "o.csv"),
        ("verify", journal, *TOKEN),
    ]


@contextlib.contextmanager
def read_only(directory: Path) -> Iterator[None]:
    """Mount a directory over itself so that nobody can write there."""
    bind = ["mount", "--bind", str(directory), str(directory)]
    if subprocess.run(bind, check=False, capture_output=True).returncode:
        directory.chmod(0o500)
        if os.access(directory, os.W_OK):
            pytest.skip("neither mounting nor being refused is possible here")
        yield
        directory.chmod(0o700)
        return
    try:
        subprocess.run(["mount", "-o", "remount,ro,bind", str(directory)], check=True)
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(directory)], check=True)


def leave_killed(place: Any, directory: Path) -> None:
    """Leave a whole journal whose last run was killed: a part of it is in the log."""
    directory.mkdir()
    source = place.directory / "k"
    with contextlib.closing(sqlite3.connect(source, isolation_level=None)) as journal:
        journal.execute("PRAGMA wal_autocheckpoint = 0")
        journal.execute("INSERT INTO meta VALUES ('killed', '1')")
        for name in ("k", "k-wal"):
            shutil.copy(place.directory / name, directory / name)


@pytest.mark.parametrize("is_killed", [False, True], ids=["finished", "killed"])
@pytest.mark.parametrize("is_read_only", [False, True], ids=["writable", "read-only"])
def test_reading_changes_nothing_and_works_where_nothing_can_be_written(
    bulkfetch: Bulkfetch, serve: Serve, is_killed: bool, is_read_only: bool
) -> None:
    place = serve()
    assert bulkfetch(*place.export("--journal", "k")).returncode == 0
    there = place.directory / "there"
    if is_killed:
        leave_killed(place, there)
        assert (there / "k-wal").stat().st_size
    else:
        there.mkdir()
        shutil.copy(place.directory / "k", there)
    before = contents(there)
    with read_only(there) if is_read_only else contextlib.nullcontext():
        for arguments in read_by_all("there"):
            result = bulkfetch(*arguments)
            assert result.returncode == 0, (arguments, result.stderr)
    after = contents(there)
    assert {name: after[name] for name in before} == before
    if is_read_only:
        assert after.keys() == before.keys()
    assert (place.directory / "p.csv").read_bytes() == (place.directory / "o.csv").read_bytes()


@pytest.mark.parametrize("command", ["publish", "verify", "report"])
def test_a_foreign_file_is_refused_before_anything_is_made_beside_it(
    bulkfetch: Bulkfetch, serve: Serve, command: str
) -> None:
    place = serve()
    more = {"publish": ("-o", "p.csv"), "verify": TOKEN, "report": ()}[command]
    before = contents(place.directory)
    assert bulkfetch(command, "learners.txt", *more).returncode == 6
    assert contents(place.directory) == before
    assert bulkfetch(*place.export("--journal", "/etc/passwd")).returncode == 6
    assert not Path("/etc/passwd.lock").exists()


def test_a_pipe_is_no_journal(bulkfetch: Bulkfetch, serve: Serve) -> None:
    place = serve()
    os.mkfifo(place.directory / "pipe")
    assert bulkfetch(*place.export("--journal", "pipe")).returncode == 6
    for arguments in (
        ("diff", "pipe", "learners.txt"),
        ("publish", "pipe", "-o", "p.csv"),
        ("verify", "pipe", *TOKEN),
        ("report", "pipe"),
    ):
        assert bulkfetch(*arguments).returncode == 2


def test_two_runs_on_one_journal_by_two_names_are_one_and_a_refusal(
    bulkfetch: Bulkfetch, serve: Serve
) -> None:
    place = serve({"latency": {"base_ms": 500}})
    (place.directory / "links").mkdir()
    (place.directory / "links" / "S").symlink_to("../J")
    one = ["--journal", "J", "--batch-size", "100", "--workers", "1"]
    with subprocess.Popen(
        [sys.executable, "-m", "bulkfetch", *place.export(*one)],
        cwd=place.directory,
        stderr=subprocess.PIPE,
    ) as process:
        while not place.simulator.ledger.calls:
            time.sleep(0.01)
        other = bulkfetch(*place.export("--journal", "links/S", output="b.csv"))
        assert other.returncode == 6, other.stderr
        assert b"Another run" in other.stderr
        assert bulkfetch("report", "links/S", "-o", "r.html").returncode == 6
        process.send_signal(signal.SIGTERM)
        process.communicate()
    os.link(place.directory / "J", place.directory / "H")
    hard = bulkfetch(*place.export("--journal", "H", output="b.csv"))
    assert hard.returncode == 6
    assert b"second name" in hard.stderr
    (place.directory / "H").unlink()
    assert bulkfetch(*place.export("--journal", "links/S", output="b.csv")).returncode == 0
    names = {path.name for path in place.directory.rglob("*") if path.name[:1] in "JSH"}
    assert names == {"J", "J.lock", "S"}
