"""Parse one document with everything dangerous off, and check that it is an answer of the service.

lxml settings as measured: no entities, no network, no DTD, no recovery, libxml2's own limits on
depth and text left on. They still accept a document type declaration and then drop text in
silence, so one is refused here as well as in the cutter.

Errors of libxml2 quote the document, and a document can quote the token: only their line is
repeated.
"""

import threading

from lxml import etree

from bulkfetch.errors import MalformedAnswerError
from bulkfetch.wire.fault import Fault, read_fault_element
from bulkfetch.wire.names import (
    ENVELOPE_NAMESPACES,
    FAULT_NAMESPACES,
    PAYLOAD_NAMESPACES,
    split_name,
)


class Parsers(threading.local):
    """One hardened parser for each thread: parsers must not be shared."""

    def __init__(self) -> None:
        self.parser = etree.XMLParser(
            resolve_entities=False,
            no_network=True,
            load_dtd=False,
            dtd_validation=False,
            huge_tree=False,
            recover=False,
            remove_comments=True,
            remove_pis=True,
            collect_ids=False,
        )


def parse(document: bytes, parsers: Parsers) -> etree._Element:
    """Parse one document and return its root.

    Raises:
        MalformedAnswerError: it is not well-formed, or has a document type declaration.
    """
    try:
        root = etree.fromstring(document, parsers.parser)
    except etree.XMLSyntaxError as error:
        message = f"The answer is not a whole, well-formed XML document (line {error.lineno})."
        raise MalformedAnswerError(message) from None
    tree = root.getroottree()
    if tree.docinfo.internalDTD is not None or tree.docinfo.doctype:
        raise MalformedAnswerError("The answer has a document type declaration: refused.")
    return root


def find_result(root: etree._Element, result_element: str) -> etree._Element | Fault:
    """Find the one result in an answer's envelope, or the Fault that stands in its place.

    Raises:
        MalformedAnswerError: the document is not an envelope with one body and one of the two.
    """
    namespace, local = split_name(root)
    if local != "Envelope" or namespace not in FAULT_NAMESPACES:
        raise MalformedAnswerError("The answer is not a SOAP envelope.")
    bodies = [child for child in root if split_name(child)[1] != "Header"]
    if (
        len(bodies) != 1
        or split_name(bodies[0]) not in {(namespace, "Body"), ("", "Body")}
        or len(bodies[0]) != 1
    ):
        raise MalformedAnswerError("The answer is not an envelope with one body and one result.")
    content = bodies[0][0]
    content_namespace, local = split_name(content)
    if local == "Fault" and content_namespace in FAULT_NAMESPACES | PAYLOAD_NAMESPACES:
        return read_fault_element(content)
    if (
        local != result_element
        or content_namespace not in PAYLOAD_NAMESPACES
        or namespace not in ENVELOPE_NAMESPACES
    ):
        raise MalformedAnswerError(f"The answer holds no {result_element}.")
    return content


def read_fault(document: bytes) -> Fault | None:
    """Read the Fault of an error answer, if its body holds one."""
    try:
        root = parse(document, Parsers())
        found = find_result(root, "")
    except MalformedAnswerError:
        return None
    return found if isinstance(found, Fault) else None
