import csv
import io
import json
import os
import random
import re
import stat
from collections.abc import Callable
from datetime import UTC, date, datetime
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bulkfetch.errors import SinkError, UsageError
from bulkfetch.export.atomic import check_target
from bulkfetch.export.formats import OutputFormat, format_of
from bulkfetch.export.journal import FinishedBatch, Journal, JournalIdentity
from bulkfetch.export.publish import publish
from bulkfetch.export.sinks.files import FileSink, StreamSink
from bulkfetch.export.stopping import PublishingStopped
from bulkfetch.plan.rectangle import Rectangle
from bulkfetch.record import FIELD_NAMES, Enrollment

Enrollments = Callable[[int], list[Enrollment]]
Finished = Callable[..., FinishedBatch]
FORMATS = list(OutputFormat)
BYTE_STABLE = [OutputFormat.CSV, OutputFormat.JSONL, OutputFormat.PARQUET, OutputFormat.SQLITE]


def as_text(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, datetime):
        return value.strftime("%Y-%m-%dT%H:%M:%SZ")
    return str(value)


def test_csv_holds_every_row_sorted_with_iso_dates(
    journal: Journal, enrollments: Enrollments, finished: Finished, tmp_path: Path
) -> None:
    rows = enrollments(300)
    journal.commit(finished(rows))
    published = publish(journal, FileSink(tmp_path / "o.csv", OutputFormat.CSV))
    text = (tmp_path / "o.csv").read_bytes().decode()
    read = list(csv.reader(io.StringIO(text, newline="")))
    assert read[0] == list(FIELD_NAMES)
    assert read[1:] == [[as_text(value) for value in row] for row in sorted(rows)]
    assert (published.rows, published.duplicates) == (300, 0)
    assert published.bytes_written == len(text.encode())


def read_strictly(text: str) -> list[list[str]]:
    """Read the grammar of RFC 4180, section 2, and nothing else."""
    cell = re.compile(r'"((?:[^"]|"")*)"|([^",\r\n]*)')
    rows: list[list[str]] = [[]]
    at = 0
    while at < len(text):
        match = cell.match(text, at)
        assert match is not None
        quoted, plain = match.groups()
        rows[-1].append(plain if quoted is None else quoted.replace('""', '"'))
        at = match.end()
        if text.startswith("\r\n", at):
            rows.append([])
            at += 2
        else:
            assert text[at] == ",", text[at - 10 : at + 10]
            at += 1
    assert rows.pop() == []
    return rows


def test_csv_is_that_of_rfc_4180(journal: Journal, finished: Finished, tmp_path: Path) -> None:
    cells = ["a,b", 'say "x"', "two\nlines", "two\r\nlines", "cr\rhere", "ł🎓", "plain", " b "]
    rows = [
        Enrollment(f"e{number}", cell, cell, issued_certificate_id=cell)
        for number, cell in enumerate(cells)
    ]
    journal.commit(finished(rows))
    publish(journal, FileSink(tmp_path / "o.csv", OutputFormat.CSV))
    read = read_strictly((tmp_path / "o.csv").read_bytes().decode())
    assert read == [list(FIELD_NAMES), *([as_text(value) for value in row] for row in rows)]


def test_csv_tells_an_empty_text_from_none(
    journal: Journal, finished: Finished, tmp_path: Path
) -> None:
    journal.commit(finished([Enrollment("e", "c", "l", issued_certificate_id="")]))
    publish(journal, FileSink(tmp_path / "o.csv", OutputFormat.CSV))
    assert (tmp_path / "o.csv").read_bytes().endswith(b'\r\ne,c,l,,,,,,"",,\r\n')


def test_jsonl_holds_every_key_and_null(
    journal: Journal, finished: Finished, tmp_path: Path
) -> None:
    full = Enrollment(
        "e1", "c", "l", date(2022, 7, 14), date(2022, 8, 1), date(2022, 8, 2), True, 1, "k",
        datetime(2022, 7, 15, 7, 19, tzinfo=UTC), datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC),
    )  # fmt: skip
    journal.commit(finished([full, Enrollment("e0", 'c\n"', "ł\u2028🎓")]))
    publish(journal, FileSink(tmp_path / "o.jsonl", OutputFormat.JSONL))
    first, second = (tmp_path / "o.jsonl").read_text(encoding="utf-8").split("\n")[:2]
    assert json.loads(first) == dict.fromkeys(FIELD_NAMES) | {
        "enrollment_id": "e0", "course_id": 'c\n"', "learner_id": "ł\u2028🎓",
    }  # fmt: skip
    assert json.loads(second) == {
        "enrollment_id": "e1", "course_id": "c", "learner_id": "l", "access_date": "2022-07-14",
        "due_date": "2022-08-01", "expiration_date": "2022-08-02",
        "should_lock_after_due_date": True, "enrollment_type_group": 1,
        "issued_certificate_id": "k", "cert_issue_date": "2022-07-15T07:19:00Z",
        "cert_expiry_date": "9999-12-31T23:59:59Z",
    }  # fmt: skip


