import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import pytest


@pytest.fixture
def exported(serve: Callable[..., Any], bulkfetch: Callable[..., Any]) -> Any:
    place = serve({"permanent": {"poison_learners": 0.01}})
    assert bulkfetch(*place.export()).returncode == 3
    return place


def test_a_page_about_an_export_is_written_beside_its_journal(
    exported: Any, bulkfetch: Callable[..., Any]
) -> None:
    result = bulkfetch("report", "o.csv.bulkfetch")
    assert (result.returncode, result.stdout) == (0, b"")
    assert b"o.csv.bulkfetch.html" in result.stderr
    page = (exported.directory / "o.csv.bulkfetch.html").read_text("utf-8")
    assert "Wrong parameters" in page
    assert "Calls in flight and their limit. At most" in page
    assert all(learner in page for learner in exported.simulator.poison_learners)


def test_a_run_that_is_killed_has_its_last_second_on_the_page(
    serve: Callable[..., Any], bulkfetch: Callable[..., Any]
) -> None:
    place = serve({"name": "slow", "latency": {"base_ms": 20_000.0}})
    process = subprocess.Popen(
        [sys.executable, "-m", "bulkfetch", *place.export("--workers", "3")],
        cwd=place.directory,
        stderr=subprocess.DEVNULL,
    )
    while len(place.simulator.ledger.calls) < 3:
        assert process.poll() is None
        time.sleep(0.01)
    time.sleep(2)
    process.kill()
    process.wait()
    assert bulkfetch("report", "o.csv.bulkfetch", "-o", "page.html").returncode == 0
    page = (place.directory / "page.html").read_text("utf-8")
    assert "At most 3 in flight" in page
    assert "was killed" in page


def test_the_page_of_an_incomplete_export_counts_its_duplicates(
    exported: Any, bulkfetch: Callable[..., Any]
) -> None:
    assert bulkfetch("report", "o.csv.bulkfetch", "-o", "page.html").returncode == 0
    page = (exported.directory / "page.html").read_text("utf-8")
    assert "<dt>Duplicates</dt><dd>0</dd>" in page
    assert "Not published." in page


def test_the_page_says_that_an_export_went_to_standard_output(
    serve: Callable[..., Any], bulkfetch: Callable[..., Any]
) -> None:
    place = serve()
    assert bulkfetch(*place.export("--journal", "j", output="-")).returncode == 0
    assert bulkfetch("report", "j", "-o", "page.html").returncode == 0
    page = (place.directory / "page.html").read_text("utf-8")
    assert "Published to <code>standard output</code>" in page
    assert "Not published" not in page


@pytest.mark.usefixtures("exported")
def test_the_page_replaces_neither_the_journal_nor_a_directory(
    bulkfetch: Callable[..., Any],
) -> None:
    for target, code in (("o.csv.bulkfetch", 2), (".", 2), ("missing/page.html", 7)):
        result = bulkfetch("report", "o.csv.bulkfetch", "-o", target)
        assert result.returncode == code, result.stderr
    assert bulkfetch("report", "no.journal").returncode == 2
    assert bulkfetch("report", "o.csv.bulkfetch", "-o", "page.html").returncode == 0
