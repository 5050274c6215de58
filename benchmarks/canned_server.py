"""A server that sends ready-made answers so cheaply that the client is what is measured.

Bodies are rendered and compressed before the first request. A request is answered by its first
learner id: clients ask for the learners in the order in which the batches were made.
"""

import argparse
import asyncio
import re
import sys

from bodies import DIALECTS, make_answer, make_bodies

_FIRST_LEARNER = re.compile(rb"learnerIds>\s*<(?:\w+:)?id>([^<]+)<")


class CannedProtocol(asyncio.Protocol):
    """Answers each request on a connection from the table."""

    def __init__(self, answers: dict[bytes, bytes]) -> None:
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
            first = _FIRST_LEARNER.search(body)
            assert first is not None, body
            self._transport.write(self._answers[first[1]])


async def serve(answers: dict[bytes, bytes]) -> None:
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
    parser.add_argument("--per-learner", type=int, required=True, help="-5 is 0 to 5 in turn")
    parser.add_argument("--batch", type=int, required=True, help="learners an answer")
    parser.add_argument("--dialect", choices=DIALECTS, default="plain")
    parser.add_argument("--plain", action="store_true", help="without gzip")
    parser.add_argument("--level", type=int, default=6, help="of gzip")
    options = parser.parse_args()
    per_learner = options.per_learner
    bodies = make_bodies(
        dialect=DIALECTS[options.dialect],
        learners=options.learners,
        records_of=lambda number: number % (1 - per_learner) if per_learner < 0 else per_learner,
        batch=options.batch,
    )
    answers = {
        first: make_answer(body, plain=options.plain, level=options.level) for first, body in bodies
    }
    asyncio.run(serve(answers))


if __name__ == "__main__":
    main()
