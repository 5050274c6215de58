"""Cut a stream of XML into small documents at record ends, as the bytes arrive.

Head + some whole records + closing tags is a document of its own, so that memory is bounded by the
slice and not by the answer, and slices of one answer can be parsed in several threads at once.

The cut is exact, not a guess: comments, CDATA sections and processing instructions are the only
places of a well-formed document where `</enrollment>` can stand without being an end tag, because
`<` is not allowed in attribute values and text. They are skipped by their terminators, wherever
chunks happen to break. So each cut lies in element content; that it lies directly in the result
element is proved when the slice, closed with the head's own tags, parses. If every slice is
well-formed so is the whole: the parser's state at each cut is its state after the head. A document
for which this fails (records nested in an unknown element) is refused, never read short.

A document type declaration, XML 1.1 and every encoding but UTF-8 and ASCII are refused here: the
first because lxml then drops entity text in silence, the others because bytes could hide tags.
"""

import re
from dataclasses import dataclass

from bulkfetch.errors import MalformedAnswerError
from bulkfetch.record import RECORD_ELEMENT

_BOM = b"\xef\xbb\xbf"
_NOT_BLANK = re.compile(rb"\S")
_BEGINNING = re.compile(rb"\s*+<")
_XML_DECLARATION = re.compile(
    rb"<\?xml\s+version\s*=\s*(?:'1\.0'|\"1\.0\")"
    rb"(?:\s+encoding\s*=\s*(?:'(?P<single>[A-Za-z0-9._-]+)'|\"(?P<double>[A-Za-z0-9._-]+)\"))?"
    rb"(?:\s+standalone\s*=\s*(?:'(?:yes|no)'|\"(?:yes|no)\"))?\s*\?>"
)
_ENCODINGS = frozenset({b"utf-8", b"utf8", b"us-ascii", b"ascii"})
_SECTIONS = ((b"<!--", b"-->"), (b"<![CDATA[", b"]]>"), (b"<?", b"?>"))
_LONGEST_OPENER = 9
_TAG = re.compile(rb"<(/?)([^\s/<>\"'=!?]+)(?:[^<>\"']|\"[^\"<]*\"|'[^'<]*')*>")
_RECORD_END = re.compile(
    rb"</(?:[^\s/<>\"'=:]+:)?" + RECORD_ELEMENT.encode() + rb"[\x20\x09\x0d\x0a]*>"
)
_HEAD_CAP_BYTES = 64 * 1024
_DECLARATION_CAP_BYTES = 256


@dataclass(frozen=True, slots=True)
class Head:
    """What stands before the first record, the tags that close it, and the record's end tag."""

    opening: bytes
    closing: bytes
    record_end: bytes


