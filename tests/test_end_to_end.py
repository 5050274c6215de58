"""Whole accounts against the simulator: every row, every value, whatever the profile does."""

import time

import anyio
import pytest

import bulkfetch
from bulkfetch.simulator import Account, Simulator, load_profile

SPEED = 50  # waits are real, but so many times shorter


async def sleep_shortly(seconds: float) -> None:
    await anyio.sleep(seconds / SPEED)


def quick() -> bulkfetch.Runtime:
    return bulkfetch.Runtime(clock=lambda: time.monotonic() * SPEED, sleep=sleep_shortly)


@pytest.fixture(scope="module")
def account() -> Account:
    return Account(learners=1_000, courses=40, enrollments=8_000, seed=11)


@pytest.mark.parametrize("profile", ["steady", "flaky", "legacy", "strict", "expiring"])
@pytest.mark.parametrize(("batch_size", "workers"), [(7, 3), (100, 10), (1_000, 2)])
async def test_every_enrollment_comes_once_with_its_exact_values(
    account: Account, profile: str, batch_size: int, workers: int
) -> None:
    options = bulkfetch.Options(batch_size=batch_size, workers=workers)
    async with (
        Simulator(account, load_profile(profile), seed=batch_size) as simulator,
        bulkfetch.Client(
            simulator.url,
            client_id=simulator.client_id,
            client_secret=simulator.client_secret,
            options=options,
            runtime=quick(),
        ) as client,
    ):
        fetch = client.enrollments(learner_ids=account.learner_ids, course_ids=account.course_ids)
        rows = [enrollment async for enrollment in fetch]
    assert sorted(rows, key=lambda row: row.enrollment_id) == sorted(
        account.enrollments(), key=lambda row: row.enrollment_id
    )
    assert fetch.report.is_complete
    assert fetch.report.duplicates == 0
    learners_with_rows = {row.learner_id for row in rows}
    assert fetch.report.confirmed_empty_learners == 1_000 - len(learners_with_rows)


@pytest.mark.parametrize(
    ("learners", "courses"),
    [(None, None), (30, None), (None, 3), (30, 3)],
    ids=["whole account", "by learner", "by course", "intersection"],
)
async def test_each_query_shape_gives_just_what_was_asked_for(
    account: Account, learners: int | None, courses: int | None
) -> None:
    learner_ids = None if learners is None else account.learner_ids[:learners]
    course_ids = None if courses is None else account.course_ids[:courses]
    async with (
        Simulator(account, load_profile("steady")) as simulator,
        bulkfetch.Client(simulator.url, token=simulator.token) as client,
    ):
        fetch = client.enrollments(learner_ids=learner_ids, course_ids=course_ids)
        ids = [enrollment.enrollment_id async for enrollment in fetch]
    assert sorted(ids) == sorted(
        row.enrollment_id
        for row in account.enrollments()
        if (learner_ids is None or row.learner_id in learner_ids)
        and (course_ids is None or row.course_id in course_ids)
    )


async def test_batches_run_along_the_learners_and_carry_the_courses_whole(
    account: Account,
) -> None:
    async with (
        Simulator(account, load_profile("steady")) as simulator,
        bulkfetch.Client(
            simulator.url, token=simulator.token, options=bulkfetch.Options(batch_size=100)
        ) as client,
    ):
        fetch = client.enrollments(learner_ids=account.learner_ids, course_ids=account.course_ids)
        async for _ in fetch:
            pass
        calls = simulator.ledger.calls_of("GetEnrollments")
    assert len(calls) == 1_000 / 100 + fetch.report.cap_checks
    assert {len(call.course_ids or ()) for call in calls} == {40}
