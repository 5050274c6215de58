"""Read one page of a listing of the account's users or content items.

Of a page only the ids are of interest, and the token of the next page. The document passes the same
cutter (encoding, document type) and the same parser as an answer with records; a page is small, so
that it is read whole, by walking it. What cannot be an answer is refused: the end of a listing is
a page that arrived whole and names no next one, and nothing else.
"""

from dataclasses import dataclass

from lxml import etree

from bulkfetch.errors import MalformedAnswerError, UsageError
from bulkfetch.plan.rectangle import Axis
from bulkfetch.wire.cutter import SliceCutter
from bulkfetch.wire.document import Parsers, find_result, parse
from bulkfetch.wire.envelope import require_sendable
from bulkfetch.wire.fault import Fault
from bulkfetch.wire.names import PAYLOAD_NAMESPACES, XML_WHITESPACE, XSI_NIL, split_name

PAGE_CAP_BYTES = 64 * 1024 * 1024
_LONGEST_ID = 1_000
_LONGEST_TOKEN = 64 * 1024
_NEXT = "nextPageToken"
_TRUE = frozenset({"true", "1"})


@dataclass(frozen=True, slots=True)
class Listing:
    """How a listing is called and what it answers: the names of the vendor's documentation."""

    operation: str
    result: str
    item: str
    id: str


LISTINGS = {
    Axis.LEARNERS: Listing("ListUsers", "GetUsersResult", "userProfile", "userId"),
    Axis.COURSES: Listing("ListContent", "GetContentResult", "contentItem", "contentItemId"),
}


@dataclass(frozen=True, slots=True)
class Page:
    """One page: its ids, each once, in their order; how many items it had; the next page's token.

    `next_token` is "" at the end of the listing.
    """

    ids: tuple[str, ...]
    items: int
    next_token: str


class PageReader:
    """Takes the chunks of one answer and reads the page. One use, in one thread."""

    def __init__(self, listing: Listing) -> None:
        self._listing = listing
        self._cutter = SliceCutter(slice_bytes=PAGE_CAP_BYTES + 1)  # nothing is cut off
        self._bytes = 0

    def feed(self, chunk: bytes) -> None:
        """Take the next bytes of the answer.

        Raises:
            MalformedAnswerError: they cannot be of an acceptable answer, or are too many.
        """
        self._bytes += len(chunk)
        if self._bytes > PAGE_CAP_BYTES:
            raise MalformedAnswerError(f"The page is larger than {PAGE_CAP_BYTES:,} bytes.")
        self._cutter.feed(chunk)

    def finish(self) -> Page | Fault:
        """Read the whole page.

        Raises:
            MalformedAnswerError: it is no whole, acceptable answer.
        """
        found = find_result(parse(self._cutter.finish(), Parsers()), self._listing.result)
        return found if isinstance(found, Fault) else self._read(found)

    def _read(self, result: etree._Element) -> Page:
        ids: dict[str, None] = {}
        items = 0
        next_token: str | None = None
        for element in result:
            namespace, local = split_name(element)
            if local == self._listing.item:
                _require_known(namespace, local)
                items += 1
                ids[self._read_id(element, items)] = None
            elif local == _NEXT:
                _require_known(namespace, local)
                if next_token is not None:
                    raise MalformedAnswerError(f"The page holds {local} more than once.")
                next_token = _value(element)
                if len(next_token) > _LONGEST_TOKEN:
                    raise MalformedAnswerError(f"The page's {local} is too long to be one.")
                if next_token:
                    _require_sendable(next_token, f"The page's {local}")
        return Page(tuple(ids), items, next_token or "")

    def _read_id(self, item: etree._Element, number: int) -> str:
        name = self._listing.id
        found: str | None = None
        for child in item:
            namespace, local = split_name(child)
            if local == name:
                _require_known(namespace, local)
                if found is not None:
                    raise MalformedAnswerError(f"Item {number} of the page holds {name} twice.")
                found = _value(child)
        if not found:
            raise MalformedAnswerError(f"Item {number} of the page has no {name}.")
        if len(found) > _LONGEST_ID:
            raise MalformedAnswerError(f"The {name} of item {number} is too long to be an id.")
        _require_sendable(found, f"The {name} of item {number}")
        return found


def _value(element: etree._Element) -> str:
    """Return an element's text without the white space around it; "" where it is nil."""
    if len(element):
        raise MalformedAnswerError(f"The value of {split_name(element)[1]} holds elements.")
    if element.get(XSI_NIL, "").strip() in _TRUE:
        return ""
    return (element.text or "").strip(XML_WHITESPACE)


def _require_known(namespace: str, local: str) -> None:
    if namespace not in PAYLOAD_NAMESPACES:
        raise MalformedAnswerError(f"The answer's {local} stands in an unknown namespace.")


def _require_sendable(value: str, what: str) -> None:
    try:
        require_sendable(value, what)
    except UsageError as error:
        raise MalformedAnswerError(str(error)) from None
