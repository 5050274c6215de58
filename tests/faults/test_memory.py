"""Bombs, each in a process of its own whose memory is measured by the kernel."""

import gzip
import json
import subprocess
import sys
import zlib
from collections.abc import Callable
from typing import Any

import pytest

MIB = 1024 * 1024

PROGRAM = """
import asyncio, json, resource, sys
import bulkfetch

async def main():
    answer = open(sys.argv[1], "rb").read()

    async def talk(reader, writer):
        try:
            while True:
                head = await reader.readuntil(b"\\r\\n\\r\\n")
                length = int(head.lower().partition(b"content-length: ")[2].partition(b"\\r")[0])
                await reader.readexactly(length)
                writer.write(answer)
                await writer.drain()
        except (asyncio.IncompleteReadError, OSError):
            writer.close()

    server = await asyncio.start_server(talk, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    loop = asyncio.get_running_loop()
    latest = 0.0

    async def watch():
        nonlocal latest
        while True:
            started_at = loop.time()
            await asyncio.sleep(0.005)
            latest = max(latest, loop.time() - started_at)

    watcher = asyncio.create_task(watch())
    options = bulkfetch.Options(
        workers=1,
        retry=bulkfetch.RetryPolicy(attempts=1),
        max_outage_s=0,
        limits=bulkfetch.Limits(read_s=5, total_s=15, **json.loads(sys.argv[2])),
    )
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    rows, error = 0, "none"
    async with bulkfetch.Client(f"http://127.0.0.1:{port}", token="t" * 9, options=options) as c:
        fetch = c.enrollments(learner_ids=["l0"])
        try:
            async for _ in fetch:
                rows += 1
        except bulkfetch.IncompleteError as raised:
            error = str(raised)
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    watcher.cancel()
    print(json.dumps([(after - before) // 1024, rows, error, fetch.report.body_bytes, latest]))

asyncio.run(main())
"""


def pack(start: bytes, filler: bytes, end: bytes, size: int) -> bytes:
    packer = zlib.compressobj(6, wbits=31)
    block = filler * (MIB // len(filler))
    packed = [packer.compress(start), *(packer.compress(block) for _ in range(size // len(block)))]
    return b"".join([*packed, packer.compress(end), packer.flush()])


@pytest.fixture
def fetch_apart(tmp_path: Any, say: Any) -> Callable[..., tuple[int, int, str, int, float]]:
    """Fetch this gzip body in another process; give MiB grown, rows, error, bytes, lateness."""

    def run(packed: bytes, **limits: int) -> tuple[int, int, str, int, float]:
        path = tmp_path / "answer"
        path.write_bytes(say.http(packed, "200 OK", "Content-Encoding: gzip"))
        done = subprocess.run(
            [sys.executable, "-c", PROGRAM, str(path), json.dumps(limits)],
            capture_output=True,
            check=True,
            timeout=60,
        )
        grown, rows, error, body_bytes, latest = json.loads(done.stdout)
        return grown, rows, error, body_bytes, latest

    return run


@pytest.fixture
def parts(say: Any) -> tuple[bytes, bytes, bytes]:
    """What stands before a record, the record, and what follows it."""
    document = say.rows(["l0"])
    at, end = document.index(b"<enrollment>"), document.index(b"</GetEnrollmentsResult>")
    return document[:at], document[at:end], document[end:]


@pytest.mark.parametrize("filler", ["zeros", "spaces", "spaces after a record", "text", "deep"])
def test_a_bomb_of_nothing_costs_no_memory(
    fetch_apart: Any, parts: tuple[bytes, bytes, bytes], filler: str
) -> None:
    start, record, end = parts
    packed = {
        "zeros": lambda: pack(b"", b"\0", b"", 300 * MIB),
        "spaces": lambda: pack(start, b" ", end, 300 * MIB),
        "spaces after a record": lambda: pack(start + record, b" ", end, 300 * MIB),
        "text": lambda: pack(start + b"<enrollment><courseId>", b"x", end, 300 * MIB),
        "deep": lambda: pack(start, b"<a>", end, 300 * MIB),
    }[filler]()
    grown, rows, error, body_bytes, latest = fetch_apart(packed)
    assert rows == 0
    assert "l0" in error
    assert grown < 60
    assert body_bytes < 20 * MIB
    assert latest < 0.5


def test_empty_gzip_members_without_end_are_capped(fetch_apart: Any) -> None:
    """They inflate to nothing, so only the bytes received can be counted."""
    packed = gzip.compress(b"") * (8 * MIB // 20)
    grown, rows, error, _, latest = fetch_apart(packed, answer_bytes=4 * MIB)
    assert rows == 0
    assert "larger than" in error
    assert grown < 60
    assert latest < 0.5


def test_a_bomb_of_valid_records_is_bounded_by_the_cap(
    fetch_apart: Any, parts: tuple[bytes, bytes, bytes]
) -> None:
    """Rows are kept until the answer has closed, so the cap on the answer caps them."""
    start, record, end = parts
    packed = pack(start, record, end, 300 * MIB)
    grown, rows, error, _, latest = fetch_apart(packed, answer_bytes=32 * MIB)
    assert rows == 0
    assert "larger than" in error
    assert grown < 150
    assert latest < 0.5
