"""A silent cap is proven, and the run ends before what it makes doubtful is asked for again."""

import contextlib
import re
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pyarrow.csv
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from bulkfetch.errors import CredentialsError, SinkError
from bulkfetch.export.formats import OutputFormat
from bulkfetch.export.job import ExportJob, ExportSettings
from bulkfetch.export.journal import Journal
from bulkfetch.export.sinks.files import FileSink
from bulkfetch.inputs import make_region
from bulkfetch.options import Options
from bulkfetch.service import Credentials

Pair = tuple[str, str]
Answer = Callable[[Sequence[str], Sequence[str]], list[Pair] | None]
LEARNERS = [f"l{number:03}" for number in range(600)]
COURSES = ["c0", "c1", "c2"]


@asynccontextmanager
async def serving(answers: list[Answer]) -> AsyncIterator[str]:
    """Serve pairs by the last of `answers`, told the ids in the order asked; None is refused."""

    async def answer(request: web.Request) -> web.Response:
        body = (await request.read()).decode()
        found = [re.search(rf"<{tag}>(.*?)</{tag}>", body) for tag in ("learnerIds", "courseIds")]
        sides = [re.findall(r"<id>([^<]*)</id>", side[1]) if side else [] for side in found]
        pairs = answers[-1](sides[0], sides[1] or COURSES)
        if pairs is None:
            return web.Response(status=403)
        rows = "".join(
            f"<enrollment><enrollmentId>{learner}-{course}</enrollmentId><courseId>{course}"
            f"</courseId><learnerId>{learner}</learnerId></enrollment>"
            for learner, course in pairs
        )
        head = (
            '<?xml version="1.0"?><S:Envelope xmlns:S="http://schemas.xmlsoap.org/soap/envelope/" '
            'xmlns="http://ispringlearn.com/go/services/api/soap"><S:Body><GetEnrollmentsResult>'
        )
        text = f"{head}{rows}</GetEnrollmentsResult></S:Body></S:Envelope>"
        return web.Response(text=text, content_type="text/xml")

    app = web.Application(client_max_size=2**26)
    app.router.add_route("*", "/{path:.*}", answer)
    async with TestServer(app) as server:
        yield str(server.make_url("")).rstrip("/")


def make_job(url: str, directory: Path, learners: Sequence[str], shape: str) -> ExportJob:
    return ExportJob(
        ExportSettings(
            base_url=url,
            credentials=Credentials(token="t"),
            region=make_region(learners, COURSES),
            sink=FileSink(directory / "o.csv", OutputFormat.CSV),
            journal=directory / "journal",
            options=Options(batch_size=100, workers=1, shape=shape, hedge=False),
        )
    )


def exported(directory: Path) -> set[Pair]:
    table: Any = pyarrow.csv.read_csv(directory / "o.csv")
    return {(row["learner_id"], row["course_id"]) for row in table.to_pylist()}


@pytest.mark.parametrize("failures", [1, 9], ids=["once", "to the end"])
async def test_batches_that_could_not_be_taken_back_are_doubted_by_the_next_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failures: int
) -> None:
    """Some servers cap at 99 rows, which is taken for whole; one caps at 100, and that is seen."""
    large = 0

    def answer(learners: Sequence[str], courses: Sequence[str]) -> list[Pair]:
        nonlocal large
        pairs = [(learner, course) for learner in learners for course in courses[::2]]
        large += len(pairs) > 100
        return pairs if large < 3 else pairs[: 99 if large < 6 else 100]

    def capped(learners: Sequence[str], courses: Sequence[str]) -> list[Pair]:
        return [(learner, course) for learner in learners for course in courses[::2]][:99]

    take_back, failed = Journal.take_back, 0

    def fail(*arguments: Any) -> Any:
        nonlocal failed
        failed += 1
        if failed <= failures:
            raise SinkError("The disk is full.")
        return take_back(*arguments)

    answers: list[Answer] = [answer]
    async with serving(answers) as url:
        with monkeypatch.context() as patch:
            patch.setattr(Journal, "take_back", fail)
            with pytest.raises(SinkError):
                await make_job(url, tmp_path, LEARNERS, "learners").run()
        assert failed
        with contextlib.closing(Journal.open_existing(tmp_path / "journal")) as journal:
            assert journal.totals().batches >= 3
        answers.append(capped)
        await make_job(url, tmp_path, LEARNERS, "learners").run()
    assert exported(tmp_path) == {
        (learner, course) for learner in LEARNERS for course in ("c0", "c2")
    }


async def test_what_is_proven_as_a_run_ends_is_doubted_all_the_same(tmp_path: Path) -> None:
    """One server reads 50 ids of a list; that is seen, and the next call is refused."""
    learners = LEARNERS[:500]
    rows = {(learner, "c0") for learner in (*learners[350:450], *learners[450::3])}
    proof: list[Pair] = []

    def answer(some: Sequence[str], courses: Sequence[str]) -> list[Pair] | None:
        if proof and courses[0] != "c0":
            return None
        found = [(learner, course) for learner in some[:50] for course in courses]
        found = [pair for pair in found if pair in rows]
        proof.extend(pair for pair in found if pair[0] >= learners[450])
        return found

    def whole(some: Sequence[str], courses: Sequence[str]) -> list[Pair]:
        return [(learner, c) for learner in some for c in courses if (learner, c) in rows]

    answers: list[Answer] = [answer]
    async with serving(answers) as url:
        with pytest.raises(CredentialsError):
            await make_job(url, tmp_path, learners, "both").run()
        answers.append(whole)
        await make_job(url, tmp_path, learners, "both").run()
    assert exported(tmp_path) == rows
