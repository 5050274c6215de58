"""Learn how an edition of the service writes plain records, as one strict regular expression.

Editions differ in names, prefixes, order and white space. All of that is learned from records as
they come: a run of records that the expression does not cover teaches what its records have, and is
matched again. What contradicts (one field before another here and after it there, a certificate
nested here and flat there) teaches nothing.

The expression matches exactly one record: the names that were seen, in their order, each at most
once, its three ids present; white space only between tags; text without markup, entities, control
characters, or white space in front. Names that nobody knows are matched and not captured.

No quantifier is nested, each match begins with a literal, and text ends at `<`: the time is linear.
"""

import copy
import re
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from graphlib import CycleError, TopologicalSorter
from itertools import pairwise

from bulkfetch.record import CERTIFICATE_ELEMENT, FIELDS, RECORD_ELEMENT
from bulkfetch.wire.names import PAYLOAD_NAMESPACES, XML_WHITESPACE

NAME = r"(?:[A-Za-z_][A-Za-z0-9_.-]*:)?[A-Za-z_][A-Za-z0-9_.-]*"

# An end tag; or a name with a value, with content of its own, or with nothing (nil or not).
_TOKEN = re.compile(
    rf"(?P<gap>[ \t\r\n]*+)(?:</(?P<end>{NAME})>|<(?P<name>{NAME})(?:>[^<&]++</(?P=name)>|"
    r"(?P<opened>>(?=[ \t\r\n]*+<(?!/)))|(?P<empty>(?: (?P<nil>[A-Za-z_][A-Za-z0-9_.-]*):nil="
    r"""(?:'(?:true|1)'|"(?:true|1)"))?(?:/>|></(?P=name)>))))"""
)
_GAP = r"[ \t\r\n]*+"
# Line ends in text, which a parser would normalize, are left to one.
_ASCII_TEXT = r"[!-%'-;=?-~][ -%'-;=?-~]*+"
_BEYOND = "\x80-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff"
_ANY_TEXT = rf"[!-%'-;=?-~{_BEYOND}][ -%'-;=?-~{_BEYOND}]*+"
_TEXT = "\0"  # stands for one of them
_TAUGHT_AT_ONCE = 50
_LESSONS = 24
_NAMES_CAP = 64

_COLUMN_OF_RECORD = {name: i for i, each in enumerate(FIELDS) for name in each.wire_names}
_COLUMN_OF_CERTIFICATE = {
    name: i for i, each in enumerate(FIELDS) if each.nested for name in each.wire_names
}
_REQUIRED = frozenset(i for i, each in enumerate(FIELDS) if each.required)

Column = Sequence[str | None]


@dataclass(frozen=True, slots=True)
class Source:
    """What gives a document again, and how many bytes it holds."""

    read: Callable[[], bytes]
    size: int


@dataclass(frozen=True, slots=True)
class Columns:
    """The text of all records by column, in the order of FIELDS; None where it is absent.

    The three ids are there in every record. `source` gives the document that they stand in, if
    there is one at hand.
    """

    columns: tuple[Column, ...]
    count: int
    source: Source | None = None


class _NotPlainError(Exception):
    """A record that no expression of this kind can read."""


class _Record:
    """What one record has, in its order."""

    def __init__(self) -> None:
        self.names: list[str] = []
        self.inner_names: list[str] = []
        self.empty: list[tuple[bool, str, str]] = []  # in the certificate?, name, as written
        self.certificate_name: str | None = None
        self.has_gaps = False
        self.nil_prefixes: set[str] = set()

    def add(self, token: re.Match[str], inside: str | None) -> str | None:
        """Note an element; return the name of the certificate that is open then, if one is."""
        name = token["name"]
        names = self.names if inside is None else self.inner_names
        if name in names or len(names) == _NAMES_CAP:
            raise _NotPlainError
        names.append(name)
        if token["empty"] is not None:
            self.empty.append((inside is not None, name, f"<{name}{token['empty']}"))
            if token["nil"] is not None:
                self.nil_prefixes.add(token["nil"])
        is_certificate = inside is None and name.rpartition(":")[2] == CERTIFICATE_ELEMENT
        if is_certificate:
            if self.certificate_name is not None:
                raise _NotPlainError
            self.certificate_name = name
        if token["opened"] is None:
            return inside
        if not is_certificate:
            raise _NotPlainError
        return name


