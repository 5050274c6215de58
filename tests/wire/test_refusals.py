"""What is refused: always as MalformedAnswerError, in bounded time, and nothing is opened."""

import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from bulkfetch.errors import MalformedAnswerError
from bulkfetch.wire.cutter import SliceCutter
from bulkfetch.wire.decode import ObjectDecoder, decode_document
from bulkfetch.wire.document import read_fault
from bulkfetch.wire.fault import Fault
from bulkfetch.wire.flatten import Flattener

ReadEveryWay = Callable[..., object]
Answer = Callable[..., bytes]

ENVELOPE = "https://schemas.xmlsoap.org/soap/envelope/"
PAYLOAD = "https://ispringlearn.com/go/services/api/soap"
IDS = "<enrollmentId>e</enrollmentId><courseId>c</courseId><learnerId>l</learnerId>"


def in_pieces(body: bytes, size: int) -> Iterator[bytes]:
    return (body[i : i + size] for i in range(0, len(body), size))


def read_sparingly(body: bytes) -> None:
    """Read as the engine does, and check that no document is larger than memory is meant for."""
    cutter = SliceCutter()
    flattener = Flattener()
    for chunk in in_pieces(body, 65_536):
        for document in cutter.feed(chunk):
            assert len(document) < 4_000_000
            decode_document(document, flattener, ObjectDecoder())
    last = cutter.finish()
    assert len(last) < 4_000_000
    decode_document(last, flattener, ObjectDecoder())


BILLION = "".join(f'<!ENTITY l{i} "{f"&l{i - 1};" * 10 if i else "lol"}">' for i in range(10))


@pytest.fixture
def doctypes(tmp_path: Path) -> Iterator[tuple[dict[str, bytes], list[object]]]:
    """Payloads that would read a canary or call a listener, and who was called."""
    canary = tmp_path / "canary"
    canary.write_text("CANARY")
    (tmp_path / "canary.dtd").write_text('<!ENTITY x "CANARY">')
    calls: list[object] = []
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def accept() -> None:
            try:
                while True:
                    calls.append(listener.accept())
            except OSError:
                pass

        thread = threading.Thread(target=accept)
        thread.start()
        here = f"http://127.0.0.1:{listener.getsockname()[1]}/x"
        yield (
            {
                "empty": b"<!DOCTYPE Envelope>",
                "html": b"<!doctype html>",
                "internal": b'<!DOCTYPE Envelope [<!ENTITY x "1">]>',
                "billion laughs": f"<!DOCTYPE Envelope [{BILLION}<!ENTITY x '&l9;'>]>".encode(),
                "quadratic": b'<!DOCTYPE Envelope [<!ENTITY x "' + b"x" * 100_000 + b'">]>',
                "file": f'<!DOCTYPE E [<!ENTITY x SYSTEM "{canary.as_uri()}">]>'.encode(),
                "http": f'<!DOCTYPE E [<!ENTITY x SYSTEM "{here}">]>'.encode(),
                "parameter": f'<!DOCTYPE E [<!ENTITY % p SYSTEM "{here}"> %p;]>'.encode(),
                "external file": f'<!DOCTYPE E SYSTEM "{canary.as_uri()}.dtd">'.encode(),
                "external http": f'<!DOCTYPE E SYSTEM "{here}">'.encode(),
                "public": f'<!DOCTYPE E PUBLIC "-//x" "{here}" []>'.encode(),
                "default attribute": b'<!DOCTYPE E [<!ATTLIST enrollment x CDATA "1">]>',
            },
            calls,
        )
        listener.shutdown(socket.SHUT_RDWR)
        thread.join()


def test_every_document_type_is_refused_and_nothing_is_opened(
    doctypes: tuple[dict[str, bytes], list[object]],
    answer: Answer,
    read_every_way: ReadEveryWay,
) -> None:
    payloads, calls = doctypes
    declaration, _, rest = answer(3).partition(b"\n")
    for doctype in payloads.values():
        for value in (b"l1", b"&x;", b"&x;" * 5_000):
            body = declaration + doctype + rest.replace(b">l1<", b">" + value + b"<")
            started = time.monotonic()
            assert read_every_way([body]) is None
            assert read_every_way(in_pieces(body[:3_000], 1)) is None
            # The parser's own refusal, without the cutter before it.
            with pytest.raises(MalformedAnswerError):
                Flattener(walked_bytes=0).flatten(body)
            assert read_fault(body) is None
            assert time.monotonic() - started < 5
    assert calls == []


