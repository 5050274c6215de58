"""The last words say in numbers what is kept and what is missing, and nothing that is not true."""

import json
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import pytest

Bulkfetch = Callable[..., subprocess.CompletedProcess[bytes]]
Serve = Callable[..., Any]
ALONG = ("--shape", "learners", "--batch-size", "20", "--workers", "2")
STANDING = re.compile(
    r"Kept in the journal: ([\d,]+) rows? of ([\d,]+) batch(?:es)?\. "
    r"Missing: ([\d,]+) of 12,000 pairs\."
)


def words(result: subprocess.CompletedProcess[bytes]) -> str:
    """Return what stands before the command that goes on."""
    said, command = result.stderr.decode().splitlines()[-2:]
    assert command.startswith("  bulkfetch ")
    return said


def numbers(said: str) -> tuple[int, int, int]:
    found = STANDING.search(said)
    assert found, said
    rows, batches, missing = (int(number.replace(",", "")) for number in found.groups())
    return rows, batches, missing


def test_a_bad_id_is_all_that_is_missing(bulkfetch: Bulkfetch, serve: Serve) -> None:
    place = serve()
    place.simulator._service.poison_learners = frozenset(place.account.learner_ids[17:18])
    result = bulkfetch(*place.export("--report", "r.json"))
    assert result.returncode == 3
    said = words(result)
    assert said.startswith("Everything else was fetched. Kept in the journal: ")
    report = json.loads((place.directory / "r.json").read_text())
    assert numbers(said) == (report["rows"], report["statistics"]["all_runs"]["batches"], 20)
    assert report["pairs"] == {"asked": 12_000, "missing": 20, "quarantined": 0}
    # Whoever works with such a journal is told the same.
    result = bulkfetch("verify", "o.csv.bulkfetch", "--full", "--token-file", "token.txt")
    assert result.returncode == 0, result.stderr
    assert b"the export is incomplete: it lacks 20 of 12,000 pairs" in result.stderr
    result = bulkfetch("publish", "o.csv.bulkfetch", "-o", "p.csv")
    assert result.returncode == 3
    assert words(result) == "Run the export again for the rest, then publish with:"


def test_courses_of_which_nothing_came_may_be_in_what_was_rejected_and_that_is_said(
    bulkfetch: Bulkfetch, serve: Serve
) -> None:
    place = serve()
    place.simulator._service.poison_learners = frozenset(place.account.learner_ids[17:18])
    courses = [*place.account.course_ids, "no-such-course", "nor-this"]
    (place.directory / "courses.txt").write_text("\n".join(courses))
    result = bulkfetch(*place.export())
    assert result.returncode == 3
    said = result.stderr.decode()
    assert (
        "22 courses: 20 returned, 0 confirmed empty, 0 quarantined, 2 not confirmed empty" in said
    )
    unsure = re.search(r"600 learners: .*, 1 quarantined, 0 not confirmed empty", said)
    assert unsure
    assert "failed" not in said
    assert words(result).startswith(
        "Everything else was fetched, but nothing came of 2 courses, which what was rejected may "
        "hold: that cannot be confirmed as empty. Kept in the journal: "
    )


def test_an_incomplete_export_says_that_nothing_was_written_and_what_would_be(
    bulkfetch: Bulkfetch, terminal: Callable[..., tuple[int, str]], serve: Serve
) -> None:
    place = serve()
    place.simulator._service.poison_learners = frozenset(place.account.learner_ids[17:18])
    code, shown = terminal(*place.export())
    assert code == 3
    assert "publishing" not in shown
    assert "99%" in shown
    assert "100%" not in shown
    assert "ETA" in shown
    assert "ETA" not in shown[shown.rindex("99%") :]  # nothing is under way any more
    written = "Nothing was written to o.csv; --partial writes what was fetched to o.partial.csv."
    assert f"\n{written}\n" in shown
    assert not (place.directory / "o.csv").exists()

    quiet = bulkfetch(*place.export("--quiet"))
    assert quiet.stderr.decode().splitlines()[1] == written
    result = bulkfetch(*place.export(), "--log-format", "json")
    last = json.loads(result.stderr.decode().splitlines()[-1])
    assert (last["event"], written in last["message"]) == ("error", True)

    calls = len(place.simulator.ledger.calls)
    partial = bulkfetch(*place.export("--partial"))
    assert (partial.returncode, len(place.simulator.ledger.calls)) == (3, calls)
    assert b"Nothing was written" not in partial.stderr
    assert (place.directory / "o.partial.csv").exists()

    result = bulkfetch("publish", "o.csv.bulkfetch", "-o", "p.jsonl")
    assert result.returncode == 3
    written = "Nothing was written to p.jsonl; --partial writes what was fetched."
    assert result.stderr.decode().splitlines()[1] == written


