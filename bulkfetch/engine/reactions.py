"""What becomes of a batch that was not fetched, by its class of fault.

Too large, or refused whenever it is asked for while others are not: split, into parts of a size
that has succeeded where one has. Content: bisected down to the ids at fault, which are quarantined;
so is a transient fault of the answer that persists while other batches succeed, because it is this
batch's own. Anything else has failed, by name.

While there is other work, bisection has no more than half of the places, so that healthy ids are
not held up by bad ones. Its calls go over connections of their own: what names an id, or says that
one has no enrollment, is then beyond doubt, and need not be confirmed by another call. Where the
batch alone does not tell which id is at fault, others are asked for besides; their rows are
dropped.

What earlier runs quarantined, and is to be asked for again, comes after all else that is missing,
each id by itself (see `bulkfetch.engine.accused`); such a call is made like one of bisection.
"""

import math
from collections import deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from bulkfetch.engine.accused import Accused, Retrial
from bulkfetch.engine.batch import OpenBatch, name_failed
from bulkfetch.engine.caps import CappedError, Caps
from bulkfetch.engine.hopeless import DOUBTFUL_QUARANTINES, find_answered, may_be_hopeless
from bulkfetch.engine.outcome import Counters
from bulkfetch.engine.peeling import Peeling
from bulkfetch.engine.suspects import Ask, Culprit, Doubt, Step, Suspects
from bulkfetch.errors import (
    CallError,
    ContentError,
    ForeignRowsError,
    MalformedAnswerError,
    OverloadedError,
    ServerFailedError,
    TimedOutError,
    TokenRejectedError,
    TooLargeError,
    TransientError,
)
from bulkfetch.pace.controller import Pace
from bulkfetch.plan.fixed import FixedPlan
from bulkfetch.plan.frontier import Frontier, default_cut
from bulkfetch.plan.planner import Planner
from bulkfetch.plan.rectangle import Axis, CannotSplitError, Rectangle, split_evenly
from bulkfetch.words import counted

_REQUEST_TOO_LARGE = frozenset({413, 414})
_OF_THE_ANSWER = (ServerFailedError, MalformedAnswerError, ForeignRowsError)
_SHARE_OF_SUSPECTS = 2  # every second place at most
_NARROW = 10
_FAR_LARGER = 10

Rejection = tuple[OpenBatch, CallError]


@dataclass(frozen=True, slots=True)
class RunLimits:
    """When a run ends early, and whether it may ask twice.

    Attributes:
        deadline: on the runtime's clock; no call begins after it. None for none.
        max_quarantined: how many ids or pairs may be quarantined; None for any number.
        hedge: whether the slowest calls are made a second time.
    """

    deadline: float | None = None
    max_quarantined: int | None = None
    hedge: bool = False


