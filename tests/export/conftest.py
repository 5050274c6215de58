import random
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pytest

from bulkfetch.export.journal import FinishedBatch, Journal, JournalIdentity
from bulkfetch.inputs import make_region
from bulkfetch.plan.rectangle import Rectangle
from bulkfetch.record import Enrollment, arrow_schema

REGION = make_region([f"learner-{n:03}" for n in range(100)], [f"course-{n}" for n in range(5)])
IDENTITY = JournalIdentity("getEnrollments", "https://example.org", REGION)


def _enrollment(number: int) -> Enrollment:
    chance = random.Random(number)
    certified = chance.random() < 0.3
    day = date(2022, 1, 1) + timedelta(days=chance.randrange(700))
    return Enrollment(
        enrollment_id=f"{chance.getrandbits(64):016x}-{number}",
        course_id=f"course-{number % 5}",
        learner_id=f"learner-{number // 5 % 100:03}",
        access_date=day,
        due_date=day + timedelta(days=30) if chance.random() < 0.3 else None,
        should_lock_after_due_date=chance.random() < 0.5,
        enrollment_type_group=chance.choice([0, 1, None]),
        issued_certificate_id=f"certificate-{number}" if certified else None,
        cert_issue_date=datetime(2023, 1, 1, 7, 19, number % 60, tzinfo=UTC) if certified else None,
    )


@pytest.fixture
def identity() -> JournalIdentity:
    return IDENTITY


@pytest.fixture
def enrollments() -> Callable[[int], list[Enrollment]]:
    return lambda count: [_enrollment(number) for number in range(count)]


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    journal = Journal.open(tmp_path / "journal", IDENTITY, now=0.0)
    yield journal
    journal.close()


@pytest.fixture
def finished() -> Callable[..., FinishedBatch]:
    def make(rows: list[Enrollment], rectangle: Rectangle = REGION) -> FinishedBatch:
        batch = pa.RecordBatch.from_pylist([row._asdict() for row in rows], arrow_schema())
        return FinishedBatch(
            rectangle=rectangle,
            batches=[batch] if rows else [],
            rows=len(rows),
            surplus=0,
            attempts=1,
            started_at=1.0,
            ended_at=2.0,
            wire_bytes=10,
            body_bytes=100,
            anomalies=(),
        )

    return make
