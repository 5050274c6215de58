"""The index of hashes is a dictionary of first numbers, in few bytes."""

import tracemalloc

from hypothesis import given, settings
from hypothesis import strategies as st

import bulkfetch.seen
from bulkfetch.seen import HashIndex

SEEN = bulkfetch.seen.__file__

hashes = st.integers(-(2**63), 2**63 - 1)
# Many that fall into one table, and into one slot of it.
crowded = st.integers(0, 400).map(lambda i: (i * 17 << 8) | 3)


def identity(hashed: int) -> tuple[int, int]:
    return hashed & 255, hashed >> 8 & (1 << 30) - 1 or 1


@settings(deadline=None)
@given(st.lists(st.lists(hashes | crowded, max_size=60), max_size=20))
def test_it_is_a_dictionary_of_first_numbers(batches: list[list[int]]) -> None:
    index = HashIndex()
    first: dict[tuple[int, int], int] = {}
    for number, batch in enumerate(batches):
        expected = []
        for position, hashed in enumerate(batch):
            kept = first.setdefault(identity(hashed), number)
            if kept != number or [*map(identity, batch)].index(identity(hashed)) < position:
                expected.append((position, kept))
        found = index.note(batch, number)
        assert [each for each in found if each in expected] == expected
        assert len(found) == len(expected)


def test_entries_take_27_bytes_each_at_most_and_the_tables_grow_in_small_steps() -> None:
    index = HashIndex()
    largest_step = 0
    tracemalloc.start()
    for number in range(200):
        batch = [hash(f"{number} {i}") for i in range(1_000)]
        before, _ = tracemalloc.get_traced_memory()
        tracemalloc.reset_peak()
        assert index.note(batch, number) == []
        largest_step = max(largest_step, tracemalloc.get_traced_memory()[1] - before)
    snapshot = tracemalloc.take_snapshot()
    tracemalloc.stop()
    # Other tests may have left something at work that allocates, too.
    own = snapshot.filter_traces([tracemalloc.Filter(inclusive=True, filename_pattern=SEEN)])
    size = sum(each.size for each in own.traces)
    assert size < 200_000 * 28 + 100_000
    assert largest_step < 500_000  # one table of so many would take millions as it grows
    assert len(index.note([hash(f"7 {i}") for i in range(1_000)], 999)) == 1_000
