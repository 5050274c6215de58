"""Any answer that XML allows, in any dialect and any chunks, reads as the whole document does."""

from collections.abc import Callable, Iterator
from random import Random
from xml.sax.saxutils import escape, quoteattr

import pytest
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st

from bulkfetch.wire.flatten import Flat, Flattener

PAYLOADS = (
    "https://ispringlearn.com/go/services/api/soap",
    "http://ispringlearn.com/go/services/api/soap",
    "",
)
ENVELOPES = (
    "http://schemas.xmlsoap.org/soap/envelope/",
    "https://schemas.xmlsoap.org/soap/envelope/",
    "",
)
XSI = "http://www.w3.org/2001/XMLSchema-instance"
STRANGE = "urn:something:new"

DATES = ("2022-07-14", "2022-07-14T23:30:00-05:00", "2022-02-30", "0001-01-01T00:00:00+03:00")
STAMPS = (
    "2022-07-15T07:19:00+00:00",
    "2022-07-15T07:19:00.75-14:00",
    "2022-07-15 07:19",
    "2022-07-15",
    "yesterday",
)
VALUES = {
    "accessDate": DATES,
    "dueDate": DATES,
    "expirationDate": DATES,
    "shouldLockAfterDueDate": ("0", "1", "true", "false", "TRUE", "yes"),
    "enrollmentTypeGroup": ("0", "1", "-128", "128", "+7", "x"),
    "issuedCertificateId": ("k1", "k 2", "\u00a0", "=1+1"),
    "issueDate": STAMPS,
    "expiryDate": STAMPS,
}
NAMES_OF = {
    "issueDate": ("issueDate", "certIssueDate"),
    "expiryDate": ("expiryDate", "certExpiryDate"),
}
TRAPS = ("</enrollment>", "<enrollment>", "</p:enrollment>", "<!DOCTYPE x>", "</", "<", "!", "?")
COMMENTS = (*TRAPS, "", "-> </enrollment>", "]]>", "<![CDATA[", "?>", "<?", "> - ")
INSTRUCTIONS = (*TRAPS, "> </enrollment>", "-->", "<!--", "]]>", "<![CDATA[", "? >")
SECTIONS = (
    *TRAPS,
    "",
    "]> </enrollment>",
    "> ]]</enrollment>",
    "-->",
    "<!--",
    "?>",
    "<?x",
    "]]",
    "]>",
)

ids = st.text(
    st.one_of(
        st.characters(exclude_categories=("Cs", "Cc"), exclude_characters="\ufffe\uffff"),
        st.sampled_from("\t\n\r <>&'\"]=😀\u2028\u0085\ufeff"),
    ),
    min_size=1,
    max_size=12,
).filter(lambda text: text.strip(" \t\r\n"))

examples = settings(max_examples=600, deadline=None, suppress_health_check=[HealthCheck.too_slow])


Ids = tuple[str, str, str]


