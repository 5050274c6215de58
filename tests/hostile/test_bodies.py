"""Answers cut, labelled wrongly, or not answers at all: retried, and never taken for data."""

import gzip
import zlib
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

import bulkfetch

LEARNERS = [f"l{n:02}" for n in range(8)]
Serve = Callable[..., Awaitable[Any]]
Options = Callable[..., bulkfetch.Options]


async def fetch(server: Any, options: bulkfetch.Options) -> tuple[list[str], bulkfetch.FetchReport]:
    async with bulkfetch.Client(server.url, token="the-token", options=options) as client:
        handle = client.enrollments(learner_ids=LEARNERS)
        return sorted([row.enrollment_id async for row in handle]), handle.report


def chunked(*parts: bytes, end: bool = True) -> bytes:
    body = b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in parts)
    return (
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
        + body
        + (b"0\r\n\r\n" if end else b"")
    )


def until_close(body: bytes, *headers: bytes) -> bytes:
    return b"\r\n".join([b"HTTP/1.1 200 OK", b"Connection: close", *headers, b"", body])


BAD: dict[str, Callable[[Any, bytes], bytes]] = {
    "cut with a length": lambda r, doc: r.response(doc[:-40], length=len(doc)),
    "cut without a length": lambda _, doc: until_close(doc[:-40]),
    "cut at a record end without a length": lambda _, doc: until_close(
        doc[: doc.index(b"</enrollment>") + 13]
    ),
    "cut in chunks": lambda _, doc: chunked(doc[:100], doc[100:-40], end=False),
    "cut in whole chunks": lambda _, doc: chunked(doc[:100], doc[100:-40]),
    "gzip cut": lambda _, doc: until_close(gzip.compress(doc)[:-20], b"Content-Encoding: gzip"),
    "gzip without trailer": lambda _, doc: until_close(
        gzip.compress(doc)[:-8], b"Content-Encoding: gzip"
    ),
    "gzip with a bad checksum": lambda r, doc: r.response(
        gzip.compress(doc)[:-8] + b"\0\0\0\0" + gzip.compress(doc)[-4:],
        "200 OK",
        "Content-Encoding: gzip",
    ),
    "gzip and junk": lambda r, doc: r.response(
        gzip.compress(doc) + b"junk", "200 OK", "Content-Encoding: gzip"
    ),
    "gzip twice": lambda r, doc: r.response(
        gzip.compress(gzip.compress(doc)), "200 OK", "Content-Encoding: gzip"
    ),
    "gzip without label": lambda r, doc: r.response(gzip.compress(doc)),
    "label without gzip": lambda r, doc: r.response(doc, "200 OK", "Content-Encoding: gzip"),
    "brotli label": lambda r, doc: r.response(doc, "200 OK", "Content-Encoding: br"),
    "deflate": lambda r, doc: r.response(zlib.compress(doc), "200 OK", "Content-Encoding: deflate"),
    "empty": lambda r, _: r.response(b""),
    "204": lambda _, __: b"HTTP/1.1 204 No Content\r\n\r\n",
    "206": lambda r, doc: r.response(doc, "206 Partial Content"),
    "a login page": lambda r, _: r.response(b"<!DOCTYPE html><html><body>Log in</body></html>"),
    "well-formed html": lambda r, _: r.response(b"<html><body><p>maintenance</p></body></html>"),
    "another root": lambda r, _: r.response(b"<GetEnrollmentsResult/>"),
    "an empty body element": lambda r, _: r.response(
        b'<S:Envelope xmlns:S="http://schemas.xmlsoap.org/soap/envelope/"><S:Body/></S:Envelope>'
    ),
    "not http": lambda _, __: b"SSH-2.0-OpenSSH_9.2\r\n\r\n",
    "nothing": lambda _, __: b"",
    "too long a header": lambda r, doc: r.response(doc, "200 OK", "X: " + "x" * 200_000),
    "too many headers": lambda r, doc: r.response(
        doc, "200 OK", *[f"X{n}: y" for n in range(50_000)]
    ),
    "503": lambda r, _: r.response(b"", "503 Service Unavailable"),
    "502": lambda r, _: r.response(b"<html>bad gateway</html>", "502 Bad Gateway"),
    "500": lambda r, _: r.response(b"oops", "500 Internal Server Error"),
    "server fault": lambda r, _: r.response(r.fault("down", "SOAP-ENV:Server"), "500 Oops"),
    "server fault with 200": lambda r, _: r.response(r.fault("down", "Server")),
    "408": lambda r, _: r.response(b"", "408 Request Timeout"),
    "425": lambda r, _: r.response(b"", "425 Too Early"),
    "429": lambda r, _: r.response(b"", "429 Too Many Requests"),
    "rows of others": lambda r, _: r.response(r.document(["somebody-else"])),
    "everything": lambda r, _: r.response(r.document([*LEARNERS, "somebody-else"])),
}


