"""Guard what is handed on: no answer counts before it is clear that no cap cut it short.

`bulkfetch.engine.caps` decides what is suspect and what to ask for; the calls are asked for here,
for one suspect answer at a time, the largest that waits, since what it shows mostly settles the
others. The run makes them like all others, each in a place of its own. An answer that is cut short
is raised as `CappedError`, which the run halves like any that is too large. So nothing is handed on
that would have to be taken back.
"""

import contextlib
from array import array
from collections.abc import Awaitable, Callable, Mapping, Sequence
from itertools import accumulate
from typing import Generic, NamedTuple, TypeVar

import anyio
import anyio.lowlevel

from bulkfetch.engine.call import Fetched
from bulkfetch.engine.caps import CappedError, Caps, Suspicion, Volume, WithRows
from bulkfetch.engine.causes import first_cause
from bulkfetch.engine.outcome import Counters
from bulkfetch.engine.turns import Turns
from bulkfetch.errors import (
    CallError,
    ContentError,
    MalformedAnswerError,
    OverloadedError,
    ServerFailedError,
    TimedOutError,
    TooLargeError,
)
from bulkfetch.plan.rectangle import Axis, CannotSplitError, Rectangle, split

RowsT = TypeVar("RowsT")

_TWO_WAYS = "The service answered the same question in two ways: one of them is not whole."
_CONTRADICTIONS = 2  # prove a cap that wavers
_NEARLY_ALL = 0.95
_LONG_S = 1.5  # more of such an answer takes longer than its halves, and the run may wait for it
_LITTLE_BYTES = 128 * 1024 * 1024
_SAMPLES = {Axis.LEARNERS: 100, Axis.COURSES: 5}
_REFUSED = (
    ContentError,
    MalformedAnswerError,
    OverloadedError,  # some limits on size say 429 or 503
    ServerFailedError,
    TimedOutError,
    TooLargeError,
)


