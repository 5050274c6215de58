"""Plain answers are scanned, whatever the edition; what is not plain is left to the parser."""

import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bulkfetch.wire.decode import Decoded, ObjectDecoder, decode_document
from bulkfetch.wire.flatten import Flattener

PAYLOAD = "https://ispringlearn.com/go/services/api/soap"
XSI = "http://www.w3.org/2001/XMLSchema-instance"
OLD = PAYLOAD.replace("https", "http")

Read = Callable[[bytes], Any]


def write(
    count: int,
    *,
    payload: str = PAYLOAD,
    prefix: str = "",
    gap: str = "",
    order: tuple[int, ...] = (0, 1, 2, 3, 4, 5),
    certificate: str = "nested",
    extra: str = "",
    header: str = "",
) -> bytes:
    """Write an answer in which each record has what its number says."""
    p = prefix and f"{prefix}:"

    def leaf(name: str, text: str) -> str:
        return f"{gap}<{p}{name}>{text}</{p}{name}>"

    def record(i: int) -> str:
        fields = [
            leaf("enrollmentId", f"e{i}"),
            leaf("courseId", f"c{i % 7}"),
            leaf("learnerId", f"l {i}"),
            leaf("accessDate", f"2022-07-{1 + i % 28:02}"),
            leaf("dueDate", "2023-01-15") if i % 3 == 1 else "",
            leaf("shouldLockAfterDueDate", "true"),
        ]
        inner = leaf("issuedCertificateId", f"k{i}") + leaf("issueDate", "2022-07-15T07:19:00Z")
        if certificate == "nested":
            inner = f"{gap}<{p}certificate>{inner}{gap}</{p}certificate>"
        body = "".join(fields[each] for each in order) + extra.format(p=p)
        body += inner if i % 4 == 2 and certificate else ""
        return f"{gap}<{p}enrollment>{body}{gap}</{p}enrollment>"

    declared = f' xmlns{":" if prefix else ""}{prefix}="{payload}"' if payload else ""
    return (
        f'<?xml version="1.0"?><s:Envelope xmlns:s="http://schemas.xmlsoap.org/soap/envelope/"'
        f' xmlns:x="{XSI}"{declared}>{header}<s:Body><{p}GetEnrollmentsResult>'
        f"{''.join(map(record, range(count)))}{gap}</{p}GetEnrollmentsResult></s:Body></s:Envelope>"
    ).encode()


EDITIONS: dict[str, dict[str, Any]] = {
    "documented": {},
    "old namespace": {"payload": OLD},
    "no namespace": {"payload": ""},
    "prefix": {"prefix": "ns1"},
    "prefix with marks": {"prefix": "n.s-_1"},
    "indented": {"gap": "\n      "},
    "indented, CRLF": {"gap": "\r\n\t"},
    "another order": {"order": (5, 4, 3, 2, 1, 0)},
    "ids in the middle": {"order": (3, 1, 0, 5, 2, 4)},
    "flat certificates": {"certificate": "flat"},
    "no certificates": {"certificate": ""},
    "new field": {"extra": "<{p}progress>50 %</{p}progress>"},
    "empty new field": {"extra": "<{p}progress/>"},
    "empty dates": {"extra": "<{p}expirationDate/>"},
    "empty dates, two tags": {"extra": "<{p}expirationDate></{p}expirationDate>"},
    "nil dates": {"extra": '<{p}expirationDate x:nil="true"/>'},
    "nil dates, two tags": {"extra": "<{p}expirationDate x:nil='1'></{p}expirationDate>"},
    "not only ASCII": {"extra": "<{p}title>Курс 😀</{p}title>"},
    "header": {"header": "<s:Header><id>7</id></s:Header>"},
    "all at once": {
        "payload": OLD, "prefix": "a", "gap": "\n ", "order": (4, 2, 0, 1, 5, 3),
        "certificate": "flat", "extra": "<a:expirationDate/><a:new>x</a:new>",
    },
}  # fmt: skip


