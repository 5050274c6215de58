"""The places for calls: how many, when the next may begin, and when none may any more.

The pace decides; this waits. A place is held for one call and the handing on of its rows, not while
a retry waits. anyio's CapacityLimiter counts the places, and its `total_tokens` follows the pace's
limit. Whoever waits, for the gate, the rate, a probe or a retry, is woken when something changes.
"""

import contextlib
from collections.abc import AsyncIterator, Callable

import anyio

from bulkfetch.pace.controller import Pace
from bulkfetch.runtime import Runtime

_SHORTEST_S = 0.001  # a clock may not tell less from nothing


class StoppedError(Exception):
    """No call may begin any more; the run ends in an orderly way."""


class Pool:
    """The places of one run.

    Args:
        pace: decides.
        runtime: the seam.
        deadline: on the runtime's clock, when the last call may begin; None for never.
        on_stop: told why, when no call may begin any more.
    """

    def __init__(
        self,
        pace: Pace,
        runtime: Runtime,
        *,
        deadline: float | None,
        on_stop: Callable[[str], None],
    ) -> None:
        self._pace = pace
        self._runtime = runtime
        self._deadline = float("inf") if deadline is None else deadline
        self._on_stop = on_stop
        self._places = anyio.CapacityLimiter(pace.limit)
        self._waiting: set[anyio.CancelScope] = set()
        self.is_stopped = False

    @property
    def taken(self) -> int:
        """Places that are held."""
        return self._places.borrowed_tokens

    def follow(self) -> None:
        """Have as many places as the pace says."""
        limit = self._pace.limit
        if limit != self._places.total_tokens:
            self._places.total_tokens = limit

    def wake(self) -> None:
        """Let everyone who waits look again."""
        for scope in self._waiting:
            scope.cancel()

    def stop(self, cause: str) -> None:
        """Let no further call begin. Calls under way go on."""
        if not self.is_stopped:
            self.is_stopped = True
            self._on_stop(cause)
            self.wake()

    @contextlib.asynccontextmanager
    async def place(self) -> AsyncIterator[bool]:
        """Hold a place in which a call may begin at once; True if it probes a service that is out.

        Raises:
            StoppedError: no call may begin any more.
        """
        async with self._places:
            yield await self._permit()

    async def pause(self, seconds: float) -> None:
        """Wait for so long, or until something changes, or the deadline."""
        seconds = min(seconds, self._deadline - self._runtime.clock())
        if self.is_stopped or seconds <= 0:
            return
        seconds = max(seconds, _SHORTEST_S)
        with anyio.CancelScope() as scope:
            self._waiting.add(scope)
            try:
                await self._runtime.sleep(seconds)
            finally:
                self._waiting.discard(scope)

    async def back_off(self, seconds: float) -> None:
        """Wait before a retry: the whole time, unless the run is stopped meanwhile."""
        ends_at = self._runtime.clock() + seconds
        while not self.is_stopped and (left := ends_at - self._runtime.clock()) > _SHORTEST_S:
            if self._runtime.clock() >= self._deadline:
                return
            await self.pause(left)

    async def _permit(self) -> bool:
        """Wait until a call may begin; whether it is a probe."""
        pace, clock = self._pace, self._runtime.clock
        health = pace.health
        while True:
            now = clock()
            if now >= self._deadline:
                self.stop("not fetched, because the time given with the deadline was over.")
            if health.outage is not None and health.is_given_up(now):
                self.stop(
                    "not fetched, because the service does not answer. "
                    f"The last error: {health.outage.cause}"
                )
            if self.is_stopped:
                raise StoppedError
            wait_s = pace.wait_s(now)
            if health.outage is not None:
                probe_s = health.probe_wait_s(now)
                left_s = max(0.0, health.outage.ends_at - now)
                wait_s = left_s if probe_s is None else min(max(wait_s, probe_s), left_s)
            if wait_s <= 0:
                if health.outage is not None:
                    health.is_probing = True
                return health.outage is not None
            await self.pause(wait_s)
