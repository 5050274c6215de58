"""One run: batches from the frontier are called for until nothing is left or nothing can be done.

There are as many tasks at work as the pace allows calls; each waits for a place, cuts a batch as
large as the pace says at that moment, and sees it through. While a retry waits, or an answer until
others are checked, its place is free, and another task may take it, up to twice as many as there
are places, and as many more as wait for a check and hold little, so that what open batches hold
stays bounded. A slow taker of rows holds the places, and so slows the fetching.

Transient faults are retried, each retry charged to the shared quota; those that are the service's
doing do not count against the batch. What becomes of a batch in the end is decided in
`bulkfetch.engine.reactions`.
"""

from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from functools import partial
from http import HTTPStatus
from typing import Generic, TypeVar

import anyio

from bulkfetch.engine.accused import Accused, Retrial
from bulkfetch.engine.batch import Batch, OpenBatch
from bulkfetch.engine.call import Caller, Fetched
from bulkfetch.engine.calls import Calls, Question
from bulkfetch.engine.caps import Caps, Volume
from bulkfetch.engine.causes import first_cause
from bulkfetch.engine.guard import Guard, volume_of
from bulkfetch.engine.hedging import Hedging
from bulkfetch.engine.outcome import Counters, Unfetched
from bulkfetch.engine.pool import Places, Pool, StoppedError
from bulkfetch.engine.reactions import Reactions, RunLimits, is_of_the_answer
from bulkfetch.engine.shelf import Shelf, ShelvedAnswer
from bulkfetch.errors import (
    CallError,
    ContentError,
    FatalError,
    ForeignRowsError,
    GivenUpError,
    OverloadedError,
    TimedOutError,
    TooLargeError,
    TransientError,
)
from bulkfetch.pace.retry import RetryPolicy, retrying
from bulkfetch.plan.fixed import FixedPlan
from bulkfetch.plan.frontier import Frontier, default_cut
from bulkfetch.plan.planner import DEFAULT_BATCH_SIZE, Planner
from bulkfetch.plan.rectangle import Axis, Rectangle
from bulkfetch.plan.region import Region
from bulkfetch.runtime import Runtime
from bulkfetch.words import counted

RowsT = TypeVar("RowsT")

TakeBack = Callable[[Caps], Awaitable[Sequence[Rectangle]]]

_OPEN_PER_PLACE = 2
_TIMEOUTS_BEFORE_SPLIT = 2
_TIMEOUTS_BEFORE_SPLIT_OF_SMALL = 4
_ATTEMPTS_OF_A_SUSPECT = 3
_SHELVED = "What came of it is kept, and the next run checks it."
_FORGOTTEN = "not fetched, though nothing stopped the run: this is a bug in bulkfetch."


