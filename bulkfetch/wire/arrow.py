"""Decode flat text or rows to Arrow. Needs pyarrow; imported only when Arrow is asked for.

pyarrow's CSV reader splits flat text into columns without the GIL. Its own readers of dates, times
and integers accept other spellings than `bulkfetch.wire.values` does; so typed columns are taken
as dictionaries of text, and each distinct text is read once, by the same functions that make
objects: both forms hold the same values by construction.
"""

from collections.abc import Callable, Sequence
from datetime import date
from typing import Any, NamedTuple, cast

import pyarrow as pa
import pyarrow.csv as pa_csv

from bulkfetch.errors import Anomaly
from bulkfetch.record import FIELD_NAMES, FIELDS, FieldType, arrow_schema
from bulkfetch.wire.decode import Decoded, UnprovenError, ValueTables, anomalies_of, find_anomalies
from bulkfetch.wire.dialect import Columns
from bulkfetch.wire.flatten import Flat, Row
from bulkfetch.wire.values import READERS, read_bool, read_date, read_int8, read_timestamp

_EPOCH_DAY = date(1970, 1, 1).toordinal()
_BOM = b"\xef\xbb\xbf"
_ENROLLMENT_ID, _COURSE_ID, _LEARNER_ID = range(3)


class _Number(NamedTuple):
    """A type whose values are numbers in Arrow: how they are stored, and read from text."""

    storage: pa.DataType
    read: Callable[[str], int]


# Numbers, because making dates and times of Python's into Arrow's takes as long as all the rest.
_NUMBERS = {
    FieldType.DATE: _Number(pa.int32(), lambda text: read_date(text).toordinal() - _EPOCH_DAY),
    FieldType.BOOL: _Number(pa.bool_(), read_bool),
    FieldType.INT8: _Number(pa.int8(), read_int8),
    FieldType.TIMESTAMP: _Number(pa.int64(), lambda text: int(read_timestamp(text).timestamp())),
}


