"""Retry-After, in virtual time: kept by all workers together, and left one by one."""

import asyncio
import itertools
from collections.abc import Callable
from random import Random
from typing import Any

import async_solipsism
import pytest

import bulkfetch
from bulkfetch.runtime import run_inline

LEARNERS = [f"l{n:03}" for n in range(40)]
START = 1_767_268_800.0  # Thursday, 2026-01-01 12:00:00 GMT, at the beginning of virtual time


@pytest.fixture(autouse=True)
def _connect_in_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "aiohappyeyeballs.start_connection", async_solipsism.aiohappyeyeballs_start_connection
    )


Answer = Callable[[int, list[str]], bytes]


def run(
    answer: Answer, *, workers: int = 8, attempts: int = 6
) -> tuple[list[float], list[str], bulkfetch.BulkfetchError | None]:
    """Fetch an id at a time; return when each request came, the rows, and the error."""
    came_at: list[float] = []

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while head := await reader.readuntil(b"\r\n\r\n"):
            length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r")[0])
            body = await reader.readexactly(length)
            came_at.append(asyncio.get_running_loop().time())
            number = len(came_at) - 1
            await asyncio.sleep(0.1)
            ids = [part.partition(b"<")[0].decode() for part in body.split(b"<id>")[1:]]
            writer.write(answer(number, ids))

    async def main() -> tuple[list[str], bulkfetch.BulkfetchError | None]:
        loop = asyncio.get_running_loop()
        talks: set[asyncio.Task[None]] = set()

        async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            task = asyncio.current_task()
            assert task is not None
            talks.add(task)
            try:
                await talk(reader, writer)
            except asyncio.IncompleteReadError:
                writer.close()

        listening = async_solipsism.ListenSocket(("127.0.0.1", 80))
        server = await asyncio.start_server(accept, sock=listening)
        runtime = bulkfetch.Runtime(
            clock=loop.time,
            wall_clock=lambda: START + loop.time(),
            random=Random(1),
            offload=run_inline,
        )
        options = bulkfetch.Options(
            batch_size=1, workers=workers, retry=bulkfetch.RetryPolicy(attempts=attempts)
        )
        got: list[str] = []
        error = None
        async with bulkfetch.Client(
            "http://127.0.0.1:80", token="the-token", options=options, runtime=runtime
        ) as client:
            try:
                got += [row.learner_id async for row in client.enrollments(learner_ids=LEARNERS)]
            except bulkfetch.BulkfetchError as raised:
                error = raised
        server.close()
        await asyncio.wait(talks)
        return got, error

    with asyncio.Runner(loop_factory=async_solipsism.EventLoop) as runner:
        got, error = runner.run(main())
    return came_at, got, error


@pytest.fixture
def refuse_once(say: Any) -> Callable[..., Answer]:
    """Make a service that refuses its tenth request, with these words."""

    def make(status: str, *headers: str, body: bytes = b"") -> Answer:
        def answer(number: int, ids: list[str]) -> bytes:
            if number == 10:
                return say.http(body, status, *headers)  # type: ignore[no-any-return]
            return say.http(say.rows(ids))  # type: ignore[no-any-return]

        return answer

    return make


def pause(came_at: list[float]) -> tuple[float, float]:
    """Return when the longest pause between two requests began, and how long it was."""
    gap, began_at = max((later - at, at) for at, later in itertools.pairwise(came_at))
    return began_at, gap


@pytest.mark.parametrize(
    "refusal",
    ["429 Too Many Requests", "503 Service Unavailable", "408 Timeout", "502 Bad", "500 Oops"],
)
@pytest.mark.parametrize("value", ["7", "Thu, 01 Jan 2026 12:00:07 GMT"], ids=["seconds", "date"])
def test_all_workers_wait_and_leave_one_by_one(refuse_once: Any, refusal: str, value: str) -> None:
    came_at, got, error = run(refuse_once(refusal, f"Retry-After: {value}"))
    assert error is None
    assert sorted(got) == LEARNERS
    began_at, gap = pause(came_at)
    assert 6.5 <= gap <= 7.0 + 7.0 / 4
    after = sorted(at - began_at - gap for at in came_at if at > began_at)
    assert len([at for at in after if at < 0.01]) <= 3, "they stampede"


def test_a_fault_with_retry_after_is_waited_for(refuse_once: Any, say: Any) -> None:
    body = say.fault("Try later", "SOAP-ENV:Server")
    came_at, _, error = run(refuse_once("500 Oops", "Retry-After: 7", body=body))
    assert error is None
    assert pause(came_at)[1] >= 6.5


@pytest.mark.parametrize(
    "value", ["-1", "1000000000", "NaN", "", "٧", "Thu, 01 Jan 1970 00:00:00 GMT", "0", "soon"]
)
def test_nonsense_is_no_reason_to_wait(refuse_once: Any, value: str) -> None:
    header = f"Retry-After: {value}".encode().decode("latin-1")
    came_at, got, error = run(refuse_once("429 Too Many Requests", header))
    assert error is None
    assert sorted(got) == LEARNERS
    assert pause(came_at)[1] < 1.0


def test_a_service_that_always_asks_for_an_hour_is_given_up(say: Any) -> None:
    """Each wait is capped at ten minutes, and each open batch has its attempts."""
    came_at, got, error = run(
        lambda _number, _ids: say.http(b"", "429 No", "Retry-After: 3600"), workers=2, attempts=3
    )
    assert got == []
    assert isinstance(error, bulkfetch.IncompleteError)
    assert len(came_at) <= 2 * 2 * 3
    assert pause(came_at)[1] <= 600 * 1.25 + 1
