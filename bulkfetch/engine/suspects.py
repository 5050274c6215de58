"""Bisection: which half to ask for next, and which id is at fault when none is left.

The service rejects a whole call for one id, and does not say which. With two lists in play the
fault may lie in either. A success clears every id that it named, and then only the side that is
not clear is halved; while neither is clear, a side is halved until both halves are rejected, which
is the other side's doing, most likely. The halves of a batch are asked for before their own halves
(see `Frontier.give_back`): the healthy half of the learners clears the courses.

An answer can also be spoilt by a single pair, whose learner and course are both sound. So an id
that stands alone is named only if two disjoint parts of the other side are rejected with it; if
one of them succeeds the search goes on to the pair. (Two spoilt pairs of one id, one in each part,
pass for the id: it is then named with more than it is to blame for, never with less.)

A learner at fault among n costs at most 2·log2 n + 8 calls beyond the first, a course as many.

Pure: told what succeeded, asked what to do.
"""

from dataclasses import dataclass

from bulkfetch.plan.rectangle import Axis, Rectangle, Side, split


@dataclass(frozen=True, slots=True)
class Halves:
    """Ask for these two instead."""

    pieces: tuple[Rectangle, Rectangle]


@dataclass(frozen=True, slots=True)
class Culprit:
    """The ids at fault stand alone: `rectangle` cannot be fetched.

    `axis` is the side whose id is at fault, None if that cannot be told (or the call has no ids).
    """

    rectangle: Rectangle
    axis: Axis | None


@dataclass(slots=True)
class _Cut:
    """Where a rectangle was halved, and how many of the halves were rejected."""

    axis: Axis
    rejected: int = 0


class Suspects:
    """What is known of the ids: those in a call that succeeded are clear."""

    def __init__(self) -> None:
        self._clear: dict[Axis, set[str]] = {Axis.LEARNERS: set(), Axis.COURSES: set()}
        self._clear_sides: dict[int, Side] = {}
        self._cuts: dict[Rectangle, _Cut] = {}

    def clear(self, rectangle: Rectangle) -> None:
        """Note that a call for this rectangle succeeded."""
        self._cuts.pop(rectangle, None)
        for axis in Axis:
            side = rectangle.side(axis)
            if side is not None and id(side) not in self._clear_sides:
                self._clear[axis].update(side)
                if axis is Axis.COURSES:
                    self._clear_sides[id(side)] = side  # shared by many batches: noted once

    def accuse(self, rectangle: Rectangle) -> Halves | Culprit:
        """Say what to do about a rectangle whose content is rejected."""
        cut = self._cuts.pop(rectangle, None)
        if cut is not None:
            cut.rejected += 1
        suspected = [axis for axis in Axis if self._is_suspect(rectangle, axis)]
        divisible = [axis for axis in suspected or Axis if rectangle.width(axis) > 1]
        if len(suspected) == 1 and not divisible:
            (axis,) = suspected
            other = Axis.COURSES if axis is Axis.LEARNERS else Axis.LEARNERS
            is_cut = cut is not None and cut.axis is other
            if is_cut and cut.rejected == _BOTH:
                return Culprit(rectangle, axis)
            if rectangle.width(other) == 1:
                return Culprit(rectangle, None if is_cut else axis)
            divisible = [other]
        if not divisible:
            return Culprit(rectangle, None)
        axis = divisible[0]
        if cut is not None and cut.axis in divisible:
            # The other axis, if there is one to halve, once both halves were rejected.
            axis = divisible[-1 if (cut.axis is axis) == (cut.rejected == _BOTH) else 0]
        pieces = split(rectangle, axis)
        for piece in pieces:
            self._cuts[piece] = cut = ...
        return Halves(pieces)

    def _is_suspect(self, rectangle: Rectangle, axis: Axis) -> bool:
        side = rectangle.side(axis)
        return side is not None and not self._clear[axis].issuperset(side)
