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