class Guard(Generic[RowsT]):
    """Refuses answers that a silent cap cut short.

    Args:
        ask: makes a call that is given up soon, for there is another way.
        ask_patiently: makes one that may fail for a time: then again, after a while.
        caps: what is known of the service's caps.
        counters: where the extra calls are counted.
        refused: of each side, so many ids were refused, or took too long.
        step_aside: called when an answer has to wait until others are checked.
        step_back: called when its turn has come.
    """

    def __init__(
        self,
        ask: Callable[[Rectangle], Awaitable[Fetched[RowsT]]],
        ask_patiently: Callable[[Rectangle], Awaitable[Fetched[RowsT]]],
        caps: Caps,
        counters: Counters,
        *,
        refused: Callable[[], Mapping[Axis, int]],
        step_aside: Callable[[], None],
        step_back: Callable[[], None],
    ) -> None:
        self._ask_once = ask
        self._ask_patiently = ask_patiently
        self._refused = refused
        self._turns = Turns(step_aside, step_back)
        self._caps = caps
        self._counters = counters
        self._contradictions = 0

    async def check(
        self, fetched: Fetched[RowsT], keep: Callable[[], Awaitable[None]]
    ) -> Fetched[RowsT]:
        """Find out whether an answer is whole, unless that is known already.

        Args:
            fetched: the answer.
            keep: awaited before that takes calls, for the run may end before it is known.

        Returns:
            It, or a newer one if the data have changed meanwhile.

        Raises:
            CappedError: the service leaves out some of it.
            CallError: a call failed; its class says what to do.
        """
        caps, rectangle = self._caps, fetched.rectangle
        caps.check_width(rectangle)
        if caps.limit is None or self._judge(fetched) is Suspicion.NONE:
            await self._check_ids(fetched, keep)
        is_drawn = caps.draws_next
        suspicion = self._judge(fetched, is_drawn=is_drawn)
        caps.note(rectangle, volume_of(fetched), _with_rows(fetched))
        if suspicion is Suspicion.NONE:
            return fetched
        await keep()
        async with self._turns.take(volume_of(fetched)):
            return await self._check_rows(fetched, is_drawn=is_drawn)

    @property
    def waiting(self) -> int:
        """How many answers wait for their check; of many that hold much, so many as hold little."""
        sizes = accumulate(volume.body_bytes for volume in self._turns.waiting)
        return sum(held_bytes < _LITTLE_BYTES for held_bytes in sizes)

    def is_doubtful(self, fetched: Fetched[RowsT]) -> bool:
        """Whether an answer does not count any more, by what has been proven since its check."""
        if self._caps.limit is not None and self._judge(fetched) is Suspicion.NONE:
            return self._caps.is_too_wide(fetched.rectangle)
        return self._caps.doubts(fetched.rectangle, volume_of(fetched))

    def _judge(self, fetched: Fetched[RowsT], *, is_drawn: bool = False) -> Suspicion:
        is_divisible = fetched.rectangle.pairs > 1
        return self._caps.judge(volume_of(fetched), is_drawn=is_drawn, is_divisible=is_divisible)

    async def _check_ids(
        self, fetched: Fetched[RowsT], keep: Callable[[], Awaitable[None]]
    ) -> None:
        """Find out whether the ends of an answer's id lists were read, unless that is known.

        Raises:
            CappedError: they were not.
        """
        caps, rectangle, before = self._caps, fetched.rectangle, _with_rows(fetched)
        if not caps.reorder(rectangle, before):
            return
        await keep()
        async with self._turns.take(volume_of(fetched)):
            for asked in caps.reorder(rectangle, before):  # others may have settled it meanwhile
                answer = await self._ask(asked.rectangle)
                after = _with_rows(answer)[asked.axis]
                if not caps.hear_reordered(asked, before[asked.axis], after):
                    continue
                again = await self._ask(rectangle)
                if _with_rows(again) != before:
                    raise self._contradict(min(map(volume_of, (fetched, again)), key=_by_rows))
                if answer.received == fetched.received:
                    raise caps.left_out(volume_of(fetched))
                caps.prove_ids(asked.axis)
            caps.check_width(rectangle)

    async def _check_rows(self, fetched: Fetched[RowsT], *, is_drawn: bool) -> Fetched[RowsT]:
        """Find out whether an answer is whole; `is_drawn` if it is one of the sample.

        Returns:
            It, or a newer one if the data have changed meanwhile.

        Raises:
            CappedError: rows are missing.
        """
        caps = self._caps
        suspicion = self._judge(fetched, is_drawn=is_drawn)  # more is known since it waited
        if suspicion in {Suspicion.LARGE, Suspicion.SAMPLED}:
            if fetched.latency_s < _LONG_S and await self._ask_one_more(fetched):
                return fetched
            if caps.limit is not None:
                suspicion = self._judge(fetched, is_drawn=is_drawn)
        if suspicion is Suspicion.CAPPED:
            raise caps.capped_rows()
        if suspicion is Suspicion.NONE:
            return fetched
        return await self._compare(fetched)

    async def _ask_one_more(self, fetched: Fetched[RowsT]) -> bool:
        """Ask for more; say whether the answer is so much larger that this one is clear."""
        caps = self._caps
        one_more = caps.one_more(
            fetched.rectangle, _with_rows(fetched), self._refused(), fetched.received
        )
        if one_more is None:
            return False
        known = await _hashes(fetched)
        for is_last in (False, True):
            try:
                self._counters.cap_checks += 1
                answer = await self._ask_once(one_more.rectangle)
            except _REFUSED:
                caps.stop_growing()
                return False
            caps.note(one_more.rectangle, volume_of(answer), _with_rows(answer))
            has_all = one_more.must_have_rows <= _with_rows(answer)[one_more.axis]
            if has_all and known <= await _hashes(answer):
                return volume_of(answer).clears(volume_of(fetched))
            if is_last:  # or else the data had changed in between
                caps.hear_short(one_more, volume_of(answer), _with_rows(answer))
        return False

    async def _compare(self, whole: Fetched[RowsT]) -> Fetched[RowsT]:
        """Ask for the parts of an answer, and compare.

        A part that has nearly all the rows may be cut short itself, and is compared in turn.
        """
        digest = await _digest(whole)
        part = digest
        while pieces := _parts(part):
            answers = await self._ask_parts(pieces)
            are_halves = part is digest and _are_halves(answers, digest.rectangle, pieces)
            if not (are_halves and _add_up(digest, answers)):
                newer = await self._explain(digest, answers, are_halves=are_halves)
                if newer is not None:
                    return newer
            full = [each for each in answers if each.volume.rows >= _NEARLY_ALL * whole.received]
            if not full:
                break
            part = full[0]
        else:
            refusal = self._caps.refuse_rows(whole.received)
            if refusal is not None:
                raise refusal
        self._caps.pass_rows(digest.volume)
        return whole

    async def _ask_parts(self, pieces: Sequence[Rectangle]) -> list["_Digest"]:
        """Ask for the parts of an answer at once; of those that the service takes, return digests.

        Raises:
            CallError: a call failed, and all have ended.
        """
        digests: dict[int, _Digest] = {}
        failures: list[CallError] = []

        async def ask(place: int, piece: Rectangle) -> None:
            try:
                answer = await self._ask_sample(piece)
            except CallError as failure:
                failures.append(failure)
                return
            if answer is not None:
                digests[place] = digest = await _digest(answer)
                self._caps.note(digest.rectangle, digest.volume, digest.with_rows)

        try:
            async with anyio.create_task_group() as group:
                for place, piece in enumerate(pieces):
                    group.start_soon(ask, place, piece)
        except BaseExceptionGroup as group_failure:
            raise first_cause(group_failure) from None
        if failures:
            raise failures[0]
        return [digests[place] for place in sorted(digests)]

    async def _explain(
        self, whole: "_Digest", parts: Sequence["_Digest"], *, are_halves: bool
    ) -> Fetched[RowsT] | None:
        """Find out what it means that an answer and its parts may differ.

        Returns:
            A newer answer, if the data have changed; None if the parts have nothing else.

        Raises:
            CappedError: some of them are cut short.
            MalformedAnswerError: they contradict each other, for the first time.
        """
        known = frozenset(whole.hashes)
        found: set[int] = set().union(*(part.hashes for part in parts))
        if not found <= known:
            # The data may have changed meanwhile: then another answer has them.
            again = await self._ask(whole.rectangle)
            newer = await _hashes(again)
            if not found - known <= newer:
                raise self._caps.prove_short(whole.volume)
            if not known <= newer:
                raise self._contradict(whole.volume)
            return again
        if are_halves and not known <= found:
            if known <= await _hashes(await self._ask(whole.rectangle)):
                raise self._caps.prove_short(max((part.volume for part in parts), key=_by_rows))
            raise self._contradict(whole.volume)
        return None

    def _contradict(self, volume: Volume) -> MalformedAnswerError | CappedError:
        """Return the error for two answers to one question, the smaller of so much.

        The data may have changed meanwhile, or answers been mixed up: once.
        """
        self._contradictions += 1
        if self._contradictions < _CONTRADICTIONS:
            return MalformedAnswerError(_TWO_WAYS)
        return self._caps.prove_short(volume)

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
        return await self._ask_patiently(rectangle)


