"""What has changed between two exports: real journals, real files, every format."""

import csv
import io
import json
from collections.abc import Callable, Sequence
from datetime import UTC, date, datetime
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from bulkfetch.errors import UsageError
from bulkfetch.export.comparison import Kind
from bulkfetch.export.diff import Diffed, diff
from bulkfetch.export.formats import OutputFormat
from bulkfetch.export.journal import FinishedBatch, Journal, JournalIdentity
from bulkfetch.export.publish import publish
from bulkfetch.export.sinks.files import FileSink
from bulkfetch.inputs import make_region
from bulkfetch.plan.rectangle import Rectangle
from bulkfetch.record import Enrollment

FORMATS = ["csv", "jsonl", "parquet", "duckdb", "sqlite"]
LEARNERS = [f"l{n}" for n in range(10)]
ODD = ["=1+1", "'=1+1", "''@x", "plain", "it's", "\ttab", 'a "b", c', "line\r\nbreak", "é😀", " = "]


def row(number: int) -> Enrollment:
    return Enrollment(
        enrollment_id=f"e{number:03}",
        course_id=f"c{number % 3}",
        learner_id=f"l{number % 10}",
        access_date=date(2022, 1, 1 + number % 28),
        should_lock_after_due_date=bool(number % 2),
        enrollment_type_group=[0, 1, None][number % 3],
        issued_certificate_id=ODD[number % 10] if number % 2 else None,
        cert_issue_date=datetime(2022, 7, 15, 7, 19, number % 60, tzinfo=UTC),
    )


class Maker:
    """Makes journals of these rows, and publishes them."""

    def __init__(self, directory: Path, finished: Callable[..., FinishedBatch]) -> None:
        self.directory = directory
        self._finished = finished

    def journal(
        self,
        name: str,
        rows: Sequence[Enrollment],
        *,
        region: Rectangle | None = None,
        batches: Sequence[Rectangle] | None = None,
    ) -> Path:
        region = region or make_region(LEARNERS, ["c0", "c1", "c2"])
        path = self.directory / name
        identity = JournalIdentity("getEnrollments", "https://example.org", region)
        journal = Journal.open(path, identity, now=0.0)
        for part in batches if batches is not None else [region]:
            inside = [
                each
                for each in rows
                if each.learner_id in (part.learners or (each.learner_id,))
                and each.course_id in (part.courses or (each.course_id,))
            ]
            journal.commit(self._finished(inside, part))
        journal.close()
        return path

    def publish(self, path: Path, suffix: str, *, csv_raw: bool = False) -> Path:
        journal = Journal.open_existing(path)
        target = path.with_name(f"{path.name}.{suffix}")
        publish(journal, FileSink(target, OutputFormat(suffix), csv_raw))
        journal.close()
        return target


@pytest.fixture
def make(tmp_path: Path, finished: Callable[..., FinishedBatch]) -> Maker:
    return Maker(tmp_path, finished)


def compare(old: Path, new: Path, **options: object) -> Diffed:
    directory = old.parent / "scratch"
    directory.mkdir(exist_ok=True)
    (directory / "comparison.duckdb").unlink(missing_ok=True)
    return diff(old, new, directory, **{"limit": 100, **options})  # type: ignore[arg-type]


def kinds(found: Diffed) -> dict[str, list[str]]:
    return {
        kind.value: [each.enrollment_id for each in found.first if each.kind is kind]
        for kind in Kind
    }


def test_added_removed_and_changed_rows_are_told_with_their_fields(make: Maker) -> None:
    rows = [row(n) for n in range(50)]
    later = [each for each in rows if each.enrollment_id != "e007"]
    later[20] = later[20]._replace(due_date=date(2030, 1, 1), enrollment_type_group=None)
    later.append(row(77))
    found = compare(make.journal("old", rows), make.journal("new", later))
    changed_id = later[20].enrollment_id
    assert kinds(found) == {"added": ["e077"], "removed": ["e007"], "changed": [changed_id]}
    (change,) = (each for each in found.first if each.kind is Kind.CHANGED)
    before = next(each for each in rows if each.enrollment_id == changed_id)
    assert change.fields["due_date"] == (None, date(2030, 1, 1))
    assert change.fields.keys() <= {"due_date", "enrollment_type_group"}
    assert change.learner_id == before.learner_id
    counts = found.counts
    assert (counts.old, counts.new, counts.differences) == (50, 50, 3)
    assert counts.outside_old == counts.outside_new == 0


@pytest.mark.parametrize(
    ("old_format", "new_format"),
    [("csv", "parquet"), *((kind, "journal") for kind in FORMATS), ("journal", "jsonl")],
)
def test_every_kind_of_file_says_the_same(make: Maker, old_format: str, new_format: str) -> None:
    rows = [row(n) for n in range(60)]
    paths = [make.journal("old", rows), make.journal("new", [*rows[1:], row(60)])]
    for position, kind in enumerate((old_format, new_format)):
        if kind != "journal":
            paths[position] = make.publish(paths[position], kind)
    found = compare(*paths)
    assert kinds(found) == {"added": ["e060"], "removed": ["e000"], "changed": []}


def test_cells_as_they_are_are_read_as_such_if_one_says_so(make: Maker) -> None:
    path = make.journal("old", [row(n) for n in range(60)])
    raw = make.publish(path, "csv", csv_raw=True)
    assert compare(path, raw, csv_raw=True).counts.differences == 0


