"""Read plain records by one regular expression, where that proves as much as a parser does.

Nearly all answers are one record after another with the same tags in the same order, no attributes,
no entities, no comments. Such a run is read in one pass of a C loop, at a seventh of the cost of
parsing and printing it. The proof has two halves:

* The frame. What stands before the first record and after the last is parsed by libxml2 around a
  probe in place of the records. So the frame is well-formed, the records stand directly in the
  result element, nothing stands beside them, and the prefixes in scope are known.
* The records. The matches of the dialect's expression (`bulkfetch.wire.dialect`) must cover
  everything from the first record to the last without a gap. A sequence of such records is
  well-formed content wherever one is, and means what `read_records` says it does.

Everything else gives None and is read by the parser: the scan refuses nothing and repairs nothing.
"""

import re
from dataclasses import dataclass

from bulkfetch.errors import MalformedAnswerError
from bulkfetch.record import RECORD_ELEMENT, RESULT_ELEMENT
from bulkfetch.wire.dialect import Columns, Dialect
from bulkfetch.wire.document import Parsers, find_result, parse
from bulkfetch.wire.fault import Fault
from bulkfetch.wire.names import PAYLOAD_NAMESPACES, XML_WHITESPACE, split_name

_FIRST_RECORD = re.compile(rb"<((?:[A-Za-z_][A-Za-z0-9_.-]*:)?" + RECORD_ELEMENT.encode() + rb")>")
_PROBE = b"bulkfetch-probe"
_ENCODINGS = {"utf-8": True, "utf8": True, "us-ascii": False, "ascii": False}

_FRAME_CAP_BYTES = 4 * 1024
_FRAMES_KEPT = 256
_DIALECTS_KEPT = 32
_DOCUMENT_CAP_BYTES = 8 * 1024 * 1024  # libxml2 refuses more text in one place than 10 MB


@dataclass(frozen=True, slots=True)
class _Frame:
    """What stands around the records; `is_unicode` if text may go beyond ASCII."""

    dialect: Dialect
    is_unicode: bool


class Scanner:
    """Reads plain documents. One serves all threads.

    Args:
        learn_after_bytes: learning pays only for more than this in all; None is given before.
    """

    def __init__(self, *, learn_after_bytes: int) -> None:
        self._unlearned_bytes = learn_after_bytes
        self._parsers = Parsers()
        self._frames: dict[tuple[bytes, bytes], _Frame | None] = {}
        self._dialects: dict[object, Dialect] = {}

    def scan(self, document: bytes) -> Columns | None:
        """Read the records of one document; None where it is not plain."""
        if self._unlearned_bytes > 0:
            self._unlearned_bytes -= len(document)
            if self._unlearned_bytes > 0:
                return None
        first = _FIRST_RECORD.search(document, 0, _FRAME_CAP_BYTES)
        if first is None or len(document) > _DOCUMENT_CAP_BYTES:
            return None
        start, end_tag = first.start(), b"</%b>" % first[1]
        end = document.rfind(end_tag) + len(end_tag)
        if end < start or len(document) - end > _FRAME_CAP_BYTES:
            return None
        frame = self._frame(document[:start], first[1], document[end:])
        if frame is None:
            return None
        try:
            text = document[start:end].decode()
        except UnicodeDecodeError:
            return None
        return frame.dialect.read(text) if frame.is_unicode or text.isascii() else None

    def _frame(self, opening: bytes, record_name: bytes, closing: bytes) -> _Frame | None:
        try:
            return self._frames[opening, closing]
        except KeyError:
            frame = self._check_frame(opening, record_name, closing)
        if len(self._frames) >= _FRAMES_KEPT:
            self._frames.clear()
        self._frames[opening, closing] = frame
        return frame

    def _check_frame(self, opening: bytes, record_name: bytes, closing: bytes) -> _Frame | None:
        """Parse a frame around a probe; None if that is not an answer with one run of records."""
        if _PROBE in opening or _PROBE in closing:
            return None
        probe = b"<%b><%b/></%b>" % (record_name, _PROBE, record_name)
        try:
            root = parse(opening + probe + closing, self._parsers)
            result = find_result(root, RESULT_ELEMENT)
        except MalformedAnswerError:
            return None
        info = root.getroottree().docinfo
        is_unicode = _ENCODINGS.get((info.encoding or "utf-8").lower())
        if isinstance(result, Fault) or info.xml_version != "1.0" or is_unicode is None:
            return None
        if len(result) != 1 or "".join(map(str, result.itertext())).strip(XML_WHITESPACE):
            return None
        (record,) = result
        namespace, local = split_name(record)
        if (
            local != RECORD_ELEMENT
            or [split_name(each)[1] for each in record] != [_PROBE.decode()]
            or namespace not in PAYLOAD_NAMESPACES
        ):
            return None
        namespaces = {prefix: str(name) for prefix, name in record.nsmap.items()}
        key = (record_name, frozenset(namespaces.items()))
        if key not in self._dialects:
            if len(self._dialects) >= _DIALECTS_KEPT:
                self._dialects.clear()
            self._dialects[key] = Dialect(record_name.decode(), namespaces)
        return _Frame(self._dialects[key], is_unicode)
