"""Where each call takes seconds whatever it asks for, in virtual time."""

from pace.cases import Case, Size
from pace.measuring import fetch

from bulkfetch import Options
from bulkfetch.simulator import Profile, parse_profile


def service(base_ms: int, jitter_ms: int, per_row_us: int, slots: int) -> Profile:
    return parse_profile(
        {
            "latency": {"base_ms": base_ms, "jitter_ms": jitter_ms, "per_row_us": per_row_us},
            "capacity": {"slots": slots},
            "dialect": {"gzip": False},
        }
    )


def test_few_round_trips_are_enough() -> None:
    taken, seeds = 0.0, (1, 2, 3)
    for seed in seeds:
        case = Case(
            "long calls", service(4000, 500, 20, slots=32), Size(100_000, 300, 1_000_000), seed
        )
        seconds, _, handed_on = fetch(case, Options(), over_http=False)
        assert all(handed_on)
        taken += seconds
    assert taken / len(seeds) < 30


def test_a_call_that_takes_longer_than_its_target_whatever_it_asks_for_asks_for_many() -> None:
    case = Case(
        "very long calls", service(25_000, 2000, 1000, slots=16), Size(20_000, 100, 200_000)
    )
    _, simulator, handed_on = fetch(case, Options(), over_http=False)
    assert all(handed_on)
    asked_for = sorted(len(call.learner_ids or ()) for call in simulator.ledger.calls)
    assert asked_for[len(asked_for) // 2] >= 100
    assert len(asked_for) < 120
