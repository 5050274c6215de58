"""One call in a place of its own, with the pace told what it came to.

All calls of a run go through here, whether for a batch, to check an answer, or to find out whether
the service is there at all; so all of them are counted, spaced, and learned from.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, NamedTuple, TypeVar

from bulkfetch.engine.call import Caller, Fetched
from bulkfetch.engine.hedging import Hedging
from bulkfetch.engine.pool import Places, Pool, wait_for_rate
from bulkfetch.engine.reactions import is_request_too_large
from bulkfetch.errors import (
    CallError,
    ForeignRowsError,
    GivenUpError,
    MalformedAnswerError,
    OverloadedError,
    TimedOutError,
    TooLargeError,
    TransientError,
)
from bulkfetch.pace.controller import Ticket
from bulkfetch.pace.patience import Haste
from bulkfetch.plan.frontier import default_cut
from bulkfetch.plan.rectangle import Axis, Rectangle
from bulkfetch.runtime import Runtime

RowsT = TypeVar("RowsT")

NO_BATCH = -1


@dataclass(frozen=True, slots=True)
class Question:
    """What to ask for.

    Attributes:
        rectangle: that.
        axis: its size counts along this.
        fresh: whether on a connection of its own.
        is_spare: whether there is another way to learn the same, if the answer does not come soon.
    """

    rectangle: Rectangle
    axis: Axis
    fresh: bool = False
    is_spare: bool = False

    @classmethod
    def of(cls, rectangle: Rectangle) -> "Question":
        """Ask for a rectangle along its usual axis."""
        return cls(rectangle, default_cut(rectangle).axis)


class _Begun(NamedTuple):
    """A call under way, and when it began, on the loop's clock."""

    ticket: Ticket
    at: float
    is_spare: bool


