"""`bulkfetch plan`, listed pairs and pinned shapes, as commands."""

import itertools
import json
import os
import random
import re
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from bulkfetch.cli.pairs import read_pairs
from bulkfetch.errors import UsageError
from bulkfetch.simulator import Account

Bulkfetch = Callable[..., subprocess.CompletedProcess[bytes]]
Serve = Callable[..., Any]


@pytest.fixture(scope="module")
def pairs(account: Account) -> list[tuple[str, str]]:
    draw = random.Random(1)
    rows = [(row.learner_id, row.course_id) for row in account.enrollments()]
    return [*draw.sample(rows, 500), (account.learner_ids[0], "nothing")]


def write_ids(directory: Path, learners: int, courses: int) -> list[str]:
    (directory / "l.txt").write_text("\n".join(f"l{i}" for i in range(learners)))
    (directory / "c.txt").write_text("\n".join(f"c{i}" for i in range(courses)))
    return ["--learners", "l.txt", "--courses", "c.txt"]


def test_the_table_names_every_shape_the_choice_and_what_is_guessed(
    bulkfetch: Bulkfetch, tmp_path: Path
) -> None:
    result = bulkfetch("plan", *write_ids(tmp_path, 20_000, 50), "--batch-size", "100")
    shown = result.stdout.decode()
    assert result.returncode == 0, result.stderr
    assert result.stderr == b""
    for shape in ("learners", "learners-only", "courses", "courses-only", "both", "whole"):
        assert f"({shape})" in shown
    assert "→ along learners, courses named (learners)" in shown
    assert "200 " in shown
    assert shown.count("(guessed)") == 5
    assert "No call was made" in shown


def test_at_80_columns_every_heading_and_figure_can_be_read(
    bulkfetch: Bulkfetch, terminal: Callable[..., tuple[int, str]], tmp_path: Path
) -> None:
    arguments = ["plan", *write_ids(tmp_path, 1_000_000, 300), "--rate", "0.01"]
    code, shown = terminal(*arguments)
    assert code == 0, shown
    plan = json.loads(bulkfetch(*arguments, "--log-format", "json").stdout)
    for text in (shown, bulkfetch(*arguments).stdout.decode()):
        assert "…" not in text
        head, *lines = itertools.dropwhile(lambda line: "surplus" not in line, text.splitlines())
        assert head.split() == [
            *("calls", "ids/call", "rows", "surplus", "MB", "time", "longest", "risk")
        ]
        lines = lines[: 2 * len(plan["shapes"])]
        for name, figures, shape in zip(lines[0::2], lines[1::2], plan["shapes"], strict=True):
            assert name[2:] == f"{shape['title']} ({shape['shape']})"
            assert name.startswith("→") is (shape["shape"] == plan["choice"])
            assert max(len(head), len(name), len(figures)) <= 80
            calls, ids, rows, surplus, *_, risk = figures.split()
            assert calls == f"{shape['calls']:,}"
            assert ids == f"{shape['ids_a_call']:,}"
            assert rows == f"{shape['rows']:,}"
            assert surplus.strip("~") == f"{shape['surplus']:,}"
            assert risk == f"{shape['risk']:.0%}"


def test_the_plan_is_one_json_object(bulkfetch: Bulkfetch, tmp_path: Path) -> None:
    arguments = [*write_ids(tmp_path, 100_000, 3), "--batch-size", "100", "--log-format", "json"]
    plan = json.loads(bulkfetch("plan", *arguments).stdout)
    by_shape = {each["shape"]: each for each in plan["shapes"]}
    assert by_shape["learners"]["calls"] == 1_000
    assert by_shape[plan["choice"]]["calls"] <= 20
    assert "times as fast" in plan["reason"]
    assert plan["calls_made"] == 0
    assert len(plan["guessed"]) == 5


def test_a_rate_is_reckoned_with(bulkfetch: Bulkfetch, tmp_path: Path) -> None:
    asked = [*write_ids(tmp_path, 20_000, 50), "--batch-size", "100", "--log-format", "json"]
    plan = json.loads(bulkfetch("plan", *asked, "--rate", "0.5").stdout)
    by_shape = {each["shape"]: each for each in plan["shapes"]}
    assert by_shape["learners"]["calls"] == 200
    assert by_shape["learners"]["seconds"] == pytest.approx(400)


