"""How many calls may be in flight: less on loss, more while the limit is in use.

Additive increase, multiplicative decrease, as in TCP: a refusal (429, 503, a time-out) takes the
limit to 0.7 of itself, once for all the calls that were in flight when it happened; a limit's
worth of successes adds one. The user's number of workers is the ceiling, one is the floor.
Explicit state and steps, no I/O: the engine sets its limiter to `limit` after each step.
"""

_DECREASE = 0.7


class Concurrency:
    """The limit and what moves it. Times are the injected clock's, in seconds."""

    def __init__(self, ceiling: int) -> None:
        self._ceiling = ceiling
        self._limit = float(ceiling)
        self._decreased_at = float("-inf")

    @property
    def limit(self) -> int:
        """Calls that may be in flight now."""
        return max(1, int(self._limit))

    def on_success(self, *, in_flight: int) -> None:
        """Note a call that succeeded; `in_flight` counts it. Grows only if the limit was used."""
        if in_flight >= self.limit:
            self._limit = min(self._ceiling, self._limit + 1 / self._limit)

    def on_overload(self, *, started_at: float, now: float) -> None:
        """Note a refusal of a call that was started at `started_at`."""
        if started_at >= self._decreased_at:
            self._limit = max(1.0, self._limit * _DECREASE)
            self._decreased_at = now
