import dataclasses
import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bulkfetch.engine.listing import ListedPage
from bulkfetch.errors import Anomaly, FailedIds, JournalError, LocalError
from bulkfetch.export.database import DamagedJournalError
from bulkfetch.export.journal import (
    ChangedInputsError,
    Effort,
    FinishedBatch,
    Journal,
    JournalIdentity,
)
from bulkfetch.export.lock import JournalLockedError
from bulkfetch.inputs import make_region
from bulkfetch.plan.rectangle import Axis, Rectangle, split
from bulkfetch.record import Enrollment

Enrollments = Callable[[int], list[Enrollment]]
Finished = Callable[..., FinishedBatch]


def rows_of(journal: Journal) -> list[Enrollment]:
    return [
        Enrollment(*row.values()) for batch in journal.record_batches() for row in batch.to_pylist()
    ]


def test_what_was_committed_is_there_after_reopening(
    tmp_path: Path, identity: JournalIdentity, enrollments: Enrollments, finished: Finished
) -> None:
    rows = enrollments(50)
    assert isinstance(identity.region, Rectangle)
    left, right = split(identity.region)
    journal = Journal.open(tmp_path / "j", identity, now=0.0)
    journal.commit(finished(rows[:30], left))
    journal.commit(finished([], right))
    journal.close()
    journal = Journal.open(tmp_path / "j", identity, now=9.0)
    assert journal.finished() == [left, right]
    assert rows_of(journal) == rows[:30]
    totals = journal.totals()
    assert (totals.batches, totals.rows, totals.attempts) == (2, 30, 2)
    journal.close()


def test_anomalies_reports_and_unfetched_ids_are_kept(
    tmp_path: Path, identity: JournalIdentity, enrollments: Enrollments, finished: Finished
) -> None:
    odd = Anomaly("e1", "due_date", "someday")
    rejected = FailedIds(("a",), None, "rejected", 3, 4.5)
    unasked = FailedIds(None, ("c", "d"), "not fetched", 0)
    journal = Journal.open(tmp_path / "j", identity, now=0.0)
    journal.commit(dataclasses.replace(finished(enrollments(1)), anomalies=(odd,)))
    journal.end_run(5.0, Effort(), [rejected], [unasked], {"rows": 1})
    journal.close()
    journal = Journal.open(tmp_path / "j", identity, now=9.0)
    assert journal.anomalies(10) == [odd]
    assert journal.report() == {"rows": 1}
    assert journal.unfetched() == ([rejected], [unasked])
    journal.end_run(9.5, Effort(), [], [], {"rows": 2})
    assert journal.unfetched() == ([], [])
    journal.close()


def test_what_the_runs_did_is_kept_with_their_batches(
    tmp_path: Path, identity: JournalIdentity, enrollments: Enrollments, finished: Finished
) -> None:
    """Also of a run that was killed: up to its last commit."""
    rows = enrollments(30)
    killed = Journal.open(tmp_path / "j", identity, now=10.0)
    slow = dataclasses.replace(finished(rows[:10]), latency_s=2.0)
    killed.commit(slow, Effort(calls=7, retries=2, splits=1, wire_bytes=100))
    killed.close()
    journal = Journal.open(tmp_path / "j", identity, now=20.0)
    quick = dataclasses.replace(finished(rows[10:]), latency_s=0.5)
    journal.commit(quick, Effort(calls=1))
    mine, everything = journal.records(Effort(calls=3, confirmations=1, wire_bytes=5))
    journal.close()
    assert (mine.runs, mine.started_at, mine.batches, mine.rows) == (1, 20.0, 1, 20)
    assert mine.effort == Effort(calls=3, confirmations=1, wire_bytes=5)
    assert mine.latencies_s == (0.5,)
    assert (everything.runs, everything.started_at, everything.rows) == (2, 10.0, 30)
    assert everything.effort == Effort(10, 2, 1, 1, 0, 105)
    assert everything.latencies_s == (0.5, 2.0)


def _returned(journal: Journal) -> dict[Axis, set[str]]:
    return {axis: set(ids) for axis, ids in journal.returned_ids().items()}


