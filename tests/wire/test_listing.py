"""Pages of listings: read in every dialect and spelling, refused unless they arrived whole."""

import xml.etree.ElementTree as ET
from random import Random
from xml.sax.saxutils import escape

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bulkfetch.errors import MalformedAnswerError
from bulkfetch.plan.rectangle import Axis
from bulkfetch.wire.fault import Fault
from bulkfetch.wire.listing import LISTINGS, Page, PageReader

ENVELOPES = (
    "http://schemas.xmlsoap.org/soap/envelope/",
    "https://schemas.xmlsoap.org/soap/envelope/",
    "",
)
PAYLOADS = (
    "https://ispringlearn.com/go/services/api/soap",
    "http://ispringlearn.com/go/services/api/soap",
    "",
)
USERS = LISTINGS[Axis.LEARNERS]
ids = st.text(
    st.characters(exclude_categories=("Cs", "Cc"), exclude_characters="\ufffe\uffff"),
    min_size=1,
    max_size=10,
).filter(lambda text: text.strip(" \t\r\n") == text and text.strip())
examples = settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def read(*chunks: bytes, axis: Axis = Axis.LEARNERS) -> Page | Fault:
    reader = PageReader(LISTINGS[axis])
    for chunk in chunks:
        reader.feed(chunk)
    return reader.finish()


class Writer:
    """Writes a page, choosing wherever XML and the editions leave a choice."""

    def __init__(self, random: Random, axis: Axis) -> None:
        self.random = random
        self.listing = LISTINGS[axis]
        self.envelope, self.payload = random.choice(ENVELOPES), random.choice(PAYLOADS)
        self.prefix = random.choice(["", "p:"]) if self.payload else ""
        self.soap = "s:" if self.envelope else ""

    def space(self) -> str:
        extras = ("<!-- </userProfile> <x -->", "<?pi <nextPageToken>?>", "")
        return self.random.choice(["", "\n  ", "\t"]) + self.random.choice(extras)

    def text(self, text: str) -> str:
        """Write a text in one of its many spellings, with white space around it or none."""
        spelled = "".join(
            self.random.choice(
                [
                    escape(character),
                    escape(character),
                    f"&#{ord(character)};",
                    f"&#x{ord(character):x};",
                    f"<![CDATA[{character}]]>",
                ]
            )
            for character in text
        )
        around = self.random.choice(["", " ", "\n    "])
        return f"{around}{spelled}{around}"

    def element(self, name: str, content: str) -> str:
        name = self.prefix + name
        return f"<{name}{self.random.choice(['', ' '])}>{content}</{name}>"

    def item(self, unit: str) -> str:
        """Write an item, whose other fields may hold a decoy of its id deeper down."""
        parts = [self.element(self.listing.id, self.text(unit))]
        if self.random.random() < 0.5:
            decoy = self.element(self.listing.id, "decoy")
            parts.append(self.element("fields", self.element("field", decoy)))
        if self.random.random() < 0.5:
            parts.append(self.element("email", "a@b.example"))
        self.random.shuffle(parts)
        return self.element(self.listing.item, self.space().join(parts))

    def page(self, units: list[str], next_token: str | None) -> bytes:
        parts = [self.item(unit) for unit in units]
        if next_token is not None:
            token = self.element("nextPageToken", self.text(next_token))
            parts.insert(self.random.choice([0, len(parts)]), token)
        content = self.space() + self.space().join(parts) + self.space()
        # Declared on the result where the envelope stands in no namespace at all.
        declared = f' xmlns{":p" if self.prefix else ""}="{self.payload}"' if self.payload else ""
        result = self.prefix + self.listing.result
        declaration = self.random.choice(["", '<?xml version="1.0" encoding="UTF-8"?>\n'])
        soap = self.soap
        names = f' xmlns:s="{self.envelope}"' if soap else ""
        return (
            f"{declaration}<{soap}Envelope{names}>{self.space()}<{soap}Body>"
            f"<{result}{declared}>{content}</{result}></{soap}Body></{soap}Envelope>"
        ).encode()


@examples
@given(
    seed=st.integers(0, 2**32),
    axis=st.sampled_from(list(Axis)),
    units=st.lists(ids, max_size=6),
    next_token=st.one_of(st.none(), st.just(""), ids),
    chunk_bytes=st.sampled_from([1, 7, 64, 10_000]),
)
def test_a_page_in_any_dialect_and_any_chunks_is_read(
    seed: int, axis: Axis, units: list[str], next_token: str | None, chunk_bytes: int
) -> None:
    document = Writer(Random(seed), axis).page(units, next_token)
    ET.fromstring(document)  # well-formed by another parser
    chunks = [document[at : at + chunk_bytes] for at in range(0, len(document), chunk_bytes)]
    page = read(*chunks, axis=axis)
    assert page == Page(tuple(dict.fromkeys(units)), len(units), next_token or "")


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("next_token", [None, "t2"])
def test_a_page_cut_at_any_byte_is_refused(seed: int, next_token: str | None) -> None:
    """So a page that lost its tail is never the end of a listing."""
    document = Writer(Random(seed), Axis.LEARNERS).page(["u1", "u2", "u3"], next_token)
    assert read(document) == Page(("u1", "u2", "u3"), 3, next_token or "")
    for end in range(len(document.rstrip())):
        with pytest.raises(MalformedAnswerError):
            read(document[:end])


