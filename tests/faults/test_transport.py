"""Connections and framing: what breaks between the socket and the first byte of XML."""

import asyncio
import socket
import struct
from collections.abc import Awaitable, Callable
from typing import Any

import aiohttp
import pytest

import bulkfetch

LEARNERS = [f"l{n}" for n in range(8)]
Serve = Callable[..., Awaitable[Any]]
Options = Callable[..., bulkfetch.Options]


def close_in(writer: Any, body: bytes, *headers: str) -> bytes:
    """Close after the answer, which has no length."""
    asyncio.get_running_loop().call_later(0.005, writer.close)
    return "\r\n".join(["HTTP/1.1 200 OK", *headers, "", ""]).encode() + body


HEAD_LENGTH = len(
    b"HTTP/1.1 200 OK\r\nContent-Type: text/xml\r\nX-Some: header\r\nContent-Length: 999\r\n\r\n"
)


@pytest.mark.parametrize("ends", ["FIN", "RST"])
@pytest.mark.parametrize("is_reused", [False, True], ids=["fresh", "reused"])
async def test_an_answer_cut_at_any_byte_of_its_head_is_asked_for_again(
    serve: Serve, say: Any, fetch: Any, ends: str, is_reused: bool
) -> None:
    cuts = list(range(0, HEAD_LENGTH, 3))
    learners = [f"l{n:03}" for n in range(len(cuts))]
    cut_of = dict(zip(learners, cuts, strict=True))
    requests = 0

    async def script(request: Any, writer: Any) -> Any:
        nonlocal requests
        requests += 1
        body = say.rows(request.learners)
        answer = say.http(body, "200 OK", "Content-Type: text/xml", "X-Some: header")
        cut = cut_of.pop(request.learners[0], None) if not is_reused or request.number else None
        if cut is None:
            return answer if is_reused else close_in(writer, body)
        writer.write(answer[:cut])
        await writer.drain()
        if ends == "RST":
            linger = struct.pack("ii", 1, 0)
            writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        writer.transport.abort() if ends == "RST" else writer.close()
        return None

    server = await serve(script)
    outcome = await fetch(server.url, learners, batch_size=1, workers=4)
    assert outcome.error is None
    assert outcome.learners == learners
    struck = len(learners) - len(cut_of)
    assert requests == len(learners) + struck
    if is_reused:  # what breaks on a used connection is sent again at once, on a fresh one
        assert 0 < outcome.report.retries <= struck
    else:
        assert outcome.report.retries == struck == len(learners)


CHUNKED = "Transfer-Encoding: chunked"
BROKEN: dict[str, Callable[[Any, bytes], bytes]] = {
    "a bad chunk size at once": lambda say, _doc: (
        say.http(b"", "200 OK", CHUNKED).replace(b"Content-Length: 0\r\n", b"") + b"zz\r\n"
    ),
    "a bad chunk size in the middle": lambda say, doc: (
        say.http(b"", "200 OK", CHUNKED).replace(b"Content-Length: 0\r\n", b"")
        + b"%x\r\n%b\r\nzz\r\nwhat" % (len(doc) - 20, doc[:-20])
    ),
    "a chunk without its end": lambda say, doc: (
        say.http(b"", "200 OK", CHUNKED).replace(b"Content-Length: 0\r\n", b"")
        + b"%x\r\n%bxx0\r\n\r\n" % (len(doc) - 20, doc[:-20])
    ),
    "a chunk size of 2**64": lambda say, doc: (
        say.http(b"", "200 OK", CHUNKED).replace(b"Content-Length: 0\r\n", b"")
        + b"10000000000000000\r\n" + doc
    ),
    "two lengths, the first short": lambda say, doc: say.http(
        doc, "200 OK", f"Content-Length: {len(doc) - 40}"
    ),
    "a length and chunks": lambda say, doc: say.http(doc, "200 OK", CHUNKED),
    "a length of two numbers": lambda say, doc: say.http(doc).replace(
        b"Content-Length: ", b"Content-Length: 12, "
    ),
    "a negative length": lambda say, doc: say.http(doc).replace(
        b"Content-Length: ", b"Content-Length: -"
    ),
    "a length with an underscore": lambda say, doc: say.http(doc).replace(
        b"Content-Length: ", b"Content-Length: 1_"
    ),
    "a length that is too short": lambda say, doc: say.http(doc[:-9]) + doc[-9:],
    "NUL in a header": lambda say, doc: say.http(doc, "200 OK", "X: a\0b"),
    "a header without a colon": lambda say, doc: say.http(doc, "200 OK", "what is this"),
    "5,000 headers": lambda say, doc: say.http(
        doc, "200 OK", *(f"X-{n}: y" for n in range(5_000))
    ),
    "a header of 200 kB": lambda say, doc: say.http(doc, "200 OK", "X: " + "y" * 200_000),
    "HTTP/0.9": lambda _say, doc: doc,
    "HTTP/9.9": lambda say, doc: say.http(doc).replace(b"HTTP/1.1", b"HTTP/9.9"),
    "status 99": lambda say, doc: say.http(doc, "099 What"),
    "status 101": lambda say, doc: say.http(
        doc, "101 Switching Protocols", "Upgrade: tls", "Connection: Upgrade"
    ),
    "status 205": lambda say, _doc: say.http(b"", "205 Reset Content"),
    "status 299": lambda say, doc: say.http(doc, "299 Odd"),
    "two encodings": lambda say, doc: say.http(doc, "200 OK", "Content-Encoding: gzip, gzip"),
    "zstd": lambda say, doc: say.http(doc, "200 OK", "Content-Encoding: zstd"),
    "UTF-16": lambda say, doc: say.http(doc.decode().encode("utf-16")),
}  # fmt: skip


