"""The journal: every finished batch, in one SQLite file that survives being killed.

One transaction a batch: rows (Arrow IPC, zstd) beside the rectangle that they answer, with a
checksum over all of it. kill -9 in a loop tore none of 60 such files, where JSON checkpoints tore
50. The inputs are part of it: a run with other ids or another endpoint is refused, one with
another token or batch size is not. The checksums are verified when the journal is opened, because
damage that is found only on publishing is found after an hour of fetching. Where ids come from the
account itself, the pages that list them are kept like batches, and the lists that they make stand
for the export from then on.

Each opening by an export is a run, and what it did is kept with its batches, in the same
transactions: so the account of an export that took many runs, some of them killed, is whole. Which
ids of a batch have rows is kept as bits beside them, so that it can be told in a moment.

Methods block, and are called by one thread at a time.
"""

import contextlib
import json
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import fields
from functools import partial
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import Any

import pyarrow as pa

from bulkfetch.engine.listing import ListedPage
from bulkfetch.engine.outcome import SilentCaps
from bulkfetch.errors import Anomaly, FailedIds, UsageError
from bulkfetch.export.cover import is_covered
from bulkfetch.export.database import is_blank, mapped
from bulkfetch.export.journal_codec import (
    checksum_batch,
    from_ipc,
    to_bits,
    to_flags,
    to_ipc,
)
from bulkfetch.export.journal_file import Access, JournalFile
from bulkfetch.export.journal_identity import (
    check_identity,
    keep_identity,
    read_identity,
    read_region_numbers,
)
from bulkfetch.export.journal_pages import keep_page, read_pages
from bulkfetch.export.journal_records import (
    ChangedInputsError,
    Effort,
    FinishedBatch,
    JournalIdentity,
    JournalTotals,
    RunRecord,
)
from bulkfetch.export.journal_runs import RunTable, RunTimes
from bulkfetch.export.journal_unfetched import UnfetchedTable
from bulkfetch.export.journal_unproven import UnprovenAnswer, UnprovenTable
from bulkfetch.plan.marks import Marks
from bulkfetch.plan.rectangle import Axis, Rectangle, Side

__all__ = [
    "ChangedInputsError",
    "Effort",
    "FinishedBatch",
    "Journal",
    "JournalIdentity",
    "JournalTotals",
    "RunRecord",
]


