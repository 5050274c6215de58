"""Compare two sets of rows by enrollment_id, out of core: what was added, removed, changed.

Both sides are sorted and merged as a publication would, and joined in a DuckDB file that stands in
a scratch directory: memory stays flat. A row that one side lacks is a difference only where that
side was asked: within its `Coverage`. What lies outside is counted, and is no difference.
"""

import contextlib
from collections.abc import Callable, Generator, Iterable, Iterator
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa

from bulkfetch.errors import BulkfetchError, SinkError
from bulkfetch.export.formats import OutputFormat
from bulkfetch.export.merge import Merger
from bulkfetch.export.sinks.copied import FILE_OPTIONS, cell
from bulkfetch.export.sorting import MEMORY_LIMIT_MB, connect, naive_schema, sort
from bulkfetch.export.stopping import PublishingStopped, Stopping
from bulkfetch.plan.coverage import Coverage
from bulkfetch.record import FIELD_NAMES, FIELDS, FieldType

_VALUES = FIELDS[1:]  # all but the key
_BLOCK = 50_000


class Side(Enum):
    """The two sides of a comparison."""

    OLD = "old"
    NEW = "new"


class Kind(Enum):
    """How a row differs."""

    ADDED = "added"
    REMOVED = "removed"
    CHANGED = "changed"


@dataclass(frozen=True, slots=True)
class Difference:
    """One row that differs; `fields` are those with another value, with old and new values."""

    kind: Kind
    enrollment_id: str
    course_id: str
    learner_id: str
    fields: dict[str, tuple[object, object]]


@dataclass(frozen=True, slots=True)
class Counts:
    """How many rows there are, and how many differ.

    Attributes:
        old: rows of the old side.
        new: rows of the new side.
        added: rows that only the new side has, and the old one was asked for.
        removed: rows that only the old side has, and the new one was asked for.
        changed: rows of both sides with another value in some field.
        outside_old: rows that only the new side has, outside what the old one covers.
        outside_new: rows that only the old side has, outside what the new one covers.
    """

    old: int
    new: int
    added: int
    removed: int
    changed: int
    outside_old: int
    outside_new: int

    @property
    def differences(self) -> int:
        """All that differs."""
        return self.added + self.removed + self.changed