def test_rows_outside_what_the_other_covers_are_not_removed(make: Maker) -> None:
    rows = [row(n) for n in range(60)]
    whole = make.journal("old", rows)
    narrow = make_region(LEARNERS[:6], ["c0", "c1", "c2"])
    # Of the narrower region learners 0 to 3 are finished, 4 and 5 are not.
    done = make_region(LEARNERS[:4], ["c0", "c1", "c2"])
    kept = [each for each in rows if each.enrollment_id != "e012"]
    part = make.journal("new", kept, region=narrow, batches=[done])
    found = compare(whole, part)
    assert kinds(found) == {"added": [], "removed": ["e012"], "changed": []}
    assert found.counts.outside_new == sum(each.learner_id > "l3" for each in rows)
    back = compare(part, whole)
    assert kinds(back) == {"added": ["e012"], "removed": [], "changed": []}
    assert back.counts.outside_old == found.counts.outside_new


def test_a_side_without_a_filter_covers_every_id(make: Maker) -> None:
    rows = [row(n) for n in range(30)]
    old = make.journal("old", rows)
    by_course = make_region(None, ["c1"])
    new = make.journal("new", [each for each in rows[3:] if each.course_id == "c1"],
                       region=by_course)  # fmt: skip
    found = compare(old, new)
    assert kinds(found) == {"added": [], "removed": ["e001"], "changed": []}
    assert found.counts.outside_new == 20
    whole = make.journal("whole", rows[1:], region=make_region(None, None))
    assert kinds(compare(old, whole)) == {"added": [], "removed": ["e000"], "changed": []}


def test_a_finished_part_of_the_courses_covers_just_those(make: Maker) -> None:
    rows = [row(n) for n in range(30)]
    region = make_region(LEARNERS, ["c0", "c1", "c2"])
    halves = [make_region(LEARNERS[:5], ["c0", "c1", "c2"]), make_region(LEARNERS[5:], ["c0"])]
    new = make.journal("new", [], region=region, batches=halves)
    found = compare(make.journal("old", rows), new)
    expected = [
        each.enrollment_id for each in rows if each.learner_id < "l5" or each.course_id == "c0"
    ]
    assert kinds(found)["removed"] == expected
    assert found.counts.outside_new == 30 - len(expected)


@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet"])
def test_differences_are_written_with_old_and_new_values(make: Maker, kind: str) -> None:
    rows = [row(n) for n in range(20)]
    later = [*rows[1:], row(20)]
    later[4] = later[4]._replace(issued_certificate_id="=cmd", due_date=date(2031, 2, 3))
    output = make.directory / f"changes.{kind}"
    compare(
        make.journal("old", rows),
        make.journal("new", later),
        output=output,
        output_format=OutputFormat(kind),
    )
    assert output.stat().st_mode & 0o777 == 0o600
    if kind == "parquet":
        found = pq.read_table(output).to_pylist()
    elif kind == "jsonl":
        found = [json.loads(line) for line in output.read_text().splitlines()]
    else:
        found = list(csv.DictReader(io.StringIO(output.read_bytes().decode(), newline="")))
    assert [(each["enrollment_id"], each["kind"]) for each in found] == [
        ("e000", "removed"), ("e005", "changed"), ("e020", "added"),
    ]  # fmt: skip
    change = found[1]
    if kind == "csv":
        assert change["changed_fields"] == "due_date issued_certificate_id"
        assert change["new_issued_certificate_id"] == "'=cmd"
        assert change["old_cert_issue_date"] == "2022-07-15T07:19:05Z"
    else:
        assert change["changed_fields"] == ["due_date", "issued_certificate_id"]
        assert change["new_issued_certificate_id"] == "=cmd"
    assert str(change["new_due_date"]) == "2031-02-03"
    assert not change["old_due_date"]
    assert found[0]["old_learner_id"] == found[0]["learner_id"] == "l0"
    assert not found[0]["new_learner_id"]


def test_what_is_no_export_is_refused_by_name(make: Maker, tmp_path: Path) -> None:
    journal = make.journal("old", [])
    for name, content, message in (
        ("x.txt", b"hello", "neither a journal nor a published file"),
        ("x.csv", b"a,b\n1,2\n", "no column enrollment_id"),
        ("x.parquet", b"PAR1", "cannot be read"),
        ("x.jsonl", b"{}\n", "without enrollment_id"),
        ("x.jsonl", b"[1\n", "cannot be read"),
        ("x.sqlite", b"SQLite format 3\0" + bytes(200), "cannot be read"),
        ("x.duckdb", b"nonsense", "cannot be read"),
    ):
        path = tmp_path / name
        path.write_bytes(content)
        with pytest.raises(UsageError, match=message) as caught:
            compare(journal, path)
        assert str(path) in str(caught.value)
    with pytest.raises(UsageError, match="cannot be read"):
        compare(journal, tmp_path / "missing.csv")
    with pytest.raises(UsageError, match="the same file"):
        compare(journal, journal)
    with pytest.raises(UsageError, match="one of"):
        compare(journal, make.journal("new", []), output=tmp_path / "d.sqlite",
                output_format=OutputFormat.SQLITE)  # fmt: skip


def test_a_value_that_is_no_date_is_refused_by_name(make: Maker, tmp_path: Path) -> None:
    journal = make.journal("old", [row(1)])
    published = make.publish(journal, "csv")
    spoilt = tmp_path / "spoilt.csv"
    spoilt.write_text(published.read_text().replace("2022-01-02", "soon"))
    with pytest.raises(UsageError, match=r"spoilt\.csv cannot be read as enrollments: .*soon"):
        compare(journal, spoilt)
