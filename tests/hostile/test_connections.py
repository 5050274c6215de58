"""Connections that are refused, reset, silent, slow, or say more than they were asked."""

import asyncio
import socket
import struct
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

import bulkfetch

LEARNERS = [f"l{n:02}" for n in range(8)]
Serve = Callable[..., Awaitable[Any]]
Options = Callable[..., bulkfetch.Options]


async def fetch(url: str, options: bulkfetch.Options) -> tuple[list[str], bulkfetch.FetchReport]:
    async with bulkfetch.Client(url, token="the-token", options=options) as client:
        handle = client.enrollments(learner_ids=LEARNERS)
        return sorted([row.learner_id async for row in handle]), handle.report


def reset(writer: Any) -> None:
    sock = writer.get_extra_info("socket")
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


async def before(_request: Any, writer: Any, _answer: bytes) -> None:
    reset(writer)


async def during(_request: Any, writer: Any, answer: bytes) -> None:
    writer.write(answer[: len(answer) // 2])
    await writer.drain()
    await asyncio.sleep(0.01)
    reset(writer)


async def in_the_head(_request: Any, writer: Any, answer: bytes) -> None:
    writer.write(answer[:20])
    await writer.drain()
    writer.close()


async def silence(_request: Any, _writer: Any, _answer: bytes) -> None:
    await asyncio.sleep(5)


async def drip(_request: Any, writer: Any, answer: bytes) -> None:
    """A byte now and then never trips the limit on silence; the limit on the whole call does."""
    for at in range(len(answer)):
        writer.write(answer[at : at + 1])
        await writer.drain()
        await asyncio.sleep(0.05)


async def endless_continue(_request: Any, writer: Any, _answer: bytes) -> None:
    while True:
        writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        await writer.drain()
        await asyncio.sleep(0.01)


@pytest.mark.parametrize(
    "trouble", [before, during, in_the_head, silence, drip, endless_continue],
    ids=lambda trouble: trouble.__name__,
)  # fmt: skip
async def test_a_broken_connection_costs_a_retry_and_no_rows(
    serve: Serve, render: Any, options: Options, trouble: Callable[..., Awaitable[None]]
) -> None:
    async def handler(request: Any, writer: Any) -> None:
        answer = render.response(render.document(request.learners))
        if request.number == 0:
            await trouble(request, writer, answer)
        else:
            writer.write(answer)

    limits = bulkfetch.Limits(connect_s=0.5, read_s=0.2, total_s=0.6)
    rows, report = await fetch((await serve(handler)).url, options(limits=limits))
    assert rows == LEARNERS
    assert report.retries == 1


async def test_a_connection_closed_while_idle_is_opened_again(
    serve: Serve, render: Any, options: Options
) -> None:
    async def handler(request: Any, writer: Any) -> None:
        writer.write(render.response(render.document(request.learners)))
        await writer.drain()
        asyncio.get_running_loop().call_later(0.001, writer.close)

    rows, _ = await fetch((await serve(handler)).url, options(batch_size=1, workers=1))
    assert rows == LEARNERS


async def test_a_service_that_comes_up_late_is_waited_for(
    serve: Serve, render: Any, options: Options
) -> None:
    async def handler(request: Any, writer: Any) -> None:
        writer.write(render.response(render.document(request.learners)))

    server = await serve(handler)
    attempts = 0

    async def sleep(_seconds: float) -> None:
        nonlocal attempts
        attempts += 1
        if attempts == 3:
            forward = await asyncio.start_server(
                lambda reader, writer: pipe(reader, writer, server.port), "127.0.0.1", port
            )
            servers.append(forward)
        await asyncio.sleep(0.01)

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    servers: list[asyncio.Server] = []
    retry = bulkfetch.RetryPolicy(attempts=6)
    async with bulkfetch.Client(
        f"http://127.0.0.1:{port}",
        token="the-token",
        options=options(retry=retry),
        runtime=bulkfetch.Runtime(sleep=sleep),
    ) as client:
        rows = [row async for row in client.enrollments(learner_ids=LEARNERS)]
    for forward in servers:
        forward.close()
    assert len(rows) == 8


async def pipe(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, port: int) -> None:
    """Pass one connection on."""
    onward_reader, onward_writer = await asyncio.open_connection("127.0.0.1", port)

    async def copy(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        while data := await source.read(65536):
            sink.write(data)
            await sink.drain()
        sink.close()

    await asyncio.gather(copy(reader, onward_writer), copy(onward_reader, writer))


async def test_a_service_that_is_down_ends_soon_and_names_every_id(options: Options) -> None:
    with pytest.raises(bulkfetch.IncompleteError) as caught:
        await fetch("http://127.0.0.1:9", options())
    named = {learner for entry in caught.value.failed for learner in entry.learner_ids or ()}
    assert named == set(LEARNERS)


@pytest.mark.parametrize("extra", ["rows", "fault", "408", "empty"])
async def test_what_was_not_asked_for_is_never_the_next_answer(
    serve: Serve, render: Any, options: Options, extra: str
) -> None:
    """A second answer to the first request waits on the connection that the next one takes."""
    unasked = {
        "rows": render.response(render.document(["l00"])),
        "fault": render.response(render.fault("Permission denied"), "500 Oops"),
        "408": render.response(b"", "408 Request Timeout", "Connection: close"),
        "empty": render.response(render.document([])),
    }[extra]

    async def handler(request: Any, writer: Any) -> None:
        writer.write(render.response(render.document(request.learners)))
        if request.number == 0:
            writer.write(unasked)
        elif request.number == 1:
            await asyncio.sleep(0.02)

    rows, report = await fetch((await serve(handler)).url, options(workers=1, batch_size=2))
    assert rows == LEARNERS
    assert report.is_complete
