"""Whether a number tells which calls are refused: the value that parts them, and the odds of that.

Pure functions of outcomes: the value that each call was noted with, and whether it was refused.
"""

from collections.abc import Sequence
from math import comb

Outcome = tuple[int, bool]


def find_threshold(outcomes: Sequence[Outcome]) -> tuple[int, int]:
    """Return the largest value that is not refused, and how many calls that puts wrongly.

    The value is 0 if calls are refused whatever theirs is, or none is.
    """
    admitted, refused = 0, 0
    by_value = sorted(outcomes, key=lambda outcome: outcome[0])
    all_admitted = sum(not is_refused for _, is_refused in outcomes)
    best = (0, all_admitted)
    for position, (value, is_refused) in enumerate(by_value):
        refused += is_refused
        admitted += not is_refused
        is_last = position + 1 == len(by_value) or by_value[position + 1][0] != value
        missed = refused + all_admitted - admitted
        if is_last and missed <= best[1]:
            best = (value, missed)
    above = [value for value, is_refused in by_value if is_refused and value > best[0]]
    return (min(above) - 1 if above else 0), best[1]


def chance_of(outcomes: Sequence[Outcome], most: int) -> float:
    """Return how likely at least so many of the refused calls are above a value by chance.

    That is, if any of the calls was as likely to be refused as any other (hypergeometric).
    """
    calls, refused = len(outcomes), sum(is_refused for _, is_refused in outcomes)
    above = [is_refused for value, is_refused in outcomes if value > most]
    ways = sum(
        comb(len(above), hits) * comb(calls - len(above), refused - hits)
        for hits in range(sum(above), min(refused, len(above)) + 1)
    )
    return ways / comb(calls, refused)
