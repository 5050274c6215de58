"""One gate for all workers: a Retry-After shuts it, and they leave it staggered.

Workers that all begin at the same instant meet the same limit again. So when it opens the first
leaves, and the others follow evenly, within a quarter of the wait: at least half a second and at
most one and a half. Meanwhile a call that is answered lets another begin, and one that fails does
not: if the service is out when the gate opens, few find that out.

Explicit state and steps, no I/O. Times are the injected clock's, in seconds.
"""

_STAGGER_SHARE = 0.25
_STAGGER_FLOOR_S = 0.5
_STAGGER_CAP_S = 1.5


class RetryAfterGate:
    """Open, or shut until a time.

    Attributes:
        opens_at: when it opens, or opened last.
        shut_s: for how long it was shut in all, up to then.
    """

    def __init__(self) -> None:
        self.opens_at = float("-inf")
        self.shut_s = 0.0
        self._stagger_s = 0.0
        self._left = 0  # calls that have begun since it opened, less those that were answered

    def shut(self, seconds: float, now: float) -> None:
        """Shut the gate for so long from now; a later opening time already set stays."""
        opens_at = now + seconds
        if opens_at > self.opens_at:
            self.shut_s += opens_at - max(now, self.opens_at)
            self.opens_at = opens_at
            share_s = min(seconds * _STAGGER_SHARE, _STAGGER_CAP_S)
            self._stagger_s = max(share_s, _STAGGER_FLOOR_S)
            self._left = 0

    def is_shut(self, now: float) -> bool:
        """Whether nobody may pass."""
        return now < self.opens_at

    def wait_s(self, now: float, workers: int) -> float:
        """Return how long until one of so many workers may pass; 0 is at once."""
        if now >= self.opens_at + self._stagger_s:
            return 0.0
        return max(0.0, self.opens_at + self._stagger_s * min(1.0, self._left / workers) - now)

    def on_begin(self) -> None:
        """Note a call that begins."""
        self._left += 1

    def on_success(self, started_at: float) -> None:
        """Note a call that was answered, and when it began."""
        if started_at >= self.opens_at:
            self._left -= 1
