"""Decode flat text or rows into typed records: objects here, Arrow in `bulkfetch.wire.arrow`.

A value that cannot be read is null in its row and kept as raw text in an anomaly. Columns are
decoded one by one, with tables of the values already read: dates, flags and groups repeat, in one
answer and the next, and a look-up costs a tenth of reading them.
"""

import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Generic, Protocol, TypeVar, cast

from bulkfetch.errors import Anomaly
from bulkfetch.record import FIELDS, Enrollment, FieldType
from bulkfetch.wire.dialect import Column, Columns, Source
from bulkfetch.wire.fault import Fault
from bulkfetch.wire.flatten import Flat, Flattener, Row
from bulkfetch.wire.values import READERS

RowsT = TypeVar("RowsT")

TypedColumns = tuple[tuple[Any, ...], ...]
"""The values of all records by column, in the order of FIELDS."""

_WIDTH = len(FIELDS)
_REQUIRED = sum(field.required for field in FIELDS)  # the first ones
_VALUES_KEPT = 16_384
# What `Enrollment._make` does, without a frame for each.
_MAKE: Callable[[Any], Enrollment] = partial(tuple.__new__, Enrollment)


class UnprovenError(Exception):
    """Flat text that did not prove to be the definition's reading: read the document again."""


@dataclass(frozen=True, slots=True)
class Decoded(Generic[RowsT]):
    """The records of one document in the form asked for, with what the engine must check.

    `learner_ids` and `course_ids` are the distinct ids that occur in the rows.
    """

    rows: RowsT
    count: int
    learner_ids: frozenset[str]
    course_ids: frozenset[str]
    anomalies: tuple[Anomaly, ...]


class Decoder(Protocol[RowsT]):
    """Makes rows of one kind from text, in three shapes. Called in any thread."""

    def from_columns(self, columns: Columns) -> "Decoded[RowsT]":
        """Decode columns of text that were proved."""

    def from_flat(self, flat: Flat) -> "Decoded[RowsT]":
        """Decode proven flat text.

        Raises:
            UnprovenError: the proof failed.
        """

    def from_rows(self, rows: Sequence[Row]) -> "Decoded[RowsT]":
        """Decode rows of text."""

    def keep(
        self, decoded: "Decoded[RowsT]", is_wanted: Callable[[str, str], bool]
    ) -> "Decoded[RowsT]":
        """Return what is left without the rows whose learner and course are not wanted."""

    def enrollment_ids(self, rows: RowsT) -> list[str]:
        """Return the enrollment ids of decoded rows."""


def decode_document(
    document: bytes,
    flattener: Flattener,
    decoder: Decoder[RowsT],
    source: Source | None = None,
) -> Decoded[RowsT] | Fault:
    """Parse, flatten and decode one document, in one thread and one call.

    Args:
        document: the document.
        flattener: reads it.
        decoder: makes rows.
        source: gives the document again, for a decoder that keeps.

    Raises:
        MalformedAnswerError: the document is not a whole, acceptable answer.
    """
    columns = flattener.scan(document)
    if columns is not None:
        return decoder.from_columns(columns if source is None else replace(columns, source=source))
    return decode_unscanned(document, flattener, decoder)


def decode_unscanned(
    document: bytes, flattener: Flattener, decoder: Decoder[RowsT]
) -> Decoded[RowsT] | Fault:
    """Parse, flatten and decode one document that is not plain.

    Raises:
        MalformedAnswerError: the document is not a whole, acceptable answer.
    """
    found = flattener.flatten(document)
    if isinstance(found, Fault):
        return found
    if isinstance(found, Flat):
        try:
            return decoder.from_flat(found)
        except UnprovenError:
            found = flattener.read(document)
    return decoder.from_rows(found)


class ColumnDecoder:
    """Decodes to typed columns: `make_records` makes objects of them, when they are looked at.

    Where many rows wait, the garbage collector goes through each of their objects, and stops the
    event loop meanwhile. Tuples of plain values it leaves alone.
    """

    def __init__(self) -> None:
        self._tables = ValueTables(READERS)

    def from_columns(self, columns: Columns) -> Decoded[TypedColumns]:
        """See `Decoder.from_columns`."""
        return self._decode(columns.columns)

    def from_flat(self, flat: Flat) -> Decoded[TypedColumns]:
        """See `Decoder.from_flat`."""
        cells = flat.text.decode().replace("\n", "\t").split("\t")
        cells.pop()
        if len(cells) - cells.count("") != flat.values:
            raise UnprovenError
        return self._decode([cells[column::_WIDTH] for column in range(_WIDTH)])

    def from_rows(self, rows: Sequence[Row]) -> Decoded[TypedColumns]:
        """See `Decoder.from_rows`."""
        columns: Sequence[Column] = [*zip(*rows, strict=True)] if rows else [()] * _WIDTH
        return self._decode(columns)

    def keep(
        self, decoded: Decoded[TypedColumns], is_wanted: Callable[[str, str], bool]
    ) -> Decoded[TypedColumns]:
        """See `Decoder.keep`."""
        _, courses, learners, *_ = decoded.rows
        wanted = list(map(is_wanted, learners, courses))
        rows = tuple(tuple(itertools.compress(column, wanted)) for column in decoded.rows)
        return _decoded(rows, anomalies_of(decoded.anomalies, rows[0]))

    def enrollment_ids(self, rows: TypedColumns) -> list[str]:
        """See `Decoder.enrollment_ids`."""
        return [*rows[0]]

    def _decode(self, columns: Sequence[Column]) -> Decoded[TypedColumns]:
        if not all(columns[0]) or not all(columns[1]) or not all(columns[2]):
            raise UnprovenError
        anomalies: list[Anomaly] = []
        typed: list[tuple[Any, ...]] = []
        for position, (texts, table) in enumerate(
            zip(columns, self._tables.by_column(), strict=True)
        ):
            if position < _REQUIRED:
                typed.append(tuple(texts))
            elif table is None:
                typed.append(tuple([text or None for text in texts]))
            else:
                typed.append(tuple(map(table.__getitem__, texts)))
                if table.unreadable:
                    anomalies += find_anomalies(columns, position, table.unreadable)
        return _decoded(tuple(typed), tuple(anomalies))


