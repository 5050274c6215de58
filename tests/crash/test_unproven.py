"""Runs that end before their answers are known to be whole: those are kept, and checked later."""

import contextlib
import sqlite3
from collections.abc import Sequence
from pathlib import Path

import pytest

from bulkfetch.errors import CredentialsError
from bulkfetch.export.journal import Journal
from tests.crash.test_taking_back import (
    COURSES,
    LEARNERS,
    Answer,
    Pair,
    exported,
    make_job,
    serving,
)

ROWS = {(learner, course) for learner in LEARNERS for course in COURSES[::2]}


class Service:
    """Answers so many calls, each with so many rows at most, and refuses what comes after them."""

    def __init__(self, calls: int, most_rows: int | None = None) -> None:
        self.calls_left = calls
        self.most_rows = most_rows
        self.asked: list[tuple[str, ...]] = []

    def __call__(self, learners: Sequence[str], courses: Sequence[str]) -> list[Pair] | None:
        if not self.calls_left:
            return None
        self.calls_left -= 1
        self.asked.append(tuple(learners))
        pairs = [(learner, c) for learner in learners for c in courses if (learner, c) in ROWS]
        return pairs[: self.most_rows]


def unproven(directory: Path) -> list[tuple[str, ...] | None]:
    with contextlib.closing(Journal.open_existing(directory / "journal")) as journal:
        return [answer.rectangle.learners for answer in journal.unproven()]


def change(directory: Path, statement: str) -> None:
    with contextlib.closing(sqlite3.connect(directory / "journal")) as database:
        assert database.execute(statement).rowcount == 1
        database.commit()


async def export_twice(
    directory: Path, *, most_rows: int | None = None, meanwhile: str | None = None
) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """Let a run end with one answer that waits for its check, and another run go on to the end.

    Returns:
        Whom the answer is about, and whom the calls of the second run asked for.
    """
    first, second = Service(1, most_rows), Service(10_000, most_rows)
    answers: list[Answer] = [first]
    async with serving(answers) as url:
        with pytest.raises(CredentialsError):
            await make_job(url, directory, LEARNERS, "learners").run()
        assert unproven(directory) == first.asked
        with contextlib.closing(Journal.open_existing(directory / "journal")) as journal:
            assert journal.finished() == []
            assert journal.totals().rows == 0
        if meanwhile is not None:
            change(directory, meanwhile)
        answers.append(second)
        await make_job(url, directory, LEARNERS, "learners").run()
    assert exported(directory) == ROWS
    assert unproven(directory) == []
    return first.asked[0], second.asked


async def test_what_came_is_checked_by_the_next_run_and_not_asked_for_again(
    tmp_path: Path,
) -> None:
    came, asked = await export_twice(tmp_path)
    assert came not in asked
    assert set(came) & {learner for learners in asked for learner in learners}  # its check


async def test_what_was_cut_short_is_asked_for_in_parts_by_the_next_run(tmp_path: Path) -> None:
    came, asked = await export_twice(tmp_path, most_rows=150)
    assert max(len(learners) for learners in asked if set(learners) < set(came)) <= 50


@pytest.mark.parametrize(
    "meanwhile",
    [
        "UPDATE unproven SET arrow = zeroblob(length(arrow))",
        "UPDATE unproven SET ended_at = ended_at - 3601, started_at = started_at - 3601",
        (
            "INSERT INTO unproven SELECT id + 1, learners, courses, unsent, row_count, surplus,"
            " attempts, started_at, ended_at, latency_s, wire_bytes, body_bytes, anomalies, arrow,"
            " checksum FROM unproven"
        ),
        "DELETE FROM unproven",
    ],
    ids=["damaged", "old", "twice", "gone"],
)
async def test_what_cannot_be_checked_is_asked_for_anew(tmp_path: Path, meanwhile: str) -> None:
    came, asked = await export_twice(tmp_path, meanwhile=meanwhile)
    assert came in asked
