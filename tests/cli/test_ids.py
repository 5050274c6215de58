import json
import tracemalloc
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from bulkfetch.cli.ids import read_ids
from bulkfetch.errors import UsageError
from bulkfetch.plan.rectangle import Axis

IDS = ["a-1", "b-2", "ł€🎓"]


def write(path: Path, content: str | bytes) -> str:
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return str(path)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("ids.txt", "a-1\nb-2\n\n  \n ł€🎓 \nb-2\n"),
        ("ids.txt", "\ufeffa-1\r\nb-2\r\nł€🎓"),
        ("ids", "a-1\nb-2\nł€🎓"),
        ("ids.txt", "a-1\r\nb-2\r\nł€🎓\r\n".encode("utf-16")),
        ("ids.csv", "learner_id,name\na-1,x\nb-2,y\nł€🎓,z\n"),
        ("ids.csv", 'name;"Learner ID"\nx;a-1\ny;"b-2"\n"z;\nz";ł€🎓\n'),
        ("ids.csv", "\ufeffuserId\tname\r\na-1\tx\r\nb-2\ty\r\nł€🎓\tz"),
        ("ids.csv", "name,id\nx,a-1\ny,b-2\nz,ł€🎓\nshort\n"),
        ("ids.jsonl", "\n".join(json.dumps(value) for value in IDS)),
        ("ids.jsonl", "\n".join(json.dumps({"n": 1, "learnerId": value}) for value in IDS)),
    ],
)
def test_every_form_gives_the_same_ids(tmp_path: Path, name: str, content: str | bytes) -> None:
    assert read_ids(write(tmp_path / name, content), Axis.LEARNERS) == IDS


def test_parquet_gives_the_same_ids(tmp_path: Path) -> None:
    path = tmp_path / "ids.parquet"
    pq.write_table(pa.table({"n": [1, 2, 3, 4], "course_id": [*IDS, None]}), path)
    assert read_ids(str(path), Axis.COURSES) == IDS
    assert read_ids(f"{path}:course_id", Axis.LEARNERS) == IDS


def test_a_column_can_be_named(tmp_path: Path) -> None:
    path = write(tmp_path / "ids.csv", "id,other\nx,a-1\ny,b-2\nz,ł€🎓\n")
    assert read_ids(f"{path}:other", Axis.LEARNERS) == IDS


def test_a_file_that_is_called_so_wins_over_a_column(tmp_path: Path) -> None:
    path = write(tmp_path / "ids.csv:other", "a-1\nb-2\nł€🎓\n")
    assert read_ids(path, Axis.LEARNERS) == IDS


@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        ("ids.txt", " \n\n", "holds no ids"),
        ("ids.txt", "a\nb\x07c\n", "Line 2 of .* control character"),
        ("ids.txt", "x" * 1001, "Line 1 of .* too long"),
        ("ids.txt", b"\xff\x00\xfa", "not text"),
        ("ids.csv", "name,mail\nx,y\n", "no usual column for learners. Columns: name, mail"),
        ("ids.csv", "id,ID\nx,y\n", "several columns"),
        ("ids.csv:nope", "id\nx\n", "no column nope"),
        ("ids.jsonl", '"a"\n{', "Line 2 of .* not JSON"),
        ("ids.jsonl", "17", "Line 1 of .* string"),
        ("ids.parquet", "PAR1", "Parquet"),
        ("ids.txt:id", "a", "no columns"),
    ],
)
def test_what_cannot_be_read_is_one_sentence(
    tmp_path: Path, name: str, content: str | bytes, sentence: str
) -> None:
    plain, _, column = name.partition(":")
    path = write(tmp_path / plain, content)
    with pytest.raises(UsageError, match=sentence):
        read_ids(f"{path}:{column}" if column else path, Axis.LEARNERS)


def test_a_million_ids_are_read(tmp_path: Path) -> None:
    path = write(tmp_path / "ids.txt", "\n".join(f"learner-{n}" for n in range(1_000_000)))
    assert len(read_ids(path, Axis.LEARNERS)) == 1_000_000


@pytest.mark.parametrize("name", ["people.csv", "people.jsonl"])
def test_of_a_wide_table_nothing_is_held_but_the_ids(tmp_path: Path, name: str) -> None:
    about = "x" * 1_000
    rows = [{"id": f"learner-{n}", "about": about} for n in range(20_000)]
    lines = ["id,about", *(",".join(row.values()) for row in rows)]
    if name == "people.jsonl":
        lines = [json.dumps(row) for row in rows]
    write(tmp_path / name, "\n".join(lines))
    tracemalloc.start()
    ids = read_ids(str(tmp_path / name), Axis.LEARNERS)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(ids) == 20_000
    assert peak < 5_000_000 < (tmp_path / name).stat().st_size / 4