def test_probing_replaces_guesses_in_a_few_calls(bulkfetch: Bulkfetch, serve: Serve) -> None:
    place = serve()
    asked = ("--learners", "learners.txt", "--courses", "courses.txt", "--log-format", "json")
    connection = ("--url", place.simulator.url, "--token-file", "token.txt")
    result = bulkfetch("plan", *asked, *connection, "--probe")
    plan = json.loads(result.stdout)
    calls = place.simulator.ledger.calls_of("GetEnrollments")
    assert plan["calls_made"] == len(calls) <= 6
    assert plan["guessed"] == []
    usual = plan["shapes"][0]
    assert usual["rows"] == pytest.approx(5_000, rel=0.3)
    beliefs = plan["beliefs"]
    assert beliefs["share_of_learner"] > 0.5  # all courses are asked for
    assert plan["findings"] == []


def test_what_a_few_calls_told_is_marked_where_it_still_rests_on_a_guess(
    bulkfetch: Bulkfetch, serve: Serve
) -> None:
    place = serve()  # all of its courses are asked for, which no call can tell for sure
    asked = ("--learners", "learners.txt", "--courses", "courses.txt")
    connection = ("--url", place.simulator.url, "--token-file", "token.txt")
    shown = bulkfetch("plan", *asked, *connection, "--probe").stdout.decode()
    assert re.search(r"of a learner's rows, wanted: \d\d% \(partly guessed\)", shown)
    assert re.search(r"a row: \d+ bytes\n", shown)
    assert re.search(r"\(learners-only\)\n +[\d,]+ +[\d,]+ +[\d,]+ +~[\d,]+ ", shown)
    assert re.search(r"\(learners\)\n +[\d,]+ +[\d,]+ +[\d,]+ +0 ", shown)
    plan = json.loads(
        bulkfetch("plan", *asked, *connection, "--probe", "--log-format", "json").stdout
    )
    assert "of a learner's rows, wanted" in plan["partly_guessed"]
    only = plan["shapes"][1]
    assert (only["surplus_is_guess"], only["surplus_is_partly_guess"]) == (False, True)


def test_where_no_courses_are_given_all_of_a_learners_rows_are_wanted_for_sure(
    bulkfetch: Bulkfetch, tmp_path: Path
) -> None:
    write_ids(tmp_path, 2_000, 1)
    shown = bulkfetch("plan", "--learners", "l.txt").stdout.decode()
    assert "of a learner's rows, wanted: 100%\n" in shown
    assert re.search(r"of a course's rows, wanted: \d+% \(guessed\)", shown)


def test_a_way_that_is_no_faster_to_speak_of_is_not_said_to_be_1_0_times_as_fast(
    bulkfetch: Bulkfetch, tmp_path: Path
) -> None:
    shown = bulkfetch("plan", *write_ids(tmp_path, 1_000, 300)).stdout.decode()
    assert "would be hardly faster, too little to leave the usual way" in shown
    assert "1.0 times" not in shown


def test_probing_lists_the_ids_that_the_account_has(bulkfetch: Bulkfetch, serve: Serve) -> None:
    place = serve()
    assert bulkfetch("plan", "--all").returncode == 2
    connection = ("--url", place.simulator.url, "--token-file", "token.txt")
    result = bulkfetch("plan", "--all", "--probe", *connection, "--log-format", "json")
    assert json.loads(result.stdout)["asked"] == {"learners": 600, "courses": 20}


def test_a_probe_without_credentials_says_so(bulkfetch: Bulkfetch, serve: Serve) -> None:
    place = serve()
    (place.directory / "token.txt").write_text("wrong")
    connection = ("--url", place.simulator.url, "--token-file", "token.txt")
    result = bulkfetch("plan", "--learners", "learners.txt", "--probe", *connection)
    assert (result.returncode, result.stdout) == (4, b"")


