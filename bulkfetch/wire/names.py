"""Namespaces of the wire, and names split from them.

The vendor's editions differ: with `https://` or `http://`, or with no namespace at all. The
documented ones are sent, all of these are accepted, everything else is an unexpected document.
"""

from lxml import etree

PAYLOAD_NAMESPACE = "https://ispringlearn.com/go/services/api/soap"
ENVELOPE_NAMESPACE = "http://schemas.xmlsoap.org/soap/envelope/"

PAYLOAD_NAMESPACES = frozenset(
    {PAYLOAD_NAMESPACE, "http://ispringlearn.com/go/services/api/soap", ""}
)
ENVELOPE_NAMESPACES = frozenset(
    {ENVELOPE_NAMESPACE, "https://schemas.xmlsoap.org/soap/envelope/", ""}
)
# Faults are read under SOAP 1.2's namespace too: whoever answers so has not sent data.
FAULT_NAMESPACES = ENVELOPE_NAMESPACES | {"http://www.w3.org/2003/05/soap-envelope"}

XSI_NIL = "{http://www.w3.org/2001/XMLSchema-instance}nil"
XML_WHITESPACE = " \t\r\n"


def split_name(element: etree._Element) -> tuple[str, str]:
    """Split an element's name into namespace ("" for none) and local name."""
    tag = str(element.tag)
    if tag.startswith("{"):
        namespace, _, local = tag[1:].partition("}")
        return namespace, local
    return "", tag
