"""How the journal writes what it keeps: rows, bits for ids, and checksums over them."""

import json
import struct
import zlib
from collections.abc import Iterator, Sequence

import pyarrow as pa
import pyarrow.compute as pc

from bulkfetch.plan.rectangle import Axis, Side
from bulkfetch.record import FIELD_NAMES, arrow_schema

_COLUMN = {
    Axis.LEARNERS: FIELD_NAMES.index("learner_id"),
    Axis.COURSES: FIELD_NAMES.index("course_id"),
}
# Read back piece by piece: what publishing holds of a batch does not grow with it.
_ROWS_AT_ONCE = 8_192
_DIGITS = bytes.maketrans(b"01", b"\0\1")


def checksum_batch(sides: tuple[int | None, int | None], rows: int, *data: bytes) -> int:
    """Return the checksum over a batch: the numbers of its id lists, its count, what it holds."""
    checksum = zlib.crc32(struct.pack("<qqq", sides[0] or 0, sides[1] or 0, rows))
    for part in data:
        checksum = zlib.crc32(part, zlib.crc32(struct.pack("<q", len(part)), checksum))
    return checksum


def checksum_page(*place: object) -> int:
    """Return the checksum over a page: what it was asked for with, and what it named next."""
    return zlib.crc32(json.dumps(place).encode())


def to_bits(side: Side, batches: Sequence[pa.RecordBatch], axis: Axis) -> bytes:
    """Return a bit for each id of a side, set where it occurs in rows."""
    bits = b""
    if side is not None and batches:
        column = pa.chunked_array([batch.column(_COLUMN[axis]) for batch in batches])
        seen = pc.is_in(pa.array(side, pa.string()), value_set=pc.unique(column))
        bits = seen.buffers()[1].to_pybytes()[: (len(side) + 7) // 8]
    return bits


def occurring_ids(batches: Sequence[pa.RecordBatch], axis: Axis) -> frozenset[str]:
    """Return the ids of an axis that occur in rows."""
    columns = (batch.column(_COLUMN[axis]) for batch in batches)
    return frozenset().union(*(column.unique().to_pylist() for column in columns))


def to_flags(bits: int, size: int) -> bytes:
    """Return a byte for each of so many bits, lowest first: 0 or 1."""
    return f"{bits & ((1 << size) - 1):0{size}b}"[::-1].encode().translate(_DIGITS)


def to_ipc(batches: Sequence[pa.RecordBatch]) -> bytes:
    """Serialize rows; no rows are no bytes."""
    if not batches:
        return b""
    sink = pa.BufferOutputStream()
    options = pa.ipc.IpcWriteOptions(compression="zstd")
    with pa.ipc.new_stream(sink, arrow_schema(), options=options) as writer:
        writer.write_table(pa.Table.from_batches(batches), max_chunksize=_ROWS_AT_ONCE)
    return bytes(sink.getvalue())


def from_ipc(data: bytes) -> Iterator[pa.RecordBatch]:
    """Yield the rows that `to_ipc` wrote."""
    with pa.ipc.open_stream(data) as reader:
        yield from reader
