"""A connection that breaks in the moment in which it is used again costs no attempt."""

import asyncio

import bulkfetch

ANSWER = (
    b"<Envelope xmlns='http://schemas.xmlsoap.org/soap/envelope/'><Body>"
    b"<GetEnrollmentsResult xmlns=''><enrollment><enrollmentId>e%b</enrollmentId>"
    b"<courseId>c</courseId><learnerId>%b</learnerId></enrollment></GetEnrollmentsResult>"
    b"</Body></Envelope>"
)


async def fetch(broken: set[int]) -> tuple[list[str], list[int]]:
    """Fetch five learners from a server that drops these requests of each connection, unread."""
    requests: list[int] = []

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        served = 0
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r")[0])
                body = await reader.readexactly(length)
                served += 1
                requests.append(served)
                if served in broken:
                    break
                learner = body.partition(b"<learnerIds><id>")[2].partition(b"<")[0]
                answer = ANSWER % (learner, learner)
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(answer))
                writer.write(answer)
        except asyncio.IncompleteReadError:
            pass
        finally:
            writer.close()

    async with await asyncio.start_server(talk, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        options = bulkfetch.Options(
            batch_size=1, workers=1, max_outage_s=0.1, retry=bulkfetch.RetryPolicy(attempts=1)
        )
        async with bulkfetch.Client(
            f"http://127.0.0.1:{port}",
            token="t" * 9,
            options=options,
        ) as client:
            handle = client.enrollments(learner_ids=[f"l{i}" for i in range(5)])
            try:
                rows = [row.learner_id async for row in handle]
                assert handle.report.calls == len(requests)
                assert handle.report.retries == sum(served in broken for served in requests)
            except bulkfetch.IncompleteError:
                return [], requests
    return sorted(rows), requests


async def test_a_reused_connection_that_breaks_is_replaced() -> None:
    rows, requests = await fetch({2})
    assert rows == [f"l{i}" for i in range(5)]
    assert 2 in requests


async def test_a_fresh_connection_that_breaks_is_a_failure() -> None:
    rows, requests = await fetch({1})
    assert rows == []
    assert set(requests) == {1}
