"""Rows of earlier exports that are gone: only where that is proven."""

from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from bulkfetch.errors import FailedIds
from bulkfetch.export.journal import Effort, FinishedBatch, Journal, JournalIdentity
from bulkfetch.export.publish import Published, publish
from bulkfetch.export.sinks.postgres import Gone
from bulkfetch.export.sinks.postgres.sink import PostgresSink
from bulkfetch.export.sinks.postgres.url import parse_url
from bulkfetch.plan.rectangle import Rectangle
from bulkfetch.record import Enrollment, arrow_schema

Database = Any
LEARNERS = ("a", "b", "c")
COURSES = ("x", "y", "z")
EARLIER = [
    Enrollment(f"{learner}{course}", course, learner) for learner in LEARNERS for course in COURSES
]


def batch(rectangle: Rectangle, rows: Iterable[Enrollment]) -> FinishedBatch:
    table = pa.RecordBatch.from_pylist([row._asdict() for row in rows], arrow_schema())
    return FinishedBatch(rectangle, [table], table.num_rows, 0, 1, 1.0, 2.0, 0, 0, ())


@pytest.fixture
def export(database: Database, tmp_path: Path) -> Callable[..., Published]:
    """Publish an export of a region, of which some rectangles were finished."""

    def run(
        region: Rectangle,
        finished: list[Rectangle],
        rows: list[Enrollment] | None = None,
        gone: Gone = Gone.KEEP,
        quarantined: Rectangle | None = None,
    ) -> Published:
        identity = JournalIdentity("getEnrollments", "https://example.org", region)
        journal = Journal.open(tmp_path / "j", identity, now=0.0, restart=True)
        try:
            for number, rectangle in enumerate(finished):
                journal.commit(batch(rectangle, [] if number or rows is None else rows))
            if quarantined is not None:
                entry = FailedIds(quarantined.learners, quarantined.courses, "rejected", 1)
                journal.end_run(1.0, Effort(), [entry], [], {})
            return publish(journal, PostgresSink(parse_url(database.url), gone))
        finally:
            journal.close()

    everything = Rectangle(None, None)
    run(everything, [everything], EARLIER)
    return run


def ids(database: Database, condition: str = "true") -> str:
    rows = database.query(f"SELECT enrollment_id FROM enrollments WHERE {condition} ORDER BY 1")
    return " ".join(row[0] for row in rows)


SCENARIOS = {
    "all of a region, in batches of both axes": (
        Rectangle(("a", "b"), ("x", "y")),
        [Rectangle(("a",), ("x",)), Rectangle(("a",), ("y",)), Rectangle(("b",), ("x", "y"))],
        "ax ay bx by",
    ),
    "by learner, every course": (
        Rectangle(("a", "b"), None), [Rectangle(("a",), None), Rectangle(("b",), None)],
        "ax ay az bx by bz",
    ),
    "by course, every learner": (
        Rectangle(None, ("x", "y")), [Rectangle(None, ("x",)), Rectangle(None, ("y",))],
        "ax ay bx by cx cy",
    ),
    "the whole account": (Rectangle(None, None), [Rectangle(None, None)],
        "ax ay az bx by bz cx cy cz"),
    "what was not finished": (
        Rectangle(("a", "b", "c"), ("x", "y")), [Rectangle(("a",), ("x", "y")),
        Rectangle(("b",), ("x",))], "ax ay bx",
    ),
    "finished calls that reach beyond the region": (
        Rectangle(("a",), ("x",)), [Rectangle(("a", "b"), None)], "ax",
    ),
    "nothing finished": (Rectangle(("a",), None), [], ""),
    "nothing of this region finished": (Rectangle(("a",), None), [Rectangle(("c",), None)], ""),
    "one course of every learner": (Rectangle(None, None), [Rectangle(None, ("x",))], "ax bx cx"),
}  # fmt: skip


@pytest.mark.parametrize("name", SCENARIOS)
@pytest.mark.parametrize("gone", [Gone.MARK, Gone.DELETE])
def test_rows_are_gone_only_inside_finished_rectangles_of_the_region(
    export: Callable[..., Published], database: Database, gone: Gone, name: str
) -> None:
    region, finished, expected = SCENARIOS[name]
    published = export(region, finished, [], gone)
    everything = {row.enrollment_id for row in EARLIER}
    left = " ".join(sorted(everything - set(expected.split())))
    if gone is Gone.MARK:
        assert ids(database, "gone_at IS NOT NULL") == expected
        assert ids(database, "gone_at IS NULL") == left
    else:
        assert ids(database) == left
    assert published.changes == {"inserted": 0, "updated": 0, "gone": len(expected.split())}


