"""Tokens, redirects, TLS, addresses: what ends a run, how soon, and what stays secret."""

import asyncio
import base64
import logging
import ssl
import traceback
from collections.abc import Awaitable, Callable
from html import escape
from pathlib import Path
from typing import Any
from urllib.parse import quote

import aiohttp
import pytest
import trustme
from aiohttp import web

import bulkfetch

LEARNERS = [f"l{n:02}" for n in range(16)]
Serve = Callable[..., Awaitable[Any]]
Options = Callable[..., bulkfetch.Options]


async def fetch(url: str, options: bulkfetch.Options, **credentials: str) -> list[str]:
    credentials = credentials or {"token": "the-token"}
    async with bulkfetch.Client(url, options=options, **credentials) as client:  # type: ignore[arg-type]
        handle = client.enrollments(learner_ids=LEARNERS)
        return sorted([row.enrollment_id async for row in handle])


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_a_redirect_is_not_followed_and_stops_the_run(
    serve: Serve, render: Any, options: Options, status: int
) -> None:
    async def elsewhere(_request: Any, writer: Any) -> None:
        writer.write(render.response(b""))

    second = await serve(elsewhere)

    async def handler(_request: Any, writer: Any) -> None:
        writer.write(render.response(b"", f"{status} Moved", f"Location: {second.url}/x"))

    first = await serve(handler)
    with pytest.raises(bulkfetch.EndpointError, match="redirect"):
        await fetch(first.url, options())
    assert second.connections == 0
    assert len(first.requests) <= 2


@pytest.mark.parametrize(
    ("status", "fault", "kind"),
    [
        ("401 Unauthorized", None, bulkfetch.CredentialsError),
        ("403 Forbidden", None, bulkfetch.CredentialsError),
        ("500 Oops", "Authorization failed", bulkfetch.CredentialsError),
        ("200 OK", "authorization FAILED", bulkfetch.CredentialsError),
        ("500 Oops", "Account subscription expired", bulkfetch.CredentialsError),
        ("200 OK", "Permission denied", bulkfetch.CredentialsError),
        ("404 Not Found", None, bulkfetch.EndpointError),
        ("405 Method Not Allowed", None, bulkfetch.EndpointError),
        ("415 Unsupported Media Type", None, bulkfetch.EndpointError),
        ("304 Not Modified", None, bulkfetch.EndpointError),
    ],
)
async def test_a_fatal_answer_costs_at_most_one_request_a_worker(
    serve: Serve,
    render: Any,
    options: Options,
    status: str,
    fault: str | None,
    kind: type[Exception],
) -> None:
    async def handler(_request: Any, writer: Any) -> None:
        await asyncio.sleep(0.01)
        body = b"" if fault is None else render.fault(fault)
        writer.write(
            b"HTTP/1.1 304 Not Modified\r\n\r\n"
            if "304" in status
            else render.response(body, status)
        )

    server = await serve(handler)
    with pytest.raises(kind):
        await fetch(server.url, options(workers=8, batch_size=1))
    assert len(server.requests) <= 8


def tokens(lives: int, render: Any) -> tuple[Callable[..., Awaitable[None]], list[str]]:
    """Answer as a service whose tokens serve `lives` calls each."""
    issued: list[str] = []
    left: dict[str, int] = {}

    async def handler(request: Any, writer: Any) -> None:
        if b"/token" in request.head.split(b"\r\n")[0]:
            token = f"token-{len(issued)}-secret"
            issued.append(token)
            left[token] = lives
            body = f'{{"access_token": "{token}", "expires_in": 1800}}'.encode()
            writer.write(render.response(body))
            return
        token = request.body.partition(b"<token>")[2].partition(b"<")[0].decode()
        if left[token] <= 0:
            writer.write(render.response(render.fault("Authorization failed"), "500 Oops"))
        else:
            left[token] -= 1
            await asyncio.sleep(0.005)
            writer.write(render.response(render.document(request.learners)))

    return handler, issued


