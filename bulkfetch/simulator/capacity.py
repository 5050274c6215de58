"""What a service has only so much of: slots, a line out, calls in a second.

Each takes the clock and the sleep from outside, so that the same code runs in virtual time.
"""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

Clock = Callable[[], float]
Sleep = Callable[[float], Awaitable[object]]


class Slots:
    """So many calls are served at a time; the others wait in the order in which they came.

    Args:
        capacity: Tells how many slots there are at present, or None for no limit. It may change;
            one slot always stays, so that the line moves.
    """

    def __init__(self, capacity: Callable[[], float | None]) -> None:
        self._capacity = capacity
        self._taken = 0
        self._waiting: deque[asyncio.Future[None]] = deque()

    @asynccontextmanager
    async def slot(self) -> AsyncIterator[None]:
        """Hold a slot for as long as the context lasts."""
        if self._waiting or not self._is_free():
            turn = asyncio.get_running_loop().create_future()
            self._waiting.append(turn)
            try:
                await turn
            except asyncio.CancelledError:
                if turn.done() and not turn.cancelled():
                    self._leave()  # the slot was handed over while the call went away
                raise
        else:
            self._taken += 1
        try:
            yield
        finally:
            self._leave()

    def _is_free(self) -> bool:
        capacity = self._capacity()
        return capacity is None or self._taken < max(1, int(capacity))

    def _leave(self) -> None:
        """Give a slot back and let in as many as there is room for."""
        self._taken -= 1
        while self._waiting and self._is_free():
            turn = self._waiting.popleft()
            if not turn.done():
                self._taken += 1
                turn.set_result(None)


class Line:
    """The bandwidth that all answers share; each piece waits until the line has carried it."""

    def __init__(self, bytes_per_s: float | None, clock: Clock, sleep: Sleep) -> None:
        self._bytes_per_s = bytes_per_s
        self._clock = clock
        self._sleep = sleep
        self._free_at_s = 0.0

    async def carry(self, size_bytes: int) -> None:
        """Wait for as long as these bytes take after all those before them."""
        if not self._bytes_per_s:
            return
        now_s = self._clock()
        self._free_at_s = max(now_s, self._free_at_s) + size_bytes / self._bytes_per_s
        await self._sleep(self._free_at_s - now_s)


class MinuteQuota:
    """How many calls were let in since the minute began."""

    def __init__(self) -> None:
        self._minute = 0
        self._calls = 0

    def admits(self, now_s: float, at_most: float) -> bool:
        """Count this call if there is room for it in the minute; else say no."""
        minute = int(now_s // 60)
        if minute != self._minute:
            self._minute, self._calls = minute, 0
        if self._calls >= at_most:
            return False
        self._calls += 1
        return True


class CallRate:
    """How many calls were let in during the last second."""

    def __init__(self) -> None:
        self._times_s: deque[float] = deque()

    def admits(self, now_s: float, at_most: float) -> bool:
        """Count this call if there is room for it in the second that ends now; else say no."""
        while self._times_s and self._times_s[0] <= now_s - 1:
            self._times_s.popleft()
        if len(self._times_s) >= at_most:
            return False
        self._times_s.append(now_s)
        return True
