"""Certificates that cannot be trusted: refused at the first handshake, without a retry."""

import asyncio
import contextlib
import datetime as dt
import socket
import ssl
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trustme

import bulkfetch

LEARNERS = [f"l{n}" for n in range(8)]
YESTERDAY = dt.datetime.now(dt.UTC) - dt.timedelta(days=1)


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def bundle(authority: trustme.CA, tmp_path: Path) -> Path:
    path = tmp_path / "authority.pem"
    authority.cert_pem.write_to_path(str(path))
    return path


@asynccontextmanager
async def over_tls(certificate: trustme.LeafCert, say: Any) -> AsyncIterator[tuple[str, list[str]]]:
    """Serve over TLS; give the URL and a list of what happened to each connection.

    In threads, because a handshake that fails is then closed in order: its alert arrives.
    """
    events: list[str] = []
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    certificate.configure_cert(context)

    def talk(stream: Any) -> None:
        while head := b"".join(iter(stream.readline, b"\r\n")):
            length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r")[0])
            body = stream.read(length)
            events.append("asked")
            ids = [part.partition(b"<")[0].decode() for part in body.split(b"<id>")[1:]]
            stream.write(say.http(say.rows(ids)))
            stream.flush()

    def shake_hands(plain: socket.socket) -> None:
        events.append("accepted")
        try:
            with context.wrap_socket(plain, server_side=True, suppress_ragged_eofs=True) as secure:
                events.append("connected")
                with contextlib.suppress(OSError), secure.makefile("rwb") as stream:
                    talk(stream)
        except OSError:
            events.append("refused")

    def accept() -> None:
        while True:
            try:
                plain, _ = listener.accept()
            except OSError:
                return
            plain.settimeout(30)
            threading.Thread(target=serve_one, args=[plain], daemon=True).start()

    def serve_one(plain: socket.socket) -> None:
        with contextlib.closing(plain), contextlib.suppress(OSError):
            # The context takes the descriptor of the socket it wraps: give it one of its own.
            shake_hands(plain.dup())
            plain.shutdown(socket.SHUT_WR)
            while plain.recv(4096):
                pass

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=accept)
        thread.start()
        yield f"https://localhost:{listener.getsockname()[1]}", events
        listener.shutdown(socket.SHUT_RDWR)
        await asyncio.to_thread(thread.join)


async def test_a_bundle_of_the_callers_is_trusted(
    fetch: Any, say: Any, authority: trustme.CA, bundle: Path
) -> None:
    async with over_tls(authority.issue_cert("localhost"), say) as (url, events):
        outcome = await fetch(url, LEARNERS, ca_bundle=bundle)
        assert outcome.error is None
        assert outcome.learners == LEARNERS
        assert "asked" in events


FLAWED: dict[str, Callable[[trustme.CA], trustme.LeafCert]] = {
    "an unknown authority": lambda _authority: trustme.CA().issue_cert("localhost"),
    "another host": lambda authority: authority.issue_cert("learn.example.org"),
    "an address for a name": lambda authority: authority.issue_cert("127.0.0.2"),
    "expired": lambda authority: authority.issue_cert("localhost", not_after=YESTERDAY),
    "not yet valid": lambda authority: authority.issue_cert(
        "localhost", not_before=YESTERDAY + dt.timedelta(days=3)
    ),
}


@pytest.mark.parametrize("flaw", FLAWED)
async def test_a_flawed_certificate_stops_the_run_before_anything_is_sent(
    fetch: Any, say: Any, authority: trustme.CA, bundle: Path, flaw: str
) -> None:
    async with over_tls(FLAWED[flaw](authority), say) as (url, events):
        outcome = await fetch(url, LEARNERS, ca_bundle=bundle, workers=2)
        assert isinstance(outcome.error, bulkfetch.EndpointError)
        assert "certificate" in str(outcome.error)
        assert outcome.report.calls <= 2
        assert events.count("accepted") <= 2
        assert "asked" not in events


async def test_without_the_bundle_the_authority_is_unknown(
    fetch: Any, say: Any, authority: trustme.CA
) -> None:
    async with over_tls(authority.issue_cert("localhost"), say) as (url, events):
        outcome = await fetch(url, LEARNERS)
        assert isinstance(outcome.error, bulkfetch.EndpointError)
        assert "asked" not in events


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion:DeprecationWarning")
async def test_old_tls_is_refused(
    fetch: Any, say: Any, authority: trustme.CA, bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    certificate = authority.issue_cert("localhost")
    plain_configure = certificate.configure_cert

    def configure(context: ssl.SSLContext) -> None:
        plain_configure(context)
        context.set_ciphers("ALL:@SECLEVEL=0")
        context.minimum_version = ssl.TLSVersion.TLSv1
        context.maximum_version = ssl.TLSVersion.TLSv1_1

    monkeypatch.setattr(certificate, "configure_cert", configure)
    async with over_tls(certificate, say) as (url, events):
        outcome = await fetch(url, LEARNERS, ca_bundle=bundle)
        assert isinstance(outcome.error, bulkfetch.EndpointError)
        assert "asked" not in events


async def test_a_plain_port_is_no_tls(fetch: Any) -> None:
    """A plain server answers the handshake in words."""
    accepted = 0

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal accepted
        accepted += 1
        await reader.read(1)
        writer.write(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(talk, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    outcome = await fetch(f"https://localhost:{port}", LEARNERS, workers=2)
    server.close()
    assert isinstance(outcome.error, bulkfetch.EndpointError)
    assert "TLS" in str(outcome.error)
    assert accepted <= 2


@pytest.mark.parametrize("content", [None, "", "no certificates"])
async def test_a_bundle_that_holds_nothing_is_a_usage_error(
    fetch: Callable[..., Awaitable[Any]], tmp_path: Path, content: str | None
) -> None:
    path = tmp_path / "bundle.pem"
    if content is not None:
        path.write_text(content)
    with pytest.raises(bulkfetch.UsageError, match="CA bundle"):
        await fetch("https://localhost:9", LEARNERS, ca_bundle=path)
