from collections import Counter
from collections.abc import Callable
from datetime import UTC, date, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bulkfetch.errors import UsageError
from bulkfetch.record import Enrollment
from bulkfetch.simulator import Account, Dialect
from bulkfetch.simulator.render import RecordRenderer, render_record

SMALL = Account(learners=30, courses=8, enrollments=400, seed=3)
TRUTH = list(SMALL.enrollments())
HARD = "a<b>&\"c' ]]> \t é 😀 \r\n z"
HARD_ROWS = [
    Enrollment(
        f"e-{HARD}",
        f"c-{HARD}",
        f"l-{HARD}",
        date(2020, 2, 29),
        None,
        None,
        True,
        None,
        HARD,
        datetime(2021, 1, 2, 3, 4, 5, tzinfo=UTC),
        None,
    ),
    Enrollment("plain", "course", "learner", should_lock_after_due_date=False),
]


def test_the_same_arguments_give_the_same_account() -> None:
    assert list(Account(30, 8, 400, seed=3).enrollments()) == TRUTH
    assert list(Account(30, 8, 400, seed=4).enrollments()) != TRUTH


def test_every_enrollment_has_its_own_id_and_known_sides() -> None:
    assert len({row.enrollment_id for row in TRUTH}) == len(TRUTH) == len(SMALL)
    assert {row.learner_id for row in TRUTH} <= set(SMALL.learner_ids)
    assert {row.course_id for row in TRUTH} <= set(SMALL.course_ids)


def test_the_data_is_skewed_as_in_a_real_account() -> None:
    account = Account(learners=2000, courses=100, enrollments=20_000)
    rows = list(account.enrollments())
    by_course = Counter(row.course_id for row in rows)
    assert by_course.most_common(1)[0][1] > 4 * len(rows) / 100
    assert len({row.learner_id for row in rows}) < 2000
    assert len({(row.learner_id, row.course_id) for row in rows}) < len(rows)
    for column in ("due_date", "enrollment_type_group", "issued_certificate_id"):
        missing = sum(getattr(row, column) is None for row in rows)
        assert 0.1 < missing / len(rows) < 0.9
    for row in rows:
        expires = row.due_date is not None and row.should_lock_after_due_date
        assert (row.expiration_date is not None) == expires


def _some(ids: list[str]) -> st.SearchStrategy[list[str] | None]:
    return st.none() | st.lists(st.sampled_from([*ids, "unknown"]), max_size=20)


@given(_some(list(SMALL.learner_ids)), _some(list(SMALL.course_ids)))
def test_select_is_the_intersection_of_both_filters(
    learners: list[str] | None, courses: list[str] | None
) -> None:
    expected = [
        index
        for index, row in enumerate(TRUTH)
        if (learners is None or row.learner_id in learners)
        and (courses is None or row.course_id in courses)
    ]
    assert list(SMALL.select(learners, courses)) == expected


def test_an_account_of_given_rows_keeps_them_as_they_are() -> None:
    account = Account.of(HARD_ROWS, learner_ids=["nobody"], course_ids=["empty", "course"])
    assert list(account.enrollments()) == HARD_ROWS
    assert list(account.learner_ids) == ["nobody", HARD_ROWS[0].learner_id, "learner"]
    assert list(account.course_ids) == ["empty", "course", HARD_ROWS[0].course_id]
    assert list(account.select(["nobody"], None)) == []


@pytest.mark.parametrize("bad", ["nul\0", "escape\x1b", "\ud800", "\uffff"])
def test_an_id_that_xml_cannot_carry_is_refused(bad: str) -> None:
    with pytest.raises(UsageError, match="XML cannot carry"):
        Account.of([Enrollment(bad, "c", "l")])


@pytest.mark.parametrize("counts", [(-1, 1, 0), (0, 5, 1), (5, 0, 1)])
def test_an_impossible_account_is_refused(counts: tuple[int, int, int]) -> None:
    with pytest.raises(UsageError):
        Account(*counts)


def test_an_account_may_be_empty() -> None:
    assert list(Account(0, 0, 0).enrollments()) == []
    assert list(Account(3, 2, 0).select(None, None)) == []


DIALECTS = {
    "documented": Dialect(),
    "words": Dialect(booleans="words"),
    "prefixed": Dialect(prefix="ns1"),
    "flat and long": Dialect(certificate="flat", certificate_names="long"),
    "bare dates": Dialect(cert_dates="date"),
    "nil": Dialect(empty_elements="nil"),
    "empty": Dialect(empty_elements="empty"),
    "unknown elements": Dialect(unknown_elements=True),
    "shuffled": Dialect(element_order="shuffled"),
    "pretty": Dialect(pretty=True),
}


@pytest.mark.parametrize("dialect", DIALECTS.values(), ids=DIALECTS.keys())
def test_rows_of_every_dialect_read_back_as_the_truth(
    dialect: Dialect, read_rows: Callable[[str], list[Enrollment]]
) -> None:
    for account in (SMALL, Account.of(HARD_ROWS)):
        text = RecordRenderer(account, dialect).rows(range(len(account)))
        read = read_rows(f"<r xmlns:ns1='n' xmlns:xsi='x'>{text}</r>")
        assert read == [dialect.as_seen(row) for row in account.enrollments()]


@pytest.mark.parametrize("dialect", DIALECTS.values(), ids=DIALECTS.keys())
def test_the_fast_rendering_is_the_slow_one(dialect: Dialect) -> None:
    fast = RecordRenderer(SMALL, dialect).rows(range(len(SMALL)))
    if dialect.element_order == "documented":
        assert fast == "".join(render_record(row, dialect) for row in TRUTH)
    else:
        assert fast != "".join(render_record(row, Dialect()) for row in TRUTH)
