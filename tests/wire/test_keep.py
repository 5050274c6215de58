"""Rows come with what gives them again, whichever way they were read, in little memory."""

import gc
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bulkfetch.dedupe import Deduplicator
from bulkfetch.record import FIELDS
from bulkfetch.wire.arrow import rows_of
from bulkfetch.wire.decode import Decoded, decode_document
from bulkfetch.wire.dialect import Columns
from bulkfetch.wire.flatten import Flattener
from bulkfetch.wire.keep import KeepingArrow, KeepingObjects, Kept
from bulkfetch.wire.pack import pack_columns, unpack_columns

uuids = st.uuids().map(str)
texts = st.text(st.characters(exclude_categories=("Cs", "Cc")), min_size=1, max_size=5)
cells = st.none() | st.sampled_from(["0", "2022-07-14", "x"]) | texts | uuids


@st.composite
def columns(draw: st.DrawFn) -> Columns:
    count = draw(st.integers(1, 12))
    kinds = st.sampled_from([texts, uuids, cells, st.none(), st.just("1")])
    found = [draw(st.lists(draw(kinds), min_size=count, max_size=count)) for _ in FIELDS]
    return Columns(tuple(found), count)


@settings(deadline=None)
@given(columns())
def test_packed_columns_come_back(given_columns: Columns) -> None:
    back = unpack_columns(pack_columns(given_columns))
    assert back.count == given_columns.count
    assert [list(column) for column in back.columns] == list(given_columns.columns)


def test_many_distinct_texts_come_back() -> None:
    many = [f"text {i % 700}" for i in range(2_000)]
    some: list[str | None] = [None if i % 3 else f"{i % 300}" for i in range(2_000)]
    given_columns = Columns((many, some, *[[None] * 2_000] * 9), 2_000)
    back = unpack_columns(pack_columns(given_columns))
    assert [list(column) for column in back.columns] == list(given_columns.columns)


UUIDS = "".join(f"{i:08x}-0000-4000-8000-{i:012x}" for i in range(200))


@pytest.mark.parametrize(
    "lengths",
    [(length, 72 - length) for length in range(1, 72)] + [(36, 36, 12, 60), (72, 72), (36, 35, 37)],
    ids=str,
)
def test_texts_that_joined_look_like_uuids_come_back(lengths: tuple[int, ...]) -> None:
    ids, at = [], 0
    while at < len(UUIDS):
        for length in lengths:
            ids.append(UUIDS[at : at + length])
            at += length
    ids = [*filter(None, ids)]
    back = unpack_columns(pack_columns(Columns((ids,) * 11, len(ids))))
    assert [*map(list, back.columns)] == [ids] * 11


@pytest.mark.parametrize("lengths", [(36, 36), (35, 37), (37, 35)], ids=str)
@pytest.mark.parametrize("keeping", [KeepingObjects, KeepingArrow])
def test_an_id_is_known_again_whatever_its_length(
    answer: Callable[..., bytes], keeping: type[Any], lengths: tuple[int, int]
) -> None:
    at = [72 * pair + (lengths[0] if half else 0) for pair in range(100) for half in (0, 1)]
    ids = [UUIDS[start:end] for start, end in pairwise([*at, 7200])]
    records = "".join(
        f"<enrollment><enrollmentId>{each}</enrollmentId><courseId>c</courseId>"
        "<learnerId>l</learnerId></enrollment>"
        for each in ids
    )
    first = answer(records=records)
    dedupe, decoder = Deduplicator(), keeping()
    for document in (first, first.replace(b">c<", b">other<")):
        rows = decode(document, decoder, scans=True).rows
        dropped = dedupe.admit(decoder.enrollment_ids(rows), rows.recall)
    assert len(dropped) == dedupe.conflict_count == 200


def decode(document: bytes, decoder: Any, *, scans: bool) -> Decoded[Kept[Any]]:
    decoded = decode_document(document, Flattener(walked_bytes=0, scans=scans), decoder)
    assert isinstance(decoded, Decoded)
    return decoded


@pytest.mark.parametrize("count", [1, 63, 64, 300])
@pytest.mark.parametrize("scans", [True, False], ids=["scanned", "printed"])
@pytest.mark.parametrize("waiting_bytes", [0, 10**9], ids=["waits packed", "waits as it is"])
def test_rows_are_recalled(
    answer: Callable[..., bytes], count: int, waiting_bytes: int, *, scans: bool
) -> None:
    objects = decode(answer(count), KeepingObjects(), scans=scans)
    arrow = decode(answer(count), KeepingArrow(waiting_bytes=waiting_bytes), scans=scans)
    expected = [tuple(row) for row in objects.rows.take()]
    assert len(expected) == count
    for decoded, decoder in ((objects, KeepingObjects()), (arrow, KeepingArrow())):
        assert decoder.enrollment_ids(decoded.rows) == [row[0] for row in expected]
        for _ in range(2):
            assert [tuple(row) for row in decoded.rows.recall()] == expected
    assert rows_of(arrow.rows.take()) == expected


@pytest.mark.parametrize("decoder", [KeepingObjects(), KeepingArrow()], ids=["objects", "arrow"])
def test_what_is_not_wanted_is_not_recalled(answer: Callable[..., bytes], decoder: Any) -> None:
    decoded = decode(answer(200), decoder, scans=True)
    assert decoder.keep(decoded, lambda *_: True) is decoded
    kept = decoder.keep(decoded, lambda _, course: course == "c3")
    ids = [f"e{i}" for i in range(200) if i % 7 == 3]
    assert kept.count == len(ids)
    assert kept.course_ids == {"c3"}
    assert decoder.enrollment_ids(kept.rows) == ids
    assert [row[0] for row in kept.rows.recall()] == ids


@pytest.mark.parametrize("scans", [True, False], ids=["scanned", "printed"])
def test_the_garbage_collector_has_no_work_with_rows_that_wait(
    answer: Callable[..., bytes], *, scans: bool
) -> None:
    decoder, document = KeepingObjects(), answer(300)
    gc.collect()
    before = len(gc.get_objects())
    held = [decode(document, decoder, scans=scans) for _ in range(20)]
    gc.collect()
    assert len(gc.get_objects()) - before < 20 * 300 / 10
    assert all(len(each.rows.take()) == 300 for each in held)


def test_room_for_waiting_rows_is_given_back(answer: Callable[..., bytes]) -> None:
    decoder = KeepingArrow(waiting_bytes=200_000)
    document = answer(300)
    size = decode(document, decoder, scans=True).rows.take()[0].nbytes
    gc.collect()
    assert decoder._room._left == 200_000
    held = [decode(document, decoder, scans=True) for _ in range(20)]
    assert 0 <= decoder._room._left < size
    first = held[0].rows.take()
    assert all(each.rows.take()[0].equals(first[0]) for each in held)
    held.clear()
    gc.collect()
    assert decoder._room._left == 200_000
