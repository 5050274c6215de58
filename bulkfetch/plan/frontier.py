"""What is still to be asked for, cut into batches as workers take them.

Batches run along the learners if they are given, else along the courses. With both given the other
side is carried whole while it has at most `other_side_cap` ids (a request of about 230 kB), and is
cut into that many at a time beyond: 100,000 learners × 50 courses are 1,000 calls at 100 learners
a call. Pieces of split batches go first, so that the ids around a bad one are not held up.

Explicit state, no I/O. The batches taken, the ones given back as pieces and what remains are always
an exact cover of what the frontier began with, less the excluded ids.
"""

from collections import deque
from collections.abc import Iterable

from bulkfetch.plan.rectangle import Axis, Rectangle, Side

OTHER_SIDE_CAP = 5_000


class Frontier:
    """The rectangles not yet taken.

    Args:
        rectangles: disjoint; what is to be asked for.
        batch_size: most ids of a batch along its axis, at least 1.
        other_side_cap: most ids along the other.
    """

    def __init__(
        self,
        rectangles: Iterable[Rectangle],
        *,
        batch_size: int,
        other_side_cap: int = OTHER_SIDE_CAP,
    ) -> None:
        self._whole = deque(rectangles)
        self._pieces: deque[Rectangle] = deque()
        self._batch_size = batch_size
        self._other_side_cap = other_side_cap
        self._position = 0  # along the first of `_whole`
        self._across = 0
        self._row_cap = other_side_cap  # of the row of batches that is begun
        self._excluded: dict[Axis, set[str]] = {Axis.LEARNERS: set(), Axis.COURSES: set()}
        self._trimmed: dict[int, tuple[Side, Side]] = {}

    @property
    def batch_size(self) -> int:
        """Most ids that the next batch has along its axis."""
        return self._batch_size

    def take(self) -> Rectangle | None:
        """Take the next batch; None when there is none left."""
        while (batch := self._next()) is not None:
            trimmed = self._trim(batch)
            if trimmed is not None:
                return trimmed
        return None

    def give_back(self, *pieces: Rectangle, go_first: bool = True) -> None:
        """Add the pieces of a batch that was taken, to go before everything that is whole.

        Args:
            pieces: of one batch, in the order wanted.
            go_first: before the pieces given back earlier, or after them.
        """
        if go_first:
            self._pieces.extendleft(reversed(pieces))
        else:
            self._pieces.extend(pieces)

    def shrink(self, largest: Rectangle) -> None:
        """Make later batches no larger than this one, on either side."""
        axis, other = _axes(largest)
        self._batch_size = min(self._batch_size, largest.width(axis))
        if largest.side(other) is not None:
            self._other_side_cap = min(self._other_side_cap, largest.width(other))

    def exclude(self, axis: Axis, ids: Iterable[str]) -> None:
        """Leave these ids out of every later batch."""
        self._excluded[axis].update(ids)
        self._trimmed.clear()

    def excludes_some_of(self, rectangle: Rectangle) -> bool:
        """Whether a batch, if given back, would be taken again without some of its ids."""
        return any(
            not excluded.isdisjoint(rectangle.side(axis) or ())
            for axis, excluded in self._excluded.items()
        )

    def remaining(self) -> list[Rectangle]:
        """Return disjoint rectangles that cover what was not taken, and take it."""
        rest = list(self._pieces)
        self._pieces.clear()
        if self._across or self._position:
            # The first one is begun: the rest of its row of batches, then the rows below it.
            first = self._whole.popleft()
            axis, other = _axes(first)
            along, across = first.side(axis), first.side(other)
            begun = first
            if across is not None:
                end = self._across + self._row_cap
                begun = begun.replace(other, across[self._across : end])
                below = across[end:]
                if below:
                    rest.append(first.replace(other, below))
            rest.append(begun.replace(axis, along and along[self._position :]))
            self._position = self._across = 0
        rest += self._whole
        self._whole.clear()
        return [trimmed for piece in rest if (trimmed := self._trim(piece)) is not None]

    def _next(self) -> Rectangle | None:
        if self._pieces:
            return self._pieces.popleft()
        if not self._whole:
            return None
        first = self._whole[0]
        axis, other = _axes(first)
        along, across = first.side(axis), first.side(other)
        if self._position == 0:
            self._row_cap = self._other_side_cap
        batch = first
        if across is not None and len(across) > self._row_cap:
            batch = batch.replace(other, across[self._across : self._across + self._row_cap])
        if along is not None:
            piece = along[self._position : self._position + self._batch_size]
            if len(piece) < len(along):
                batch = batch.replace(axis, piece)
            self._position += len(piece)
        if along is None or self._position >= len(along):
            self._position = 0
            self._across += self._row_cap
            if across is None or self._across >= len(across):
                self._across = 0
                self._whole.popleft()
        return batch

    def _trim(self, batch: Rectangle) -> Rectangle | None:
        for axis, excluded in self._excluded.items():
            side = batch.side(axis)
            if not excluded or side is None:
                continue
            # One trimmed copy of a side that many batches share; the side is kept with it so that
            # its identity stays its own.
            if id(side) not in self._trimmed:
                kept = tuple(unit for unit in side if unit not in excluded)
                self._trimmed[id(side)] = (side, kept)
            kept_side = self._trimmed[id(side)][1]
            if not kept_side:
                return None
            batch = batch.replace(axis, kept_side)
        return batch


def _axes(rectangle: Rectangle) -> tuple[Axis, Axis]:
    """Return the axis that batches run along, and the other."""
    if rectangle.learners is None:
        return Axis.COURSES, Axis.LEARNERS
    return Axis.LEARNERS, Axis.COURSES
