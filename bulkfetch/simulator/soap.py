"""Requests read, envelopes written: text in and out, no I/O.

Reading is as lenient about editions as the vendor's documents are various (two envelope
namespaces; the payload's with http, with https, or none; any prefix) and strict about everything
else: what is not such a request is refused.
"""

from dataclasses import dataclass
from xml.sax.saxutils import escape

from lxml import etree

from bulkfetch.simulator.profile import Dialect

ENVELOPE_NAMESPACES = {
    "http": "http://schemas.xmlsoap.org/soap/envelope/",
    "https": "https://schemas.xmlsoap.org/soap/envelope/",
}
PAYLOAD_NAMESPACES = {
    "http": "http://ispringlearn.com/go/services/api/soap",
    "https": "https://ispringlearn.com/go/services/api/soap",
    "none": "",
}
OPERATIONS = ("GetEnrollments", "GetUsers", "ListUsers", "GetContent", "ListContent")
_XSI = "http://www.w3.org/2001/XMLSchema-instance"


class BadRequestError(ValueError):
    """The body is not a request of this service."""


@dataclass(frozen=True, slots=True)
class Request:
    """A request as the service understands it; an empty list of ids is no filter (None)."""

    operation: str
    token: str
    learner_ids: tuple[str, ...] | None = None
    course_ids: tuple[str, ...] | None = None
    page_size: int = 1000
    page_token: str = ""


def read_request(body: bytes) -> Request:
    """Read a SOAP request.

    Raises:
        BadRequestError: It is not XML, not SOAP, or not an operation of this service.
    """
    parser = etree.XMLParser(
        resolve_entities=False, no_network=True, remove_comments=True, remove_pis=True
    )
    try:
        root = etree.fromstring(body, parser)
    except etree.XMLSyntaxError as error:
        raise BadRequestError(f"not XML: {error}") from None
    if root.getroottree().docinfo.doctype:  # type: ignore[union-attr] # the stubs lack it
        raise BadRequestError("a DOCTYPE")
    soap_body = _only_child(root, "Envelope", "Body")
    if soap_body is None or len(soap_body) != 1:
        raise BadRequestError("not a SOAP envelope with one payload")
    payload = soap_body[0]
    name = etree.QName(payload)
    operation = name.localname.removesuffix("Request")
    operation = operation[:1].upper() + operation[1:]
    if (name.namespace or "") not in PAYLOAD_NAMESPACES.values() or operation not in OPERATIONS:
        raise BadRequestError(f"no operation {name.localname}")
    children = {etree.QName(child).localname: child for child in payload}
    credentials = children.get("credentials")
    tokens = () if credentials is None else _texts(credentials, "token")
    page_size = (children["pageSize"].text or "") if "pageSize" in children else "1000"
    if not page_size.isascii() or not page_size.isdigit() or not 1 <= int(page_size[:9]) <= 1000:  # noqa: PLR2004
        raise BadRequestError("pageSize must be from 1 to 1000")
    return Request(
        operation=operation,
        token=tokens[0] if tokens else "",
        learner_ids=_filter(children.get("learnerIds")),
        course_ids=_filter(children.get("courseIds")),
        page_size=int(page_size),
        page_token=(children["pageToken"].text or "") if "pageToken" in children else "",
    )


def _only_child(root: etree._Element, name: str, child_name: str) -> etree._Element | None:
    """Return the child of an element, both in one envelope namespace, or None."""
    for namespace in ENVELOPE_NAMESPACES.values():
        if root.tag == f"{{{namespace}}}{name}":
            found = root.findall(f"{{{namespace}}}{child_name}")
            return found[0] if len(found) == 1 else None
    return None


def _texts(parent: etree._Element, name: str) -> tuple[str, ...]:
    return tuple(child.text or "" for child in parent if etree.QName(child).localname == name)


def _filter(parent: etree._Element | None) -> tuple[str, ...] | None:
    return None if parent is None else _texts(parent, "id") or None


@dataclass(frozen=True, slots=True)
class Frame:
    """What stands before and after the rows of an answer."""

    head: str
    tail: str


def frame(dialect: Dialect, result: str, next_page_token: str = "") -> Frame:
    """Write the envelope around a result element, in the dialect's namespaces."""
    prefix = payload_prefix(dialect)
    one, two = line_breaks(dialect, 1, 2)
    page = ""
    if next_page_token:
        (three,) = line_breaks(dialect, 3)
        page = f"{three}<{prefix}nextPageToken>{next_page_token}</{prefix}nextPageToken>"
    return Frame(
        f"{_open_envelope(dialect)}{two}<{prefix}{result}>",
        f"{page}{two}</{prefix}{result}>{one}</SOAP-ENV:Body>"
        f"{line_breaks(dialect, 0)[0]}</SOAP-ENV:Envelope>",
    )


def fault_message(dialect: Dialect, text: str, code: str = "client") -> str:
    """Write a SOAP fault. The documentation's `faultcode` is lower-case and without a prefix."""
    zero, one, two, three = line_breaks(dialect, 0, 1, 2, 3)
    return (
        f"{_open_envelope(dialect)}{two}<SOAP-ENV:Fault>"
        f"{three}<faultcode>{code}</faultcode>{three}<faultstring>{escape_text(text)}</faultstring>"
        f"{two}</SOAP-ENV:Fault>{one}</SOAP-ENV:Body>{zero}</SOAP-ENV:Envelope>"
    )


def _open_envelope(dialect: Dialect) -> str:
    declaration = '<?xml version="1.0" encoding="UTF-8"?>' if dialect.xml_declaration else ""
    envelope = ENVELOPE_NAMESPACES[dialect.envelope_namespace]
    payload = PAYLOAD_NAMESPACES[dialect.payload_namespace]
    # The 2019 edition declares a prefix for the payload and then does not use it.
    name = "xmlns" if dialect.prefix == "default" else "xmlns:ns1"
    declared = f' {name}="{payload}"' if payload else ""
    nil = f' xmlns:xsi="{_XSI}"' if dialect.empty_elements == "nil" else ""
    zero, one = line_breaks(dialect, 0, 1)
    return (
        f'{declaration}{zero if declaration else ""}<SOAP-ENV:Envelope xmlns:SOAP-ENV="{envelope}"'
        f"{declared}{nil}>{one}<SOAP-ENV:Body>"
    )


def payload_prefix(dialect: Dialect) -> str:
    """Return what stands before the names of payload elements."""
    return "ns1:" if dialect.prefix == "ns1" else ""


def line_breaks(dialect: Dialect, *depths: int) -> tuple[str, ...]:
    """Return the white space before an element at each depth: none unless pretty."""
    return tuple("\n" + "  " * depth if dialect.pretty else "" for depth in depths)


def escape_text(text: str) -> str:
    """Escape a text for element content; a bare carriage return would be read as a line feed."""
    return escape(text, {"\r": "&#13;"})