@pytest.mark.parametrize("edition", EDITIONS.values(), ids=EDITIONS)
def test_plain_answers_of_every_edition_are_scanned(
    edition: dict[str, Any], read_plainly: Read, read_every_way: Callable[..., Any]
) -> None:
    document = write(60, **edition)
    columns = Flattener(walked_bytes=0).scan(document)
    assert columns is not None
    assert columns.count == 60
    expected = read_plainly(document)
    assert len(expected[0]) == 60
    for slice_bytes in (2_000, 10**6):
        assert read_every_way([document], slice_bytes) == expected


def test_what_comes_later_is_learned() -> None:
    flattener = Flattener(walked_bytes=0)
    editions: tuple[dict[str, Any], ...] = (
        {"certificate": ""},
        {},
        {"gap": "\n"},
        {"extra": "<progress>1</progress>"},
        {"extra": "<progress/>"},
        {"extra": "<progress/><until>x</until>"},
        {"certificate": ""},
    )
    for edition in editions:
        columns = flattener.scan(write(20, **edition))
        assert columns is not None, edition


def test_another_header_in_each_answer_is_no_other_dialect() -> None:
    flattener = Flattener(walked_bytes=0)
    for number in range(600):
        document = write(2, header=f"<s:Header><id>{number}</id></s:Header>")
        assert flattener.scan(document) is not None
    assert flattener._scanner is not None
    assert len(flattener._scanner._dialects) == 1
    assert len(flattener._scanner._frames) <= 256


def test_small_answers_are_walked_until_learning_pays() -> None:
    flattener = Flattener(walked_bytes=5_000)
    scanned = [flattener.scan(write(2)) is not None for _ in range(20)]
    assert scanned == sorted(scanned)
    assert 2 < scanned.index(True) < 15


def edit(before: str, after: str) -> Callable[[bytes], bytes]:
    def change(document: bytes) -> bytes:
        assert before.encode() in document
        return document.replace(before.encode(), after.encode("utf-8", "surrogatepass"), 1)

    return change


FAKE = (
    "<enrollment><enrollmentId>f</enrollmentId><courseId>c</courseId>"
    "<learnerId>l</learnerId></enrollment>"
)
SPACED = FAKE.replace("<enrollment>", "<enrollment >")


def around(before: str, after: str) -> Callable[[bytes], bytes]:
    """Change what stands before the first record and after the last."""
    opening, closing = "<GetEnrollmentsResult>", "</GetEnrollmentsResult>"

    def change(document: bytes) -> bytes:
        document = edit(opening, opening + before)(document)
        return edit(closing, after + closing)(document)

    return change


