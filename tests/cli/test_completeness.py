"""The report: what became of every id, over all runs, whatever ended them."""

import contextlib
import json
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import datetime
from typing import Any

import pytest

from bulkfetch.export.journal import Journal

Bulkfetch = Callable[..., subprocess.CompletedProcess[bytes]]
Serve = Callable[..., Any]
STATES = ("returned", "in_part", "confirmed_empty", "quarantined", "failed")


def report_of(place: Any) -> dict[str, Any]:
    path = place.directory / "r.json"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    report: dict[str, Any] = json.loads(path.read_text())
    for count in report["ids"].values():
        assert count is None or sum(count[state] for state in STATES) == count["asked"]
    return report


def kept_report(place: Any) -> dict[str, Any] | None:
    journal = Journal.open_existing(place.directory / "o.csv.bulkfetch")
    try:
        return journal.report()
    finally:
        journal.close()


def names(report: dict[str, Any], state: str, side: str) -> set[str]:
    return {unit for entry in report[state] for unit in entry[side] or ()}


def test_every_id_is_counted_once_and_those_that_are_not_fetched_are_named(
    bulkfetch: Bulkfetch, serve: Serve
) -> None:
    place = serve()
    learners, courses = place.account.learner_ids, place.account.course_ids
    permanent = {"poison_learners": [learners[17], learners[300]], "poison_courses": [courses[3]]}
    place = serve({"name": "poison", "permanent": permanent})
    asked_at = time.time()
    assert bulkfetch(*place.export("--report", "r.json")).returncode == 3
    report = report_of(place)
    assert names(report, "quarantined", "learner_ids") == {learners[17], learners[300]}
    assert names(report, "quarantined", "course_ids") == {courses[3]}
    rows = [
        row
        for row in place.account.enrollments()
        if row.learner_id not in permanent["poison_learners"] and row.course_id != courses[3]
    ]
    with_rows = {row.learner_id for row in rows}
    # Who has no row may still be enrolled in the course that cannot be asked for.
    unsure = set(learners) - with_rows - {learners[17], learners[300]}
    assert unsure
    assert names(report, "failed", "learner_ids") == unsure
    assert report["ids"]["learners"] == {
        "asked": len(learners),
        "returned": len(with_rows),
        "in_part": 0,
        "confirmed_empty": 0,
        "quarantined": 2,
        "failed": len(unsure),
    }
    assert report["ids"]["courses"] == {
        "asked": len(courses),
        "returned": len(courses) - 1,
        "in_part": 0,
        "confirmed_empty": 0,
        "quarantined": 1,
        "failed": 0,
    }
    for entry in report["quarantined"]:
        assert "Wrong parameters" in entry["cause"]
        assert entry["attempts"] >= 1
        tried_at = datetime.fromisoformat(entry["tried_at"]).timestamp()
        assert asked_at - 1 <= tried_at <= time.time()
    assert kept_report(place) == report


def test_what_a_later_run_fetches_leaves_the_report_and_the_rest_remains(
    bulkfetch: Bulkfetch, serve: Serve
) -> None:
    place = serve()
    first, second = place.account.learner_ids[17], place.account.learner_ids[300]
    url = place.simulator.url
    arguments = place.export("--report", "r.json", "--journal", "j")

    def run(*poison: str) -> dict[str, Any]:
        # The same address, since another would be a change of inputs.
        place.simulator._service.poison_learners = frozenset(poison)
        result = bulkfetch(*arguments, "--retry-quarantined")
        assert result.returncode == (3 if poison else 0), result.stderr
        return report_of(place)

    assert url in arguments
    report = run(first, second)
    assert names(report, "quarantined", "learner_ids") == {first, second}
    calls = report["calls"]
    report = run(second)
    assert names(report, "quarantined", "learner_ids") == {second}
    assert report["ids"]["learners"]["quarantined"] == 1
    report = run()
    assert report["quarantined"] == report["failed"] == []
    assert report["ids"]["learners"]["quarantined"] == 0
    assert report["rows"] == len(list(place.account.enrollments()))
    runs = report["statistics"]
    assert runs["all_runs"]["runs"] == 3
    assert runs["all_runs"]["calls"] > calls + runs["this_run"]["calls"]
    assert runs["all_runs"]["calls"] == len(place.simulator.ledger.calls)


def asked_learners(place: Any, since: int = 0) -> set[str]:
    calls = place.simulator.ledger.calls[since:]
    return {unit for call in calls for unit in call.learner_ids or ()}


