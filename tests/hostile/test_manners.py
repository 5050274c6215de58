"""The library as a guest in somebody's loop: leaving, cancelling, slowness, threads."""

import asyncio
import gc
import threading
from collections.abc import Awaitable, Callable
from typing import Any

import pyarrow as pa
import pytest

import bulkfetch

LEARNERS = [f"l{n:04}" for n in range(400)]
Serve = Callable[..., Awaitable[Any]]
Options = Callable[..., bulkfetch.Options]


@pytest.fixture
async def server(serve: Serve, render: Any) -> Any:
    async def handler(request: Any, writer: Any) -> None:
        await asyncio.sleep(0.002)
        writer.write(render.response(render.document(request.learners)))

    return await serve(handler)


def own_tasks() -> list[asyncio.Task[Any]]:
    return [task for task in asyncio.all_tasks() if "bulkfetch" in task.get_name()]


async def settle() -> None:
    for _ in range(20):
        gc.collect()
        await asyncio.sleep(0.005)


async def test_leaving_the_loop_stops_the_workers(server: Any, options: Options) -> None:
    async with bulkfetch.Client(server.url, token="the-token", options=options()) as client:
        fetch = client.enrollments(learner_ids=LEARNERS)
        async for _ in fetch:
            break
        await settle()
        assert own_tasks() == []
        calls = len(server.requests)
        await settle()
        assert len(server.requests) == calls < 30
        assert not fetch.report.is_complete


async def test_cancelling_the_consumer_stops_the_workers(server: Any, options: Options) -> None:
    async with bulkfetch.Client(server.url, token="the-token", options=options()) as client:

        async def consume() -> None:
            async for _ in client.enrollments(learner_ids=LEARNERS):
                await asyncio.sleep(0.001)

        task = asyncio.create_task(consume())
        await asyncio.sleep(0.05)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await settle()
        assert own_tasks() == []


async def test_an_exception_in_the_loop_body_passes_and_stops_the_workers(
    server: Any, options: Options
) -> None:
    with pytest.raises(ZeroDivisionError):
        async with bulkfetch.Client(server.url, token="the-token", options=options()) as client:
            async for _ in client.enrollments(learner_ids=LEARNERS):
                _ = 1 / 0
    await settle()
    assert own_tasks() == []


async def test_a_stuck_consumer_stops_the_fetching(server: Any, options: Options) -> None:
    async with bulkfetch.Client(server.url, token="the-token", options=options()) as client:
        rows = 0
        async for _ in client.enrollments(learner_ids=LEARNERS):
            rows += 1
            if rows == 1:
                await asyncio.sleep(0.3)
                # Two workers with a batch each, one waiting in the stream, one being consumed.
                assert len(server.requests) <= 6
        assert rows == len(LEARNERS)


async def test_two_fetches_share_a_client(server: Any, options: Options) -> None:
    async with bulkfetch.Client(server.url, token="the-token", options=options()) as client:

        async def count(learners: list[str]) -> int:
            return len([row async for row in client.enrollments(learner_ids=learners)])

        counts = await asyncio.gather(count(LEARNERS[:100]), count(LEARNERS[50:200]))
        assert list(counts) == [100, 150]


async def test_a_fetch_is_iterated_once_and_a_client_must_be_open(
    server: Any, options: Options
) -> None:
    client = bulkfetch.Client(server.url, token="the-token", options=options())
    with pytest.raises(bulkfetch.UsageError, match="not open"):
        async for _ in client.enrollments(learner_ids=LEARNERS):
            pass
    async with client:
        fetch = client.enrollments(learner_ids=LEARNERS[:4])
        assert len([row async for row in fetch]) == 4
        with pytest.raises(bulkfetch.UsageError, match="once"):
            _ = [row async for row in fetch]


