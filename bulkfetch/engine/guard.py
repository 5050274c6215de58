"""Guard what is handed on: no answer counts before it is clear that no cap cut it short.

`bulkfetch.engine.caps` decides what is suspect and what to ask for; the calls are asked for here,
for one suspect answer at a time, since what one of them shows mostly settles the others. The run
makes them like all others, each in a place of its own. An answer that is cut short is raised as
`CappedError`, which the run halves like any that is too large. So nothing is handed on that would
have to be taken back.
"""

import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from collections.abc import Set as AbstractSet
from typing import Generic, TypeVar

import anyio
import anyio.lowlevel

from bulkfetch.engine.call import Fetched
from bulkfetch.engine.caps import Caps, Suspicion, WithRows
from bulkfetch.engine.outcome import Counters
from bulkfetch.errors import (
    ContentError,
    MalformedAnswerError,
    ServerFailedError,
    TimedOutError,
    TooLargeError,
)
from bulkfetch.plan.rectangle import Axis, CannotSplitError, Rectangle, split

RowsT = TypeVar("RowsT")

_TWO_WAYS = "The service answered the same question in two ways: one of them is not whole."
_SAMPLES = {Axis.LEARNERS: 100, Axis.COURSES: 5}
_REFUSED = (ContentError, MalformedAnswerError, ServerFailedError, TimedOutError, TooLargeError)


