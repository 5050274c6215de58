"""Silent caps: rows past a number, or ids past a number, are left out and nobody says so."""

from collections.abc import Sequence
from typing import Any

import pytest

import bulkfetch
from bulkfetch.engine.caps import Caps, Suspicion, Volume, is_round
from bulkfetch.inputs import make_region
from bulkfetch.plan.rectangle import Axis
from bulkfetch.record import Enrollment
from bulkfetch.simulator import Account, Simulator, parse_profile


@pytest.fixture(scope="module")
def account() -> Account:
    return Account(learners=600, courses=30, enrollments=3_000, seed=3)


def capped(limit: str, at: int) -> dict[str, Any]:
    return {"name": "capped", "limits": {limit: {"at": at, "past": "silent-cap"}}}


async def fetch_all(
    account: Account,
    profile: dict[str, Any],
    *,
    learner_ids: Sequence[str] | None,
    course_ids: Sequence[str] | None,
    batch_size: int | None = 100,
    workers: int = 4,
    shape: str | None = None,
) -> tuple[list[Enrollment], bulkfetch.FetchReport, bulkfetch.IncompleteError | None]:
    rows: list[Enrollment] = []
    options = bulkfetch.Options(batch_size=batch_size, workers=workers, shape=shape)
    async with (
        Simulator(account, parse_profile(profile)) as simulator,
        bulkfetch.Client(simulator.url, token=simulator.token, options=options) as client,
    ):
        fetch = client.enrollments(learner_ids=learner_ids, course_ids=course_ids)
        try:
            async for some in fetch.lists():
                rows += some
        except bulkfetch.IncompleteError as error:
            return rows, fetch.report, error
    return rows, fetch.report, None


@pytest.mark.parametrize("workers", [1, 4])
@pytest.mark.parametrize("at", [25, 50, 100, 128, 333, 499, 500])
async def test_rows_past_a_silent_cap_are_not_missed(
    account: Account, at: int, workers: int
) -> None:
    rows, report, error = await fetch_all(
        account,
        capped("max_rows", at),
        learner_ids=account.learner_ids,
        course_ids=account.course_ids,
        workers=workers,
    )
    assert error is None
    assert sorted(rows) == sorted(account.enrollments())
    assert report.duplicates == report.conflict_count == 0
    assert report.is_complete
    assert report.silent_caps.rows == at


@pytest.mark.parametrize(("at", "batch_size"), [(30, 100), (50, 100), (99, 100), (7, 20), (29, 20)])
async def test_ids_past_a_silent_cap_are_not_missed(
    account: Account, at: int, batch_size: int
) -> None:
    rows, _, error = await fetch_all(
        account,
        capped("max_ids", at),
        learner_ids=account.learner_ids,
        course_ids=account.course_ids,
        batch_size=batch_size,
    )
    assert error is None
    assert sorted(rows) == sorted(account.enrollments())


@pytest.mark.parametrize("at", range(11, 30, 3))
async def test_ids_past_a_cap_are_not_missed_while_batches_grow(account: Account, at: int) -> None:
    """With as many rows before and after the order is changed, by chance, now and then."""
    rows, _, error = await fetch_all(
        account,
        capped("max_ids", at),
        learner_ids=account.learner_ids,
        course_ids=None,
        batch_size=None,
    )
    assert error is None
    assert sorted(rows) == sorted(account.enrollments())


@pytest.mark.parametrize("shape", ["learners", "courses", "both", "whole"])
@pytest.mark.parametrize("order", ["learner_id", "course_id"])
async def test_whatever_the_order_of_rows_and_the_shape_of_calls_none_is_missed(
    account: Account, order: str, shape: str
) -> None:
    rows = sorted(account.enrollments(), key=lambda row: (getattr(row, order), row.enrollment_id))
    ordered = Account.of(rows, learner_ids=account.learner_ids, course_ids=account.course_ids)
    found, _, error = await fetch_all(
        ordered,
        capped("max_rows", 97),
        learner_ids=account.learner_ids,
        course_ids=account.course_ids,
        batch_size=None,
        shape=shape,
    )
    assert error is None
    assert sorted(found) == sorted(rows)