@pytest.mark.parametrize(
    "region",
    [
        make_region([f"learner-{n:03}" for n in range(100)], [f"course-{n}" for n in range(5)]),
        make_region([f"learner-{n:03}" for n in range(100)], None),
        make_region(None, [f"course-{n}" for n in range(5)]),
    ],
    ids=["both", "learners", "courses"],
)
def test_the_ids_that_have_rows_are_known_without_reading_the_rows(
    tmp_path: Path, enrollments: Enrollments, finished: Finished, region: Rectangle
) -> None:
    """Also where a batch was asked for without a filter that the region has."""
    identity = JournalIdentity("getEnrollments", "https://example.org", region)
    rows = enrollments(170)
    journal = Journal.open(tmp_path / "j", identity, now=0.0)
    if region.learners is not None:
        half, _ = split(region, Axis.LEARNERS)
        of_half = [row for row in rows[:120] if row.learner_id in (half.learners or ())]
        journal.commit(finished(of_half, half))
        expected = {Axis.LEARNERS: {row.learner_id for row in of_half}}
        courses = {row.course_id for row in of_half}
        expected[Axis.COURSES] = set() if region.courses is None else courses
        assert _returned(journal) == expected
    journal.commit(finished(rows, Rectangle(None, region.courses)))
    journal.commit(finished([], Rectangle(region.learners, None)))
    assert _returned(journal) == {
        Axis.LEARNERS: set() if region.learners is None else {row.learner_id for row in rows},
        Axis.COURSES: set() if region.courses is None else {row.course_id for row in rows},
    }
    journal.close()


def test_everything_is_readable_by_its_owner_alone_whatever_the_umask(
    tmp_path: Path, identity: JournalIdentity, enrollments: Enrollments, finished: Finished
) -> None:
    before = os.umask(0)
    try:
        journal = Journal.open(tmp_path / "j", identity, now=0.0)
        journal.commit(finished(enrollments(5)))
        modes = {path.name: path.stat().st_mode & 0o777 for path in tmp_path.iterdir()}
        journal.close()
    finally:
        os.umask(before)
    assert modes == dict.fromkeys(("j", "j-wal", "j-shm", "j.lock"), 0o600)


def test_one_run_at_a_time(tmp_path: Path, identity: JournalIdentity) -> None:
    journal = Journal.open(tmp_path / "j", identity, now=0.0)
    with pytest.raises(JournalLockedError, match="Another run"):
        Journal.open(tmp_path / "j", identity, now=0.0)
    with pytest.raises(JournalLockedError):
        Journal.open(tmp_path / "j", identity, now=0.0, restart=True)
    journal.close()
    Journal.open(tmp_path / "j", identity, now=0.0).close()


def test_a_stale_lock_file_is_no_obstacle(tmp_path: Path, identity: JournalIdentity) -> None:
    (tmp_path / "j.lock").write_text("")
    Journal.open(tmp_path / "j", identity, now=0.0).close()


@pytest.mark.parametrize(
    ("changed", "what"),
    [
        ({"endpoint": "https://other.org"}, "endpoint"),
        ({"operation": "listEnrollments"}, "operation"),
        (
            {"region": make_region(["x"], ["course-0"])},
            "of 100 learners, 100 are gone and 1 is new",
        ),
        ({"region": make_region(None, ["course-0"])}, "list of learners was given"),
    ],
    ids=["endpoint", "operation", "other ids", "no learners"],
)
def test_changed_inputs_are_refused_and_named(
    tmp_path: Path, identity: JournalIdentity, changed: dict[str, object], what: str
) -> None:
    Journal.open(tmp_path / "j", identity, now=0.0).close()
    before = (tmp_path / "j").read_bytes()
    other = dataclasses.replace(identity, **changed)  # type: ignore[arg-type]
    with pytest.raises(ChangedInputsError, match=what):
        Journal.open(tmp_path / "j", other, now=0.0)
    assert (tmp_path / "j").read_bytes() == before
    Journal.open(tmp_path / "j", other, now=0.0, restart=True).close()


def _foreign(path: Path) -> None:
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE people (name TEXT)")
    connection.commit()
    connection.close()


def _newer(path: Path) -> None:
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA user_version = 99")
    connection.close()


def _truncated(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:5000])


def _not_sqlite(path: Path) -> None:
    path.write_bytes(b"enrollment_id,course_id\n")


@pytest.mark.parametrize("harm", [_foreign, _newer, _truncated, _not_sqlite])
def test_foreign_newer_and_damaged_files_are_refused_and_left_alone(
    tmp_path: Path, identity: JournalIdentity, harm: Callable[[Path], None]
) -> None:
    path = tmp_path / "j"
    if harm is not _foreign:
        Journal.open(path, identity, now=0.0).close()
    harm(path)
    before = path.read_bytes()
    with pytest.raises(DamagedJournalError):
        Journal.open(path, identity, now=0.0)
    assert path.read_bytes()[100:] == before[100:]  # the header may say WAL now
    if harm in {_foreign, _not_sqlite}:
        with pytest.raises(DamagedJournalError, match="not discarded"):
            Journal.open(path, identity, now=0.0, restart=True)
        assert path.read_bytes()[100:] == before[100:]
    else:
        Journal.open(path, identity, now=0.0, restart=True).close()