def test_an_inclusion_is_data_of_an_unknown_element(
    tmp_path: Path, answer: Answer, read_every_way: ReadEveryWay
) -> None:
    canary = tmp_path / "canary"
    canary.write_text("CANARY")
    include = (
        f'<i:include xmlns:i="http://www.w3.org/2001/XInclude" href="{canary.as_uri()}" '
        'parse="text"/>'
    )
    assert read_every_way([answer(records=f"<enrollment>{IDS}{include}</enrollment>")]) == (
        [("e", "c", "l", *[None] * 8)],
        {},
    )
    inside = IDS.replace(">c<", f">{include}<")
    assert read_every_way([answer(records=f"<enrollment>{inside}</enrollment>")]) is None


PLAIN = (
    f'<s:Envelope xmlns:s="{ENVELOPE}" xmlns="{PAYLOAD}"><s:Body><GetEnrollmentsResult>'
    f"<enrollment>{IDS}</enrollment></GetEnrollmentsResult></s:Body></s:Envelope>"
)


def declared(encoding: str, codec: str | None = None, *, version: str = "1.0") -> bytes:
    text = f'<?xml version="{version}" encoding="{encoding}"?>{PLAIN}'
    return text.encode(codec or encoding)


@pytest.mark.parametrize("size", [1, 10**6], ids=["byte by byte", "whole"])
@pytest.mark.parametrize(
    "body",
    [
        pytest.param(declared("utf-8", version="1.1"), id="XML 1.1"),
        pytest.param(declared("utf-8", version="2.0"), id="XML 2.0"),
        pytest.param(declared("UTF-7", "ascii"), id="UTF-7"),
        pytest.param(declared("UTF-7", "utf-7"), id="UTF-7 all the way"),
        pytest.param(declared("utf-16"), id="UTF-16 with mark"),
        pytest.param(declared("utf-16-le"), id="UTF-16 LE"),
        pytest.param(declared("utf-16-be"), id="UTF-16 BE"),
        pytest.param(PLAIN.encode("utf-16"), id="UTF-16 with mark, undeclared"),
        pytest.param(PLAIN.encode("utf-16-le"), id="UTF-16 LE, undeclared"),
        pytest.param(PLAIN.encode("utf-16-be"), id="UTF-16 BE, undeclared"),
        pytest.param(declared("utf-32"), id="UTF-32 with mark"),
        pytest.param(declared("utf-32-le"), id="UTF-32 LE"),
        pytest.param(declared("utf-32-be"), id="UTF-32 BE"),
        pytest.param(declared("utf-16", "utf-8"), id="UTF-16 declared, not sent"),
        pytest.param(declared("IBM037", "cp037"), id="EBCDIC"),
        pytest.param(declared("IBM037", "ascii"), id="EBCDIC declared, not sent"),
        pytest.param(declared("ISO-8859-1"), id="ISO-8859-1"),
        pytest.param(declared("windows-1251"), id="windows-1251"),
        pytest.param(declared("no-such", "ascii"), id="unknown encoding"),
        pytest.param(b"\xef\xbb\xbf" * 2 + PLAIN.encode(), id="two marks"),
        pytest.param(b" " + declared("utf-8"), id="white space before the declaration"),
        pytest.param(declared("utf-8") + declared("utf-8"), id="two documents"),
        pytest.param(PLAIN.encode() + b"x", id="text after the root"),
        pytest.param(PLAIN.replace(">c<", ">\xff<").encode("latin-1"), id="invalid UTF-8"),
        pytest.param(PLAIN.replace(">c<", ">\ud800<").encode("utf-8", "surrogatepass"), id="lone"),
        pytest.param(PLAIN.replace(">c<", ">&#0;<").encode(), id="NUL reference"),
        pytest.param(PLAIN.replace(">c<", ">\0<").encode(), id="NUL"),
        pytest.param(PLAIN.replace(">c<", ">\x1b<").encode(), id="ESC"),
        pytest.param(PLAIN.replace(">c<", ">&nbsp;<").encode(), id="entity of HTML"),
        pytest.param(b"", id="nothing"),
        pytest.param(b" \r\n\t", id="white space"),
        pytest.param(b"\xef\xbb\xbf", id="mark alone"),
        pytest.param(b"\xef\xbb\xbf\n\xef\xbb\xbf" + PLAIN.encode(), id="mark after a line"),
        pytest.param(b"\xef\xbb", id="half a mark"),
        pytest.param(b"<", id="bracket"),
        pytest.param(b"<?xml", id="half a declaration"),
        pytest.param(b"<?xml" + b" " * 500 + b"version='1.0'?>", id="endless declaration"),
        pytest.param(b"null", id="JSON"),
        pytest.param(b'{"a": 1}', id="JSON object"),
        pytest.param(b"<html><body>502</body></html>", id="HTML"),
        pytest.param(b"<!DOCTYPE html><html><br></html>", id="HTML with doctype"),
        pytest.param(b"\x1f\x8b\x08\x00", id="gzip"),
    ],
)
def test_what_is_no_answer_in_utf_8_is_refused(
    read_every_way: ReadEveryWay, body: bytes, size: int
) -> None:
    assert read_every_way(in_pieces(body, size), 200) is None


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(PLAIN.encode(), id="undeclared"),
        pytest.param(b"\xef\xbb\xbf" + PLAIN.encode(), id="mark"),
        pytest.param(b"\xef\xbb\xbf" + declared("UTF-8"), id="mark and declaration"),
        pytest.param(declared("utf8"), id="utf8"),
        pytest.param(declared("us-ascii"), id="us-ascii"),
        pytest.param(b"<?xml-stylesheet href='x'?>" + PLAIN.encode(), id="instruction first"),
        pytest.param(b"\n" + PLAIN.encode() + b"\n<!-- </enrollment> --><?x <!?>", id="misc"),
    ],
)
@pytest.mark.parametrize("size", [1, 10**6], ids=["byte by byte", "whole"])
def test_what_is_utf_8_is_read(read_every_way: ReadEveryWay, body: bytes, size: int) -> None:
    expected: object = ([("e", "c", "l", *[None] * 8)], {})
    assert read_every_way(in_pieces(body, size), 100) == expected


