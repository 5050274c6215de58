"""One gate for all workers: a Retry-After shuts it, and they leave it staggered.

Workers that all wake at the same instant meet the same limit again; so each adds a random part of
the wait, up to a quarter of it, at least half a second and at most one and a half.
"""

from random import Random

_STAGGER_SHARE = 0.25
_STAGGER_FLOOR_S = 0.5
_STAGGER_CAP_S = 1.5


class RetryAfterGate:
    """Open, or shut until a time on the injected clock.

    Attributes:
        opens_at: when it opens, or opened last.
        shut_s: for how long it was shut in all, up to then.
    """

    def __init__(self, random: Random) -> None:
        self._random = random
        self.opens_at = float("-inf")
        self._stagger_s = 0.0
        self.shut_s = 0.0

    def shut(self, seconds: float, now: float) -> None:
        """Shut the gate for so long from now; a later opening time already set stays."""
        opens_at = now + seconds
        if opens_at > self.opens_at:
            self.shut_s += opens_at - max(now, self.opens_at)
            self.opens_at = opens_at
            share_s = min(seconds * _STAGGER_SHARE, _STAGGER_CAP_S)
            self._stagger_s = max(share_s, _STAGGER_FLOOR_S)

    def is_shut(self, now: float) -> bool:
        """Whether nobody may pass."""
        return now < self.opens_at

    def wait_s(self, now: float) -> float:
        """Return 0 while the gate is open, else how long one worker waits: the rest and a part."""
        remaining = self.opens_at - now
        return remaining + self._random.uniform(0, self._stagger_s) if remaining > 0 else 0.0
