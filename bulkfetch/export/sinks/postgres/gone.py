"""Rows of earlier exports that are gone: marked or deleted where that is proven, and nowhere else.

A row is gone if its learner and course lie in a finished rectangle of the region that was asked
for, and the journal has no row with its id. What was quarantined, failed or never asked for proves
nothing. The rectangles go to the server as one list of courses for each kind of learner (see
`plan.coverage`), so that the question is a join, and pairs are never written out.
"""

import itertools
from collections.abc import Iterable

import pyarrow as pa

from bulkfetch.export.sinks.postgres import Gone
from bulkfetch.export.sinks.postgres.session import Session
from bulkfetch.export.sinks.postgres.table import GONE_AT, INCOMING, KEY, Table
from bulkfetch.plan.coverage import Coverage

_LEARNERS = "bulkfetch_proven_learner"
_COURSES = "bulkfetch_proven_course"
_IDS_A_BATCH = 65_536


def remove_gone(session: Session, table: Table, coverage: Coverage, gone: Gone) -> int:
    """Mark or delete the rows that are gone; the incoming rows must be there still.

    Returns:
        How many rows were marked or deleted now.
    """
    _send(session, coverage)
    # A learner that is not named has the list of the others, NULL if there is none.
    others = "NULL" if coverage.other_learners is None else str(coverage.other_learners)
    side = f"coalesce(learner.side, {others}::int)"
    every = [number for number, side in enumerate(coverage.course_sides) if side is None]
    has_every_course = f"{side} = {every[0]}" if every else "false"
    is_gone = (
        f"WITH gone AS (SELECT old.{KEY} FROM {table.sql} old"
        f" LEFT JOIN pg_temp.{INCOMING} new ON new.{KEY} = old.{KEY}"
        f" LEFT JOIN pg_temp.{_LEARNERS} learner ON learner.id = old.learner_id"
        f" LEFT JOIN pg_temp.{_COURSES} course ON course.side = {side}"
        " AND course.id = old.course_id"
        f" WHERE new.{KEY} IS NULL AND ({has_every_course} OR course.id IS NOT NULL)), "
    )
    if gone is Gone.MARK:
        if not table.has_gone_at:
            session.execute(f"ALTER TABLE {table.sql} ADD COLUMN {GONE_AT} timestamptz")
        change = (
            f"changed AS (UPDATE {table.sql} kept SET {GONE_AT} = now() FROM gone"
            f" WHERE kept.{KEY} = gone.{KEY} AND kept.{GONE_AT} IS NULL RETURNING 1)"
        )
    else:
        change = (
            f"changed AS (DELETE FROM {table.sql} kept USING gone"
            f" WHERE kept.{KEY} = gone.{KEY} RETURNING 1)"
        )
    ((count,),) = session.query(f"{is_gone}{change} SELECT count(*) FROM changed")
    return int(str(count))


def _send(session: Session, coverage: Coverage) -> None:
    """COPY the coverage into temporary tables."""
    courses = (
        (number, course)
        for number, side in enumerate(coverage.course_sides)
        if side is not None
        for course in side
    )
    learners = ((number, learner) for learner, number in coverage.learners.items())
    for table, rows in ((_LEARNERS, learners), (_COURSES, courses)):
        session.execute(f"CREATE TEMPORARY TABLE {table} (side int, id text) ON COMMIT DROP")
        schema = pa.schema([("side", pa.int32()), ("id", pa.string())])
        session.ingest(table, pa.RecordBatchReader.from_batches(schema, _batches(rows, schema)))
        session.execute(f"ANALYZE pg_temp.{table}")


def _batches(rows: Iterable[tuple[int, str]], schema: pa.Schema) -> Iterable[pa.RecordBatch]:
    rows = iter(rows)
    while chunk := list(itertools.islice(rows, _IDS_A_BATCH)):
        sides, ids = zip(*chunk, strict=True)
        yield pa.RecordBatch.from_arrays(
            [pa.array(sides, pa.int32()), pa.array(ids)], schema=schema
        )