def test_a_journal_killed_before_its_first_checkpoint_can_be_discarded(
    tmp_path: Path, identity: JournalIdentity
) -> None:
    journal = Journal.open(tmp_path / "j", identity, now=0.0)
    (tmp_path / "copy").mkdir()
    for name in ("j", "j-wal"):
        shutil.copy(tmp_path / name, tmp_path / "copy" / name)
    journal.close()
    restarted = Journal.open(tmp_path / "copy" / "j", identity, now=0.0, restart=True)
    assert restarted.finished() == []
    restarted.close()


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(position=st.integers(0, 10**9), bit=st.integers(0, 7))
def test_a_flipped_bit_is_noticed_or_harmless(
    tmp_path_factory: pytest.TempPathFactory, position: int, bit: int
) -> None:
    path = tmp_path_factory.mktemp("flip") / "j"
    identity = JournalIdentity("getEnrollments", "https://example.org", make_region(["a"], ["b"]))
    rows = [Enrollment(f"e{number}", "b", "a") for number in range(300)]
    journal = Journal.open(path, identity, now=0.0)
    journal.commit(_batch(rows, identity))
    journal.close()
    data = bytearray(path.read_bytes())
    data[position % len(data)] ^= 1 << bit
    path.write_bytes(data)
    try:
        journal = Journal.open(path, identity, now=0.0)
    except LocalError:
        return
    try:
        finished = journal.finished()
        found = rows_of(journal)
    except LocalError:
        return
    finally:
        journal.close()
    assert (finished, found) in [([identity.region], rows), ([], [])]


def _batch(rows: list[Enrollment], identity: JournalIdentity) -> FinishedBatch:
    import pyarrow as pa  # noqa: PLC0415

    from bulkfetch.record import arrow_schema  # noqa: PLC0415

    batch = pa.RecordBatch.from_pylist([row._asdict() for row in rows], arrow_schema())
    assert isinstance(identity.region, Rectangle)
    return FinishedBatch(identity.region, [batch], len(rows), 0, 1, 0.0, 0.0, 0, 0, ())


def test_a_power_cut_loses_no_acknowledged_batch(
    tmp_path: Path, identity: JournalIdentity, enrollments: Enrollments, finished: Finished
) -> None:
    """Copies of database and log after each commit open with all that was committed by then."""
    rows = enrollments(40)
    journal = Journal.open(tmp_path / "j", identity, now=0.0)
    for cut in range(4):
        journal.commit(finished(rows[cut * 10 : cut * 10 + 10]))
        copy = tmp_path / f"copy{cut}"
        copy.mkdir()
        for name in ("j", "j-wal"):
            shutil.copy(tmp_path / name, copy / name)
        reopened = Journal.open(copy / "j", identity, now=0.0)
        assert rows_of(reopened) == rows[: cut * 10 + 10]
        reopened.close()
    journal.close()


def test_a_killed_process_leaves_every_acknowledged_batch(
    tmp_path: Path, identity: JournalIdentity
) -> None:
    script = f"""
import os, sys
from bulkfetch.export.journal import *
from bulkfetch.inputs import make_region
region = make_region({identity.region.learners!r}, {identity.region.courses!r})
journal = Journal.open(__import__("pathlib").Path({str(tmp_path / "j")!r}),
                       JournalIdentity("getEnrollments", "https://example.org", region), now=0.0)
for number in range(100):
    journal.commit(FinishedBatch(region, [], 0, 0, 1, 0.0, 0.0, 0, 0, ()))
    print(number, flush=True)
    if number == 41:
        os.kill(os.getpid(), 9)
"""
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, check=False)
    assert result.returncode == -9
    journal = Journal.open(tmp_path / "j", identity, now=0.0)
    assert len(journal.finished()) == len(result.stdout.split()) == 42
    journal.close()


def test_a_file_that_cannot_be_made_is_one_sentence(
    tmp_path: Path, identity: JournalIdentity
) -> None:
    with pytest.raises(LocalError, match="No such file or directory"):
        Journal.open(tmp_path / "missing" / "j", identity, now=0.0)


def test_an_empty_file_is_a_new_journal(tmp_path: Path, identity: JournalIdentity) -> None:
    (tmp_path / "j").touch()
    journal = Journal.open(tmp_path / "j", identity, now=0.0)
    assert journal.finished() == []
    journal.close()
    assert issubclass(DamagedJournalError, JournalError)


def _page(axis: Axis, position: int, ids: list[str], token: str, next_token: str) -> ListedPage:
    return ListedPage(axis, position, token, next_token, tuple(ids), len(ids), 0.1, 5.0)