async def test_arrow_holds_what_objects_hold(server: Any, options: Options) -> None:
    async with bulkfetch.Client(server.url, token="the-token", options=options()) as client:
        table = await client.enrollments(learner_ids=LEARNERS).to_arrow()
        rows = [row async for row in client.enrollments(learner_ids=LEARNERS)]
    by_id = {row.enrollment_id: row for row in rows}
    for row in table.to_pylist():
        assert bulkfetch.Enrollment(**row) == by_id[row["enrollment_id"]]
    assert sorted(table.column("enrollment_id").to_pylist()) == sorted(row[0] for row in rows)


async def test_the_facade_works_where_a_loop_runs_already(server: Any, options: Options) -> None:
    def work() -> tuple[int, int, int]:
        made = options()
        some = {"learner_ids": LEARNERS[:40], "options": made}
        rows = len(list(bulkfetch.fetch_enrollments(server.url, "the-token", **some)))  # type: ignore[arg-type]
        table = bulkfetch.fetch_enrollments(server.url, "the-token", **some).to_arrow()  # type: ignore[arg-type]
        stream = pa.table(bulkfetch.fetch_enrollments(server.url, "the-token", **some))  # type: ignore[arg-type]
        return rows, table.num_rows, stream.num_rows

    # The server lives in this loop, so the façade is called from another thread with a loop.
    async def in_a_loop() -> tuple[int, int, int]:
        return work()

    counts = await asyncio.get_running_loop().run_in_executor(
        None, lambda: asyncio.run(in_a_loop())
    )
    assert counts == (40, 40, 40)


async def test_leaving_a_synchronous_loop_ends_its_thread(server: Any, options: Options) -> None:
    def work() -> str:
        fetch = bulkfetch.fetch_enrollments(
            server.url, "the-token", learner_ids=LEARNERS, options=options()
        )
        for row in fetch:
            return row.learner_id
        return ""

    before = threading.active_count()
    assert await asyncio.get_running_loop().run_in_executor(None, work)
    await settle()
    assert threading.active_count() <= before + 1  # the executor's own
    assert own_tasks() == []


async def test_an_async_fetch_is_an_arrow_stream_for_other_threads(
    server: Any, options: Options
) -> None:
    async with bulkfetch.Client(server.url, token="the-token", options=options()) as client:
        fetch = client.enrollments(learner_ids=LEARNERS[:40])
        table = await asyncio.get_running_loop().run_in_executor(None, lambda: pa.table(fetch))
    assert table.num_rows == 40


@pytest.mark.parametrize("same", [True, False], ids=["same content", "other content"])
async def test_an_enrollment_in_two_batches_comes_once(
    serve: Serve, render: Any, options: Options, same: bool
) -> None:
    end = b"</GetEnrollmentsResult>"

    async def handler(request: Any, writer: Any) -> None:
        """Answer, and once more for the first learner: the same row, or one that says otherwise."""
        doc = render.document(request.learners)
        again = render.document(request.learners[:1]).partition(b"Result>")[2].partition(end)[0]
        if not same:
            again = again.replace(request.learners[0].encode() + b"-0", b"the-same")
        writer.write(render.response(doc.replace(end, again + end)))

    server = await serve(handler)
    async with bulkfetch.Client(server.url, token="the-token", options=options()) as client:
        fetch = client.enrollments(learner_ids=LEARNERS[:8])
        rows = [row async for row in fetch]
    report = fetch.report
    ids = [row.enrollment_id for row in rows]
    assert len(ids) == len(set(ids))
    if same:
        assert (len(rows), report.duplicates, report.conflict_count) == (8, 2, 0)
    else:
        assert (len(rows), report.duplicates, report.conflict_count) == (9, 0, 1)
        conflict = report.conflicts[0]
        assert conflict.enrollment_id == "the-same"
        assert conflict.kept["learner_id"] != conflict.dropped["learner_id"]
        (kept,) = [row for row in rows if row.enrollment_id == "the-same"]
        assert conflict.kept == kept._asdict()