@pytest.mark.parametrize("form", ["pairs.csv", "pairs.jsonl", "pairs.parquet", "-"])
def test_listed_pairs_are_exported_whatever_file_they_are_in(
    bulkfetch: Bulkfetch, serve: Serve, pairs: list[tuple[str, str]], form: str
) -> None:
    place = serve()
    table = "userId;name;courseId\n" + "".join(f" {a} ;x;{b}\n\n" for a, b in pairs)
    file = place.directory / form
    if form == "pairs.parquet":
        learners, courses = zip(*pairs, strict=True)
        pq.write_table(pa.table({"course_id": courses, "learner_id": learners}), file)
    elif form == "pairs.jsonl":
        lines = [
            [a, b] if number % 2 else {"course": b, "learner": a}
            for number, (a, b) in enumerate(pairs)
        ]
        file.write_text("\n".join(map(json.dumps, lines)))
    elif form == "pairs.csv":
        file.write_text(table)
    connection = ("--url", place.simulator.url, "--token-file", "token.txt")
    again = ("export", "--pairs", form, *connection, "-o", "o.jsonl", "--report", "r.json")
    result = bulkfetch(*again, stdin=table.encode())
    assert result.returncode == 0, result.stderr
    rows = [json.loads(line) for line in (place.directory / "o.jsonl").read_text().splitlines()]
    listed = set(pairs)
    expected = [
        row.enrollment_id
        for row in place.account.enrollments()
        if (row.learner_id, row.course_id) in listed
    ]
    assert sorted(row["enrollment_id"] for row in rows) == sorted(expected)
    report = json.loads((place.directory / "r.json").read_text())
    assert report["complete"] is True
    assert len(place.simulator.ledger.calls_of("GetEnrollments")) < 100


def test_other_pairs_are_other_inputs(
    bulkfetch: Bulkfetch, serve: Serve, pairs: list[tuple[str, str]]
) -> None:
    place = serve()
    connection = ("--url", place.simulator.url, "--token-file", "token.txt")
    for count, code in ((500, 0), (499, 6)):
        text = "learner,course\n" + "".join(f"{a},{b}\n" for a, b in pairs[:count])
        (place.directory / "p.csv").write_text(text)
        result = bulkfetch("export", "--pairs", "p.csv", *connection, "-o", "o.csv")
        assert result.returncode == code, result.stderr
    assert b"other inputs" in result.stderr


@pytest.mark.parametrize("shape", ["learners-only", "courses-only", "whole"])
def test_a_pinned_shape_gives_the_same_bytes(
    bulkfetch: Bulkfetch, serve: Serve, shape: str
) -> None:
    place = serve()
    assert bulkfetch(*place.export()).returncode == 0
    result = bulkfetch(*place.export("--shape", shape, output="s.csv"))
    assert result.returncode == 0, result.stderr
    assert (place.directory / "s.csv").read_bytes() == (place.directory / "o.csv").read_bytes()


@pytest.mark.parametrize(
    ("text", "spec", "message"),
    [
        ("learner,course\na,b\nc,\n", "", "Line 3 .* one of the two ids is missing"),
        ("learner,course\n", "", "holds no pairs"),
        ("id\na\n", "", "one column for learners and courses"),
        ("name,course\na,b\n", "", "no usual column for learners"),
        ("a,b\nc,d\n", ":a", "Name two columns"),
        ("a,b\nc,d\n", ":a,z", "no column z"),
        (f"learner,course\n{'x' * 2000},b\n", "", "Line 2 .* too long"),
        ("learner,course\na\x01,b\n", "", "Line 2"),
    ],
)
def test_what_is_wrong_with_a_file_of_pairs_is_said(
    tmp_path: Path, text: str, spec: str, message: str
) -> None:
    (tmp_path / "p.csv").write_text(text)
    with pytest.raises(UsageError, match=message):
        read_pairs(f"{tmp_path / 'p.csv'}{spec}")


def test_columns_of_pairs_can_be_named(tmp_path: Path) -> None:
    (tmp_path / "p.csv").write_text("who\twhat\n a\tb \n\t\na\tb\nc\td")
    assert read_pairs(f"{tmp_path / 'p.csv'}:who,what") == [("a", "b"), ("a", "b"), ("c", "d")]


@pytest.mark.parametrize(
    "arguments",
    [
        ("--pairs", "p.csv", "--learners", "p.csv"),
        ("--pairs", "p.csv", "--all"),
        ("--pairs", "missing.csv"),
        ("--pairs", "-", "--token-file", "-"),
        ("--shape", "round", "--whole-account"),
        ("--shape", "courses", "--whole-account"),
    ],
)
def test_arguments_that_contradict_each_other_are_refused(
    bulkfetch: Bulkfetch, tmp_path: Path, arguments: tuple[str, ...]
) -> None:
    (tmp_path / "p.csv").write_text("learner,course\na,b\n")
    assert "BULKFETCH_TOKEN" not in os.environ
    common = ("--url", "https://localhost:1", "-o", "o.csv")
    result = bulkfetch("export", *arguments, *common, BULKFETCH_TOKEN="t")
    assert result.returncode == 2, result.stderr
