"""Which exports a table holds, noted beside it, so that none undoes what a later one has brought.

A finished journal can be published again at any time, also after a later export has brought newer
rows into the same table; its rows are old then, and that it lacks a row proves nothing. So each
publication notes the ids that it asked for and when its calls ended, in a small table in the same
schema. A journal is older than a noted export if one of its calls ended before the last one of
that export and both asked for some learner and course in common. Clocks that show the same time
decide nothing. Exports of the same ids share one note, and of many different ones only the latest
keep their lists: the others count as exports of everything, which may refuse too much and never
too little.
"""

import hashlib
import json
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Self

from bulkfetch.errors import SinkError
from bulkfetch.export.journal import Journal
from bulkfetch.export.sinks.postgres.session import Session
from bulkfetch.export.sinks.postgres.table import Table, quote_identifier
from bulkfetch.plan.rectangle import Axis, Rectangle, Side
from bulkfetch.record import TABLE_NAME

EXPORTS = f"{TABLE_NAME}_exports"
_COLUMNS = ("ids", "learners", "courses", "journal", "fetched_until")
_PRIVILEGES = "SELECT,INSERT,UPDATE,DELETE"
_LISTS_KEPT = 32
_EVERYTHING = b""


@dataclass(frozen=True, slots=True)
class Export:
    """What a journal brings.

    Attributes:
        journal: which one it is, whatever it has fetched so far.
        region: the ids asked for; for pairs, the lists that they make.
        calls: what each call covered, and when it ended, in seconds since 1970.
    """

    journal: str
    region: Rectangle
    calls: Sequence[tuple[Rectangle, float]]

    @classmethod
    def of(cls, journal: Journal) -> Self:
        """Read what a journal brings."""
        region = journal.identity.region
        sides = Rectangle(region.side(Axis.LEARNERS), region.side(Axis.COURSES))
        begun = f"{journal.begun_at()!r}\n".encode()
        name = hashlib.sha256(begun + b"\n".join(map(_pack, (sides.learners, sides.courses))))
        calls = [
            (Rectangle(call.learners or sides.learners, call.courses or sides.courses), ended_at)
            for call, ended_at in journal.finished_at()
        ]
        return cls(name.hexdigest(), sides, calls)


@dataclass(frozen=True, slots=True)
class Exports:
    """The table of notes as it is found.

    Attributes:
        schema: it stands in, or will.
        exists: whether it was made already.
        may_be_kept: whether it is there or can be made.
    """

    schema: str
    exists: bool
    may_be_kept: bool

    @property
    def sql(self) -> str:
        """Its name in a statement."""
        return f"{quote_identifier(self.schema)}.{EXPORTS}"


def find_exports(session: Session, table: Table) -> Exports:
    """Find the notes of a table, or the place for them.

    Raises:
        SinkError: another table is in their place, or they cannot be written.
    """
    found = session.query(
        "SELECT c.relkind = 'r' AND 5 = (SELECT count(*) FROM pg_attribute a"
        "  WHERE a.attrelid = c.oid AND a.attname = ANY (string_to_array($4, ','))"
        "  AND NOT a.attisdropped),"
        " array_to_string(ARRAY(SELECT p FROM unnest(string_to_array($3, ',')) p"
        "  WHERE NOT has_table_privilege(c.oid, p)), ', ')"
        " FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace"
        " WHERE n.nspname = $1 AND c.relname = $2",
        table.schema, EXPORTS, _PRIVILEGES, ",".join(_COLUMNS),
    )  # fmt: skip
    if not found:
        return Exports(table.schema, exists=False, may_be_kept=table.may_create)
    ((is_own, missing_privileges),) = found
    name = f"{table.schema}.{EXPORTS}"
    if not is_own:
        raise SinkError(
            f"{name} is not the table in which exports are noted: rename it, or name another "
            "schema in the URL (?schema=NAME)."
        )
    if missing_privileges:
        raise SinkError(f"This user lacks {missing_privileges} on the table {name}: GRANT them.")
    return Exports(table.schema, exists=True, may_be_kept=True)


def require_kept(exports: Exports) -> None:
    """Check that exports can be noted.

    Raises:
        SinkError: they cannot, so that nobody can tell which rows are of earlier ones.
    """
    if not exports.may_be_kept:
        raise SinkError(
            f"This user may not create the table {exports.schema}.{EXPORTS}, in which exports are "
            "noted; without it nobody can tell which rows are of earlier ones. GRANT CREATE on "
            "the schema, leave out --gone, or give --allow-older if this export is the latest."
        )