def test_blanks_without_end_are_not_kept() -> None:
    cutter = SliceCutter()
    chunks = [b" \n" * 1_000] * 100
    with pytest.raises(MalformedAnswerError):
        list(map(cutter.feed, chunks))


@pytest.mark.parametrize("size", [1, 10, 1_000])
def test_a_document_type_is_refused_before_what_follows_it_is_read(size: int) -> None:
    cutter = SliceCutter()
    with pytest.raises(MalformedAnswerError, match="document type"):
        list(map(cutter.feed, in_pieces(b"<?xml version='1.0'?><!-- --><!DOCTYPE x [", size)))


def records(text: str) -> str:
    return PLAIN.replace(f"<enrollment>{IDS}</enrollment>", text)


FAULT = (
    "<s:Fault><faultcode>client</faultcode><faultstring>Wrong parameters</faultstring></s:Fault>"
)


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(records(f"<enrollment>{IDS.replace('>c<', '><b>c</b><')}</enrollment>"),
                     id="child in a value"),
        pytest.param(records(f"<enrollment>{IDS}<dueDate>1<b/></dueDate></enrollment>"),
                     id="empty child in a value"),
        pytest.param(records(f"<enrollment>{IDS}<courseId>c</courseId></enrollment>"),
                     id="repeated, equal"),
        pytest.param(records(f"<enrollment>{IDS}<dueDate/><dueDate/></enrollment>"),
                     id="repeated, empty"),
        pytest.param(records(f"<enrollment>{IDS}<issueDate/><certIssueDate/></enrollment>"),
                     id="repeated under another name"),
        pytest.param(records(f"<enrollment>{IDS}<issueDate/><certificate><issueDate/>"
                             "</certificate></enrollment>"), id="repeated, nested and flat"),
        pytest.param(records(f"<enrollment>{IDS}<certificate/><certificate/></enrollment>"),
                     id="two certificates"),
        pytest.param(records("<enrollment/>"), id="empty record"),
        pytest.param(records(f"<enrollment>{IDS.replace('>l<', '> <')}</enrollment>"),
                     id="blank learner"),
        pytest.param(records(f"<enrollment>{IDS.replace('>e<', '><')}</enrollment>"),
                     id="empty key"),
        pytest.param(records(f"<enrollment>{IDS[30:]}</enrollment>"), id="no key"),
        pytest.param(records(f"<enrollment xmlns='urn:x'>{IDS}</enrollment>"),
                     id="record in an unknown namespace"),
        pytest.param(records(f"<enrollment>{IDS}<x:dueDate xmlns:x='urn:x'/></enrollment>"),
                     id="field in an unknown namespace"),
        pytest.param(records(f"<enrollment>{IDS}<x:certificate xmlns:x='urn:x'/></enrollment>"),
                     id="certificate in an unknown namespace"),
        pytest.param(PLAIN.replace(PAYLOAD, "urn:x"), id="unknown payload namespace"),
        pytest.param(PLAIN.replace(ENVELOPE, "urn:x"), id="unknown envelope namespace"),
        pytest.param(PLAIN.replace(ENVELOPE, "http://www.w3.org/2003/05/soap-envelope"),
                     id="data in SOAP 1.2"),
        pytest.param(PLAIN.replace("</s:Body>", "</s:Body><s:Body/>"), id="second, empty body"),
        pytest.param(PLAIN.replace("</s:Body>", "</s:Body><Body>x</Body>"),
                     id="second body in another namespace"),
        pytest.param(PLAIN.replace("</s:Body>", "</s:Body>" + PLAIN[PLAIN.index("<s:Body>"):
                                                                    PLAIN.index("</s:Env")]),
                     id="two bodies with data"),
        pytest.param(PLAIN.replace("</s:Body>", f"{FAULT}</s:Body>"), id="fault after data"),
        pytest.param(PLAIN.replace("<s:Body>", f"<s:Body>{FAULT}"), id="fault before data"),
        pytest.param(PLAIN.replace("</s:Body>", f"</s:Body>{FAULT}"), id="fault beside the body"),
        pytest.param(PLAIN.replace("</s:Body>", "<GetEnrollmentsResult/></s:Body>"),
                     id="two results"),
        pytest.param(PLAIN.replace("GetEnrollmentsResult", "GetUsersResult"), id="other result"),
        pytest.param(PLAIN.replace("s:Envelope", "s:envelope"), id="other root"),
        pytest.param(f'<s:Envelope xmlns:s="{ENVELOPE}"><s:Body/></s:Envelope>', id="empty body"),
        pytest.param(f'<s:Envelope xmlns:s="{ENVELOPE}"/>', id="no body"),
        pytest.param(PLAIN.replace("s:Body", "u:Body"), id="undeclared prefix"),
        pytest.param(PLAIN.replace("<enrollment>", "<enrollment a='1' a='2'>"),
                     id="attribute twice"),
        pytest.param(PLAIN.replace("<enrollment>", "<enrollment a='<'>"),
                     id="bracket in an attribute"),
        pytest.param(PLAIN.replace(">c<", ">]]><"), id="section end in text"),
        pytest.param(PLAIN.replace(">c<", "><!-- -- --><"), id="dashes in a comment"),
        pytest.param(PLAIN.replace(">c<", "><!-- <"), id="comment without end"),
        pytest.param(PLAIN.replace(">c<", "><![CDATA[ <"), id="CDATA without end"),
        pytest.param(PLAIN.replace(">c<", "><!ENTITY x><"), id="declaration in content"),
    ],
)  # fmt: skip
def test_what_the_rules_forbid_is_refused_every_way(
    read_every_way: ReadEveryWay,
    read_plainly: Callable[[bytes], object],
    body: str,
) -> None:
    whole = body.encode()
    assert read_plainly(whole) is None
    for size in (1, 10**6):
        for slice_bytes in (1, 10**6):
            assert read_every_way(in_pieces(whole, size), slice_bytes) is None