class Writer:
    """Writes one answer, choosing at random wherever XML and the editions leave a choice."""

    def __init__(self, random: Random, *, plain: bool, broken: bool) -> None:
        self.random = random
        self.plain = plain
        self.broken = broken
        self.envelope = random.choice(ENVELOPES)
        self.payload = random.choice(PAYLOADS)
        self.nested = random.random() < 0.7
        self.parts: list[str] = []

    def maybe(self, chance: float) -> bool:
        return not self.plain and self.random.random() < chance

    def misc(self, *, in_content: bool = True, text: bool = True) -> None:
        """Write white space, and perhaps what a reader must look past.

        Sections are only white space where no text may stand.
        """
        self.parts.append(self.random.choice(("", "\n", "\r\n  ", "\t")))
        while self.maybe(0.15):
            kind = self.random.choice("ci" + "s" * in_content)
            if kind == "c":
                self.parts.append(f"<!--{self.random.choice(COMMENTS)}-->")
            elif kind == "i":
                self.parts.append(f"<?pi {self.random.choice(INSTRUCTIONS)}?>")
            else:
                section = self.random.choice(SECTIONS if text else ("", " ", "\n\t"))
                self.parts.append(f"<![CDATA[{section}]]>")

    def value(self, text: str) -> None:
        """Write a text in one of its many spellings."""
        position = 0
        while position < len(text):
            piece = text[position : position + self.random.randint(1, 8)]
            position += len(piece)
            if self.maybe(0.1):
                self.parts.append(f"<!--{self.random.choice(COMMENTS)}-->")
            if self.maybe(0.1):
                self.parts.append(f"<?pi {self.random.choice(INSTRUCTIONS)}?>")
            if self.maybe(0.2) and "]]>" not in piece and "\r" not in piece:
                self.parts.append(f"<![CDATA[{piece}]]>")
            elif self.maybe(0.2):
                self.parts.append("".join(f"&#x{ord(character):x};" for character in piece))
            else:
                self.parts.append(escape(piece, {"\r": "&#13;"}))

    def element(
        self,
        namespace: str,
        local: str,
        scope: dict[str, str],
        body: Callable[[dict[str, str]], None] | None,
        attributes: str = "",
    ) -> None:
        """Write an element under a prefix in scope or a new one; no body makes it self-closing."""
        scope = dict(scope)
        bound = [prefix for prefix, uri in scope.items() if uri == namespace]
        if not bound or self.maybe(0.2):
            prefix = "" if not namespace else self.random.choice(("", "a", "b", "ns1", "é"))
            scope[prefix] = namespace
            attributes += f" xmlns{':' if prefix else ''}{prefix}={quoteattr(namespace)}"
        else:
            prefix = bound[0] if self.plain else self.random.choice(bound)
        name = f"{prefix}:{local}" if prefix else local
        if body is None:
            self.parts.append(f"<{name}{attributes}/>")
            return
        gap = self.random.choice(("", " ", "\n")) if self.maybe(0.3) else ""
        self.parts.append(f"<{name}{attributes}{gap}>")
        body(scope)
        self.parts.append(f"</{name}{gap}>")

    def stranger(self, scope: dict[str, str]) -> None:
        """Write an element that nobody knows, with children and attributes of its own."""

        def inside(scope: dict[str, str]) -> None:
            self.misc()
            self.value(self.random.choice(("", "new", "0")))
            if self.maybe(0.4):
                self.stranger(scope)
            if self.maybe(0.2):
                self.element(STRANGE, "enrollmentId", scope, lambda _: self.value("no"))

        self.element(
            self.random.choice((self.payload, STRANGE)),
            self.random.choice(("progress", "enrollments", "id")),
            scope,
            inside if self.maybe(0.8) else None,
            self.random.choice(("", ' x="</>"', " when='\">'", ' x="a>b"')).replace("<", "&lt;"),
        )

    def field(self, local: str, text: str, scope: dict[str, str]) -> None:
        attributes = ""
        if self.maybe(0.05):
            required = local in {"enrollmentId", "courseId", "learnerId"}
            nil = "false" if required else self.random.choice(("true", "1", "false", " true "))
            attributes = f' xmlns:i="{XSI}" i:nil="{nil}"'
        if self.maybe(0.05):
            attributes += ' note="=2"'
        namespace = self.random.choice(PAYLOADS) if self.maybe(0.03) else self.payload
        empty = not text and self.maybe(0.5)
        self.element(
            namespace, local, scope, None if empty else lambda _: self.value(text), attributes
        )
        if self.broken and self.maybe(0.05):
            self.element(namespace, local, scope, lambda _: self.value(text))

    def record(self, texts: Ids, scope: dict[str, str]) -> None:  # noqa: C901 - a choice a line
        def fields(names: list[str]) -> list[tuple[str, str]]:
            kept = [name for name in names if self.random.random() < 0.6]
            return [
                (
                    self.random.choice(NAMES_OF.get(name, (name,))) if not self.plain else name,
                    self.random.choice(("", " "))
                    if self.maybe(0.1)
                    # A plain answer is one that can be printed: nothing in it holds a space.
                    else self.random.choice(
                        [v for v in VALUES[name] if not self.plain or " " not in v]
                    ),
                )
                for name in kept
            ]

        sent = list(zip(("enrollmentId", "courseId", "learnerId"), texts, strict=True))
        sent += fields(list(VALUES)[:5])
        certificate = fields(list(VALUES)[5:])
        nested = self.nested if not self.maybe(0.2) else self.random.random() < 0.5
        if not nested:
            sent += certificate
        if not self.plain:
            self.random.shuffle(sent)

        def inside_certificate(scope: dict[str, str]) -> None:
            for local, text in certificate:
                self.misc()
                self.field(local, text, scope)
            if self.maybe(0.1):
                self.stranger(scope)
            self.misc()

        def inside(scope: dict[str, str]) -> None:
            where = self.random.randint(0, len(sent)) if not self.plain else len(sent)
            for position, (local, text) in enumerate([*sent, ("", "")]):
                self.misc()
                if nested and position == where and (certificate or self.maybe(0.3)):
                    nil = f' xmlns:i="{XSI}" i:nil="true"' if self.maybe(0.05) else ""
                    self.element(self.payload, "certificate", scope, inside_certificate, nil)
                if self.maybe(0.07):
                    self.stranger(scope)
                if local:
                    self.field(local, text, scope)

        note = ' note="a>b"' if self.maybe(0.1) else ""
        namespace = STRANGE if self.broken and self.maybe(0.05) else self.payload
        self.element(namespace, "enrollment", scope, inside, note)

    def write(self, records: list[Ids]) -> bytes:
        self.parts.append(self.random.choice(("", "\ufeff")) if self.maybe(0.3) else "")
        self.parts.append(
            self.random.choice(
                (
                    "",
                    "<?xml version='1.0'?>",
                    '<?xml version="1.0" encoding="UTF-8"?>',
                    "<?xml version = '1.0' encoding='utf-8' standalone='yes' ?>",
                )
            )
        )
        self.misc(in_content=False)

        def result(scope: dict[str, str]) -> None:
            for texts in records:
                self.misc(text=self.broken)
                if self.broken and self.maybe(0.1):
                    self.stranger(scope)
                self.record(texts, scope)
            self.misc(text=self.broken)
            if self.broken and self.maybe(0.2):
                self.element(self.payload, "nextPageToken", scope, lambda _: self.value("t"))

        def body(scope: dict[str, str]) -> None:
            self.misc()
            self.element(self.payload, "GetEnrollmentsResult", scope, result)
            self.misc()

        def envelope(scope: dict[str, str]) -> None:
            self.misc()
            if self.maybe(0.4):
                self.element(self.envelope, "Header", scope, self.stranger)
            self.misc()
            self.element(self.envelope, "Body", scope, body)
            self.misc()

        self.element(self.envelope, "Envelope", {"": ""}, envelope)
        self.misc(in_content=False)
        return "".join(self.parts).encode()


