"""Whether id lists cover another one, told in memory that does not grow with them. Pure."""

import heapq
import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence


def is_covered(
    wanted: Iterable[str], lists: Sequence[tuple[str, Callable[[], Iterable[str]]]]
) -> bool:
    """Whether every id wanted is in one of some lists.

    Args:
        wanted: ids, sorted.
        lists: of each, its first id and what reads it, sorted; none is read before its first id
            is reached. Lists that follow one another, as the batches of an export do, are held
            one at a time.
    """
    found = heapq.merge(*itertools.starmap(_lazily, lists))
    for unit in wanted:
        for other in found:
            if other >= unit:
                break
        else:
            return False
        if other != unit:
            return False
    return True


def _lazily(first: str, read: Callable[[], Iterable[str]]) -> Iterator[str]:
    yield first
    yield from itertools.islice(read(), 1, None)