def test_a_strange_record_among_many_plain_ones_is_refused(
    answer: Answer, read_every_way: ReadEveryWay
) -> None:
    body = answer(300)
    assert read_every_way(in_pieces(body, 900), 9_000) is not None
    for before, after in (
        (b">l250<", b"><b>l250</b><"),
        (b"<learnerId>l250</learnerId>", b""),
        (b"<learnerId>l250</learnerId>", b"<learnerId>l250</learnerId>" * 2),
        (b"<learnerId>l250</learnerId>", b"<learnerId></learnerId>"),
        (b"<learnerId>l250</learnerId>", b"<learnerID>l250</learnerID>"),
        (b"<issuedCertificateId>k250<", b"<issueDate/><issuedCertificateId>k250<"),
    ):
        assert before in body
        assert read_every_way(in_pieces(body.replace(before, after), 900), 9_000) is None


@pytest.mark.parametrize(
    ("record", "refused"),
    [
        pytest.param(f"{IDS}{'<x>' * 100_000}", True, id="depth"),
        pytest.param(f"{IDS}{'<x>' * 100_000}{'</x>' * 100_000}", True, id="depth, closed"),
        pytest.param(f"{IDS}{'<x/>' * 1_000_000}", True, id="a million children"),
        pytest.param(f"{IDS}{'<x/>' * 400_000}", True, id="children within the cap of bytes"),
        pytest.param(f"{IDS}<certificate>{'<x/>' * 400_000}</certificate>", True,
                     id="children of a certificate"),
        pytest.param(f"{IDS}<x>{'<x/>' * 300_000}</x>", False, id="children of a stranger"),
        pytest.param(f"{IDS}<x " + " ".join(f'a{i}="1"' for i in range(100_000)) + "/>", False,
                     id="attributes of a stranger"),
        pytest.param("<enrollmentId " + " ".join(f'a{i}="1"' for i in range(100_000))
                     + IDS.removeprefix("<enrollmentId"), False, id="attributes of a value"),
        pytest.param(f"{IDS}{'<!-- -->' * 200_000}", False, id="comments"),
        pytest.param(f"{IDS}{'<dueDate>!?</dueDate>' * 90_000}", True, id="repetitions"),
        pytest.param(f"{IDS}<x>{'!?' * 700_000}</x>", False, id="marks in text"),
        pytest.param(f"{IDS}<x>{'</x><x>' * 250_000}</x>", True, id="end tags"),
        pytest.param(f"{IDS}<dueDate>{'9' * 10_000_000}</dueDate>", True, id="10 MB of text"),
        pytest.param(f"{IDS}<dueDate>{'9' * 1_000_000}</dueDate>", False, id="1 MB of text"),
    ],
)  # fmt: skip
def test_a_bomb_costs_bounded_time_and_memory(
    answer: Answer, record: str, *, refused: bool
) -> None:
    body = answer(records=f"<enrollment>{record}</enrollment>")
    started = time.process_time()
    if refused:
        with pytest.raises(MalformedAnswerError):
            read_sparingly(body)
    else:
        read_sparingly(body)
    assert time.process_time() - started < 6


