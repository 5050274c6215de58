"""Write request envelopes.

As text: what the caller gives is checked and escaped by the standard library, and so arrives as it
is. Building a tree of a hundred ids takes ten times as long.

Sends the documented namespaces. An empty list is never written: the service may read it as "no
filter", which is the whole account.
"""

import functools
import unicodedata
from collections.abc import Sequence
from xml.sax.saxutils import escape, quoteattr

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


def _require_all_sendable(ids: Sequence[str], what: str) -> None:
    """Do as `require_sendable` for each; nearly always in a few steps for all of them."""
    try:
        together = "".join(ids)
        are_plain = together.isascii() and together.isprintable() and all(map(str.strip, ids))
    except TypeError:
        are_plain = False
    if not are_plain:
        for value in ids:
            require_sendable(value, what)


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
    lists = []
    for element, what, ids in (
        ("courseIds", "A course id", course_ids),
        ("learnerIds", "A learner id", learner_ids),
    ):
        if ids is None:
            continue
        if not ids:
            raise UsageError(f"The list of {element} is empty: it could mean the whole account.")
        _require_all_sendable(ids, what)
        # No sendable id holds a line end, so all of a list can be escaped at once.
        written = escape("\n".join(ids)).replace("\n", "</id><id>")
        lists.append(f"<{element}><id>{written}</id></{element}>")
    return _write("GetEnrollments", token, "".join(lists), payload_namespace)


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
    content = f"<pageSize>{page_size}</pageSize>"
    if page_token:
        require_sendable(page_token, "The page token")
        content += f"<pageToken>{escape(page_token)}</pageToken>"
    return _write(operation, token, content, payload_namespace)


def _write(operation: str, token: str, content: str, payload_namespace: str) -> bytes:
    """Write a request around its content, which is written already."""
    opening, closing = _frame(operation, token, payload_namespace)
    return f"{opening}{content}{closing}".encode()


@functools.lru_cache(maxsize=4)
def _frame(operation: str, token: str, payload_namespace: str) -> tuple[str, str]:
    """Return what stands before a request's content, and after: the same while a token lives."""
    require_sendable(token, "The token")
    opening = (
        "<?xml version='1.0' encoding='utf-8'?>\n"
        f'<SOAP-ENV:Envelope xmlns:SOAP-ENV="{ENVELOPE_NAMESPACE}"'
        f" xmlns={quoteattr(payload_namespace)}><SOAP-ENV:Body><{operation}Request>"
        f"<credentials><token>{escape(token)}</token></credentials>"
    )
    return opening, f"</{operation}Request></SOAP-ENV:Body></SOAP-ENV:Envelope>"