def test_what_is_quarantined_is_left_alone_until_told_otherwise(
    bulkfetch: Bulkfetch, serve: Serve
) -> None:
    place = serve()
    bad = place.account.learner_ids[17]
    arguments = place.export("--report", "r.json")

    def run(*more: str, poison: str | None = bad) -> tuple[int, str, dict[str, Any], int]:
        place.simulator._service.poison_learners = frozenset({poison} if poison else ())
        before = len(place.simulator.ledger.calls)
        result = bulkfetch(*arguments, *more)
        calls = len(place.simulator.ledger.calls) - before
        return result.returncode, result.stderr.decode(), report_of(place), calls

    code, said, report, _ = run()
    assert code == 3
    quarantined = report["quarantined"]
    assert names(report, "quarantined", "learner_ids") == {bad}
    assert said.splitlines()[-1].strip().endswith("-o o.csv --report r.json --retry-quarantined")
    code, said, report, calls = run(poison=None)  # it is mended, but nobody said so
    assert (code, calls) == (3, 0)
    assert report["quarantined"] == quarantined
    assert not (place.directory / "o.csv").exists()
    before = len(place.simulator.ledger.calls)
    code, _, report, _ = run("--retry-quarantined")
    assert code == 3
    # Another is asked for besides, to tell that it is not the courses.
    assert bad in asked_learners(place, before)
    assert len(place.simulator.ledger.calls) - before == 2
    assert report["quarantined"][0]["tried_at"] >= quarantined[0]["tried_at"]
    code, _, _, calls = run()
    assert (code, calls) == (3, 0)
    before = len(place.simulator.ledger.calls)
    code, said, report, _ = run("--retry-quarantined", poison=None)
    assert code == 0, said
    assert asked_learners(place, before) == {bad}
    assert report["quarantined"] == []
    assert report["rows"] == len(list(place.account.enrollments()))
    assert bad.encode() in (place.directory / "o.csv").read_bytes()


def test_a_killed_run_keeps_what_it_quarantined_and_a_killed_retry_what_it_was_to_do(
    bulkfetch: Bulkfetch, serve: Serve
) -> None:
    place = serve({"name": "slow", "latency": {"base_ms": 100.0}})
    bad = sorted(place.account.learner_ids)[3]
    place.simulator._service.poison_learners = frozenset({bad})
    arguments = place.export("--batch-size", "20", "--workers", "2", "--shape", "learners")

    def run_and_kill(*more: str, when: Callable[[], bool]) -> None:
        process = subprocess.Popen(
            [sys.executable, "-m", "bulkfetch", *arguments, *more],
            cwd=place.directory,
            stderr=subprocess.DEVNULL,
        )
        ends_at = time.monotonic() + 30
        while not when() and process.poll() is None and time.monotonic() < ends_at:
            time.sleep(0.005)
        process.kill()
        assert process.wait() == -signal.SIGKILL

    ledger = place.simulator.ledger

    def fetched_others() -> bool:
        asked = [tuple(call.learner_ids or ()) for call in ledger.calls]
        since = asked.index((bad,)) if (bad,) in asked else len(asked)
        return len([call for call in ledger.calls[since:] if call.whole]) > 6

    run_and_kill(when=fetched_others)
    # What it learned and how it went is kept as it goes, and so is on the page about it.
    with contextlib.closing(Journal.open_existing(place.directory / "o.csv.bulkfetch")) as journal:
        assert journal.recall("pace")["sizes"]["learners"]["proven"]
        assert journal.recall("timeline")["samples"][0][5]
    page = bulkfetch("report", "o.csv.bulkfetch", "-o", "page.html")
    assert page.returncode == 0, page.stderr
    assert b"<svg" in (place.directory / "page.html").read_bytes()
    before = len(ledger.calls)
    result = bulkfetch(*arguments)
    assert result.returncode == 3, result.stderr
    assert bad not in asked_learners(place, before)
    # A retry that is killed as it asks for the first time is taken up by a plain run.
    before = len(ledger.calls)
    run_and_kill("--retry-quarantined", when=lambda: len(ledger.calls) > before)
    place.simulator._service.poison_learners = frozenset()
    before = len(ledger.calls)
    assert bulkfetch(*arguments).returncode == 0
    assert asked_learners(place, before) == {bad}
    assert bad.encode() in (place.directory / "o.csv").read_bytes()


def test_a_run_that_never_reaches_them_keeps_what_is_known_of_ids(
    bulkfetch: Bulkfetch, serve: Serve
) -> None:
    place = serve()
    bad = place.account.learner_ids[17]
    place = serve({"name": "poison", "permanent": {"poison_learners": [bad]}})
    arguments = place.export("--report", "r.json")
    assert bulkfetch(*arguments).returncode == 3
    before = report_of(place)["quarantined"]
    (place.directory / "token.txt").write_text("another-token")
    assert bulkfetch(*arguments, "--retry-quarantined").returncode == 4
    report = report_of(place)
    assert report["complete"] is False
    assert report["quarantined"] == before
    assert report["failed"] == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["SIGINT", "SIGTERM"])