def _decoded(rows: TypedColumns, anomalies: tuple[Anomaly, ...]) -> Decoded[TypedColumns]:
    return Decoded(rows, len(rows[0]), frozenset(rows[2]), frozenset(rows[1]), anomalies)


def make_records(columns: TypedColumns) -> list[Enrollment]:
    """Make the objects of typed columns."""
    return list(map(_MAKE, zip(*columns, strict=True)))


class ObjectDecoder:
    """Decodes to lists of `Enrollment`."""

    def __init__(self) -> None:
        self._decoder = ColumnDecoder()

    def from_columns(self, columns: Columns) -> Decoded[list[Enrollment]]:
        """See `Decoder.from_columns`."""
        return self._made(self._decoder.from_columns(columns))

    def from_flat(self, flat: Flat) -> Decoded[list[Enrollment]]:
        """See `Decoder.from_flat`."""
        return self._made(self._decoder.from_flat(flat))

    def from_rows(self, rows: Sequence[Row]) -> Decoded[list[Enrollment]]:
        """See `Decoder.from_rows`."""
        return self._made(self._decoder.from_rows(rows))

    def keep(
        self, decoded: Decoded[list[Enrollment]], is_wanted: Callable[[str, str], bool]
    ) -> Decoded[list[Enrollment]]:
        """See `Decoder.keep`."""
        kept = [row for row in decoded.rows if is_wanted(row.learner_id, row.course_id)]
        return Decoded(
            rows=kept,
            count=len(kept),
            learner_ids=frozenset(row.learner_id for row in kept),
            course_ids=frozenset(row.course_id for row in kept),
            anomalies=anomalies_of(decoded.anomalies, (row.enrollment_id for row in kept)),
        )

    def enrollment_ids(self, rows: list[Enrollment]) -> list[str]:
        """See `Decoder.enrollment_ids`."""
        return [row.enrollment_id for row in rows]

    @staticmethod
    def _made(decoded: Decoded[TypedColumns]) -> Decoded[list[Enrollment]]:
        return Decoded(
            make_records(decoded.rows),
            decoded.count,
            decoded.learner_ids,
            decoded.course_ids,
            decoded.anomalies,
        )


def find_anomalies(columns: Sequence[Column], position: int, unreadable: set[str]) -> list[Anomaly]:
    """List the cells of one column whose text is in `unreadable`."""
    name = FIELDS[position].name
    return [
        Anomaly(cast("str", enrollment_id), name, text)
        for enrollment_id, text in zip(columns[0], columns[position], strict=True)
        if text is not None and text in unreadable
    ]


def anomalies_of(
    anomalies: Sequence[Anomaly], enrollment_ids: Iterable[str]
) -> tuple[Anomaly, ...]:
    """Return the anomalies of these enrollments."""
    if not anomalies:
        return ()
    ids = set(enrollment_ids)
    return tuple(anomaly for anomaly in anomalies if anomaly.enrollment_id in ids)


class ValueTables:
    """The values already read, of each type. Threads may share it.

    Args:
        readers: what reads a text of each type, or raises ValueError.
    """

    def __init__(self, readers: Mapping[FieldType, Callable[[str], object]]) -> None:
        self._readers = readers
        self._renew()

    def by_column(self) -> "tuple[ValueTable | None, ...]":
        """Return each column's table, None for text: new ones once one is large.

        Columns of one type share one, so what is unreadable in it may have been in another.
        """
        if max(map(len, self._tables)) > _VALUES_KEPT:
            self._renew()
        return self._by_column

    def _renew(self) -> None:
        tables: dict[FieldType, ValueTable] = {
            kind: ValueTable(read)
            for kind, read in self._readers.items()
            if kind is not FieldType.TEXT
        }
        self._tables = [*tables.values()]
        self._by_column = tuple(tables.get(field.type) for field in FIELDS)


class ValueTable(dict[str | None, object]):
    """Values already read, by their text; reads what is missing."""

    def __init__(self, read: Callable[[str], object]) -> None:
        super().__init__({None: None, "": None})
        self._read = read
        self.unreadable: set[str] = set()

    def __missing__(self, text: str | None) -> object:
        assert text is not None
        try:
            value = self._read(text)
        except ValueError:
            self.unreadable.add(text)
            value = None
        self[text] = value
        return value


assert all(field.required and field.type is FieldType.TEXT for field in FIELDS[:_REQUIRED])
