"""Read a SOAP Fault: SOAP 1.1 as documented, SOAP 1.2 because gateways answer so."""

from dataclasses import dataclass

from lxml import etree

from bulkfetch.wire.names import XML_WHITESPACE, split_name


@dataclass(frozen=True, slots=True)
class Fault:
    """A SOAP Fault as sent: `code` without its prefix, `text` as is. Not safe to print."""

    code: str
    text: str

    def says(self, *phrases: str) -> bool:
        """Whether the text is one of `phrases`, whatever the case and surrounding white space."""
        return self.text.strip(XML_WHITESPACE + ".").casefold() in phrases

    def announces(self, phrase: str, *, most_words: int = 0) -> bool:
        """Whether the text is a phrase, perhaps behind one word: `Error: Permission denied`.

        At most so many words may follow: `Authorization failed abc`. A longer text speaks of
        something else, such as of a record that the role may not see.
        """
        text = self.text.strip(XML_WHITESPACE + ".").casefold()
        introduction, _, rest = text.partition(":")
        if len(introduction.split()) == 1 and rest:
            text = rest.strip()
        detail = text.removeprefix(phrase)
        is_said = text.startswith(phrase) and not detail[:1].isalnum()
        return is_said and len(detail.strip(": ").split()) <= most_words


def read_fault_element(element: etree._Element) -> Fault:
    """Read a Fault element, whose name and place the caller has checked."""
    code = text = ""
    for node in element.iter(etree.Element):
        local = split_name(node)[1]
        content = (node.text or "").strip(XML_WHITESPACE)
        if local in {"faultcode", "Value"} and not code:
            code = content.rpartition(":")[2]
        elif local in {"faultstring", "Text"} and not text:
            text = content
    return Fault(code, text)