NOT_PLAIN = {
    "comment between records": edit("</enrollment>", "</enrollment><!-- -->"),
    "comment in a record": edit("<courseId>", "<!-- --><courseId>"),
    "instruction": edit("</enrollment>", "</enrollment><?x?>"),
    "section": edit(">c3<", "><![CDATA[c3]]><"),
    "reference": edit(">c3<", ">c&#51;<"),
    "entity": edit(">c3<", ">c&amp;3<"),
    "bracket": edit(">c3<", ">c>3<"),
    "end of section": edit(">c3<", ">c]]>3<"),
    "blank in front": edit(">c3<", "> c3<"),
    "line end": edit(">c3<", ">c\r\n3<"),
    "tab": edit(">c3<", ">c\t3<"),
    "blank id": edit(">c3<", "> <"),
    "empty id": edit(">c3<", "><"),
    "control character": edit(">c3<", ">c\x1b3<"),
    "NUL": edit(">c3<", ">c\x003<"),
    "noncharacter": edit(">c3<", ">c\ufffe3<"),
    "surrogate": edit(">c3<", ">c\ud8003<"),
    "attribute of a record": edit("<enrollment>", "<enrollment a='1'>"),
    "attribute of a field": edit("<courseId>", "<courseId a='1'>"),
    "default namespace": edit("<courseId>", "<courseId xmlns='urn:x'>"),
    "nil with text": edit("<accessDate>", "<accessDate x:nil='true'>"),
    "nil without binding": edit("<dueDate>2023-01-15</dueDate>", "<dueDate y:nil='true'/>"),
    "unbound prefix": edit("<accessDate>", "<y:new>1</y:new><accessDate>"),
    "known field elsewhere": edit("<accessDate>", "<s:dueDate>1</s:dueDate><accessDate>"),
    "blank in an end tag": edit("</courseId>", "</courseId >"),
    "end tag of another": edit("</courseId>", "</learnerId>"),
    "text between fields": edit("<courseId>", "text<courseId>"),
    "text between records": edit("</enrollment>", "</enrollment>text"),
    "nested stranger": edit("<courseId>", "<new><x>1</x></new><courseId>"),
    "child in a value": edit(">c3<", "><b>c3</b><"),
    "repeated field": edit("</courseId>", "</courseId><courseId>c</courseId>"),
    "repeated certificate": edit("</certificate>", "</certificate><certificate/>"),
    "text in a certificate": edit("<certificate>", "<certificate>text"),
    "certificate of text": edit("<certificate>", "<certificate>text</certificate><certificate>"),
    "nested and flat": edit("</certificate>", "</certificate><issueDate>2022-07-15</issueDate>"),
    "two names of a date": edit("</certificate>", "<certIssueDate>1</certIssueDate></certificate>"),
    "no id": edit("<courseId>c3</courseId>", ""),
    "record in a record": edit("<courseId>c3</courseId>", FAKE),
    "record of another prefix": edit(
        "</enrollment>", f"</enrollment><n:enrollment xmlns:n='{PAYLOAD}'/>"
    ),
    "empty record": edit("</enrollment>", "</enrollment><enrollment/>"),
    "strangers between records": edit("</enrollment>", "</enrollment><new>1</new>"),
    "records in a comment": around("<!--", "-->"),
    "records in a comment after another": around(f"{SPACED}<!--", "-->"),
    "records in a section": around("<![CDATA[", "]]>"),
    "records below a stranger": around("<old>", "</old>"),
    "a record before, the others below a stranger": around(f"{SPACED}<old>", "</old>"),
    "another result": edit("GetEnrollmentsResult>", "GetUsersResult>"),
    "document type": edit("<s:Envelope", "<!DOCTYPE s:Envelope><s:Envelope"),
    "no end": lambda body: body[:-20],
    "text after the end": lambda body: body + b"x",
    "not ASCII as declared": lambda body: body.replace(
        b'"1.0"', b'"1.0" encoding="us-ascii"'
    ).replace(b">c3<", b">\xc3\xa9<"),
    "latin": lambda body: body.replace(b">c3<", b">\xe9<"),
    "the probe's name": edit("<s:Body>", "<s:Header><bulkfetch-probe/></s:Header><s:Body>"),
}  # fmt: skip


@pytest.mark.parametrize("change", NOT_PLAIN.values(), ids=NOT_PLAIN)
@pytest.mark.parametrize("learned", [False, True], ids=["anew", "learned"])
def test_what_is_not_plain_is_left_to_the_parser(
    change: Callable[[bytes], bytes],
    read_plainly: Read,
    read_every_way: Callable[..., Any],
    *,
    learned: bool,
) -> None:
    flattener = Flattener(walked_bytes=0)
    if learned:
        assert flattener.scan(write(60)) is not None
    document = change(write(60))
    assert flattener.scan(document) is None
    assert read_every_way([document]) == read_plainly(document)
    if learned:
        assert flattener.scan(write(60)) is not None


def test_names_without_one_order_are_left_to_the_parser() -> None:
    """And what was learned before stays."""
    flattener = Flattener(walked_bytes=0)
    assert flattener.scan(write(60)) is not None
    assert flattener.scan(write(60, order=(5, 4, 3, 2, 1, 0))) is None
    assert flattener.scan(write(60)) is not None


