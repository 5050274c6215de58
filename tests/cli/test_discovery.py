"""Ids from the account: the export is that of the same ids from files, whatever happens."""

import csv
import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import anyio.from_thread
import pytest

from bulkfetch.simulator import Account, Simulator

Bulkfetch = Callable[..., subprocess.CompletedProcess[bytes]]
Serve = Callable[..., Any]
LISTINGS = ("ListUsers", "ListContent")


@pytest.fixture(scope="session")
def account() -> Account:
    """More than two pages of each: a page has 1,000."""
    return Account(learners=2_600, courses=1_100, enrollments=3_000, seed=7)


def command(place: Any, *asked: str, output: str = "o.csv") -> list[str]:
    url = ("--url", place.simulator.url, "--token-file", "token.txt")
    return ["export", *url, *asked, "-o", output, "--batch-size", "1000", "--report", "r.json"]


def pages_asked(place: Any) -> list[tuple[str, str]]:
    return [
        (call.operation, call.page_token)
        for call in place.simulator.ledger.calls
        if call.operation in LISTINGS
    ]


def report_of(place: Any) -> dict[str, Any]:
    report: dict[str, Any] = json.loads((place.directory / "r.json").read_text())
    return report


@pytest.fixture(scope="session")
def expected(account: Account) -> list[str]:
    return sorted(row.enrollment_id for row in account.enrollments())


def exported(place: Any, name: str = "o.csv") -> list[str]:
    with (place.directory / name).open(newline="") as file:
        return [row["enrollment_id"] for row in csv.DictReader(file)]


def test_all_lists_both_sides_once_and_a_finished_journal_makes_no_request(
    bulkfetch: Bulkfetch, serve: Serve, expected: list[str]
) -> None:
    place = serve()
    files = ("--learners", "learners.txt", "--courses", "courses.txt")
    assert bulkfetch(*command(place, *files, output="given.csv")).returncode == 0
    result = bulkfetch(*command(place, "--all"))
    assert result.returncode == 0, result.stderr
    assert exported(place) == expected
    first = (place.directory / "o.csv").read_bytes()
    assert first == (place.directory / "given.csv").read_bytes()
    operations = [operation for operation, _ in pages_asked(place)]
    assert operations == ["ListUsers"] * 3 + ["ListContent"] * 2
    report = report_of(place)
    assert report["ids"]["learners"]["asked"] == 2_600
    assert report["ids"]["courses"]["asked"] == 1_100
    assert (report["listed"]["learners"]["pages"], report["listed"]["courses"]["ids"]) == (3, 1_100)
    for call in place.simulator.ledger.calls_of("GetEnrollments"):
        assert call.learner_ids is not None or call.course_ids is not None
    calls = len(place.simulator.ledger.calls)
    (place.directory / "o.csv").unlink()
    assert bulkfetch(*command(place, "--all-courses", "--all-learners")).returncode == 0
    assert len(place.simulator.ledger.calls) == calls
    assert (place.directory / "o.csv").read_bytes() == first
    assert report_of(place)["ids"] == report["ids"]


@pytest.mark.parametrize(
    "asked",
    [
        ("--all-learners", "--courses", "courses.txt"),
        ("--learners", "learners.txt", "--all-courses"),
    ],
    ids=" ".join,
)
def test_a_listed_side_and_a_given_one_mix(
    bulkfetch: Bulkfetch, serve: Serve, expected: list[str], asked: tuple[str, ...]
) -> None:
    place = serve()
    assert bulkfetch(*command(place, *asked)).returncode == 0
    assert exported(place) == expected
    assert len({operation for operation, _ in pages_asked(place)}) == 1


def test_one_side_alone_is_a_filter_on_it(bulkfetch: Bulkfetch, serve: Serve) -> None:
    place = serve()
    assert bulkfetch(*command(place, "--all-courses")).returncode == 0
    assert {operation for operation, _ in pages_asked(place)} == {"ListContent"}
    report = report_of(place)
    assert (report["rows"], report["ids"]["learners"]) == (3_000, None)
    assert report["ids"]["courses"]["asked"] == 1_100


def test_pages_that_fail_are_asked_for_again_until_the_listing_is_whole(
    bulkfetch: Bulkfetch, serve: Serve, expected: list[str]
) -> None:
    faults = {
        "http_503": 0.1, "reset": 0.1, "empty_200": 0.1, "no_content_204": 0.1, "html_200": 0.1,
        "cut_body": 0.1, "cut_close_delimited": 0.1, "cut_gzip": 0.1, "server_fault": 0.1,
        "repeated_page_token": 0.1, "max_per_call_key": 1,
    }  # fmt: skip
    place = serve({"name": "bad pages", "faults": faults})
    result = bulkfetch(*command(place, "--all"))
    assert result.returncode == 0, result.stderr
    assert exported(place) == expected
    assert len(set(pages_asked(place))) == 5
    # Each page failed once.
    assert len(pages_asked(place)) >= 10


