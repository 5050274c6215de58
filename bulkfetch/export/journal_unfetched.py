"""The journal's table of what could not be fetched.

An entry is *failed*, and asked for again by the next run; or *quarantined*, which is a finished
state; or it is quarantined and was told to be asked for again, which holds until it is, whatever
becomes of the run that was told.
"""

from collections.abc import Sequence

from bulkfetch.errors import FailedIds
from bulkfetch.export.journal_file import JournalFile
from bulkfetch.plan.rectangle import Rectangle

_QUARANTINED, _FAILED = "quarantined", "failed"
_RETRYING = "retrying"  # quarantined, and to be asked for again


class UnfetchedTable:
    """The entries. What changes them is called within a transaction.

    Args:
        file: the journal's.
    """

    def __init__(self, file: JournalFile) -> None:
        self._file = file

    def quarantined(self) -> list[FailedIds]:
        """Return what is quarantined, to be asked for again or not."""
        return self._entries(_QUARANTINED, _RETRYING)

    def failed(self) -> list[FailedIds]:
        """Return what failed."""
        return self._entries(_FAILED)

    def set_aside(self) -> list[Rectangle]:
        """Return what is quarantined and not to be asked for again."""
        return [_rectangle_of(entry) for entry in self._entries(_QUARANTINED)]

    def retrying(self) -> list[Rectangle]:
        """Return what is quarantined and to be asked for again, what waited the longest first."""
        entries = sorted(self._entries(_RETRYING), key=lambda entry: entry.tried_at or 0.0)
        return [_rectangle_of(entry) for entry in entries]

    def retry_quarantined(self) -> None:
        """Have everything that is quarantined asked for again."""
        self._file.connection.execute(
            "UPDATE unfetched SET kind = ? WHERE kind = ?", (_RETRYING, _QUARANTINED)
        )

    def quarantine(self, entries: Sequence[FailedIds]) -> None:
        """Add what was quarantined, in the place of what is known of it from before."""
        for entry in entries:
            sides = self._sides(entry)
            self._file.connection.execute(
                "DELETE FROM unfetched WHERE kind = ? AND learners IS ? AND courses IS ?",
                (_RETRYING, *sides),
            )
            self._add(_QUARANTINED, sides, entry)

    def replace(self, quarantined: Sequence[FailedIds], failed: Sequence[FailedIds]) -> None:
        """Keep these entries instead of all; what is to be asked for again and was not stays so."""
        connection = self._file.connection
        untried = set(
            connection.execute(
                "SELECT learners, courses, tried_at FROM unfetched WHERE kind = ?", (_RETRYING,)
            )
        )
        connection.execute("DELETE FROM unfetched")
        for kind, entries in ((_QUARANTINED, quarantined), (_FAILED, failed)):
            for entry in entries:
                sides = self._sides(entry)
                is_untried = kind == _QUARANTINED and (*sides, entry.tried_at) in untried
                self._add(_RETRYING if is_untried else kind, sides, entry)

    def _entries(self, *kinds: str) -> list[FailedIds]:
        rows = self._file.select(
            "SELECT kind, learners, courses, cause, attempts, tried_at FROM unfetched"
            " ORDER BY rowid"
        )
        kept = [row[1:] for row in rows if row[0] in kinds]
        sides = self._file.sides([number for row in kept for number in row[:2]])
        return [FailedIds(sides[row[0]], sides[row[1]], *row[2:]) for row in kept]

    def _sides(self, entry: FailedIds) -> tuple[int | None, int | None]:
        keep = self._file.keep_side
        return keep(entry.learner_ids), keep(entry.course_ids)

    def _add(self, kind: str, sides: tuple[int | None, int | None], entry: FailedIds) -> None:
        self._file.connection.execute(
            "INSERT INTO unfetched VALUES (?, ?, ?, ?, ?, ?)",
            (kind, *sides, entry.cause, entry.attempts, entry.tried_at),
        )


def _rectangle_of(entry: FailedIds) -> Rectangle:
    return Rectangle(entry.learner_ids, entry.course_ids)
