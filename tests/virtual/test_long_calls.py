"""Where each call takes seconds whatever it asks for, in virtual time."""

from pace.cases import Case, Size
from pace.measuring import fetch

from bulkfetch import Options
from bulkfetch.simulator import parse_profile

SERVICE = parse_profile(
    {
        "latency": {"base_ms": 4000, "jitter_ms": 500, "per_row_us": 20},
        "capacity": {"slots": 32},
        "dialect": {"gzip": False},
    }
)


def test_few_round_trips_are_enough() -> None:
    taken, seeds = 0.0, (1, 2, 3)
    for seed in seeds:
        case = Case("long calls", SERVICE, Size(100_000, 300, 1_000_000), seed)
        seconds, _, handed_on = fetch(case, Options(), over_http=False)
        assert all(handed_on)
        taken += seconds
    assert taken / len(seeds) < 30
