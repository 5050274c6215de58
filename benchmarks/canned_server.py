"""A server that sends ready-made answers so cheaply that the client is what is measured.

Bodies are rendered and compressed before the first request, for batches of learners in their order.
"""

import argparse
import asyncio
import gzip
import re
import sys

from bodies import DIALECTS, learner_id, learner_number, make_answer, make_bodies, records_of

_IDS = re.compile(rb"<(?:\w+:)?id>([^<]+)<")
_RECORD = re.compile(rb"\s*<(?:\w+:)?enrollment>.*?</(?:\w+:)?enrollment>", re.DOTALL)
_LEARNER = re.compile(rb"learnerId>([^<]+)<")


class Answers:
    """Ready-made answers by the batch asked for; others are made of them when asked for.

    A client may ask for other batches, too: bulkfetch does now and then, to see whether answers
    are whole.
    """

    def __init__(self, options: argparse.Namespace) -> None:
        per_learner = options.per_learner
        self._options = options
        self._ready: dict[bytes, tuple[int, bytes]] = {}
        for first, body in make_bodies(
            dialect=DIALECTS[options.dialect],
            learners=options.learners,
            records_of=records_of(per_learner),
            batch=options.batch,
        ):
            answer = make_answer(body, plain=options.plain, level=options.level)
            self._ready[first] = (
                min(options.batch, options.learners - learner_number(first)),
                answer,
            )
        self._records: dict[bytes, list[bytes]] = {}
        self._frame = (b"", b"")

    def get(self, request: bytes) -> bytes:
        """Return the answer to a request."""
        ids = _IDS.findall(request, request.index(b"learnerIds>"))
        count, answer = self._ready.get(ids[0], (0, b""))
        last = learner_id(learner_number(ids[0]) + count - 1).encode()
        return answer if (count, last) == (len(ids), ids[-1]) else self._make(ids)

    def _make(self, ids: list[bytes]) -> bytes:
        batch = self._options.batch
        records: list[bytes] = []
        for learner in ids:
            if learner not in self._records:
                first = learner_number(learner) // batch * batch
                self._take_apart(self._ready[learner_id(first).encode()][1])
            records += self._records.get(learner, ())
        opening, closing = self._frame
        body = b"".join([opening, *records, closing])
        return make_answer(body, plain=self._options.plain, level=1)

    def _take_apart(self, answer: bytes) -> None:
        body = answer.partition(b"\r\n\r\n")[2]
        if not self._options.plain:
            body = gzip.decompress(body)
        found = [*_RECORD.finditer(body)]
        if found:
            self._frame = (body[: found[0].start()], body[found[-1].end() :])
        for record in found:
            learner = _LEARNER.search(record[0])
            assert learner is not None
            self._records.setdefault(learner[1], []).append(record[0])


class CannedProtocol(asyncio.Protocol):
    """Answers each request on a connection from the table."""

    def __init__(self, answers: Answers) -> None:
        self._answers = answers
        self._buffer = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport to write to."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        """Collect requests and answer the whole ones."""
        self._buffer += data
        while (end := self._buffer.find(b"\r\n\r\n")) >= 0:
            head = self._buffer[:end].lower()
            start = head.index(b"content-length:") + 15
            length = int(head[start:].partition(b"\r\n")[0])
            if len(self._buffer) < end + 4 + length:
                return
            body = self._buffer[end + 4 : end + 4 + length]
            self._buffer = self._buffer[end + 4 + length :]
            self._transport.write(self._answers.get(body))


async def serve(answers: Answers) -> None:
    """Serve until standard input closes; print the port first."""
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: CannedProtocol(answers), "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await loop.run_in_executor(None, sys.stdin.read)
    server.close()


def main() -> None:
    """Parse the sizes and serve."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--learners", type=int, required=True)
    parser.add_argument(
        "--per-learner", type=int, required=True, help="about; -5 is 0 to 5 in turn"
    )
    parser.add_argument("--batch", type=int, required=True, help="learners an answer")
    parser.add_argument("--dialect", choices=DIALECTS, default="plain")
    parser.add_argument("--plain", action="store_true", help="without gzip")
    parser.add_argument("--level", type=int, default=6, help="of gzip")
    options = parser.parse_args()
    asyncio.run(serve(Answers(options)))


if __name__ == "__main__":
    main()