class _Digest(NamedTuple):
    """What an answer is compared by: a fraction of its size."""

    rectangle: Rectangle
    volume: Volume
    with_rows: WithRows
    hashes: "array[int]"  # of the enrollment ids
    total: int  # of the hashes


async def _digest(answer: Fetched[RowsT]) -> _Digest:
    """Digest an answer. The loop goes on between documents: a large one has a million ids."""
    hashes = array("q")
    total = 0
    for rows in answer.rows:
        some = [*map(hash, answer.read_ids(rows))]
        hashes.extend(some)
        total += sum(some)
        await anyio.lowlevel.checkpoint()
    return _Digest(answer.rectangle, volume_of(answer), _with_rows(answer), hashes, total)


def _add_up(whole: _Digest, halves: Sequence[_Digest]) -> bool:
    """Whether the halves of an answer have the rows of the whole, and no others.

    Sums of 61-bit hashes tell: rows that were lost and gained for which they agree by chance are
    one case in 10¹⁸.
    """
    return whole.total == sum(each.total for each in halves) and (
        len(whole.hashes) == sum(len(each.hashes) for each in halves)
    )


def _are_halves(answers: Sequence[_Digest], whole: Rectangle, pieces: Sequence[Rectangle]) -> bool:
    """Whether answers are those to the halves of a rectangle, and not to samples of it."""
    return _is_named(whole) and [each.rectangle for each in answers] == list(pieces)


def _is_named(rectangle: Rectangle) -> bool:
    return rectangle.learners is not None or rectangle.courses is not None


def _parts(answer: _Digest) -> tuple[Rectangle, ...]:
    """Return what to compare an answer with: its halves, or samples of the ids that it names."""
    rectangle = answer.rectangle
    if _is_named(rectangle):
        for asked in (rectangle, rectangle.leaving_out()):
            with contextlib.suppress(CannotSplitError):
                return split(asked)
        return ()
    return tuple(
        rectangle.replace(axis, tuple(sorted(ids)[: _SAMPLES[axis]]))
        for axis, ids in answer.with_rows.items()
    )


def volume_of(fetched: Fetched[RowsT]) -> Volume:
    """Return how much an answer holds."""
    return Volume(fetched.received, fetched.body_bytes)


def _by_rows(volume: Volume) -> int:
    return volume.rows


def _with_rows(fetched: Fetched[RowsT]) -> WithRows:
    return {Axis.LEARNERS: fetched.learner_ids, Axis.COURSES: fetched.course_ids}


async def _hashes(answer: Fetched[RowsT]) -> set[int]:
    """Return the hashes of an answer's enrollment ids."""
    return set((await _digest(answer)).hashes)
