"""The runs of an export in its journal: when each was, and what it has done so far."""

from dataclasses import astuple, dataclass, fields

from bulkfetch.export.journal_file import JournalFile
from bulkfetch.export.journal_records import Effort, RunRecord

_EFFORT = [field.name for field in fields(Effort)]


@dataclass(frozen=True, slots=True)
class RunTimes:
    """When a run was, and what it added. Times are seconds since 1970.

    `ended_at` is None if it was killed, or is under way.
    """

    started_at: float
    ended_at: float | None
    calls: int
    retries: int
    batches: int
    rows: int


class RunTable:
    """The runs. What changes them is called within a transaction.

    Args:
        file: the journal's.

    Attributes:
        current: the number of the run that was begun here; None before.
    """

    def __init__(self, file: JournalFile) -> None:
        self._file = file
        self.current: int | None = None

    def begin(self, now: float) -> None:
        """Begin a run; `now` is seconds since 1970."""
        self.current = self._file.connection.execute(
            "INSERT INTO run (started_at) VALUES (?)", (now,)
        ).lastrowid

    def keep_effort(self, effort: Effort | None) -> None:
        """Keep what the run has done so far."""
        if effort is not None:
            names = ", ".join(f"{name} = ?" for name in _EFFORT)
            self._file.connection.execute(
                f"UPDATE run SET {names} WHERE id = ?",  # noqa: S608 - own names
                (*astuple(effort), self.current),
            )

    def end(self, now: float) -> None:
        """End the run."""
        self._file.connection.execute(
            "UPDATE run SET ended_at = ? WHERE id = ?", (now, self.current)
        )

    def begun_at(self) -> float | None:
        """Return when the first run began, in seconds since 1970."""
        ((first,),) = self._file.select("SELECT min(started_at) FROM run")
        return None if first is None else float(first)

    def times(self) -> list[RunTimes]:
        """Return when each run was, in order."""
        rows = self._file.select(
            "SELECT run.started_at, run.ended_at, calls, retries, count(batch.id),"
            " coalesce(sum(row_count), 0) FROM run LEFT JOIN batch ON batch.run = run.id"
            " GROUP BY run.id ORDER BY run.id"
        )
        return [RunTimes(*row) for row in rows]

    def records(self, effort: Effort) -> tuple[RunRecord, RunRecord]:
        """Return what this run and what all runs have done; `effort` is this run's so far."""
        runs = self._file.select(
            f"SELECT id, started_at, {', '.join(_EFFORT)}"  # noqa: S608 - own names
            " FROM run ORDER BY id"
        )
        batches = self._file.select(
            "SELECT run, row_count, latency_s FROM batch ORDER BY latency_s"
        )
        efforts = [effort if run[0] == self.current else Effort(*run[2:]) for run in runs]
        total = Effort(*(sum(values) for values in zip(*map(astuple, efforts), strict=True)))

        def record(effort: Effort, *, all_runs: bool) -> RunRecord:
            starts = [run[1] for run in runs if all_runs or run[0] == self.current]
            kept = [batch for batch in batches if all_runs or batch[0] == self.current]
            return RunRecord(
                runs=len(starts),
                started_at=min(starts, default=None),
                effort=effort,
                batches=len(kept),
                rows=sum(rows for _, rows, _ in kept),
                latencies_s=tuple(latency_s for _, _, latency_s in kept),
            )

        return record(effort, all_runs=False), record(total, all_runs=True)