class Guard(Generic[RowsT]):
    """Refuses answers that a silent cap cut short.

    Args:
        ask: makes the calls.
        caps: what is known of the service's caps.
        counters: where the extra calls are counted.
        step_aside: called when an answer has to wait until others are checked.
        step_back: called when its turn has come.
    """

    def __init__(
        self,
        ask: Callable[[Rectangle], Awaitable[Fetched[RowsT]]],
        caps: Caps,
        counters: Counters,
        *,
        step_aside: Callable[[], None],
        step_back: Callable[[], None],
    ) -> None:
        self._ask_for = ask
        self._step_aside = step_aside
        self._step_back = step_back
        self._caps = caps
        self._counters = counters
        self._one_at_a_time = anyio.Lock()

    async def check(self, fetched: Fetched[RowsT]) -> Fetched[RowsT]:
        """Find out whether an answer is whole, unless that is known already.

        Returns:
            It, or a newer one if the data have changed meanwhile.

        Raises:
            CappedError: the service leaves out some of it.
            CallError: a call failed; its class says what to do.
        """
        caps, rectangle = self._caps, fetched.rectangle
        caps.check_width(rectangle)
        with_rows = _with_rows(fetched)
        await self._check_ids(fetched)
        suspicion = caps.judge(fetched.received)
        caps.note(rectangle, fetched.received, with_rows)
        if suspicion is Suspicion.NONE:
            return fetched
        async with self._turn():
            return await self._check_rows(fetched)

    @contextlib.asynccontextmanager
    async def _turn(self) -> AsyncIterator[None]:
        """Check one answer at a time."""
        lock = self._one_at_a_time
        if lock.locked():
            self._step_aside()
        async with lock:
            try:
                yield
            finally:
                # On behalf of the next one, who goes on a moment later: nobody is to slip in.
                if lock.statistics().tasks_waiting:
                    self._step_back()

    async def _check_ids(self, fetched: Fetched[RowsT]) -> None:
        """Find out whether the ends of an answer's id lists were read, unless that is known.

        Raises:
            CappedError: they were not.
        """
        caps, rectangle, before = self._caps, fetched.rectangle, _with_rows(fetched)
        if not caps.reorder(rectangle, before):
            return
        async with self._turn():
            for asked in caps.reorder(rectangle, before):  # others may have settled it meanwhile
                answer = await self._ask(asked.rectangle)
                after = _with_rows(answer)[asked.axis]
                if not caps.hear_reordered(asked, before[asked.axis], after):
                    continue
                again = await self._ask(rectangle)
                if _with_rows(again) != before:
                    raise MalformedAnswerError(_TWO_WAYS)  # or the data have changed meanwhile
                if answer.received == fetched.received:
                    raise caps.left_out(fetched.received)
                caps.prove_ids(asked.axis)
            caps.check_width(rectangle)

    async def _check_rows(self, fetched: Fetched[RowsT]) -> Fetched[RowsT]:
        """Find out whether an answer is whole.

        Returns:
            It, or a newer one if the data have changed meanwhile.

        Raises:
            CappedError: rows are missing.
        """
        caps = self._caps
        suspicion = caps.judge(fetched.received)
        if suspicion is Suspicion.LARGEST and await self._ask_one_more(fetched):
            suspicion = caps.judge(fetched.received)
        if suspicion is Suspicion.CAPPED:
            raise caps.capped_rows()
        if suspicion is Suspicion.NONE:
            return fetched
        return await self._compare(fetched)

    async def _ask_one_more(self, fetched: Fetched[RowsT]) -> bool:
        """Ask for a little more; say whether that settled the matter."""
        one_more = self._caps.one_more(fetched.rectangle, _with_rows(fetched))
        if one_more is None:
            return False
        try:
            answer = await self._ask(one_more.rectangle)
        except _REFUSED:
            self._caps.stop_growing()
            return False
        with_rows = _with_rows(answer)
        return self._caps.hear_one_more(one_more, answer.received, fetched.received, with_rows)

    async def _compare(self, whole: Fetched[RowsT]) -> Fetched[RowsT]:
        """Ask for the parts of an answer, and compare.

        A part that has all the rows may be cut short itself, and is compared in turn.
        """
        part = whole
        while True:
            pieces = _parts(part)
            if not pieces:
                refusal = self._caps.refuse_rows(whole.received)
                if refusal is not None:
                    raise refusal
                break
            known = await _hashes(whole)
            unknown: set[int] = set()
            full: list[Fetched[RowsT]] = []
            for piece in pieces:
                answer = await self._ask_sample(piece)
                if answer is None:
                    continue
                unknown |= await _hashes(answer, besides=known)
                full += [answer] if answer.received >= whole.received else []
            if unknown:
                # The data may have changed meanwhile: then another answer has them.
                again = await self._ask(whole.rectangle)
                newer = await _hashes(again)
                if not unknown <= newer:
                    raise self._caps.prove_rows(whole.received)
                if not known <= newer:
                    raise MalformedAnswerError(_TWO_WAYS)
                return again
            if not full:
                break
            part = full[0]
        self._caps.pass_rows(whole.received)
        return whole

    async def _ask_sample(self, rectangle: Rectangle) -> Fetched[RowsT] | None:
        """Ask for a rectangle, or for as much of it as the service takes; None if it takes none.

        It may name ids that the answer under suspicion was got without, and one of them be bad.
        """
        while True:
            try:
                return await self._ask(rectangle)
            except (TooLargeError, ContentError) as error:
                try:
                    rectangle, _ = split(rectangle)
                except CannotSplitError:
                    if isinstance(error, ContentError):
                        return None
                    raise error from None

    async def _ask(self, rectangle: Rectangle) -> Fetched[RowsT]:
        self._counters.cap_checks += 1
        return await self._ask_for(rectangle)


def _parts(fetched: Fetched[RowsT]) -> tuple[Rectangle, ...]:
    """Return what to compare an answer with: its halves, or samples of the ids that it names."""
    rectangle = fetched.rectangle
    if rectangle.learners is not None or rectangle.courses is not None:
        for asked in (rectangle, rectangle.leaving_out()):
            with contextlib.suppress(CannotSplitError):
                return split(asked)
        return ()
    return tuple(
        rectangle.replace(axis, tuple(sorted(ids)[: _SAMPLES[axis]]))
        for axis, ids in _with_rows(fetched).items()
    )


def _with_rows(fetched: Fetched[RowsT]) -> WithRows:
    return {Axis.LEARNERS: fetched.learner_ids, Axis.COURSES: fetched.course_ids}


async def _hashes(answer: Fetched[RowsT], *, besides: AbstractSet[int] = frozenset()) -> set[int]:
    """Return the hashes of an answer's enrollment ids, a fraction of their size, besides others.

    The loop goes on between documents: a large answer has a million ids.
    """
    hashes: set[int] = set()
    for rows in answer.rows:
        hashes.update(
            hashed for hashed in map(hash, answer.read_ids(rows)) if hashed not in besides
        )
        await anyio.lowlevel.checkpoint()
    return hashes
