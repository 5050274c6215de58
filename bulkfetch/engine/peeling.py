"""A service that refuses everything from the start: is it out, or is that too much at a time?

429 and 503 say "later" and "less" alike, and so does a time-out. So where nothing else ever came,
less is asked for: after three probes that were refused, or three time-outs, for one id, after three
more for one pair. If that is answered, the service takes less than was asked for, or is back.
Batches that were begun far larger than what is known to be taken by then are cut anew, so that
sizes grow from there; and where one pair was answered but not one id with all of the other side,
fewer ids of that side are named, half as many each time.
"""

from bulkfetch.engine.batch import OpenBatch
from bulkfetch.pace.controller import Pace
from bulkfetch.plan.frontier import Cut, Frontier
from bulkfetch.plan.rectangle import Axis, Rectangle

_REFUSED_PROBES = 3  # before less is asked for, or so many time-outs
_FAR_LARGER = 8  # times what is known to be taken; less is split


class Peeling:
    """Asks for less where all that was asked for was refused.

    Args:
        frontier: where the rest goes.
        pace: knows of the outage, and of the sizes that succeed.
    """

    def __init__(self, frontier: Frontier, pace: Pace) -> None:
        self._frontier = frontier
        self._pace = pace
        self._timeouts = 0
        self._widest: dict[Axis, int] = {}  # answered, of a side that one id was taken of

    def note_success(self, rectangle: Rectangle) -> None:
        """Note what was answered.

        If what timed out before named more of the other side, sizes are not known to be at fault.
        """
        if self._timeouts and self._widest:
            for size in self._pace.sizes.values():
                size.forget_refused()
        self._timeouts = 0
        for axis, widest in self._widest.items():
            self._widest[axis] = max(widest, len(rectangle.named(axis) or ()))

    def note_timeout(self) -> None:
        """Note a call that was not answered in time."""
        self._timeouts += 1

    def peel(self, batch: OpenBatch, rectangle: Rectangle) -> Rectangle:
        """Return what a batch should ask for while nothing was answered; put the rest back."""
        health = self._pace.health
        refused = 0 if health.outage is None else health.refused_probes
        most = max(refused, self._timeouts) // _REFUSED_PROBES
        sides = (batch.axis, batch.axis.other)[:most]
        for axis in sides:
            ids = rectangle.named(axis) or ()
            if len(ids) > 1:
                rest = Cut(rectangle.replace(axis, ids[1:]), batch.axis)
                self._frontier.add(rest, go_first=True)
                rectangle = rectangle.replace(axis, ids[:1])
                if axis is not batch.axis:
                    self._widest[axis] = 1
        return rectangle

    def cut_anew(self, batch: OpenBatch, rectangle: Rectangle) -> bool:
        """Put a batch that was refused back as a whole, to be cut smaller; False if that is not it.

        A size that the caller chose is left to be split.
        """
        axis = batch.axis
        across = rectangle.width(axis.other)
        if 0 < self._widest.get(axis.other, 0) < across:
            self._frontier.shrink(axis.other, (across + 1) // 2)
        elif self._pace.settings.batch_size is not None or not 0 < _FAR_LARGER * self._pace.sizes[
            axis
        ].proven < rectangle.width(axis):
            return False
        self._frontier.add(Cut(rectangle, axis), go_first=True)
        return True