def test_rows_that_are_there_still_are_not_gone(
    export: Callable[..., Published], database: Database
) -> None:
    region = Rectangle(("a",), COURSES)
    kept = [row for row in EARLIER if row.enrollment_id in {"ax", "az"}]
    export(region, [region], kept, Gone.DELETE)
    assert ids(database) == "ax az bx by bz cx cy cz"


def test_what_was_quarantined_proves_nothing(
    export: Callable[..., Published], database: Database
) -> None:
    region = Rectangle(LEARNERS, COURSES)
    finished = [Rectangle(("a", "c"), COURSES)]
    export(region, finished, [], Gone.DELETE, quarantined=Rectangle(("b",), COURSES))
    assert ids(database) == "bx by bz"


def test_nothing_is_gone_unless_that_was_asked_for(
    export: Callable[..., Published], database: Database
) -> None:
    everything = Rectangle(None, None)
    published = export(everything, [everything], [])
    assert published.changes == {"inserted": 0, "updated": 0}
    assert len(ids(database).split()) == 9
    assert "gone_at" not in str(
        database.query(
            "SELECT attname::text FROM pg_attribute WHERE attrelid = 'enrollments'::regclass"
        )
    )


def test_a_mark_says_when_stays_and_goes_when_the_row_is_back(
    export: Callable[..., Published], database: Database
) -> None:
    everything = Rectangle(None, None)
    export(everything, [everything], EARLIER[1:], Gone.MARK)
    ((marked_at,),) = database.query("SELECT gone_at FROM enrollments WHERE gone_at IS NOT NULL")
    assert abs(marked_at - datetime.now(UTC)) < timedelta(minutes=1)
    again = export(everything, [everything], EARLIER[1:], Gone.MARK)
    assert again.changes == {"inserted": 0, "updated": 0, "gone": 0}
    assert database.query("SELECT gone_at FROM enrollments WHERE gone_at IS NOT NULL") == [
        (marked_at,)
    ]
    back = export(everything, [everything], EARLIER)
    assert back.changes == {"inserted": 0, "updated": 1}
    assert ids(database, "gone_at IS NOT NULL") == ""
    assert export(everything, [everything], EARLIER).changes == {"inserted": 0, "updated": 0}


def test_a_long_list_of_calls_is_joined_not_multiplied(
    export: Callable[..., Published], database: Database
) -> None:
    """4,000 learners × 2,000 courses in 800 calls: 8 million pairs, which no statement lists."""
    learners = tuple(f"l{number:04}" for number in range(4_000))
    courses = tuple(f"c{number:04}" for number in range(2_000))
    region = Rectangle(learners, courses)
    calls = [
        Rectangle(learners[at : at + 100], courses[start : start + 100])
        for at in range(0, 4_000, 100)
        for start in range(0, 2_000, 100)
    ]
    database.query(
        "INSERT INTO enrollments SELECT 'e' || n, 'c' || lpad((n % 2100)::text, 4, '0'),"
        " 'l' || lpad((n % 4100)::text, 4, '0') FROM generate_series(0, 19999) n"
    )
    published = export(region, calls, [], Gone.DELETE)
    covered = sum(number % 2_100 < 2_000 and number % 4_100 < 4_000 for number in range(20_000))
    assert published.changes == {"inserted": 0, "updated": 0, "gone": covered}


def test_a_partitioned_table_does_as_well(
    export: Callable[..., Published], database: Database
) -> None:
    database.query("ALTER TABLE enrollments RENAME TO was")
    database.query(
        "CREATE TABLE enrollments (LIKE was, PRIMARY KEY (enrollment_id))"
        " PARTITION BY HASH (enrollment_id)"
    )
    for part in range(2):
        database.query(
            f"CREATE TABLE part{part} PARTITION OF enrollments"
            f" FOR VALUES WITH (MODULUS 2, REMAINDER {part})"
        )
    everything = Rectangle(None, None)
    assert export(everything, [everything], EARLIER).changes == {"inserted": 9, "updated": 0}
    changed = [row._replace(issued_certificate_id="k") for row in EARLIER[:3]]
    published = export(everything, [everything], changed, Gone.DELETE)
    assert published.changes == {"inserted": 0, "updated": 3, "gone": 6}
    assert database.rows() == changed
