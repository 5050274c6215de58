"""A plan that somebody else has made: the rectangles are the calls, as they are."""

from collections.abc import Sequence

from bulkfetch.plan.frontier import Frontier, default_cut
from bulkfetch.plan.rectangle import Rectangle


class FixedPlan:
    """Gives the frontier what it is given, and learns nothing. See `Planner`."""

    pinned_size = None
    _frontier: Frontier

    def begin(
        self,
        rectangles: Sequence[Rectangle],
        frontier: Frontier,
        apart: Sequence[Rectangle] = (),
    ) -> None:
        """Give all rectangles to the frontier, but for what is asked for apart."""
        del apart
        self._frontier = frontier
        self.add(rectangles)

    def add(self, rectangles: Sequence[Rectangle]) -> None:
        """Give more rectangles to the frontier."""
        self._frontier.add(*map(default_cut, rectangles))

    def expect(self, rectangle: Rectangle) -> None:
        """See `Planner`; nothing is reckoned."""
        del rectangle

    def follow(self, *, workers: int, per_second: float | None) -> None:
        """See `Planner`; nothing is reckoned."""

    def note(
        self, rectangle: Rectangle, *, received: int, kept: int, body_bytes: int, seconds: float
    ) -> int:
        """Return how many pairs were asked for."""
        del received, kept, body_bytes, seconds
        return rectangle.pairs

    def take_back(self, rectangle: Rectangle) -> int:
        """Ask again for something that had come, and return how many pairs that is."""
        self._frontier.add(default_cut(rectangle), go_first=True)
        return rectangle.pairs

    def note_too_large(self, rectangle: Rectangle) -> None:
        """See `Planner`; nothing is concluded."""

    def narrow(self, rectangle: Rectangle) -> bool:
        """See `Planner`; every side that has ids is named already."""
        del rectangle
        return False
