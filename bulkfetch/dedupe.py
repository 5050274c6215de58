"""Hand each enrollment on once: keep the first row of an id, report what else came under it.

Disjoint rectangles give disjoint answers, so a duplicate is rare and evidence of something wrong.
To report both rows of a conflict, every row handed on must be known again, without keeping the
objects: a batch is kept as something compact that gives its rows on demand, and an index maps a
hash of each id to its batch. A hit is looked up in the batch, so that equal hashes of different ids
are told apart and a conflict is compared value by value.

Rows of small batches are collected and packed together: each for itself they would take more room
for what is around them.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from bulkfetch.engine.outcome import CONFLICTS_KEPT
from bulkfetch.errors import Conflict
from bulkfetch.record import FIELD_NAMES
from bulkfetch.seen import HashIndex
from bulkfetch.wire.pack import SMALL_ROWS, keep_packed

__all__ = ["Deduplicator", "keep_packed"]

_COLLECTED_ROWS = 512
_UNPACKED_KEPT = 8

Row = tuple[Any, ...]
Hits = Sequence[tuple[int, int]]


class Deduplicator:
    """Knows the rows handed on so far."""

    def __init__(self) -> None:
        self._index = HashIndex()
        self._batches: list[Callable[[], Sequence[Row]]] = []
        self._same_hash: dict[str, Row] = {}  # ids whose hash another id has
        self._collected: list[Row] = []
        self._collected_number: int | None = None
        self._unpacked: dict[int, dict[str, Row]] = {}
        self.duplicates = 0
        self.conflict_count = 0
        self.conflicts: list[Conflict] = []

    def admit(self, ids: Sequence[str], rows: Callable[[], Sequence[Row]]) -> list[int]:
        """Note a batch of rows and return the positions to drop, because their ids came before.

        Args:
            ids: the enrollment ids, in the order of the rows.
            rows: gives the rows as tuples in the order of the record's fields. It is kept, and
                seldom called, so it should hold little: see `keep_packed`.
        """
        return self.settle(ids, rows, self.note(ids, rows))

    def note(self, ids: Sequence[str], rows: Callable[[], Sequence[Row]]) -> Hits:
        """Note a batch; return which ids may have come before, for `settle`.

        It takes a fraction of a microsecond an id, so an event loop can wait for it.
        """
        is_small = len(ids) < SMALL_ROWS
        number = self._number_of_collected() if is_small else len(self._batches)
        if not is_small:
            self._batches.append(rows)
        hits = self._index.note(map(hash, ids), number)
        if is_small and not hits:
            self._collect(rows())
        return hits

    def settle(
        self, ids: Sequence[str], rows: Callable[[], Sequence[Row]], hits: Hits
    ) -> list[int]:
        """Return the positions to drop. Looking rows up can take milliseconds a hit."""
        if not hits:
            return []
        is_small = len(ids) < SMALL_ROWS
        number = self._number_of_collected() if is_small else len(self._batches) - 1
        own = rows()
        first_of = {enrollment_id: i for i, enrollment_id in reversed([*enumerate(ids)])}
        dropped: dict[int, None] = {}
        for position, earlier_number in hits:
            enrollment_id = ids[position]
            first = first_of[enrollment_id]
            earlier = self._same_hash.get(enrollment_id)
            if earlier is None and (earlier_number != number or is_small):
                earlier = self._look_up(earlier_number, enrollment_id)
            if earlier is None and earlier_number == number and first < position:
                earlier = own[first]
            if earlier is None:
                self._same_hash[enrollment_id] = own[position]
                continue
            dropped[position] = None
            self._report(enrollment_id, earlier, own[position])
        if is_small:
            self._collect([row for position, row in enumerate(own) if position not in dropped])
        return list(dropped)

    def _number_of_collected(self) -> int:
        if self._collected_number is None:
            self._collected_number = len(self._batches)
            collected = self._collected
            self._batches.append(lambda: collected)
        return self._collected_number

    def _collect(self, rows: Sequence[Row]) -> None:
        self._collected += rows
        if len(self._collected) >= _COLLECTED_ROWS:
            assert self._collected_number is not None
            self._batches[self._collected_number] = keep_packed(self._collected)
            self._collected, self._collected_number = [], None

    def _look_up(self, number: int, enrollment_id: str) -> Row | None:
        """Return the row handed on under an id in a batch, if any."""
        if number == self._collected_number:
            return next((row for row in self._collected if row[0] == enrollment_id), None)
        if number not in self._unpacked:
            while len(self._unpacked) >= _UNPACKED_KEPT:
                del self._unpacked[next(iter(self._unpacked))]
            # Of equal ids in one batch the first was handed on.
            rows = {row[0]: row for row in reversed(self._batches[number]())}
            self._unpacked[number] = rows
        return self._unpacked[number].get(enrollment_id)

    def _report(self, enrollment_id: str, kept: Row, dropped: Row) -> None:
        if kept == dropped:
            self.duplicates += 1
            return
        self.conflict_count += 1
        if len(self.conflicts) < CONFLICTS_KEPT:
            self.conflicts.append(Conflict(enrollment_id, _named(kept), _named(dropped)))


def _named(row: Row) -> Mapping[str, object]:
    return dict(zip(FIELD_NAMES, row, strict=True))