LISTED = JournalIdentity(
    "getEnrollments",
    "https://example.org",
    make_region(None, ["c1"]),
    frozenset({Axis.LEARNERS}),
)


def test_a_listing_is_the_region_once_it_is_complete(tmp_path: Path) -> None:
    journal = Journal.open(tmp_path / "j", LISTED, now=0.0)
    assert not journal.identity.is_settled
    first = _page(Axis.LEARNERS, 0, ["b", "a"], "", "t1")
    last = _page(Axis.LEARNERS, 1, ["c", "a"], "t1", "")
    journal.commit_page(first, Effort(calls=2))
    journal.close()
    journal = Journal.open(tmp_path / "j", LISTED, now=1.0)
    assert not journal.identity.is_settled
    assert list(journal.pages(Axis.LEARNERS)) == [first]
    assert list(journal.pages(Axis.COURSES)) == []
    journal.commit_page(last, Effort(calls=1))
    journal.close()
    journal = Journal.open(tmp_path / "j", LISTED, now=2.0)
    assert journal.identity.is_settled
    assert journal.identity.region == make_region(["a", "b", "c"], ["c1"])
    assert journal.records(Effort())[1].effort.calls == 3
    journal.forget_pages(Axis.LEARNERS)
    assert not journal.identity.is_settled
    # Killed before it could say that there is nobody: no ids are not "nothing left to fetch".
    journal.commit_page(_page(Axis.LEARNERS, 0, [], "", ""))
    assert not journal.identity.is_settled
    journal.close()


@pytest.mark.parametrize(
    ("region", "discovered", "sentence"),
    [
        (make_region(["a"], ["c1"]), [], "all learners of the account .* a list of 1 learner\\b"),
        (make_region(None, ["c1"]), [], "all learners of the account .* no learners by their ids"),
        (
            make_region(None, None),
            list(Axis),
            "a list of 1 course .* all courses of the account",
        ),
        (make_region(None, ["c2"]), [Axis.LEARNERS], "of 1 course, 1 is gone and 1 is new"),
    ],
    ids=["given now", "no filter now", "the other side, too", "other ids on the other side"],
)
def test_another_source_of_ids_is_a_change_of_inputs(
    tmp_path: Path, region: Rectangle, discovered: list[Axis], sentence: str
) -> None:
    journal = Journal.open(tmp_path / "j", LISTED, now=0.0)
    journal.commit_page(_page(Axis.LEARNERS, 0, ["a"], "", ""))
    journal.close()
    other = dataclasses.replace(LISTED, region=region, discovered=frozenset(discovered))
    with pytest.raises(ChangedInputsError, match=sentence):
        Journal.open(tmp_path / "j", other, now=1.0)
    Journal.open(tmp_path / "j", LISTED, now=1.0).close()


@pytest.mark.parametrize(
    "harm",
    [
        "DELETE FROM page WHERE position = 0",
        "UPDATE page SET next_token = '' WHERE position = 0",
        "UPDATE page SET next_token = 't9' WHERE position = 1",
        "UPDATE page SET token = 't9' WHERE position = 1",
        "UPDATE page SET ids = (SELECT ids FROM page WHERE position = 1) WHERE position = 0",
        "UPDATE page SET items = 7",
    ],
)
def test_pages_that_do_not_hang_together_are_damage(tmp_path: Path, harm: str) -> None:
    """A listing with a gap would be an export with a gap."""
    journal = Journal.open(tmp_path / "j", LISTED, now=0.0)
    journal.commit_page(_page(Axis.LEARNERS, 0, ["a"], "", "t1"))
    journal.commit_page(_page(Axis.LEARNERS, 1, ["b"], "t1", ""))
    journal.close()
    connection = sqlite3.connect(tmp_path / "j")
    connection.execute(harm)
    connection.commit()
    connection.close()
    with pytest.raises(DamagedJournalError, match="of the learners"):
        Journal.open(tmp_path / "j", LISTED, now=1.0)


def test_what_is_doubted_is_forgotten_together_with_why(
    identity: JournalIdentity, journal: Journal, finished: Finished, enrollments: Enrollments
) -> None:
    assert isinstance(identity.region, Rectangle)
    small, large = split(identity.region)
    journal.commit(finished(enrollments(2), small))
    journal.commit(finished(enrollments(9), large))
    doubted = journal.take_back(lambda _, rows, __: rows > 5, "caps", {"rows": 9})
    assert doubted == [large]
    assert journal.finished() == [small]
    assert journal.totals().rows == 2
    assert journal.recall("caps") == {"rows": 9}
