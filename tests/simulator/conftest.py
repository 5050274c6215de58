"""A small client and reader of its own, so that the simulator is not tested with the library."""

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from typing import Any
from xml.sax.saxutils import escape

import pytest
from aiohttp import ClientSession, DummyCookieJar
from lxml import etree

from bulkfetch.record import Enrollment
from bulkfetch.simulator import Account, Simulator

SOAP = "http://schemas.xmlsoap.org/soap/envelope/"
PAYLOAD = "https://ispringlearn.com/go/services/api/soap"


@dataclass
class Answer:
    status: int
    headers: dict[str, str]
    reason: str
    text: str
    enrollments: list[Enrollment] = field(default_factory=list)

    @property
    def fault(self) -> str | None:
        return next(iter(self.texts("faultstring")), None)

    def texts(self, name: str) -> list[str]:
        root = etree.fromstring(self.text.encode())
        return [e.text or "" for e in root.iter() if etree.QName(e).localname == name]


class FakeTime:
    """A clock that only moves when somebody sleeps."""

    def __init__(self) -> None:
        self.now_s = 1000.0

    def clock(self) -> float:
        return self.now_s

    async def sleep(self, seconds: float) -> None:
        self.now_s += seconds


def write_request(
    token: str,
    operation: str = "GetEnrollmentsRequest",
    learners: Sequence[str] | None = None,
    courses: Sequence[str] | None = None,
    *,
    soap: str = SOAP,
    payload: str = PAYLOAD,
    **extra: str,
) -> bytes:
    def ids(name: str, texts: Sequence[str] | None) -> str:
        items = "".join(
            "<p:id>" + escape(text, {"\r": "&#13;"}) + "</p:id>" for text in texts or ()
        )
        return "" if texts is None else f"<p:{name}>{items}</p:{name}>"

    declared = f' xmlns:p="{payload}"' if payload else ""
    others = "".join(f"<p:{name}>{text}</p:{name}>" for name, text in extra.items())
    text = (
        f'<s:Envelope xmlns:s="{soap}"{declared}><s:Body><p:{operation}>'
        f"<p:credentials><p:token>{escape(token)}</p:token></p:credentials>"
        f"{ids('courseIds', courses)}{ids('learnerIds', learners)}{others}"
        f"</p:{operation}></s:Body></s:Envelope>"
    )
    return (text if payload else text.replace("<p:", "<").replace("</p:", "</")).encode()


def read_enrollments(text: str) -> list[Enrollment]:
    root = etree.fromstring(text.encode())
    return [_read(e) for e in root.iter() if etree.QName(e).localname == "enrollment"]


def _read(row: Any) -> Enrollment:
    texts = {
        etree.QName(e).localname: e.text
        for e in row.iter()
        if len(e) == 0 and etree.QName(e).localname not in ("userId", "templateName")
    }

    def moment(*names: str) -> datetime | None:
        text = next((texts[name] for name in names if texts.get(name)), None)
        return None if text is None else datetime.fromisoformat(text).replace(tzinfo=UTC)

    def day(name: str) -> date | None:
        text = texts.get(name)
        return date.fromisoformat(text) if text else None

    group = texts.get("enrollmentTypeGroup")
    return Enrollment(
        texts["enrollmentId"],
        texts["courseId"],
        texts["learnerId"],
        day("accessDate"),
        day("dueDate"),
        day("expirationDate"),
        {"0": False, "1": True, "false": False, "true": True, None: None}[
            texts.get("shouldLockAfterDueDate")
        ],
        int(group) if group else None,
        texts.get("issuedCertificateId"),
        moment("issueDate", "certIssueDate"),
        moment("expiryDate", "certExpiryDate"),
    )


@pytest.fixture
async def session() -> AsyncIterator[ClientSession]:
    async with ClientSession(cookie_jar=DummyCookieJar()) as session:
        yield session


@pytest.fixture
def ask(session: ClientSession) -> Callable[..., Awaitable[Answer]]:
    """Send one request to a simulator; rows are read if the answer has any."""

    async def ask(
        simulator: Simulator, *args: Any, token: str | None = None, body: bytes = b"", **kwargs: Any
    ) -> Answer:
        payload = body or write_request(token or simulator.token, *args, **kwargs)
        url = f"{simulator.url}/api/v2/soap/2.0"
        async with session.post(url, data=payload, allow_redirects=False) as response:
            text = await response.text()
            answer = Answer(response.status, dict(response.headers), response.reason or "", text)
        if "GetEnrollmentsResult" in text:
            answer.enrollments = read_enrollments(text)
        return answer

    return ask


@pytest.fixture
def make_request() -> Callable[..., bytes]:
    return write_request


@pytest.fixture
def read_rows() -> Callable[[str], list[Enrollment]]:
    return read_enrollments


@pytest.fixture
def fake_time() -> FakeTime:
    return FakeTime()


@pytest.fixture(scope="session")
def account() -> Account:
    return Account(learners=60, courses=12, enrollments=900, seed=7)