class Run(Generic[RowsT]):
    """Fetches rectangles and hands their rows on. One use.

    Args:
        caller: fetches one rectangle.
        hand_on: awaited with each finished batch, in no particular order; it may be slow.
        caps: what is known of the service's silent caps.
        places: the account's, with the pace that says when calls may begin and how much they ask
            for; several runs may share them.
        policy: attempts and backoff of a batch.
        limits: when to end early.
        runtime: the seam.
        counters: where the numbers go.
        planner: decides what batches name, and is told of each that succeeded.
        take_back: awaited with the caps when batches that were handed on may be cut short; forgets
            them, of this run and of earlier ones, and returns what they asked for. By default the
            rows stay with whoever took them, and come again.
        shelf: keeps answers while they wait for their check; None if they may be lost then.
        accused: what earlier runs quarantined, and is to be asked for again.
        region: all that was ever asked for; by default, what this run asks for.
    """

    def __init__(
        self,
        caller: Caller[RowsT],
        hand_on: Callable[[Batch[RowsT]], Awaitable[None]],
        *,
        caps: Caps,
        places: Places,
        policy: RetryPolicy,
        limits: RunLimits,
        runtime: Runtime,
        counters: Counters,
        planner: Planner | FixedPlan,
        take_back: TakeBack | None = None,
        shelf: Shelf[RowsT] | None = None,
        accused: Accused | None = None,
        region: Region | None = None,
    ) -> None:
        self._planner = planner
        self._accused = Accused() if accused is None else accused
        self._whole = None if region is None else {each: region.side(each) or () for each in Axis}
        self._handed_on: list[tuple[Rectangle, Volume]] = []
        self._take_back = take_back
        self._shelf = shelf
        self._earlier = deque(() if shelf is None else shelf.earlier)
        self._caps_revision = caps.revision
        self._caller = caller
        self._caps = caps
        self._hand_on = hand_on
        self._places = places
        self._pace = places.pace
        self._policy = policy
        self._limits = limits
        self._runtime = runtime
        self._counters = counters
        self._open: set[OpenBatch] = set()
        self._working = 0
        self._stopped_because: str | None = None

    async def execute(self, rectangles: Sequence[Rectangle]) -> Unfetched:
        """Fetch everything in these disjoint rectangles.

        Returns:
            What could not be fetched; empty means complete.

        Raises:
            FatalError: no call can succeed.
            BulkfetchError: `hand_on` raised it.
        """
        size = self._pace.settings.batch_size or DEFAULT_BATCH_SIZE
        self._frontier = Frontier(batch_size=size)
        # Of long lists of pairs that takes seconds, and others may share the loop.
        retrial = await self._runtime.offload(Retrial, rectangles, self._accused)
        await self._runtime.offload(
            self._planner.begin, retrial.ordinary, self._frontier, retrial.apart
        )
        for shelved in self._earlier:
            self._planner.expect(shelved.rectangle)
        self._pool = Pool(
            self._places, self._runtime, deadline=self._limits.deadline, on_stop=self._note_stop
        )
        self._calls = Calls(
            self._caller,
            self._pool,
            self._places,
            self._runtime,
            on_change=self._staff,
            has_work=lambda: self._reactions.has_work,
            hedging=self._make_hedging(),
        )
        self._guard = Guard(
            partial(self._ask_besides, is_spare=True),
            self._ask_patiently,
            self._caps,
            self._counters,
            refused=self._refused,
            step_aside=self._step_aside,
            step_back=self._step_back,
        )
        self._reactions = Reactions(
            rectangles,
            self._frontier,
            self._planner,
            self._pace,
            caps=self._caps,
            limits=self._limits,
            counters=self._counters,
            stop=self._pool.stop,
            accused=self._accused,
            retrial=retrial,
            whole=self._whole,
        )
        try:
            with self._places.in_use():
                async with anyio.create_task_group() as group:
                    self._group = group
                    if self._earlier:
                        group.start_soon(self._check_earlier)
                    self._staff()
        except BaseExceptionGroup as failures:
            raise first_cause(failures) from None
        finally:
            await self._doubt()  # what was proven as the run ended
        cause = self._stopped_because or _FORGOTTEN
        self._counters.stopped_because = self._stopped_because or ""
        for batch in self._open:
            if batch.rectangle is not None:
                kept = f"{cause} {_SHELVED}" if batch.shelved is not None else cause
                # Of what is accused an earlier run knows more than that it was asked for in vain.
                is_accused = self._reactions.is_accused(batch.rectangle)
                self._reactions.fail(batch.rectangle, kept, None if is_accused else batch)
        for shelved in self._earlier:
            self._reactions.fail(shelved.rectangle, f"{cause} {_SHELVED}", None)
        self._reactions.give_up_again()
        for rectangle in (*self._frontier.remaining(), *self._reactions.withheld()):
            self._reactions.fail(rectangle, cause, None)
        return self._counters.unfetched()

    def _make_hedging(self) -> Hedging[RowsT] | None:
        if not self._limits.hedge:
            return None
        return Hedging(self._caller, self._pool, self._pace, self._runtime, self._counters)

    def _staff(self) -> None:
        """Follow the pace's limit, and have a task for every place while there is work."""
        self._places.follow()
        limit = self._pace.limit
        while (
            not self._pool.is_stopped
            and self._working < limit
            and self._open_or_begun < _OPEN_PER_PLACE * limit + 1
            and self._reactions.has_work
        ):
            self._working += 1
            self._group.start_soon(self._work)

    @property
    def _open_or_begun(self) -> int:
        """How many batches are under way; what waits for its check counts if it holds much."""
        return len(self._open) + self._working - self._guard.waiting

    async def _work(self) -> None:
        """See batches through until there is none, or there are enough others at work."""
        is_over = False
        try:
            while not is_over and self._working <= self._pace.limit:
                number = next(self._places.batches)
                batch = OpenBatch(number, None, self._runtime.wall_clock())
                is_over = not await self._see_through(batch)
        except StoppedError:
            pass
        finally:
            self._working -= 1
        self._staff()

    async def _check_earlier(self) -> None:
        """See through what an earlier run has kept: the check of the largest settles the others."""
        self._working += 1
        try:
            while self._earlier and not self._pool.is_stopped:
                number = next(self._places.batches)
                shelved = self._earlier.popleft()
                batch = OpenBatch(number, shelved.rectangle, self._runtime.wall_clock())
                batch.axis = default_cut(shelved.rectangle).axis
                batch.shelved = shelved.rectangle
                self._open.add(batch)
                await self._see_through(batch, shelved)
        except StoppedError:
            pass
        finally:
            self._working -= 1
        self._staff()

    async def _see_through(
        self, batch: OpenBatch, shelved: ShelvedAnswer[RowsT] | None = None
    ) -> bool:
        """Take a batch and fetch it, or decide what becomes of it; False if there was none.

        What was `shelved` is only checked, unless that shows that it has to be asked for again.
        """
        while True:
            try:
                await self._fetch(batch, shelved)
            except FatalError:
                raise
            except CallError as error:
                await self._doubt()
                if await self._is_service_out(batch, error):
                    shelved = None
                    continue
                assert batch.rectangle is not None
                await self._unshelve(batch)
                self._close(batch)
                self._reactions.react(
                    batch,
                    batch.rectangle,
                    error,
                    others_succeed=self._has_succeeded_since(batch),
                )
            else:
                self._close(batch)
                await self._doubt()
            break
        self._staff()
        await self._reactions.settle_doubts(self._is_rejected)
        self._reactions.release(is_idle=not self._open)
        self._staff()
        return batch.rectangle is not None

    def _close(self, batch: OpenBatch) -> None:
        self._open.discard(batch)
        if batch.rectangle is not None:
            self._reactions.note_closed(batch.rectangle)

    async def _fetch(self, batch: OpenBatch, shelved: ShelvedAnswer[RowsT] | None) -> None:
        """Call for a batch until it succeeds or is not worth another attempt.

        What was `shelved` is the first attempt.

        Raises:
            CallError: the last attempt's.
            StoppedError: no call may begin any more.
        """

        async def back_off(seconds: float) -> None:
            self._step_aside()
            try:
                await self._pool.back_off(seconds)
            finally:
                self._step_back()

        # Nearly all batches succeed at once, and need none of what retries do.
        failure: TransientError | None = None
        try:
            answer = None if shelved is None else await shelved.load()
            if answer is None:
                await self._attempt(batch)
            else:
                batch.attempts, batch.started_at = answer.attempts, answer.started_at
                batch.answered_at = answer.ended_at
                await self._check(batch, answer.fetched)
        except TransientError as error:
            failure = error
        else:
            return
        async for attempt in retrying(
            self._policy,
            self._runtime.random,
            should_retry=lambda error: self._should_retry(batch, error),
            sleep=back_off,
            doublings=lambda retries: self._pace.health.doublings(retries, batch.counted),
        ):
            with attempt:
                if failure is not None:
                    first, failure = failure, None
                    raise first
                await self._attempt(batch)

    async def _attempt(self, batch: OpenBatch) -> None:
        """Call for a batch once, and hand on what comes.

        Raises:
            CallError: the call failed.
            StoppedError: no call may begin any more.
        """
        fetched = await self._calls.make(lambda: self._ask(batch), batch=batch.number)
        if fetched is not None:
            assert batch.rectangle is not None
            batch.answered_at = None
            self._pace.quota.on_success(batch.cost)
            if self._reactions.note_success(batch.rectangle):
                self._staff()
            await self._check(batch, fetched)

    async def _check(self, batch: OpenBatch, fetched: Fetched[RowsT]) -> None:
        """Hand an answer on as soon as it is clear that it is whole; keep it until then.

        Raises:
            CallError: it is not, or a call that was to tell failed.
            StoppedError: no call may begin any more.
        """
        if batch.shelved not in {None, fetched.rectangle}:
            await self._unshelve(batch)

        async def keep() -> None:
            if self._shelf is not None and batch.shelved is None:
                await self._shelf.keep(self._as_finished(batch, fetched))
                batch.shelved = fetched.rectangle

        await self._finish(batch, await self._guard.check(fetched, keep))

    async def _unshelve(self, batch: OpenBatch) -> None:
        """Forget the answer to a batch that was kept: it is asked for again."""
        if self._shelf is not None and batch.shelved is not None:
            await self._shelf.forget(batch.shelved)
            batch.shelved = None

    def _refused(self) -> dict[Axis, int]:
        """Return the smallest numbers of ids of a side that calls are not to name any more."""
        most = self._most_ids()
        beyond = None if most is None else most + 1
        sizes = {axis: (self._pace.sizes[axis].refused, beyond) for axis in Axis}
        return {axis: min(filter(None, found)) for axis, found in sizes.items() if any(found)}

    def _most_ids(self) -> int | None:
        """Return the most ids that the caller has any call name; None for any number.

        Answers of one size are whole or all cut there: only one for more ids tells, so that the
        number is passed for once.
        """
        return None if self._caps.are_alike else self._planner.pinned_size

    def _step_aside(self) -> None:
        """Let another task work while this one waits."""
        self._working -= 1
        self._staff()

    def _step_back(self) -> None:
        """Have a task that waited go on; one of the others ends when it has finished its batch."""
        self._working += 1

    def _ask(self, batch: OpenBatch) -> Question | None:
        """Begin an attempt: say what the batch asks for; None if there is nothing left.

        Raises:
            CappedError: the service would not read all of its ids.
            TooLargeError: it refused a request that named no more.
        """
        if batch.rectangle is None and not self._cut(batch):
            return None
        assert batch.rectangle is not None
        batch.rectangle = self._reactions.peel(batch, batch.rectangle)
        self._caps.check_width(batch.rectangle)
        self._check_size(batch.rectangle)
        batch.attempts += 1
        batch.tried_at = self._runtime.wall_clock()
        fresh = self._reactions.is_suspected(batch.rectangle)
        return Question(batch.rectangle, batch.axis, fresh=fresh)

    def _check_size(self, rectangle: Rectangle) -> None:
        if rectangle.pairs > 1 and self._pace.taken.exclude(rectangle):
            raise TooLargeError(
                "The service refuses requests that name so many ids.",
                status=HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
            )

    def _cut(self, batch: OpenBatch) -> bool:
        """Take what the batch asks for from the frontier; False if there is nothing left."""
        frontier, pace = self._frontier, self._pace
        left = self._reactions.ids_left(frontier.axis)
        size = pace.size(frontier.axis, left, self._runtime.clock())
        frontier.batch_size = size.ids
        axis = frontier.axis
        batch.rectangle = self._reactions.take()
        if batch.rectangle is None:
            return False
        is_along = batch.rectangle.named(axis) is not None
        batch.axis = axis if is_along else default_cut(batch.rectangle).axis
        self._open.add(batch)
        return True

    async def _finish(self, batch: OpenBatch, fetched: Fetched[RowsT]) -> None:
        """Hand a batch's rows on, and count it as finished."""
        assert batch.rectangle is not None
        await self._hand_on(self._as_finished(batch, fetched))
        if self._take_back is None:
            self._handed_on.append((fetched.rectangle, volume_of(fetched)))
        if self._guard.is_doubtful(fetched):  # what proved that came while it was handed on
            self._caps_revision = -1
        counters = self._counters
        counters.batches += 1
        counters.rows += fetched.count
        counters.surplus += fetched.surplus
        self._planner.follow(workers=self._pace.limit, per_second=self._pace.rate.per_second)
        counters.pairs_done += self._planner.note(
            batch.rectangle,
            received=fetched.received,
            kept=fetched.count,
            body_bytes=fetched.body_bytes,
            seconds=fetched.latency_s / self._pace.concurrency.slowdown,  # without the queue
        )
        counters.add_anomalies(fetched.anomalies)

    def _as_finished(self, batch: OpenBatch, fetched: Fetched[RowsT]) -> Batch[RowsT]:
        ended_at = batch.answered_at or self._runtime.wall_clock()
        return Batch(fetched, batch.attempts, batch.started_at, ended_at)

    async def _doubt(self) -> None:
        """Ask again, in parts, for what may be cut short by a cap that was proven since it came."""
        caps = self._caps
        if caps.revision == self._caps_revision:
            return
        self._caps_revision = caps.revision
        if self._take_back is not None:
            with anyio.CancelScope(shield=True):
                doubted = list(await self._take_back(caps))
        else:
            handed_on, self._handed_on, doubted = self._handed_on, [], []
            for rectangle, volume in handed_on:
                if caps.doubts(rectangle, volume):
                    doubted.append(rectangle)
                else:
                    self._handed_on.append((rectangle, volume))
        for rectangle in doubted:
            self._counters.pairs_done -= self._planner.take_back(rectangle)

    async def _ask_besides(self, rectangle: Rectangle, *, is_spare: bool = False) -> Fetched[RowsT]:
        """Make a call that belongs to no batch; if it is spare, one that is given up soon.

        Raises:
            TooLargeError: the service refuses it, or the caller has pinned a smaller size.
            CallError: it failed.
        """
        # Fresh, so that it need not be confirmed.
        asked = replace(Question.of(rectangle), fresh=True, is_spare=is_spare)
        most = self._most_ids()
        if most is not None and len(rectangle.named(asked.axis) or ()) > most:
            raise TooLargeError(f"No call may name more than {counted(most, 'id')}.")
        self._check_size(rectangle)
        fetched = await self._calls.make(lambda: asked)
        assert fetched is not None
        return fetched

    async def _ask_patiently(self, rectangle: Rectangle) -> Fetched[RowsT]:
        """Make a call that belongs to no batch; where it fails for a time, or takes long, again.

        Raises:
            CallError: as `_ask_besides`, and transient ones after as many attempts as a batch has.
        """
        failures = 0

        async def ask() -> Fetched[RowsT]:
            return await self._ask_besides(rectangle, is_spare=not failures)

        def should_retry(error: TransientError) -> bool:
            nonlocal failures
            failures += 1
            pace = self._pace
            was_hasty = isinstance(error, GivenUpError) and failures == 1
            is_timeout = isinstance(error, TimedOutError) and not was_hasty
            if is_timeout or failures >= self._policy.attempts:
                return False
            if pace.health.outage is None and pace.quota.charge(after_timeout=False) is None:
                return False
            self._counters.retries += 1
            pace.timeline.on_retry(self._runtime.clock())
            return True

        again = retrying(
            self._policy,
            self._runtime.random,
            should_retry=should_retry,
            sleep=self._pool.back_off,
            doublings=lambda retries: self._pace.health.doublings(retries, failures),
        )
        return await again(ask)

    async def _is_rejected(self, rectangle: Rectangle) -> bool | None:
        """Ask for something besides: whether it is rejected, None if that is not known."""
        for is_last in (False, True):
            self._counters.confirmations += 1
            try:
                await self._ask_besides(rectangle)
            except FatalError:
                raise
            except ContentError:
                return True
            except CallError as error:
                if is_last:
                    return True if is_of_the_answer(error) else None
            else:
                return False
        return None

    def _should_retry(self, batch: OpenBatch, error: TransientError) -> bool:
        """Decide about another attempt of a batch, and charge it."""
        pace, now = self._pace, self._runtime.clock()
        if batch.failed_at is None:
            batch.failed_at = now
        if self._calls.succeeded_at > batch.failed_last_at:
            batch.in_vain = 0
        batch.in_vain += 1
        batch.failed_last_at = now
        batch.foreign += isinstance(error, ForeignRowsError)
        self._note_timeout(batch, error)
        if self._is_splittable_timeout(batch, error) and self._is_worth_splitting(batch, error):
            return False
        if isinstance(error, OverloadedError) and self._is_unproven(batch):
            return False  # whatever the reason, smaller batches are known to be taken
        if pace.health.outage is None:
            batch.counted += self._calls.is_own_fault(batch.number, error)
            if batch.counted >= self._most_attempts(batch, error):
                return False
            batch.cost = pace.quota.charge(after_timeout=isinstance(error, TimedOutError))
            if batch.cost is None:
                pace.health.begin_outage(str(error), now)
        elif self._may_be_too_much(batch, error):
            # Then something smaller is asked for.
            batch.counted += 1
            if batch.counted >= _ATTEMPTS_OF_A_SUSPECT:
                return False
        self._counters.retries += 1
        pace.timeline.on_retry(now)
        return True

    def _note_timeout(self, batch: OpenBatch, error: TransientError) -> None:
        if isinstance(error, TimedOutError):
            batch.timeouts += 1
            self._reactions.note_timeout()

    def _may_be_too_much(self, batch: OpenBatch, error: TransientError) -> bool:
        """Whether a batch that is refused may be too much, while smaller ones are taken."""
        if not isinstance(error, OverloadedError) or self._calls.smallest is None:
            return False
        return batch.rectangle is not None and batch.rectangle.pairs > 1

    def _most_attempts(self, batch: OpenBatch, error: TransientError) -> int:
        """Return how often a batch may fail by its own fault before something else is done."""
        rectangle, most = batch.rectangle, self._policy.attempts
        if isinstance(error, ForeignRowsError):
            # Those that failed before for another reason, as in an outage, say nothing of this one.
            most = max(most, batch.counted - batch.foreign + min(most, _ATTEMPTS_OF_A_SUSPECT))
        is_suspected = rectangle is not None and self._reactions.is_suspected(rectangle)
        if rectangle is None or not is_suspected or not is_of_the_answer(error):
            return most
        # Asking for the parts of what is suspected tells more than asking for it again.
        is_last = rectangle.is_indivisible or self._reactions.is_accused(rectangle)
        return min(most, _ATTEMPTS_OF_A_SUSPECT) if is_last else 1

    def _is_splittable_timeout(self, batch: OpenBatch, error: CallError) -> bool:
        return (
            isinstance(error, TimedOutError)
            and batch.rectangle is not None
            and batch.rectangle.pairs > 1
        )

    def _is_worth_splitting(self, batch: OpenBatch, error: CallError) -> bool:
        """Whether it is likely for what it asks for that a batch was not answered in time."""
        assert batch.rectangle is not None
        if self._pace.sizes[batch.axis].is_small(batch.rectangle.width(batch.axis)):
            return batch.timeouts >= _TIMEOUTS_BEFORE_SPLIT_OF_SMALL
        return (
            batch.timeouts >= _TIMEOUTS_BEFORE_SPLIT
            or isinstance(error, GivenUpError)
            or self._is_unproven(batch)
            or self._is_of_new_kind(batch)
        )

    def _is_unproven(self, batch: OpenBatch) -> bool:
        """Whether no batch of this size has succeeded, while smaller ones have."""
        assert batch.rectangle is not None
        axis = batch.axis
        return 0 < self._pace.sizes[axis].proven < batch.rectangle.width(axis)

    def _is_of_new_kind(self, batch: OpenBatch) -> bool:
        """Whether a batch is the first to leave a side out, while others have succeeded."""
        assert batch.rectangle is not None
        is_known = self._pace.sizes[batch.axis].proven > 0 or self._calls.smallest is None
        return bool(batch.rectangle.unsent) and not is_known

    async def _is_service_out(self, batch: OpenBatch, error: CallError) -> bool:
        """Whether a batch that has used up its attempts has the service to blame.

        If nothing has succeeded while it failed a few times, something that succeeded before is
        asked for again, and its rows are dropped: if that succeeds, it is the batch.
        """
        known = self._calls.smallest
        if (
            not isinstance(error, TransientError)
            or isinstance(error, ForeignRowsError)
            or min(batch.counted, batch.in_vain)
            < min(self._policy.attempts, _ATTEMPTS_OF_A_SUSPECT)
            or known is None
        ):
            return False
        self._counters.confirmations += 1
        try:
            await self._ask_besides(known)
        except FatalError:
            raise
        except CallError as failure:
            batch.counted = 0
            self._pace.health.begin_outage(str(failure), self._runtime.clock())
            return True
        return False

    def _has_succeeded_since(self, batch: OpenBatch) -> bool:
        """Whether any call has succeeded that began after a batch first failed."""
        return batch.failed_at is not None and self._calls.succeeded_at > batch.failed_at

    def _note_stop(self, cause: str) -> None:
        self._stopped_because = cause