class Comparison:
    """A comparison under way: load both sides, say what they cover, compare, read the result.

    Methods block. Make one with `comparing`.

    Raises:
        SinkError: the scratch directory or an output cannot be written.
        PublishingStopped: it was told to stop.
    """

    def __init__(
        self, connection: duckdb.DuckDBPyConnection, directory: Path, stopping: Stopping
    ) -> None:
        self._connection = connection
        self._directory = directory
        self._stopping = stopping
        self._rows: dict[Side, int] = {}
        self._covered: set[Side] = set()

    def load(self, side: Side, batches: Iterable[pa.RecordBatch]) -> None:
        """Load the rows of a side, each enrollment once; in any order, of the record's schema."""
        merger = Merger()
        failures: list[BaseException] = []
        with (
            _mapped(failures, self._stopping),
            connect(MEMORY_LIMIT_MB, self._directory) as sorter,
            self._stopping.interrupting(sorter.interrupt),
        ):
            rows = merger.merge(sort(sorter, self._stopping.guard(batches, failures)))
            guarded = self._stopping.guard(rows, failures)
            reader = pa.RecordBatchReader.from_batches(naive_schema(), guarded)
            self._connection.register("loading", reader)
            self._connection.execute(f"CREATE TABLE work.{side.value} AS SELECT * FROM loading")  # noqa: S608 - own names
            self._connection.unregister("loading")
        self._rows[side] = merger.rows

    def cover(self, side: Side, coverage: Coverage) -> None:
        """Say what a side was asked for; without that it counts as asked for everything."""
        learners = pa.schema([("learner_id", pa.string()), ("list", pa.int64())])
        courses = pa.schema([("list", pa.int64()), ("course_id", pa.string())])
        pairs = (
            (number, course)
            for number, ids in enumerate(coverage.course_sides)
            for course in (ids if ids is not None else (None,))
        )
        with _mapped([], self._stopping):
            self._fill(f"{side.value}_learner", learners, coverage.learners.items())
            self._fill(f"{side.value}_course", courses, pairs)
            self._connection.execute(
                f"CREATE TABLE work.{side.value}_rest AS SELECT ?::BIGINT AS list",
                [coverage.other_learners],
            )
        self._covered.add(side)

    def compare(self) -> Counts:
        """Find all differences."""
        differs = " OR ".join(
            f"o.{field.name} IS DISTINCT FROM n.{field.name}" for field in _VALUES
        )
        changed = ", ".join(
            f"CASE WHEN o.{field.name} IS DISTINCT FROM n.{field.name} THEN '{field.name}' END"
            for field in _VALUES
        )
        values = ", ".join(
            f"{letter}.{field.name} AS {side.value}_{field.name}"
            for field in _VALUES
            for letter, side in (("o", Side.OLD), ("n", Side.NEW))
        )
        with _mapped([], self._stopping):
            self._connection.execute(f"""
                CREATE TABLE work.joined AS
                SELECT coalesce(o.enrollment_id, n.enrollment_id) AS enrollment_id,
                    coalesce(n.course_id, o.course_id) AS course_id,
                    coalesce(n.learner_id, o.learner_id) AS learner_id,
                    CASE WHEN o.enrollment_id IS NULL THEN 'added'
                        WHEN n.enrollment_id IS NULL THEN 'removed' ELSE 'changed' END AS kind,
                    CASE WHEN o.enrollment_id IS NULL OR n.enrollment_id IS NULL THEN []
                        ELSE list_filter([{changed}], lambda name: name IS NOT NULL) END
                        AS changed_fields,
                    {values}
                FROM work.old AS o FULL OUTER JOIN work.new AS n
                    ON o.enrollment_id = n.enrollment_id
                WHERE o.enrollment_id IS NULL OR n.enrollment_id IS NULL OR {differs}
            """)  # noqa: S608 - own names
            outside = {
                Side.OLD: self._set_aside(Side.OLD, Kind.ADDED),
                Side.NEW: self._set_aside(Side.NEW, Kind.REMOVED),
            }
            self._connection.execute(
                "CREATE TABLE work.difference AS SELECT * FROM work.joined"
                " ANTI JOIN work.old_outside USING (enrollment_id)"
                " ANTI JOIN work.new_outside USING (enrollment_id)"
            )
            counts = dict.fromkeys(Kind, 0)
            for kind, count in self._connection.execute(
                "SELECT kind, count(*) FROM work.difference GROUP BY kind"
            ).fetchall():
                counts[Kind(kind)] = count
        return Counts(
            old=self._rows[Side.OLD],
            new=self._rows[Side.NEW],
            added=counts[Kind.ADDED],
            removed=counts[Kind.REMOVED],
            changed=counts[Kind.CHANGED],
            outside_old=outside[Side.OLD],
            outside_new=outside[Side.NEW],
        )

    def differences(self, limit: int) -> Iterator[Difference]:
        """Yield the first differences: added, removed, changed, each by enrollment_id."""
        with _mapped([], self._stopping):
            found = self._connection.execute(
                "SELECT * FROM work.difference ORDER BY "
                "list_position(['added', 'removed', 'changed'], kind), enrollment_id LIMIT ?",
                [limit],
            )
            names = [column[0] for column in found.description]
            rows = [dict(zip(names, row, strict=True)) for row in found.fetchall()]
        for row in rows:
            yield Difference(
                Kind(row["kind"]),
                row["enrollment_id"],
                row["course_id"],
                row["learner_id"],
                {name: (row[f"old_{name}"], row[f"new_{name}"]) for name in row["changed_fields"]},
            )

    def write(self, path: Path, output_format: OutputFormat, *, csv_raw: bool = False) -> None:
        """Write all differences to a file that is there, by enrollment_id, old and new values."""
        columns = [
            cell(name, FieldType.TEXT, output_format, csv_raw=csv_raw)
            for name in ("kind", "enrollment_id", "course_id", "learner_id")
        ]
        names = "changed_fields"
        if output_format is OutputFormat.CSV:
            names = "array_to_string(changed_fields, ' ') AS changed_fields"
        columns.append(names)
        columns += [
            cell(f"{side.value}_{field.name}", field.type, output_format, csv_raw=csv_raw)
            for field in _VALUES
            for side in Side
        ]
        quoted = str(path).replace("'", "''")
        with _mapped([], self._stopping):
            self._connection.execute(
                f"COPY (SELECT {', '.join(columns)} FROM work.difference"  # noqa: S608 - own names
                f" ORDER BY enrollment_id) TO '{quoted}'"
                f" ({FILE_OPTIONS[output_format]}, USE_TMP_FILE false)"
            )

    def _fill(self, table: str, schema: pa.Schema, rows: Iterable[tuple[Any, ...]]) -> None:
        reader = pa.RecordBatchReader.from_batches(schema, _blocks(schema, rows))
        self._connection.register("filling", reader)
        self._connection.execute(f"CREATE TABLE work.{table} AS SELECT * FROM filling")  # noqa: S608 - own names
        self._connection.unregister("filling")

    def _set_aside(self, side: Side, kind: Kind) -> int:
        """Keep the rows that a side lacks outside what it was asked for; return how many."""
        name = side.value
        joins, condition = "", "false"
        if side in self._covered:
            number = "coalesce(l.list, r.list)"
            joins = f"""
                CROSS JOIN work.{name}_rest AS r
                LEFT JOIN work.{name}_learner AS l ON l.learner_id = j.learner_id
                LEFT JOIN work.{name}_course AS c
                    ON c.list = {number} AND c.course_id = j.course_id
                LEFT JOIN work.{name}_course AS every
                    ON every.list = {number} AND every.course_id IS NULL
            """
            condition = f"j.kind = '{kind.value}' AND c.list IS NULL AND every.list IS NULL"
        self._connection.execute(
            f"CREATE TABLE work.{name}_outside AS"  # noqa: S608 - own names
            f" SELECT j.enrollment_id FROM work.joined AS j {joins} WHERE {condition}"
        )
        found = self._connection.execute(f"SELECT count(*) FROM work.{name}_outside")  # noqa: S608
        return int(found.fetchall()[0][0])


