"""Flatten a document of records into text cells: in C where that is proved right, else in Python.

Two readings of the same document:

* `read_records` walks the tree in Python. It is the definition: it knows every variation of the
  service's editions, and refuses what must be refused.
* `Flattener` lets libxml2 parse and libxslt print the columns as delimited text, both without the
  GIL, for a document in one uniform dialect. The stylesheet prints, for each record and column,
  the first element of that name. `Flat.values` is the number of value elements in the document: if
  as many cells hold text, then every element was printed, none is repeated, unknown or empty, and
  the cells are the definition's. The decoders check this; whatever fails is read by
  `read_records`. So a strange document costs time, never a value.

A small document is walked at once: the fixed cost of a transformation is more than it saves.

A parser, stylesheet or tree is never handed from thread to thread: lxml then corrupts memory.
Parsers and stylesheets are kept per thread, trees live and die within one call.
"""

import threading
from dataclasses import dataclass
from typing import Any, NamedTuple, cast

from lxml import etree

from bulkfetch.errors import MalformedAnswerError
from bulkfetch.record import (
    CERTIFICATE_ELEMENT,
    FIELDS,
    RECORD_ELEMENT,
    RESULT_ELEMENT,
)
from bulkfetch.wire.dialect import Columns
from bulkfetch.wire.document import Parsers, find_result, parse
from bulkfetch.wire.fault import Fault
from bulkfetch.wire.names import PAYLOAD_NAMESPACES, XML_WHITESPACE, XSI_NIL, split_name
from bulkfetch.wire.scan import Scanner

Row = tuple[str, ...]
"""The text of a record's columns in the order of FIELDS; "" where the element is absent."""

_WALKED_BYTES = 16 * 1024
_CHILDREN_CAP = 1_000
_LONGEST_WORD = 40
_ALARMING_WORDS = ("error", "exception", "fault", "page", "token")  # in names
_TRUE = frozenset({"true", "1"})

_COLUMN_OF_RECORD = {name: i for i, field in enumerate(FIELDS) for name in field.wire_names}
_COLUMN_OF_CERTIFICATE = {
    name: i for i, field in enumerate(FIELDS) if field.nested for name in field.wire_names
}


@dataclass(frozen=True, slots=True)
class Flat:
    """The records of one document as text: a line each, tabs between columns.

    `values` is the proof: the reading holds if exactly so many cells are not empty, and if there
    are `count` lines of as many cells as there are columns.
    """

    text: bytes
    count: int
    values: int


class Dialect(NamedTuple):
    """What a stylesheet depends on: namespaces, and how certificates are written."""

    record_namespace: str
    field_namespace: str
    nested: bool
    names: tuple[str, ...]  # the wire name of each column


def read_records(result: etree._Element) -> list[Row]:
    """Read the records of a result element, one by one: the definition.

    Raises:
        MalformedAnswerError: what stands beside the records may hold some or say why some are
            missing, a value holds elements, a field is repeated, a record lacks one of its ids, or
            a known name stands in an unknown namespace.
    """
    rows: list[Row] = []
    _require_blank(result.text, 0)
    for element in result:
        namespace, local = split_name(element)
        if local == RECORD_ELEMENT:
            _require_known(namespace, local)
            rows.append(_read_record(element, len(rows) + 1))
        elif not _is_harmless(element, local):
            # A word is no secret; what is none might be one, and is not repeated.
            is_word = local.isascii() and local.isalpha() and len(local) <= _LONGEST_WORD
            raise _beside_records(f"<{local}>" if is_word else "an unknown element", len(rows))
        _require_blank(element.tail, len(rows))
    return rows


def _read_record(element: etree._Element, number: int) -> Row:
    values: list[str | None] = [None] * len(FIELDS)
    _read_fields(element, _COLUMN_OF_RECORD, values)
    row = tuple(value or "" for value in values)
    for field, value in zip(FIELDS, row, strict=True):
        if field.required and not value:
            raise MalformedAnswerError(
                f"Record {number} of the answer has no {field.wire_names[0]}."
            )
    return row


def _is_harmless(element: etree._Element, local: str) -> bool:
    """Whether an element beside the records is just new: a number, a flag, or nothing at all."""
    name = local.lower()
    if len(element) or name == RECORD_ELEMENT:
        return False
    value = (element.text or "").strip(XML_WHITESPACE)
    is_plain = (value.isascii() and value.isdigit()) or value in {"true", "false"}
    return not value or (is_plain and not any(word in name for word in _ALARMING_WORDS))