@pytest.mark.parametrize("lives", [1, 2, 3, 7])
async def test_tokens_that_serve_few_calls_are_renewed_without_charging_a_retry(
    serve: Serve, render: Any, options: Options, lives: int
) -> None:
    handler, issued = tokens(lives, render)
    server = await serve(handler)
    once = bulkfetch.RetryPolicy(attempts=1)
    rows = await fetch(
        server.url,
        options(workers=10, batch_size=1, retry=once),
        client_id="me",
        client_secret="my-secret",
    )
    assert len(rows) == 16
    assert len(issued) <= 16 // lives + 1


async def test_a_renewed_token_that_never_serves_is_fatal(
    serve: Serve, render: Any, options: Options
) -> None:
    handler, issued = tokens(0, render)
    server = await serve(handler)
    with pytest.raises(bulkfetch.CredentialsError, match="renewed token was rejected"):
        await fetch(
            server.url, options(workers=5, batch_size=1), client_id="me", client_secret="s3cret"
        )
    assert len(issued) == 2
    assert len(server.requests) - 2 <= 10


async def test_a_refused_secret_is_fatal_at_once(
    serve: Serve, render: Any, options: Options
) -> None:
    async def handler(_request: Any, writer: Any) -> None:
        writer.write(render.response(b'{"error": "invalid_client my-secret"}', "401 No"))

    server = await serve(handler)
    with pytest.raises(bulkfetch.CredentialsError, match="client id and secret") as caught:
        await fetch(server.url, options(), client_id="me", client_secret="my-secret")
    assert "my-secret" not in str(caught.value)
    assert len(server.requests) == 1


async def test_a_poison_id_among_many_is_named_and_the_others_come(
    serve: Serve, render: Any, options: Options
) -> None:
    async def handler(request: Any, writer: Any) -> None:
        if "l05" in request.learners:
            writer.write(render.response(render.fault("Wrong parameters"), "500 Oops"))
        else:
            writer.write(render.response(render.document(request.learners)))

    server = await serve(handler)
    async with bulkfetch.Client(server.url, token="the-token", options=options()) as client:
        handle = client.enrollments(learner_ids=LEARNERS)
        rows = []
        with pytest.raises(bulkfetch.IncompleteError) as caught:
            async for row in handle:
                rows.append(row.learner_id)  # noqa: PERF401 - what came before the error counts
    assert sorted(rows) == [learner for learner in LEARNERS if learner != "l05"]
    assert [entry.learner_ids for entry in caught.value.quarantined] == [("l05",)]
    assert caught.value.failed == ()


SPELLINGS: dict[str, Callable[[str], str]] = {
    "raw": lambda token: token,
    "escaped": lambda token: escape(token),
    "quoted": lambda token: quote(token, safe=""),
    "base64": lambda token: base64.b64encode(token.encode()).decode(),
    "base64 of more": lambda token: base64.b64encode(f"Bearer {token}".encode()).decode(),
    "repr": lambda token: repr(token),
}
TOKEN = "tök-<&\"'>]]>-s3cr3tvalue"
PARTS = ("s3cr3tvalue", base64.b64encode(b"s3cr3tvalue").decode()[:8], "czNjcjN0")


@pytest.mark.parametrize("spelling", SPELLINGS)
@pytest.mark.parametrize("place", ["reason", "header", "fault", "location", "body", "value"])
async def test_an_echoed_token_is_in_no_error_traceback_or_log(
    serve: Serve,
    render: Any,
    options: Options,
    caplog: pytest.LogCaptureFixture,
    place: str,
    spelling: str,
) -> None:
    echo = SPELLINGS[spelling](TOKEN)
    line = echo.encode("latin-1", "xmlcharrefreplace").decode("latin-1")
    xml = escape(echo)
    document = render.document(["l00"]).replace(b"2022-07-14", xml.encode())
    answers = {
        "reason": render.response(b"", f"500 {line}"),
        "header": f"HTTP/1.1 200 OK\r\nbad header {line}\r\n\r\n".encode("latin-1"),
        "fault": render.response(render.fault(xml), "500 Oops"),
        "location": render.response(b"", "302 Found", f"Location: https://x/?{line}"),
        "body": render.response(echo.encode(), "403 No"),
        "value": render.response(document),
    }

    async def handler(_request: Any, writer: Any) -> None:
        writer.write(answers[place])
        await writer.drain()
        writer.close()

    server = await serve(handler)
    written: list[str] = []
    with caplog.at_level(logging.DEBUG):
        async with bulkfetch.Client(server.url, token=TOKEN, options=options()) as client:
            handle = client.enrollments(learner_ids=["l00"])
            try:
                _ = [row async for row in handle]
            except bulkfetch.BulkfetchError as error:
                written += [str(error), repr(error), *traceback.format_exception(error)]
            written += [repr(client), repr(handle.report), str(handle.report)]
    written.append(caplog.text)
    for text in written:
        for part in PARTS:
            assert part not in text