@pytest.mark.parametrize("name", BAD)
async def test_a_bad_answer_is_asked_for_again(
    serve: Serve, render: Any, options: Options, name: str
) -> None:
    seen: set[str] = set()

    async def handler(request: Any, writer: Any) -> None:
        doc = render.document(request.learners, each=3)
        first = request.learners[0]
        if first in seen:
            writer.write(render.gzipped(doc))
            return
        seen.add(first)
        writer.write(BAD[name](render, doc))
        await writer.drain()
        writer.close()

    rows, report = await fetch(await serve(handler), options())
    assert rows == sorted(f"{learner}-{n}" for learner in LEARNERS for n in range(3))
    assert report.is_complete
    assert report.retries + report.splits >= 1


@pytest.mark.parametrize("name", [name for name in BAD if name not in {"408", "nothing"}])
async def test_an_answer_that_stays_bad_is_never_no_enrollments(
    serve: Serve, render: Any, options: Options, name: str
) -> None:
    async def handler(request: Any, writer: Any) -> None:
        writer.write(BAD[name](render, render.document(request.learners, each=3)))
        await writer.drain()
        writer.close()

    server = await serve(handler)
    with pytest.raises(bulkfetch.IncompleteError) as caught:
        await fetch(server, options())
    named = {learner for entry in caught.value.failed for learner in entry.learner_ids or ()}
    assert named == set(LEARNERS)
    assert len(server.requests) <= 3 * 4


@pytest.mark.parametrize("count", [1, 2])
async def test_a_body_cut_at_every_record_end_is_never_whole(
    serve: Serve, render: Any, options: Options, count: int
) -> None:
    """Without a length a cut is a plain end: only the closing of the document tells."""
    doc = render.document(LEARNERS[:4], each=count)
    ends = [at + 13 for at in range(len(doc)) if doc.startswith(b"</enrollment>", at)]
    cuts = iter([*ends, len(doc) - 1])

    async def handler(request: Any, writer: Any) -> None:
        cut = next(cuts, None) if request.learners[0] == LEARNERS[0] else None
        body = render.document(request.learners, each=count)
        writer.write(until_close(body if cut is None else body[:cut]))
        await writer.drain()
        writer.close()

    retry = bulkfetch.RetryPolicy(attempts=20, base_s=0.001, cap_s=0.002)
    rows, report = await fetch(await serve(handler), options(retry=retry))
    assert len(rows) == len(set(rows)) == len(LEARNERS) * count
    assert report.retries == len(ends) + 1