async def test_along_the_courses_what_cannot_be_split_is_named_and_the_rest_is_fetched(
    account: Account,
) -> None:
    rows, _, error = await fetch_all(
        account,
        capped("max_rows", 150),
        learner_ids=None,
        course_ids=account.course_ids,
        batch_size=10,
    )
    sizes = dict.fromkeys(account.course_ids, 0)
    for row in account.enrollments():
        sizes[row.course_id] += 1
    heavy = {course for course, size in sizes.items() if size >= 150}
    assert heavy
    assert error is not None
    assert {course for entry in error.failed for course in entry.course_ids or ()} == heavy
    assert all("150 rows" in entry.cause for entry in error.failed)
    assert sorted(rows) == sorted(
        row for row in account.enrollments() if row.course_id not in heavy
    )


@pytest.mark.parametrize("at", [97, 777, 1_000, 2_999])
async def test_a_capped_whole_account_is_never_taken_for_whole(account: Account, at: int) -> None:
    rows, report, error = await fetch_all(
        account, capped("max_rows", at), learner_ids=None, course_ids=None
    )
    assert rows == []
    assert error is not None
    assert not report.is_complete
    assert f"{at:,} rows" in error.failed[0].cause


async def test_one_learner_with_a_round_number_of_rows_and_no_way_to_split_is_named() -> None:
    everything = [Enrollment(f"e{n:03}", f"c{n:03}", "l1") for n in range(120)]
    account = Account.of(everything)
    profile = capped("max_rows", 100)
    rows, _, error = await fetch_all(account, profile, learner_ids=["l1"], course_ids=None)
    assert rows == []
    assert error is not None
    assert error.failed[0].learner_ids == ("l1",)
    rows, _, error = await fetch_all(
        account, profile, learner_ids=["l1"], course_ids=account.course_ids
    )
    assert error is None
    assert sorted(rows) == sorted(everything)


async def test_answers_that_are_all_of_one_size_by_nature_are_asked_for_once() -> None:
    """Everybody is enrolled in the same five courses: 500 rows in each answer."""
    account = Account.of(
        Enrollment(f"e{learner:04}-{course}", f"c{course}", f"l{learner:04}")
        for learner in range(3_000)
        for course in range(5)
    )
    rows, report, error = await fetch_all(
        account, {"name": "healthy"}, learner_ids=account.learner_ids, course_ids=None
    )
    assert error is None
    assert len(rows) == 15_000
    assert report.calls == 30 + report.cap_checks
    # The first by its halves, since the size is pinned; one more; two of a round size by halves.
    assert report.cap_checks <= 7


async def test_one_batch_cut_among_whole_ones_of_the_same_size_is_found() -> None:
    """All answers have 500 rows, nearly all rightly so: halves of those would prove nothing."""
    rows = [
        Enrollment(f"e{learner:04}-{course}", f"c{course}", f"l{learner:04}")
        for learner in range(2_000)
        for course in range(5)
    ]
    rows += [Enrollment(f"x{n}", f"c{n % 5}", "l1234") for n in range(7)]
    account = Account.of(rows)
    found, _, error = await fetch_all(
        account, capped("max_rows", 500), learner_ids=account.learner_ids, course_ids=None
    )
    assert error is None
    assert sorted(found) == sorted(rows)


async def test_a_healthy_run_is_hardly_asked_more() -> None:
    account = Account(learners=20_000, courses=100, enrollments=60_000, seed=9)
    _, report, _ = await fetch_all(
        account,
        {"name": "healthy"},
        learner_ids=account.learner_ids,
        course_ids=account.course_ids,
        batch_size=50,
        workers=8,
        shape="learners",
    )
    assert report.calls == 400 + report.cap_checks + report.confirmations
    # Answers are compared with their halves: a pinned size leaves no room to ask for more.
    assert report.cap_checks <= 16


async def test_few_rows_in_a_single_call_are_not_asked_for_twice(account: Account) -> None:
    learner = account.enrollment(0).learner_id
    _, report, _ = await fetch_all(
        account, {"name": "healthy"}, learner_ids=[learner], course_ids=None
    )
    assert (report.calls, report.cap_checks) == (1, 0)


