"""Nothing is written over what else a command reads or writes."""

import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Bulkfetch = Callable[..., subprocess.CompletedProcess[bytes]]
Serve = Callable[..., Any]

OF_A_JOURNAL = (
    "k-wal", "k-shm", "k-journal", "k.lock", ".k.bulkfetch-scratch", "./x/../k-wal",
    ".k.bulkfetch-scratch/o", ".k.bulkfetch-verify", "link/k-wal",
)  # fmt: skip


def refused(result: subprocess.CompletedProcess[bytes]) -> bool:
    assert result.returncode == 2, result.stderr
    assert b"Traceback" not in result.stderr
    assert result.stdout == b""
    return b"is kept for what" in result.stderr or b"name the same file" in result.stderr


@pytest.fixture
def place(serve: Serve) -> Any:
    place = serve()
    (place.directory / "x").mkdir()
    (place.directory / "link").symlink_to(".")
    return place


@pytest.mark.parametrize("name", OF_A_JOURNAL)
def test_what_belongs_to_a_journal_is_no_output_report_or_input(
    bulkfetch: Bulkfetch, place: Any, name: str
) -> None:
    before = sorted(place.directory.iterdir())
    ways = (
        place.export("--journal", "k", "--format", "csv", output=name),
        place.export("--journal", "k", "--report", name),
        place.export("--journal", "k", "--learners", name),
    )
    for arguments in ways if name == "k-wal" else ways[:1]:
        assert refused(bulkfetch(*arguments))
    assert not place.simulator.ledger.calls
    assert sorted(place.directory.iterdir()) == before


@pytest.mark.parametrize(
    ("output", "more"),
    [
        ("o.csv", ["--report", ".o.csv.bulkfetch-part"]),
        ("o.csv", ["--report", "o.csv.bulkfetch.lock"]),
        ("o.csv", ["--journal", ".o.csv.bulkfetch-try"]),
        ("o.csv", ["--partial", "--report", "o.partial.csv"]),
        ("o.csv", ["--report", "r", "--learners", ".r.bulkfetch-part"]),
        ("learners.csv", ["--learners", "learners.csv:id"]),
        ("token.txt", ["--format", "csv"]),
    ],
    ids=str,
)
def test_what_belongs_to_an_output_is_nothing_else(
    bulkfetch: Bulkfetch, place: Any, output: str, more: list[str]
) -> None:
    (place.directory / "learners.csv").write_text("id\nl\n")
    before = sorted(place.directory.iterdir())
    assert refused(bulkfetch(*place.export(*more, output=output)))
    assert not place.simulator.ledger.calls
    assert sorted(place.directory.iterdir()) == before


def test_commands_that_read_a_journal_write_nothing_over_what_belongs_to_it(
    bulkfetch: Bulkfetch, place: Any
) -> None:
    assert bulkfetch(*place.export("--journal", "k")).returncode == 0
    token = ("--token-file", "token.txt")
    calls = len(place.simulator.ledger.calls)
    for name in ("k", "link/k-wal"):
        assert refused(bulkfetch("publish", "k", "-o", name, "--format", "csv"))
        assert refused(bulkfetch("report", "k", "-o", name))
        assert refused(bulkfetch("diff", "o.csv", "k", "-o", name, "--format", "csv"))
        assert refused(bulkfetch("verify", "k", *token, "--report", name))
    assert refused(bulkfetch("verify", "k", *token, "--report", "token.txt"))
    assert len(place.simulator.ledger.calls) == calls


@pytest.mark.parametrize("length", [235, 236, 251])
def test_a_name_that_leaves_no_room_for_what_is_made_beside_is_known_before_the_first_call(
    bulkfetch: Bulkfetch, place: Any, length: int
) -> None:
    name = f"{'n' * (length - 4)}.csv"
    for more in ([], ["--journal", "k"]):
        result = bulkfetch(*place.export(*more, output=name))
        if result.returncode:
            assert result.returncode == 2, result.stderr
            assert b"too long" in result.stderr
            assert not place.simulator.ledger.calls
        else:
            assert (place.directory / name).stat().st_size
    assert len(list(place.directory.glob("n*.csv"))) == (length < 236)


def test_names_that_differ_in_case_are_two_where_they_are(bulkfetch: Bulkfetch, place: Any) -> None:
    if Path(str(place.directory).upper()).exists():
        pytest.skip("the case of letters makes no difference here")
    result = bulkfetch(*place.export("--journal", "k", "--report", "K-WAL"))
    assert result.returncode == 0, result.stderr