def _require_blank(text: str | None, after: int) -> None:
    if text and text.strip(XML_WHITESPACE):
        raise _beside_records(f"text ({len(text):,} characters)", after)


def _beside_records(found: str, after: int) -> MalformedAnswerError:
    # It may hold records, or say why some are missing: to pass over it is to read short.
    return MalformedAnswerError(
        f"The {RESULT_ELEMENT} holds {found} beside its records, after {after:,} of a part."
    )


def _read_fields(
    element: etree._Element, columns: dict[str, int], values: list[str | None]
) -> None:
    if len(element) > _CHILDREN_CAP:
        raise MalformedAnswerError(f"A record holds over {_CHILDREN_CAP:,} elements.")
    certificates = 0
    for child in element:
        namespace, local = split_name(child)
        column = columns.get(local)
        if column is not None:
            _require_known(namespace, local)
            if len(child):
                raise MalformedAnswerError(f"The value of {local} holds elements.")
            if values[column] is not None:
                raise MalformedAnswerError(f"A record holds {local} more than once.")
            text = child.text or ""
            absent = child.get(XSI_NIL, "").strip() in _TRUE or not text.strip(XML_WHITESPACE)
            values[column] = "" if absent else text
        elif local == CERTIFICATE_ELEMENT and columns is _COLUMN_OF_RECORD:
            _require_known(namespace, local)
            certificates += 1
            if certificates > 1:
                raise MalformedAnswerError(f"A record holds {local} more than once.")
            if child.get(XSI_NIL, "").strip() not in _TRUE:
                _read_fields(child, _COLUMN_OF_CERTIFICATE, values)


def _require_known(namespace: str, local: str) -> None:
    if namespace not in PAYLOAD_NAMESPACES:
        raise MalformedAnswerError(f"The answer's {local} stands in an unknown namespace.")


class _Stylesheets(threading.local):
    """The stylesheets that one thread has compiled, by dialect."""

    def __init__(self) -> None:
        self.by_dialect: dict[Dialect, tuple[etree.XSLT, etree.XPath]] = {}


class Flattener:
    """Turns documents into columns, flat text or rows, in whatever thread it is called.

    Args:
        walked_bytes: documents smaller than this are not printed but walked, and the scan is not
            learned before so many bytes have come.
        scans: whether to scan at all.
    """

    def __init__(self, *, walked_bytes: int = _WALKED_BYTES, scans: bool = True) -> None:
        self._walked_bytes = walked_bytes
        self._scanner = Scanner(learn_after_bytes=walked_bytes) if scans else None
        self._parsers = Parsers()
        self._stylesheets = _Stylesheets()

    def scan(self, document: bytes) -> Columns | None:
        """Read one plain document by columns; None where it is not plain."""
        return None if self._scanner is None else self._scanner.scan(document)

    def flatten(self, document: bytes) -> Flat | list[Row] | Fault:
        """Read one document: flat text where it may be proved, rows where not, or its Fault.

        Raises:
            MalformedAnswerError: the document is not a whole, acceptable answer.
        """
        found = find_result(parse(document, self._parsers), RESULT_ELEMENT)
        if isinstance(found, Fault):
            return found
        if len(document) < self._walked_bytes or not len(found):
            return read_records(found)
        return self._transform(found) or read_records(found)

    def read(self, document: bytes) -> list[Row]:
        """Read one document by the definition, for when its flat text could not be proved."""
        found = find_result(parse(document, self._parsers), RESULT_ELEMENT)
        return [] if isinstance(found, Fault) else read_records(found)

    def _transform(self, result: etree._Element) -> Flat | None:
        """Print the columns; None where the document is not of one plain dialect."""
        dialect = _guess_dialect(result)
        if dialect is None:
            return None
        if dialect not in self._stylesheets.by_dialect:
            self._stylesheets.by_dialect[dialect] = (_stylesheet(dialect), _census(dialect))
        stylesheet, census = self._stylesheets.by_dialect[dialect]
        counted = census(result)
        assert isinstance(counted, str)
        count, values, odd = counted.split(" ")
        if odd == "true" or int(count) != len(result):
            return None
        text = bytes(cast("Any", stylesheet(result.getroottree())))
        # A space may be one that the definition calls empty, a carriage return may end a line.
        if (
            b" " in text
            or b"\r" in text
            or text.count(b"\n") != int(count)
            or (text.count(b"\t") != int(count) * (len(FIELDS) - 1))
        ):
            return None
        return Flat(text, int(count), int(values))


