import csv
import io
import json
import subprocess
from collections.abc import Callable
from typing import Any

from bulkfetch.simulator import Account

Bulkfetch = Callable[..., subprocess.CompletedProcess[bytes]]
Serve = Callable[..., Any]


def test_two_exports_are_compared_as_a_table_and_as_data(
    bulkfetch: Bulkfetch, serve: Serve, account: Account
) -> None:
    place = serve()
    assert bulkfetch(*place.export()).returncode == 0
    lines = (place.directory / "learners.txt").read_text().splitlines()
    (place.directory / "learners.txt").write_text("\n".join(lines[:100]))
    assert bulkfetch(*place.export(output="part.jsonl")).returncode == 0
    known = set(lines[:100])
    missing = [row for row in account.enrollments() if row.learner_id not in known]

    same = bulkfetch("diff", "o.csv.bulkfetch", "part.jsonl.bulkfetch")
    assert same.returncode == 0, same.stderr
    assert same.stdout == b""
    assert "0 added, 0 removed, 0 changed" in same.stderr.decode()
    assert f"{len(missing):,} old rows lie outside" in same.stderr.decode()

    files = bulkfetch("diff", "o.csv", "part.jsonl", "--limit", "5")
    assert files.returncode == 0, files.stderr
    shown = files.stdout.decode().splitlines()
    assert len(shown) == 1 + 5 + 1
    assert sum(line.startswith("removed") for line in shown) == 5
    assert shown[-1] == f"… and {len(missing) - 5:,} more"
    assert "does not say what was asked for" in files.stderr.decode()

    data = bulkfetch("diff", "o.csv", "part.jsonl", "-o", "-", "--quiet")
    assert data.stderr == b""
    rows = list(csv.DictReader(io.StringIO(data.stdout.decode(), newline="")))
    assert sorted(row["enrollment_id"] for row in rows) == sorted(
        row.enrollment_id for row in missing
    )

    log = bulkfetch("diff", "o.csv", "part.jsonl", "-o", "d.jsonl", "--log-format", "json")
    assert json.loads(log.stderr)["removed"] == len(missing)
    assert log.stdout == b""
    assert len((place.directory / "d.jsonl").read_text().splitlines()) == len(missing)
    assert not list(place.directory.glob(".bulkfetch-diff-*"))


def test_what_cannot_be_compared_is_a_usage_error(bulkfetch: Bulkfetch, serve: Serve) -> None:
    place = serve()
    assert bulkfetch(*place.export()).returncode == 0
    for arguments in (
        ("o.csv", "missing.csv"),
        ("o.csv", "learners.txt"),
        ("o.csv", "o.csv"),
        ("o.csv", "o.csv.bulkfetch", "-o", "d.sqlite"),
        ("o.csv", "o.csv.bulkfetch", "--format", "csv"),
    ):
        result = bulkfetch("diff", *arguments)
        assert result.returncode == 2, (arguments, result.stderr)
        assert result.stderr.decode().count("\n") == 1