def _take_apart(text: str, start: int, record_name: str) -> tuple[_Record, int]:
    """Take the record apart that begins at `start`; return it and where it ends."""
    opening = f"<{record_name}>"
    if not text.startswith(opening, start):
        raise _NotPlainError
    found = _Record()
    inside: str | None = None
    at = start + len(opening)
    while True:
        token = _TOKEN.match(text, at)
        if token is None:
            raise _NotPlainError
        at = token.end()
        found.has_gaps |= bool(token["gap"])
        end = token["end"]
        if end is None:
            inside = found.add(token, inside)
        elif end == inside:
            inside = None
        elif inside is None and end == record_name:
            return found, at
        else:
            raise _NotPlainError


@dataclass(slots=True)
class _Names:
    """The names seen in one kind of element.

    Attributes:
        before: each name with those that stood directly before it. (Dictionaries as ordered sets:
            the same lessons must give the same expression.)
        empty: how the absence of a name's value was written, where it was.
    """

    before: dict[str, dict[str, None]] = field(default_factory=dict)
    empty: dict[str, dict[str, None]] = field(default_factory=dict)

    def learn(self, seen: Sequence[str]) -> None:
        """Note the names of one element and their order."""
        for name in seen:
            self.before.setdefault(name, {})
        for earlier, later in pairwise(seen):
            self.before[later][earlier] = None

    def in_order(self) -> list[str]:
        """Return the names in an order that agrees with everything seen.

        Raises:
            CycleError: there is none.
        """
        return list(TopologicalSorter(self.before).static_order())


@dataclass(slots=True)
class _Lessons:
    """What is known of a dialect."""

    record: _Names = field(default_factory=_Names)
    certificate: _Names = field(default_factory=_Names)
    certificate_name: str | None = None
    has_gaps: bool = False

    def learn(self, record: _Record) -> None:
        """Note what a record has."""
        if None not in {record.certificate_name, self.certificate_name} and (
            record.certificate_name != self.certificate_name
        ):
            raise _NotPlainError
        self.certificate_name = self.certificate_name or record.certificate_name
        self.record.learn(record.names)
        self.certificate.learn(record.inner_names)
        self.has_gaps |= record.has_gaps
        for is_inside, name, written in record.empty:
            kind = self.certificate if is_inside else self.record
            kind.empty.setdefault(name, {})[written] = None


@dataclass(frozen=True, slots=True)
class _Pattern:
    """The expression for one record, and which group each column is; None where it has none."""

    source: str
    ascii_only: re.Pattern[str]
    groups: tuple[int | None, ...]
    stride: int

    def split(self, text: str) -> list[str | None]:
        """Split a text at the records: what stands between them, and the groups of each."""
        if text.isascii():
            return self.ascii_only.split(text)
        return re.split(self.source.replace(_TEXT, _ANY_TEXT), text)

    def columns(self, parts: list[str | None]) -> Columns:
        """Pick the columns out of a split text."""
        count = len(parts) // self.stride
        nothing: Column = [None] * count
        return Columns(
            tuple(
                nothing if group is None else parts[group :: self.stride] for group in self.groups
            ),
            count,
        )


