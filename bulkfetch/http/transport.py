"""One HTTP call: send a body, get a status and the answer's bytes, inflated and capped.

Redirects are never followed, cookies never kept, the environment's proxies and .netrc never read.
Time limits cover connecting, silence and the whole call. With the caller's own session the limits
are the same, but its connector, cookies and TLS settings are the caller's.

Connections are kept alive, and aiohttp takes whatever came on an idle one for the next answer. So a
connection that has served is used again only if nothing has come since; and because something may
come while the next request is on its way, an answer knows whether its connection had served before.
"""

import asyncio
import contextlib
import io
import ssl
import weakref
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from contextvars import ContextVar
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any

import aiohttp

from bulkfetch.errors import (
    CallError,
    UsageError,
)
from bulkfetch.http.body import Body
from bulkfetch.http.classify import (
    classify_exception,
    classify_fault,
    classify_status,
    fault_may_decide,
)
from bulkfetch.http.retry_after import read_retry_after
from bulkfetch.redact import Redactor
from bulkfetch.wire.document import read_fault

# Whether the connection that this task was given last had served before.
_IS_REUSED: ContextVar[bool] = ContextVar("_IS_REUSED", default=False)
_ERROR_BODY_CAP_BYTES = 256 * 1024
_SENT_AT_ONCE_BYTES = 256 * 1024
_FAILURES = (aiohttp.ClientError, OSError, TimeoutError, EOFError, ValueError)


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds of one call: seconds, and bytes of the inflated answer."""

    connect_s: float = 15.0
    read_s: float = 120.0
    total_s: float = 900.0
    answer_bytes: int = 1024 * 1024 * 1024


class Answer:
    """The answer to one call, while its connection is open.

    `body` takes what is received: here by `chunks`, or elsewhere, fed by `receive`.
    """

    def __init__(
        self,
        response: aiohttp.ClientResponse,
        *,
        limits: Limits,
        inflates: bool,
    ) -> None:
        self._response = response
        connection = response.connection
        self._transport = getattr(response, "transport", connection and connection.transport)
        self.status = response.status
        self.is_reused: bool = getattr(response, "is_reused", True)
        self.body = Body(
            response.headers.get("Content-Encoding") if inflates else None,
            status=response.status,
            cap_bytes=limits.answer_bytes,
        )

    def header(self, name: str) -> str | None:
        """Return a header as sent. Not safe to print."""
        return self._response.headers.get(name)

    @property
    def wire_bytes(self) -> int:
        """Bytes received so far, of the body."""
        return self.body.wire_bytes

    @property
    def body_bytes(self) -> int:
        """The same, inflated."""
        return self.body.body_bytes

    async def receive(self, size: int) -> tuple[bytes, bool]:
        """Receive some bytes, to be fed to `body`, and say whether they are the last.

        That is `size` bytes and whatever came with them, or fewer at the end: perhaps none.
        """
        content = self._response.content
        chunks = [await content.readany()]
        received = len(chunks[0])
        while not content.at_eof() and received < size:
            chunks.append(await content.readany())
            received += len(chunks[-1])
        return b"".join(chunks), content.at_eof()

    async def chunks(self) -> AsyncIterator[bytes]:
        """Yield the body, inflated, in pieces of at most a few hundred kilobytes.

        Raises:
            MalformedAnswerError: an encoding that was not asked for, or a damaged one.
            TooLargeError: the byte cap was passed.
        """
        async for chunk in self._response.content.iter_any():
            for piece in self.body.feed(chunk):
                yield piece
        self.body.finish()

    async def read_start(self, cap_bytes: int) -> bytes | None:
        """Return the whole body, or None if it has more than `cap_bytes`."""
        body = bytearray()
        async for chunk in self.chunks():
            body += chunk
            if len(body) > cap_bytes:
                return None
        return bytes(body)

    def drop(self) -> None:
        """Close the connection, so that nothing else is asked on it."""
        self._response.close()
        if self._transport is not None:
            self._transport.close()


class _Call:
    """A call under way, in a `with` that holds its answer and classifies what goes wrong in it."""

    __slots__ = ("_answer", "_limits", "_redactor", "_response", "_send")

    _response: aiohttp.ClientResponse
    _answer: Answer

    def __init__(
        self,
        send: Callable[[], Awaitable[tuple[aiohttp.ClientResponse, bool]]],
        limits: Limits,
        redactor: Redactor,
    ) -> None:
        self._send = send
        self._limits = limits
        self._redactor = redactor

    async def __aenter__(self) -> Answer:
        try:
            self._response, inflates = await self._send()
        except _FAILURES as error:
            raise classify_exception(error, self._redactor) from None
        self._answer = Answer(self._response, limits=self._limits, inflates=inflates)
        return self._answer

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        try:
            await self._response.__aexit__(kind, error, traceback)
        except _FAILURES as failure:
            error = failure
        if isinstance(error, CallError):
            self._answer.drop()
        elif isinstance(error, _FAILURES):
            self._answer.drop()
            raise classify_exception(error, self._redactor) from None


class Transport:
    """Sends calls through one session.

    Args:
        session: aiohttp's session, own or the caller's.
        fresh_session: the session whose connections are never reused, for confirming; None where
            the caller's session is used for this, too.
        limits: time and size.
        redactor: removes secrets from messages.
        wall_clock: seconds since 1970, for Retry-After dates.
        proxy: URL of an explicit proxy.
    """

    def __init__(
        self,
        session: aiohttp.ClientSession,
        fresh_session: aiohttp.ClientSession | None,
        *,
        limits: Limits,
        redactor: Redactor,
        wall_clock: Callable[[], float],
        proxy: str | None = None,
    ) -> None:
        self._session = session
        self._fresh_session = fresh_session
        self._limits = limits
        self._redactor = redactor
        self._wall_clock = wall_clock
        self._proxy = proxy
        self._timeout = aiohttp.ClientTimeout(
            total=limits.total_s, sock_connect=limits.connect_s, sock_read=limits.read_s
        )

    def post(
        self,
        url: str,
        body: bytes,
        headers: dict[str, str],
        *,
        fresh: bool = False,
        on_resend: Callable[[], None] = lambda: None,
    ) -> AbstractAsyncContextManager[Answer]:
        """Send one POST and hold its answer open.

        `fresh` asks on a connection that has served nothing else; `on_resend` is called when the
        request is sent once more, because the connection broke in the moment of its reuse.

        Raises:
            CallError: anything that goes wrong, classified; also out of the body of the `with`.
        """
        send = partial(self._send, url, body, headers, fresh=fresh, on_resend=on_resend)
        return _Call(send, self._limits, self._redactor)

    async def _send(
        self,
        url: str,
        body: bytes,
        headers: dict[str, str],
        *,
        fresh: bool,
        on_resend: Callable[[], None],
    ) -> tuple[aiohttp.ClientResponse, bool]:
        """Send a request until its answer begins; return that, and whether it is left to inflate.

        A service may close an idle connection in the moment in which it is asked again. That says
        nothing of the request, which only reads, and so it is sent once more, on a fresh one.
        """
        session = (self._fresh_session if fresh else None) or self._session
        extra: dict[str, Any] = {"Connection": "close"} if fresh else {}
        _IS_REUSED.set(False)
        try:
            response = await session.post(
                url,
                data=body if len(body) <= _SENT_AT_ONCE_BYTES else io.BytesIO(body),
                headers={"Accept-Encoding": "gzip", **headers, **extra},
                allow_redirects=False,
                raise_for_status=False,
                timeout=self._timeout,
                proxy=self._proxy,
            )
        except (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError):
            if fresh or not _IS_REUSED.get():
                raise
            on_resend()
            return await self._send(url, body, headers, fresh=True, on_resend=on_resend)
        return response, not session.auto_decompress

    async def require_ok(self, answer: Answer) -> None:
        """Pass an answer with status 200; classify any other by its status and its Fault.

        Raises:
            CallError: the status is not 200.
        """
        location = answer.header("Location")
        retry_after_s = read_retry_after(answer.header("Retry-After"), now=self._wall_clock())
        error = classify_status(
            answer.status,
            retry_after_s=retry_after_s,
            location=None if location is None else self._redactor.show(location, 120),
        )
        if error is None:
            return
        if fault_may_decide(answer.status):
            with contextlib.suppress(CallError, aiohttp.ClientError, OSError):
                document = await answer.read_start(_ERROR_BODY_CAP_BYTES)
                fault = None if document is None else read_fault(document)
                if fault is not None:
                    error = classify_fault(
                        fault, answer.status, self._redactor, retry_after_s=retry_after_s
                    )
        raise error


def open_session(
    *, ca_bundle: Path | None = None, reuse_connections: bool = True
) -> aiohttp.ClientSession:
    """Open a session with everything off that could send or keep more than was asked for.

    The number of connections is bounded by the callers, who hold a place for each call.

    Raises:
        UsageError: the CA bundle cannot be read.
    """
    context: ssl.SSLContext | bool = True  # aiohttp's own: the system's authorities, read once
    if ca_bundle is not None:
        try:
            context = ssl.create_default_context(cafile=str(ca_bundle))
        except (OSError, ssl.SSLError):
            raise UsageError(
                f"The CA bundle {ca_bundle} cannot be read as PEM certificates."
            ) from None
    return aiohttp.ClientSession(
        connector=_QuietConnector(limit=0, ssl=context, force_close=not reuse_connections),
        cookie_jar=aiohttp.DummyCookieJar(),
        trust_env=False,
        auto_decompress=False,
        response_class=_TrackedResponse,
    )


class _QuietConnector(aiohttp.TCPConnector):
    """Drops idle connections on which something has come unasked, and knows which have served."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self._served: weakref.WeakSet[Any] = weakref.WeakSet()

    async def connect(self, *args: Any, **kwargs: Any) -> aiohttp.connector.Connection:
        while True:
            connection = await super().connect(*args, **kwargs)
            protocol = connection.protocol
            is_reused = protocol is not None and protocol in self._served
            if protocol is not None and is_reused and protocol.should_close:
                connection.close()
                continue
            if protocol is not None and not is_reused:
                self._served.add(protocol)
            _IS_REUSED.set(is_reused)
            return connection


class _TrackedResponse(aiohttp.ClientResponse):
    """A response that says whether its connection had served before."""

    is_reused = False
    transport: asyncio.Transport | None = None

    async def start(self, connection: Any) -> aiohttp.ClientResponse:
        self.transport = connection.transport
        self.is_reused = _IS_REUSED.get()
        return await super().start(connection)
