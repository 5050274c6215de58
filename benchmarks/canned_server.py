"""A server that sends ready-made answers so cheaply that the client is what is measured.

Bodies are rendered and compressed before the first request. A request is answered by its first
learner id: the client asks for the learners in the order in which the batches were made.
"""

import argparse
import asyncio
import gzip
import random
import sys
import uuid

HEAD = (
    '<?xml version="1.0" encoding="utf-8"?>\n'
    '<SOAP-ENV:Envelope xmlns:SOAP-ENV="https://schemas.xmlsoap.org/soap/envelope/"'
    ' xmlns="https://ispringlearn.com/go/services/api/soap"><SOAP-ENV:Body>'
    "<GetEnrollmentsResult>"
)
TAIL = "</GetEnrollmentsResult></SOAP-ENV:Body></SOAP-ENV:Envelope>"


def learner_id(number: int) -> str:
    """Name the learner of a number; names sort as their numbers do."""
    return f"{number:08x}-0000-4000-8000-000000000000"


def render_record(chance: random.Random, learner: str, courses: list[str]) -> str:
    """Render one enrollment: a third has a due date, a quarter a certificate."""
    parts = [
        f"<enrollment><enrollmentId>{uuid.UUID(int=chance.getrandbits(128))}</enrollmentId>",
        f"<courseId>{chance.choice(courses)}</courseId><learnerId>{learner}</learnerId>",
        f"<accessDate>2022-{chance.randint(1, 12):02}-{chance.randint(1, 28):02}</accessDate>",
    ]
    if chance.random() < 1 / 3:
        parts.append(f"<dueDate>2023-{chance.randint(1, 12):02}-15</dueDate>")
    parts.append("<enrollmentTypeGroup>0</enrollmentTypeGroup>")
    parts.append("<shouldLockAfterDueDate>0</shouldLockAfterDueDate>")
    if chance.random() < 1 / 4:
        day = f"2022-{chance.randint(1, 12):02}-{chance.randint(1, 28):02}"
        parts.append(
            f"<certificate><issuedCertificateId>{uuid.UUID(int=chance.getrandbits(128))}"
            f"</issuedCertificateId><issueDate>{day}T07:{chance.randint(10, 59)}:00+00:00"
            f"</issueDate><expiryDate>{day}T09:{chance.randint(10, 59)}:00+00:00</expiryDate>"
            "</certificate>"
        )
    parts.append("</enrollment>")
    return "".join(parts)


def make_answers(*, records: int, batch: int, per_learner: int, plain: bool) -> dict[bytes, bytes]:
    """Render the HTTP answer of each batch of `batch` learners, by its first learner's id."""
    chance = random.Random(7)
    courses = [str(uuid.UUID(int=chance.getrandbits(128))) for _ in range(300)]
    answers = {}
    for first in range(0, records // per_learner, batch):
        rows = [
            render_record(chance, learner_id(number), courses)
            for number in range(first, min(first + batch, records // per_learner))
            for _ in range(per_learner)
        ]
        body = (HEAD + "".join(rows) + TAIL).encode()
        encoding = b""
        if not plain:
            body = gzip.compress(body, 6, mtime=0)
            encoding = b"Content-Encoding: gzip\r\n"
        answers[learner_id(first).encode()] = (
            b"HTTP/1.1 200 OK\r\nContent-Type: text/xml\r\n%bContent-Length: %d\r\n\r\n"
            % (encoding, len(body))
        ) + body
    return answers


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
            start = self._buffer.lower().index(b"content-length:") + 15
            length = int(self._buffer[start : self._buffer.index(b"\r\n", start)])
            if len(self._buffer) < end + 4 + length:
                return
            body = self._buffer[end + 4 : end + 4 + length]
            self._buffer = self._buffer[end + 4 + length :]
            first = body.index(b"<id>", body.index(b"<learnerIds>")) + 4
            self._transport.write(self._answers[body[first : first + 36]])


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
    parser.add_argument("--records", type=int, required=True)
    parser.add_argument("--batch", type=int, required=True)
    parser.add_argument("--per-learner", type=int, required=True)
    parser.add_argument("--plain", action="store_true")
    options = parser.parse_args()
    asyncio.run(
        serve(
            make_answers(
                records=options.records,
                batch=options.batch,
                per_learner=options.per_learner,
                plain=options.plain,
            )
        )
    )


if __name__ == "__main__":
    main()
