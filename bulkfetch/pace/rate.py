"""How many calls may begin in a second, spread evenly, and in a minute, however they are spread.

In a second: a spacing between calls, as in GCRA without a burst. The rate is the caller's, or one
that was learned from refusals, or none. Calls are spread, for a burst that fits a second on average
can still be refused by a service that counts in windows. In a minute: a quota that was learned, or
none; calls begin as they come until it is used up, for a minute is long enough to lose by waiting.
Explicit state and steps, no I/O.
"""

from bisect import bisect_right
from collections import deque
from contextlib import suppress

_WINDOW_S = 1.0
_MINUTE_S = 60.0


class CallRate:
    """Spaces calls, and counts those begun in the last second and minute.

    Args:
        most: the caller's bound, in calls a second; None for none.
    """

    def __init__(self, most: float | None = None) -> None:
        self._most = most
        self._learned: float | None = None
        self._quota: int | None = None
        self._free_at = float("-inf")
        self._begun: deque[float] = deque()  # within a minute
        self.waited = 0  # calls that had to wait for it, since last looked at

    @property
    def per_second(self) -> float | None:
        """The rate in force, None for none."""
        rates = [rate for rate in (self._most, self._learned) if rate is not None]
        return min(rates, default=None)

    def learn(self, per_second: float | None, per_minute: int | None = None) -> None:
        """Take a rate and a quota that were learned, or forget them."""
        self._learned = per_second
        self._quota = per_minute

    def wait_s(self, now: float) -> float:
        """Return how long the next call has to wait, and count it if it has; 0 is not at all."""
        wait_s = self.due_s(now)
        self.waited += wait_s > 0
        return wait_s

    def due_s(self, now: float) -> float:
        """Return in how long the next call is due; 0 is now."""
        spaced_s = 0.0 if self.per_second is None else max(0.0, self._free_at - now)
        return max(spaced_s, self._quota_wait_s(now))

    def _quota_wait_s(self, now: float) -> float:
        if self._quota is None or self.in_minute(now) < self._quota:
            return 0.0
        return max(0.0, self._begun[-self._quota] + _MINUTE_S - now)

    def left_of_quota(self, now: float) -> int | None:
        """Return how many calls the quota lets begin before it makes them wait; None for any."""
        if self._quota is None:
            return None
        return self._quota - self.in_minute(now) or self._quota

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
        with suppress(ValueError):  # over a minute ago
            self._begun.remove(started_at)

    def in_second(self, now: float) -> int:
        """Return how many calls began in the second before now."""
        self._forget(now)
        return len(self._begun) - bisect_right(self._begun, now - _WINDOW_S)

    def in_minute(self, now: float) -> int:
        """Return how many calls began in the minute before now."""
        self._forget(now)
        return len(self._begun)

    def _forget(self, now: float) -> None:
        while self._begun and self._begun[0] + _MINUTE_S <= now:  # as it is waited for
            self._begun.popleft()