def test_a_flood_of_comments_in_one_chunk_is_looked_through_once(answer: Answer) -> None:
    """Not once for each comment: the search for the rarer kind of section is remembered."""

    def seconds(comments: int) -> float:
        body = answer(records=f"<enrollment>{'<!---->' * comments}</enrollment>")
        started = time.process_time()
        SliceCutter().feed(body)
        return time.process_time() - started

    few = min(seconds(20_000) for _ in range(3))
    assert min(seconds(200_000) for _ in range(2)) < 30 * few


def test_bodies_without_number_are_counted_in_linear_time() -> None:
    many = "<s:Body/>" * 200_000
    body = f'<s:Envelope xmlns:s="{ENVELOPE}">{many}</s:Envelope>'.encode()
    started = time.process_time()
    with pytest.raises(MalformedAnswerError):
        Flattener().flatten(body)
    assert time.process_time() - started < 5


SOME = [f"<enrollment>{IDS.replace('>e<', f'>e{i}<')}</enrollment>" for i in range(6)]
ROWS = [(f"e{i}", "c", "l", *[None] * 8) for i in range(6)]
IN_FAULT = "<Fault><faultcode>server</faultcode><faultstring>cut off</faultstring></Fault>"
BESIDE = {
    "text": ("Service unavailable", r"text \(19 characters\)"),
    "a space that is not white": ("\u00a0", "text"),
    "a section": ("<![CDATA[ x ]]>", "text"),
    "text among comments": ("<!-- --> \n<?x?>&#120;<!-- -->", "text"),
    "error": ("<error>overload</error>", "<error>"),
    "fault": (IN_FAULT, "<Fault>"),
    "fault of SOAP": (IN_FAULT.replace("Fault>", "s:Fault>"), "<Fault>"),
    "records in a wrapper": (f"<enrollments>{SOME[3]}</enrollments>", "<enrollments>"),
    "records in capitals": (SOME[3].replace("enrollment>", "Enrollment>"), "<Enrollment>"),
    "a next page": ("<nextPageToken>t</nextPageToken>", "<nextPageToken>"),
    "a message": ("<note>none for you</note>", "<note>"),
    "an error's number": ("<errorCode>500</errorCode>", "<errorCode>"),
    "an element elsewhere": ("<new xmlns='urn:x'><y/></new>", "<new>"),
    "a result in the result": (
        "<GetEnrollmentsResult><x/></GetEnrollmentsResult>",
        "<GetEnrollmentsResult>",
    ),
    "a name that could be a secret": ("<tok3n-s>a</tok3n-s>", "an unknown element"),
}


