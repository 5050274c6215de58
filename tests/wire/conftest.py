"""An independent reading of answers, and the four ways in which bulkfetch reads them."""

import re
import xml.etree.ElementTree as ET
from collections import Counter
from collections.abc import Callable, Iterable
from datetime import UTC, date, datetime
from typing import Any
from xml.parsers import expat

import pytest

from bulkfetch.errors import Anomaly, MalformedAnswerError
from bulkfetch.wire.arrow import ArrowDecoder
from bulkfetch.wire.cutter import SliceCutter
from bulkfetch.wire.decode import Decoded, ObjectDecoder, decode_document
from bulkfetch.wire.fault import Fault
from bulkfetch.wire.flatten import Flattener

Reading = tuple[list[tuple[Any, ...]], Counter[Anomaly]]

_WHITE = " \t\r\n"
_PAYLOADS = {
    "",
    "http://ispringlearn.com/go/services/api/soap",
    "https://ispringlearn.com/go/services/api/soap",
}
_ENVELOPES = {
    "",
    "http://schemas.xmlsoap.org/soap/envelope/",
    "https://schemas.xmlsoap.org/soap/envelope/",
}
_NIL = "{http://www.w3.org/2001/XMLSchema-instance}nil"
_OF_RECORD = {
    "enrollmentId": ("enrollment_id", "text"),
    "courseId": ("course_id", "text"),
    "learnerId": ("learner_id", "text"),
    "accessDate": ("access_date", "date"),
    "dueDate": ("due_date", "date"),
    "expirationDate": ("expiration_date", "date"),
    "shouldLockAfterDueDate": ("should_lock_after_due_date", "bool"),
    "enrollmentTypeGroup": ("enrollment_type_group", "int"),
}
_OF_CERTIFICATE = {
    "issuedCertificateId": ("issued_certificate_id", "text"),
    "issueDate": ("cert_issue_date", "stamp"),
    "certIssueDate": ("cert_issue_date", "stamp"),
    "expiryDate": ("cert_expiry_date", "stamp"),
    "certExpiryDate": ("cert_expiry_date", "stamp"),
}
_COLUMNS = (
    *(column for column, _ in _OF_RECORD.values()),
    "issued_certificate_id",
    "cert_issue_date",
    "cert_expiry_date",
)
_BOOLEANS = {"0": False, "1": True, "false": False, "true": True}


class _RefusedError(Exception):
    """The rules do not accept this document."""


def _moment(text: str) -> datetime:
    """Read by the shape of the text and the standard library's ISO reader."""
    text = re.sub(r"[.,]\d+", "", text.upper().replace(" ", "T"), flags=re.ASCII, count=1)
    shape = re.sub("[0-9]", "9", text)
    days, _, clock = shape.partition("T")
    bare = r"9999-99-99" + ("" if clock else r"(Z|[+-]99:?99)?")
    if (
        not re.fullmatch(bare, days)
        or ("T" in shape and not re.fullmatch(r"99:99(:99)?(Z|[+-]99:?99)?", clock))
        or (("." in text or "," in text) and not re.search("99:99:99", shape))
    ):
        raise ValueError(text)
    if "T" not in text:
        text = text[:10] + "T00:00:00" + text[10:]
    moment = datetime.fromisoformat(text)
    offset = moment.utcoffset()
    if offset is None:
        return moment.replace(tzinfo=UTC)
    digits = re.sub("[^0-9]", "", text[-6:]) if text[-1] != "Z" else "0000"
    if int(digits[-2:]) > 59 or int(digits[-4:-2]) > 14:
        raise ValueError(text)
    return moment


def _date(text: str) -> date:
    return _moment(text).date()


def _stamp(text: str) -> datetime:
    # An instant outside of the years 1 to 9999 has no representation.
    moment = _moment(text)
    try:
        return moment.astimezone(UTC).replace(microsecond=0)
    except OverflowError:
        raise ValueError(text) from None


def _int(text: str) -> int:
    if not text.isascii() or "_" in text or len(text) > 10 or text != text.strip():
        raise ValueError(text)
    value = int(text)
    if value not in range(-128, 128):
        raise ValueError(text)
    return value


