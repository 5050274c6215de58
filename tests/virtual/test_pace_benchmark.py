from collections.abc import Iterable, Sequence
from typing import Any

import pytest
from pace.cases import Case, Size, all_cases
from pace.command import geometric_mean, ratio
from pace.measuring import Figures, measure, seconds_over_limit
from pace.oracle import Pair, recall, search

from bulkfetch import Options
from bulkfetch.simulator import Call, parse_profile

SIZE = Size(240, 6, 1_200)


def case(size: Size = SIZE, **sections: Any) -> Case:
    document = {"latency": {"base_ms": 300, "per_row_us": 2000}, "dialect": {"gzip": False}}
    return Case("small", parse_profile({**document, **sections}), size)


def test_the_figures_repeat_themselves() -> None:
    jittery = case(latency={"base_ms": 200, "jitter_ms": 300}, faults={"http_503": 0.1})
    first = measure(jittery, Options())
    assert first == measure(jittery, Options())
    assert first.rows_wanted == 1_200
    assert first.rows_missing == 0
    assert first.calls > 0


def test_rows_of_poisoned_learners_are_not_wanted() -> None:
    account = case().account()
    index = account.learner_of[0]
    figures = measure(case(permanent={"poison_learners": [account.learner_ids[index]]}), Options())
    assert figures.rows_wanted == 1_200 - account.learner_of.count(index)
    assert figures.rows_missing == 0


def test_listed_pairs_alone_are_wanted() -> None:
    figures = measure(case(Size(240, 6, 1_200, pairs=60)), Options())
    assert 30 <= figures.rows_wanted < 200
    assert figures.rows_missing == 0


def test_a_service_that_is_never_there_leaves_all_rows_missing() -> None:
    out = [{"from_s": 0, "to_s": 9e9, "outage": True}]
    figures = measure(case(schedule=out), Options())
    assert figures.rows_missing == figures.rows_wanted == 1_200


def call(started_s: float, finished_s: float) -> Call:
    return Call(0, started_s, finished_s=finished_s)


def test_time_over_the_limit_is_that_with_too_many_in_flight_or_in_a_second() -> None:
    calls = [call(0, 10), call(2, 6), call(3, 5)]
    for limits, expected in (
        ({"capacity": {"slots": 1}}, 4),
        ({"capacity": {"slots": 2}}, 2),
        ({"limits": {"max_in_flight": {"at": 2, "past": "429"}}}, 2),
        ({"limits": {"max_calls_per_s": {"at": 1, "past": "429"}}}, 0),
        ({}, 0),
    ):
        assert seconds_over_limit(parse_profile(limits), calls) == pytest.approx(expected)
    halved = {
        "capacity": {"slots": 4},
        "schedule": [{"from_s": 4, "to_s": 9, "capacity_factor": 0.25}],
    }
    assert seconds_over_limit(parse_profile(halved), calls) == pytest.approx(2)
    burst = [call(0, 0.1), call(0.2, 0.3), call(5, 5.1)]
    rate = parse_profile({"limits": {"max_calls_per_s": {"at": 1, "past": "429"}}})
    assert seconds_over_limit(rate, burst) == pytest.approx(0.8)


def test_the_search_finds_what_hardly_any_pair_beats() -> None:
    service = case(capacity={"slots": 3}, limits={"max_ids": {"at": 50, "past": "413"}})

    def run(pair: Pair) -> Figures:
        return measure(service, Options(batch_size=pair.batch_size, workers=pair.workers))

    def measure_all(pairs: Sequence[Pair | None], _limit_s: float) -> Iterable[Figures]:
        return [run(pair) for pair in pairs if pair is not None]

    found = search(service, measure_all)
    assert found is not None
    best_s = run(found).makespan_s
    for batch_size in (10, 20, 40, 50, 80, 240):
        for workers in (1, 2, 3, 4, 8):
            assert best_s <= run(Pair(batch_size, workers)).makespan_s * 1.1


def test_there_is_a_case_for_each_kind_of_service_and_their_keys_differ() -> None:
    cases = all_cases()
    assert len({one.key for one in cases}) == len(cases) >= 15


def test_the_pair_of_each_case_is_known_so_that_none_is_searched_for_anew() -> None:
    assert [case.name for case in all_cases() if recall(case) is None] == []


def test_an_incomplete_run_is_infinitely_worse() -> None:
    good = Figures(10.0, 5, 100, 100, 0, 2, 0.0, 0.0)
    bad = Figures(1.0, 1, 10, 100, 90, 2, 0.0, 0.0)
    assert ratio(good, good, "makespan_s") == 1
    assert ratio(bad, good, "makespan_s") == ratio(None, good, "calls") == float("inf")
    assert ratio(good, bad, "makespan_s") is None
    assert geometric_mean([2.0, None, 8.0]) == pytest.approx(4)


LIMITS_UNDER_ANY_NAME = {
    "ids, 429": {"max_ids": {"at": 60, "past": "429", "retry_after_s": 1}},
    "ids, 503": {"max_ids": {"at": 60, "past": "503"}},
    "rows, 413": {"max_rows": {"at": 400, "past": "413"}},
    "rows, 503": {"max_rows": {"at": 400, "past": "503"}},
    "rows, 504": {"max_rows": {"at": 400, "past": "504", "timeout_s": 20}},
}


@pytest.mark.parametrize("limits", LIMITS_UNDER_ANY_NAME.values(), ids=LIMITS_UNDER_ANY_NAME)
def test_a_limit_on_size_is_found_whatever_the_service_calls_it(limits: dict[str, Any]) -> None:
    service = case(Size(6_000, 20, 30_000), capacity={"slots": 8}, limits=limits)
    figures = measure(service, Options())
    assert figures.rows_missing == 0
    assert figures.calls < 450
    assert figures.makespan_s < 120


def test_a_plan_that_the_rate_makes_dear_is_left_for_one_of_fewer_calls() -> None:
    """The service takes 200 ids: 750 calls along the learners, where 3 courses are 3 calls."""
    service = case(
        Size(150_000, 3, 15_000),
        latency={"base_ms": 300, "per_row_us": 200},
        limits={"max_ids": {"at": 200, "past": "413"}},
    )
    figures = measure(service, Options(rate=10))
    assert figures.rows_missing == 0
    assert figures.makespan_s < 45  # 78 to the end along the learners
    assert figures.rows_sent < 1.3 * 15_000


def test_a_call_that_may_take_longer_than_all_the_rest_is_not_made_to_learn_from() -> None:
    """A whole course, its learners not named, has 300,000 rows, of a millisecond each."""
    (service,) = (each for each in all_cases() if each.name == "1M learners × 3")
    figures = measure(service, Options())
    assert figures.rows_missing == 0
    assert figures.makespan_s < 90  # 370 where it was made
