"""An index of hashes in few bytes: which batch brought an id.

A dictionary of integers takes 80 bytes an entry, and stops the event loop when it grows. Here an
entry is eight bytes of an array: 40 bits of the hash and the batch's number, in open addressing.
There are 256 such tables, chosen by eight more bits, so that one grows at a time: 13 to 20 bytes an
entry, and a pause of milliseconds at tens of millions.
"""

from array import array
from collections.abc import Iterable

_TABLES = 256
_TABLE_BITS = 8
_KEY = (1 << 40) - 1
_NUMBER_BITS = 24
_NUMBER = (1 << _NUMBER_BITS) - 1
_FIRST_SLOTS = 16
_EMPTY = array("Q", [0])


class HashIndex:
    """Maps hashes to the number under which each was noted first; numbers stay below 16 million."""

    def __init__(self) -> None:
        self._tables = [_EMPTY * _FIRST_SLOTS for _ in range(_TABLES)]
        self._used = [0] * _TABLES

    def note(self, hashes: Iterable[int], number: int) -> list[tuple[int, int]]:
        """Note hashes under a number.

        Returns:
            The positions of those that were there, each with the number that it stays under. Equal
            entries do not prove equal hashes: 48 bits of them were compared.
        """
        known = []
        entry_number = number + 1
        if entry_number > _NUMBER:
            raise OverflowError("More batches than the index can tell apart.")
        tables, used = self._tables, self._used
        for position, hashed in enumerate(hashes):
            which = hashed & (_TABLES - 1)
            key = hashed >> _TABLE_BITS & _KEY
            table = tables[which]
            size = len(table)
            slot = key % size
            while entry := table[slot]:
                if entry >> _NUMBER_BITS == key:
                    known.append((position, (entry & _NUMBER) - 1))
                    break
                slot = slot + 1 if slot + 1 < size else 0
            else:
                table[slot] = key << _NUMBER_BITS | entry_number
                used[which] += 1
                if used[which] * 5 > size * 3:
                    tables[which] = _grow(table)
        return known


def _grow(table: "array[int]") -> "array[int]":
    """Return a table half as large again with the same entries."""
    size = len(table) * 3 // 2
    grown = _EMPTY * size
    for entry in table:
        if entry:
            slot = (entry >> _NUMBER_BITS) % size
            while grown[slot]:
                slot = slot + 1 if slot + 1 < size else 0
            grown[slot] = entry
    return grown
