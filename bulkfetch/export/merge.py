"""Merge sorted rows: each enrollment once, the rest counted.

Rows come sorted by enrollment_id and then by every other column, so that equal ids stand together
and the first of them, the one that is kept, does not depend on the order of arrival. Batches
without repeated ids, nearly all, pass through untouched.
"""

from collections.abc import Iterable, Iterator
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from bulkfetch.engine.outcome import CONFLICTS_KEPT
from bulkfetch.errors import Conflict

_ENROLLMENT_ID = 0


class Merger:
    """Removes repeated ids from sorted batches and remembers what it removed."""

    def __init__(self) -> None:
        self.rows = 0
        self.duplicates = 0
        self.conflict_count = 0
        self.conflicts: list[Conflict] = []
        self._last: dict[str, Any] | None = None  # the row kept last

    def merge(self, batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        """Yield the batches without the rows whose id came before."""
        for batch in batches:
            if not batch.num_rows:
                continue
            kept = self._drop_repeated(batch)
            self.rows += kept.num_rows
            if kept.num_rows:
                self._last = kept.slice(kept.num_rows - 1).to_pylist()[0]
                yield kept

    def _drop_repeated(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        ids = batch.column(_ENROLLMENT_ID)
        equal = pc.equal(ids.slice(1), ids.slice(0, len(ids) - 1))
        repeats = [row + 1 for row in pc.indices_nonzero(equal).to_pylist()]
        if self._last is not None and ids[0].as_py() == self._last["enrollment_id"]:
            repeats.insert(0, 0)
        if not repeats:
            return batch
        kept: dict[str, Any] | None = None
        for row in repeats:
            content = batch.slice(row, 1).to_pylist()[0]
            if kept is None or kept["enrollment_id"] != content["enrollment_id"]:
                kept = self._last if row == 0 else batch.slice(row - 1, 1).to_pylist()[0]
            assert kept is not None
            self._count(kept, content)
        mask = [True] * batch.num_rows
        for row in repeats:
            mask[row] = False
        return batch.filter(pa.array(mask))

    def _count(self, kept: dict[str, Any], dropped: dict[str, Any]) -> None:
        if kept == dropped:
            self.duplicates += 1
            return
        self.conflict_count += 1
        if len(self.conflicts) < CONFLICTS_KEPT:
            self.conflicts.append(Conflict(kept["enrollment_id"], kept, dropped))
