"""Answers that nobody asked for, waiting on an idle connection when the next request takes it."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

import bulkfetch

FEW = [f"l{n}" for n in range(4)]
MORE = [f"l{n}" for n in range(8)]
Serve = Callable[..., Awaitable[Any]]
Options = Callable[..., bulkfetch.Options]

UNASKED: dict[str, Callable[[Any], bytes]] = {
    "rows of others": lambda say: say.http(say.rows(["somebody-else"])),
    "rows asked for before": lambda say: say.http(say.rows(FEW)),
    "nothing": lambda say: say.http(say.rows([])),
    "permission denied": lambda say: say.http(say.fault("Permission denied"), "500 Oops"),
    "authorization failed": lambda say: say.http(say.fault("Authorization failed")),
    "wrong parameters": lambda say: say.http(say.fault("Wrong parameters")),
    "408": lambda say: say.http(b"", "408 Request Timeout"),
    "401": lambda say: say.http(b"", "401 Unauthorized"),
    "413": lambda say: say.http(b"", "413 Payload Too Large"),
    "a redirect": lambda say: say.http(b"", "302 Found", "Location: https://example.org/"),
    "half an answer": lambda say: say.http(say.rows(MORE))[:200],
    "not HTTP": lambda _say: b"Bye.\r\n\r\n",
}


@pytest.mark.parametrize("unasked", UNASKED)
async def test_an_answer_that_waits_on_an_idle_connection_is_not_the_next_ones(
    serve: Serve, say: Any, options: Options, unasked: str
) -> None:
    """Rows asked for before lie in the next rectangle: only the connection can tell."""
    is_sent = asyncio.Event()

    async def script(request: Any, writer: Any) -> Any:
        if request.number == 0:

            def send() -> None:
                writer.write(UNASKED[unasked](say))
                is_sent.set()

            asyncio.get_running_loop().call_later(0.01, send)
        return say.http(say.rows(request.learners))

    server = await serve(script)
    async with bulkfetch.Client(
        server.url, token="the-token", options=options(batch_size=8)
    ) as client:
        first = [row.learner_id async for row in client.enrollments(learner_ids=FEW)]
        assert first == FEW
        await is_sent.wait()
        await asyncio.sleep(0.02)
        fetch = client.enrollments(learner_ids=MORE)
        second = [row.learner_id async for row in fetch]
    assert second == MORE
    assert fetch.report.is_complete
    assert fetch.report.calls == 1


@pytest.mark.parametrize("unasked", UNASKED)
async def test_two_answers_to_one_request_spoil_nothing(
    serve: Serve, say: Any, fetch: Any, unasked: str
) -> None:
    async def script(request: Any, _writer: Any) -> Any:
        answer = say.http(say.rows(request.learners))
        return answer + (UNASKED[unasked](say) if request.number == 0 else b"")

    server = await serve(script)
    outcome = await fetch(server.url, MORE, workers=1)
    assert outcome.error is None
    assert outcome.learners == MORE


async def test_an_answer_that_comes_after_the_time_limit_is_not_the_next_ones(
    serve: Serve, say: Any, fetch: Any
) -> None:
    async def script(request: Any, _writer: Any) -> Any:
        if request.number == 0:
            await asyncio.sleep(0.15)
            return say.http(say.rows([]))
        return say.http(say.rows(request.learners))

    server = await serve(script)
    outcome = await fetch(
        server.url, MORE, workers=1, limits=bulkfetch.Limits(read_s=0.05, total_s=1)
    )
    assert outcome.learners == MORE
    assert outcome.report.retries == 1
