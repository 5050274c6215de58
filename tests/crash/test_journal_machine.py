"""A state machine over the journal: whatever happens to its files, against a list of commits.

Power is cut at any moment: between commits, in the middle of one (any part of what was not yet
synced is lost), in the middle of a checkpoint. Bits flip, files are cut, other inputs come, others
open it. What was committed is there, or the journal is refused by name (C1, C3, C4).
"""

import contextlib
import os
import shutil
import tempfile
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from bulkfetch.errors import Anomaly, FailedIds, LocalError
from bulkfetch.export.journal import (
    ChangedInputsError,
    Effort,
    FinishedBatch,
    Journal,
    JournalIdentity,
)
from bulkfetch.export.lock import JournalLockedError
from bulkfetch.inputs import make_region
from bulkfetch.plan.rectangle import Rectangle
from bulkfetch.record import Enrollment, arrow_schema

LEARNERS = tuple(f"learner-{number:04}" for number in range(400))
COURSES = ("course-1", "course-2")
IDENTITY = JournalIdentity("getEnrollments", "https://example.org", make_region(LEARNERS, COURSES))
OTHERS = {
    "operation": replace(IDENTITY, operation="listEnrollments"),
    "endpoint": replace(IDENTITY, endpoint="https://example.com"),
    "learners": replace(IDENTITY, region=make_region(LEARNERS[1:], COURSES)),
    "courses": replace(IDENTITY, region=make_region(LEARNERS, None)),
}
# Syncs cost nothing where there is no disk, and power is cut by copying here.
MEMORY = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
SECTOR = 512
WAL_HEADER = 32
Commit = tuple[Rectangle, list[Enrollment]]


def rows_of(journal: Journal) -> list[Enrollment]:
    return [
        Enrollment(*row.values()) for batch in journal.record_batches() for row in batch.to_pylist()
    ]


def torn(old: bytes, new: bytes, survives: list[bool]) -> bytes:
    """Return a log that was being written when the power was cut.

    The header is synced before any frame is written; of the frames, any sectors may be lost.
    """
    mixed = bytearray(new[:WAL_HEADER] + old[WAL_HEADER:])
    for number, offset in enumerate(range(0, len(new), SECTOR)):
        if survives[number % len(survives)]:
            part = new[max(offset, WAL_HEADER) : offset + SECTOR]
            start = max(offset, WAL_HEADER)
            if len(mixed) < start:
                mixed.extend(bytes(start - len(mixed)))  # a hole reads as zeros
            mixed[start : start + len(part)] = part
    return bytes(mixed)


class JournalMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.directory = Path(tempfile.mkdtemp(prefix="bulkfetch-machine-", dir=MEMORY))
        self.path = self.directory / "j"
        self.journal: Journal | None = None
        self.committed: list[Commit] = []
        self.made = 0
        self.copies = 0

    def teardown(self) -> None:
        if self.journal is not None:
            self.journal.close()
        shutil.rmtree(self.directory)

    # What a run does.

    @precondition(lambda self: self.journal is None)
    @rule(restart=st.sampled_from([False, False, False, True]))
    def open(self, restart: bool) -> None:
        self.journal = Journal.open(self.path, IDENTITY, now=1.0, restart=restart)
        if restart:
            self.committed = []
        self.check(self.journal, self.committed)

    @precondition(lambda self: self.journal is not None)
    @rule()
    def close(self) -> None:
        assert self.journal is not None
        self.journal.close()
        self.journal = None

    @precondition(lambda self: self.journal is not None)
    @rule(
        sizes=st.lists(st.sampled_from([0, 1, 3, 40, 400]), min_size=1, max_size=6),
        anomalies=st.integers(0, 2),
    )
    def commit(self, sizes: list[int], anomalies: int) -> None:
        assert self.journal is not None
        for rows in sizes:
            commit, batch = self.make(rows, anomalies)
            self.journal.commit(batch)
            self.committed.append(commit)

    @precondition(lambda self: self.journal is not None)
    @rule(number=st.integers(0, 9))
    def keep_what_is_no_batch(self, number: int) -> None:
        assert self.journal is not None
        failed = FailedIds((LEARNERS[number],), None, "rejected", number)
        self.journal.end_run(2.0, Effort(calls=number), [failed], [], {"rows": number})
        assert self.journal.report() == {"rows": number}

    @precondition(lambda self: self.journal is not None)
    @rule()
    def checkpoint(self) -> None:
        """The next commit begins the log anew, over what stands in it."""
        assert self.journal is not None
        self.journal._file.connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()

    # Others.

    @precondition(lambda self: self.journal is not None)
    @rule(restart=st.booleans())
    def another_run_is_refused(self, restart: bool) -> None:
        with pytest.raises(JournalLockedError, match="Another run"):
            Journal.open(self.path, IDENTITY, now=2.0, restart=restart)

    @precondition(lambda self: self.journal is None and self.path.exists())
    @rule(what=st.sampled_from(sorted(OTHERS)))
    def other_inputs_are_refused(self, what: str) -> None:
        before = self.path.read_bytes()
        with pytest.raises(ChangedInputsError, match=what) as refusal:
            Journal.open(self.path, OTHERS[what], now=2.0)
        assert str(self.path) in str(refusal.value)
        assert self.path.read_bytes() == before

    # Harm, to copies.

    @precondition(lambda self: self.journal is not None)
    @rule()
    def power_is_cut_between_commits(self) -> None:
        self.check_copy(self.read("j"), self.read("j-wal"), [self.committed])

    @precondition(lambda self: self.journal is not None)
    @rule(
        rows=st.sampled_from([0, 3, 40, 400]),
        survives=st.lists(st.booleans(), min_size=1, max_size=24),
    )
    def power_is_cut_in_a_commit(self, rows: int, survives: list[bool]) -> None:
        assert self.journal is not None
        database, old = self.read("j"), self.read("j-wal")
        commit, batch = self.make(rows, 0)
        self.journal.commit(batch)
        log = torn(old, self.read("j-wal"), survives)
        before = list(self.committed)
        self.committed.append(commit)
        self.check_copy(database, log, [before, self.committed])

    @precondition(lambda self: self.journal is not None)
    @rule(survives=st.lists(st.booleans(), min_size=1, max_size=24))
    def power_is_cut_in_a_checkpoint(self, survives: list[bool]) -> None:
        old = self.read("j")
        self.checkpoint()
        new = self.read("j")
        size = max(len(old), len(new))
        mixed = bytearray(old.ljust(size, b"\0"))
        for number, offset in enumerate(range(0, len(new), SECTOR)):
            if survives[number % len(survives)]:
                mixed[offset : offset + SECTOR] = new[offset : offset + SECTOR]
        self.check_copy(bytes(mixed), self.read("j-wal"), [self.committed])

    @precondition(lambda self: self.path.exists())
    @rule(in_log=st.booleans(), position=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7))
    def a_bit_flips(self, in_log: bool, position: float, bit: int) -> None:
        files = [bytearray(self.read("j")), bytearray(self.read("j-wal"))]
        harmed = files[in_log] or files[0]
        harmed[int(position * len(harmed))] ^= 1 << bit
        # Damage to the last transaction of the log looks like a power cut in it.
        lost = [self.committed[:-1]] if in_log else []
        self.check_copy(bytes(files[0]), bytes(files[1]), [self.committed, *lost], can_refuse=True)

    @precondition(lambda self: self.path.exists())
    @rule(position=st.floats(0, 1, exclude_max=True))
    def the_file_is_cut(self, position: float) -> None:
        database = self.read("j")
        database = database[: int(position * len(database))]
        if database or self.read("j-wal"):  # otherwise it is an empty file, which is a new journal
            self.check_copy(database, self.read("j-wal"), [self.committed], can_refuse=True)

    @precondition(lambda self: self.path.exists())
    @rule(position=st.floats(0, 1, exclude_max=True))
    def the_log_is_cut(self, position: float) -> None:
        """As by a power cut some commits ago: what is left are the first ones."""
        log = self.read("j-wal")
        earlier = [self.committed[:count] for count in range(len(self.committed) + 1)]
        self.check_copy(self.read("j"), log[: int(position * len(log))], earlier, can_refuse=True)

    @invariant()
    def an_open_journal_holds_what_was_committed(self) -> None:
        if self.journal is not None:
            assert self.journal.finished() == [rectangle for rectangle, _ in self.committed]

    # How it is judged.

    def make(self, rows: int, anomalies: int) -> tuple[Commit, FinishedBatch]:
        learner = LEARNERS[self.made % len(LEARNERS)]
        rectangle = Rectangle((learner,), COURSES)
        enrollments = [
            Enrollment(f"enrollment-{self.made}-{number}", COURSES[number % 2], learner)
            for number in range(rows)
        ]
        self.made += 1
        batch = pa.RecordBatch.from_pylist([row._asdict() for row in enrollments], arrow_schema())
        odd = tuple(Anomaly(f"e{number}", "due_date", "someday") for number in range(anomalies))
        return (rectangle, enrollments), FinishedBatch(
            rectangle, [batch] if rows else [], rows, 0, 1, 1.0, 2.0, 10, 100, odd
        )

    def read(self, name: str) -> bytes:
        path = self.directory / name
        return path.read_bytes() if path.exists() else b""

    def check(self, journal: Journal, commits: list[Commit]) -> None:
        assert journal.finished() == [rectangle for rectangle, _ in commits]
        assert rows_of(journal) == [row for _, rows in commits for row in rows]
        totals = journal.totals()
        assert (totals.batches, totals.rows) == (
            len(commits),
            sum(len(rows) for _, rows in commits),
        )

    def check_copy(
        self,
        database: bytes,
        log: bytes,
        possible: list[list[Commit]],
        *,
        can_refuse: bool = False,
    ) -> None:
        """Check that files hold one of some states, whole; or that they are refused by name."""
        self.copies += 1
        path = self.directory / f"copy-{self.copies}" / "j"
        path.parent.mkdir()
        path.write_bytes(database)
        path.with_name("j-wal").write_bytes(log)
        refused_by = self.open_copy(path, possible)
        assert refused_by is None or can_refuse, refused_by
        assert str(path) in (refused_by or str(path))
        shutil.rmtree(path.parent)

    def open_copy(self, path: Path, possible: list[list[Commit]]) -> str | None:
        """Return what an opener is told that is refused; otherwise check what it finds."""
        try:
            with contextlib.closing(Journal.open(path, IDENTITY, now=3.0)) as journal:
                found = len(journal.finished())
                self.check(journal, next((some for some in possible if len(some) == found), []))
        except LocalError as refusal:
            return str(refusal)
        return None


CALM = settings(
    max_examples=15,
    stateful_step_count=25,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)


def test_a_journal_holds_what_was_committed_or_is_refused() -> None:
    run_state_machine_as_test(JournalMachine, settings=CALM)


@pytest.mark.sweep
@pytest.mark.timeout(600)
def test_a_journal_holds_what_was_committed_or_is_refused_at_length() -> None:
    long = settings(CALM, max_examples=150, stateful_step_count=40)
    run_state_machine_as_test(JournalMachine, settings=long)
