"""An older journal does not undo what a later export has brought into a table."""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from bulkfetch.errors import SinkError
from bulkfetch.export.journal import FinishedBatch, Journal, JournalIdentity
from bulkfetch.export.publish import publish
from bulkfetch.export.sinks.postgres import Gone
from bulkfetch.export.sinks.postgres.sink import PostgresSink
from bulkfetch.export.sinks.postgres.url import parse_url
from bulkfetch.plan.rectangle import Rectangle
from bulkfetch.record import Enrollment, arrow_schema

Database = Any
Changes = dict[str, int] | None
COURSES = ("x", "y")
UNCHANGED = {"inserted": 0, "updated": 0}


def rows_of(*learners: str, group: int = 0) -> list[Enrollment]:
    return [
        Enrollment(f"{learner}{course}", course, learner, enrollment_type_group=group)
        for learner in learners
        for course in COURSES
    ]


def batch(rectangle: Rectangle, rows: Iterable[Enrollment], ended_at: float) -> FinishedBatch:
    table = pa.RecordBatch.from_pylist([row._asdict() for row in rows], arrow_schema())
    return FinishedBatch(rectangle, [table], table.num_rows, 0, 1, ended_at - 1, ended_at, 0, 0, ())


@pytest.fixture
def fetch(tmp_path: Path) -> Callable[..., Path]:
    """Make a finished journal, whose rows came at some time; None of learners is all of them."""

    def run(
        name: str, learners: tuple[str, ...] | None, rows: list[Enrollment], *ended_at: float
    ) -> Path:
        region = Rectangle(learners, COURSES)
        identity = JournalIdentity("getEnrollments", "https://example.org", region)
        journal = Journal.open(tmp_path / name, identity, now=ended_at[0] - 2)
        parts = [Rectangle((unit,), COURSES) for unit in learners or ()]
        calls = parts if len(ended_at) > 1 else [region]
        for call, time in zip(calls, ended_at, strict=True):
            asked = call.learners
            wanted = [row for row in rows if asked is None or row.learner_id in asked]
            journal.commit(batch(call, wanted, time))
        journal.close()
        return tmp_path / name

    return run


@pytest.fixture
def load(database: Database) -> Callable[..., Changes]:
    def run(path: Path, gone: Gone = Gone.KEEP, *, allow_older: bool = False) -> Changes:
        journal = Journal.open_existing(path)
        try:
            sink = PostgresSink(parse_url(database.url), gone, allow_older)
            sink.check()
            return publish(journal, sink).changes
        finally:
            journal.close()

    return run


@pytest.mark.parametrize("gone", list(Gone))
def test_an_older_journal_neither_deletes_nor_reverts_what_a_later_one_brought(
    fetch: Callable[..., Path], load: Callable[..., Changes], database: Database, gone: Gone
) -> None:
    old = fetch("old", ("a", "b"), rows_of("b"), 1_000.0)
    new = fetch("new", ("a", "b"), rows_of("a", "b", group=1), 2_000.0)
    load(old)
    load(new)
    with pytest.raises(SinkError, match=r"holds a later export.*1970-01-01 00:33:20\+00:00"):
        load(old, gone)
    assert database.rows() == rows_of("a", "b", group=1)
    assert load(new, gone) == UNCHANGED | ({} if gone is Gone.KEEP else {"gone": 0})


def test_the_same_journal_again_changes_nothing_and_succeeds(
    fetch: Callable[..., Path], load: Callable[..., Changes]
) -> None:
    old = fetch("old", ("a", "b"), rows_of("a"), 1_000.0)
    same = fetch("same", ("a", "b"), rows_of("a"), 2_000.0)
    assert load(old) == {"inserted": 2, "updated": 0}
    assert load(old) == UNCHANGED
    load(same)
    assert load(old, Gone.DELETE) == UNCHANGED | {"gone": 0}


def test_exports_of_other_ids_do_not_stand_in_each_others_way(
    fetch: Callable[..., Path], load: Callable[..., Changes], database: Database
) -> None:
    first = fetch("first", ("a",), rows_of("a"), 1_000.0)
    second = fetch("second", ("b",), rows_of("b"), 2_000.0)
    load(second)
    assert load(first, Gone.DELETE) == {"inserted": 2, "updated": 0, "gone": 0}
    assert load(second, Gone.DELETE) == UNCHANGED | {"gone": 0}
    assert database.rows() == rows_of("a", "b")


def test_what_is_old_is_decided_call_by_call(
    fetch: Callable[..., Path], load: Callable[..., Changes], database: Database
) -> None:
    """An export that was resumed: what it fetched before the other one does not count there."""
    load(fetch("between", ("b",), rows_of("b"), 2_000.0))
    newer = fetch("newer", ("a", "b"), rows_of("a", "b", group=1), 1_000.0, 3_000.0)
    older = fetch("older", ("a", "b"), rows_of("a", "b", group=2), 3_500.0, 1_500.0)
    assert load(newer) == {"inserted": 2, "updated": 2}
    with pytest.raises(SinkError, match="holds a later export"):
        load(older)
    assert database.rows() == rows_of("a", "b", group=1)


