"""Write request envelopes. Ids and token reach it only through an XML writer.

Sends the documented namespaces. An empty list is never written: the service may read it as "no
filter", which is the whole account.
"""

import unicodedata
from collections.abc import Sequence
from typing import Any, cast

from lxml import etree

from bulkfetch.errors import UsageError
from bulkfetch.wire.names import ENVELOPE_NAMESPACE, PAYLOAD_NAMESPACE

_NONCHARACTERS = frozenset("\ufffe\uffff")


def require_sendable(value: str, what: str) -> None:
    """Check that an id or a token can be sent as XML text, before anything is sent.

    Args:
        value: the id or token.
        what: what to call it in the error; the value itself is not repeated.

    Raises:
        UsageError: it is empty, or holds control characters or lone surrogates.
    """
    if not isinstance(value, str):
        raise UsageError(f"{what} is not text but {type(value).__name__}.")
    if not value.strip():
        raise UsageError(f"{what} is empty.")
    if value.isascii() and value.isprintable():
        return
    for position, character in enumerate(value):
        if unicodedata.category(character) in {"Cc", "Cs"} or character in _NONCHARACTERS:
            raise UsageError(
                f"{what} holds a control character (U+{ord(character):04X} at position "
                f"{position + 1}), which cannot be sent."
            )


def write_get_enrollments(
    token: str,
    learner_ids: Sequence[str] | None,
    course_ids: Sequence[str] | None,
    *,
    payload_namespace: str = PAYLOAD_NAMESPACE,
) -> bytes:
    """Write a GetEnrollmentsRequest; None leaves a filter out.

    Raises:
        UsageError: a given list is empty, or token or ids cannot be sent.
    """
    envelope, request = _open("GetEnrollments", token, payload_namespace)
    for element, what, ids in (
        ("courseIds", "A course id", course_ids),
        ("learnerIds", "A learner id", learner_ids),
    ):
        if ids is None:
            continue
        if not ids:
            raise UsageError(f"The list of {element} is empty: it could mean the whole account.")
        parent = etree.SubElement(request, f"{{{payload_namespace}}}{element}")
        for value in ids:
            require_sendable(value, what)
            etree.SubElement(parent, f"{{{payload_namespace}}}id").text = value
    return etree.tostring(envelope, encoding="utf-8", xml_declaration=True)


def write_listing(
    operation: str,
    token: str,
    page_size: int,
    page_token: str,
    *,
    payload_namespace: str = PAYLOAD_NAMESPACE,
) -> bytes:
    """Write a request for one page of a listing; an empty page token is the first page's.

    Raises:
        UsageError: token or page token cannot be sent.
    """
    envelope, request = _open(operation, token, payload_namespace)
    etree.SubElement(request, f"{{{payload_namespace}}}pageSize").text = str(page_size)
    if page_token:
        require_sendable(page_token, "The page token")
        etree.SubElement(request, f"{{{payload_namespace}}}pageToken").text = page_token
    return etree.tostring(envelope, encoding="utf-8", xml_declaration=True)


def _open(
    operation: str, token: str, payload_namespace: str
) -> tuple[etree._Element, etree._Element]:
    """Begin a request, and return the envelope and the element of the request in it."""
    require_sendable(token, "The token")
    prefixes: dict[str | None, str] = {"SOAP-ENV": ENVELOPE_NAMESPACE, None: payload_namespace}
    envelope = etree.Element(f"{{{ENVELOPE_NAMESPACE}}}Envelope", nsmap=cast("Any", prefixes))
    body = etree.SubElement(envelope, f"{{{ENVELOPE_NAMESPACE}}}Body")
    request = etree.SubElement(body, f"{{{payload_namespace}}}{operation}Request")
    credentials = etree.SubElement(request, f"{{{payload_namespace}}}credentials")
    etree.SubElement(credentials, f"{{{payload_namespace}}}token").text = token
    return envelope, request