class Reactions:
    """Splits, bisects, quarantines and gives up batches.

    Args:
        regions: all that the run will ask for.
        frontier: where parts go back to.
        planner: knows whether something can be asked for in another way.
        pace: knows the sizes that succeed.
        caps: what is known of the service's silent caps; asks for nothing besides that was
            rejected.
        limits: when to end early.
        counters: where the numbers go, and the ids that are given up.
        stop: ends the run, for a reason.
        accused: what earlier runs quarantined, and is to be asked for again.
        retrial: asks for it.
        whole: the ids of all that was ever asked for.
    """

    def __init__(
        self,
        regions: Sequence[Rectangle],
        frontier: Frontier,
        planner: Planner | FixedPlan,
        pace: Pace,
        *,
        caps: Caps,
        limits: RunLimits,
        counters: Counters,
        stop: Callable[[str], None],
        accused: Accused,
        retrial: Retrial,
        whole: Mapping[Axis, Sequence[str]] | None = None,
    ) -> None:
        self._frontier = frontier
        self._planner = planner
        self._pace = pace
        self._caps = caps
        self._limits = limits
        self._counters = counters
        self._stop = stop
        self._regions = regions
        self._accused = accused
        self._retrial = retrial
        self._suspects = Suspects(regions, accused, whole)
        self._peeling = Peeling(frontier, pace)
        self._doubts: deque[Doubt] = deque()
        self._settling = 0
        self._newly_quarantined = 0  # and not by an earlier run
        self._suspected: set[Rectangle] = set()
        self._rejections: dict[Rectangle, Rejection] = {}  # of what may be named later
        self._suspected_open = 0
        self._is_any_answered = False
        self._latest_rejection: str | None = None  # after which to look elsewhere
        self._is_hopeful = True  # False while it is found out whether anything is answered

    def note_closed(self, rectangle: Rectangle) -> None:
        """Note a batch that was fetched or is reacted to."""
        self._suspected_open -= rectangle in self._suspected

    def note_success(self, rectangle: Rectangle) -> bool:
        """Note a call that succeeded; whether there is more to ask for than before."""
        self._is_any_answered = True
        self._peeling.note_success(rectangle)
        self._retrial.note_answered(rectangle)
        return self._follow(self._suspects.clear(rectangle))

    def note_timeout(self) -> None:
        """Note a call that was not answered in time."""
        self._peeling.note_timeout()

    async def settle_doubts(
        self, is_rejected: Callable[[Rectangle], Awaitable[bool | None]]
    ) -> None:
        """Find out what is at fault where a batch alone does not tell.

        Args:
            is_rejected: asks for a rectangle, drops its rows, and says whether it was rejected;
                None if that is not known.
        """
        while self._doubts:
            self._settling += 1
            try:
                await self._settle(self._doubts.popleft(), is_rejected)
            finally:
                self._settling -= 1
        if self._latest_rejection is not None:
            await self._look_elsewhere(self._latest_rejection, is_rejected)

    async def _settle(
        self, doubt: Doubt, is_rejected: Callable[[Rectangle], Awaitable[bool | None]]
    ) -> None:
        trial = self._suspects.try_doubt(doubt)
        answer: bool | None = None
        while True:
            try:
                question = trial.send(answer)
            except StopIteration as settled:
                # What has gone bad since is named by the rejection of what was asked for with it.
                latest = self._rejections.get(doubt.rectangle) if doubt.is_again else None
                self._follow(settled.value, latest)
                return
            answer = await is_rejected(question)
            if answer is False:
                self.note_success(question)

    async def _look_elsewhere(
        self, cause: str, is_rejected: Callable[[Rectangle], Awaitable[bool | None]]
    ) -> None:
        self._latest_rejection = None
        found = await find_answered(self._regions, is_rejected, at_a_time=self._pace.limit)
        if found is None:
            self._stop(f"not fetched, because every call was rejected. The last error: {cause}")
        else:
            self.note_success(found)
        self._is_hopeful = True

    def peel(self, batch: OpenBatch, rectangle: Rectangle) -> Rectangle:
        """Return what a batch should ask for now, at most what it did."""
        is_of_search = self.is_suspected(rectangle) and not self.is_accused(rectangle)
        if self._is_any_answered or is_of_search:
            return rectangle
        return self._peeling.peel(batch, rectangle)

    def is_suspected(self, rectangle: Rectangle) -> bool:
        """Whether the rectangle is a part of one whose content was rejected."""
        return rectangle in self._suspected

    @property
    def has_work(self) -> bool:
        """Whether there is anything that may be asked for now."""
        return self._is_hopeful and (
            self._frontier.has_pieces or self._may_take_whole() or self._may_try_again()
        )

    def take(self) -> Rectangle | None:
        """Take the next batch from the frontier; None if there is none for now."""
        if not self._is_hopeful:
            return None
        has_enough_suspects = _SHARE_OF_SUSPECTS * self._suspected_open >= self._pace.limit
        is_whole_free = self._may_take_whole()
        rectangle = None
        if is_whole_free or self._frontier.has_pieces:
            rectangle = self._frontier.take(whole_first=has_enough_suspects and is_whole_free)
        while rectangle is None and self._may_try_again():
            rectangle = self._take_again()
        if rectangle is not None:
            self._suspected_open += rectangle in self._suspected
        return rectangle

    def release(self, *, is_idle: bool) -> None:
        """When all of the accused were asked for, and judged, have the rest of them fetched.

        Args:
            is_idle: whether no batch is open.
        """
        if is_idle and not self._doubts and not self._settling:
            held = self._retrial.release()
            if held:
                self._planner.add(held)

    def withheld(self) -> list[Rectangle]:
        """Return what is not asked for before something else is answered."""
        return self._suspects.withheld()

    def ids_left(self, axis: Axis) -> int:
        """Return how many ids of a side the next batches may name."""
        return max(1, self._frontier.ids_left, self._retrial.ids_left(axis))

    def give_up_again(self) -> None:
        """Put what is accused, and was not asked for, to what remains."""
        self._frontier.give_back(*self._retrial.remaining())

    def is_accused(self, rectangle: Rectangle) -> bool:
        """Whether it names only what earlier runs quarantined, and was not judged since."""
        return self._accused.axis_of(rectangle) is not None

    def _may_try_again(self) -> bool:
        following = self._retrial.next
        return following is not None and not self._suspects.holds_back(following)

    def _take_again(self) -> Rectangle | None:
        """Take the next of the accused; None if what it is asked for with was named meanwhile."""
        following = self._retrial.next
        if following is None:
            return None
        along = default_cut(following).axis
        taken = self._retrial.take(partial(self._frontier.most_of_batch, along=along))
        self._frontier.give_back(taken)
        rectangle = self._frontier.take()  # without what is excluded
        if rectangle is not None:
            self._suspected.add(rectangle)
        return rectangle

    def _may_take_whole(self) -> bool:
        whole = self._frontier.next_whole
        return whole is not None and not self._suspects.holds_back(whole)

    def react(
        self, batch: OpenBatch, rectangle: Rectangle, error: CallError, *, others_succeed: bool
    ) -> None:
        """Decide what becomes of a batch that was not fetched.

        Args:
            batch: which one.
            rectangle: what it asked for.
            error: of its last attempt.
            others_succeed: whether any call has succeeded since it first failed.
        """
        if self._frontier.excludes_some_of(rectangle):
            self._frontier.give_back(rectangle)
        elif self._cut_anew(batch, rectangle, error) or (
            self._is_too_large(batch, rectangle, error, others_succeed)
            and self._part(batch, rectangle, error)
        ):
            self._counters.splits += 1
        elif isinstance(error, ContentError) or (
            is_of_the_answer(error) and (others_succeed or rectangle in self._suspected)
        ):
            self._bisect(batch, rectangle, error)
            return
        else:
            self.fail(rectangle, str(error), batch)
            if not others_succeed and isinstance(error, TransientError | TokenRejectedError):
                self._stop(
                    f"not fetched, because the service does not answer. The last error: {error}"
                )
        self._follow(self._suspects.let_go(rectangle))

    def fail(self, rectangle: Rectangle, cause: str, batch: OpenBatch | None) -> None:
        """Name what could not be fetched."""
        self._counters.failed.append(name_failed(rectangle, cause, batch))

    def _cut_anew(self, batch: OpenBatch, rectangle: Rectangle, error: CallError) -> bool:
        is_refused = isinstance(error, OverloadedError | TimedOutError)
        is_refused &= not self.is_suspected(rectangle)
        return is_refused and self._peeling.cut_anew(batch, rectangle)

    def _is_too_large(
        self, batch: OpenBatch, rectangle: Rectangle, error: CallError, others_succeed: bool
    ) -> bool:
        """Whether the batch is too large, or may be: some services say 429 or 503 to that, too."""
        if isinstance(error, OverloadedError):
            proven = self._pace.sizes[batch.axis].proven
            return others_succeed or 0 < proven < rectangle.width(batch.axis)
        return isinstance(error, TooLargeError | TimedOutError)

    def _part(self, batch: OpenBatch, rectangle: Rectangle, error: CallError) -> bool:
        """Ask for parts instead, or name what was not named; False for what cannot be parted.

        A request that is too large is halved along its longer side, an answer along the side that
        batches run along, a capped list into parts that are read whole.
        """
        axis = cut = batch.axis
        is_request = is_request_too_large(error) and not self._pace.taken.cover(rectangle)
        most = self._pace.sizes[axis].proven
        if not is_request and not isinstance(error, OverloadedError):
            self._planner.note_too_large(rectangle)
        if is_request or len(rectangle.named(axis) or ()) == 1:
            cut = rectangle.longer_axis()
        if isinstance(error, CappedError) and error.axis is not None and error.ids is not None:
            cut, most = error.axis, error.ids
            self._frontier.shrink(cut, most)
        elif isinstance(error, CappedError):
            wanted = self._caps.pairs_wanted(rectangle) / rectangle.width(cut.other)
            most = int(min(max(1.0, wanted), rectangle.width(cut)))
            if cut is axis and most < rectangle.width(cut):
                self._frontier.shrink(cut, most)
        elif cut is not axis:
            most = 0
        elif not is_request and (
            self._is_narrow(rectangle, axis.other) or rectangle.width(axis) >= _FAR_LARGER * most
        ):
            # What was proven is far from what is too much, which lies anywhere between: in the
            # middle, neither more calls than need be nor more in vain are likely.
            most = math.isqrt(most * rectangle.width(axis))
        try:
            pieces = split_evenly(rectangle, cut, most)
        except CannotSplitError:
            return self._planner.narrow(rectangle)
        if is_request and cut is not axis:
            self._frontier.shrink(cut, pieces[0].width(cut))
        self._frontier.give_back(*pieces)
        return True

    def _is_narrow(self, rectangle: Rectangle, axis: Axis) -> bool:
        """Whether a batch has far fewer ids of a side than batches usually have."""
        usual = max(region.width(axis) for region in self._regions)
        return _NARROW * rectangle.width(axis) <= usual

    def _bisect(self, batch: OpenBatch, rectangle: Rectangle, error: CallError) -> None:
        self._caps.avoid(rectangle)
        is_again = self.is_accused(rectangle)
        if is_again:
            self._retrial.note_rejected()
        if rectangle.is_indivisible or is_again:
            self._rejections[rectangle] = batch, error
        steps = self._suspects.reject(rectangle)
        self._counters.splits += any(isinstance(step, Ask) and step.is_suspect for step in steps)
        self._follow(steps, (batch, error))

    def _follow(self, steps: Sequence[Step], latest: Rejection | None = None) -> bool:
        """Do as bisection says, before all else; whether there is more to ask for.

        `latest` is the rejection that it follows, if it does.
        """
        for step in steps:
            # A culprit is named first: what is asked for after it does not name it again.
            if isinstance(step, Culprit):
                rejection = self._rejections.pop(step.rectangle, latest)
                assert rejection is not None
                self._quarantine(step, *rejection)
        for step in steps:
            if isinstance(step, Doubt):
                self._doubts.append(step)
                if latest is not None and not step.is_again:
                    self._rejections[step.rectangle] = latest
        asks = [step for step in steps if isinstance(step, Ask)]
        self._suspected.update(step.rectangle for step in asks if step.is_suspect)
        self._frontier.give_back(*(step.rectangle for step in asks))
        return bool(asks)

    def _quarantine(self, found: Culprit, batch: OpenBatch, error: CallError) -> None:
        culprit = found.rectangle.leaving_out()
        if found.axis is not None:
            # The id is at fault wherever it stands: no later batch asks for it.
            self._frontier.exclude(found.axis, culprit.side(found.axis) or ())
            culprit = culprit.replace(found.axis.other, None)
        quarantined = self._counters.quarantined
        if found.axis is not None:  # its pairs may have been named one by one before
            for other in [each for each in quarantined if _is_part(each, culprit, found.axis)]:
                del quarantined[other]
        # Batches that were open at the time may accuse the same id again.
        quarantined.setdefault(culprit, name_failed(culprit, str(error), batch))
        self._newly_quarantined += not self._accused.was_accused(culprit)
        most = self._limits.max_quarantined
        if most is not None and len(quarantined) > most:
            too_many = counted(most, "id or pair was", "ids or pairs were")
            self._stop(
                f"not fetched, because more than {too_many} rejected. The last error: {error}"
            )
        elif (
            self._is_hopeful
            and not self._is_any_answered
            and self._newly_quarantined >= DOUBTFUL_QUARANTINES
            and may_be_hopeless(self._regions)
        ):
            self._is_hopeful = False
            self._latest_rejection = str(error)


def _is_part(pair: Rectangle, whole: Rectangle, axis: Axis) -> bool:
    return pair != whole and pair.side(axis) == whole.side(axis)


def is_of_the_answer(error: CallError) -> bool:
    """Whether a fault that is retried may be what the service always answers to these ids."""
    return isinstance(error, _OF_THE_ANSWER)


def is_request_too_large(error: CallError) -> bool:
    """Whether the service says outright that the request is too large, not the answer."""
    return error.status in _REQUEST_TOO_LARGE
