"""One gate for all workers: a Retry-After shuts it, and they leave it staggered.

Workers that all wake at the same instant meet the same limit again; so each adds a random part of
the wait, up to a quarter of it and at least half a second.
"""

from bulkfetch.runtime import Runtime

_STAGGER_SHARE = 0.25
_STAGGER_FLOOR_S = 0.5


class RetryAfterGate:
    """Open, or shut until a time on the injected clock."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._opens_at = float("-inf")
        self._stagger_s = 0.0

    def shut(self, seconds: float) -> None:
        """Shut the gate for so long from now; a later opening time already set stays."""
        opens_at = self._runtime.clock() + seconds
        if opens_at > self._opens_at:
            self._opens_at = opens_at
            self._stagger_s = max(seconds * _STAGGER_SHARE, _STAGGER_FLOOR_S)

    async def wait(self) -> None:
        """Return at once while the gate is open, else some time after it opens."""
        while (remaining := self._opens_at - self._runtime.clock()) > 0:
            stagger = self._runtime.random.uniform(0, self._stagger_s)
            await self._runtime.sleep(remaining + stagger)