class SliceCutter:
    """Turn the chunks of one answer into documents of about `slice_bytes` each.

    Feed it every chunk, parse each document that it returns, and last the one from `finish`: it
    ends in the answer's real tail, and only if it parses has the answer arrived whole.

    Args:
        slice_bytes: size from which a slice is cut off.
        record_cap_bytes: most bytes between two record ends, before the first, or after the last.
    """

    def __init__(
        self, *, slice_bytes: int = 512 * 1024, record_cap_bytes: int = 2 * 1024 * 1024
    ) -> None:
        self._slice_bytes = slice_bytes
        self._cap_bytes = slice_bytes + record_cap_bytes
        self._buffer = bytearray()
        self._started = False
        self._head: Head | None = None
        self._content: list[tuple[int, int]] = []  # ranges of the buffer outside of sections
        self._lexed = 0  # everything before this is known to be content or a section
        self._terminator = b""  # of the section that is open at `_lexed`, if any
        self._terminator_from = 0
        self._next_attempt_bytes = slice_bytes

    def feed(self, chunk: bytes) -> list[bytes]:
        """Take the next bytes of the answer, in any size, and return the documents now complete.

        Raises:
            MalformedAnswerError: the bytes cannot be the beginning of an acceptable answer.
        """
        self._buffer += chunk
        if not self._started and not self._start(final=False):
            return []
        self._lex()
        documents = []
        if len(self._buffer) >= self._next_attempt_bytes:
            document = self._cut()
            if document is not None:
                documents.append(document)
            elif len(self._buffer) > self._cap_bytes:
                raise MalformedAnswerError(
                    f"The answer holds no complete record in {len(self._buffer):,} bytes."
                )
            self._next_attempt_bytes = max(self._slice_bytes, len(self._buffer) * 5 // 4)
        return documents

    def finish(self) -> bytes:
        """Return the last document: the head (if slices were cut), what is left, the real tail.

        Raises:
            MalformedAnswerError: there is nothing, or nothing that could be XML.
        """
        if not self._started:
            self._start(final=True)
            self._lex()
        rest = bytes(self._buffer)
        self._buffer.clear()
        return rest if self._head is None else self._head.opening + rest

    @property
    def has_cut(self) -> bool:
        """Whether a slice was returned, so that records have been seen."""
        return self._head is not None

    def _start(self, *, final: bool) -> bool:
        """Check what the answer begins with; False while more bytes are needed to tell."""
        buffer = self._buffer
        if _BOM.startswith(buffer) and not final:
            return False
        marked = buffer.startswith(_BOM)
        if not _NOT_BLANK.search(buffer, len(_BOM) * marked):
            if final:
                raise MalformedAnswerError("The answer is empty.")
            if len(buffer) > _HEAD_CAP_BYTES:
                raise MalformedAnswerError(f"The answer begins with {len(buffer):,} blank bytes.")
            return False
        if marked:
            del buffer[: len(_BOM)]
        if not _BEGINNING.match(buffer) or b"\0" in buffer[:64]:
            raise MalformedAnswerError("The answer is not XML in UTF-8.")
        if buffer.startswith(b"<?xml") or b"<?xml".startswith(buffer):
            if b"?>" not in buffer and not final and len(buffer) < _DECLARATION_CAP_BYTES:
                return False
            self._check_declaration()
        self._started = True
        return True

    def _check_declaration(self) -> None:
        buffer = bytes(self._buffer[:_DECLARATION_CAP_BYTES])
        if not buffer[5:6].isspace():
            return  # an instruction such as <?xml-stylesheet …?>
        declaration = _XML_DECLARATION.match(buffer)
        if declaration is None:
            raise MalformedAnswerError("The answer's XML declaration is not that of XML 1.0.")
        encoding = declaration["single"] or declaration["double"] or b"utf-8"
        if encoding.lower() not in _ENCODINGS:
            raise MalformedAnswerError(
                f"The answer is encoded in {encoding.decode('ascii')}, not in UTF-8."
            )

    def _lex(self) -> None:
        """Advance over content and sections as far as the buffer tells."""
        buffer = self._buffer
        marks = {b"!": -1, b"?": -1}
        while True:
            if self._terminator:
                end = buffer.find(self._terminator, self._terminator_from)
                if end < 0:
                    keep = len(buffer) - len(self._terminator) + 1
                    self._terminator_from = max(self._terminator_from, keep)
                    return
                self._lexed = end + len(self._terminator)
                self._terminator = b""
            start = self._next_section(marks)
            known = len(buffer) if start < 0 else start
            if start < 0 and buffer.endswith(b"<"):
                known -= 1
            if known > self._lexed:
                self._add_content(self._lexed, known)
                self._lexed = known
            if start < 0:
                return
            opening = bytes(buffer[start : start + _LONGEST_OPENER])
            for opener, terminator in _SECTIONS:
                if opening.startswith(opener):
                    self._terminator = terminator
                    self._terminator_from = start + len(opener)
                    break
            else:
                if any(opener.startswith(opening) for opener, _ in _SECTIONS):
                    return  # the opener itself is cut by the end of the chunk
                raise MalformedAnswerError("The answer has a document type declaration: refused.")

    def _add_content(self, start: int, end: int) -> None:
        if self._content and self._content[-1][1] == start:
            start = self._content.pop()[0]
        self._content.append((start, end))

    def _next_section(self, marks: dict[bytes, int]) -> int:
        """Return where the next `<!` or `<?` stands at or after `_lexed`, or -1.

        Looks for the rare second character: a search for `<` would stop at every tag.

        Args:
            marks: where each second character was found last; kept while the buffer is the same,
                so that many sections of one kind do not search all of it for the other.
        """
        buffer = self._buffer
        for mark, last in marks.items():
            if last > self._lexed:
                continue
            at = buffer.find(mark, self._lexed + 1)
            while at >= 0 and buffer[at - 1] != 0x3C:  # noqa: PLR2004 - "<"
                at = buffer.find(mark, at + 1)
            marks[mark] = at if at >= 0 else len(buffer) + 1
        found = min(marks.values())
        return found - 1 if found < len(buffer) else -1

    def _cut(self) -> bytes | None:
        """Cut after the last record end in the buffer; None if there is none yet."""
        if self._head is None:
            self._head = self._find_head()
            if self._head is None:
                return None
            self._drop(len(self._head.opening))
        end = self._last_record_end(self._head)
        if end == 0:
            return None
        document = b"".join(
            (self._head.opening, memoryview(self._buffer)[:end], self._head.closing)
        )
        self._drop(end)
        return document

    def _last_record_end(self, head: Head) -> int:
        for start, end in reversed(self._content):
            at = self._buffer.rfind(head.record_end, start, end)
            if at >= 0:
                return at + len(head.record_end)
        # Rare spellings: white space before the bracket, another prefix than the first record's.
        last = 0
        for start, end in self._content:
            for match in _RECORD_END.finditer(self._buffer, start, end):
                last = match.end()
        return last

    def _drop(self, count: int) -> None:
        """Forget the buffer's first bytes; positions move with it."""
        del self._buffer[:count]
        self._lexed -= count
        self._terminator_from -= count
        self._content = [
            (max(start - count, 0), end - count) for start, end in self._content if end > count
        ]

    def _find_head(self) -> Head | None:
        """Read the tags before the first record's; None while no record has begun.

        Raises:
            MalformedAnswerError: what looks like a tag is none, or the head is absurdly long.
        """
        open_names: list[bytes] = []
        for start, end in self._content:
            position = start
            while (position := self._buffer.find(b"<", position, end)) >= 0:
                tag = _TAG.match(self._buffer, position, end)
                if tag is None:
                    if end == self._lexed:
                        return None  # cut by the end of the chunk
                    raise MalformedAnswerError("The answer is not well-formed XML.")
                if position > _HEAD_CAP_BYTES:
                    raise MalformedAnswerError(
                        f"The answer holds no record in its first {_HEAD_CAP_BYTES:,} bytes."
                    )
                name = tag[2]
                if name.rpartition(b":")[2] == RECORD_ELEMENT.encode() and not tag[1]:
                    return Head(
                        opening=bytes(self._buffer[:position]),
                        closing=b"".join(b"</%b>" % name for name in reversed(open_names)),
                        record_end=b"</%b>" % name,
                    )
                if tag[1]:
                    if not open_names or open_names.pop() != name:
                        raise MalformedAnswerError("The answer is not well-formed XML.")
                elif not tag[0].endswith(b"/>"):
                    open_names.append(name)
                position = tag.end()
        return None