def test_clocks_that_show_the_same_decide_nothing(
    fetch: Callable[..., Path], load: Callable[..., Changes]
) -> None:
    load(fetch("one", ("a",), rows_of("a"), 1_000.25))
    assert load(fetch("two", None, rows_of("a", group=1), 1_000.25))
    assert load(fetch("one more", ("a",), rows_of("a", group=2), 1_000.25))


def test_an_export_of_everything_meets_every_other(
    fetch: Callable[..., Path], load: Callable[..., Changes]
) -> None:
    old = fetch("old", None, rows_of("a"), 1_000.0)
    load(fetch("new", ("b",), rows_of("b"), 2_000.0))
    with pytest.raises(SinkError, match="holds a later export"):
        load(old)


def test_the_older_rows_can_be_asked_for(
    fetch: Callable[..., Path], load: Callable[..., Changes]
) -> None:
    old = fetch("old", ("a", "b"), rows_of("b"), 1_000.0)
    new = fetch("new", ("a", "b"), rows_of("a", "b", group=1), 2_000.0)
    load(new)
    changes = load(old, Gone.DELETE, allow_older=True)
    assert changes == {"inserted": 0, "updated": 2, "gone": 2}
    assert load(old) == UNCHANGED
    assert load(new) == {"inserted": 2, "updated": 2}


def test_an_empty_table_has_nothing_that_could_be_undone(
    fetch: Callable[..., Path], load: Callable[..., Changes], database: Database
) -> None:
    old = fetch("old", ("a", "b"), rows_of("b"), 1_000.0)
    load(fetch("new", ("a", "b"), rows_of("a"), 2_000.0))
    database.query("DROP TABLE enrollments")
    assert load(old) == {"inserted": 2, "updated": 0}


def test_of_many_different_exports_the_latest_keep_their_lists(
    fetch: Callable[..., Path], load: Callable[..., Changes], database: Database
) -> None:
    for number in range(40):
        load(fetch(f"j{number}", (f"l{number}",), rows_of(f"l{number}"), 1_000.0 + number))
    notes = database.query("SELECT octet_length(learners) > 0, count(*) FROM enrollments_exports"
                           " GROUP BY 1 ORDER BY 1")  # fmt: skip
    assert notes == [(False, 1), (True, 32)]
    before_the_lists, among_them = 1_005.0, 1_020.0
    with pytest.raises(SinkError, match="holds a later export"):
        load(fetch("first", ("elsewhere",), rows_of("elsewhere"), before_the_lists))
    assert load(fetch("other", ("elsewhere",), rows_of("elsewhere"), among_them))


def test_a_user_who_may_not_note_exports_adds_rows_and_removes_none(
    fetch: Callable[..., Path], load: Callable[..., Changes], database: Database
) -> None:
    path = fetch("one", ("a",), rows_of("a"), 1_000.0)
    load(path)
    role = f"role_{database.schema}"
    for statement in (
        "DROP TABLE enrollments_exports",
        f"CREATE ROLE {role} LOGIN",
        f"GRANT USAGE ON SCHEMA {database.schema} TO {role}",
        f"GRANT SELECT, INSERT, UPDATE, DELETE ON enrollments TO {role}",
    ):
        database.query(statement)
    url = parse_url(database.url.replace("postgres:@", f"{role}@"))
    with pytest.raises(SinkError, match=r"may not create the table .*enrollments_exports"):
        PostgresSink(url, Gone.DELETE).check()
    PostgresSink(url, Gone.DELETE, allow_older=True).check()
    journal = Journal.open_existing(path)
    try:
        PostgresSink(url).check()
        assert publish(journal, PostgresSink(url)).changes == UNCHANGED
    finally:
        journal.close()


def test_a_table_of_that_name_which_is_another_is_refused(
    load: Callable[..., Changes], fetch: Callable[..., Path], database: Database
) -> None:
    database.query("CREATE TABLE enrollments_exports (id int)")
    with pytest.raises(SinkError, match="not the table in which exports are noted"):
        load(fetch("one", ("a",), rows_of("a"), 1_000.0))


@pytest.mark.parametrize(
    "body",
    [
        "IF new.course_id = 'x' THEN RETURN NULL; END IF; RETURN new;",
        "new.learner_id := 'else'; RETURN new;",
        "IF tg_op = 'UPDATE' THEN RETURN NULL; END IF; RETURN new;",
    ],
    ids=["drops rows", "alters rows", "keeps old rows"],
)
def test_a_trigger_that_swallows_rows_is_found_out(
    fetch: Callable[..., Path], load: Callable[..., Changes], database: Database, body: str
) -> None:
    load(fetch("old", ("a",), rows_of("a"), 1_000.0))
    database.query(
        f"CREATE FUNCTION meddle() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN {body} END$$"
    )
    database.query(
        "CREATE TRIGGER meddle BEFORE INSERT OR UPDATE ON enrollments FOR EACH ROW"
        " EXECUTE FUNCTION meddle()"
    )
    new = fetch("new", ("a", "b"), rows_of("a", "b", group=1), 2_000.0)
    with pytest.raises(SinkError, match="of the rows written are not in the table"):
        load(new)
    assert database.rows() == rows_of("a")
