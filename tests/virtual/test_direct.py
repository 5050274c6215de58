"""The door without HTTP gives the calls and the times of the real one."""

from typing import Any

import pytest
from pace.cases import Case, Size
from pace.measuring import fetch

from bulkfetch import Options
from bulkfetch.simulator import Simulator, parse_profile

SERVICE: dict[str, Any] = {
    "latency": {"base_ms": 100, "per_row_us": 100},
    "capacity": {"slots": 16},
    "dialect": {"gzip": False},
}
FAULTS = {
    **dict.fromkeys(("cut_body", "cut_gzip", "duplicate_rows", "foreign_row", "html_200"), 0.03),
    **dict.fromkeys(("empty_200", "malformed_xml", "reset", "server_fault", "slow_drip"), 0.03),
    **dict.fromkeys(("http_413", "http_429", "http_503", "http_504", "unreadable_value"), 0.03),
    "max_per_call_key": 1,
    "retry_after": "3",
    "drip_bytes_per_s": 5000,
}
EXACT: dict[str, dict[str, Any]] = {
    "healthy": {},
    "thin pipe": {"capacity": {"bandwidth_bytes_per_s": 100_000}},
    "connections grow old": {"latency": {"base_ms": 100, "per_row_us": 100_000}},
}
# An opening connection can change the order of requests of one instant, and so whom chance strikes
# and who is let in.
CLOSE: dict[str, dict[str, Any]] = {
    "short tokens": {"token": {"calls": 7}},
    "poison": {"permanent": {"poison_learners": 0.01}},
    "silent cap": {"limits": {"max_rows": {"at": 150, "past": "silent-cap"}}},
    "faulty": {"faults": FAULTS},
    "outage": {"schedule": [{"from_s": 1, "to_s": 9, "outage": True}]},
    "brown-out": {"schedule": [{"from_s": 0.3, "to_s": 3, "error_rate": 0.5}]},
    "heavy tail": {"latency": {"base_ms": 100, "tail_share": 0.1, "tail_factor": 20}},
    "few in flight": {"limits": {"max_in_flight": {"at": 4, "past": "429", "retry_after_s": 1}}},
    "few a second": {"limits": {"max_calls_per_s": {"at": 10, "past": "429"}}},
    "few ids": {"limits": {"max_ids": {"at": 15, "past": "413"}}},
    "few rows": {"limits": {"max_rows": {"at": 150, "past": "504", "timeout_s": 30}}},
    "small requests": {"limits": {"max_request_bytes": {"at": 1800, "past": "413"}}},
}
SEEDS = range(1, 6)  # one alone differs by whom chance strikes


def through_both(
    name: str, changes: dict[str, Any], seed: int = 1
) -> tuple[Simulator, Simulator, float, float]:
    case = Case(name, parse_profile({**SERVICE, **changes}), Size(600, 12, 6_000), seed)
    options = Options(batch_size=20, workers=8)
    direct_s, direct, got_directly = fetch(case, options, over_http=False)
    http_s, http, got_over_http = fetch(case, options, over_http=True)
    assert got_directly == got_over_http
    return direct, http, direct_s, http_s


def trace(simulator: Simulator) -> list[tuple[object, ...]]:
    """Every call for enrollments, with its times to the microsecond."""
    calls = []
    for call in simulator.ledger.calls:
        if call.operation != "token":
            assert call.finished_s is not None
            times = (round(call.started_s, 6), round(call.finished_s, 6))
            asked = (call.learner_ids or (), call.course_ids or (), call.token_generation or -1)
            answered = (call.status, str(call.fault), str(call.soap_fault), call.whole)
            calls.append((times, asked, answered, len(call.rows), call.body_bytes))
    return sorted(calls)


@pytest.mark.parametrize("name", EXACT)
def test_both_doors_have_the_same_trace(name: str) -> None:
    direct, http, direct_s, http_s = through_both(name, EXACT[name])
    assert trace(direct) == trace(http)
    assert direct_s == pytest.approx(http_s)


@pytest.mark.parametrize("name", CLOSE)
def test_where_chance_decides_both_doors_agree_closely(name: str) -> None:
    runs = [through_both(name, CLOSE[name], seed) for seed in SEEDS]
    directly = sum(len(direct.ledger.calls) for direct, *_ in runs)
    over_http = sum(len(http.ledger.calls) for _, http, *_ in runs)
    assert directly == pytest.approx(over_http, rel=0.15)
    mean_s = sum(seconds for _, _, seconds, _ in runs) / len(runs)
    mean_http_s = sum(seconds for *_, seconds in runs) / len(runs)
    assert mean_s == pytest.approx(mean_http_s, abs=Options().retry.cap_s)  # of the last backoff


@pytest.mark.parametrize("bytes_per_s", [None, 30_000], ids=["at work", "on the line"])
def test_an_outage_breaks_the_calls_that_are_being_served(bytes_per_s: int | None) -> None:
    outage = {"from_s": 1.05, "to_s": 9, "outage": True}
    capacity = {"slots": 4} if bytes_per_s is None else {"bandwidth_bytes_per_s": bytes_per_s}
    changes = {"schedule": [outage], "capacity": capacity}
    direct, http, *_ = through_both("outage", changes)
    for simulator in (direct, http):
        calls = [call for call in simulator.ledger.calls if call.operation != "token"]
        broken = [call for call in calls if call.started_s < 1.05 and not call.whole]
        assert len(broken) >= 4
        assert {call.fault for call in broken} == {"outage"}
        assert all(call.finished_s == pytest.approx(1.05, abs=0.002) for call in broken)
        assert any(call.body_bytes for call in broken) == (bytes_per_s is not None)
        assert all(call.whole for call in calls if call.started_s > 9)
