"""How many calls may be in flight: less on loss and on delay, more while the limit is in use.

*Delay*, as in TCP Vegas and Netflix's concurrency-limits: of n calls in flight, n × (1 - usual
time / present time) stand in the service's queue. Times are compared a row, so that larger batches
do not look like a queue. Begun low, the limit doubles each round trip until a queue shows; then it
stays while the queue is between a sixth and a quarter of it, room enough not to oscillate. A cut
in a queue of our own costs no throughput. One that does was wrong, for the service itself is
slower: it is taken back, and what calls take now is what is usual, so that it is not starved.

*Loss*, as in TCP: a refusal takes the limit to 0.7 of itself, once for all the calls that were in
flight together; a single one within two round trips may be chance, and ends no doubling. A cut
after which the share of refusals is as large as before was not our doing (a brown-out), and is
taken back, too. A doubling that refusals ended goes on if the round trip after it shows no queue.

Considered and left: Gradient2's long average, which drifts upward with the queue it should see;
and probing for the shortest time by draining, as BBR does, which costs a round trip of throughput.

Explicit state and steps, no I/O: the engine sets its limiter to `limit` after each step.
"""

from dataclasses import dataclass

_DECREASE = 0.7
_FEWEST = 4  # calls that an epoch is judged by
_MOST = 16
_LITTLE, _MUCH = 0.15, 0.25  # of the calls in flight, standing in the service's queue
_DRAINING = 0.5  # of the calls in flight, left when one of them ends
_DEEPEST = 0.5  # cut at once: what calls take tells little while the service itself changes
_TOGETHER = 1.2  # of what the calls in flight bring, that is believed of a burst at most
_NOISE = 0.3  # of what a cut costs where nothing waits, that may be missing from it by chance


@dataclass(frozen=True, slots=True)
class _Sample:
    in_flight: int
    seconds: float
    rows: float

    def row_s(self, overhead_rows: float) -> float:
        return self.seconds / max(overhead_rows + self.rows, 1.0)

    @property
    def rows_per_s(self) -> float:
        """What all calls in flight bring, by Little's law."""
        return self.in_flight * max(self.rows, 1.0) / max(self.seconds, 1e-9)


