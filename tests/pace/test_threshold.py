"""What parts calls let in from those refused, held against counting all ways."""

from itertools import combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bulkfetch.pace.threshold import chance_of, find_threshold

outcomes = st.lists(st.tuples(st.integers(1, 6), st.booleans()), min_size=1, max_size=9)


@given(outcomes)
def test_no_threshold_puts_fewer_calls_wrongly(found: list[tuple[int, bool]]) -> None:
    most, missed = find_threshold(found)
    wrong = [sum((value > at) is not refused for value, refused in found) for at in range(7)]
    assert missed == min(wrong)
    if most:
        assert wrong[most] == missed


@given(outcomes, st.integers(0, 6))
def test_the_chance_is_the_share_of_all_ways_to_refuse_so_many(
    found: list[tuple[int, bool]], most: int
) -> None:
    values = [value for value, _ in found]
    refused = sum(is_refused for _, is_refused in found)
    above = sum(is_refused for value, is_refused in found if value > most)
    ways = [sum(value > most for value in each) for each in combinations(values, refused)]
    assert chance_of(found, most) == pytest.approx(sum(n >= above for n in ways) / len(ways))
