"""What is still to be asked for, cut into batches as workers take them.

What is whole is cut along an axis that the planner chooses, else along the learners if calls name
them. The other side is carried whole while it has at most `other_side_cap` ids (a request of about
230 kB), and is cut into that many at a time beyond: 100,000 learners × 50 courses are 1,000 calls
at 100 learners a call. Pieces of split batches go first, so that the ids around a bad one are not
held up.

Explicit state, no I/O. The batches taken, the ones given back as pieces and what remains are always
an exact cover of what was added to the frontier, less the excluded ids and what was withdrawn.
"""

import math
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass

from bulkfetch.plan.rectangle import Axis, Rectangle, Side

OTHER_SIDE_CAP = 5_000


@dataclass(frozen=True, slots=True)
class Cut:
    """A rectangle, and the axis that its batches run along."""

    rectangle: Rectangle
    axis: Axis


def default_cut(rectangle: Rectangle) -> Cut:
    """Cut along the learners if calls name them, else along the courses."""
    axis = Axis.COURSES if rectangle.named(Axis.LEARNERS) is None else Axis.LEARNERS
    return Cut(rectangle, axis)


class Frontier:
    """The rectangles not yet taken.

    Args:
        rectangles: disjoint; what is to be asked for, in default cuts.
        batch_size: most ids of a batch along its axis, at least 1.
        other_side_cap: most ids along the other.
    """

    def __init__(
        self,
        rectangles: Iterable[Rectangle] = (),
        *,
        batch_size: int,
        other_side_cap: int = OTHER_SIDE_CAP,
    ) -> None:
        self._whole = deque(default_cut(rectangle) for rectangle in rectangles)
        self._pieces: deque[Rectangle] = deque()
        self._batch_size = batch_size
        self._other_side_cap = other_side_cap
        self._caps: dict[Axis, float] = dict.fromkeys(Axis, math.inf)
        self._position = 0  # along the first of `_whole`
        self._across = 0
        self._row_cap = other_side_cap  # of the row of batches that is begun
        self._excluded: dict[Axis, set[str]] = {axis: set() for axis in Axis}
        self._trimmed: dict[int, tuple[Side, Side]] = {}

    @property
    def axis(self) -> Axis:
        """The axis that the next whole batch runs along."""
        return self._whole[0].axis if self._whole else Axis.LEARNERS

    @property
    def batch_size(self) -> int:
        """Most ids that the next batch has along its axis; set it to whatever pays."""
        return int(min(self._batch_size, self._caps[self.axis]))

    @batch_size.setter
    def batch_size(self, ids: int) -> None:
        self._batch_size = ids

    def most_of_batch(self, axis: Axis, along: Axis) -> int:
        """Return how many ids of a side a batch names at most that runs `along` an axis."""
        return int(min(self._batch_size, self._caps[axis])) if axis is along else self.cap(axis)

    def most_named(self, axis: Axis) -> float:
        """Return the ids of a side that a call may name, as far as is known; infinite if not."""
        return self._caps[axis]

    @property
    def ids_left(self) -> int:
        """How many ids along the axis are whole and not taken, in all rows of batches."""
        left = -self._position
        for cut in self._whole:
            across = cut.rectangle.named(cut.axis.other)
            rows = 1 if across is None else math.ceil(len(across) / self.cap(cut.axis.other))
            left += len(cut.rectangle.named(cut.axis) or ("",)) * rows
        if self._across:
            first = self._whole[0]
            rows = self._across // self._row_cap
            left -= len(first.rectangle.named(first.axis) or ("",)) * rows
        return max(0, left)

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to take, but for excluded ids."""
        return not self._pieces and not self._whole

    @property
    def has_pieces(self) -> bool:
        """Whether there are pieces of split batches to take, but for excluded ids."""
        return bool(self._pieces)

    @property
    def next_whole(self) -> Rectangle | None:
        """The rectangle that the next whole batch is cut from; None if there is none."""
        return self._whole[0].rectangle if self._whole else None

    def cap(self, axis: Axis) -> int:
        """Return how many ids of a side a batch names at most if it runs along the other axis."""
        return int(min(self._other_side_cap, self._caps[axis]))

    def take(self, *, whole_first: bool = False) -> Rectangle | None:
        """Take the next batch; None when there is none left.

        Pieces of split batches come before what is whole, unless `whole_first`.
        """
        while (batch := self._next(whole_first=whole_first)) is not None:
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

    def add(self, *cuts: Cut, go_first: bool = False) -> None:
        """Add what is whole, to be cut into batches: after what is there, or before."""
        if go_first:
            self._whole = deque([*cuts, *self._put_aside()])
        else:
            self._whole.extend(cuts)

    def withdraw(self) -> list[Rectangle]:
        """Return disjoint rectangles that cover what is whole and was not taken, and take it.

        Pieces stay. What is withdrawn is cut anew and added again.
        """
        cuts = self._put_aside()
        return [piece for cut in cuts if (piece := self._trim(cut.rectangle)) is not None]

    def shrink(self, axis: Axis, ids: int) -> None:
        """Name at most so many ids along this axis in later batches, whichever way they run."""
        self._caps[axis] = min(self._caps[axis], ids)
        if self._whole and self._whole[0].axis is axis.other and self._row_cap > self.cap(axis):
            # The row of batches that is begun is too high now: what is left of it is cut anew.
            self._whole = deque(self._put_aside())

    def exclude(self, axis: Axis, ids: Iterable[str]) -> None:
        """Name these ids in no later batch."""
        self._excluded[axis].update(ids)
        self._trimmed.clear()

    def excludes_some_of(self, rectangle: Rectangle) -> bool:
        """Whether a batch, if given back, would be taken again without some of its ids."""
        return any(
            not excluded.isdisjoint(rectangle.named(axis) or ())
            for axis, excluded in self._excluded.items()
        )

    def remaining(self) -> list[Rectangle]:
        """Return disjoint rectangles that cover what was not taken, and take it."""
        pieces, self._pieces = self._pieces, deque()
        trimmed = [self._trim(piece) for piece in pieces]
        return [piece for piece in trimmed if piece is not None] + self.withdraw()

    def _put_aside(self) -> list[Cut]:
        """Take what is whole, the one that is begun as what is left of it."""
        rest: list[Cut] = []
        if self._across or self._position:
            # The rest of its row of batches, then the rows below it.
            first = self._whole.popleft()
            axis, other, begun = first.axis, first.axis.other, first.rectangle
            along, across = begun.named(axis), begun.named(other)
            if across is not None:
                end = self._across + self._row_cap
                below = across[end:]
                if below:
                    rest.append(Cut(begun.replace(other, below), axis))
                begun = begun.replace(other, across[self._across : end])
            if along is not None:
                begun = begun.replace(axis, along[self._position :])
            rest.insert(0, Cut(begun, axis))
            self._position = self._across = 0
        rest += self._whole
        self._whole.clear()
        return rest

    def _next(self, *, whole_first: bool) -> Rectangle | None:
        if self._pieces and not (whole_first and self._whole):
            return self._pieces.popleft()
        if not self._whole:
            return None
        batch, axis = self._whole[0].rectangle, self._whole[0].axis
        other = axis.other
        along, across = batch.named(axis), batch.named(other)
        if self._position == 0:
            self._row_cap = self.cap(other)
        if across is not None and len(across) > self._row_cap:
            batch = batch.replace(other, across[self._across : self._across + self._row_cap])
        if along is not None:
            piece = along[self._position : self._position + self.batch_size]
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
            side = batch.named(axis)
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
