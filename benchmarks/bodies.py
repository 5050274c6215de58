"""Ready-made answers in several dialects of the wire, with any number of records.

What one edition of the service writes, another writes differently: namespaces, prefixes, white
space, the order of fields, how certificates and flags are spelled. A reader that is fast on one
canned body only would show here.
"""

import gzip
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass

Values = dict[str, str]

_FIELDS = (
    "enrollmentId",
    "courseId",
    "learnerId",
    "accessDate",
    "dueDate",
    "expirationDate",
    "enrollmentTypeGroup",
    "shouldLockAfterDueDate",
)
_CERTIFICATE = ("issuedCertificateId", "issueDate", "expiryDate")


@dataclass(frozen=True)
class Dialect:
    """How answers are written."""

    payload: str
    prefix: str = ""
    line: str = ""  # what stands before each tag, once for each level
    fields: tuple[str, ...] = _FIELDS
    is_nested: bool = True
    flags: tuple[str, str] = ("0", "1")
    renamed: tuple[tuple[str, str], ...] = ()


DIALECTS = {
    "plain": Dialect("https://ispringlearn.com/go/services/api/soap"),
    "pretty": Dialect(
        "http://ispringlearn.com/go/services/api/soap",
        prefix="ns1:",
        line="  ",
        fields=(*_FIELDS[3:], *_FIELDS[:3]),
        flags=("false", "true"),
        renamed=(("issueDate", "certIssueDate"), ("expiryDate", "certExpiryDate")),
        is_nested=False,
    ),
    "bare": Dialect("", fields=(*_FIELDS[2::-1], *_FIELDS[:2:-1])),
}


def learner_id(number: int) -> str:
    """Name the learner of a number; names sort as their numbers do."""
    return f"{number:08x}-0000-4000-8000-000000000000"


def learner_number(learner: bytes) -> int:
    """Return the number of a learner's name."""
    return int(learner[:8], 16)


def records_of(per_learner: int) -> Callable[[int], int]:
    """Return how many records the learner of a number has.

    About so many, in no round sums: a round number of rows looks like a cap. -5 is 0 to 5 in turn.
    """
    if per_learner < 0:
        return lambda number: number % (1 - per_learner)
    most = per_learner // 3
    return lambda number: per_learner + (number * 7919 % 13) % (2 * most + 1) - most


def _uuid(chance: random.Random) -> str:
    digits = chance.randbytes(16).hex()
    return f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"


def _values(
    chance: random.Random, learner: str, courses: list[str], flags: tuple[str, str]
) -> Values:
    """Make one enrollment: a third has a due date, a quarter a certificate."""
    values = {
        "enrollmentId": _uuid(chance),
        "courseId": chance.choice(courses),
        "learnerId": learner,
        "accessDate": f"2022-{chance.randint(1, 12):02}-{chance.randint(1, 28):02}",
        "enrollmentTypeGroup": "0",
        "shouldLockAfterDueDate": flags[0],
    }
    if chance.random() < 1 / 3:
        values["dueDate"] = f"2023-{chance.randint(1, 12):02}-15"
        if chance.random() < 1 / 4:
            values["shouldLockAfterDueDate"] = flags[1]
            values["expirationDate"] = f"2024-{chance.randint(1, 12):02}-15"
    if chance.random() < 1 / 4:
        day = f"2022-{chance.randint(1, 12):02}-{chance.randint(1, 28):02}"
        values["issuedCertificateId"] = _uuid(chance)
        values["issueDate"] = f"{day}T07:{chance.randint(10, 59)}:00+00:00"
        if chance.random() < 3 / 4:
            values["expiryDate"] = f"{day}T09:{chance.randint(10, 59)}:00+00:00"
    return values


def _writer(dialect: Dialect) -> Callable[[Values], str]:
    """Make the function that writes one enrollment."""
    names = dict(dialect.renamed)
    new_line = ["\n" + dialect.line * level if dialect.line else "" for level in range(6)]

    def leaves(fields: tuple[str, ...], values: Values, level: int) -> str:
        parts = []
        for field in fields:
            if field in values:
                name = dialect.prefix + names.get(field, field)
                parts.append(f"{new_line[level]}<{name}>{values[field]}</{name}>")
        return "".join(parts)

    record, certificate = f"{dialect.prefix}enrollment", f"{dialect.prefix}certificate"

    def write(values: Values) -> str:
        inside = leaves(dialect.fields, values, 4)
        if "issuedCertificateId" in values:
            if dialect.is_nested:
                nested = leaves(_CERTIFICATE, values, 5)
                inside += f"{new_line[4]}<{certificate}>{nested}{new_line[4]}</{certificate}>"
            else:
                inside += leaves(_CERTIFICATE, values, 4)
        return f"{new_line[3]}<{record}>{inside}{new_line[3]}</{record}>"

    return write


def make_bodies(
    *,
    dialect: Dialect,
    learners: int,
    records_of: Callable[[int], int],
    batch: int,
    seed: int = 7,
) -> Iterator[tuple[bytes, bytes]]:
    """Yield the first learner's id and the XML of each answer, for batches of so many learners.

    Args:
        dialect: how to write.
        learners: how many there are.
        records_of: how many records the learner of a number has.
        batch: learners an answer.
        seed: of the values.
    """
    chance = random.Random(seed)
    courses = [_uuid(chance) for _ in range(300)]
    write = _writer(dialect)
    prefix = dialect.prefix[:-1]
    declared = (
        f' xmlns{":" if prefix else ""}{prefix}="{dialect.payload}"' if dialect.payload else ""
    )
    gap = "\n" if dialect.line else ""
    head = (
        '<?xml version="1.0" encoding="utf-8"?>\n'
        '<SOAP-ENV:Envelope xmlns:SOAP-ENV="http://schemas.xmlsoap.org/soap/envelope/"'
        f"{declared}>{gap}<SOAP-ENV:Body>{gap}<{dialect.prefix}GetEnrollmentsResult>"
    )
    tail = f"{gap}</{dialect.prefix}GetEnrollmentsResult></SOAP-ENV:Body></SOAP-ENV:Envelope>"
    for first in range(0, learners, batch):
        rows = [
            write(_values(chance, learner_id(number), courses, dialect.flags))
            for number in range(first, min(first + batch, learners))
            for _ in range(records_of(number))
        ]
        yield learner_id(first).encode(), "".join([head, *rows, tail]).encode()


def make_answer(body: bytes, *, plain: bool, level: int = 6) -> bytes:
    """Wrap a body in an HTTP answer."""
    encoding = b""
    if not plain:
        body = gzip.compress(body, level, mtime=0)
        encoding = b"Content-Encoding: gzip\r\n"
    return (
        b"HTTP/1.1 200 OK\r\nContent-Type: text/xml; charset=utf-8\r\n%bContent-Length: %d\r\n\r\n"
        % (encoding, len(body))
    ) + body