def test_where_nothing_was_fetched_nobody_offers_to_write_it(
    bulkfetch: Bulkfetch, serve: Serve
) -> None:
    place = serve({"schedule": [{"from_s": 0, "to_s": 600, "outage": True}]})
    result = bulkfetch(*place.export("--max-outage", "0", "-o", "-"))
    assert result.returncode == 3
    assert "\nNothing was written to standard output.\n" in result.stderr.decode()


def test_where_nearly_everything_is_rejected_nobody_says_that_the_rest_was_fetched(
    bulkfetch: Bulkfetch, serve: Serve
) -> None:
    place = serve()
    learners = sorted(place.account.learner_ids)
    place.simulator._service.poison_learners = frozenset(learners[20:])
    arguments = place.export(*ALONG, "--max-quarantined", "1000")
    (place.directory / "learners.txt").write_text("\n".join(learners[:60]))
    result = bulkfetch(*arguments)
    assert result.returncode == 3
    assert "Everything else" not in result.stderr.decode()
    assert "Missing: 800 of 1,200 pairs. When what was rejected is mended" in words(result)


def test_a_run_that_is_refused_says_that_nothing_was_fetched(
    bulkfetch: Bulkfetch, serve: Serve
) -> None:
    place = serve()
    (place.directory / "token.txt").write_text("another-token")
    result = bulkfetch(*place.export(*ALONG))
    assert result.returncode == 4
    assert words(result) == "Nothing was fetched of 12,000 pairs. When that is mended, go on with:"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["SIGINT", "SIGTERM"])
def test_an_interrupted_run_says_what_it_has(serve: Serve, number: int) -> None:
    place = serve({"name": "slow", "latency": {"base_ms": 300.0}})
    process = subprocess.Popen(
        [sys.executable, "-m", "bulkfetch", *place.export(*ALONG)],
        cwd=place.directory,
        stderr=subprocess.PIPE,
    )
    while sum(call.whole for call in list(place.simulator.ledger.calls)) < 14:
        time.sleep(0.01)
    process.send_signal(number)
    _, stderr = process.communicate(timeout=30)
    assert process.returncode == 128 + number
    said = stderr.decode()
    assert re.search(r"^(Interrupted|Terminated)\. Kept in the journal", said, re.MULTILINE)
    rows, batches, missing = numbers(said)
    assert 0 < rows < 5_000
    assert 12_000 - missing == batches * 20 * 20


def test_a_silent_cap_that_was_proven_is_said(bulkfetch: Bulkfetch, serve: Serve) -> None:
    place = serve({"name": "capped", "limits": {"max_rows": {"at": 300, "past": "silent-cap"}}})
    result = bulkfetch(*place.export("--report", "r.json", "--shape", "learners"))
    assert result.returncode == 0, result.stderr
    assert b"the service silently cuts answers at about 300 rows" in result.stderr
    caps = json.loads((place.directory / "r.json").read_text())["silent_caps"]
    assert caps["rows"] == 300
    assert caps["body_bytes"] > 0
    assert caps["learner_ids"] is caps["course_ids"] is None
    result = bulkfetch("report", "o.csv.bulkfetch", "-o", "p.html")
    assert result.returncode == 0
    assert "answers at about 300 rows" in (place.directory / "p.html").read_text()


def test_one_of_a_thing_is_in_the_singular(bulkfetch: Bulkfetch, serve: Serve) -> None:
    place = serve()
    row = next(place.account.enrollments())
    (place.directory / "learners.txt").write_text(row.learner_id)
    (place.directory / "courses.txt").write_text(row.course_id)
    said = [
        bulkfetch(*place.export()).stderr.decode(),
        bulkfetch("plan", "--learners", "learners.txt", "--courses", "courses.txt").stdout.decode(),
        bulkfetch("publish", "o.csv.bulkfetch", "-o", "p.jsonl").stderr.decode(),
        bulkfetch("diff", "o.csv.bulkfetch", "p.jsonl").stderr.decode(),
        bulkfetch(
            *("verify", "o.csv.bulkfetch", "--full", "--token-file", "token.txt")
        ).stderr.decode(),
    ]
    assert "1 row in " in said[0]
    assert "1 learner: 1 returned" in said[0]
    assert said[1].startswith("1 learner × 1 course: ")
    assert said[2].startswith("1 row, 0 duplicates, ")
    assert "(1 row before, 1 after)" in said[3]
    assert "asked again for 1 learner and 1 course in 1 other call\n" in said[4]
    things = "row|call|id|learner|course|pair|duplicate|batche|retrie"
    assert not re.findall(rf"(?<![\d,.])1 (?:other )?(?:{things})s\b(?!/)", "\n".join(said))


def test_what_stops_at_one_rejected_id_says_so_in_the_singular(
    bulkfetch: Bulkfetch, serve: Serve
) -> None:
    place = serve()
    place.simulator._service.poison_learners = frozenset(place.account.learner_ids[10:200])
    result = bulkfetch(*place.export("--max-quarantined", "1"))
    assert result.returncode == 3
    assert "more than 1 id or pair was rejected" in result.stderr.decode()
