import base64
import hashlib
import re
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bulkfetch.errors import FailedIds, UsageError
from bulkfetch.export.journal import Effort, FinishedBatch, Journal, JournalIdentity
from bulkfetch.export.page.chart import round_step, show_seconds, time_ticks
from bulkfetch.export.page.history import History, Mark, read_history
from bulkfetch.export.page.write import write_page
from bulkfetch.plan.rectangle import Rectangle
from bulkfetch.record import Enrollment

FIELDS = ["t", "in_flight", "limit", "batch_size", "latency_s", "calls", "retries", "rows"]
RECORD: dict[str, Any] = {
    "version": 1,
    "interval_s": 0.5,
    "began_at": 0.0,
    "fields": [*FIELDS, "rate", "phase"],
    "samples": [
        [0.0, 4, 4, 50, 0.3, 6, 0, 300, None, "slow start"],
        [0.5, 8, 8, 100, None, 2, 2, 0, None, "gate"],
        [1.0, 8, 8, 100, None, 0, 0, 0, None, "gate"],
        [2.5, 6, 6, 200, 0.9, 3, 1, 600, None, "steady"],
    ],
}
EVIL = '<script src="https://evil.example/x.js">alert(1)</script>&"\''


class Page(HTMLParser):
    """What a reader sees, and everything that could reach out."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.open: list[str] = []
        self.text = ""
        self.feed(text)
        self.close()
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs
        if tag not in ("meta", "path", "rect"):
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs

    def handle_endtag(self, tag: str) -> None:
        if tag != "rect":
            assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data if not self.open or self.open[-1] != "style" else ""

    def attribute(self, name: str) -> list[str]:
        return [value or "" for key, value in self.attributes if key == name]


@pytest.fixture
def told(
    tmp_path: Path,
    identity: JournalIdentity,
    finished: Callable[..., FinishedBatch],
    enrollments: Callable[[int], list[Enrollment]],
) -> Path:
    """Make the journal of an incomplete export whose service writes what it likes."""
    journal = Journal.open(tmp_path / "journal", identity, now=0.0)
    learners = tuple(f"learner-{number:03}" for number in range(99))
    rows = [row for row in enrollments(400) if row.learner_id in learners]
    rectangle = Rectangle(learners, tuple(f"course-{number}" for number in range(5)))
    journal.commit(finished(rows, rectangle), Effort(calls=7, retries=2))
    entry = FailedIds(("learner-099",), None, f"The service rejects an id: {EVIL}", 3, 5.0)
    report: dict[str, object] = {"output": f"out-{EVIL}.csv", "rows": 400, "duplicates": 1}
    journal.remember({"timeline": RECORD, "pace": {"batch_size": {"learners": 1600}, EVIL: EVIL}})
    journal.end_run(9.0, Effort(calls=7, retries=2), [entry], [], report)
    journal.close()
    return journal.path


def test_the_page_is_whole_by_itself_and_lets_nothing_in_or_out(told: Path, tmp_path: Path) -> None:
    target = tmp_path / "page.html"
    write_page(told, target)
    assert target.stat().st_mode & 0o777 == 0o600
    text = target.read_text("utf-8")
    page = Page(text)
    assert not {"script", "link", "img", "iframe", "object", "form", "a", "base"} & {*page.tags}
    assert not {"src", "href", "style", "onload", "onclick", "xlink:href"} & {
        name for name, _ in page.attributes
    }
    assert "url(" not in text and "@import" not in text  # noqa: PT018 - one fact
    style = re.search(r"<style>(.*?)</style>", text, re.DOTALL)
    assert style is not None
    digest = base64.b64encode(hashlib.sha256(style[1].encode()).digest()).decode()
    (policy,) = (value for value in page.attribute("content") if "default-src" in value)
    assert policy.startswith(f"default-src 'none'; style-src 'sha256-{digest}';")


def test_the_page_says_what_came_what_did_not_and_how_it_went(told: Path, tmp_path: Path) -> None:
    write_page(told, tmp_path / "page.html")
    page = Page((tmp_path / "page.html").read_text("utf-8"))
    words = " ".join(page.text.split())
    assert f"rejects an id: {EVIL}" in words
    assert f"out-{EVIL}.csv" in words
    assert "Incomplete" in words
    assert "learner-099" in words
    assert "batch size: learners" in words
    assert "1,600" in words
    said = page.attribute("aria-label")
    assert any("1 quarantined" in label for label in said)
    assert any("At most 8 in flight" in label for label in said)
    assert sum(label.startswith(("Calls", "Batch", "Latency", "Rows")) for label in said) == 5


def test_a_journal_without_a_record_or_report_has_a_page(
    identity: JournalIdentity, tmp_path: Path
) -> None:
    journal = Journal.open(tmp_path / "journal", identity, now=0.0)
    journal.remember({"timeline": {"version": 99}})
    journal.close()
    write_page(journal.path, tmp_path / "page.html")
    page = Page((tmp_path / "page.html").read_text("utf-8"))
    assert "Over time" not in page.text
    assert any(
        "0 returned, 0 in part, 0 confirmed empty, 0 quarantined, 100 failed" in label
        for label in page.attribute("aria-label")
    )


def test_without_a_journal_there_is_no_page(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="There is no journal"):
        write_page(tmp_path / "none", tmp_path / "page.html")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "record",
    [
        None,
        [],
        {},
        {**RECORD, "version": 2},
        {**RECORD, "samples": []},
        {**RECORD, "fields": ["t"]},
        {**RECORD, "samples": [[0, "x"]]},
        {**RECORD, "interval_s": 0},
    ],
)
def test_what_is_no_record_is_none(record: object) -> None:
    assert read_history(record) is None


def history() -> History:
    found = read_history(RECORD)
    assert found is not None
    return found


def test_phases_last_until_another_begins() -> None:
    assert list(history().phases("gate")) == [(0.5, 2.5)]
    assert list(history().phases("steady")) == [(2.5, 3.0)]
    assert list(history().phases("outage")) == []


@pytest.mark.parametrize("most", [1, 2, 3, 100])
def test_summing_keeps_sums_and_extremes(most: int) -> None:
    few = history().summed(most)
    assert len(few.moments) <= max(1, most)
    assert sum(m.calls for m in few.moments) == 11
    assert sum(m.rows for m in few.moments) == 900
    assert max(m.in_flight for m in few.moments) == 8
    assert few.moments[-1].batch_size == 200


def test_a_resumed_run_is_marked_and_the_time_before_it_is_cut() -> None:
    samples = [[t, 4, 4, 50, 0.3, 1, 0, 9, None, "steady"] for t in (0.0, 0.5, 3_600.0, 3_600.5)]
    found = read_history({**RECORD, "began_at": 1e9, "samples": samples}, [1e9, 1e9 + 3_600.2])
    assert found is not None
    assert [moment.t for moment in found.moments] == [0.0, 0.5, 1.5, 2.0]
    assert found.marks == (Mark(1.5, 1e9 + 3_600.2),)
    assert found.summed(2).marks == found.marks
    assert found.series(lambda moment: moment.calls) == [
        (0.0, 1), (0.5, 1), (1.0, None), (1.5, 1), (2.0, 1)
    ]  # fmt: skip


def test_runs_are_shown_with_their_times_and_where_one_was_resumed(
    identity: JournalIdentity, tmp_path: Path
) -> None:
    path = tmp_path / "journal"
    Journal.open(path, identity, now=0.0).close()  # and nobody says that it ended
    journal = Journal.open(path, identity, now=7_200.0)
    samples = [[t, *RECORD["samples"][0][1:]] for t in (0.0, 7_200.0)]
    pace = {
        "limit": 5,
        "most_in_second": 10.0,
        "most_in_minute": 300,
        "sizes": {"learners": {"proven": 800, "refused": 1_001}, "courses": 7},
    }
    journal.remember({"timeline": {**RECORD, "samples": samples}, "pace": pace})
    journal.end_run(7_260.0, Effort(calls=7, retries=2), [], [], {})
    journal.close()
    write_page(path, tmp_path / "page.html")
    text = (tmp_path / "page.html").read_text("utf-8")
    words = " ".join(Page(text).text.split())
    assert "Jan 01, 02:00" in words
    assert text.count('class="mark"') == 5
    assert "was killed" in words
    assert "1970-01-01 02:01:00" in words
    assert (
        "About 5 calls in flight; more than 10 a second are refused; more than 300 a minute are "
        "refused; calls of 800 learners are answered, 1,001 are too many."
    ) in words


@pytest.mark.parametrize("end_s", [0.3, 3, 90, 600, 7_200, 36_000, 86_400, 8_640_000])
def test_every_label_of_a_time_axis_is_within_its_picture(
    identity: JournalIdentity, tmp_path: Path, end_s: float
) -> None:
    scale = end_s / 3  # the record is of 3 s
    samples = [[sample[0] * scale, *sample[1:]] for sample in RECORD["samples"]]
    record = {**RECORD, "interval_s": RECORD["interval_s"] * scale, "samples": samples}
    journal = Journal.open(tmp_path / "journal", identity, now=0.0)
    journal.remember({"timeline": record})
    journal.close()
    write_page(journal.path, tmp_path / "page.html")
    text = (tmp_path / "page.html").read_text("utf-8")
    (width,) = {float(found) for found in re.findall(r'viewBox="0 0 (\d+) 190"', text)}
    labels = re.findall(r'x="([\d.]+)" y="[\d.]+" text-anchor="middle">([^<]*)<', text)
    assert len(labels) >= 5
    assert show_seconds(end_s) in {label for _, label in labels}
    letter = 6.5  # in a wide font of 11 pixels
    for x, label in labels:
        assert float(x) + len(label) * letter / 2 <= width, label


@given(st.floats(1e-6, 1e12))
def test_steps_are_round_and_just_large_enough(at_least: float) -> None:
    step = round_step(at_least)
    assert at_least * (1 - 1e-6) <= step <= at_least * 2.5 * (1 + 1e-6)
    assert f"{step:e}"[0] in "125"


@given(st.floats(0.05, 1e8))
def test_time_ticks_are_a_handful_within_the_axis(end_s: float) -> None:
    ticks = list(time_ticks(end_s))
    assert 1 <= len(ticks) <= 10
    assert ticks[0] == 0
    assert ticks[-1] <= end_s * (1 + 1e-6)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0"),
        (0.25, "0.25 s"),
        (42, "42 s"),
        (187, "3:07 min"),
        (8100, "2:15 h"),
        (273600, "3 d 04 h"),
    ],
)
def test_durations_read_well(seconds: float, text: str) -> None:
    assert show_seconds(seconds) == text