_TYPES: dict[str, Callable[[str], object]] = {
    "date": _date,
    "bool": lambda text: _BOOLEANS[text.lower()],
    "int": _int,
    "stamp": _stamp,
}


def _split(element: ET.Element) -> tuple[str, str]:
    namespace, _, local = element.tag.rpartition("}")
    return namespace[1:], local


def _fields(element: ET.Element, known: dict[str, tuple[str, str]], found: dict[str, Any]) -> None:
    for child in element:
        namespace, local = _split(child)
        if local in known:
            column = known[local][0]
            if namespace not in _PAYLOADS or len(child) or column in found:
                raise _RefusedError
            text = child.text or ""
            nil = child.get(_NIL, "").strip() in {"1", "true"}
            found[column] = None if nil or not text.strip(_WHITE) else (local, text)
        elif local == "certificate" and "enrollmentId" in known:
            if namespace not in _PAYLOADS or "certificate" in found:
                raise _RefusedError
            found["certificate"] = None
            if child.get(_NIL, "").strip() not in {"1", "true"}:
                _fields(child, _OF_CERTIFICATE, found)


def _record(element: ET.Element, anomalies: Counter[Anomaly]) -> tuple[Any, ...]:
    found: dict[str, Any] = {}
    _fields(element, {**_OF_RECORD, **_OF_CERTIFICATE}, found)
    row: list[Any] = []
    for column in _COLUMNS:
        sent = found.get(column)
        if sent is None:
            if column in {"enrollment_id", "course_id", "learner_id"}:
                raise _RefusedError
            row.append(None)
            continue
        local, text = sent
        kind = {**_OF_RECORD, **_OF_CERTIFICATE}[local][1]
        try:
            row.append(text if kind == "text" else _TYPES[kind](text.strip(_WHITE)))
        except (ValueError, KeyError):
            row.append(None)
            anomalies[Anomaly(row[0], column, text)] += 1
    return tuple(row)


def _is_forbidden(document: bytes) -> bool:
    """Say whether there is a document type, or a version or encoding that is not accepted."""
    seen: list[object] = []
    parser = expat.ParserCreate()
    parser.StartDoctypeDeclHandler = lambda *args: seen.append(args)

    def declare(version: str, encoding: str | None, _standalone: int) -> None:
        if version != "1.0" or (encoding or "utf-8").lower() not in {"utf-8", "us-ascii"}:
            seen.append(version)

    parser.XmlDeclHandler = declare
    parser.Parse(document, True)
    return bool(seen)


def _is_just_new(element: ET.Element) -> bool:
    local, value = _split(element)[1], (element.text or "").strip(_WHITE)
    if len(element) or local.lower() == "enrollment":
        return False
    alarms = re.search("error|exception|fault|page|token", local.lower())
    return not value or (re.fullmatch("[0-9]+|true|false", value) is not None and not alarms)


def _read_plainly(document: bytes) -> Reading | None:  # noqa: PLR0911 - a refusal a line
    try:
        if _is_forbidden(document):
            return None
        root = ET.fromstring(document)
    except (expat.ExpatError, ET.ParseError, ValueError, LookupError):
        return None
    namespace, local = _split(root)
    children = [child for child in root if _split(child)[1] != "Header"]
    if local != "Envelope" or namespace not in _ENVELOPES or len(children) != 1:
        return None
    body = children[0]
    if _split(body) not in {(namespace, "Body"), ("", "Body")} or len(body) != 1:
        return None
    result_namespace, local = _split(body[0])
    if local != "GetEnrollmentsResult" or result_namespace not in _PAYLOADS:
        return None
    beside = [body[0].text, *(element.tail for element in body[0])]
    if any((text or "").strip(_WHITE) for text in beside):
        return None
    rows = []
    anomalies: Counter[Anomaly] = Counter()
    try:
        for element in (each for each in body[0] if not _is_just_new(each)):
            record_namespace, local = _split(element)
            if local != "enrollment" or record_namespace not in _PAYLOADS:
                return None
            rows.append(_record(element, anomalies))
    except _RefusedError:
        return None
    return rows, anomalies


@pytest.fixture(scope="session")
def read_plainly() -> Callable[[bytes], Reading | None]:
    """Read a whole answer with the standard library, by simple rules; None where it is refused."""
    return _read_plainly