def _guess_dialect(result: etree._Element) -> Dialect | None:
    """Guess from the first record and the first certificate how the others are written."""
    record, tag = result[0], str(result[0].tag)
    if not len(record):
        return None
    record_namespace, local = split_name(record)
    field_namespace = split_name(record[0])[0]
    if (
        local != RECORD_ELEMENT
        or record_namespace not in PAYLOAD_NAMESPACES
        or field_namespace not in PAYLOAD_NAMESPACES
    ):
        return None
    prefix = f"{{{field_namespace}}}" if field_namespace else ""
    certificate = result.find(f"{tag}/{prefix}{CERTIFICATE_ELEMENT}")
    names = []
    for field in FIELDS:
        path = f"{tag}/{prefix}{CERTIFICATE_ELEMENT}/" if certificate is not None else ""
        path = path or f"{tag}/"
        spelled = field.wire_names
        if len(spelled) > 1 and result.find(path + prefix + spelled[0]) is None:
            spelled = spelled[1:]
        names.append(spelled[0])
    return Dialect(record_namespace, field_namespace, certificate is not None, tuple(names))


def _prefixed(namespace: str, prefix: str, local: str) -> str:
    return f"{prefix}:{local}" if namespace else local


def _namespaces(dialect: Dialect) -> dict[str, str]:
    pairs = {"r": dialect.record_namespace, "f": dialect.field_namespace}
    return {prefix: namespace for prefix, namespace in pairs.items() if namespace}


def _stylesheet(dialect: Dialect) -> etree.XSLT:
    """Write and compile the stylesheet that prints a dialect's columns, one record a line."""
    tab = "<xsl:text>&#9;</xsl:text>"

    def column(name: str) -> str:
        return f'<xsl:value-of select="{_prefixed(dialect.field_namespace, "f", name)}"/>'

    plain = [
        name
        for field, name in zip(FIELDS, dialect.names, strict=True)
        if not (field.nested and dialect.nested)
    ]
    nested = dialect.names[len(plain) :]
    certificate = _prefixed(dialect.field_namespace, "f", CERTIFICATE_ELEMENT)
    body = tab.join(column(name) for name in plain)
    if nested:
        body += (
            f'<xsl:choose><xsl:when test="{certificate}"><xsl:for-each select="{certificate}">'
            + "".join(tab + column(name) for name in nested)
            + "</xsl:for-each></xsl:when><xsl:otherwise><xsl:text>"
            + "&#9;" * len(nested)
            + "</xsl:text></xsl:otherwise></xsl:choose>"
        )
    declarations = "".join(
        f' xmlns:{prefix}="{namespace}"' for prefix, namespace in _namespaces(dialect).items()
    )
    record = _prefixed(dialect.record_namespace, "r", RECORD_ELEMENT)
    source = (
        '<xsl:stylesheet version="1.0" xmlns:xsl="http://www.w3.org/1999/XSL/Transform"'
        f'{declarations}><xsl:output method="text" encoding="UTF-8"/>'
        f'<xsl:template match="/"><xsl:for-each select="*/*/*/{record}">{body}'
        "<xsl:text>&#10;</xsl:text></xsl:for-each></xsl:template></xsl:stylesheet>"
    )
    return etree.XSLT(etree.XML(source.encode()))


def _census(dialect: Dialect) -> etree.XPath:
    """Compile the count of a result's records and values, and whether anything in them is odd.

    Odd are attributes (one may say nil), elements inside of values, and text between records.
    """
    record = _prefixed(dialect.record_namespace, "r", RECORD_ELEMENT)
    certificate = _prefixed(dialect.field_namespace, "f", CERTIFICATE_ELEMENT)
    # Without the nested form a certificate element is odd by itself: its count then differs.
    inner = f"{record}/{certificate}/*"
    values = f"count({record}/*)"
    odd = f"{record}/*/@* or {record}/*/*"
    if dialect.nested:
        values += f" - count({record}/{certificate}) + count({inner})"
        odd = f"{record}/*/@* or {inner}/@* or {inner}/* or {record}/*[not(self::{certificate})]/*"
    return etree.XPath(
        f"concat(count({record}), ' ', {values}, ' ', {odd} or text()[normalize-space()])",
        namespaces=_namespaces(dialect),
        smart_strings=False,
    )