@pytest.mark.parametrize(
    "url",
    [
        "http://example.org", "http://2130706433/", "http://localhost.example.org",
        "https://user:pass@example.org", "https://user@example.org", "ftp://example.org",
        "https://", "https://example.org/?a=b", "https://example.org/#x", "https://example.org:0",
        "https://example.org:99999", "https://exa mple.org", "http://[::2]/", "http://0.0.0.0/",
        "http://127.1/", "example.org",
    ],
)  # fmt: skip
def test_an_address_that_cannot_be_trusted_is_refused_before_any_socket(url: str) -> None:
    with pytest.raises(bulkfetch.UsageError):
        bulkfetch.Client(url, token="the-token")


@pytest.mark.parametrize(
    "settings",
    [
        {"proxy": "http://me:hidden@proxy.example.org:3128"},
        {"proxy": "proxy.example.org:3128"},
        {"proxy": "http://proxy:99999"},
        {"workers": 0},
        {"batch_size": -1},
        {"batch_size": 1.5},
        {"limits": bulkfetch.Limits(read_s=0)},
        {"limits": bulkfetch.Limits(total_s=float("nan"))},
        {"retry": bulkfetch.RetryPolicy(attempts=0)},
        {"soap_path": "@evil.example.org/"},
    ],
    ids=str,
)
def test_options_that_cannot_work_are_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(bulkfetch.UsageError) as caught:
        bulkfetch.Options(**settings)
    assert "hidden" not in str(caught.value)


async def test_an_explicit_proxy_is_used(serve: Serve, render: Any, options: Options) -> None:
    async def handler(request: Any, writer: Any) -> None:
        writer.write(render.response(render.document(request.learners)))

    proxy = await serve(handler)
    rows = await fetch("http://127.0.0.1:9", options(proxy=proxy.url))
    assert len(rows) == 16
    assert proxy.requests[0].head.startswith(b"POST http://127.0.0.1:9/api/v2/soap/2.0 ")


@pytest.mark.parametrize("bad", ["", "  ", "a\nb", "a\0b", "a\x1bb", "\ud800", "a\u0085b"])
def test_tokens_and_ids_that_cannot_be_sent_are_refused(bad: str) -> None:
    with pytest.raises(bulkfetch.UsageError) as caught:
        bulkfetch.Client("https://example.org", token=bad)
    assert not bad.strip() or bad not in str(caught.value)
    client = bulkfetch.Client("https://example.org", token="the-token")
    with pytest.raises(bulkfetch.UsageError):
        client.enrollments(learner_ids=["fine", bad])


@pytest.mark.parametrize("lists", [{"learner_ids": []}, {"course_ids": []}, {"learner_ids": "abc"}])
def test_an_empty_list_is_refused_where_one_was_given(lists: Any) -> None:
    client = bulkfetch.Client("https://example.org", token="the-token")
    with pytest.raises(bulkfetch.UsageError):
        client.enrollments(**lists)


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


async def over_tls(certificate: trustme.LeafCert, render: Any) -> tuple[web.AppRunner, int]:
    async def answer(request: web.Request) -> web.Response:
        body = await request.read()
        ids = [part.partition(b"<")[0].decode() for part in body.split(b"<id>")[1:]]
        return web.Response(body=render.document(ids))

    app = web.Application()
    app.router.add_post("/api/v2/soap/2.0", answer)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    certificate.configure_cert(context)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context).start()
    return runner, runner.addresses[0][1]