@pytest.mark.parametrize(("beside", "named"), BESIDE.values(), ids=BESIDE)
@pytest.mark.parametrize("at", [None, 0, 3, 6], ids=["alone", "first", "between", "last"])
def test_nothing_but_records_may_stand_in_the_result(
    answer: Answer, read_every_way: ReadEveryWay, at: int | None, beside: str, named: str
) -> None:
    """It may hold records, or say why there are none: the answer must not be read short."""
    parts = [] if at is None else [*SOME]
    parts.insert(at or 0, beside)
    body = answer(records="".join(parts))
    for slice_bytes in (1, 300, 10**6):
        for size in (1, 10**6):
            assert read_every_way(in_pieces(body, size), slice_bytes) is None
    where = f"holds {named}.* beside its records, after {at or 0} of a part"
    for walked_bytes in (0, 10**6):
        with pytest.raises(MalformedAnswerError, match=where):
            decode_document(body, Flattener(walked_bytes=walked_bytes), ObjectDecoder())


@pytest.mark.parametrize(
    "new",
    ["<new/>", "<new xmlns='urn:x'> \n</new>", "<total>6</total>", "<more> false </more>",
     "<errors/>", "<nextPageToken/>"],
)  # fmt: skip
@pytest.mark.parametrize("at", [None, 0, 3, 6], ids=["alone", "first", "between", "last"])
def test_new_elements_that_say_nothing_break_no_run(
    answer: Answer, read_every_way: ReadEveryWay, at: int | None, new: str
) -> None:
    parts = [] if at is None else [*SOME]
    parts.insert(at or 0, new)
    body = answer(records="".join(parts))
    for slice_bytes in (1, 300, 10**6):
        assert read_every_way([body], slice_bytes) == ([] if at is None else ROWS, {})


def test_text_after_many_records_refuses_a_learned_dialect_too(answer: Answer) -> None:
    flattener = Flattener()
    decode_document(answer(500), flattener, ObjectDecoder())
    assert flattener.scan(answer(500)) is not None
    for before in (b"</GetEnrollmentsResult>", b"<enrollment><enrollmentId>e250<"):
        body = answer(500).replace(before, b"cut off" + before)
        with pytest.raises(MalformedAnswerError, match="holds text"):
            decode_document(body, flattener, ObjectDecoder())


@pytest.mark.parametrize(
    "between",
    ["", " \r\n\t", "<!-- <error/> -->", "<?php text ?>", "<![CDATA[ \n]]>", "&#32;&#10;"],
    ids=["nothing", "white space", "comment", "instruction", "blank section", "references"],
)
def test_comments_instructions_and_white_space_may_stand_in_the_result(
    answer: Answer, read_every_way: ReadEveryWay, between: str
) -> None:
    for some, rows in (([], []), (SOME, ROWS)):
        body = answer(records=between.join(["", *some, ""]) or between)
        for slice_bytes in (1, 300, 10**6):
            assert read_every_way([body], slice_bytes) == (rows, {})


@pytest.mark.parametrize("result", ["<GetEnrollmentsResult/>", '<GetEnrollmentsResult a="1" />'])
def test_a_self_closed_result_is_empty(read_every_way: ReadEveryWay, result: str) -> None:
    start, end = PLAIN.index("<GetEnr"), PLAIN.index("</s:Body>")
    assert read_every_way([(PLAIN[:start] + result + PLAIN[end:]).encode()]) == ([], {})


def test_errors_do_not_quote_the_answer() -> None:
    body = f"<SECRET>{PLAIN}".encode()
    with pytest.raises(MalformedAnswerError) as caught:
        read_sparingly(body)
    assert "SECRET" not in str(caught.value)
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__


def test_a_fault_is_found_in_any_bytes_without_an_exception() -> None:
    for body in (
        b"", b"<", b"\xff\xfe<\0", declared("utf-16"), declared("no-such", "ascii"),
        PLAIN.encode("cp037"), b"<a>" * 100_000, b"<html>", PLAIN.encode(), b"\0", b"<?xml?>",
    ):  # fmt: skip
        assert read_fault(body) is None
    fault = f'<s:Envelope xmlns:s="{ENVELOPE}"><s:Body>{FAULT}</s:Body></s:Envelope>'
    assert read_fault(fault.encode()) == Fault("client", "Wrong parameters")