def _summarize(samples: list[_Sample]) -> _Sample:
    """Return what calls were like: median times, for a few take far longer; mean rows.

    In a queue a small call waits for large ones, so that each one's own time a row says nothing.
    """
    return _Sample(
        in_flight=sorted(sample.in_flight for sample in samples)[len(samples) // 2],
        seconds=sorted(sample.seconds for sample in samples)[len(samples) // 2],
        rows=sum(sample.rows for sample in samples) / len(samples),
    )


@dataclass(frozen=True, slots=True)
class _Cut:
    """A cut on delay that has yet to show that it costs nothing.

    `before` was the limit, `share` is what the cut left of the calls in flight, `rows_per_s` what
    they brought.
    """

    before: int
    share: float
    rows_per_s: float


class Concurrency:
    """The limit and what moves it. Times are the injected clock's, in seconds.

    Args:
        start: calls in flight at first.
        ceiling: most calls in flight, ever.
        is_pinned: the caller chose the number: it falls on loss alone, and rises back to it.

    Attributes:
        epochs: how many round trips have been judged.
        was_quiet: whether the latest showed no queue.
    """

    def __init__(self, start: int, ceiling: int, *, is_pinned: bool = False) -> None:
        self._ceiling = ceiling
        self._start = float(start)
        self._limit = float(min(start, ceiling))
        self._is_pinned = is_pinned
        self._is_slow_start = not is_pinned
        self._decreased_at = float("-inf")
        self._epoch_began_at = float("-inf")
        self._epoch: list[_Sample] = []
        self._counted_from = float("-inf")  # since then, `_brought` rows have come
        self._brought = 0.0
        self._usual: _Sample | None = None
        self._slowdown = 1.0
        self._growths = 0
        self._needed = _FEWEST
        self._cut: _Cut | None = None
        self.epochs = 0
        self.was_quiet = True
        self._is_held = False  # by a cap that ended the doubling
        self._lost_slow_start = False  # for a refusal, not for a queue
        self._limit_before_loss: float | None = None
        self._lost = self._kept = 0  # since the last decrease
        self._lost_share_before = 0.0
        self._tolerated_share = 0.0

    @property
    def limit(self) -> int:
        """Calls that may be in flight now."""
        return max(1, int(self._limit))

    @property
    def slowdown(self) -> float:
        """How many times longer than usual calls take at present, at least 1."""
        return self._slowdown

    @property
    def is_slow_start(self) -> bool:
        """Whether the limit still doubles each round trip."""
        return self._is_slow_start

    def fell_since(self, time: float) -> bool:
        """Whether the limit fell after a point in time."""
        return self._decreased_at >= time

    def hold_at(self, most: int) -> None:
        """Take a cap that was learned elsewhere: the limit is there at once, not above."""
        self._is_held |= self._is_slow_start
        self._is_slow_start = False
        self._limit = min(self._limit, float(max(1, most)))

    def let_go(self) -> None:
        """Go on doubling, if it was a cap that ended it, and that was none."""
        if self._is_held:
            self._is_slow_start, self._is_held = True, False

    def begin_at(self, limit: int) -> None:
        """Begin with this limit, if it is higher, as an earlier run has learned."""
        if not self._is_pinned:
            self._limit = min(self._ceiling, max(self._limit, float(limit)))

    def restart(self) -> None:
        """Begin again at half the limit, or where the run began, doubling: the service was out."""
        self._limit = max(self._limit / 2, min(self._limit, self._start))
        self._is_slow_start = not self._is_pinned
        self._epoch.clear()
        self._cut = None

    def on_success(
        self,
        *,
        started_at: float,
        now: float,
        seconds: float,
        in_flight: int,
        rows: float,
        overhead_rows: float,
        most: int | None = None,
        in_flight_before: int = 0,
    ) -> None:
        """Note a call that succeeded.

        Args:
            started_at: when it began.
            now: when it ended.
            seconds: how long it took.
            in_flight: calls in flight when it ended, itself counted: the limit grows only in use.
            rows: how many it brought.
            overhead_rows: the rows that would take as long as a call's base.
            most: a cap that was learned elsewhere.
            in_flight_before: calls in flight when it began.
        """
        ceiling = self._ceiling if most is None else min(self._ceiling, most)
        is_in_use = in_flight >= self.limit
        self._kept += started_at >= self._decreased_at
        self._judge_loss(now)
        if self._is_pinned:
            if is_in_use:
                self._limit = min(ceiling, self._limit + 1 / self._limit)
            return
        if self._is_slow_start and is_in_use:
            self._limit = min(ceiling, self._limit + 1)
            self._is_slow_start = self._limit < self._ceiling
        self._brought += rows
        # Where calls are not replaced, the queue that one stood in is gone, and tells nothing.
        is_draining = in_flight < _DRAINING * in_flight_before
        if started_at >= self._epoch_began_at and not is_draining:
            if not self._epoch:
                self._counted_from, self._brought = now, 0.0
            self._epoch.append(_Sample(in_flight, seconds, rows))
            if len(self._epoch) >= self._needed:
                self._close_epoch(now, overhead_rows, ceiling)

    def on_overload(self, *, started_at: float, now: float) -> None:
        """Note a refusal of a call that was started at `started_at`."""
        if started_at < self._decreased_at:
            return
        self._lost += 1
        if self._is_slow_start and self._lost == 1:  # of so many as two round trips have
            self._limit = max(1.0, self._limit * _DECREASE)
            return
        share = self._lost / (self._lost + self._kept)
        if share <= self._tolerated_share:
            return
        if self._limit_before_loss is not None:  # whether that helped is to be seen first
            self._judge_loss(now)
            return
        self._limit_before_loss = self._limit
        self._lost_share_before = share
        self._limit = max(1.0, self._limit * _DECREASE)
        self._lost_slow_start |= self._is_slow_start
        self._is_slow_start = False
        self._decreased_at = now
        self._lost = self._kept = 0
        self._start_epoch(now)

    def _judge_loss(self, now: float) -> bool:
        """Look whether the last decrease helped, once enough is known; True if it did not."""
        outcomes = self._lost + self._kept
        if outcomes < max(2 * _FEWEST, 2 * self.limit):
            return False
        share = self._lost / outcomes
        self._lost = self._kept = 0
        before, self._limit_before_loss = self._limit_before_loss, None
        if share <= self._tolerated_share / 2:
            self._tolerated_share = 0.0
        if before is None or not share or share < self._lost_share_before * 0.7:
            return False
        self._limit = max(self._limit, before)
        self._tolerated_share = min(1.0, 1.5 * share)
        self._start_epoch(now)
        return True

    def _start_epoch(self, now: float) -> None:
        self._epoch.clear()
        self._epoch_began_at = now
        self._needed = max(_FEWEST, min(self.limit, _MOST))
        self._cut = None

    def _close_epoch(self, now: float, overhead_rows: float, ceiling: int) -> None:
        """Judge the queue by the usual call of the epoch, and move the limit."""
        usual_call = _summarize(self._epoch)
        in_flight = usual_call.in_flight
        cut = self._cut
        # Two measures; the second errs upwards by far where calls end together.
        brought_per_s = self._brought / max(now - self._counted_from, 1e-9)
        rates = (
            usual_call.rows_per_s,
            min(brought_per_s, _TOGETHER * usual_call.rows_per_s),
        )
        self._start_epoch(now)
        if self._usual is None:
            self._usual = usual_call
        if cut is not None and max(rates) < (cut.share + _NOISE * (1 - cut.share)) * cut.rows_per_s:
            self._usual = usual_call
            self._limit = float(min(ceiling, cut.before))
        ratio = usual_call.row_s(overhead_rows) / max(self._usual.row_s(overhead_rows), 1e-12)
        self._slowdown = max(1.0, ratio)
        queue = in_flight * (1 - 1 / self._slowdown)
        little, much = _LITTLE * in_flight + 1, _MUCH * in_flight + 2
        self.epochs += 1
        self.was_quiet = queue <= little
        self._note_usual(usual_call, is_quiet=queue <= little, is_faster=ratio < 1)
        if self._lost_slow_start:
            self._is_slow_start, self._lost_slow_start = queue <= little, False
        if queue > much:
            self._is_slow_start = self._is_held = False
            self._growths = 0
            served = in_flight / self._slowdown
            limit = max(1.0, served * 1.2 + 1, _DEEPEST * in_flight)
            if limit < min(in_flight, self._limit):
                self._cut = _Cut(int(self._limit), limit / in_flight, min(rates))
                self._limit = limit
        elif queue < little and in_flight >= self._limit - 1 and not self._is_slow_start:
            self._growths += 1
            step = max(1.0, self._limit * (0.1 if self._growths <= _FEWEST else 0.25))
            self._limit = min(ceiling, self._limit + step)
        else:
            self._growths = 0

    def _note_usual(self, latest: _Sample, *, is_quiet: bool, is_faster: bool) -> None:
        """Move what is usual: quickly to shorter times, slowly to longer ones without a queue."""
        usual = self._usual
        if usual is None or not (is_quiet or is_faster):
            return
        weight = 0.3 if is_faster else 0.1
        self._usual = _Sample(
            0,
            usual.seconds + weight * (latest.seconds - usual.seconds),
            usual.rows + weight * (latest.rows - usual.rows),
        )