async def test_a_trusted_authority_is_used(
    authority: trustme.CA, render: Any, options: Options, tmp_path: Path
) -> None:
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    runner, port = await over_tls(authority.issue_cert("localhost"), render)
    try:
        rows = await fetch(f"https://localhost:{port}", options(ca_bundle=tmp_path / "ca.pem"))
    finally:
        await runner.cleanup()
    assert len(rows) == 16


@pytest.mark.parametrize("flaw", ["unknown authority", "another host"])
async def test_a_certificate_that_cannot_be_trusted_stops_the_run(
    authority: trustme.CA, render: Any, options: Options, tmp_path: Path, flaw: str
) -> None:
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    other = trustme.CA() if flaw == "unknown authority" else authority
    host = "localhost" if flaw == "unknown authority" else "example.org"
    runner, port = await over_tls(other.issue_cert(host), render)
    try:
        with pytest.raises(bulkfetch.EndpointError, match="certificate cannot be trusted"):
            await fetch(f"https://localhost:{port}", options(ca_bundle=tmp_path / "ca.pem"))
    finally:
        await runner.cleanup()


async def test_https_to_a_plain_port_stops_the_run(
    serve: Serve, render: Any, options: Options
) -> None:
    async def handler(_request: Any, writer: Any) -> None:
        writer.write(render.response(b""))

    server = await serve(handler)
    with pytest.raises((bulkfetch.EndpointError, bulkfetch.IncompleteError)):
        await fetch(server.url.replace("http:", "https:"), options())


async def test_proxies_and_netrc_of_the_environment_have_no_effect(
    serve: Serve, render: Any, options: Options, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / ".netrc").write_text("machine 127.0.0.1 login me password hidden\n")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("NETRC", str(tmp_path / ".netrc"))
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")

    async def handler(request: Any, writer: Any) -> None:
        writer.write(
            render.response(render.document(request.learners), "200 OK", "Set-Cookie: a=b; Path=/")
        )

    server = await serve(handler)
    assert len(await fetch(server.url, options())) == 16
    heads = b"".join(request.head.lower() for request in server.requests)
    assert b"authorization" not in heads
    assert b"cookie" not in heads


async def test_an_unsolicited_answer_is_not_taken_for_the_next_one(
    serve: Serve, render: Any, options: Options
) -> None:
    """An empty result waits on an idle connection; the next batch there has rows."""

    async def handler(request: Any, writer: Any) -> None:
        answer = render.response(render.document(request.learners))
        writer.write(
            answer + (render.response(render.document([])) if request.number == 0 else b"")
        )

    server = await serve(handler)
    assert len(await fetch(server.url, options(workers=1))) == 16


async def test_an_empty_answer_on_a_used_connection_is_confirmed_on_a_fresh_one(
    serve: Serve, render: Any, options: Options
) -> None:
    async def handler(_request: Any, writer: Any) -> None:
        writer.write(render.response(render.document([])))

    server = await serve(handler)
    async with bulkfetch.Client(
        server.url, token="the-token", options=options(workers=1)
    ) as client:
        handle = client.enrollments(learner_ids=LEARNERS)
        assert [row async for row in handle] == []
        report = handle.report
    assert report.confirmed_empty_learners == 16
    # Checks for caps are made on connections of their own, and need no confirming.
    assert report.confirmations == 3
    connections = [request.connection for request in server.requests]
    assert len(set(connections)) == 1 + report.confirmations + report.cap_checks


async def test_an_own_session_is_used_and_left_open(
    serve: Serve, render: Any, options: Options
) -> None:
    async def handler(request: Any, writer: Any) -> None:
        writer.write(render.gzipped(render.document(request.learners)))

    server = await serve(handler)
    async with aiohttp.ClientSession(headers={"X-Mine": "yes"}) as session:
        async with bulkfetch.Client(
            server.url, token="the-token", session=session, options=options()
        ) as client:
            assert len([row async for row in client.enrollments(learner_ids=LEARNERS)]) == 16
        assert not session.closed
    assert all(b"X-Mine: yes" in request.head for request in server.requests)