class Calls(Generic[RowsT]):
    """Makes calls.

    Args:
        caller: fetches one rectangle.
        pool: what the run has of the places.
        places: the account's; their pace is told of every call.
        runtime: the seam.
        on_change: called when the pace may have changed.
        has_work: whether anything else may be asked for now.
        hedging: makes second calls; None for none.

    Attributes:
        succeeded_at: when the latest of the calls that succeeded began, on the runtime's clock.
        smallest: the smallest rectangle that a call succeeded for; None before any did.
    """

    def __init__(
        self,
        caller: Caller[RowsT],
        pool: Pool,
        places: Places,
        runtime: Runtime,
        *,
        on_change: Callable[[], None],
        has_work: Callable[[], bool],
        hedging: Hedging[RowsT] | None = None,
    ) -> None:
        self._caller = caller
        self._pool = pool
        self._places = places
        self._pace = places.pace
        self._runtime = runtime
        self._on_change = on_change
        self._has_work = has_work
        self._hedging = hedging
        self._under_way: dict[asyncio.Timeout, _Begun] = {}
        self.succeeded_at = float("-inf")
        self.smallest: Rectangle | None = None

    async def make(
        self, question: Callable[[], Question | None], *, batch: int = NO_BATCH
    ) -> Fetched[RowsT] | None:
        """Wait for a place, and ask.

        Args:
            question: called when the call may begin at once; None is nothing to ask for any more.
            batch: the number of the batch that it is for.

        Returns:
            The answer; None if there was no question.

        Raises:
            CallError: the call failed.
            StoppedError: no call may begin any more.
        """
        pace, clock = self._pace, self._runtime.clock
        async with self._pool.place() as is_probe:
            asked = None
            try:
                asked = question()
            finally:
                pace.health.is_probing &= not is_probe or asked is not None
            if asked is None:
                return None
            ticket = pace.begin(asked.axis, pace.size_of(asked.rectangle, asked.axis), clock())
            is_over = False
            try:
                fetched, ticket = await self._fetch(asked, ticket)
                is_over = True
            except CallError as error:
                is_over = True
                self._note_failure(asked, batch, ticket, error, is_probe=is_probe)
                raise
            finally:
                if not is_over:  # cancelled
                    pace.on_failure(ticket, clock())
                    pace.health.is_probing &= not is_probe
            self._note_success(fetched, batch, ticket)
        return fetched

    async def _fetch(self, asked: Question, ticket: Ticket) -> tuple[Fetched[RowsT], Ticket]:
        """Call; what takes far longer than it should is given up.

        Returns:
            The answer, and the ticket of the call that got it.

        Raises:
            CallError: it failed.
        """
        expected_s = self._pace.expected_s(ticket.axis, ticket.size.ids)

        async def wait_again() -> None:
            """Wait until the call may be made once more; its time begins anew then."""
            del self._under_way[patience]
            if not patience.expired():
                patience.reschedule(None)
            await wait_for_rate(self._pace, self._runtime)
            begin()

        def begin() -> None:
            self._under_way[patience] = begun = _Begun(ticket, _loop_time(), asked.is_spare)
            self._watch(patience, begun)

        try:
            async with asyncio.timeout(None) as patience:
                begin()
                if self._hedging is None or asked.fresh or ticket.size.is_trial:
                    fetched = await self._caller.fetch(
                        asked.rectangle, expected_s, wait_again=wait_again, fresh=asked.fresh
                    )
                    return fetched, ticket
                first = await self._hedging.fetch(
                    asked.rectangle, ticket, expected_s, wait_again=wait_again
                )
                return first.fetched, first.ticket
        except TimeoutError:
            raise GivenUpError(
                "A call took several times longer than it should, and was given up."
            ) from None
        finally:
            self._under_way.pop(patience, None)

    def is_own_fault(self, batch: int, error: TransientError) -> bool:
        """Whether a failure counts against its batch, and not against the service."""
        return self._is_no_outage(error) or self._pace.health.is_own_fault(batch)

    def _is_no_outage(self, error: TransientError) -> bool:
        """Whether waiting mends nothing: an ignored filter, or a place where only garbage comes."""
        never_succeeded = self.succeeded_at == float("-inf")
        return isinstance(error, ForeignRowsError) or (
            isinstance(error, MalformedAnswerError) and never_succeeded
        )

    def _watch_all(self) -> None:
        """Give each call under way its time, now that more is known of what calls take."""
        for patience, begun in self._under_way.items():
            self._watch(patience, begun)

    def _watch(self, patience: asyncio.Timeout, begun: "_Begun") -> None:
        haste = Haste.NONE if self._has_work() else Haste.IDLE
        patience_s = self._pace.patience_s(begun.ticket, Haste.SPARE if begun.is_spare else haste)
        if patience_s is None or patience.expired():
            return
        ends_at = begun.at + patience_s
        if ends_at != patience.when():  # the same for most, and a timer costs more than to look
            patience.reschedule(ends_at)

    def _note_success(self, fetched: Fetched[RowsT], batch: int, ticket: Ticket) -> None:
        pace = self._pace
        # One that began before a service went out, and ended after, does not show that it is there.
        self.succeeded_at = max(self.succeeded_at, ticket.started_at)
        pace.taken.note(fetched.rectangle)
        pace.on_success(
            ticket,
            self._runtime.clock(),
            rows=fetched.received,
            body_bytes=fetched.body_bytes,
            seconds=fetched.latency_s,
        )
        if pace.health.on_success(batch):
            pace.on_outage_ended()
            self._places.wake()
        if self.smallest is None or fetched.rectangle.pairs < self.smallest.pairs:
            self.smallest = fetched.rectangle
        self._watch_all()
        self._on_change()

    def _note_failure(
        self, asked: Question, batch: int, ticket: Ticket, error: CallError, *, is_probe: bool
    ) -> None:
        """Tell the pace what a call came to, before anything is decided about its batch."""
        pace, now = self._pace, self._runtime.clock()
        retry_after_s = error.retry_after_s if isinstance(error, TransientError) else None
        if isinstance(error, OverloadedError):
            pace.on_refused(ticket, now, retry_after_s, error.status)
        elif isinstance(error, GivenUpError) and asked.is_spare:
            pace.on_failure(ticket, now)
        elif isinstance(error, GivenUpError):
            pace.on_given_up(ticket, now)
        elif isinstance(error, TimedOutError):
            pace.on_timeout(ticket, now, retry_after_s)
        elif isinstance(error, TooLargeError):
            is_request = is_request_too_large(error)
            pace.on_too_large(ticket, now, asked.rectangle, is_request=is_request)
        else:
            pace.on_failure(ticket, now, retry_after_s)
        if not isinstance(error, TransientError):
            if pace.health.on_success(batch):  # it answered
                pace.on_outage_ended()
        elif not (
            (isinstance(error, TimedOutError) and asked.rectangle.pairs > 1)
            or self._is_no_outage(error)
        ):
            pace.health.on_failure(batch, str(error), now, limit=pace.limit)
        if is_probe and pace.health.outage is not None:
            is_refused = isinstance(error, OverloadedError)
            pace.health.on_probe_failed(str(error), now, is_refused=is_refused)
        self._places.wake()
        self._on_change()


def _loop_time() -> float:
    return asyncio.get_running_loop().time()
