"""A few of the seeds of `python -m benchmarks.chaos`, and that what it looks for would be found."""

from collections.abc import Callable

import pytest
from chaos.check import Outcome, check, judge
from chaos.scenario import Scenario, make_scenario

from bulkfetch.errors import BulkfetchError, CredentialsError, FailedIds, IncompleteError
from bulkfetch.record import Enrollment
from bulkfetch.simulator import Simulator

Row = tuple[str, Enrollment | None]

FOUND_A_BUG = (44, 45, 50, 56, 130, 268, 305, 426)


@pytest.mark.timeout(300)  # seed 45 takes a minute of CPU; what hangs is found at once
@pytest.mark.parametrize("seed", [*range(36), *FOUND_A_BUG])
def test_nothing_is_lost_twice_foreign_altered_or_hanging(seed: int) -> None:
    problems, outcomes = check(seed)
    assert not problems
    assert all(outcome.calls for outcome in outcomes)


@pytest.fixture(scope="module")
def scenario() -> Scenario:
    """Return one that heals, is iterated, has rows, and poisons nobody."""
    for seed in range(1000):
        found = make_scenario(seed)
        permanent = found.profile.permanent
        poisons = permanent.poison_learners or permanent.poison_courses
        asks_all = found.learner_ids is None and found.course_ids is None
        if found.heals and not found.exports and not poisons and asks_all and len(found.account):
            return found
    raise LookupError


def true_rows(scenario: Scenario) -> list[Row]:
    seen = map(scenario.profile.dialect.as_seen, scenario.account.enrollments())
    return [(row.enrollment_id, row) for row in seen]


def judged(scenario: Scenario, rows: list[Row], error: BulkfetchError | None = None) -> list[str]:
    simulator = Simulator(scenario.account, scenario.profile, seed=scenario.seed)
    return list(judge(scenario, simulator, Outcome(rows=rows), error))


def test_the_truth_passes(scenario: Scenario) -> None:
    assert judged(scenario, true_rows(scenario)) == []


def altered(rows: list[Row]) -> list[Row]:
    row = rows[0][1]
    assert row is not None
    return [(rows[0][0], row._replace(learner_id="somebody else")), *rows[1:]]


@pytest.mark.parametrize(
    ("spoil", "problem"),
    [
        (lambda rows: rows[1:], "lost without a word"),
        (lambda rows: [*rows, rows[0]], "more than once"),
        (lambda rows: [*rows, ("made up", None)], "foreign"),
        (altered, "altered"),
    ],
    ids=["lost", "twice", "foreign", "altered"],
)
def test_what_is_wrong_with_rows_is_found(
    scenario: Scenario, spoil: Callable[[list[Row]], list[Row]], problem: str
) -> None:
    assert any(problem in found for found in judged(scenario, spoil(true_rows(scenario))))


def test_giving_up_where_patience_helps_is_found(scenario: Scenario) -> None:
    rows = true_rows(scenario)
    missing = rows[0][1]
    assert missing is not None
    named = IncompleteError((), [FailedIds((missing.learner_id,), None, "gave up", 6)])
    assert any("healthy rows missing" in found for found in judged(scenario, rows[1:], named))
    other = IncompleteError((), [FailedIds(("somebody else",), None, "gave up", 6)])
    assert any("does not name" in found for found in judged(scenario, rows[1:], other))
    assert any("failed: " in found for found in judged(scenario, rows, CredentialsError("no")))