async def test_whole_answers_of_every_framing_are_taken(
    serve: Serve, render: Any, options: Options
) -> None:
    framings: list[Callable[[bytes], bytes]] = [
        render.response,
        until_close,
        lambda doc: chunked(*[doc[at : at + 7] for at in range(0, len(doc), 7)]),
        render.gzipped,
        lambda doc: render.response(
            gzip.compress(doc[:50]) + gzip.compress(doc[50:]), "200 OK", "Content-Encoding: gzip"
        ),
        lambda doc: until_close(gzip.compress(doc), b"Content-Encoding: x-gzip"),
    ]

    async def handler(request: Any, writer: Any) -> None:
        number = LEARNERS.index(request.learners[0])
        writer.write(framings[number % len(framings)](render.document(request.learners)))
        await writer.drain()
        if number % len(framings) in {1, 5}:
            writer.close()

    rows, report = await fetch(await serve(handler), options(batch_size=1))
    assert (len(rows), report.retries) == (8, 0)


async def test_an_answer_over_the_byte_cap_is_asked_for_in_halves(
    serve: Serve, render: Any, options: Options
) -> None:
    async def handler(request: Any, writer: Any) -> None:
        writer.write(render.gzipped(render.document(request.learners, each=50)))

    limits = bulkfetch.Limits(answer_bytes=25_000)
    rows, report = await fetch(await serve(handler), options(limits=limits))
    assert len(rows) == 400
    assert report.splits == 2
    assert report.calls == 2 + 4 + report.cap_checks


async def test_413_halves_the_batch_and_makes_later_ones_smaller(
    serve: Serve, render: Any, options: Options
) -> None:
    async def handler(request: Any, writer: Any) -> None:
        if len(request.learners) > 2:
            writer.write(render.response(b"", "413 Payload Too Large"))
        else:
            writer.write(render.response(render.document(request.learners)))

    server = await serve(handler)
    rows, report = await fetch(server, options(workers=1))
    assert len(rows) == 8
    assert [len(request.learners) for request in server.requests].count(4) <= 2
    assert report.is_complete


@pytest.mark.parametrize(
    "filler", [b"\0", b" ", b"<x/>", b"<!-- -->"], ids=["zeros", "spaces", "elements", "comments"]
)
async def test_a_gzip_bomb_is_refused_early(
    serve: Serve, render: Any, options: Options, filler: bytes
) -> None:
    """300 MiB of nothing inside 300 kB: no more than a few megabytes of it are ever held."""
    start, end = render.document([]).split(b"<GetEnrollmentsResult>")
    packer = zlib.compressobj(9, wbits=31)
    size = 300 * 1024 * 1024
    block = filler * (1024 * 1024 // len(filler))
    bomb = packer.compress(start + b"<GetEnrollmentsResult>")
    for _ in range(size // len(block)):
        bomb += packer.compress(block)
    bomb += packer.compress(end) + packer.flush()

    async def handler(_request: Any, writer: Any) -> None:
        writer.write(render.response(bomb, "200 OK", "Content-Encoding: gzip"))

    retry = bulkfetch.RetryPolicy(attempts=1)
    server = await serve(handler)
    limits = bulkfetch.Limits(read_s=5, total_s=10)
    async with bulkfetch.Client(
        server.url, token="the-token", options=options(retry=retry, limits=limits)
    ) as client:
        handle = client.enrollments(learner_ids=LEARNERS)
        with pytest.raises(bulkfetch.IncompleteError):
            _ = [row async for row in handle]
        assert handle.report.body_bytes < 20 * 1024 * 1024


async def test_a_callers_session_that_inflates_by_itself_is_safe_too(
    serve: Serve, render: Any, options: Options
) -> None:
    import aiohttp  # noqa: PLC0415

    seen: set[str] = set()

    async def handler(request: Any, writer: Any) -> None:
        doc = render.document(request.learners)
        if request.learners[0] in seen:
            writer.write(render.gzipped(doc))
            return
        seen.add(request.learners[0])
        writer.write(BAD["gzip cut"](render, doc))
        await writer.drain()
        writer.close()

    server = await serve(handler)
    async with aiohttp.ClientSession() as session:
        async with bulkfetch.Client(
            server.url, token="the-token", session=session, options=options()
        ) as client:
            rows = [row async for row in client.enrollments(learner_ids=LEARNERS)]
        assert len(rows) == 8
        assert not session.closed
