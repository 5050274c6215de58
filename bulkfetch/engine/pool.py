"""The places for calls: how many, when the next may begin, and when none may any more.

The pace decides; this waits. A place is held for one call and the handing on of its rows, not while
a retry waits. anyio's CapacityLimiter counts the places, and its `total_tokens` follows the pace's
limit. Whoever waits, for the gate, the rate, a probe or a retry, is woken when something changes.

The places are the account's: runs at the same time share them, with the pace that decides, and get
them in turn. Each has a pool of its own that knows its deadline, and whether it was stopped.
"""

import asyncio
import contextlib
import itertools
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AbstractAsyncContextManager

import anyio

from bulkfetch.pace.controller import Pace
from bulkfetch.runtime import Runtime

_SHORTEST_S = 0.001  # a clock may not tell less from nothing


class StoppedError(Exception):
    """No call may begin any more; the run ends in an orderly way."""


async def wait_for_rate(pace: Pace, runtime: Runtime) -> None:
    """Wait until a call may begin that needs no place of its own, and count it."""
    while (wait_s := pace.wait_again_s(runtime.clock())) > 0:
        await runtime.sleep(max(wait_s, _SHORTEST_S))
    pace.rate.begin(runtime.clock())


class Places:
    """The places of one account, and whoever waits for one. Make it in the event loop that uses it.

    Args:
        pace: decides how many there are, and when calls may begin.
    """

    def __init__(self, pace: Pace) -> None:
        self.pace = pace
        self.batches = itertools.count()  # numbers, of all runs
        self.waiting: dict[anyio.CancelScope, None] = {}  # in order
        self._limit = pace.limit
        self.limiter = anyio.CapacityLimiter(self._limit)
        self._runs = 0

    @contextlib.contextmanager
    def in_use(self) -> Iterator[None]:
        """Note a run. The first after a rest does not begin with the outage that ended another."""
        if not self._runs:
            self.pace.begin_anew()
        self._runs += 1
        try:
            yield
        finally:
            self._runs -= 1

    def follow(self) -> None:
        """Have as many places as the pace says."""
        limit = self.pace.limit
        if limit != self._limit:
            self._limit = self.limiter.total_tokens = limit

    def wake(self) -> None:
        """Let everyone who waits look again."""
        for scope in self.waiting:
            scope.cancel()


class _Place:
    """One place, held by the task that enters; every call does, so it takes few steps."""

    __slots__ = ("_limiter", "_permit")

    def __init__(
        self, limiter: anyio.CapacityLimiter, permit: Callable[[], Awaitable[bool]]
    ) -> None:
        self._limiter = limiter
        self._permit = permit

    async def __aenter__(self) -> bool:
        await asyncio.sleep(0)  # what has come already is heard before anything else is asked
        try:
            self._limiter.acquire_nowait()
        except anyio.WouldBlock:
            await self._limiter.acquire()
        try:
            return await self._permit()
        except BaseException:
            self._limiter.release()
            raise

    async def __aexit__(self, *_: object) -> None:
        self._limiter.release()


class Pool:
    """What one run has of the places.

    Args:
        places: the account's.
        runtime: the seam.
        deadline: on the runtime's clock, when the last call may begin; None for never.
        on_stop: told why, when no call may begin any more.
    """

    def __init__(
        self,
        places: Places,
        runtime: Runtime,
        *,
        deadline: float | None,
        on_stop: Callable[[str], None],
    ) -> None:
        self._places = places
        self._runtime = runtime
        self._deadline = float("inf") if deadline is None else deadline
        self._on_stop = on_stop
        self.is_stopped = False

    def stop(self, cause: str) -> None:
        """Let no further call begin. Calls under way go on."""
        if not self.is_stopped:
            self.is_stopped = True
            self._on_stop(cause)
            self._places.wake()

    def place(self) -> AbstractAsyncContextManager[bool]:
        """Hold a place in which a call may begin at once; True if it probes a service that is out.

        Raises:
            StoppedError: no call may begin any more.
        """
        return _Place(self._places.limiter, self._permit)

    @contextlib.asynccontextmanager
    async def place_besides(self) -> AsyncIterator[None]:
        """Hold a second place in the same task. Whether a call may begin is not looked at."""
        borrower = object()
        await self._places.limiter.acquire_on_behalf_of(borrower)
        try:
            yield
        finally:
            self._places.limiter.release_on_behalf_of(borrower)

    def may_begin_at_once(self) -> bool:
        """Whether a call that has a place would have nothing to wait for."""
        pace, now = self._places.pace, self._runtime.clock()
        return (
            not self.is_stopped
            and now < self._deadline
            and pace.health.outage is None
            and pace.wait_s(now) <= 0
        )

    async def pause(self, seconds: float) -> None:
        """Wait for so long, or until something changes, or the deadline."""
        seconds = min(seconds, self._deadline - self._runtime.clock())
        if self.is_stopped or seconds <= 0:
            return
        seconds = max(seconds, _SHORTEST_S)
        with anyio.CancelScope() as scope:
            self._places.waiting[scope] = None
            try:
                await self._runtime.sleep(seconds)
            finally:
                self._places.waiting.pop(scope, None)

    async def back_off(self, seconds: float) -> None:
        """Wait before a retry: the whole time, unless the run is stopped meanwhile."""
        ends_at = self._runtime.clock() + seconds
        while not self.is_stopped and (left := ends_at - self._runtime.clock()) > _SHORTEST_S:
            if self._runtime.clock() >= self._deadline:
                return
            await self.pause(left)

    async def _permit(self) -> bool:
        """Wait until a call may begin; whether it is a probe."""
        pace, clock = self._places.pace, self._runtime.clock
        health = pace.health
        while True:
            now = clock()
            if now >= self._deadline:
                self.stop("not fetched, because the time given with the deadline was over.")
            if health.outage is not None and health.is_given_up(now):
                does = "refuses all calls" if health.outage.is_refusal else "does not answer"
                self.stop(
                    f"not fetched, because the service {does}. "
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
