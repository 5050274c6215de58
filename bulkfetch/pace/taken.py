"""The largest requests that the service took, by how many ids they name of each side.

One that names no more than such a request cannot be too large for that; a refusal of it is about
its rows, or about just these ids. Explicit state and steps, no I/O.
"""

from bulkfetch.plan.rectangle import Axis, Rectangle

_Widths = tuple[int, int]


class TakenRequests:
    """The widths of requests that succeeded, of which none contains another."""

    def __init__(self) -> None:
        self._widths: list[_Widths] = []

    def note(self, rectangle: Rectangle) -> None:
        """Note a request that succeeded."""
        if not self.cover(rectangle):
            widths = _widths_of(rectangle)
            self._widths = [each for each in self._widths if not _contains(widths, each)]
            self._widths.append(widths)

    def cover(self, rectangle: Rectangle) -> bool:
        """Whether one that names at least as many ids of each side has succeeded."""
        widths = _widths_of(rectangle)
        return any(_contains(each, widths) for each in self._widths)


def _widths_of(rectangle: Rectangle) -> _Widths:
    learners, courses = (len(rectangle.named(axis) or ()) for axis in Axis)
    return learners, courses


def _contains(larger: _Widths, smaller: _Widths) -> bool:
    return larger[0] >= smaller[0] and larger[1] >= smaller[1]
