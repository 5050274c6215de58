"""SIGINT and SIGTERM in each phase: out within two seconds, with the command that goes on."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from bulkfetch.export.journal import FinishedBatch, Journal, JournalIdentity
from bulkfetch.inputs import make_region
from bulkfetch.record import arrow_schema

OpenSite = Callable[..., AbstractContextManager[Any]]
# Two seconds, on a machine that has a core to spare for it.
LIMIT_S = 2.0 * max(1.0, os.getloadavg()[0] / (os.cpu_count() or 1))
BOTH = pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["SIGINT", "SIGTERM"])


def start(site: Any, *more: str, prefix: tuple[str, ...] = ()) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [*prefix, *site.command(*more)],
        cwd=site.directory,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )


def wait_for(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.005)


def check_ending(
    process: subprocess.Popen[bytes], number: int, since: float, limit_s: float = LIMIT_S
) -> None:
    _, stderr = process.communicate(timeout=10)
    assert time.monotonic() - since < limit_s
    assert process.returncode == 128 + number, stderr
    lines = [line for line in stderr.decode().splitlines() if not line.startswith("strace: ")]
    assert lines[-1].startswith("  bulkfetch "), lines
    assert "Traceback" not in stderr.decode()


@BOTH
def test_a_signal_while_inputs_are_read_ends_it(
    open_site: OpenSite, tmp_path: Path, number: int
) -> None:
    with open_site(tmp_path / "site", "o.csv") as site:
        (site.directory / "token.txt").unlink()
        os.mkfifo(site.directory / "token.txt")
        with start(site) as process, (site.directory / "token.txt").open("w"):
            # Both ends are open: the program is about to read, and waits.
            time.sleep(0.1)
            process.send_signal(number)
            check_ending(process, number, time.monotonic())
        assert not site.asked()
        assert set(site.created()) == {"o.csv"}


def test_a_signal_while_it_is_loaded_ends_it(tmp_path: Path) -> None:
    program = "from bulkfetch.cli.process import set_up; set_up(); print(flush=True); input()"
    with subprocess.Popen(
        [sys.executable, "-c", program, "export", "-o", "a b.csv"],
        cwd=tmp_path,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        process.terminate()
        _, stderr = process.communicate(timeout=10)
    assert process.returncode == 143
    assert stderr.decode().splitlines()[-1] == "  bulkfetch export -o 'a b.csv'"


@pytest.mark.parametrize("stride", [5, pytest.param(1, marks=pytest.mark.sweep)])
def test_a_signal_while_handlers_change_ends_it(
    open_site: OpenSite, tmp_path: Path, strace: None, stride: int
) -> None:
    """System calls that set a handler are met by the signal, one in each run."""
    assert strace is None
    calls = "--trace=rt_sigaction"
    tracer = ("strace", "-qq", calls, "-o")
    with open_site(tmp_path / "counted", "o.csv") as site:
        log = tmp_path / "log"
        with start(site, prefix=(*tracer, str(log))) as process:
            process.communicate(timeout=20)
        lines = log.read_text().splitlines()
    # From the program's own first handler on; before that, the interpreter's are set.
    first = next(
        number for number, line in enumerate(lines, 1) if "SIGTERM, {sa_handler=0x" in line
    )
    assert len(lines) - first > 8
    for number in range(first + 1, len(lines) + 1, stride):
        with open_site(tmp_path / f"site {number}", "o.csv") as site:
            inject = f"--inject=rt_sigaction:signal=SIGTERM:when={number}"
            since = time.monotonic()
            with start(site, prefix=(*tracer, os.devnull, inject)) as process:
                _, stderr = process.communicate(timeout=20)
            assert "Traceback" not in stderr.decode(), (number, stderr.decode())
            assert process.returncode in {143, -signal.SIGTERM, 0}, (number, stderr.decode())
            assert time.monotonic() - since < 15


def test_a_second_signal_ends_a_run_whose_disk_is_stuck_at_once(
    open_site: OpenSite, tmp_path: Path, strace: None
) -> None:
    assert strace is None
    with open_site(tmp_path / "site", "o.csv") as site:
        stop_in_a_stuck_sync(site, 2)


def test_a_run_whose_disk_is_stuck_ends_in_time(
    open_site: OpenSite, tmp_path: Path, strace: None
) -> None:
    assert strace is None
    with open_site(tmp_path / "site", "o.csv") as site:
        stop_in_a_stuck_sync(site, 1)


def stop_in_a_stuck_sync(site: Any, signals: int) -> None:
    """Interrupt an export in a sync of the journal that takes five seconds, then complete it."""
    sizes = ("--batch-size", "8", "--workers", "1")
    stuck = ("--trace=fdatasync", "--inject=fdatasync:delay_enter=5000000:when=12")
    with start(site, *sizes, prefix=tuple(site.strace("journal", *stuck))) as process:
        wait_for(lambda: len(site.asked()) > 1)
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        time.sleep(0.3)
        since = time.monotonic()
        for _ in range(signals):
            os.kill(int(children[0]), signal.SIGINT)
            time.sleep(0.1)
        # strace itself waits until the stuck call is over.
        wait_for(lambda: is_over(int(children[0])))
        assert time.monotonic() - since < LIMIT_S / signals
        check_ending(process, signal.SIGINT, time.monotonic(), 5.0)
    kept, before = site.kept(), len(site.asked())
    assert site.run(*sizes).returncode == 0
    assert not site.pairs(kept) & site.pairs(site.asked(before))
    assert len(site.target.read_bytes().splitlines()) == 281


def is_over(process_id: int) -> bool:
    """Whether a process has ended, though its parent may not have noticed yet."""
    try:
        return Path(f"/proc/{process_id}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True


def fill(site: Any, rows: int) -> None:
    """Make the finished journal of a large export, as its last run would have left it."""
    account = site.simulator.account
    region = make_region(account.learner_ids, account.course_ids)
    identity = JournalIdentity("getEnrollments", site.simulator.url, region)
    ids = pa.array(f"{number * 7919 % rows:09}" for number in range(rows))
    columns = [
        ids,
        pa.array([account.course_ids[0]] * rows),
        pa.array([account.learner_ids[0]] * rows),
    ]
    columns += [pa.nulls(rows, field.type) for field in list(arrow_schema())[3:]]
    batch = pa.RecordBatch.from_arrays(columns, schema=arrow_schema())
    journal = Journal.open(site.journal, identity, now=1.0)
    journal.commit(FinishedBatch(region, [batch], rows, 0, 1, 1.0, 2.0, 1, 1, ()))
    journal.close()


@BOTH
def test_a_signal_while_it_publishes_ends_it(
    open_site: OpenSite, tmp_path: Path, number: int
) -> None:
    with open_site(tmp_path / "site", "o.csv") as site:
        fill(site, 400_000)
        part = site.directory / ".o.csv.bulkfetch-part"
        with start(site) as process:
            wait_for(part.exists)
            process.send_signal(number)
            check_ending(process, number, time.monotonic())
        assert site.target.read_bytes() == site.old
        assert not part.exists()
        assert site.run().returncode == 0
        assert site.target.read_bytes().count(b"\n") == 400_001
        assert not site.asked()


def test_a_signal_ends_the_publish_command(open_site: OpenSite, tmp_path: Path) -> None:
    with open_site(tmp_path / "site", "o.csv") as site:
        fill(site, 1_000_000)  # it takes seconds to write, on a busy machine the test too
        command = [sys.executable, "-m", "bulkfetch", "publish", "o.csv.bulkfetch", "-o", "o.jsonl"]
        with subprocess.Popen(command, cwd=site.directory, stderr=subprocess.PIPE) as process:
            wait_for((site.directory / ".o.jsonl.bulkfetch-part").exists)
            process.terminate()
            check_ending(process, signal.SIGTERM, time.monotonic())
        assert set(site.created()) == {"o.csv", "o.csv.bulkfetch", "o.csv.bulkfetch.lock"}


def test_a_signal_while_it_fetches_makes_no_further_call(
    open_site: OpenSite, tmp_path: Path
) -> None:
    with open_site(tmp_path / "site", "o.csv", profile="slow") as site:
        sizes = ("--batch-size", "4", "--workers", "2")
        with start(site, *sizes) as process:
            wait_for(lambda: len(site.asked()) > 9)  # the first answers are asked for again
            process.send_signal(signal.SIGINT)
            since, calls = time.monotonic(), len(site.asked())
            late = threading.Timer(0.2, lambda: None)
            late.start()
            late.join()
            just_after = len(site.asked())
            check_ending(process, signal.SIGINT, since)
        assert len(site.asked()) == just_after <= calls + 2
        kept, before = site.kept(), len(site.asked())
        assert kept
        assert site.run(*sizes).returncode == 0
        assert not site.pairs(kept) & site.pairs(site.asked(before))
