"""What the checks for silent caps cost a service."""

from pace.cases import Case, Size
from pace.measuring import measure

from bulkfetch import Options
from bulkfetch.simulator import parse_profile


def test_a_check_asks_for_few_rows_besides() -> None:
    slow = {"latency": {"base_ms": 300, "per_row_us": 2000}, "dialect": {"gzip": False}}
    figures = measure(Case("wide", parse_profile(slow), Size(50, 1_000, 25_000)), Options())
    assert figures.rows_missing == 0
    assert figures.rows_sent < 1.4 * figures.rows_wanted


def test_a_check_that_takes_ten_times_as_long_holds_up_nothing_else() -> None:
    tail = {"base_ms": 250, "jitter_ms": 62, "per_row_us": 200, "tail_share": 0.05}
    profile = parse_profile(
        {
            "latency": {**tail, "tail_factor": 10},
            "capacity": {"slots": 24},
            "dialect": {"gzip": False},
        }
    )
    cases = [Case("tail", profile, Size(), seed) for seed in (1, 2)]
    assert sum(measure(case, Options()).makespan_s for case in cases) / len(cases) < 28
