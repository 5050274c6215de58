"""Bisection: which half to ask for next, and which id is at fault when none is left.

The service rejects a whole call for one id, and does not say which. With two lists in play the
fault may lie in either; so the sides are halved in turn until a call succeeds. A success clears
every id that it named, and then only the side that is not clear is halved. A learner at fault
among n costs at most 2·log2 n + 2 extra calls, and a course at fault no more than the two sides
together.

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


class Suspects:
    """What is known of the ids: those in a call that succeeded are clear."""

    def __init__(self) -> None:
        self._clear: dict[Axis, set[str]] = {Axis.LEARNERS: set(), Axis.COURSES: set()}
        self._clear_sides: dict[int, Side] = {}
        self._halved: dict[Rectangle, Axis] = {}

    def clear(self, rectangle: Rectangle) -> None:
        """Note that a call for this rectangle succeeded."""
        self._halved.pop(rectangle, None)
        for axis in Axis:
            side = rectangle.side(axis)
            if side is not None and id(side) not in self._clear_sides:
                self._clear[axis].update(side)
                if axis is Axis.COURSES:
                    self._clear_sides[id(side)] = side  # shared by many batches: noted once

    def accuse(self, rectangle: Rectangle) -> Halves | Culprit:
        """Say what to do about a rectangle whose content is rejected."""
        halved = self._halved.pop(rectangle, None)
        suspected = [axis for axis in Axis if self._is_suspect(rectangle, axis)]
        if not suspected:
            # Every id is clear by itself: the pair, or something that has changed.
            suspected = [axis for axis in Axis if rectangle.side(axis) is not None]
        divisible = [axis for axis in suspected if rectangle.width(axis) > 1]
        if divisible:
            axis = divisible[0]
            if len(divisible) > 1 and halved is axis:
                axis = divisible[1]
            pieces = split(rectangle, axis)
            for piece in pieces:
                self._halved[piece] = axis
            return Halves(pieces)
        return Culprit(rectangle, suspected[0] if len(suspected) == 1 else None)

    def _is_suspect(self, rectangle: Rectangle, axis: Axis) -> bool:
        side = rectangle.side(axis)
        return side is not None and not self._clear[axis].issuperset(side)
