"""How many calls may begin in a second: a spacing between calls, as in GCRA without a burst.

The rate is the caller's, or one that was learned from refusals, or none. Calls are spread evenly:
a burst that fits a second on average can still be refused by a service that counts in windows.
Explicit state and steps, no I/O.
"""

from collections import deque

_WINDOW_S = 1.0


class CallRate:
    """Spaces calls, and counts those begun in the last second.

    Args:
        most: the caller's bound, in calls a second; None for none.
    """

    def __init__(self, most: float | None = None) -> None:
        self._most = most
        self._learned: float | None = None
        self._free_at = float("-inf")
        self._begun: deque[float] = deque()
        self.waited = 0  # calls that had to wait for it, since last looked at

    @property
    def per_second(self) -> float | None:
        """The rate in force, None for none."""
        rates = [rate for rate in (self._most, self._learned) if rate is not None]
        return min(rates) if rates else None

    def learn(self, per_second: float | None) -> None:
        """Take a rate that was learned, or forget it."""
        self._learned = per_second

    def wait_s(self, now: float) -> float:
        """Return how long the next call has to wait; 0 is not at all."""
        if self.per_second is None or self._free_at <= now:
            return 0.0
        self.waited += 1
        return self._free_at - now

    def lone_s(self, now: float) -> float:
        """Return how long until no call has begun for a second; 0 is now."""
        return max(0.0, self._begun[-1] + _WINDOW_S - now) if self._begun else 0.0

    def begin(self, now: float) -> int:
        """Note that a call begins; return how many did in the last second, itself counted."""
        rate = self.per_second
        if rate is not None:
            self._free_at = max(now, self._free_at) + 1 / rate
        self._begun.append(now)
        return self.in_second(now)

    def take_back(self, started_at: float) -> None:
        """Note that a call was refused: a service does not count it."""
        if started_at in self._begun:
            self._begun.remove(started_at)

    def in_second(self, now: float) -> int:
        """Return how many calls began in the second before now."""
        while self._begun and self._begun[0] <= now - _WINDOW_S:
            self._begun.popleft()
        return len(self._begun)