FRAGMENTS = (
    "<", ">", "</", "/>", "&", "&amp;", "&#0;", "]]>", "<!--", "-->", "<!-- x -->", "<![CDATA[",
    "<?x?>", " ", "\n", "\r", "\t", "\0", "\x0b", "\ufffe", "\u0085", "é", "'", '"', "=", ":",
    " a='1'", " x:nil='true'", f" xmlns='{OLD}'", " xmlns:s='urn:x'", "text", "<enrollment>",
    "</enrollment>", "<enrollment/>", "<dueDate/>", "<dueDate>2022-07-14</dueDate>",
    "<certificate/>", "<certificate>", "</certificate>", "<issueDate/>", "<s:x>1</s:x>", FAKE,
)  # fmt: skip
shapes = st.sampled_from(
    [
        write(3),
        write(3, gap="\n"),
        write(3, certificate="flat", prefix="s1"),
        write(3, extra='<expirationDate x:nil="true"/><new>1</new>'),
    ]
)


@settings(max_examples=800, deadline=None)
@given(shapes, st.integers(1, 3), st.randoms(use_true_random=True))
def test_edited_answers_read_as_the_plain_reading_reads_them(
    read_plainly: Read,
    read_every_way: Callable[[Iterable[bytes]], Any],
    document: bytes,
    edits: int,
    random: Random,
) -> None:
    for _ in range(edits):
        text = document.decode("utf-8", "surrogatepass")
        # Mostly between tags or in them: there the expression must be strict.
        marks = [i for i, character in enumerate(text) if character in "<>"]
        at = random.choice(marks) + random.randint(0, 1)
        end = at + random.choice((0, 0, 0, 1, 2, random.randint(0, 40)))
        document = (text[:at] + random.choice(("", *FRAGMENTS)) + text[end:]).encode()
    assert read_every_way([document]) == read_plainly(document)


def with_fields(fields: Callable[[int], str]) -> str:
    """Write records that end in something of their own."""
    return "".join(FAKE.replace("</enr", f"{fields(i)}</enr") for i in range(9_000))


@pytest.mark.parametrize(
    "records",
    [
        pytest.param(f"{FAKE}{' ' * 2_000_000}{FAKE}", id="blanks between records"),
        pytest.param(FAKE.replace("<cour", " " * 2_000_000 + "<cour"), id="blanks inside"),
        pytest.param("<enrollment>" * 150_000, id="beginnings"),
        pytest.param(f"{FAKE}{'<enrollment><enrollmentId>' * 70_000}{FAKE}", id="half records"),
        pytest.param(FAKE.replace(">c<", f">{'x' * 2_000_000}<"), id="long text"),
        pytest.param(FAKE.replace(">c<", f">{'é' * 1_000_000}<"), id="long text beyond ASCII"),
        pytest.param(with_fields("<x><y>{}</y></x>".format), id="nested strangers"),
        pytest.param(with_fields("<n{}/>".format), id="a new name in each record"),
        pytest.param(with_fields(lambda i: ("<a/><b/>", "<b/><a/>")[i % 2]), id="disorder"),
    ],
)
def test_scanning_takes_bounded_time(answer: Callable[..., bytes], records: str) -> None:
    document = answer(records=records)
    flattener = Flattener(walked_bytes=0)
    for _ in range(3):
        started = time.process_time()
        flattener.scan(document)
        assert time.process_time() - started < 2


def test_threads_learn_one_dialect_together() -> None:
    flattener = Flattener(walked_bytes=0)
    editions = [{"extra": f"<n{i}>1</n{i}>"} for i in range(8)] * 4

    def read(edition: dict[str, Any]) -> list[str]:
        decoded = decode_document(write(200, **edition), flattener, ObjectDecoder())
        assert isinstance(decoded, Decoded)
        return [row.enrollment_id for row in decoded.rows]

    with ThreadPoolExecutor(4) as pool:
        for ids in pool.map(read, editions):
            assert ids == [f"e{i}" for i in range(200)]