class Dialect:
    """How one edition writes records, as far as it has been seen. Safe to share by threads.

    Args:
        record_name: of the record's element, with its prefix.
        namespaces: the namespace of each prefix in scope; None is the default.
    """

    def __init__(self, record_name: str, namespaces: Mapping[str | None, str]) -> None:
        self._record_name = record_name
        self._namespaces = namespaces
        self._lock = threading.Lock()
        self._lessons = _Lessons()
        self._lessons_left = _LESSONS
        self._pattern: _Pattern | None = None

    def read(self, text: str) -> Columns | None:
        """Read a run of records that begins with one and ends in one; None if that fails."""
        while True:
            pattern = self._pattern
            missed = [text]
            if pattern is not None:
                parts = pattern.split(text)
                between = parts[:: pattern.stride]
                if not any(between):
                    return pattern.columns(parts)
                missed = [each for each in between if each]
            if not self._learn(missed, pattern):
                return None

    def _learn(self, texts: Sequence[str], known: _Pattern | None) -> bool:
        """Learn from the records that begin these texts; whether there is a new expression."""
        with self._lock:
            if self._pattern is not known:
                return True  # another thread was faster
            if not self._lessons_left:
                return False
            self._lessons_left -= 1
            lessons = copy.deepcopy(self._lessons)
            for text in texts[:_TAUGHT_AT_ONCE]:
                self._learn_run(text, lessons)
            try:
                pattern = self._compile(lessons)
            except (_NotPlainError, CycleError):
                return False
            if known is not None and pattern.source == known.source:
                return False
            self._lessons, self._pattern = lessons, pattern
            return True

    def _learn_run(self, text: str, lessons: _Lessons) -> None:
        """Note what records have, until one is not plain."""
        at = len(text) - len(text.lstrip(XML_WHITESPACE))
        lessons.has_gaps |= at > 0
        try:
            for _ in range(_TAUGHT_AT_ONCE):
                if at == len(text):
                    return
                record, at = _take_apart(text, at, self._record_name)
                if not record.nil_prefixes <= self._namespaces.keys():
                    return
                lessons.learn(record)
        except _NotPlainError:
            pass

    def _compile(self, lessons: _Lessons) -> _Pattern:
        """Write the expression for everything seen so far.

        Raises:
            CycleError: fields have no fixed order.
            _NotPlainError: a column has two names, a record lacks an id, a name may not be used.
        """
        gap = _GAP if lessons.has_gaps else ""
        group_of: dict[int, int] = {}

        def optional(kind: _Names, name: str, body: str) -> str:
            written = [re.escape(each) for each in kind.empty.get(name, ())]
            return f"(?:(?:{'|'.join([body, *written])}){gap})?"

        def leaf(kind: _Names, name: str, columns: Mapping[str, int]) -> str:
            column = self._column(name, columns)
            tag = re.escape(name)
            if column is None:
                return optional(kind, name, f"<{tag}>{_TEXT}</{tag}>")
            if column in group_of or (column in _REQUIRED and name in kind.empty):
                raise _NotPlainError
            group_of[column] = len(group_of) + 1
            body = f"<{tag}>({_TEXT})</{tag}>"
            return f"{body}{gap}" if column in _REQUIRED else optional(kind, name, body)

        def certificate(name: str) -> str:
            self._require_payload(name)
            inner = "".join(
                leaf(lessons.certificate, each, _COLUMN_OF_CERTIFICATE)
                for each in lessons.certificate.in_order()
            )
            tag = re.escape(name)
            return optional(lessons.record, name, f"<{tag}>{gap}{inner}</{tag}>")

        names = lessons.record.in_order()
        if len(names) + len(lessons.certificate.before) > _NAMES_CAP:
            raise _NotPlainError
        fields = "".join(
            certificate(name)
            if name == lessons.certificate_name
            else leaf(lessons.record, name, _COLUMN_OF_RECORD)
            for name in names
        )
        if not group_of.keys() >= _REQUIRED:
            raise _NotPlainError
        tag = re.escape(self._record_name)
        # White space is matched after the record: before it, each blank would begin a search.
        source = f"<{tag}>{gap}{fields}</{tag}>{gap}"
        return _Pattern(
            source,
            re.compile(source.replace(_TEXT, _ASCII_TEXT)),
            tuple(group_of.get(column) for column in range(len(FIELDS))),
            len(group_of) + 1,
        )

    def _column(self, name: str, columns: Mapping[str, int]) -> int | None:
        """Return the column of an element; None if it is of a name that nobody knows."""
        prefix, _, local = name.rpartition(":")
        if local == RECORD_ELEMENT or (prefix and prefix not in self._namespaces):
            raise _NotPlainError
        column = columns.get(local)
        if column is not None:
            self._require_payload(name)
        return column

    def _require_payload(self, name: str) -> None:
        prefix = name.rpartition(":")[0]
        namespace = self._namespaces.get(prefix) if prefix else self._namespaces.get(None, "")
        if namespace not in PAYLOAD_NAMESPACES:
            raise _NotPlainError