@st.composite
def answers(draw: st.DrawFn) -> tuple[bytes, bool]:
    random = draw(st.randoms(use_true_random=True))
    plain, broken = draw(st.sampled_from([(False, False), (True, False), (False, True)]))
    texts = st.text("abcdef0123456789-é=", min_size=1, max_size=8) if plain else ids
    records = draw(st.lists(st.tuples(texts, texts, texts), max_size=6))
    return Writer(random, plain=plain, broken=broken).write(records), broken


def chunks_of(document: bytes, random: Random) -> Iterator[bytes]:
    largest = random.choice((1, 7, 60, len(document)))
    position = 0
    while position < len(document):
        size = random.randint(1, largest)
        yield document[position : position + size]
        position += size


@examples
@given(answers(), st.sampled_from([1, 80, 400, 2_000, 10**6]), st.randoms(use_true_random=True))
def test_every_way_of_reading_equals_the_plain_reading(
    read_plainly: Callable[[bytes], object],
    read_every_way: Callable[[Iterator[bytes], int], object],
    answer: tuple[bytes, bool],
    slice_bytes: int,
    random: Random,
) -> None:
    document, broken = answer
    expected = read_plainly(document)
    assert broken or expected is not None, "the generator wrote what the rules refuse"
    event("refused" if expected is None else "read")
    assert read_every_way(chunks_of(document, random), slice_bytes) == expected


@pytest.mark.parametrize("payload", PAYLOADS, ids=["https", "http", "no namespace"])
@pytest.mark.parametrize("nested", [True, False], ids=["nested", "flat"])
def test_a_plain_answer_is_printed_by_the_stylesheet(payload: str, *, nested: bool) -> None:
    writer = Writer(Random(5), plain=True, broken=False)
    writer.payload = payload
    writer.nested = nested
    document = writer.write([(f"e{i}", f"c{i}", f"l{i}") for i in range(20)])
    found = Flattener(walked_bytes=0).flatten(document)
    assert isinstance(found, Flat)
    assert found.count == 20


def test_an_id_of_a_megabyte_is_read(
    answer: Callable[..., bytes],
    read_plainly: Callable[[bytes], tuple[list[tuple[str, ...]], object]],
    read_every_way: Callable[[Iterator[bytes]], object],
) -> None:
    long = "=é" * 500_000
    document = answer(3).replace(b">l1<", f">{long}<".encode())
    expected = read_plainly(document)
    assert expected[0][1][2] == long
    chunks = (document[i : i + 65_536] for i in range(0, len(document), 65_536))
    assert read_every_way(chunks) == expected
