"""Faults as services and their gateways write them."""

import pytest

from bulkfetch.errors import MalformedAnswerError
from bulkfetch.wire.cutter import SliceCutter
from bulkfetch.wire.decode import ObjectDecoder, decode_document
from bulkfetch.wire.document import read_fault
from bulkfetch.wire.fault import Fault
from bulkfetch.wire.flatten import Flattener

V11 = "http://schemas.xmlsoap.org/soap/envelope/"
V12 = "http://www.w3.org/2003/05/soap-envelope"
DOCUMENTED = f"""<?xml version="1.0" encoding="UTF-8"?>
<SOAP-ENV:Envelope xmlns:SOAP-ENV="{V11}" xmlns="http://ispringlearn.com/go/services/api/soap">
  <SOAP-ENV:Body>
    <SOAP-ENV:Fault>
      <faultcode>client</faultcode>
      <faultstring>Wrong parameters</faultstring>
    </SOAP-ENV:Fault>
  </SOAP-ENV:Body>
</SOAP-ENV:Envelope>"""


def enveloped(fault: str, namespace: str = V11) -> str:
    return f'<s:Envelope xmlns:s="{namespace}"><s:Body>{fault}</s:Body></s:Envelope>'


V12_FAULT = (
    "<s:Fault><s:Code><s:Value>s:Sender</s:Value><s:Subcode><s:Value>m:Other</s:Value></s:Subcode>"
    "</s:Code><s:Reason><s:Text xml:lang='en'>Permission denied</s:Text>"
    "<s:Text xml:lang='de'>Verboten</s:Text></s:Reason></s:Fault>"
)


@pytest.mark.parametrize(
    ("body", "fault"),
    [
        pytest.param(DOCUMENTED, Fault("client", "Wrong parameters"), id="documented"),
        pytest.param(DOCUMENTED.replace(V11, V11.replace("http", "https")),
                     Fault("client", "Wrong parameters"), id="https envelope"),
        pytest.param(DOCUMENTED.replace("client", "SOAP-ENV:Client"),
                     Fault("Client", "Wrong parameters"), id="prefixed code"),
        pytest.param(DOCUMENTED.replace("client", "\n  a:b:Server.x \t"),
                     Fault("Server.x", "Wrong parameters"), id="code in white space"),
        pytest.param(enveloped(V12_FAULT, V12), Fault("Sender", "Permission denied"), id="1.2"),
        pytest.param("<Envelope><Body><Fault><faultstring>x</faultstring></Fault></Body></Envelope>",
                     Fault("", "x"), id="no namespace, no code"),
        pytest.param(enveloped("<s:Fault/>"), Fault("", ""), id="empty"),
        pytest.param(enveloped("<s:Fault><faultcode/><faultstring> \n</faultstring></s:Fault>"),
                     Fault("", ""), id="blank"),
        pytest.param(enveloped("<s:Fault><faultcode>c</faultcode><faultstring><![CDATA[<a]]> &amp; "
                               "<!-- -->b</faultstring><detail><a><faultstring>no</faultstring></a>"
                               "</detail></s:Fault>"), Fault("c", "<a & b"), id="CDATA and detail"),
        pytest.param(enveloped("<Fault><faultcode>c</faultcode></Fault>"), Fault("c", ""),
                     id="fault without namespace"),
        pytest.param(enveloped("<Fault xmlns='https://ispringlearn.com/go/services/api/soap'/>"),
                     Fault("", ""), id="fault in the payload's namespace"),
    ],
)  # fmt: skip
def test_a_fault_is_read(body: str, fault: Fault) -> None:
    assert read_fault(body.encode()) == fault
    for size in (1, 10**6):
        cutter = SliceCutter(slice_bytes=10)
        encoded = body.encode()
        for start in range(0, len(encoded), size):
            assert cutter.feed(encoded[start : start + size]) == []
        found = decode_document(cutter.finish(), Flattener(walked_bytes=0), ObjectDecoder())
        assert found == fault


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(enveloped("<x:Fault xmlns:x='urn:x'/>"), id="unknown namespace"),
        pytest.param(enveloped("<s:Fault/><s:Fault/>"), id="two"),
        pytest.param(enveloped("<s:fault/>"), id="another case"),
        pytest.param(enveloped("<s:Fault/>", "urn:x"), id="unknown envelope"),
        pytest.param(enveloped("<s:Fault>"), id="not closed"),
        pytest.param("<!DOCTYPE s>" + enveloped("<s:Fault/>"), id="document type"),
        pytest.param("<Fault/>", id="no envelope"),
    ],
)
def test_what_is_no_fault_is_none(body: str) -> None:
    assert read_fault(body.encode()) is None
    with pytest.raises(MalformedAnswerError):
        Flattener().flatten(body.encode())


@pytest.mark.parametrize(
    "text",
    ["Permission denied", "PERMISSION DENIED", " permission denied.\n", "permission denied"],
)
def test_phrases_are_compared_whatever_the_case_and_white_space(text: str) -> None:
    assert Fault("client", text).says("permission denied", "authorization failed")


@pytest.mark.parametrize("text", ["", "Permission", "Permission denied for you", "denied"])
def test_other_phrases_are_not_taken_for_it(text: str) -> None:
    assert not Fault("client", text).says("permission denied")


@pytest.mark.parametrize(
    ("text", "is_said"),
    [
        ("Permission denied", True),
        ("Error: Permission denied.", True),
        ("Permission denied for l17", False),
        ("Permission denied l17", False),
        ("Enrollment of l17: Permission denied", False),
        ("Permission deniedness", False),
    ],
)
def test_a_phrase_is_announced_by_one_word_at_most(text: str, is_said: bool) -> None:
    assert Fault("client", text).announces("permission denied") is is_said


def test_a_phrase_may_be_followed_by_the_token() -> None:
    for text in ("Authorization failed abc", "Authorization failed: abc", "Authorization failed"):
        assert Fault("client", text).announces("authorization failed", most_words=1)
    assert not Fault("client", "Authorization failed for l17").announces(
        "authorization failed", most_words=1
    )
