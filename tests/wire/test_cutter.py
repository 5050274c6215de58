"""Where an answer is cut, so that memory is bounded whatever its dialect."""

from collections.abc import Callable

import pytest

from bulkfetch.errors import MalformedAnswerError
from bulkfetch.wire.cutter import SliceCutter

RECORD = (
    "<{0}enrollment><{0}enrollmentId>e</{0}enrollmentId><{0}courseId>c</{0}courseId>"
    "<{0}learnerId>l</{0}learnerId></{0}enrollment{1}>"
)


def cut(body: bytes, slice_bytes: int, chunk_bytes: int = 50) -> list[bytes]:
    cutter = SliceCutter(slice_bytes=slice_bytes)
    documents = []
    for start in range(0, len(body), chunk_bytes):
        documents += cutter.feed(body[start : start + chunk_bytes])
        assert cutter.has_cut == bool(documents)
    return [*documents, cutter.finish()]


@pytest.mark.parametrize(
    "spell",
    [
        pytest.param(lambda _: ("", ""), id="default prefix"),
        pytest.param(lambda _: ("a:", ""), id="one prefix"),
        pytest.param(lambda i: (("", "a:", "é:")[i % 3], ""), id="mixed prefixes"),
        pytest.param(lambda i: ("a:" if i else "", ""), id="another prefix than the first"),
        pytest.param(lambda i: ("", " \n\t\r"[: i % 5]), id="white space in end tags"),
        pytest.param(lambda i: ("a:" if i else "", " "), id="another prefix and white space"),
    ],
)
def test_slices_are_small_in_every_spelling(
    answer: Callable[..., bytes], spell: Callable[[int], tuple[str, str]]
) -> None:
    records = "\n".join(RECORD.format(*spell(i)) for i in range(100))
    payload = "https://ispringlearn.com/go/services/api/soap"
    body = answer(records=records).replace(
        b"<s:Body>", f'<s:Body xmlns:a="{payload}" xmlns:é="{payload}">'.encode()
    )
    documents = cut(body, 1_000)
    assert len(documents) > 10
    assert max(map(len, documents)) < 1_900
    assert sum(document.count(b"enrollmentId>") for document in documents) == 200


def test_an_answer_smaller_than_a_slice_is_left_whole(answer: Callable[..., bytes]) -> None:
    assert cut(answer(3), 10**6) == [answer(3)]
    assert cut(b"\xef\xbb\xbf" + answer(0), 10**6) == [answer(0)]


def test_the_slices_are_the_answer(answer: Callable[..., bytes]) -> None:
    body = answer(40)
    documents = cut(body, 700)
    opening, _, _ = body.partition(b"<enrollment>")
    closing = b"</GetEnrollmentsResult></s:Body></s:Envelope>"
    assert all(each.startswith(opening) and each.endswith(closing) for each in documents)
    slices = [each[len(opening) : len(each) - len(closing)] for each in documents]
    assert opening + b"".join(slices) + closing == body


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b"<a>" + b"<b/>" * 2_000, id="no record"),
        pytest.param(b"<a>" + b"x" * 8_000, id="no tag"),
        pytest.param(b"<a><!-- " + b"x" * 8_000, id="comment without end"),
        pytest.param(b"<a " + b"b='' " * 2_000, id="tag without end"),
        pytest.param(b"<a><enrollment>" + b"x" * 8_000, id="record without end"),
        pytest.param(b"<a><enrollment/></a>" + b"\n" * 8_000, id="tail without end"),
    ],
)
def test_what_does_not_come_to_a_record_end_is_given_up(body: bytes) -> None:
    cutter = SliceCutter(slice_bytes=1_000, record_cap_bytes=3_000)
    chunks = [body[start : start + 100] for start in range(0, len(body), 100)]
    with pytest.raises(MalformedAnswerError):
        list(map(cutter.feed, chunks))