@contextlib.contextmanager
def comparing(
    directory: Path, should_stop: Callable[[], bool] = lambda: False
) -> Generator[Comparison, None, None]:
    """Make a comparison in a scratch directory, which is there, private and empty.

    Args:
        directory: for a database and for what is spilled.
        should_stop: asked between steps and, from another thread, during them.
    """
    stopping = Stopping(should_stop)
    with (
        connect(MEMORY_LIMIT_MB, directory) as connection,
        stopping.interrupting(connection.interrupt),
        stopping.watching(),
    ):
        quoted = str(directory / "comparison.duckdb").replace("'", "''")
        with _mapped([], stopping):
            connection.execute(f"ATTACH '{quoted}' AS work")
        yield Comparison(connection, directory, stopping)


def _blocks(schema: pa.Schema, rows: Iterable[tuple[Any, ...]]) -> Iterator[pa.RecordBatch]:
    block: list[tuple[Any, ...]] = []
    for row in rows:
        block.append(row)
        if len(block) == _BLOCK:
            yield _batch(schema, block)
            block = []
    if block:
        yield _batch(schema, block)


def _batch(schema: pa.Schema, rows: list[tuple[Any, ...]]) -> pa.RecordBatch:
    columns = zip(*rows, strict=True)
    arrays = [pa.array(column, field.type) for column, field in zip(columns, schema, strict=True)]
    return pa.RecordBatch.from_arrays(arrays, schema=schema)


@contextlib.contextmanager
def _mapped(failures: list[BaseException], stopping: Stopping) -> Generator[None, None, None]:
    """Raise the first cause, not what a library made of it on the way."""
    try:
        yield
    except BulkfetchError:
        raise
    except (duckdb.Error, pa.ArrowException, OSError) as error:
        if failures and isinstance(failures[0], BulkfetchError):
            raise failures[0] from None
        if stopping.is_asked():
            raise PublishingStopped from None
        raise SinkError(f"The comparison cannot go on: {str(error).splitlines()[0]}.") from None


assert FIELD_NAMES[0] == "enrollment_id"
