"""Hand each enrollment on once: keep the first row of an id, report what else came under it.

Disjoint rectangles give disjoint answers, so a duplicate is rare and evidence of something wrong.
To report both rows of a conflict, every row handed on must be known again, without keeping the
objects: a batch is kept as something compact that gives its rows on demand (pickled and compressed
here, Arrow's own compressed form in the client), and the index maps a hash of each id to its
batch. A hit is looked up in the batch, so that equal hashes of different ids are told apart and a
conflict is compared value by value.
"""

import functools
import pickle
import zlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from bulkfetch.engine.outcome import CONFLICTS_KEPT
from bulkfetch.errors import Conflict
from bulkfetch.record import FIELD_NAMES

_FAST = 1

Row = tuple[Any, ...]


class Deduplicator:
    """Knows the rows handed on so far."""

    def __init__(self) -> None:
        self._batch_of: dict[int, int] = {}
        self._batches: list[Callable[[], Sequence[Row]]] = []
        self._same_hash: dict[str, Row] = {}  # ids whose hash another id has
        self._unpacked: tuple[int, dict[str, Row]] = (-1, {})
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
        number = len(self._batches)
        self._batches.append(rows)
        hashes = [hash(enrollment_id) for enrollment_id in ids]
        seen = self._batch_of
        if len(set(hashes)) == len(hashes) and seen.keys().isdisjoint(hashes):
            seen.update(dict.fromkeys(hashes, number))
            return []
        return self._admit_one_by_one(ids, hashes, rows(), number)

    def _admit_one_by_one(
        self, ids: Sequence[str], hashes: Sequence[int], rows: Sequence[Row], number: int
    ) -> list[int]:
        dropped = []
        own: dict[str, Row] = {}
        for position, (enrollment_id, hashed, row) in enumerate(
            zip(ids, hashes, rows, strict=True)
        ):
            earlier = own.get(enrollment_id) or self._find(enrollment_id, hashed, number)
            if earlier is not None:
                dropped.append(position)
                self._report(enrollment_id, earlier, row)
                continue
            own[enrollment_id] = row
            if hashed in self._batch_of:
                self._same_hash[enrollment_id] = row
            else:
                self._batch_of[hashed] = number
        return dropped

    def _find(self, enrollment_id: str, hashed: int, current: int) -> Row | None:
        """Return the row handed on under an id in an earlier batch, if any."""
        if enrollment_id in self._same_hash:
            return self._same_hash[enrollment_id]
        number = self._batch_of.get(hashed)
        if number is None or number == current:
            return None
        if self._unpacked[0] != number:
            # Of equal ids in one batch the first was handed on.
            rows = {row[0]: row for row in reversed(self._batches[number]())}
            self._unpacked = (number, rows)
        return self._unpacked[1].get(enrollment_id)

    def _report(self, enrollment_id: str, kept: Row, dropped: Row) -> None:
        if kept == dropped:
            self.duplicates += 1
            return
        self.conflict_count += 1
        if len(self.conflicts) < CONFLICTS_KEPT:
            self.conflicts.append(Conflict(enrollment_id, _named(kept), _named(dropped)))


def _named(row: Row) -> Mapping[str, object]:
    return dict(zip(FIELD_NAMES, row, strict=True))


def keep_packed(rows: Sequence[Row]) -> Callable[[], Sequence[Row]]:
    """Return a function that gives these rows, and holds them in 80 bytes each or less."""
    packed = zlib.compress(pickle.dumps([tuple(row) for row in rows], protocol=5), _FAST)
    return functools.partial(_unpack, packed)


def _unpack(packed: bytes) -> Sequence[Row]:
    rows: Sequence[Row] = pickle.loads(zlib.decompress(packed))  # noqa: S301 - packed above
    return rows
