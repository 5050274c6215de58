"""Decode rows together with what gives them again later, in little memory.

The library hands rows on and keeps nothing, yet must show both rows of a conflict. What an answer
was received as is kept for that, if it was compressed well: it is there already, and costs nothing
but to read it again. Otherwise the text of each document is packed in the thread that decodes it.
Arrow's own compressed form does for both: where many rows wait for their answer to close, only the
packed form waits.
"""

import gc
import threading
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from bulkfetch.record import Enrollment
from bulkfetch.wire.decode import (
    ColumnDecoder,
    Decoded,
    Decoder,
    TypedColumns,
    decode_document,
    make_records,
)
from bulkfetch.wire.dialect import Columns, Source
from bulkfetch.wire.flatten import Flat, Flattener, Row
from bulkfetch.wire.pack import SMALL_ROWS, keep_packed, pack_columns, unpack_columns

if TYPE_CHECKING:
    import pyarrow as pa

RowsT = TypeVar("RowsT")

_WAITING_BYTES = 16 * 1024 * 1024
_SOURCE_BYTES = 72  # a row; packed, it takes 30 to 50


class Kept(Generic[RowsT]):
    """The rows of one document.

    Attributes:
        hold: gives them as they are held.
        recall: gives them as tuples in the order of the record's fields, as often as asked.
    """

    __slots__ = ("_make", "_room", "hold", "recall")

    def __init__(
        self,
        hold: Callable[[], Any],
        make: Callable[[Any], RowsT],
        recall: Callable[[], Sequence[tuple[Any, ...]]],
        room: object = None,
    ) -> None:
        self.hold = hold
        self.recall = recall
        self._make = make
        self._room = room

    def take(self) -> RowsT:
        """Return the rows, to be handed on."""
        return self._make(self.hold())


class KeepingDecoder(Generic[RowsT]):
    """Decodes as another decoder does, and keeps.

    Args:
        decoder: makes rows as they are held until they are taken.
    """

    def __init__(self, decoder: Decoder[Any]) -> None:
        self._decoder = decoder

    def from_columns(self, columns: Columns) -> Decoded[Kept[RowsT]]:
        """See `Decoder.from_columns`."""
        return self._kept(self._decoder.from_columns(columns), columns)

    def from_flat(self, flat: Flat) -> Decoded[Kept[RowsT]]:
        """See `Decoder.from_flat`."""
        return self._kept(self._decoder.from_flat(flat), None)

    def from_rows(self, rows: Sequence[Row]) -> Decoded[Kept[RowsT]]:
        """See `Decoder.from_rows`."""
        return self._kept(self._decoder.from_rows(rows), None)

    def keep(
        self, decoded: Decoded[Kept[RowsT]], is_wanted: Callable[[str, str], bool]
    ) -> Decoded[Kept[RowsT]]:
        """See `Decoder.keep`."""
        whole = Decoded(
            rows=decoded.rows.hold(),
            count=decoded.count,
            learner_ids=decoded.learner_ids,
            course_ids=decoded.course_ids,
            anomalies=decoded.anomalies,
        )
        kept = self._decoder.keep(whole, is_wanted)
        return decoded if kept.count == decoded.count else self._kept(kept, None)

    def enrollment_ids(self, rows: Kept[RowsT]) -> list[str]:
        """See `Decoder.enrollment_ids`."""
        return self._decoder.enrollment_ids(rows.hold())

    def ids_of(self, rows: RowsT) -> list[str]:
        """Return the enrollment ids of rows that were taken."""
        raise NotImplementedError

    def _kept(self, decoded: Decoded[Any], columns: Columns | None) -> Decoded[Kept[RowsT]]:
        rows = self._keep(decoded.rows, decoded.count, columns)
        return Decoded(
            rows, decoded.count, decoded.learner_ids, decoded.course_ids, decoded.anomalies
        )

    def _keep(self, rows: Any, count: int, columns: Columns | None) -> Kept[RowsT]:
        raise NotImplementedError


def _itself(rows: RowsT) -> RowsT:
    return rows