def page(content: str, result: str = "GetUsersResult", payload: str = PAYLOADS[0]) -> bytes:
    return (
        f'<s:Envelope xmlns:s="{ENVELOPES[0]}" xmlns="{payload}" '
        'xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance">'
        f"<s:Body><{result}>{content}</{result}></s:Body></s:Envelope>"
    ).encode()


USER = "<userProfile><userId>u</userId></userProfile>"


@pytest.mark.parametrize(
    ("content", "next_token"),
    [
        ("", ""),
        ("<nextPageToken/>", ""),
        ("<nextPageToken> </nextPageToken>", ""),
        ('<nextPageToken xsi:nil="true"/>', ""),
        ('<nextPageToken xsi:nil="1">t</nextPageToken>', ""),
        ("<nextPageToken>t&amp;u=</nextPageToken>", "t&u="),
    ],
)
def test_the_end_is_a_page_that_names_no_next_one(content: str, next_token: str) -> None:
    assert read(page(USER + content)) == Page(("u",), 1, next_token)


@pytest.mark.parametrize(
    "document",
    [
        b"",
        b"   \n",
        b"<html><body>Sign in</body></html>",
        b'<!DOCTYPE html><html lang="en"><body>Down for maintenance</body></html>',
        b'{"error": "none"}',
        b"PK\x03\x04",
        page(USER, result="GetContentResult"),
        page(USER, result="GetEnrollmentsResult"),
        page(USER, payload="urn:unknown"),
        page("<userProfile/>"),
        page("<userProfile><userId/></userProfile>"),
        page("<userProfile><userId> </userId></userProfile>"),
        page("<userProfile><userId>&#160;</userId></userProfile>"),
        page("<userProfile><userId>a</userId><userId>b</userId></userProfile>"),
        page("<userProfile><userId><b>a</b></userId></userProfile>"),
        page("<userProfile><userId>a&#9;b</userId></userProfile>"),
        page(f"<userProfile><userId>{'x' * 1_001}</userId></userProfile>"),
        page(f"{USER}<nextPageToken>a</nextPageToken><nextPageToken>b</nextPageToken>"),
        page(f"{USER}<nextPageToken><id>a</id></nextPageToken>"),
        page(f"{USER}<nextPageToken>{'x' * 70_000}</nextPageToken>"),
        page(f'{USER}<nextPageToken xmlns="urn:x">a</nextPageToken>'),
        page(f'<userProfile xmlns="urn:x"><userId xmlns="{PAYLOADS[0]}">a</userId></userProfile>'),
        page(USER).replace(b"<s:Body>", b"<s:Body/><s:Body>"),
        page(USER)[:-1],
        page(USER) + b"<more/>",
        b"<!DOCTYPE s:Envelope>" + page(USER),
        b'<?xml version="1.1"?>' + page(USER),
        b'<?xml version="1.0" encoding="UTF-16"?>' + page(USER),
        page(USER).decode().encode("utf-16"),
        page(USER).replace(b">u<", b">\xff<"),
        page(USER.replace(">u<", ">&e;<")),
    ],
)
def test_what_is_no_whole_page_is_refused(document: bytes) -> None:
    with pytest.raises(MalformedAnswerError):
        read(document)


def test_a_page_over_the_cap_is_refused_while_it_arrives() -> None:
    reader = PageReader(USERS)
    reader.feed(page(USER)[:-100])
    with pytest.raises(MalformedAnswerError, match="larger than"):
        for _ in range(70):
            reader.feed(b" " * 1024 * 1024)


def test_a_fault_is_a_fault_whatever_was_listed() -> None:
    document = page("").replace(
        b"<GetUsersResult></GetUsersResult>",
        b"<s:Fault><faultcode>client</faultcode><faultstring>Wrong parameters</faultstring>"
        b"</s:Fault>",
    )
    assert read(document) == Fault("client", "Wrong parameters")


def test_courses_are_content_items() -> None:
    document = page(
        "<contentItem><contentItemId>c1</contentItemId><title>x</title></contentItem>"
        "<contentItem><contentItemId>c1</contentItemId></contentItem>",
        result="GetContentResult",
    )
    assert read(document, axis=Axis.COURSES) == Page(("c1",), 2, "")
