"""One run: workers take batches from the frontier until nothing is left or nothing can be done.

A worker's place is held for one attempt and the handing on of its rows, not while a retry waits:
others go on meanwhile. There are twice as many tasks as places, so that waiting batches do not
idle a place, and the number of open batches stays bounded. A slow taker of rows holds the places,
and so slows the fetching.

Reactions by class of fault: transient, retried; too large, split and later batches smaller;
content, bisected down to the ids at fault, which are quarantined; a transient fault of the answer
that persists while other batches succeed is treated as content, because it is this batch's own.
When a batch has used up its attempts and nothing has succeeded since it began, the service is out
and the run stops, incomplete.
"""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

import anyio

from bulkfetch.engine.call import Fetched, Fetcher
from bulkfetch.engine.caps import CappedError
from bulkfetch.engine.causes import first_cause
from bulkfetch.engine.outcome import Counters, Unfetched
from bulkfetch.engine.suspects import Halves, Suspects
from bulkfetch.errors import (
    CallError,
    ContentError,
    FailedIds,
    FatalError,
    ForeignRowsError,
    MalformedAnswerError,
    OverloadedError,
    ServerFailedError,
    TimedOutError,
    TokenRejectedError,
    TooLargeError,
    TransientError,
)
from bulkfetch.pace.concurrency import Concurrency
from bulkfetch.pace.gate import RetryAfterGate
from bulkfetch.pace.retry import RetryPolicy, retrying
from bulkfetch.plan.frontier import Frontier, default_cut
from bulkfetch.plan.planner import Planner
from bulkfetch.plan.rectangle import CannotSplitError, Rectangle, split
from bulkfetch.runtime import Runtime

RowsT = TypeVar("RowsT")

_TASKS_PER_WORKER = 2
_TIMEOUTS_BEFORE_SPLIT = 2
_ATTEMPTS_OF_A_SUSPECT = 3
_HOPELESS_QUARANTINES = 25
_REQUEST_TOO_LARGE = frozenset({413, 414})


@dataclass(frozen=True, slots=True)
class Batch(Generic[RowsT]):
    """A finished batch, as it is handed on. Times are seconds since 1970."""

    fetched: Fetched[RowsT]
    attempts: int
    started_at: float
    ended_at: float


@dataclass(slots=True)
class _Attempts:
    """The life of one batch in the run."""

    started_at: float
    successes_before: int
    made: int = 0
    timeouts: int = 0
    tried_at: float | None = None