class KeepingObjects(KeepingDecoder[list[Enrollment]]):
    """Decodes to lists of `Enrollment`, made when they are taken."""

    def __init__(self) -> None:
        super().__init__(ColumnDecoder())

    def ids_of(self, rows: list[Enrollment]) -> list[str]:
        """See `KeepingDecoder.ids_of`."""
        return [row[0] for row in rows]

    def _keep(
        self, rows: TypedColumns, count: int, columns: Columns | None
    ) -> Kept[list[Enrollment]]:
        recall: Callable[[], Sequence[tuple[Any, ...]]]
        if count < SMALL_ROWS:
            recall = partial(_rows_of, rows)
        elif columns is None:
            recall = keep_packed(_rows_of(rows))
        elif (source := _small_source(columns)) is not None:
            recall = partial(_read_again, source)
        else:
            recall = partial(_recall_objects, pack_columns(columns))
            # Many of these may wait for their answer to close. The collector looks at each once,
            # and stops the event loop meanwhile: one by one, here, that is not to be noticed.
            if gc.isenabled():
                gc.collect(0)
        return Kept(partial(_itself, rows), make_records, recall)


def _rows_of(columns: TypedColumns) -> list[tuple[Any, ...]]:
    return list(zip(*columns, strict=True))


def _recall_objects(packed: bytes) -> Sequence[tuple[Any, ...]]:
    return _rows_of(ColumnDecoder().from_columns(unpack_columns(packed)).rows)


def _small_source(columns: Columns) -> Source | None:
    source = columns.source
    if source is None or source.size > columns.count * _SOURCE_BYTES:
        return None
    return source


def _read_again(source: Source) -> Sequence[tuple[Any, ...]]:
    found = decode_document(source.read(), Flattener(), ColumnDecoder())
    assert isinstance(found, Decoded)
    return _rows_of(found.rows)


class _Room:
    """Bytes that may be held; what is taken is given back when its holder is gone."""

    def __init__(self, size: int) -> None:
        self._left = size
        self._lock = threading.RLock()  # a holder can go at any moment

    def take(self, size: int) -> "_Taken | None":
        """Take room; None if there is not so much."""
        with self._lock:
            if self._left < size:
                return None
            self._left -= size
        return _Taken(self, size)

    def give_back(self, size: int) -> None:
        with self._lock:
            self._left += size


class _Taken:
    """Room that is taken for as long as this lives."""

    __slots__ = ("_room", "_size")

    def __init__(self, room: _Room, size: int) -> None:
        self._room = room
        self._size = size

    def __del__(self) -> None:
        self._room.give_back(self._size)


class KeepingArrow(KeepingDecoder[list["pa.RecordBatch"]]):
    """Decodes to lists of record batches. Needs pyarrow.

    Args:
        waiting_bytes: how much may wait as it is; what is beyond waits packed.
    """

    def __init__(self, *, waiting_bytes: int = _WAITING_BYTES) -> None:
        from bulkfetch.wire import arrow  # noqa: PLC0415 - only with pyarrow

        super().__init__(arrow.ArrowDecoder())
        self._arrow = arrow
        self._room = _Room(waiting_bytes)

    def ids_of(self, rows: list["pa.RecordBatch"]) -> list[str]:
        """See `KeepingDecoder.ids_of`."""
        return self._decoder.enrollment_ids(rows)

    def _keep(
        self, rows: list["pa.RecordBatch"], count: int, columns: Columns | None
    ) -> Kept[list["pa.RecordBatch"]]:
        if count < SMALL_ROWS:
            return Kept(partial(_itself, rows), _itself, partial(self._arrow.rows_of, rows))
        # An answer received in one piece is small: its rows may wait as they are.
        if columns is not None and (source := _small_source(columns)) is not None:
            return Kept(partial(_itself, rows), _itself, partial(_read_again, source))
        (batch,) = rows
        packed = self._arrow.pack_batch(batch)
        recall = partial(self._arrow.unpack_rows, packed)
        taken = self._room.take(batch.nbytes)
        if taken is None:
            return Kept(partial(self._arrow.unpack_batches, packed), _itself, recall)
        return Kept(partial(_itself, rows), _itself, recall, taken)
