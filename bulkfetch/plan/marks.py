"""Some ids of a long sorted list, at a byte an id where a set takes sixty.

The side of a region may have a million ids, and batches run along it: what is noted of a batch is a
stretch of the list, found by its ends. Pure.
"""

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from collections.abc import Set as AbstractSet
from itertools import compress

_INVERTED = bytes.maketrans(b"\0\1", b"\1\0")


def find_stretch(ids: Sequence[str], some: Sequence[str]) -> int | None:
    """Return where `some` ids stand in a sorted list, one behind the other; None if they do not."""
    start = bisect_left(ids, some[0]) if some else 0
    return start if ids[start : start + len(some)] == some else None


def find(ids: Sequence[str], unit: str) -> int | None:
    """Return where an id stands in a sorted list; None if it does not."""
    place = bisect_left(ids, unit)
    return place if place < len(ids) and ids[place] == unit else None


class Marks(AbstractSet[str]):
    """A set of ids, nearly all of which stand in a sorted list; the others are held as they are.

    Args:
        ids: the list, sorted, each once. It is kept, not copied.
    """

    def __init__(self, ids: tuple[str, ...] = ()) -> None:
        self._ids = ids
        self._flags = bytearray(len(ids))
        self._others: set[str] = set()

    def update(self, some: Sequence[str], flags: bytes | None = None) -> None:
        """Add ids, a stretch of the list at once; of those, if flags are given, where one is 1."""
        start = find_stretch(self._ids, some)
        if start is not None:
            end = start + len(some)
            added = b"\1" * len(some) if flags is None else flags
            joined = int.from_bytes(self._flags[start:end]) | int.from_bytes(added)
            self._flags[start:end] = joined.to_bytes(len(some))
            return
        for unit in some if flags is None else compress(some, flags):
            place = find(self._ids, unit)
            if place is None:
                self._others.add(unit)
            else:
                self._flags[place] = 1

    def __contains__(self, unit: object) -> bool:
        place = find(self._ids, unit) if isinstance(unit, str) else None
        return unit in self._others if place is None else bool(self._flags[place])

    def __iter__(self) -> Iterator[str]:
        yield from compress(self._ids, self._flags)
        yield from self._others

    def __len__(self) -> int:
        return self._flags.count(1) + len(self._others)

    def absent_from(self, ids: Sequence[str]) -> list[str]:
        """Return those of the ids that are not in the set."""
        start = find_stretch(self._ids, ids)
        if start is None:
            return [unit for unit in ids if unit not in self]
        flags = self._flags[start : start + len(ids)].translate(_INVERTED)
        return list(compress(ids, flags))


def without(ids: Sequence[str], some: AbstractSet[str]) -> list[str]:
    """Return those of the ids that are not in a set."""
    if isinstance(some, Marks):
        return some.absent_from(ids)
    return [unit for unit in ids if unit not in some]