@pytest.mark.parametrize("fault", ["duplicate_rows", "conflicting_duplicate", "unreadable_value"])
async def test_odd_rows_are_not_taken_for_a_cap(account: Account, fault: str) -> None:
    rows, _, error = await fetch_all(
        account,
        {"name": "odd", "faults": {fault: 0.5}},
        learner_ids=account.learner_ids,
        course_ids=account.course_ids,
        batch_size=50,
    )
    assert error is None
    assert {row.enrollment_id for row in rows} == {
        row.enrollment_id for row in account.enrollments()
    }


@pytest.mark.parametrize("size", [10, 20, 25, 50, 100, 128, 200, 250, 1_000, 4_096, 7_000, 50_000])
def test_sizes_that_look_like_limits_are_round(size: int) -> None:
    assert is_round(size)
    assert not is_round(size + 1)


def test_a_round_size_is_suspect_a_few_times_although_larger_answers_came() -> None:
    region = make_region([f"l{n}" for n in range(400)], None)
    batch = region.replace(Axis.LEARNERS, (region.learners or ())[:100])
    caps = Caps([region])
    caps.note(batch, sized(1_000), {})
    assert caps.judge(sized(501)) is Suspicion.NONE
    for _ in range(2):
        assert caps.judge(sized(500)) is Suspicion.ROUND
        caps.pass_rows(sized(500))
    assert caps.judge(sized(500)) is Suspicion.NONE
    assert caps.judge(sized(250)) is Suspicion.NONE


@pytest.mark.parametrize(
    ("rows", "widths", "is_proven"),
    [
        (1_000, (300, 200, 100), True),
        (1_000, (300, 200, 160), False),  # as wide, nearly: it may be so by nature
        (997, (300, 200, 100), False),
        (40, (300, 200, 100), False),
        (1_000, (300, 100), False),
    ],
)
def test_answers_of_one_round_size_to_unequal_questions_prove_a_cap(
    rows: int, widths: tuple[int, ...], *, is_proven: bool
) -> None:
    region = make_region([f"l{n}" for n in range(400)], None)
    caps = Caps([region])
    for width in widths:
        caps.note(region.replace(Axis.LEARNERS, (region.learners or ())[:width]), sized(rows), {})
    assert (caps.limit == sized(rows)) is is_proven


def test_batches_are_to_fit_a_cap_by_what_others_hold() -> None:
    region = make_region([f"l{n}" for n in range(400)], None)
    narrow, wide = ((region.learners or ())[:width] for width in (50, 400))
    caps = Caps([region])
    for _ in range(3):
        caps.note(region.replace(Axis.LEARNERS, narrow), sized(500), {})
    caps.prove_short(sized(1_000))
    wanted = caps.pairs_wanted(region.replace(Axis.LEARNERS, wide))
    assert 30 <= wanted <= 40  # of ten rows each: clearly below half of the cap
    for _ in range(3):
        caps.note(region.replace(Axis.LEARNERS, narrow[:30]), sized(700), {})
    assert caps.pairs_wanted(region.replace(Axis.LEARNERS, narrow[:30])) == 15


def sized(rows: int) -> Volume:
    return Volume(rows, 400 * rows)


def test_what_an_earlier_run_has_is_not_asked_for_besides() -> None:
    learners, courses = [f"l{n:03}" for n in range(400)], [f"c{n:02}" for n in range(20)]
    some_left = make_region(learners[:50], courses[8:])  # the rest of their courses is kept
    others = make_region(learners[50:], courses)
    batch = others.replace(Axis.LEARNERS, (others.learners or ())[:100])
    caps = Caps([some_left, others])
    for asked, allowed in ((batch, others.learners), (some_left, None)):
        with_rows = {axis: frozenset(asked.side(axis) or ()) for axis in Axis}
        more = caps.one_more(asked, with_rows, {}, rows=1)
        assert more is not None
        assert more.axis is Axis.LEARNERS
        assert set(more.rectangle.learners or ()) <= set(allowed or learners)
        assert more.rectangle.pairs > asked.pairs