class ArrowDecoder:
    """Decodes to lists of record batches with the record's schema."""

    def __init__(self) -> None:
        self._schema = arrow_schema()
        self._types = [
            (wanted.type, _NUMBERS[field.type].storage if field.type in _NUMBERS else None)
            for field, wanted in zip(FIELDS, self._schema, strict=True)
        ]
        self._tables = ValueTables({kind: number.read for kind, number in _NUMBERS.items()})
        self._dictionary = pa.dictionary(pa.int32(), pa.string())
        self._convert = pa_csv.ConvertOptions(
            column_types={
                field.name: pa.string() if field.type is FieldType.TEXT else self._dictionary
                for field in FIELDS
            },
            null_values=[""],
            strings_can_be_null=True,
        )
        self._parse = pa_csv.ParseOptions(
            delimiter="\t",
            quote_char=False,
            double_quote=False,
            escape_char=False,
            newlines_in_values=False,
            ignore_empty_lines=False,
        )

    def from_flat(self, flat: Flat) -> Decoded[list[pa.RecordBatch]]:
        """See `Decoder.from_flat`."""
        if flat.text.startswith(_BOM):
            raise UnprovenError  # the reader would take it off the first id
        table = pa_csv.read_csv(
            pa.py_buffer(flat.text),
            read_options=pa_csv.ReadOptions(
                use_threads=False, block_size=len(flat.text) + 1, column_names=FIELD_NAMES
            ),
            parse_options=self._parse,
            convert_options=self._convert,
        )
        columns = [column.combine_chunks() for column in table.columns]
        cells = sum(len(column) - column.null_count for column in columns)
        if cells != flat.values or table.num_rows != flat.count:
            raise UnprovenError
        return self._decode(columns, flat.count)

    def from_columns(self, columns: Columns) -> Decoded[list[pa.RecordBatch]]:
        """See `Decoder.from_columns`."""
        anomalies: list[Anomaly] = []
        arrays = []
        for position, (column, table) in enumerate(
            zip(columns.columns, self._tables.by_column(), strict=True)
        ):
            wanted, storage = self._types[position]
            if table is None:
                arrays.append(pa.array(column, wanted))
                continue
            values = list(map(table.__getitem__, column))
            arrays.append(pa.array(values, storage).view(wanted))
            if table.unreadable:
                anomalies += find_anomalies(columns.columns, position, table.unreadable)
        batch = pa.RecordBatch.from_arrays(arrays, schema=self._schema)
        return Decoded(
            rows=[batch] if columns.count else [],
            count=columns.count,
            learner_ids=cast("frozenset[str]", frozenset(columns.columns[_LEARNER_ID])),
            course_ids=cast("frozenset[str]", frozenset(columns.columns[_COURSE_ID])),
            anomalies=tuple(anomalies),
        )

    def from_rows(self, rows: Sequence[Row]) -> Decoded[list[pa.RecordBatch]]:
        """See `Decoder.from_rows`."""
        columns = [[row[position] or None for row in rows] for position in range(len(FIELDS))]
        return self.from_columns(Columns(tuple(columns), len(rows)))

    def keep(
        self, decoded: Decoded[list[pa.RecordBatch]], is_wanted: Callable[[str, str], bool]
    ) -> Decoded[list[pa.RecordBatch]]:
        """See `Decoder.keep`."""
        rows: list[pa.RecordBatch] = []
        for batch in decoded.rows:
            learners, courses = (
                batch.column(position).to_pylist() for position in (_LEARNER_ID, _COURSE_ID)
            )
            kept = batch.filter(pa.array(map(is_wanted, learners, courses), pa.bool_()))
            rows += [kept] if kept.num_rows else []
        learner_ids, course_ids, enrollment_ids = (
            frozenset().union(*(batch.column(position).unique().to_pylist() for batch in rows))
            for position in (_LEARNER_ID, _COURSE_ID, _ENROLLMENT_ID)
        )
        return Decoded(
            rows=rows,
            count=sum(batch.num_rows for batch in rows),
            learner_ids=learner_ids,
            course_ids=course_ids,
            anomalies=anomalies_of(decoded.anomalies, enrollment_ids),
        )

    def enrollment_ids(self, rows: list[pa.RecordBatch]) -> list[str]:
        """See `Decoder.enrollment_ids`."""
        return [value for batch in rows for value in batch.column(_ENROLLMENT_ID).to_pylist()]

    def _decode(self, columns: Sequence[Any], count: int) -> Decoded[list[pa.RecordBatch]]:
        if any(column.null_count for column in columns[: _LEARNER_ID + 1]):
            raise UnprovenError
        anomalies: list[Anomaly] = []
        arrays = []
        for field, wanted, column in zip(FIELDS, self._schema, columns, strict=True):
            if field.type is FieldType.TEXT:
                arrays.append(column)
                continue
            values: list[object] = []
            unreadable: dict[int, str] = {}
            for code, text in enumerate(column.dictionary.to_pylist()):
                try:
                    values.append(READERS[field.type](text))
                except ValueError:
                    values.append(None)
                    unreadable[code] = text
            arrays.append(pa.array(values, wanted.type).take(column.indices))
            if unreadable:
                anomalies += [
                    Anomaly(columns[_ENROLLMENT_ID][row].as_py(), field.name, unreadable[code])
                    for row, code in enumerate(column.indices.to_pylist())
                    if code in unreadable
                ]
        batch = pa.RecordBatch.from_arrays(arrays, schema=self._schema)
        return Decoded(
            rows=[batch] if count else [],
            count=count,
            learner_ids=frozenset(columns[_LEARNER_ID].unique().to_pylist()),
            course_ids=frozenset(columns[_COURSE_ID].unique().to_pylist()),
            anomalies=tuple(anomalies),
        )


def pack_batch(batch: pa.RecordBatch) -> bytes:
    """Serialize a record batch compactly, with its schema."""
    sink = pa.BufferOutputStream()
    options = pa.ipc.IpcWriteOptions(compression=pa.Codec("zstd", compression_level=1))
    with pa.ipc.new_stream(sink, batch.schema, options=options) as writer:
        writer.write_batch(batch)
    return bytes(sink.getvalue())


def unpack_batches(packed: bytes) -> list[pa.RecordBatch]:
    """Return what was packed."""
    return list(pa.ipc.open_stream(packed))


def unpack_rows(packed: bytes) -> list[tuple[Any, ...]]:
    """Return the rows of a packed batch as tuples in the order of the record's fields."""
    return rows_of(unpack_batches(packed))


def rows_of(batches: Sequence[pa.RecordBatch]) -> list[tuple[Any, ...]]:
    """Return the rows of batches as tuples in the order of the record's fields."""
    return [tuple(row.values()) for batch in batches for row in batch.to_pylist()]
