"""Silent caps of any kind, at a server of sockets: every row is there, or what is lost is named."""

import re
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from random import Random

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

import bulkfetch
from bulkfetch.record import Enrollment

_HEAD = (
    '<?xml version="1.0"?><S:Envelope xmlns:S="http://schemas.xmlsoap.org/soap/envelope/" '
    'xmlns="http://ispringlearn.com/go/services/api/soap"><S:Body><GetEnrollmentsResult>'
)
_TAIL = "</GetEnrollmentsResult></S:Body></S:Envelope>"

Cut = Callable[[list[Enrollment]], list[Enrollment]]


def ids_of(body: str, tag: str) -> list[str] | None:
    found = re.search(rf"<{tag}>(.*?)</{tag}>", body, re.DOTALL)
    return None if found is None else re.findall(r"<id>([^<]*)</id>", found[1])


def render(row: Enrollment) -> str:
    due = "<dueDate>2022-07-14</dueDate>" if row.enrollment_id[-1] in "02468" else ""
    return (
        f"<enrollment><enrollmentId>{row.enrollment_id}</enrollmentId><courseId>{row.course_id}"
        f"</courseId><learnerId>{row.learner_id}</learnerId><accessDate>2022-07-14</accessDate>"
        f"{due}<shouldLockAfterDueDate>0</shouldLockAfterDueDate></enrollment>"
    )


def cut_rows(most: int, waver: float, random: Random) -> Cut:
    return lambda rows: rows[: int(most * random.uniform(1 - waver, 1 + waver))]


def cut_bytes(most: int) -> Cut:
    def cut(rows: list[Enrollment]) -> list[Enrollment]:
        kept, size = [], 0
        for row in rows:
            size += len(render(row))
            if size > most:
                break
            kept.append(row)
        return kept

    return cut


@asynccontextmanager
async def serving(rows: Sequence[Enrollment], cut: Cut) -> AsyncIterator[str]:
    """Answer all enrollments that are asked for, as far as `cut` lets them through."""

    async def answer(request: web.Request) -> web.Response:
        body = (await request.read()).decode()
        sides = [ids_of(body, tag) for tag in ("learnerIds", "courseIds")]
        learners, courses = (None if side is None else set(side) for side in sides)
        found = [
            row
            for row in rows
            if (learners is None or row.learner_id in learners)
            and (courses is None or row.course_id in courses)
        ]
        text = _HEAD + "".join(map(render, cut(found))) + _TAIL
        return web.Response(text=text, content_type="text/xml")

    app = web.Application(client_max_size=2**26)
    app.router.add_route("*", "/{path:.*}", answer)
    async with TestServer(app) as server:
        yield str(server.make_url("")).rstrip("/")


def make_rows(random: Random, learners: int, courses: int) -> list[Enrollment]:
    most = random.choice([1, 3, 6, 10])
    return [
        Enrollment(f"e{learner:05}-{n}", f"c{random.randrange(courses):03}", f"l{learner:05}")
        for learner in range(learners)
        for n in range(random.randint(0, most))
    ]


@pytest.mark.parametrize("seed", range(24))
async def test_every_row_is_there_or_named(seed: int) -> None:
    random = Random(seed)
    learners, courses = random.choice([30, 120, 300, 700]), random.choice([1, 3, 12])
    rows = make_rows(random, learners, courses)
    most = max(20, int(len(rows) * random.choice([0.05, 0.1, 0.2, 0.4, 0.8])))
    cut = [cut_rows(most, 0, random), cut_rows(most, 0.1, random), cut_bytes(most * 260)][seed % 3]
    options = bulkfetch.Options(
        batch_size=random.choice([None, 10, 50, 100, 200]),
        shape=random.choice([None, "learners", "courses", "both"]),
    )
    found: set[str] = set()
    unfetched: list[bulkfetch.FailedIds] = []
    async with (
        serving(rows, cut) as url,
        bulkfetch.Client(url, token="t", options=options) as client,
    ):
        fetch = client.enrollments(
            learner_ids=[f"l{n:05}" for n in range(learners)],
            course_ids=[f"c{n:03}" for n in range(courses)],
        )
        try:
            async for some in fetch.lists():
                found.update(row.enrollment_id for row in some)
        except bulkfetch.IncompleteError as error:
            unfetched += error.failed
    assert [
        row
        for row in rows
        if row.enrollment_id not in found
        and not any(
            (entry.learner_ids is None or row.learner_id in entry.learner_ids)
            and (entry.course_ids is None or row.course_id in entry.course_ids)
            for entry in unfetched
        )
    ] == []