def test_a_run_that_is_stopped_says_what_is_missing(
    bulkfetch: Bulkfetch, serve: Serve, number: int
) -> None:
    place = serve({"name": "slow", "latency": {"base_ms": 400.0}})
    arguments = place.export("--report", "r.json", "--batch-size", "20", "--workers", "4")
    with subprocess.Popen(
        [sys.executable, "-m", "bulkfetch", *arguments],
        cwd=place.directory,
        stderr=subprocess.PIPE,
    ) as process:
        while len(place.simulator.ledger.calls) < 12:
            assert process.poll() is None
            time.sleep(0.02)
        process.send_signal(number)
        process.communicate(timeout=10)
    assert process.returncode == 128 + number
    report = report_of(place)
    counts = report["ids"]["learners"]
    assert report["complete"] is False
    assert report["output"] is None
    assert 0 < counts["failed"] < counts["asked"]
    assert len(names(report, "failed", "learner_ids")) == counts["failed"]
    assert {entry["tried_at"] for entry in report["failed"]} == {None}
    run = report["statistics"]["this_run"]
    assert 20 * run["batches"] >= counts["asked"] - counts["failed"]
    assert run["rows"] == report["rows_fetched"] > 0
    assert kept_report(place) == report
    assert bulkfetch(*arguments).returncode == 0
    report = report_of(place)
    assert report["ids"]["learners"]["failed"] == 0
    assert report["rows_resumed"] + report["rows_fetched"] == report["rows"] == 5_000


def test_latency_calls_and_times_are_those_of_the_service(
    bulkfetch: Bulkfetch, serve: Serve
) -> None:
    place = serve({"name": "slow", "latency": {"base_ms": 200.0}})
    started = time.time()
    arguments = place.export("--report", "r.json", "--batch-size", "60", "--workers", "5")
    assert bulkfetch(*arguments).returncode == 0
    report = report_of(place)
    run = report["statistics"]["this_run"]
    assert 0.2 <= run["latency_s"]["p50"] <= run["latency_s"]["p90"] <= run["latency_s"]["p99"]
    assert run["latency_s"]["p50"] < 2
    assert run["calls"] == report["calls"] == len(place.simulator.ledger.calls)
    assert run["rows"] == 5_000
    assert run["wire_bytes"] == sum(call.body_bytes for call in place.simulator.ledger.calls)
    for time_of in ("started_at", "ended_at"):
        assert started - 1 <= datetime.fromisoformat(run[time_of]).timestamp() <= time.time() + 1
    again = bulkfetch(*arguments)
    assert again.returncode == 0
    report = report_of(place)
    assert report["statistics"]["this_run"]["latency_s"] is None
    everything = report["statistics"]["all_runs"]
    assert (everything["runs"], everything["latency_s"]) == (2, run["latency_s"])
    assert everything["started_at"] == run["started_at"]


def test_both_rows_of_a_conflict_are_reported(bulkfetch: Bulkfetch, serve: Serve) -> None:
    place = serve({"name": "odd", "faults": {"conflicting_duplicate": 0.5, "duplicate_rows": 0.5}})
    assert bulkfetch(*place.export("--report", "r.json")).returncode == 0
    report = report_of(place)
    assert report["duplicates"] > 0
    assert report["conflict_count"] == len(report["conflicts"]) > 0
    for conflict in report["conflicts"]:
        kept, dropped = conflict["kept"], conflict["dropped"]
        assert kept["enrollment_id"] == dropped["enrollment_id"] == conflict["enrollment_id"]
        different = {name for name in kept if kept[name] != dropped[name]}
        assert different == {"should_lock_after_due_date"}


def test_an_incomplete_export_counts_duplicates_and_says_what_it_did(
    bulkfetch: Bulkfetch, serve: Serve
) -> None:
    place = serve()
    permanent = {"poison_learners": [place.account.learner_ids[17]]}
    place = serve({"name": "odd", "permanent": permanent, "faults": {"duplicate_rows": 1.0}})
    result = bulkfetch(*place.export("--report", "r.json"))
    assert result.returncode == 3
    report = report_of(place)
    assert report["duplicates"] > 0
    assert report["rows"] < report["rows_fetched"]
    assert report["output"] is None
    lines = result.stderr.decode()
    assert f"{report['duplicates']:,} duplicates" in lines
    counts = report["ids"]["learners"]
    assert f"600 learners: {counts['returned']:,} returned" in lines
    assert lines.strip().splitlines()[-1].strip().startswith("bulkfetch export")


def test_a_report_that_cannot_be_written_does_not_hide_how_the_run_ended(serve: Serve) -> None:
    """Its directory is gone by the time that the run has failed."""
    place = serve({"name": "x", "faults": {"http_503": 1.0}, "latency": {"base_ms": 300.0}})
    (place.directory / "reports").mkdir()
    arguments = place.export("--report", "reports/r.json", "--attempts", "2", "--max-outage", "0")
    with subprocess.Popen(
        [sys.executable, "-m", "bulkfetch", *arguments],
        cwd=place.directory,
        stderr=subprocess.PIPE,
    ) as process:
        while not place.simulator.ledger.calls:
            assert process.poll() is None
            time.sleep(0.01)
        (place.directory / "reports").rmdir()
        _, stderr = process.communicate(timeout=30)
    assert process.returncode == 3
    assert b"The report could not be written." in stderr
    assert stderr.decode().strip().splitlines()[-1].strip().startswith("bulkfetch export")
