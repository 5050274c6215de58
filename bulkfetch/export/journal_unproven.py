"""The journal's table of answers that came and were not yet checked for rows left out silently.

They are no part of what the journal holds: nothing of them is published or counted. The next run
checks them in the place of asking again.
"""

import json
from collections.abc import Iterable
from dataclasses import dataclass

from bulkfetch.errors import Anomaly
from bulkfetch.export.journal_codec import checksum_batch, from_ipc, to_ipc
from bulkfetch.export.journal_file import JournalFile
from bulkfetch.export.journal_records import FinishedBatch
from bulkfetch.plan.rectangle import Axis, Rectangle, Side

# Journals that an earlier version began have no such table.
_SCHEMA = """
CREATE TABLE IF NOT EXISTS unproven (
  id INTEGER PRIMARY KEY, learners INTEGER REFERENCES side, courses INTEGER REFERENCES side,
  unsent TEXT NOT NULL, row_count INTEGER NOT NULL, surplus INTEGER NOT NULL,
  attempts INTEGER NOT NULL, started_at REAL NOT NULL, ended_at REAL NOT NULL,
  latency_s REAL NOT NULL, wire_bytes INTEGER NOT NULL, body_bytes INTEGER NOT NULL,
  anomalies TEXT NOT NULL, arrow BLOB NOT NULL, checksum INTEGER NOT NULL)
"""

Sides = tuple[int | None, int | None]  # the numbers of a rectangle's id lists


@dataclass(frozen=True, slots=True)
class UnprovenAnswer:
    """What is known of an answer without reading it: its number here, and what it asked for."""

    number: int
    rectangle: Rectangle


class UnprovenTable:
    """The answers. What changes them is called within a transaction.

    Args:
        file: the journal's.
    """

    def __init__(self, file: JournalFile) -> None:
        self._file = file

    def create(self) -> None:
        """Make the table if there is none."""
        self._file.connection.execute(_SCHEMA)

    def keep(self, batch: FinishedBatch, sides: Sides) -> None:
        """Keep an answer."""
        data = to_ipc(batch.batches)
        anomalies = json.dumps([[a.enrollment_id, a.field, a.raw] for a in batch.anomalies])
        unsent = json.dumps([axis.value for axis in Axis if axis in batch.rectangle.unsent])
        self._file.connection.execute(
            "INSERT INTO unproven (learners, courses, unsent, row_count, surplus, attempts,"
            " started_at, ended_at, latency_s, wire_bytes, body_bytes, anomalies, arrow, checksum)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                *(*sides, unsent, batch.rows, batch.surplus, batch.attempts),
                *(batch.started_at, batch.ended_at, batch.latency_s),
                *(batch.wire_bytes, batch.body_bytes, anomalies, data),
                checksum_batch(sides, batch.rows, unsent.encode(), anomalies.encode(), data),
            ),
        )

    def forget(self, sides: Sides) -> None:
        """Forget the answer to a rectangle, if it is here."""
        self._file.connection.execute(
            "DELETE FROM unproven WHERE learners IS ? AND courses IS ?", sides
        )

    def forget_all(self, *, before: float) -> None:
        """Forget the answers that ended before a time, in seconds since 1970."""
        self._file.connection.execute("DELETE FROM unproven WHERE ended_at < ?", (before,))

    def answers(self, known: Iterable[Side]) -> list[UnprovenAnswer]:
        """Return what there is, the largest first; lists that are known are not read again.

        Raises:
            DamagedJournalError: a side does not match its digest.
        """
        rows = self._file.select(
            "SELECT id, learners, courses, unsent FROM unproven ORDER BY row_count + surplus DESC"
        )
        if not rows:
            return []
        lists = self._file.known(known)
        sides = self._file.sides([side for row in rows for side in row[1:3]], lists)
        return [
            UnprovenAnswer(
                number,
                Rectangle(
                    sides[learners], sides[courses], frozenset(map(Axis, json.loads(unsent)))
                ),
            )
            for number, learners, courses, unsent in rows
        ]

    def load(self, answer: UnprovenAnswer) -> FinishedBatch | None:
        """Return an answer; None if it is not as it was written, and has to be asked for again."""
        rows = self._file.select(
            "SELECT learners, courses, row_count, unsent, anomalies, arrow, checksum,"
            " surplus, attempts, started_at, ended_at, latency_s, wire_bytes, body_bytes"
            " FROM unproven WHERE id = ?",
            answer.number,
        )
        if not rows:
            return None
        learners, courses, count, unsent, anomalies, data, checksum, *rest = rows[0]
        texts = (unsent.encode(), anomalies.encode())
        if checksum_batch((learners, courses), count, *texts, data) != checksum:
            return None
        surplus, attempts, started_at, ended_at, latency_s, wire_bytes, body_bytes = rest
        return FinishedBatch(
            rectangle=answer.rectangle,
            batches=list(from_ipc(data)) if count else [],
            rows=count,
            surplus=surplus,
            attempts=attempts,
            started_at=started_at,
            ended_at=ended_at,
            wire_bytes=wire_bytes,
            body_bytes=body_bytes,
            anomalies=tuple(Anomaly(*each) for each in json.loads(anomalies)),
            latency_s=latency_s,
        )