class Journal:
    """An open journal, locked for this run. Open it with `Journal.open`."""

    def __init__(self, file: JournalFile) -> None:
        self._file = file
        self._unfetched = UnfetchedTable(file)
        self._unproven = UnprovenTable(file)
        self._runs = RunTable(file)
        self._identity: JournalIdentity | None = None  # once its region is known

    @property
    def path(self) -> Path:
        """Where it is."""
        return self._file.path

    @classmethod
    def open(
        cls, path: Path, identity: JournalIdentity, *, now: float, restart: bool = False
    ) -> "Journal":
        """Open the journal of an export, or begin it, and begin a run.

        Args:
            path: the file.
            identity: what the journal must belong to.
            now: seconds since 1970, noted as the start of the run.
            restart: discard the journal that is there, damaged or not.

        Raises:
            JournalError: another run holds it, it belongs to other inputs, it is damaged, or it
                is no journal: such a file is never discarded.
            SinkError: it cannot be written.
        """
        journal = cls(JournalFile(path, restart=restart))
        with journal._closed_on_failure():
            if is_blank(journal._file.connection):
                journal._begin(identity)
            else:
                journal._check(identity)
            if not identity.discovered:
                journal._identity = identity
            with journal._file.transaction():
                journal._unproven.create()
                journal._runs.begin(now)
        return journal

    @classmethod
    def open_existing(cls, path: Path, access: Access = Access.READ_ALONE) -> "Journal":
        """Open a journal to be read, whatever inputs it belongs to; nothing in it is changed.

        Args:
            path: the file.
            access: whether by this run alone.

        Raises:
            UsageError: there is none, or nothing in it.
            JournalError: another run holds it, or it is damaged or no journal.
        """
        with mapped(path):
            if not path.is_file() or not path.stat().st_size:
                raise UsageError(f"There is no journal {path}.")
        journal = cls(JournalFile(path, access=access))
        with journal._closed_on_failure():
            if is_blank(journal._file.connection):
                raise UsageError(f"There is nothing in the journal {path}: no export began it.")
            journal._check_soundness()
        return journal

    @contextlib.contextmanager
    def _closed_on_failure(self) -> Generator[None, None, None]:
        try:
            with mapped(self.path):
                yield
        except BaseException:
            self.close()
            raise

    @property
    def identity(self) -> JournalIdentity:
        """What the journal belongs to, with the lists of the account as far as they are complete.

        It is read once, and its lists are those of the export where they were given.

        Raises:
            DamagedJournalError: it cannot be told.
        """
        identity = self._identity or read_identity(self._file)
        if identity.is_settled:
            self._identity = identity
        return identity

    def settle(self, identity: JournalIdentity) -> None:
        """Take note of the account's lists, when they are complete, so that they are not read."""
        self._identity = identity

    def let_go(self) -> None:
        """Hold the id lists no longer; `identity` reads them again for who asks."""
        self._identity = None

    def commit(
        self,
        batch: FinishedBatch,
        effort: Effort | None = None,
        *,
        quarantined: Sequence[FailedIds] = (),
        notes: Mapping[str, object] | None = None,
    ) -> None:
        """Keep a finished batch, and what the run has done so far, in one transaction.

        Args:
            batch: what came.
            effort: of the run.
            quarantined: what was quarantined since the last commit.
            notes: to be remembered under their keys, see `remember`.

        Raises:
            SinkError: the disk is full or fails.
        """
        data = to_ipc(batch.batches)
        seen = [to_bits(self._base(batch.rectangle, axis), batch.batches, axis) for axis in Axis]
        numbers = (batch.rows, batch.surplus, batch.attempts)
        times = (batch.started_at, batch.ended_at, batch.latency_s)
        sizes = (batch.wire_bytes, batch.body_bytes)
        with self._file.transaction() as connection:
            sides = self._keep_sides(batch.rectangle)
            cursor = connection.execute(
                "INSERT INTO batch (run, learners, courses, row_count, surplus, attempts,"
                " started_at, ended_at, latency_s, wire_bytes, body_bytes,"
                " learners_seen, courses_seen, arrow, checksum)"
                " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                (
                    *(self._runs.current or 0, *sides, *numbers, *times, *sizes, *seen, data),
                    checksum_batch(sides, batch.rows, *seen, data),
                ),
            )
            connection.executemany(
                "INSERT INTO anomaly VALUES (?, ?, ?, ?)",
                [(cursor.lastrowid, a.enrollment_id, a.field, a.raw) for a in batch.anomalies],
            )
            self._unproven.forget(sides)
            self._runs.keep_effort(effort)
            self._unfetched.quarantine(quarantined)
            self._set_notes(notes or {})

    def keep_unproven(self, batch: FinishedBatch, effort: Effort | None = None) -> None:
        """Keep an answer that is not yet known to be whole; `commit` takes its place.

        Raises:
            SinkError: the disk is full or fails.
        """
        with self._file.transaction():
            self._unproven.keep(batch, self._keep_sides(batch.rectangle))
            self._runs.keep_effort(effort)

    def forget_unproven(self, rectangle: Rectangle) -> None:
        """Forget the answer to a rectangle that is to be asked for again.

        Raises:
            SinkError: the disk is full or fails.
        """
        with self._file.transaction():
            self._unproven.forget(self._keep_sides(rectangle))

    def forget_all_unproven(self, *, before: float) -> None:
        """Forget those that ended before a time, in seconds since 1970.

        Raises:
            SinkError: the disk is full or fails.
        """
        with self._file.transaction():
            self._unproven.forget_all(before=before)

    def unproven(self) -> list[UnprovenAnswer]:
        """Return what answers there are that are not yet known to be whole, the largest first.

        Raises:
            DamagedJournalError: a side does not match its digest.
        """
        return self._unproven.answers(map(self.identity.region.side, Axis))

    def load_unproven(self, answer: UnprovenAnswer) -> FinishedBatch | None:
        """Return such an answer; None if it is damaged, and has to be asked for again."""
        return self._unproven.load(answer)

    def take_back(
        self, doubts: Callable[[Rectangle, int, int], bool], key: str, value: object
    ) -> list[Rectangle]:
        """Forget the batches that are doubted, in one transaction.

        Args:
            doubts: told what a batch asked for, and how many rows and bytes were answered.
            key: under this, what makes them doubtful is remembered in the same transaction.
            value: ready for JSON.

        Returns:
            What they asked for.

        Raises:
            SinkError: the disk is full or fails.
            DamagedJournalError: a side does not match its digest.
        """
        kept = self._file.select(
            "SELECT id, learners, courses, row_count + surplus, body_bytes FROM batch"
        )
        sides = self._file.sides([side for batch in kept for side in batch[1:3]])
        found = [
            (number, rectangle)
            for number, learners, courses, *volume in kept
            if doubts(rectangle := Rectangle(sides[learners], sides[courses]), *volume)
        ]
        numbers = [(number,) for number, _ in found]
        with self._file.transaction() as connection:
            connection.executemany("DELETE FROM anomaly WHERE batch = ?", numbers)
            connection.executemany("DELETE FROM batch WHERE id = ?", numbers)
            self._file.set_meta(key, json.dumps(value))
        return [rectangle for _, rectangle in found]

    def finished(self) -> list[Rectangle]:
        """Return the rectangles of all finished batches.

        Raises:
            DamagedJournalError: a side does not match its digest.
        """
        pairs = self._file.select("SELECT learners, courses FROM batch")
        sides = self._file.sides([side for pair in pairs for side in pair])
        return [Rectangle(sides[learners], sides[courses]) for learners, courses in pairs]

    def each_finished(self) -> Iterator[Rectangle]:
        """Yield the same, those over one list of learners together, and hold one such list.

        Raises:
            DamagedJournalError: a side does not match its digest.
        """
        pairs = self._file.select("SELECT DISTINCT learners, courses FROM batch ORDER BY learners")
        known = self._known()
        courses_of = self._file.sides([courses for _, courses in pairs], known)
        for number, group in groupby(pairs, key=itemgetter(0)):
            learners = self._file.sides([number], known)[number]
            for _, courses in group:
                yield Rectangle(learners, courses_of[courses])

    def covers_region(self) -> bool:
        """Whether batches that take one side whole cover the region; in little memory.

        False says nothing: what is missing is told by `rest_of` from `finished`, which holds every
        id several times.

        Raises:
            DamagedJournalError: a side does not match its digest.
        """
        whole, axes = read_region_numbers(self._file)
        if axes or len(whole) != len(Axis):  # the account's own ids, or pairs
            return False
        batches = set(self._file.select("SELECT learners, courses FROM batch"))
        read = self._file.iterate_side
        for along, across in ((0, 1), (1, 0)):
            numbers = {batch[along] for batch in batches if batch[across] in {None, whole[across]}}
            if numbers & {None, whole[along]}:
                return True
            if numbers and whole[along] is not None:
                lists = [(next(read(each)), partial(read, each)) for each in numbers]
                if is_covered(read(whole[along]), sorted(lists, key=itemgetter(0))):
                    return True
        return False

    def returned_ids(self) -> dict[Axis, Marks]:
        """Return the ids that occur in rows, of each side that is asked for by ids."""
        region, known = self.identity.region, self._known()
        found: dict[Axis, Marks] = {}
        for axis, column in ((Axis.LEARNERS, "learners"), (Axis.COURSES, "courses")):
            masks: dict[int | None, int] = {}
            for number, data in self._file.select(f"SELECT {column}, {column}_seen FROM batch"):  # noqa: S608 - own names
                masks[number] = masks.get(number, 0) | int.from_bytes(data, "little")
            base = region.side(axis) or ()
            found[axis] = Marks(base)
            for number, mask in masks.items():
                if mask:
                    side = self._file.sides([number], known)[number] or base
                    found[axis].update(side, to_flags(mask, len(side)))
        return found

    def _known(self) -> dict[int | None, Side]:
        """Return the region's own lists, by their numbers."""
        return self._file.known(map(self.identity.region.side, Axis))

    def record_batches(self) -> Iterator[pa.RecordBatch]:
        """Yield the rows of all batches, in the order in which they were finished.

        Raises:
            DamagedJournalError: a batch does not match its checksum.
        """
        with mapped(self.path):
            for rows, data in self._verified():
                if rows:
                    yield from from_ipc(data)

    def _verified(self) -> Iterator[tuple[int, bytes]]:
        """Yield row count and serialized rows of each batch, checked."""
        cursor = self._file.connection.execute(
            "SELECT id, learners, courses, row_count, learners_seen, courses_seen, arrow, checksum"
            " FROM batch ORDER BY id"
        )
        for number, learners, courses, rows, *data, checksum in cursor:
            if checksum_batch((learners, courses), rows, *data) != checksum:
                raise self._file.damaged(f"Batch {number}")
            yield rows, data[-1]

    def finished_at(self) -> list[tuple[Rectangle, float]]:
        """Return the rectangles of all finished batches, and when their calls ended.

        Times are seconds since 1970.

        Raises:
            DamagedJournalError: a side does not match its digest.
        """
        rows = self._file.select("SELECT learners, courses, ended_at FROM batch")
        sides = self._file.sides([side for row in rows for side in row[:2]])
        return [
            (Rectangle(sides[learners], sides[courses]), ended_at)
            for learners, courses, ended_at in rows
        ]

    def begun_at(self) -> float | None:
        """Return when the first run began, in seconds since 1970."""
        return self._runs.begun_at()

    def totals(self) -> JournalTotals:
        """Return the sums over the finished batches."""
        (sums,) = self._file.select(
            "SELECT count(*), coalesce(sum(row_count), 0), coalesce(sum(attempts), 0),"
            " coalesce(sum(wire_bytes), 0), coalesce(sum(body_bytes), 0),"
            " (SELECT count(*) FROM anomaly), coalesce(sum(surplus), 0) FROM batch"
        )
        return JournalTotals(*sums)

    def times(self) -> tuple[float, float] | None:
        """Return when the first batch was begun and the last one came; None without any."""
        ((first, last),) = self._file.select("SELECT min(started_at), max(ended_at) FROM batch")
        return None if first is None else (first, last)

    def anomalies(self, limit: int) -> list[Anomaly]:
        """Return the first values that could not be read, of all runs."""
        statement = "SELECT enrollment_id, field, raw FROM anomaly ORDER BY rowid LIMIT ?"
        return [Anomaly(*values) for values in self._file.select(statement, limit)]

    def commit_page(self, page: ListedPage, effort: Effort | None = None) -> None:
        """Keep a page of a listing, and what the run has done so far, in one transaction.

        Raises:
            SinkError: the disk is full or fails.
        """
        with self._file.transaction():
            keep_page(self._file, page)
            self._runs.keep_effort(effort)

    def pages(self, axis: Axis) -> Iterator[ListedPage]:
        """Yield the pages of a listing so far, in their order.

        Raises:
            DamagedJournalError: they do not hang together.
        """
        return read_pages(self._file, axis)

    def forget_pages(self, axis: Axis) -> None:
        """Forget a listing, so that it begins anew."""
        with self._file.transaction() as connection:
            connection.execute("DELETE FROM page WHERE axis = ?", (axis.value,))
        self._identity = None

    def unfetched(self) -> tuple[list[FailedIds], list[FailedIds]]:
        """Return what could not be fetched: quarantined, and failed."""
        return self._unfetched.quarantined(), self._unfetched.failed()

    def set_aside(self) -> list[Rectangle]:
        """Return what is quarantined and not to be asked for again."""
        return self._unfetched.set_aside()

    def retrying(self) -> list[Rectangle]:
        """Return what is quarantined and to be asked for again, what waited the longest first."""
        return self._unfetched.retrying()

    def retry_quarantined(self) -> None:
        """Have everything that is quarantined asked for again, by this run or a later one."""
        with self._file.transaction():
            self._unfetched.retry_quarantined()

    def end_run(
        self,
        now: float,
        effort: Effort,
        quarantined: Sequence[FailedIds],
        failed: Sequence[FailedIds],
        report: dict[str, object],
    ) -> None:
        """Keep how the run ended, in one transaction.

        Args:
            now: seconds since 1970.
            effort: what it has done.
            quarantined: what is missing, instead of what was kept before.
            failed: likewise.
            report: of the run.
        """
        with self._file.transaction():
            self._runs.keep_effort(effort)
            self._runs.end(now)
            self._unfetched.replace(quarantined, failed)
            self._file.set_meta("report", json.dumps(report))

    def records(self, effort: Effort) -> tuple[RunRecord, RunRecord]:
        """Return what this run and what all runs have done; `effort` is this run's so far."""
        return self._runs.records(effort)

    def runs(self) -> list[RunTimes]:
        """Return when each run was, in order."""
        return self._runs.times()

    def report(self) -> dict[str, Any] | None:
        """Return the report of the latest run that came to an end."""
        found: dict[str, Any] | None = self.recall("report")
        return found

    def remember(self, notes: Mapping[str, object]) -> None:
        """Keep values, ready for JSON, by their keys, instead of those before.

        `timeline` is how the runs went over time, `pace` what they learned of the service,
        `growth_refused` how often calls for more than that were refused. `caps`,
        its silent caps, is kept by `take_back` alone.

        Raises:
            SinkError: the disk is full or fails.
        """
        with self._file.transaction():
            self._set_notes(notes)

    def _set_notes(self, notes: Mapping[str, object]) -> None:
        for key, value in notes.items():
            self._file.set_meta(key, json.dumps(value))

    def recall(self, key: str) -> Any:
        """Return what was remembered under a key; None if nothing was.

        Raises:
            DamagedJournalError: it cannot be read.
        """
        text = self._file.meta(key)
        try:
            return None if text is None else json.loads(text)
        except ValueError:
            raise self._file.damaged() from None

    def silent_caps(self) -> SilentCaps:
        """Return what `take_back` was told under the key `caps`; what cannot be read is none."""
        found = self.recall("caps")
        known = found if isinstance(found, dict) else {}
        values = (known.get(field.name) for field in fields(SilentCaps))
        return SilentCaps(*(value if isinstance(value, int) else None for value in values))

    def close(self) -> None:
        """Close the file and let the next run have it."""
        self._file.close()

    def _begin(self, identity: JournalIdentity) -> None:
        self._file.create(partial(keep_identity, self._file, identity))

    def _check_soundness(self) -> None:
        """Refuse a file that is not a whole journal of this program and version."""
        self._file.check_soundness()
        for _ in self._verified():
            pass

    def _check(self, identity: JournalIdentity) -> None:
        """Refuse a journal that is not of these inputs."""
        self._check_soundness()
        check_identity(self._file, identity)

    def _base(self, rectangle: Rectangle, axis: Axis) -> Side:
        """Return the ids that the bits of a batch stand for."""
        side = rectangle.side(axis)
        if side is not None:
            return side
        identity = self.identity
        return identity.region.side(axis) if identity.is_settled else None

    def _keep_sides(self, rectangle: Rectangle) -> tuple[int | None, int | None]:
        keep = self._file.keep_side
        return keep(rectangle.learners), keep(rectangle.courses)