_WAYS: tuple[tuple[str, Flattener, Any], ...] = (
    ("walked, objects", Flattener(walked_bytes=10**9), ObjectDecoder()),
    ("scanned, objects", Flattener(walked_bytes=0), ObjectDecoder()),
    ("printed, objects", Flattener(walked_bytes=0, scans=False), ObjectDecoder()),
    ("walked, Arrow", Flattener(walked_bytes=10**9), ArrowDecoder()),
    ("scanned, Arrow", Flattener(walked_bytes=0), ArrowDecoder()),
    ("printed, Arrow", Flattener(walked_bytes=0, scans=False), ArrowDecoder()),
)


def _rows_of(decoded: Decoded[Any]) -> list[tuple[Any, ...]]:
    if decoded.rows and hasattr(decoded.rows[0], "schema"):
        rows = [tuple(row.values()) for batch in decoded.rows for row in batch.to_pylist()]
    else:
        rows = [tuple(row) for row in decoded.rows]
    assert decoded.count == len(rows)
    assert decoded.course_ids == {row[1] for row in rows}
    assert decoded.learner_ids == {row[2] for row in rows}
    return rows


def _read_one_way(
    documents: Iterable[bytes], flattener: Flattener, decoder: Any
) -> Reading | Fault | None:
    rows: list[tuple[Any, ...]] = []
    anomalies: Counter[Anomaly] = Counter()
    for document in documents:
        try:
            decoded = decode_document(document, flattener, decoder)
        except MalformedAnswerError:
            return None
        if isinstance(decoded, Fault):
            return decoded
        rows += _rows_of(decoded)
        anomalies.update(decoded.anomalies)
    return rows, anomalies


@pytest.fixture(scope="session")
def cut() -> Callable[[Iterable[bytes], int], list[bytes] | None]:
    """Cut chunks into documents; None where the answer is refused."""

    def cut_chunks(chunks: Iterable[bytes], slice_bytes: int) -> list[bytes] | None:
        cutter = SliceCutter(slice_bytes=slice_bytes)
        documents = []
        try:
            for chunk in chunks:
                documents += cutter.feed(chunk)
            documents.append(cutter.finish())
        except MalformedAnswerError:
            return None
        return documents

    return cut_chunks


@pytest.fixture(scope="session")
def read_every_way(
    cut: Callable[[Iterable[bytes], int], list[bytes] | None],
) -> Callable[[Iterable[bytes], int], Reading | Fault | None]:
    """Read chunks in all four ways, which must agree; None where the answer is refused."""

    def read(chunks: Iterable[bytes], slice_bytes: int = 512 * 1024) -> Reading | Fault | None:
        documents = cut(chunks, slice_bytes)
        if documents is None:
            return None
        readings = {
            name: _read_one_way(documents, flattener, decoder) for name, flattener, decoder in _WAYS
        }
        first = readings["walked, objects"]
        assert readings == dict.fromkeys(readings, first)
        return first

    return read


@pytest.fixture(scope="session")
def answer() -> Callable[..., bytes]:
    """Write a plain answer of so many records, or around the given ones."""

    def write(count: int = 1, *, records: str | None = None) -> bytes:
        if records is None:
            records = "\n".join(
                f"<enrollment><enrollmentId>e{i}</enrollmentId><courseId>c{i % 7}</courseId>"
                f"<learnerId>l{i}</learnerId><accessDate>2022-07-{1 + i % 28:02}</accessDate>"
                "<shouldLockAfterDueDate>0</shouldLockAfterDueDate><certificate>"
                f"<issuedCertificateId>k{i}</issuedCertificateId>"
                "<issueDate>2022-07-15T07:19:00+02:00</issueDate></certificate></enrollment>"
                for i in range(count)
            )
        return (
            '<?xml version="1.0" encoding="utf-8"?>\n'
            '<s:Envelope xmlns:s="https://schemas.xmlsoap.org/soap/envelope/" '
            'xmlns="https://ispringlearn.com/go/services/api/soap"><s:Body>'
            f"<GetEnrollmentsResult>{records}</GetEnrollmentsResult></s:Body></s:Envelope>"
        ).encode("utf-8", "surrogatepass")

    return write