def test_parquet_is_typed_and_exact(
    journal: Journal, enrollments: Enrollments, finished: Finished, tmp_path: Path
) -> None:
    rows = enrollments(300)
    journal.commit(finished(rows))
    publish(journal, FileSink(tmp_path / "o.parquet", OutputFormat.PARQUET))
    table = pq.read_table(tmp_path / "o.parquet")
    assert [Enrollment(*row.values()) for row in table.to_pylist()] == sorted(rows)
    types = [str(field.type) for field in table.schema]
    assert types[3:] == [
        "date32[day]", "date32[day]", "date32[day]", "bool", "int8", "string",
        "timestamp[us, tz=UTC]", "timestamp[us, tz=UTC]",
    ]  # fmt: skip
    assert pq.ParquetFile(tmp_path / "o.parquet").metadata.row_group(0).column(0).compression == (
        "ZSTD"
    )


@pytest.mark.parametrize("output_format", BYTE_STABLE)
def test_the_bytes_do_not_depend_on_the_order_of_arrival(
    identity: JournalIdentity,
    enrollments: Enrollments,
    finished: Finished,
    tmp_path: Path,
    output_format: OutputFormat,
) -> None:
    rows = enrollments(2_000)
    conflict = rows[7]._replace(due_date=date(2030, 1, 1))
    rows += [rows[5], rows[6], conflict]
    outputs = []
    for seed in range(3):
        chance = random.Random(seed)
        chance.shuffle(rows)
        journal = Journal.open(tmp_path / f"j{seed}", identity, now=0.0)
        step = chance.randrange(50, 500)
        for start in range(0, len(rows), step):
            journal.commit(finished(rows[start : start + step]))
        published = publish(journal, FileSink(tmp_path / f"o{seed}", output_format))
        journal.close()
        assert (published.rows, published.duplicates, published.conflict_count) == (2_000, 2, 1)
        kept, dropped = published.conflicts[0].kept, published.conflicts[0].dropped
        assert date(2030, 1, 1) in {kept["due_date"], dropped["due_date"]}
        assert kept["due_date"] != dropped["due_date"]
        outputs.append((tmp_path / f"o{seed}").read_bytes())
    assert outputs[0] == outputs[1] == outputs[2]


def test_many_copies_of_a_row_are_one(
    journal: Journal, enrollments: Enrollments, finished: Finished, tmp_path: Path
) -> None:
    """Also where equal ids lie across the steps of the sorted stream."""
    rows = enrollments(3)
    for _ in range(8):
        journal.commit(finished(rows * 1_500))
    published = publish(journal, FileSink(tmp_path / "o.csv", OutputFormat.CSV))
    assert (published.rows, published.duplicates) == (3, 36_000 - 3)


@settings(max_examples=25, deadline=None)
@given(
    cells=st.lists(
        st.text(
            st.one_of(
                st.sampled_from("'=+-@\t\r\n,\"＝＋－＠ab1"),
                st.characters(exclude_categories=["Cs"]),
            ),
            min_size=1,
            max_size=8,
        ).filter(lambda text: "\0" not in text),
        min_size=1,
        max_size=6,
        unique=True,
    )
)
def test_csv_runs_no_formula_and_gives_every_cell_back(
    tmp_path_factory: pytest.TempPathFactory, cells: list[str]
) -> None:
    directory = tmp_path_factory.mktemp("csv")
    from bulkfetch.inputs import make_region  # noqa: PLC0415

    identity = JournalIdentity("x", "y", make_region(["l"], ["c"]))
    journal = Journal.open(directory / "j", identity, now=0.0)
    rows = [Enrollment(cell, "c", "l") for cell in cells]
    import pyarrow as pa  # noqa: PLC0415

    from bulkfetch.record import arrow_schema  # noqa: PLC0415

    batch = pa.RecordBatch.from_pylist([row._asdict() for row in rows], arrow_schema())
    assert isinstance(identity.region, Rectangle)
    journal.commit(FinishedBatch(identity.region, [batch], len(rows), 0, 1, 0.0, 0.0, 0, 0, ()))
    publish(journal, FileSink(directory / "o.csv", OutputFormat.CSV))
    publish(journal, FileSink(directory / "raw.csv", OutputFormat.CSV, csv_raw=True))
    journal.close()

    def ids(name: str) -> list[str]:
        with (directory / name).open(encoding="utf-8", newline="") as file:
            return [row[0] for row in csv.reader(file)][1:]

    safe = ids("o.csv")
    assert not [cell for cell in safe if cell[0] in "=+-@\t\r\n＝＋－＠"]
    restored = [cell[1:] if re.match("^''*[=+\\-@\t\r\n＝＋－＠]", cell) else cell for cell in safe]
    assert sorted(restored) == sorted(cells) == sorted(ids("raw.csv"))


