"""Ask a second time where an answer is slow, and take whichever comes first.

As in "The Tail at Scale" (Dean, Barroso, 2013): where a few calls take many times longer than the
others, for reasons of their own, another try is likely to be answered before them. A call is hedged
when it has taken longer than nineteen of twenty did, measured against what it was expected to take,
and no more than one call in twenty is, so that the service is asked at most 5 % more. It waits in
line for a place of the account like any other call, and does not begin while there is anything to
wait for: a Retry-After, the rate, an outage, the run's end; nor while the limit of calls in flight
falls, for then all are slow because the service has too much to do.

The second call goes over a connection of its own, so that it needs no confirmation. The slower of
the two is given up, and its answer, if it still comes, is not read: rows are handed on once. A
second call that fails has failed alone, and its batch knows nothing of it.
"""

from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

import anyio

from bulkfetch.engine.call import Caller, Fetched
from bulkfetch.engine.outcome import Counters
from bulkfetch.engine.pool import Pool
from bulkfetch.errors import CallError, OverloadedError, TimedOutError, TransientError
from bulkfetch.pace.controller import Pace, Ticket
from bulkfetch.plan.rectangle import Rectangle
from bulkfetch.runtime import Runtime

RowsT = TypeVar("RowsT")

_SHARE = 0.05
_FEWEST = 20  # calls, before it is known which are slow
_REMEMBERED = 200
_LEAST_FACTOR = 1.5  # of the time expected


@dataclass(frozen=True, slots=True)
class First(Generic[RowsT]):
    """The answer that came first, and the ticket of its call; the other's is given back."""

    fetched: Fetched[RowsT]
    ticket: Ticket


class Hedging(Generic[RowsT]):
    """Makes the calls of one run, and second ones.

    Args:
        caller: fetches one rectangle.
        pool: what the run has of the places.
        pace: is told of second calls.
        runtime: the seam.
        counters: where second calls are counted.
    """

    def __init__(
        self,
        caller: Caller[RowsT],
        pool: Pool,
        pace: Pace,
        runtime: Runtime,
        counters: Counters,
    ) -> None:
        self._caller = caller
        self._pool = pool
        self._pace = pace
        self._runtime = runtime
        self._counters = counters
        self._factors: deque[float] = deque(maxlen=_REMEMBERED)

    async def fetch(
        self,
        rectangle: Rectangle,
        ticket: Ticket,
        expected_s: float,
        *,
        wait_again: Callable[[], Awaitable[None]],
    ) -> First[RowsT]:
        """Call, and once more if that takes long.

        Args:
            rectangle: what to ask for.
            ticket: of the call, which has begun.
            expected_s: how long it should take; 0 where that is not known.
            wait_again: see `Caller.fetch`.

        Raises:
            CallError: it failed, and the second call, if there was one, did not succeed either.
        """
        race: _Race[RowsT] = _Race()
        try:
            await self._run(race, rectangle, ticket, expected_s, wait_again)
        except BaseException:  # cancelled, perhaps between the second answer and its taking
            if race.first is not None and race.first.ticket is not ticket:
                self._pace.on_failure(race.first.ticket, self._runtime.clock())
            raise
        now = self._runtime.clock()
        if race.first is None:
            assert race.failure is not None
            raise race.failure
        if expected_s > 0:
            # Of a call that was given up it is known that it would have taken longer.
            self._factors.append((now - ticket.started_at) / expected_s)
        if race.first.ticket is not ticket:
            self._pace.on_failure(ticket, now)
        return race.first

    async def _run(
        self,
        race: "_Race[RowsT]",
        rectangle: Rectangle,
        ticket: Ticket,
        expected_s: float,
        wait_again: Callable[[], Awaitable[None]],
    ) -> None:
        async with anyio.create_task_group() as group:

            async def ask() -> None:
                try:
                    fetched = await self._caller.fetch(rectangle, expected_s, wait_again=wait_again)
                    race.first = race.first or First(fetched, ticket)
                except CallError as error:
                    race.failure = error
                if not race.may_be_won_by_second:
                    group.cancel_scope.cancel()

            async def ask_again() -> None:
                await self._runtime.sleep(self._patience_s(expected_s))
                await self._ask_again(rectangle, ticket, expected_s, race)
                if race.first is not None or race.failure is not None:
                    group.cancel_scope.cancel()

            group.start_soon(ask)
            if expected_s > 0 and len(self._factors) >= _FEWEST:
                group.start_soon(ask_again)

    async def _ask_again(
        self, rectangle: Rectangle, ticket: Ticket, expected_s: float, race: "_Race[RowsT]"
    ) -> None:
        if not self._may_ask_again():
            return
        async with self._pool.place_besides():
            if not self._may_ask_again():  # it may have taken a while to get the place
                return
            pace, clock = self._pace, self._runtime.clock
            self._counters.hedges += 1
            again = pace.begin(ticket.axis, ticket.size, clock())
            is_won = False
            race.is_second_under_way = True
            failure: CallError | None = None
            try:
                fetched = await self._caller.fetch_once(rectangle, expected_s)
                is_won = race.first is None
                race.first = race.first or First(fetched, again)
            except CallError as error:
                failure = error
            finally:
                race.is_second_under_way = False
                if not is_won:
                    _tell(pace, again, failure, clock())

    def _patience_s(self, expected_s: float) -> float:
        """Return how long a call may take before it is one of the slowest."""
        ascending = sorted(self._factors)
        slow = ascending[int(len(ascending) * (1 - _SHARE))]
        return expected_s * max(_LEAST_FACTOR, slow)

    def _may_ask_again(self) -> bool:
        calls = self._counters.calls - self._counters.hedges
        return (
            self._counters.hedges + 1 <= _SHARE * calls
            and not self._pace.is_falling(self._runtime.clock())
            and self._pool.may_begin_at_once()
        )


class _Race(Generic[RowsT]):
    """How the two calls stand."""

    def __init__(self) -> None:
        self.first: First[RowsT] | None = None
        self.failure: CallError | None = None
        self.is_second_under_way = False

    @property
    def may_be_won_by_second(self) -> bool:
        """Whether the call failed in a way that says nothing of the second, which goes on."""
        return (
            self.first is None
            and isinstance(self.failure, TransientError)
            and self.is_second_under_way
        )


def _tell(pace: Pace, ticket: Ticket, failure: CallError | None, now: float) -> None:
    """Tell the pace of a second call that failed, or was given up."""
    retry_after_s = failure.retry_after_s if isinstance(failure, TransientError) else None
    if isinstance(failure, OverloadedError):
        pace.on_refused(ticket, now, retry_after_s, failure.status)
    elif isinstance(failure, TimedOutError):
        pace.on_timeout(ticket, now, retry_after_s)
    else:
        pace.on_failure(ticket, now, retry_after_s)