def find_later(session: Session, exports: Exports, export: Export) -> float | None:
    """Return until when later exports of some of the same ids were fetched; None without any.

    The table of enrollments must be locked.

    Returns:
        Seconds since 1970.
    """
    if not exports.exists or not export.calls:
        return None
    oldest = min(ended_at for _, ended_at in export.calls)
    latest: float | None = None
    for learners, courses, until in session.query(
        "SELECT learners, courses, extract(epoch FROM fetched_until)::float8"
        f" FROM {exports.sql} WHERE journal <> $1 AND fetched_until > to_timestamp($2)",
        export.journal, oldest,
    ):  # fmt: skip
        assert isinstance(learners, bytes)
        assert isinstance(courses, bytes)
        assert isinstance(until, float)
        named = (_unpack(learners), _unpack(courses))
        # Times are kept in microseconds.
        if any(
            round(ended_at, 6) < until and _meet(call, named) for call, ended_at in export.calls
        ):
            latest = until if latest is None else max(latest, until)
    return latest


def note(session: Session, exports: Exports, export: Export) -> None:
    """Note an export that the table holds now; the table of enrollments must be locked."""
    if not exports.may_be_kept or not export.calls:
        return
    if not exports.exists:
        session.execute(
            f"CREATE TABLE {exports.sql} (ids text PRIMARY KEY, learners bytea NOT NULL,"
            " courses bytea NOT NULL, journal text NOT NULL, fetched_until timestamptz NOT NULL)"
        )
        session.execute(
            f"COMMENT ON TABLE {exports.sql} IS 'Which exports of bulkfetch the table"
            f" {TABLE_NAME} holds. Empty when that is emptied.'"
        )
    learners, courses = _pack(export.region.learners), _pack(export.region.courses)
    ids = hashlib.sha256(learners + b"\n" + courses).hexdigest()
    until = max(ended_at for _, ended_at in export.calls)
    names = ", ".join(_COLUMNS)
    put = (
        f"INSERT INTO {exports.sql} AS old ({names}) %s ON CONFLICT (ids) DO UPDATE"
        " SET journal = excluded.journal, fetched_until = excluded.fetched_until"
        " WHERE (old.journal, old.fetched_until) IS DISTINCT FROM"
        " (excluded.journal, excluded.fetched_until) RETURNING 1"
    )
    session.query(
        put % "VALUES ($1, $2, $3, $4, to_timestamp($5))",
        ids, learners, courses, export.journal, until,
    )  # fmt: skip
    everything = hashlib.sha256(b"\n").hexdigest()
    too_many = (
        f"SELECT ids FROM {exports.sql} WHERE ids <> $1"
        f" ORDER BY fetched_until DESC OFFSET {_LISTS_KEPT}"
    )
    folded = session.query(
        f"WITH folded AS (DELETE FROM {exports.sql} WHERE ids IN ({too_many})"
        " RETURNING fetched_until) SELECT extract(epoch FROM max(fetched_until))::float8"
        " FROM folded HAVING count(*) > 0",
        everything,
    )
    if folded:
        session.query(
            put % "SELECT $1, ''::bytea, ''::bytea, '', greatest(to_timestamp($2),"
            f" (SELECT max(fetched_until) FROM {exports.sql} WHERE ids = $1))",
            everything, folded[0][0],
        )  # fmt: skip


def forget(session: Session, exports: Exports) -> None:
    """Forget all notes: the table of enrollments is empty."""
    if exports.exists:
        session.execute(f"DELETE FROM {exports.sql}")


def refuse(table: Table, export: Export, later: float, changes: dict[str, int]) -> SinkError:
    """Return the error that says why an older export is not published."""
    oldest = min(ended_at for _, ended_at in export.calls)
    done = ", ".join(f"{count:,} {what}" for what, count in changes.items() if count)
    return SinkError(
        f"The table {table.schema}.{TABLE_NAME} holds a later export: it was fetched until "
        f"{_time(later)}, and this journal from {_time(oldest)}. Older rows would undo newer ones "
        f"({done}), so nothing was changed. Fetch anew with --restart, or give --allow-older if "
        "the older rows are wanted."
    )


def _meet(call: Rectangle, named: tuple[frozenset[str] | None, frozenset[str] | None]) -> bool:
    """Whether a call and the ids of an export have a pair in common."""
    return all(
        ids is None or side is None or not ids.isdisjoint(side)
        for ids, side in zip(named, (call.learners, call.courses), strict=True)
    )


def _pack(side: Side) -> bytes:
    return _EVERYTHING if side is None else zlib.compress(json.dumps(side).encode())


def _unpack(packed: bytes) -> frozenset[str] | None:
    return None if packed == _EVERYTHING else frozenset(json.loads(zlib.decompress(packed)))


def _time(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(sep=" ", timespec="seconds")
