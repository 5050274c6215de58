"""Cover listed pairs with few rectangles.

The learners that want the same courses are a rectangle already. Rectangles that are alike are put
into one call as long as the rows that this answers besides cost less than the call that it saves.
Which ones are alike: with the courses of each in order of their popularity, rectangles are sorted
by these lists, so that those with the popular courses in common stand together; then neighbours are
merged, the best gain first. No learner is in two calls, so no pair is asked for twice.

The same along the courses, with learners and courses changed over.
"""

import heapq
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from bulkfetch.plan.rectangle import Axis, Rectangle


@dataclass(frozen=True, slots=True)
class Prices:
    """What things cost, in calls.

    Attributes:
        surplus_pair: a pair that is asked for and not wanted.
        named_id: an id that a call names.
    """

    surplus_pair: float
    named_id: float


def cover(
    rectangles: Sequence[Rectangle], axis: Axis, *, most_ids: int, most_others: int, prices: Prices
) -> list[Rectangle]:
    """Merge rectangles that share no id along an axis until that pays no more.

    Args:
        rectangles: what is wanted; both sides have ids.
        axis: the one that calls run along.
        most_ids: ids of a call along it.
        most_others: ids of a call along the other.
        prices: what surplus and long requests cost.

    Returns:
        Rectangles that cover all of these and share no id along the axis. Those with more than
        `most_ids` or `most_others` ids are left as they were.
    """
    other = axis.other
    popularity: Counter[str] = Counter()
    for each in rectangles:
        for unit in each.side(other) or ():
            popularity[unit] += each.width(axis)
    rank = {unit: at for at, (unit, _) in enumerate(popularity.most_common())}

    def order(rectangle: Rectangle) -> list[int]:
        return sorted(rank[unit] for unit in rectangle.side(other) or ())

    too_big = [each for each in rectangles if each.width(axis) >= most_ids]
    small = [each for each in rectangles if each.width(axis) < most_ids]
    chain = _Chain(sorted(small, key=order), axis, most_ids, most_others, prices)
    return too_big + chain.merge()


class _Chain:
    """Small rectangles in a row, each of which may be merged with the one after it."""

    def __init__(
        self,
        rectangles: list[Rectangle],
        axis: Axis,
        most_ids: int,
        most_others: int,
        prices: Prices,
    ) -> None:
        self._axis = axis
        self._most = (most_ids, most_others)
        self._prices = prices
        self._ids = [list(each.side(axis) or ()) for each in rectangles]
        self._others = [frozenset(each.side(axis.other) or ()) for each in rectangles]
        self._wanted = [each.pairs for each in rectangles]
        self._after = [*range(1, len(rectangles)), -1]
        self._before = list(range(-1, len(rectangles) - 1))
        self._version = [0] * len(rectangles)
        self._heap: list[tuple[float, int, int, int, int]] = []

    def merge(self) -> list[Rectangle]:
        """Merge, the best gain first, until none is left."""
        for number in range(len(self._ids)):
            self._offer(number)
        while self._heap:
            _, one, version, after, its_version = heapq.heappop(self._heap)
            if (version, its_version) != (self._version[one], self._version[after]):
                continue  # one of the two has been merged since
            self._ids[one] += self._ids[after]
            self._others[one] |= self._others[after]
            self._wanted[one] += self._wanted[after]
            self._ids[after] = []
            self._version[one] += 1
            self._version[after] = -1
            following = self._after[one] = self._after[after]
            if following >= 0:
                self._before[following] = one
            self._offer(one)
            if self._before[one] >= 0:
                self._offer(self._before[one])
        along = (tuple(sorted(ids)) for ids in self._ids)
        across = (tuple(sorted(others)) for others in self._others)
        return [
            Rectangle(ids, others) if self._axis is Axis.LEARNERS else Rectangle(others, ids)
            for ids, others in zip(along, across, strict=True)
            if ids
        ]

    def _offer(self, one: int) -> None:
        """Put the merger of a rectangle with the one after it on the heap if it pays."""
        after = self._after[one]
        if after < 0:
            return
        ids = len(self._ids[one]) + len(self._ids[after])
        others = self._others[one] | self._others[after]
        if ids > self._most[0] or len(others) > self._most[1]:
            return
        merged = self._cost(ids, len(others), self._wanted[one] + self._wanted[after])
        apart = sum(
            self._cost(len(self._ids[each]), len(self._others[each]), self._wanted[each])
            for each in (one, after)
        )
        if merged < apart:
            entry = (merged - apart, one, self._version[one], after, self._version[after])
            heapq.heappush(self._heap, entry)

    def _cost(self, ids: int, others: int, wanted: int) -> float:
        """Return what one call costs, in calls."""
        surplus = ids * others - wanted
        return 1 + surplus * self._prices.surplus_pair + (ids + others) * self._prices.named_id
