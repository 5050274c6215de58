"""Requests as written: whatever the ids hold arrives as it is, or is refused before sending."""

import xml.etree.ElementTree as ET

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bulkfetch.errors import UsageError
from bulkfetch.wire.envelope import require_sendable, write_get_enrollments

SAMPLE = """<?xml version="1.0" encoding="utf-8"?>
<SOAP-ENV:Envelope xmlns:SOAP-ENV="http://schemas.xmlsoap.org/soap/envelope/"
  xmlns="https://ispringlearn.com/go/services/api/soap">
  <SOAP-ENV:Body>
    <GetEnrollmentsRequest>
      <credentials>
        <token>p-1sJDjmULL5DdpXPJTcbm4jVIaWVHvNmrjAxATRbNE</token>
      </credentials>
      <courseIds>
        <id>146ac240-d54f-11e9-9b88-0a580af40973</id>
      </courseIds>
      <learnerIds>
        <id>8363b098-e031-11e9-89cf-0a580af40b0f</id>
      </learnerIds>
    </GetEnrollmentsRequest>
  </SOAP-ENV:Body>
</SOAP-ENV:Envelope>"""
SOAP = "{https://ispringlearn.com/go/services/api/soap}"

Shape = tuple[str, str, list["Shape"]]


def shape(element: ET.Element) -> Shape:
    text = "" if len(element) else element.text or ""
    return element.tag, text, [shape(child) for child in element]


def sent(body: bytes) -> tuple[str | None, list[str | None], list[str | None]]:
    root = ET.fromstring(body)
    return (
        root.findtext(f".//{SOAP}credentials/{SOAP}token"),
        [element.text for element in root.iterfind(f".//{SOAP}learnerIds/{SOAP}id")],
        [element.text for element in root.iterfind(f".//{SOAP}courseIds/{SOAP}id")],
    )


def test_the_request_is_the_documented_one() -> None:
    body = write_get_enrollments(
        "p-1sJDjmULL5DdpXPJTcbm4jVIaWVHvNmrjAxATRbNE",
        ["8363b098-e031-11e9-89cf-0a580af40b0f"],
        ["146ac240-d54f-11e9-9b88-0a580af40973"],
    )
    assert shape(ET.fromstring(body)) == shape(ET.fromstring(SAMPLE))
    assert body.startswith(b"<?xml version='1.0' encoding='utf-8'?>")


@pytest.mark.parametrize("learners", [None, ["l"]], ids=["all learners", "a learner"])
@pytest.mark.parametrize("courses", [None, ["c"]], ids=["all courses", "a course"])
def test_a_filter_left_out_is_no_element(
    learners: list[str] | None, courses: list[str] | None
) -> None:
    body = write_get_enrollments("t", learners, courses)
    assert (b"learnerIds" in body, b"courseIds" in body) == (bool(learners), bool(courses))


def test_another_payload_namespace_can_be_sent() -> None:
    body = write_get_enrollments("t", ["l"], None, payload_namespace="urn:x")
    assert ET.fromstring(body).findtext(".//{urn:x}learnerIds/{urn:x}id") == "l"


sendable = st.text(
    st.characters(exclude_categories=("Cs", "Cc"), exclude_characters="\ufffe\uffff")
    | st.sampled_from("<>&\"'] "),
    min_size=1,
).filter(lambda text: bool(text.strip()))


@settings(max_examples=150, deadline=None)
@given(sendable, st.lists(sendable, min_size=1), st.lists(sendable, min_size=1))
def test_ids_and_token_arrive_as_they_are(
    token: str, learners: list[str], courses: list[str]
) -> None:
    assert sent(write_get_enrollments(token, learners, courses)) == (token, learners, courses)


@pytest.mark.parametrize(
    "value", ["<&\"']]>", "<!--", "]]>", "</id><id>x</id>", "😀", "&amp;", "é\u2028", "\U0001fffe"]
)
def test_markup_in_an_id_stays_text(value: str) -> None:
    assert sent(write_get_enrollments(value, [value], [value])) == (value, [value], [value])


UNSENDABLE = [
    *(chr(code) for code in (*range(32), *range(0x7F, 0xA0))),
    "\ud800", "\udfff", "\udc80", "\ufffe", "\uffff",
]  # fmt: skip


@pytest.mark.parametrize("character", UNSENDABLE, ids=lambda c: f"U+{ord(c):04X}")
@pytest.mark.parametrize("where", ["token", "learner", "course"])
def test_a_control_character_is_refused_without_repeating_the_value(
    character: str, where: str
) -> None:
    value = f"SECRET{character}SECRET"
    with pytest.raises(UsageError) as caught:
        write_get_enrollments(
            value if where == "token" else "t",
            ["l", value if where == "learner" else "l"],
            ["c", value if where == "course" else "c"],
        )
    assert "SECRET" not in str(caught.value)
    assert character not in str(caught.value)
    assert where in str(caught.value)
    assert f"U+{ord(character):04X}" in str(caught.value)
    assert caught.value.__cause__ is None


@settings(max_examples=200, deadline=None)
@given(st.text(st.characters(), min_size=1))
def test_any_text_is_sent_exactly_or_is_a_usage_error(value: str) -> None:
    try:
        require_sendable(value, "A learner id")
    except UsageError:
        return
    assert sent(write_get_enrollments("t", [value], None))[1] == [value]


@pytest.mark.parametrize("value", ["", " ", "\u2003"])
def test_an_empty_id_is_refused(value: str) -> None:
    for token, learners, courses in (
        (value, ["l"], None),
        ("t", [value], None),
        ("t", None, [value]),
    ):
        with pytest.raises(UsageError, match="is empty"):
            write_get_enrollments(token, learners, courses)


@pytest.mark.parametrize("value", [None, 7, b"x", ["x"]], ids=["none", "int", "bytes", "list"])
def test_what_is_no_text_is_refused(value: object) -> None:
    with pytest.raises(UsageError, match="not text"):
        require_sendable(value, "A learner id")  # type: ignore[arg-type]


@pytest.mark.parametrize("empty", [[], ()], ids=["list", "tuple"])
def test_an_empty_list_is_refused(empty: list[str]) -> None:
    """It could be read as no filter, which is the whole account."""
    for learners, courses in ((empty, None), (None, empty), (empty, ["c"]), (["l"], empty)):
        with pytest.raises(UsageError, match="empty"):
            write_get_enrollments("t", learners, courses)
