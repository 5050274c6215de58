"""An index of hashes in few bytes: which batch brought an id.

A dictionary of integers takes 80 bytes an entry, and stops the event loop when it grows. Here an
entry is four bytes of the hash and four for the batch's number, in two arrays with open addressing.
There are 256 such tables, chosen by eight more bits, so that one grows at a time: 13 to 27 bytes an
entry, and a pause of milliseconds at tens of millions. Integers below 2³⁰ are those that Python
handles fastest: so that much of a hash is compared.
"""

from array import array
from collections.abc import Iterable

_TABLES = 256
_TABLE_BITS = 8
_KEY = (1 << 30) - 1
_FIRST_SLOTS = 16


class HashIndex:
    """Maps hashes to the number under which each was noted first; numbers stay below 2³²."""

    def __init__(self) -> None:
        self._keys = [_slots(_FIRST_SLOTS) for _ in range(_TABLES)]  # 0 is a free slot
        self._numbers = [_slots(_FIRST_SLOTS) for _ in range(_TABLES)]
        self._sizes = [_FIRST_SLOTS] * _TABLES
        self._free = [_room(_FIRST_SLOTS)] * _TABLES

    def note(self, hashes: Iterable[int], number: int) -> list[tuple[int, int]]:
        """Note hashes under a number.

        Returns:
            The positions of those that were there, each with the number that it stays under. Equal
            entries do not prove equal hashes: 38 bits of them were compared.
        """
        known = []
        tables, sizes, numbers, free = self._keys, self._sizes, self._numbers, self._free
        for position, hashed in enumerate(hashes):
            which = hashed & (_TABLES - 1)
            key = hashed >> _TABLE_BITS & _KEY or 1
            table = tables[which]
            size = sizes[which]
            slot = key % size
            while found := table[slot]:
                if found == key:
                    known.append((position, numbers[which][slot]))
                    break
                slot = slot + 1 if slot + 1 < size else 0
            else:
                table[slot] = key
                numbers[which][slot] = number
                free[which] -= 1
                if not free[which]:
                    self._grow(which)
        return known

    def _grow(self, which: int) -> None:
        """Give a table twice the slots."""
        size = self._sizes[which] * 2
        keys, numbers = _slots(size), _slots(size)
        for key, number in zip(self._keys[which], self._numbers[which], strict=True):
            if key:
                slot = key % size
                while keys[slot]:
                    slot = slot + 1 if slot + 1 < size else 0
                keys[slot] = key
                numbers[slot] = number
        self._keys[which], self._numbers[which], self._sizes[which] = keys, numbers, size
        self._free[which] += _room(size) - _room(size // 2)


def _slots(size: int) -> "array[int]":
    return array("I", bytes(4 * size))


def _room(size: int) -> int:
    """Return how many of so many slots are used before there are more."""
    return size * 3 // 5
