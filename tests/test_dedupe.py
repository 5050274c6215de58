"""Each enrollment is handed on once; what else came under its id is told."""

from collections.abc import Callable, Sequence
from datetime import UTC, date, datetime
from functools import partial
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bulkfetch.dedupe import Deduplicator, keep_packed
from bulkfetch.engine.outcome import CONFLICTS_KEPT
from bulkfetch.record import FIELD_NAMES, Enrollment, arrow_schema
from bulkfetch.wire.arrow import pack_batch, unpack_rows

Keep = Callable[[Sequence[tuple[Any, ...]]], Callable[[], Sequence[tuple[Any, ...]]]]


class Colliding(str):
    """An id whose hash many others have."""

    __slots__ = ()

    def __hash__(self) -> int:
        return len(self)


def keep(rows: Sequence[tuple[Any, ...]]) -> Callable[[], Sequence[tuple[Any, ...]]]:
    return lambda: rows


def keep_arrow(rows: Sequence[tuple[Any, ...]]) -> Callable[[], Sequence[tuple[Any, ...]]]:
    batch = pa.RecordBatch.from_pylist(
        [dict(zip(FIELD_NAMES, row, strict=True)) for row in rows], arrow_schema()
    )
    return partial(unpack_rows, pack_batch(batch))


def row(key: str, content: int) -> Enrollment:
    return Enrollment(
        key, "c", f"l{content}", date(2022, 7, 14), None, None, content == 1, content, None,
        datetime(2022, 7, 15, 7, 19, tzinfo=UTC), None,
    )  # fmt: skip


Sent = list[list[tuple[str, int]]]
batches: st.SearchStrategy[Sent] = st.lists(
    st.lists(st.tuples(st.sampled_from(["a", "b", "c", "dd", "ee", "ff", ""]), st.integers(0, 2)),
             max_size=7),
    max_size=6,
)  # fmt: skip


def check(sent: Sent, make_key: Callable[[str], str], keep_rows: Keep) -> None:
    """Compare with a dictionary that holds everything."""
    dedupe = Deduplicator()
    first: dict[str, Enrollment] = {}
    duplicates = 0
    conflicts = []
    for batch in sent:
        rows = [row(make_key(key), content) for key, content in batch]
        expected = []
        for position, each in enumerate(rows):
            kept = first.setdefault(str(each.enrollment_id), each)
            if kept is each:
                continue
            expected.append(position)
            if kept == each:
                duplicates += 1
            else:
                conflicts.append((str(each.enrollment_id), kept, each))
        ids = [each.enrollment_id for each in rows]
        assert dedupe.admit(ids, keep_rows(rows)) == expected
    assert dedupe.duplicates == duplicates
    assert dedupe.conflict_count == len(conflicts)
    assert [
        (str(each.enrollment_id), tuple(each.kept.values()), tuple(each.dropped.values()))
        for each in dedupe.conflicts
    ] == [(key, tuple(kept), tuple(dropped)) for key, kept, dropped in conflicts]


@pytest.mark.parametrize(
    "keep_rows", [keep, keep_packed, keep_arrow], ids=["as is", "packed", "arrow"]
)
@settings(max_examples=150, deadline=None)
@given(sent=batches)
def test_it_is_a_dictionary_of_first_rows(sent: Sent, keep_rows: Keep) -> None:
    check(sent, str, keep_rows)


@settings(max_examples=400, deadline=None)
@given(batches)
def test_ids_with_equal_hashes_are_told_apart(sent: Sent) -> None:
    check(sent, Colliding, keep)


def test_a_conflict_shows_both_rows_by_name() -> None:
    dedupe = Deduplicator()
    assert dedupe.admit(["a", "b"], keep_packed([row("a", 1), row("b", 1)])) == []
    assert dedupe.admit(["c", "a"], keep_packed([row("c", 1), row("a", 2)])) == [1]
    (conflict,) = dedupe.conflicts
    assert conflict.enrollment_id == "a"
    assert conflict.kept == row("a", 1)._asdict()
    assert conflict.dropped == row("a", 2)._asdict()
    assert (dedupe.duplicates, dedupe.conflict_count) == (0, 1)


def test_conflicts_are_all_counted_and_the_first_thousand_kept() -> None:
    dedupe = Deduplicator()
    ids = [f"e{i}" for i in range(CONFLICTS_KEPT + 5)]
    dedupe.admit(ids, keep([row(key, 0) for key in ids]))
    dropped = dedupe.admit(ids, keep([row(key, 1) for key in ids]))
    assert dropped == list(range(len(ids)))
    assert dedupe.conflict_count == CONFLICTS_KEPT + 5
    assert [each.enrollment_id for each in dedupe.conflicts] == ids[:CONFLICTS_KEPT]


def test_rows_are_not_looked_at_while_nothing_comes_twice() -> None:
    def never() -> Sequence[tuple[Any, ...]]:
        raise AssertionError

    dedupe = Deduplicator()
    for batch in range(50):
        assert dedupe.admit([f"{batch}-{i}" for i in range(100)], never) == []


def test_packed_rows_are_small_and_the_same() -> None:
    rows = [row(f"{i:08x}-040d-11ed-a2ba-b6f58d6fa7b5", i % 3) for i in range(1_000)]
    packed = keep_packed(rows)
    assert isinstance(packed, partial)
    assert len(packed.args[0]) < 80 * len(rows)
    assert packed() == [tuple(each) for each in rows]
