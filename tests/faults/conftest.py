"""A server of raw sockets for faults, which says exactly the bytes that a test gives it.

Its script is called with each whole request and returns bytes, or talks to the socket itself. The
server knows which connections are still open, so that a test can see what a client leaves behind.
"""

import asyncio
import contextlib
import re
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any
from xml.sax.saxutils import escape, unescape

import pytest

import bulkfetch

NAMESPACE = "http://ispringlearn.com/go/services/api/soap"
SOAP = "http://schemas.xmlsoap.org/soap/envelope/"
Writer = asyncio.StreamWriter


@dataclass(frozen=True)
class Request:
    """One request: its number from 0, the number of its connection, and its bytes."""

    number: int
    connection: int
    head: bytes
    body: bytes

    @property
    def path(self) -> str:
        return self.head.split(b" ")[1].decode()

    @property
    def token(self) -> str:
        return unescape(self.body.partition(b"<token>")[2].partition(b"<")[0].decode())

    @property
    def learners(self) -> list[str]:
        part = self.body.partition(b"<learnerIds>")[2]
        return [unescape(value.decode()) for value in re.findall(rb"<id>([^<]*)</id>", part)]


Script = Callable[[Request, Writer], Awaitable[bytes | None]]


def rows(
    learners: Sequence[str], *, each: int = 1, course: str = "c1", accessed: str = "2022-07-14"
) -> bytes:
    """Render a whole result with `each` enrollments for each learner."""
    records = "".join(
        f"<enrollment><enrollmentId>{escape(learner)}-{n}</enrollmentId>"
        f"<courseId>{course}</courseId><learnerId>{escape(learner)}</learnerId>"
        f"<accessDate>{accessed}</accessDate>"
        "<shouldLockAfterDueDate>0</shouldLockAfterDueDate></enrollment>"
        for learner in learners
        for n in range(each)
    )
    return (
        f'<?xml version="1.0"?><S:Envelope xmlns:S="{SOAP}" xmlns="{NAMESPACE}"><S:Body>'
        f"<GetEnrollmentsResult>{records}</GetEnrollmentsResult></S:Body></S:Envelope>"
    ).encode()


def fault(text: str, code: str = "client") -> bytes:
    """Render a Fault; `text` is escaped here."""
    return (
        f'<S:Envelope xmlns:S="{SOAP}"><S:Body><S:Fault><faultcode>{code}</faultcode>'
        f"<faultstring>{escape(text)}</faultstring></S:Fault></S:Body></S:Envelope>"
    ).encode()


def http(body: bytes = b"", status: str = "200 OK", *headers: str) -> bytes:
    """Render an answer with a length."""
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", *headers, "", ""]
    return "\r\n".join(lines).encode("latin-1") + body


@dataclass(frozen=True)
class Say:
    """The renderers above, for tests, which cannot import this file."""

    rows: Callable[..., bytes] = rows
    fault: Callable[..., bytes] = fault
    http: Callable[..., bytes] = http


@dataclass
class RawServer:
    """Where the server is and what has happened there."""

    script: Script
    port: int = 0
    requests: list[Request] = field(default_factory=list)
    connections: int = 0
    open_writers: set[Writer] = field(default_factory=set)
    _talks: set[asyncio.Task[Any]] = field(default_factory=set)
    _server: asyncio.Server | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def calls_by_batch(self) -> Counter[tuple[str, ...]]:
        return Counter(tuple(request.learners) for request in self.requests)

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._talk, "127.0.0.1", 0, limit=2**23)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        assert self._server is not None
        self._server.close()
        for writer in self.open_writers:
            writer.transport.abort()
        if self._talks:
            await asyncio.wait(self._talks)

    async def _talk(self, reader: asyncio.StreamReader, writer: Writer) -> None:
        connection = self.connections
        self.connections += 1
        self.open_writers.add(writer)
        task = asyncio.current_task()
        assert task is not None
        self._talks.add(task)
        task.add_done_callback(self._talks.discard)
        try:
            with contextlib.suppress(asyncio.IncompleteReadError, OSError):
                while not writer.is_closing():
                    head = await reader.readuntil(b"\r\n\r\n")
                    length = re.search(rb"(?i)content-length: *(\d+)", head)
                    body = await reader.readexactly(int(length[1]) if length else 0)
                    request = Request(len(self.requests), connection, head, body)
                    self.requests.append(request)
                    answer = await self.script(request, writer)
                    if answer is not None:
                        writer.write(answer)
                    await writer.drain()
        finally:
            self.open_writers.discard(writer)
            writer.close()


@pytest.fixture
def say() -> Say:
    return Say()


@pytest.fixture
async def serve() -> AsyncIterator[Callable[[Script], Awaitable[RawServer]]]:
    """Start servers; all are stopped at the end."""
    servers: list[RawServer] = []

    async def start(script: Script) -> RawServer:
        server = RawServer(script)
        await server.start()
        servers.append(server)
        return server

    yield start
    for server in servers:
        await server.stop()


@pytest.fixture
def options() -> Callable[..., bulkfetch.Options]:
    """Make options that never wait long."""

    def make(**more: object) -> bulkfetch.Options:
        settings: dict[str, object] = {
            "retry": bulkfetch.RetryPolicy(attempts=3, base_s=0.002, cap_s=0.004),
            "limits": bulkfetch.Limits(connect_s=1, read_s=0.5, total_s=2),
            "batch_size": 4,
            "workers": 2,
            "max_outage_s": 0.0,
        }
        return bulkfetch.Options(**(settings | more))  # type: ignore[arg-type]

    return make


@dataclass
class Outcome:
    """How one fetch ended."""

    rows: list[bulkfetch.Enrollment]
    report: bulkfetch.FetchReport
    error: bulkfetch.BulkfetchError | None

    @property
    def learners(self) -> list[str]:
        return sorted(row.learner_id for row in self.rows)

    @property
    def named(self) -> set[str]:
        """The learners that an incomplete fetch names."""
        assert isinstance(self.error, bulkfetch.IncompleteError)
        entries = (*self.error.quarantined, *self.error.failed)
        return {learner for entry in entries for learner in entry.learner_ids or ()}


@pytest.fixture
def fetch(
    options: Callable[..., bulkfetch.Options],
) -> Callable[..., Awaitable[Outcome]]:
    """Fetch learners through the public door, and keep the error for looking at."""

    async def run(
        url: str,
        learners: Sequence[str],
        *,
        runtime: bulkfetch.Runtime | None = None,
        session: object = None,
        credentials: dict[str, str] | None = None,
        **more: object,
    ) -> Outcome:
        outcome = Outcome([], None, None)  # type: ignore[arg-type]
        client = bulkfetch.Client(
            url,
            **(credentials or {"token": "the-token"}),
            options=options(**more),
            runtime=runtime,
            session=session,  # type: ignore[arg-type]
        )
        async with client:
            handle = client.enrollments(learner_ids=learners)
            try:
                async for row in handle:
                    outcome.rows.append(row)
            except bulkfetch.BulkfetchError as error:
                outcome.error = error
            outcome.report = handle.report
        return outcome

    return run