@pytest.mark.parametrize(
    ("fault", "sentence"),
    [
        ("html_200", "document type"),
        ("empty_200", "empty"),
        ("cut_close_delimited", "cut short"),
        ("http_503", "503"),
        ("repeated_page_token", "repeated page token"),
    ],
)
def test_a_listing_that_cannot_be_had_fetches_nothing_and_can_be_resumed(
    bulkfetch: Bulkfetch, serve: Serve, fault: str, sentence: str
) -> None:
    place = serve({"name": "no pages", "faults": {fault: 1.0}})
    result = bulkfetch(*command(place, "--all-learners", "--attempts", "2", "--max-outage", "0"))
    assert result.returncode == 3
    assert "could not be listed to their end" in result.stderr.decode()
    assert sentence in result.stderr.decode()
    assert result.stderr.decode().strip().splitlines()[-1].strip().startswith("bulkfetch export")
    assert not place.simulator.ledger.calls_of("GetEnrollments")
    assert not (place.directory / "o.csv").exists()
    report = report_of(place)
    assert (report["complete"], report["ids"]["learners"]) == (False, None)
    published = bulkfetch("publish", "o.csv.bulkfetch", "-o", "p.csv")
    assert published.returncode == 3
    assert "all of the account's ids" in published.stderr.decode()


@pytest.mark.parametrize(
    ("number", "pages"),
    [(signal.SIGKILL, 1), (signal.SIGKILL, 3), (signal.SIGKILL, 5), (signal.SIGTERM, 4)],
    ids=lambda value: value.name if isinstance(value, signal.Signals) else str(value),
)
def test_a_listing_that_is_killed_goes_on_after_its_last_page(
    bulkfetch: Bulkfetch, serve: Serve, expected: list[str], number: int, pages: int
) -> None:
    """Killed when so many pages have been asked for, the last of them not yet answered."""
    place = serve({"name": "slow", "latency": {"base_ms": 250.0}})
    arguments = command(place, "--all")
    with subprocess.Popen(
        [sys.executable, "-m", "bulkfetch", *arguments],
        cwd=place.directory,
        stderr=subprocess.PIPE,
    ) as process:
        while len(pages_asked(place)) < pages:
            assert process.poll() is None
            time.sleep(0.01)
        process.send_signal(number)
        process.communicate(timeout=10)
    before = pages_asked(place)
    assert process.returncode == (-9 if number == signal.SIGKILL else 143)
    if number == signal.SIGTERM:
        report = report_of(place)
        # Four of the five pages at most were answered, the last of the courses is not among them.
        assert report["ids"]["courses"] is None
        assert report["complete"] is False
    assert bulkfetch(*arguments).returncode == 0
    assert exported(place) == expected
    after = pages_asked(place)[len(before) :]
    # What was answered is not asked for again, the last one was not.
    assert after[0] == before[-1]
    assert set(before[:-1]).isdisjoint(after)
    assert len(before) + len(after) == 6


@pytest.mark.parametrize("asked", ["--all", "--all-learners", "--all-courses"])
def test_an_empty_account_is_an_error_and_never_an_unfiltered_call(
    bulkfetch: Bulkfetch, tmp_path: Path, asked: str
) -> None:
    simulator = Simulator(Account(learners=0, courses=0, enrollments=0))
    place = SimpleNamespace(simulator=simulator, directory=tmp_path)
    (tmp_path / "token.txt").touch(0o600)
    (tmp_path / "token.txt").write_text(simulator.token)
    with (
        anyio.from_thread.start_blocking_portal() as portal,
        portal.wrap_async_context_manager(simulator),
    ):
        for _ in range(2):
            result = bulkfetch(*command(place, asked))
            assert result.returncode == 3
            assert "nothing to fetch" in result.stderr.decode()
    assert len(simulator.ledger.calls) == 2
    assert not simulator.ledger.calls_of("GetEnrollments")


def test_tokens_are_renewed_between_pages(
    bulkfetch: Bulkfetch, serve: Serve, expected: list[str]
) -> None:
    place = serve({"name": "short-lived", "token": {"calls": 2}})
    arguments = [part for part in command(place, "--all") if "token" not in part]
    result = bulkfetch(
        *arguments,
        BULKFETCH_CLIENT_ID=place.simulator.client_id,
        BULKFETCH_CLIENT_SECRET=place.simulator.client_secret,
    )
    assert result.returncode == 0, result.stderr
    assert exported(place) == expected


def test_another_source_of_ids_is_a_change_of_inputs(bulkfetch: Bulkfetch, serve: Serve) -> None:
    place = serve()
    assert bulkfetch(*command(place, "--all")).returncode == 0
    calls = len(place.simulator.ledger.calls)
    result = bulkfetch(*command(place, "--all-learners", "--courses", "courses.txt"))
    assert result.returncode == 6
    assert "all courses of the account were asked for" in result.stderr.decode()
    assert len(place.simulator.ledger.calls) == calls


@pytest.mark.parametrize(
    ("asked", "sentence"),
    [
        (("--all", "--learners", "learners.txt"), "--all-learners or --all-courses"),
        (("--all-learners", "--learners", "learners.txt"), "go without each other"),
        (("--all-courses", "--courses", "courses.txt"), "go without each other"),
        (("--all", "--whole-account"), "goes without --all"),
        (("--all-learners", "--whole-account"), "goes without --all-learners"),
        ((), "No ids are given"),
    ],
    ids=lambda value: " ".join(value) or "nothing" if isinstance(value, tuple) else None,
)
def test_options_that_contradict_each_other_are_usage_errors(
    bulkfetch: Bulkfetch, serve: Serve, asked: tuple[str, ...], sentence: str
) -> None:
    place = serve()
    result = bulkfetch(*command(place, *asked))
    assert (result.returncode, sentence in result.stderr.decode()) == (2, True), result.stderr
    assert not place.simulator.ledger.calls