@pytest.mark.parametrize("own_session", [False, True], ids=["our session", "their session"])
@pytest.mark.parametrize("name", BROKEN)
async def test_a_broken_answer_is_asked_for_again_or_read_right(
    serve: Serve, say: Any, fetch: Any, name: str, own_session: bool
) -> None:
    """Some of these aiohttp takes for valid; none may cost a row or raise what is not ours."""

    async def script(request: Any, writer: Any) -> Any:
        whole = say.rows(request.learners, each=2)
        if server.calls_by_batch()[tuple(request.learners)] > 1:
            return say.http(whole)
        writer.write(BROKEN[name](say, whole))
        await writer.drain()
        writer.close()
        return None

    server = await serve(script)
    async with aiohttp.ClientSession() as session:
        outcome = await fetch(server.url, LEARNERS, session=session if own_session else None)
    assert outcome.error is None
    assert outcome.learners == sorted(LEARNERS * 2)


@pytest.mark.parametrize("name", BROKEN)
async def test_a_broken_answer_that_stays_is_loud(
    serve: Serve, say: Any, fetch: Any, name: str
) -> None:
    async def script(request: Any, writer: Any) -> Any:
        writer.write(BROKEN[name](say, say.rows(request.learners, each=2)[:-30]))
        await writer.drain()
        writer.close()

    server = await serve(script)
    outcome = await fetch(server.url, LEARNERS)
    assert outcome.rows == []
    assert outcome.named == set(LEARNERS)
    assert (
        max(server.calls_by_batch().values()) <= 3 * 2
    )  # a used connection may break under each of three attempts


async def test_a_server_that_never_reads_is_given_up_within_the_time_limit(
    options: Options,
) -> None:
    """The request is larger than all buffers on the way, so that sending it never ends."""
    learners = [f"{n:05}" + "x" * 2_000 for n in range(8_000)]
    held: list[asyncio.StreamWriter] = []

    async def never_read(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        reader._transport.pause_reading()  # type: ignore[attr-defined]
        held.append(writer)

    server = await asyncio.start_server(never_read, "127.0.0.1", 0, limit=1024)
    port = server.sockets[0].getsockname()[1]
    loop = asyncio.get_running_loop()
    started_at = loop.time()
    async with bulkfetch.Client(
        f"http://127.0.0.1:{port}",
        token="the-token",
        options=options(
            batch_size=8_000,
            workers=1,
            limits=bulkfetch.Limits(read_s=0.1, total_s=0.2),
            retry=bulkfetch.RetryPolicy(attempts=1),
        ),
    ) as client:
        fetch = client.enrollments(learner_ids=learners)

        async def consume() -> None:
            async for _ in fetch:
                pass

        task = asyncio.create_task(consume())
        while not fetch.report.splits:
            assert loop.time() - started_at < 3
            await asyncio.sleep(0.01)
        task.cancel()
        await asyncio.wait({task})
    server.close()
    for writer in held:
        writer.transport.abort()


@pytest.mark.parametrize("manner", ["reads on", "closes", "resets"])
async def test_an_early_413_splits_the_batch(say: Any, options: Options, manner: str) -> None:
    """The server answers before it has read the request, and may then slam the door."""
    learners = [f"{n:05}" + "x" * 2_000 for n in range(4_000)]

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r")[0])
        if length < 5_000_000:
            body = await reader.readexactly(length)
            ids = [part.partition(b"<")[0].decode() for part in body.split(b"<id>")[1:]]
            writer.write(say.http(say.rows(ids)))
        else:
            writer.write(say.http(b"", "413 Payload Too Large", "Connection: close"))
            await writer.drain()
            if manner == "reads on":
                await reader.readexactly(length)
            elif manner == "resets":
                await asyncio.sleep(0.01)
        writer.close()

    server = await asyncio.start_server(talk, "127.0.0.1", 0, limit=2**24)
    port = server.sockets[0].getsockname()[1]
    async with bulkfetch.Client(
        f"http://127.0.0.1:{port}",
        token="the-token",
        options=options(batch_size=4_000, workers=1, limits=bulkfetch.Limits(total_s=10)),
    ) as client:
        fetch = client.enrollments(learner_ids=learners)
        got = sorted([row.learner_id async for row in fetch])
    server.close()
    assert got == learners
    assert fetch.report.splits == 1


async def test_a_name_that_cannot_be_resolved_ends_soon(
    fetch: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_args: object, **_kwargs: object) -> list[Any]:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", fail)
    outcome = await fetch("https://learn.example.org", LEARNERS)
    assert outcome.named == set(LEARNERS)
    assert "cannot be resolved" in str(outcome.error)
    assert outcome.report.calls <= 3 * 4
