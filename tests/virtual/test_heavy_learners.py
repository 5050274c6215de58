"""A few learners have far more enrollments than the service puts into one answer."""

from datetime import date
from random import Random

import pytest
from pace.cases import Case, Size
from pace.measuring import measure

from bulkfetch import Enrollment, Options
from bulkfetch.inputs import make_region
from bulkfetch.plan.region import Region
from bulkfetch.simulator import Account, parse_profile

LEARNERS, COURSES, USUAL, EVERY = 5_000, 300, 8, 100


def make_account() -> Account:
    """One learner of a hundred has all the courses."""
    random = Random(1)
    courses = [f"c{n:03}" for n in range(COURSES)]
    rows: list[Enrollment] = []
    for n in range(LEARNERS):
        for course in random.sample(courses, COURSES if n % EVERY == 50 else USUAL):
            rows.append(Enrollment(f"e{len(rows)}", course, f"l{n:04}", date(2024, 1, 1)))
    return Account.of(rows)


class HeavyCase(Case):
    """Asks for all of an account that no seed gives."""

    def account(self) -> Account:
        return ACCOUNT

    def region(self) -> Region:
        return make_region(ACCOUNT.learner_ids, ACCOUNT.course_ids)


ACCOUNT = make_account()


@pytest.mark.parametrize(
    ("options", "most"), [(Options(), 1_000), (Options(batch_size=20, workers=8), 2_600)]
)
def test_those_alone_are_asked_for_in_parts(options: Options, most: int) -> None:
    """Others' batches stay as large: 6,400 calls, where each refusal made all later ones smaller.

    With a pinned size of 20, of which 10 remain: 500 batches, and for each of 50 heavy learners
    two calls for each of six halvings and 30 for the courses, ten at a time.
    """
    service = {
        "latency": {"base_ms": 100, "per_row_us": 500},
        "limits": {"max_rows": {"at": 200, "past": "413"}},
        "dialect": {"gzip": False},
    }
    size = Size(LEARNERS, COURSES, len(ACCOUNT))
    figures = measure(HeavyCase("heavy", parse_profile(service), size), options)
    assert figures.rows_missing == 0
    assert figures.calls < most