@pytest.mark.parametrize("output_format", FORMATS)
def test_an_output_is_replaced_whole_and_is_private(
    journal: Journal,
    enrollments: Enrollments,
    finished: Finished,
    tmp_path: Path,
    output_format: OutputFormat,
) -> None:
    target = tmp_path / "it's here.out"
    target.write_text("the old one")
    journal.commit(finished(enrollments(10)))
    before = os.umask(0)
    try:
        publish(journal, FileSink(target, output_format))
    finally:
        os.umask(before)
    assert stat.S_IMODE(target.stat().st_mode) == 0o600
    assert target.read_bytes() != b"the old one"
    assert {path.name for path in tmp_path.iterdir()} <= {
        "it's here.out", "journal", "journal-wal", "journal-shm", "journal.lock",
    }  # fmt: skip


@pytest.mark.parametrize("output_format", FORMATS)
def test_a_stopped_publication_leaves_the_old_file_and_nothing_else(
    journal: Journal,
    enrollments: Enrollments,
    finished: Finished,
    tmp_path: Path,
    output_format: OutputFormat,
) -> None:
    target = tmp_path / "o.csv"
    target.write_text("the old one")
    journal.commit(finished(enrollments(10)))
    with pytest.raises(PublishingStopped):
        publish(journal, FileSink(target, output_format), should_stop=lambda: True)
    assert target.read_text() == "the old one"
    assert {path.name for path in tmp_path.iterdir()} == {
        "o.csv", "journal", "journal-wal", "journal-shm", "journal.lock",
    }  # fmt: skip


def test_a_link_stays_a_link(
    journal: Journal, enrollments: Enrollments, finished: Finished, tmp_path: Path
) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link.csv").symlink_to(tmp_path / "real" / "o.csv")
    journal.commit(finished(enrollments(3)))
    publish(journal, FileSink(tmp_path / "link.csv", OutputFormat.CSV))
    assert (tmp_path / "link.csv").is_symlink()
    assert len((tmp_path / "real" / "o.csv").read_text().splitlines()) == 4


@pytest.mark.parametrize("output_format", BYTE_STABLE)
def test_a_stream_gets_the_same_bytes(
    journal: Journal,
    enrollments: Enrollments,
    finished: Finished,
    tmp_path: Path,
    output_format: OutputFormat,
) -> None:
    journal.commit(finished(enrollments(30)))
    stream = io.BytesIO()
    publish(journal, StreamSink(stream, output_format))
    publish(journal, FileSink(tmp_path / "o", output_format))
    assert stream.getvalue() == (tmp_path / "o").read_bytes()


def test_an_export_of_nothing_is_a_header(journal: Journal, tmp_path: Path) -> None:
    published = publish(journal, FileSink(tmp_path / "o.csv", OutputFormat.CSV))
    assert published.rows == 0
    assert (tmp_path / "o.csv").read_text().strip() == ",".join(FIELD_NAMES)


@pytest.mark.parametrize("output_format", FORMATS)
def test_a_directory_that_is_gone_is_one_sentence(
    journal: Journal,
    enrollments: Enrollments,
    finished: Finished,
    tmp_path: Path,
    output_format: OutputFormat,
) -> None:
    journal.commit(finished(enrollments(3)))
    with pytest.raises(SinkError, match="cannot be written: No such file or directory"):
        publish(journal, FileSink(tmp_path / "gone" / "o", output_format))


@pytest.mark.parametrize(
    ("target", "override", "expected"),
    [
        ("a/b.csv", None, OutputFormat.CSV),
        ("B.JSONL", None, OutputFormat.JSONL),
        ("x.parquet", None, OutputFormat.PARQUET),
        ("-", None, OutputFormat.CSV),
        ("-", "jsonl", OutputFormat.JSONL),
        ("x.data", "parquet", OutputFormat.PARQUET),
        ("x.duckdb", None, OutputFormat.DUCKDB),
        ("x.sqlite", None, OutputFormat.SQLITE),
        ("x.db", None, OutputFormat.SQLITE),
        ("x.sqlite3", None, OutputFormat.SQLITE),
    ],
)
def test_the_name_says_the_format(
    target: str, override: str | None, expected: OutputFormat
) -> None:
    assert format_of(target, override) is expected


def test_an_unknown_format_names_the_choices() -> None:
    with pytest.raises(UsageError, match=r"\.csv, \.jsonl, \.parquet"):
        format_of("x.xlsx")


def test_targets_are_checked_before_anything_is_fetched(tmp_path: Path) -> None:
    check_target(tmp_path / "new.csv")
    with pytest.raises(UsageError, match="is a directory"):
        check_target(tmp_path)
    with pytest.raises(SinkError, match="does not exist"):
        check_target(tmp_path / "missing" / "o.csv")
    with pytest.raises(UsageError, match="is not a file"):
        check_target(Path("/dev/null"))
