"""The token, echoed by the service: in nothing that a fetch raises, reports or logs."""

import base64
import logging
import re
import traceback
import urllib.parse
from collections.abc import Awaitable, Callable, Iterator
from typing import Any
from xml.sax.saxutils import escape

import pytest

Serve = Callable[..., Awaitable[Any]]
TOKEN = "Qx7+v/k=<&\"']]>-Zu9yKp3"
PIECES = ("Qx7", "Zu9yKp3", "Zu9")

SPELLINGS: dict[str, Callable[[str], str]] = {
    "raw": lambda token: token,
    "URL in lower case": lambda token: re.sub(
        "%..", lambda match: match[0].lower(), urllib.parse.quote(token, safe="")
    ),
    "JSON of PHP": lambda token: token.replace('"', '\\"').replace("/", "\\/"),
    "base64 of more": lambda token: base64.b64encode(f"id:{token}".encode()).decode(),
}
PLACES: dict[str, Callable[[Any, str], bytes]] = {
    "reason of a 500": lambda say, echo: say.http(b"", f"500 {echo}"),
    "reason of a 200": lambda say, echo: say.http(b"", f"200 {echo}"),
    "header": lambda say, echo: say.http(b"", "503 Busy", f"X-Echo: {echo}"),
    "broken header": lambda say, echo: say.http(b"", "200 OK", f"{echo}"),
    "header name": lambda say, echo: say.http(b"", "200 OK", f"{echo}: x"),
    "length": lambda say, echo: say.http(b"", "200 OK", f"Content-Length: {echo}"),
    "encoding": lambda say, echo: say.http(b"x", "200 OK", f"Content-Encoding: {echo}"),
    "transfer": lambda say, echo: say.http(b"x", "200 OK", f"Transfer-Encoding: {echo}"),
    "long header": lambda say, echo: say.http(b"", "200 OK", f"X: {echo * 2_000}"),
    "retry-after": lambda say, echo: say.http(b"", "429 No", f"Retry-After: {echo}"),
    "status line": lambda _say, echo: f"{echo}\r\n\r\n".encode(),
    "chunk size": lambda _say, echo: (
        f"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{echo}\r\n".encode()
    ),
    "location": lambda say, echo: say.http(b"", "302 Found", f"Location: https://x.org/?{echo}"),
    "location's user": lambda say, echo: say.http(b"", "301 No", f"Location: https://{echo}@x/"),
    "cookie": lambda say, echo: say.http(b"", "500 Oops", f"Set-Cookie: a={echo}"),
    "text": lambda say, echo: say.http(echo.encode()),
    "text of a 401": lambda say, echo: say.http(echo.encode(), "401 No"),
    "fault": lambda say, echo: say.http(say.fault(f"Bad token {echo}!", "Server"), "500 Oops"),
    "fault with 200": lambda say, echo: say.http(say.fault(f"Authorization failed: {echo}")),
    "fault code": lambda say, echo: say.http(say.fault("", echo), "500 Oops"),
    "unknown id": lambda say, echo: say.http(say.fault(f"Unknown {echo}")),
    "long fault": lambda say, echo: say.http(say.fault(f"{echo} " * 3_000, "Server")),
    "foreign row": lambda say, echo: say.http(say.rows([echo])),
    "value": lambda say, echo: say.http(say.rows(["l0"], accessed=escape(echo))),
    "element": lambda say, _echo: say.http(
        say.rows(["l0"]).replace(b"<GetEnrollmentsResult>", TOKEN.encode() + b"<")
    ),
}  # fmt: skip


def chain(error: BaseException | None) -> Iterator[BaseException]:
    """Yield an error and everything that it came from, also what its traceback would leave out."""
    seen: set[int] = set()
    waiting = [error]
    while waiting:
        error = waiting.pop()
        if error is None or id(error) in seen:
            continue
        seen.add(id(error))
        yield error
        waiting += [error.__cause__, error.__context__]
        if isinstance(error, BaseExceptionGroup):
            waiting += error.exceptions


