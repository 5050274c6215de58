"""Answers cut short or damaged: the rows of what is still a whole answer, or one typed error."""

from collections.abc import Callable, Iterable

import pytest

ReadEveryWay = Callable[..., object]
Answer = Callable[..., bytes]
ReadPlainly = Callable[[bytes], object]
Cut = Callable[[Iterable[bytes], int], list[bytes] | None]

SMALL = (
    b'<?xml version="1.0"?><s:Envelope xmlns:s="http://schemas.xmlsoap.org/soap/envelope/">'
    b"<s:Body><GetEnrollmentsResult><!--x--><enrollment><enrollmentId>e1</enrollmentId>"
    b"<courseId>c&amp;1</courseId><learnerId><![CDATA[l1]]></learnerId>"
    b"<accessDate>2022-07-14</accessDate><certificate><issueDate>2022-07-15T07:19:00Z"
    b"</issueDate></certificate></enrollment><enrollment><enrollmentId>e2</enrollmentId>"
    b"<courseId>c2</courseId><learnerId>l2</learnerId>"
    b"<enrollmentTypeGroup>1</enrollmentTypeGroup></enrollment></GetEnrollmentsResult></s:Body>"
    b"</s:Envelope>"
)


@pytest.mark.parametrize("slice_bytes", [60, 700, 10**6], ids=["many", "few", "one slice"])
def test_no_beginning_of_an_answer_passes_for_the_whole(
    answer: Answer, read_every_way: ReadEveryWay, cut: Cut, slice_bytes: int
) -> None:
    body = answer(4)
    whole = [body[start : start + 100] for start in range(0, len(body), 100)]
    assert read_every_way(whole, slice_bytes) is not None
    assert len(cut(whole, slice_bytes) or []) == {60: 5, 700: 3, 10**6: 1}[slice_bytes]
    for end in range(len(body)):
        pieces = [body[start : min(start + 100, end)] for start in range(0, end, 100)]
        assert read_every_way(pieces, slice_bytes) is None, f"cut at {end}"


@pytest.mark.parametrize("slice_bytes", [1, 10**6], ids=["sliced", "whole"])
@pytest.mark.parametrize("damage", ["deleted", "doubled", "flipped", "cased", "replaced"])
def test_a_damaged_byte_changes_rows_only_as_it_changes_the_document(
    read_plainly: ReadPlainly, read_every_way: ReadEveryWay, damage: str, slice_bytes: int
) -> None:
    read = 0
    for position, byte in enumerate(SMALL):
        put = {
            "deleted": b"",
            "doubled": bytes([byte, byte]),
            "flipped": bytes([byte ^ 1]),
            "cased": bytes([byte ^ 0x20]),
            "replaced": b"<\"'&>!?/- \t\n:=0\x00\x80\xff"[position % 18 : position % 18 + 1],
        }[damage]
        body = SMALL[:position] + put + SMALL[position + 1 :]
        expected = read_plainly(body)
        found = read_every_way([body[:300], body[300:]], slice_bytes)
        assert found == expected, f"{damage} at {position}: {body!r}"
        read += found is not None
    assert read > len(SMALL) // 50  # some damage leaves a whole answer, with another value in it


@pytest.mark.parametrize("slice_bytes", [100, 10**6], ids=["sliced", "whole"])
def test_what_is_missing_in_the_middle_never_goes_unnoticed(
    answer: Answer, read_plainly: ReadPlainly, read_every_way: ReadEveryWay, slice_bytes: int
) -> None:
    """A lost or a repeated packet: only whole records can vanish or come twice."""
    body = answer(4)
    for start in range(150, len(body), 7):
        for length in (1, 40, 200, 371):
            for damaged in (
                body[:start] + body[start + length :],
                body[: start + length] + body[start:],
            ):
                assert read_every_way([damaged], slice_bytes) == read_plainly(damaged)
