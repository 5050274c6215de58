"""Bisection: which half to ask for next, and which id is at fault when none is left.

The service rejects a whole call for one id, and does not say which. With two lists in play the
fault may lie in either. A success clears every id that it named, and then only the side that is
not clear is halved. While neither is clear, a side is halved until both halves are rejected, which
most likely is the other side's doing; and both halves are asked for before what they are halved
into, because the healthy half of the learners clears the courses.

An answer can also be spoilt by a single pair, whose learner and course are both sound. So an id
that stands alone is named only if two disjoint parts of the other side are rejected with it; if
one of them succeeds the search goes on to the pair. (Two spoilt pairs of one id, one in each part,
pass for the id: it is then named with more than it is to blame for, never with less.) Where there
is no second part to ask for, the pair is named.

One call at a time, a learner at fault among n costs at most 2·⌈log2 n⌉ + 3 calls beyond the first,
whatever the number of courses; a course among m, which spoils every batch, 4·⌈log2 m⌉ + 10.

A side that a call does not name is not at fault.

Pure: told what succeeded, asked what to do.
"""

from dataclasses import dataclass

from bulkfetch.plan.rectangle import Axis, Rectangle, Side, split


@dataclass(frozen=True, slots=True)
class Halves:
    """Ask for these two instead: before all other pieces, or after those that may clear an id."""

    pieces: tuple[Rectangle, Rectangle]
    go_first: bool


@dataclass(frozen=True, slots=True)
class Culprit:
    """The ids at fault stand alone: `rectangle` cannot be fetched.

    `axis` is the side whose id is at fault, None if that cannot be told (or the call has no ids).
    """

    rectangle: Rectangle
    axis: Axis | None


_BOTH = 2


@dataclass(slots=True)
class _Cut:
    """Where a rectangle was halved, from which cut it came, and how many halves were rejected."""

    axis: Axis
    parent: "_Cut | None"
    rejected: int = 0

    def has_proved_vain(self) -> bool:
        """Whether both halves were rejected, here or in the cut before along the same axis."""
        before = self.parent
        return self.rejected == _BOTH or (
            before is not None and before.axis is self.axis and before.rejected == _BOTH
        )


class Suspects:
    """What is known of the ids: those in a call that succeeded are clear."""

    def __init__(self) -> None:
        self._clear: dict[Axis, set[str]] = {Axis.LEARNERS: set(), Axis.COURSES: set()}
        self._clear_sides: dict[int, Side] = {}
        self._cuts: dict[Rectangle, _Cut] = {}
        self._rejected_with: dict[tuple[Axis, str], frozenset[str]] = {}  # ids that stood alone

    def clear(self, rectangle: Rectangle) -> None:
        """Note that a call for this rectangle succeeded."""
        self._cuts.pop(rectangle, None)
        for axis in Axis:
            side = rectangle.named(axis)
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
        if len(suspected) == 1 and _count(rectangle, suspected[0]) == 1:
            return self._accuse_one(rectangle, suspected[0], cut)
        # Every id may be clear by itself: then it is the pair, or something that has changed.
        divisible = [axis for axis in suspected or Axis if _count(rectangle, axis) > 1]
        if not divisible:
            return Culprit(rectangle, None)
        axis = divisible[0]
        if cut is not None and len(divisible) > 1:
            axis = cut.axis.other if cut.has_proved_vain() else cut.axis
        return self._halve(rectangle, axis, cut, go_first=len(suspected) == 1)

    def _accuse_one(self, rectangle: Rectangle, axis: Axis, cut: _Cut | None) -> Halves | Culprit:
        """Say what to do where one id of a side stands alone and the other side is clear."""
        other = axis.other
        (unit,), part = rectangle.named(axis) or (), rectangle.named(other)
        if part is None:
            return Culprit(rectangle, axis)
        before = self._rejected_with.get((axis, unit))
        if before is not None and before.isdisjoint(part):
            return Culprit(rectangle, axis)
        self._rejected_with[axis, unit] = frozenset(part)
        if len(part) == 1:
            return Culprit(rectangle, None)
        return self._halve(rectangle, other, cut, go_first=before is None)

    def _halve(
        self, rectangle: Rectangle, axis: Axis, cut: _Cut | None, *, go_first: bool
    ) -> Halves:
        pieces = split(rectangle, axis)
        self._cuts.update(dict.fromkeys(pieces, _Cut(axis, cut)))
        return Halves(pieces, go_first)

    def _is_suspect(self, rectangle: Rectangle, axis: Axis) -> bool:
        side = rectangle.named(axis)
        return side is not None and not self._clear[axis].issuperset(side)


def _count(rectangle: Rectangle, axis: Axis) -> int:
    return len(rectangle.named(axis) or ())