@pytest.mark.parametrize("spelling", SPELLINGS)
@pytest.mark.parametrize("place", PLACES)
async def test_an_echoed_token_leaves_the_process_nowhere(
    serve: Serve, say: Any, fetch: Any, caplog: pytest.LogCaptureFixture, place: str, spelling: str
) -> None:
    echo = SPELLINGS[spelling](TOKEN)

    async def script(_request: Any, writer: Any) -> Any:
        writer.write(PLACES[place](say, echo))
        await writer.drain()
        writer.close()

    server = await serve(script)
    with caplog.at_level(logging.DEBUG):
        outcome = await fetch(server.url, ["l0"], credentials={"token": TOKEN})
    texts = [repr(outcome.report), caplog.text, *map(repr, outcome.report.anomalies)]
    for error in chain(outcome.error):
        texts += [str(error), repr(error), *traceback.format_exception(error)]
    assert outcome.error is not None or place == "value"
    secret = [*PIECES, *(base64.b64encode(piece.encode()).decode()[:4] for piece in PIECES[:1])]
    for text in texts:
        assert not [piece for piece in secret if piece in text], text


@pytest.mark.parametrize("place", ["fault", "broken header", "status line", "long fault"])
async def test_a_long_token_is_shown_in_no_part(
    serve: Serve, say: Any, fetch: Any, place: str
) -> None:
    token = "".join(f"Zu{n:04}" for n in range(1_700))

    async def script(_request: Any, writer: Any) -> Any:
        writer.write(PLACES[place](say, token))
        await writer.drain()
        writer.close()

    server = await serve(script)
    outcome = await fetch(server.url, ["l0"], credentials={"token": token})
    assert server.requests[0].token == token
    assert outcome.error is not None
    for error in chain(outcome.error):
        assert "Zu0" not in "".join(traceback.format_exception(error))
        assert "Zu0" not in repr(error)


@pytest.mark.parametrize("status", ["400 No", "401 No", "403 No", "500 No", "200 OK"])
async def test_an_echoed_client_secret_and_an_issued_token_are_kept_too(
    serve: Serve, say: Any, fetch: Any, caplog: pytest.LogCaptureFixture, status: str
) -> None:
    secret = "Kp3+&=%-Zu9secret"

    async def script(request: Any, _writer: Any) -> Any:
        if request.path.endswith("/token") and status != "200 OK":
            return say.http(request.body + b" Zu9 " + secret.encode(), status)
        if request.path.endswith("/token"):
            return say.http(b'{"access_token": "Zu9-issued-Kp3"}')
        return say.http(say.fault(f"{request.token} {secret}", "Server"), "500 Zu9-issued-Kp3")

    server = await serve(script)
    credentials = {"client_id": "me", "client_secret": secret}
    with caplog.at_level(logging.DEBUG):
        outcome = await fetch(server.url, ["l0"], credentials=credentials)
    assert outcome.error is not None
    texts = [caplog.text, repr(outcome.report)]
    for error in chain(outcome.error):
        texts += [str(error), repr(error)]
    assert "Zu9" not in "".join(texts)
    assert "Kp3" not in "".join(texts)


async def test_a_token_of_xml_characters_arrives_as_it_is(
    serve: Serve, say: Any, fetch: Any
) -> None:
    async def script(request: Any, _writer: Any) -> Any:
        return say.http(say.rows(request.learners))

    server = await serve(script)
    learners = ["<l>", "&amp;", "]]>", "'\"", "ü\u00a0€😀", " l "]
    outcome = await fetch(server.url, learners, credentials={"token": TOKEN})
    assert outcome.error is None
    assert {request.token for request in server.requests} == {TOKEN}
    asked = [learner for request in server.requests for learner in request.learners]
    assert sorted(asked) == sorted(learners)


async def test_a_cookie_is_never_sent_back(serve: Serve, say: Any, fetch: Any) -> None:
    """By name, because no client keeps the cookies of a bare address."""

    async def script(request: Any, _writer: Any) -> Any:
        return say.http(say.rows(request.learners), "200 OK", "Set-Cookie: session=abc; Path=/")

    server = await serve(script)
    learners = [f"l{n}" for n in range(8)]
    outcome = await fetch(f"http://localhost:{server.port}", learners, batch_size=1, workers=1)
    assert outcome.learners == learners
    assert b"cookie" not in b"".join(request.head for request in server.requests).lower()
