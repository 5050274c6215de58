"""A server of raw sockets: each request is recorded and answered by a script of the test."""

import asyncio
import contextlib
import gzip
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field

import pytest

import bulkfetch

Writer = asyncio.StreamWriter
Handler = Callable[["Request", Writer], Awaitable[None]]


@dataclass(frozen=True)
class Request:
    """One request as it came: its number from 0, on which connection, and its bytes."""

    number: int
    connection: int
    head: bytes
    body: bytes

    @property
    def learners(self) -> list[str]:
        part = self.body.partition(b"<learnerIds>")[2]
        return [value.decode() for value in re.findall(rb"<id>([^<]*)</id>", part)]


@dataclass
class RawServer:
    """What the server was asked, and where it is."""

    port: int = 0
    requests: list[Request] = field(default_factory=list)
    connections: int = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"


def document(learners: list[str], *, course: str = "c1", each: int = 1) -> bytes:
    """Render a result with `each` enrollments for each learner."""
    rows = "".join(
        f"<enrollment><enrollmentId>{learner}-{n}</enrollmentId><courseId>{course}</courseId>"
        f"<learnerId>{learner}</learnerId><accessDate>2022-07-14</accessDate>"
        "<shouldLockAfterDueDate>0</shouldLockAfterDueDate></enrollment>"
        for learner in learners
        for n in range(each)
    )
    return (
        '<?xml version="1.0"?><S:Envelope xmlns:S="http://schemas.xmlsoap.org/soap/envelope/" '
        'xmlns="http://ispringlearn.com/go/services/api/soap"><S:Body><GetEnrollmentsResult>'
        f"{rows}</GetEnrollmentsResult></S:Body></S:Envelope>"
    ).encode()


def fault(text: str, code: str = "client") -> bytes:
    return (
        '<S:Envelope xmlns:S="http://schemas.xmlsoap.org/soap/envelope/"><S:Body><S:Fault>'
        f"<faultcode>{code}</faultcode><faultstring>{text}</faultstring>"
        "</S:Fault></S:Body></S:Envelope>"
    ).encode()


def response(
    body: bytes, status: str = "200 OK", *headers: str, length: int | None = None
) -> bytes:
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body) if length is None else length}"]
    return "\r\n".join([*lines, *headers, "", ""]).encode() + body


def gzipped(body: bytes) -> bytes:
    return response(gzip.compress(body, mtime=0), "200 OK", "Content-Encoding: gzip")


@dataclass(frozen=True)
class Render:
    """The helpers above, for tests, which cannot import this file."""

    document: Callable[..., bytes] = document
    fault: Callable[..., bytes] = fault
    response: Callable[..., bytes] = response
    gzipped: Callable[[bytes], bytes] = gzipped


@pytest.fixture
def render() -> Render:
    return Render()


@pytest.fixture
async def serve() -> AsyncIterator[Callable[[Handler], Awaitable[RawServer]]]:
    """Start raw servers; each handler writes whatever it likes and may close the connection."""
    servers: list[asyncio.Server] = []
    writers: set[Writer] = set()

    async def start(handler: Handler) -> RawServer:
        raw = RawServer()

        async def talk(reader: asyncio.StreamReader, writer: Writer) -> None:
            connection = raw.connections
            raw.connections += 1
            writers.add(writer)
            with contextlib.suppress(asyncio.IncompleteReadError, OSError):
                while not writer.is_closing():
                    head = await reader.readuntil(b"\r\n\r\n")
                    length = re.search(rb"(?i)content-length: *(\d+)", head)
                    body = await reader.readexactly(int(length[1]) if length else 0)
                    request = Request(len(raw.requests), connection, head, body)
                    raw.requests.append(request)
                    await handler(request, writer)
                    await writer.drain()
            writer.close()

        server = await asyncio.start_server(talk, "127.0.0.1", 0, limit=2**22)
        servers.append(server)
        raw.port = server.sockets[0].getsockname()[1]
        return raw

    yield start
    for server in servers:
        server.close()
    for writer in writers:
        writer.transport.abort()
    await asyncio.sleep(0.01)


@pytest.fixture
def options() -> Callable[..., bulkfetch.Options]:
    """Make options with waits too short to matter."""

    def make(**more: object) -> bulkfetch.Options:
        settings: dict[str, object] = {
            "retry": bulkfetch.RetryPolicy(attempts=3, base_s=0.01, cap_s=0.02),
            "limits": bulkfetch.Limits(connect_s=1, read_s=0.4, total_s=1.5),
            "batch_size": 4,
            "workers": 2,
            "max_outage_s": 0.0,
        }
        return bulkfetch.Options(**(settings | more))  # type: ignore[arg-type]

    return make