class Run(Generic[RowsT]):
    """Fetches rectangles and hands their rows on. One use.

    Args:
        caller: fetches one rectangle.
        hand_on: awaited with each finished batch, in no particular order; it may be slow.
        workers: most calls in flight.
        policy: attempts and backoff of a batch.
        runtime: the seam.
        counters: where the numbers go.
        planner: decides what batches name, and is told of each that succeeded.
    """

    def __init__(
        self,
        caller: Fetcher[RowsT],
        hand_on: Callable[[Batch[RowsT]], Awaitable[None]],
        *,
        workers: int,
        policy: RetryPolicy,
        runtime: Runtime,
        counters: Counters,
        planner: Planner,
    ) -> None:
        self._caller = caller
        self._hand_on = hand_on
        self._workers = workers
        self._policy = policy
        self._runtime = runtime
        self._counters = counters
        self._planner = planner
        self._suspects = Suspects()
        self._suspected: set[Rectangle] = set()
        self._concurrency = Concurrency(workers)
        self._gate = RetryAfterGate(runtime)
        self._quarantined = counters.quarantined
        self._failed = counters.failed
        self._open: dict[Rectangle, _Attempts] = {}
        self._outage: str | None = None
        self._most_pairs = 0  # of any batch that succeeded

    async def execute(self, rectangles: Sequence[Rectangle], *, batch_size: int) -> Unfetched:
        """Fetch everything in these disjoint rectangles.

        Returns:
            What could not be fetched; empty means complete.

        Raises:
            FatalError: no call can succeed.
            BulkfetchError: `hand_on` raised it.
        """
        self._frontier = Frontier(batch_size=batch_size)
        self._planner.begin(rectangles, self._frontier)
        self._places = anyio.CapacityLimiter(self._workers)
        self._changed = anyio.Event()
        try:
            async with anyio.create_task_group() as group:
                self._group = group
                for _ in range(self._workers * _TASKS_PER_WORKER):
                    group.start_soon(self._work)
        except BaseExceptionGroup as failures:
            raise first_cause(failures) from None
        if self._outage is not None:
            for rectangle in [*self._open, *self._frontier.remaining()]:
                self._failed.append(_name(rectangle, self._outage, self._open.get(rectangle)))
        return self._counters.unfetched()

    async def _work(self) -> None:
        """Take batches until there are none left and none open that could give some back."""
        while True:
            rectangle = self._frontier.take()
            if rectangle is None:
                if not self._open:
                    return
                await self._changed.wait()
                continue
            self._open[rectangle] = _Attempts(self._runtime.wall_clock(), self._counters.batches)
            await self._fetch(rectangle)
            del self._open[rectangle]
            changed, self._changed = self._changed, anyio.Event()
            changed.set()

    async def _fetch(self, rectangle: Rectangle) -> None:
        attempts = self._open[rectangle]

        def is_worth_retrying(error: TransientError, _made: int) -> bool:
            if isinstance(error, TimedOutError) and rectangle.pairs > 1:
                return attempts.timeouts < _TIMEOUTS_BEFORE_SPLIT
            return rectangle not in self._suspected or attempts.made < _ATTEMPTS_OF_A_SUSPECT

        def on_retry() -> None:
            self._counters.retries += 1

        try:
            async for attempt in retrying(
                self._policy, self._runtime, is_worth_retrying=is_worth_retrying, on_retry=on_retry
            ):
                with attempt:
                    async with self._places:
                        await self._gate.wait()
                        await self._attempt(rectangle, attempts)
        except FatalError:
            raise
        except CallError as error:
            self._react(rectangle, error, attempts)

    async def _attempt(self, rectangle: Rectangle, attempts: _Attempts) -> None:
        """Make one attempt and hand its rows on, while holding a place."""
        clock = self._runtime.clock
        started_at = clock()
        attempts.made += 1
        attempts.tried_at = self._runtime.wall_clock()
        try:
            fetched = await self._caller.fetch(rectangle)
        except CallError as error:
            attempts.timeouts += isinstance(error, TimedOutError)
            if isinstance(error, OverloadedError | TimedOutError):
                self._concurrency.on_overload(started_at=started_at, now=clock())
                self._places.total_tokens = self._concurrency.limit
            if isinstance(error, TransientError) and error.retry_after_s is not None:
                self._gate.shut(error.retry_after_s)
            raise
        self._concurrency.on_success(in_flight=self._places.borrowed_tokens)
        self._places.total_tokens = self._concurrency.limit
        self._suspects.clear(rectangle)
        batch = Batch(fetched, attempts.made, attempts.started_at, self._runtime.wall_clock())
        await self._hand_on(batch)
        counters = self._counters
        counters.batches += 1
        counters.rows += fetched.count
        counters.surplus += fetched.surplus
        counters.pairs_done += self._planner.note(
            rectangle,
            received=fetched.received,
            kept=fetched.count,
            body_bytes=fetched.body_bytes,
            seconds=fetched.latency_s,
        )
        self._most_pairs = max(self._most_pairs, rectangle.pairs)
        counters.add_anomalies(fetched.anomalies)

    def _react(self, rectangle: Rectangle, error: CallError, attempts: _Attempts) -> None:
        """Decide what becomes of a batch that was not fetched."""
        others_succeed = self._counters.batches > attempts.successes_before
        if self._frontier.excludes_some_of(rectangle):
            self._frontier.give_back(rectangle)
            return
        if isinstance(error, TooLargeError | TimedOutError) and self._halve(rectangle, error):
            return
        if isinstance(error, ContentError) or (
            (others_succeed or rectangle in self._suspected)
            and isinstance(error, ServerFailedError | MalformedAnswerError | ForeignRowsError)
        ):
            self._bisect(rectangle, error, attempts)
            return
        self._failed.append(_name(rectangle, str(error), attempts))
        if not others_succeed and isinstance(error, TransientError | TokenRejectedError):
            self._stop(f"not fetched, because the service does not answer. The last error: {error}")

    def _halve(self, rectangle: Rectangle, error: CallError) -> bool:
        """Ask for the halves instead, or name what was not named; False for a single pair.

        A request that is too large is halved along its longer side, an answer along the side that
        batches run along, a capped list on its own. Later batches are made smaller only if none of
        this size ever succeeded, the service says outright that the request is too large, or a
        cap struck one of the size in use: a time-out can be bad luck.
        """
        axis = default_cut(rectangle).axis
        is_request = error.status in _REQUEST_TOO_LARGE
        is_proven = is_request
        if not is_request:
            self._planner.note_too_large(rectangle)
        if is_request or len(rectangle.named(axis) or ()) == 1:
            axis = rectangle.longer_axis()
        elif isinstance(error, CappedError):
            # Pieces that are capped, too, are heavy by themselves: others need not be as small.
            is_proven = rectangle.width(axis) >= self._frontier.batch_size
        if isinstance(error, CappedError) and error.axis is not None and error.ids is not None:
            axis = error.axis
            self._frontier.shrink(axis, error.ids)
        try:
            pieces = split(rectangle, axis)
        except CannotSplitError:
            return self._planner.narrow(rectangle)
        self._counters.splits += 1
        if is_proven or rectangle.pairs > self._most_pairs:
            self._frontier.shrink(axis, pieces[0].width(axis))
        self._frontier.give_back(*pieces)
        return True

    def _bisect(self, rectangle: Rectangle, error: CallError, attempts: _Attempts) -> None:
        verdict = self._suspects.accuse(rectangle)
        if isinstance(verdict, Halves):
            self._counters.splits += 1
            self._suspected.update(verdict.pieces)
            self._frontier.give_back(*verdict.pieces, go_first=verdict.go_first)
            return
        culprit = verdict.rectangle.leaving_out()
        if verdict.axis is not None:
            # The id is at fault wherever it stands: no later batch asks for it.
            self._frontier.exclude(verdict.axis, culprit.side(verdict.axis) or ())
            culprit = culprit.replace(verdict.axis.other, None)
        # Batches that were open at the time may accuse the same id again.
        self._quarantined.setdefault(culprit, _name(culprit, str(error), attempts))
        if self._counters.batches == 0 and len(self._quarantined) >= _HOPELESS_QUARANTINES:
            self._stop(f"not fetched, because every call was rejected. The last error: {error}")

    def _stop(self, cause: str) -> None:
        """End the run as incomplete; what is open or was never begun counts as failed."""
        if self._outage is None:
            self._outage = cause
            self._group.cancel_scope.cancel()


def _name(rectangle: Rectangle, cause: str, attempts: _Attempts | None) -> FailedIds:
    made, tried_at = (0, None) if attempts is None else (attempts.made, attempts.tried_at)
    return FailedIds(rectangle.learners, rectangle.courses, cause, made, tried_at)
