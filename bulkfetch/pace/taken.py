"""The largest requests that the service took, and the smallest that it refused as too large.

What counts is how many ids they name of each side. One that names no more than a request that was
taken cannot be too large for that; a refusal of it is about its rows, or about just these ids. One
that names no fewer than a request that was refused need not be made: it is halved as if it had
been. A side that is left out stands for all ids, and is like no number of them: a refusal may be
about its rows. Explicit state and steps, no I/O.
"""

from bulkfetch.plan.rectangle import Axis, Rectangle

_Widths = tuple[int, int]


class TakenRequests:
    """The widths of requests that succeeded, and of those refused: of each, the outermost."""

    def __init__(self) -> None:
        self._widths: list[_Widths] = []
        self._refused: list[_Widths] = []

    def note(self, rectangle: Rectangle) -> None:
        """Note a request that succeeded."""
        if not self.cover(rectangle):
            widths = _widths_of(rectangle)
            self._widths = [each for each in self._widths if not _contains(widths, each)]
            self._widths.append(widths)
            # Those that are within it were refused for another reason.
            self._refused = [each for each in self._refused if not _exceeds(widths, each)]

    def note_refused(self, rectangle: Rectangle) -> None:
        """Note a request that was refused as too large."""
        if not self.cover(rectangle) and not self.exclude(rectangle):
            widths = _widths_of(rectangle)
            self._refused = [each for each in self._refused if not _exceeds(each, widths)]
            self._refused.append(widths)

    def exclude(self, rectangle: Rectangle) -> bool:
        """Whether one that names no more ids of the same sides was refused as too large."""
        widths = _widths_of(rectangle)
        return any(_exceeds(widths, each) for each in self._refused)

    def cover(self, rectangle: Rectangle) -> bool:
        """Whether one that names at least as many ids of each side has succeeded."""
        widths = _widths_of(rectangle)
        return any(_contains(each, widths) for each in self._widths)


def _widths_of(rectangle: Rectangle) -> _Widths:
    """Return how many ids it names of each side, 0 of one that it leaves out."""
    learners, courses = (len(rectangle.named(axis) or ()) for axis in Axis)
    return learners, courses


def _contains(larger: _Widths, smaller: _Widths) -> bool:
    return larger[0] >= smaller[0] and larger[1] >= smaller[1]


def _exceeds(larger: _Widths, smaller: _Widths) -> bool:
    """Whether one names no fewer ids of the same sides."""
    leave_out_the_same = [not ids for ids in larger] == [not ids for ids in smaller]
    return leave_out_the_same and _contains(larger, smaller)
