"""The pace of one account: events in, decisions out, no I/O.

Whatever happens to a call is told here (it began, it succeeded, it was refused, it timed out);
asked for are the limit of calls in flight, the ids of the next call, and how long it must wait.
Inside, each question has its own small limiter: concurrency by delay and loss, caps told from
refusals, the call rate, the batch size with its latency model, the Retry-After gate, the retry
quota, the health of the service. All calls to an account share one pace, so that two fetches do not
double it.

Times are the injected clock's, in seconds.
"""

from dataclasses import dataclass, replace
from http import HTTPStatus
from random import Random

from bulkfetch.pace.batch_size import BatchSize, Size
from bulkfetch.pace.concurrency import Concurrency
from bulkfetch.pace.gate import RetryAfterGate
from bulkfetch.pace.health import Health
from bulkfetch.pace.latency import LatencyModel
from bulkfetch.pace.minute import MinuteQuota
from bulkfetch.pace.patience import Haste, Patience
from bulkfetch.pace.quota import RetryQuota
from bulkfetch.pace.rate import CallRate
from bulkfetch.pace.refusals import RATE_MARGIN, Refusals
from bulkfetch.pace.taken import TakenRequests
from bulkfetch.pace.timeline import Timeline
from bulkfetch.plan.rectangle import Axis, Rectangle

MAX_WORKERS = 64
_START = 5
_FALLING_S = 10.0
_LATELY_S = 5.0
_NARROW = 10


@dataclass(frozen=True, slots=True)
class PaceSettings:
    """What the caller pins or bounds.

    Attributes:
        batch_size: ids a call, never more; None to find out.
        workers: calls in flight, never more; None to find out.
        max_workers: most calls in flight where they are found out.
        rate: most calls a second; None for no bound.
        max_outage_s: how long the service may be out before the run gives up.
    """

    batch_size: int | None = None
    workers: int | None = None
    max_workers: int = MAX_WORKERS
    rate: float | None = None
    max_outage_s: float = 600.0


@dataclass(frozen=True, slots=True)
class Ticket:
    """A call that has begun."""

    axis: Axis
    size: Size
    started_at: float
    in_flight: int
    in_second: int
    in_minute: int


@dataclass(frozen=True, slots=True)
class _Cost:
    """What a call came to, until it is known whether it stood in a queue."""

    axis: Axis
    ids: int
    rows: int
    body_bytes: int
    seconds: float


class Pace:
    """When calls may begin, and how much they ask for.

    Args:
        settings: what is pinned or bounded.
        random: spreads the probes of a service that is out.
        timeline: where the record goes.
    """

    def __init__(self, settings: PaceSettings, random: Random, timeline: Timeline) -> None:
        self.settings = settings
        self.timeline = timeline
        self.ceiling = settings.workers or settings.max_workers
        self.quota = RetryQuota()
        self.gate = RetryAfterGate()
        self.health = Health(settings.max_outage_s, random)
        self.rate = CallRate(settings.rate)
        self.refusals = Refusals()
        self.minute = MinuteQuota()
        self.concurrency = Concurrency(
            settings.workers or _START, self.ceiling, is_pinned=settings.workers is not None
        )
        self.models = {axis: LatencyModel() for axis in Axis}
        self.sizes = {axis: BatchSize(settings.batch_size) for axis in Axis}
        self.patience = Patience()
        self._across = dict.fromkeys(Axis, 0)  # most ids of the other side that a call had
        self.taken = TakenRequests()
        self.in_flight = 0
        self._begun = 0
        self._rate_bound_at = float("-inf")
        self._limit_before = self.limit
        self._fell_at = float("-inf")
        self._latest_size = 0
        self._unjudged: list[_Cost] = []
        self._judged = 0

    def __repr__(self) -> str:
        return (
            f"<Pace {self.in_flight} in flight of {self.limit}, {self._latest_size} ids a call, "
            f"{self.rate.per_second or 'any'} calls a second, {self.quota.tokens} tokens>"
        )

    @property
    def limit(self) -> int:
        """Calls that may be in flight now."""
        cap = self.refusals.most_in_flight
        limit = self.concurrency.limit
        return max(1, limit if cap is None else min(limit, cap))

    def wait_s(self, now: float) -> float:
        """Return how long the next call has to wait for the gate and the rate; 0 is not at all."""
        self.refusals.try_again(now, is_rate_in_use=self._is_rate_bound(now))
        self.minute.try_again(now)
        self._take_caps()
        gate_s = self.gate.wait_s(now, self.limit)
        if gate_s > 0:
            self._observe(now)
            return gate_s
        rate_s = self.rate.wait_s(now)
        if rate_s > 0:
            self._rate_bound_at = now
        elif self.refusals.wants_a_lone_call(self.in_flight):
            return self.rate.lone_s(now)
        return rate_s

    def tries_at(self, now: float) -> float:
        """Return when the next call may begin, as far as is known, an outage left aside."""
        return max(now + self.rate.due_s(now), self.gate.opens_at)

    def wait_again_s(self, now: float) -> float:
        """Return how long a call has to wait that is made in the place of one before; 0 is not."""
        return self.gate.wait_s(now, self.limit) or self.rate.wait_s(now)

    def size(self, axis: Axis, left: int, now: float) -> Size:
        """Say how many ids the next call along an axis should ask for; `left` are not asked yet."""
        limit = max(1, round(self.limit / self.concurrency.slowdown))  # that are served at a time
        if self.concurrency.is_slow_start:
            limit = min(self.ceiling, 2 * limit)
        if left_of_quota := self.rate.left_of_quota(now):
            limit = min(limit, left_of_quota)
        return self.sizes[axis].next(
            left=left,
            limit=limit,
            model=self.models[axis],
            is_rate_bound=self._is_rate_bound(now),
            is_brief=self.concurrency.is_slow_start,
            stop_s=self.gate.shut_s / max(1, self._begun),
        )

    def expected_s(self, axis: Axis, ids: int) -> float:
        """Say how long a call for so many ids takes at present; 0 while nothing is known."""
        return self.models[axis].seconds_of(ids) * self.concurrency.slowdown

    def patience_s(self, ticket: Ticket, haste: Haste = Haste.NONE) -> float | None:
        """Say how long a call may take before it counts as timed out; None while that is unknown.

        Where smaller calls have shown what an id costs, several times that is a service that cannot
        answer so much at once, and whose gateway would say so only after a minute.
        """
        if self.settings.batch_size is not None:
            return None
        ids, model = ticket.size.ids, self.models[ticket.axis]
        slowdown = max(self.concurrency.slowdown, self.patience.slowdown)
        if not self._is_known(ticket.axis):
            other = ticket.axis.other
            if haste is Haste.NONE or not self._is_known(other):
                return None
            largest_s = self.models[other].seconds_of(self.sizes[other].proven)
            return self.patience.seconds_of_trial(slowdown * largest_s)
        if not ticket.size.is_trial and not ticket.size.is_narrow:
            expected_s = slowdown * model.seconds_of(ids)
            return self.patience.seconds(expected_s, ticket.started_at, haste)
        expected_s = slowdown * max(model.seconds_of(ids), model.seconds_at_most(ids))
        return self.patience.seconds_of_trial(expected_s, haste)

    def _is_known(self, axis: Axis) -> bool:
        """Whether calls along an axis have shown what they take."""
        return self.sizes[axis].proven > 0 and self.models[axis].is_known

    def size_of(self, rectangle: Rectangle, axis: Axis) -> Size:
        """Return the size of the next call, which is for a rectangle, along an axis."""
        ids, across = rectangle.width(axis), rectangle.width(axis.other)
        usual = self._across[axis] = max(self._across[axis], across)
        if is_narrow := _NARROW * across <= usual:
            ids = max(1, ids * across // usual)
        is_trial = ids > self.sizes[axis].proven
        return Size(ids, is_trial=is_trial and not is_narrow, is_narrow=is_narrow)

    def begin(self, axis: Axis, size: Size, now: float) -> Ticket:
        """Note that a call begins."""
        self.in_flight += 1
        self._begun += 1
        self.gate.on_begin()
        self._latest_size = size.ids
        self.sizes[axis].begin(size)
        in_second = self.rate.begin(now)
        self._observe(now)
        return Ticket(axis, size, now, self.in_flight, in_second, self.rate.in_minute(now))

    def on_success(
        self, ticket: Ticket, now: float, *, rows: int, body_bytes: int, seconds: float
    ) -> None:
        """Note a call whose rows have come.

        `seconds` are those of the call itself, if others were made to check it; else 0.
        """
        model = self.models[ticket.axis]
        seconds = seconds or now - ticket.started_at
        cost = _Cost(ticket.axis, ticket.size.ids, rows, body_bytes, seconds)
        is_early = self.concurrency.is_slow_start or not self.concurrency.epochs
        if is_early and ticket.in_flight <= _START:
            self._learn(cost)  # hardly anything else was in flight
        else:
            self._unjudged.append(cost)
        self.gate.on_success(ticket.started_at)
        self.refusals.on_admitted(ticket.in_flight, ticket.in_second, now)
        self.minute.on_admitted(ticket.in_minute, ticket.started_at, now)
        self.sizes[ticket.axis].on_success(ticket.size)
        if expected_s := model.seconds_of(ticket.size.ids):
            self.patience.on_success(ticket.started_at, seconds / expected_s)
        self.concurrency.on_success(
            started_at=ticket.started_at,
            now=now,
            seconds=seconds,
            in_flight=self.in_flight,
            rows=rows,
            overhead_rows=model.overhead_rows,
            most=self.refusals.most_in_flight,
            in_flight_before=ticket.in_flight,
        )
        if self.concurrency.epochs != self._judged:
            self._judged = self.concurrency.epochs
            if self.concurrency.was_quiet:
                self._learn_costs()
            self._unjudged.clear()
        self._end(now, seconds=seconds, rows=rows)

    def on_refused(
        self, ticket: Ticket, now: float, retry_after_s: float | None, status: int | None
    ) -> None:
        """Note a call for which the service asks for less, by its status (429, 503)."""
        self.rate.take_back(ticket.started_at)
        size = self.sizes[ticket.axis]
        is_unproven = 0 < size.proven < ticket.size.ids
        size.on_refused(ticket.size)
        if retry_after_s is not None:
            self.gate.shut(retry_after_s, now)
        is_too_many = status == HTTPStatus.TOO_MANY_REQUESTS
        is_quota = is_too_many and self.minute.on_refused(ticket.in_minute, ticket.started_at, now)
        if not is_unproven and not is_quota:
            self._note_overload(ticket, now, retry_after_s)
        # Else it may be for its size; or fewer at a time would be refused as well.
        if is_too_many:
            self.health.on_too_many(now, self.tries_at(now))
        self._end(now)

    def on_timeout(self, ticket: Ticket, now: float, retry_after_s: float | None) -> None:
        """Note a call that was not answered in time."""
        if ticket.size.is_narrow:
            self.on_failure(ticket, now, retry_after_s)
            return
        if retry_after_s is not None:
            self.gate.shut(retry_after_s, now)
        size = self.sizes[ticket.axis]
        size.on_timeout(ticket.size, ticket.in_flight)
        if size.is_small(ticket.size.ids):
            self._note_overload(ticket, now, retry_after_s)
        elif not ticket.size.is_trial:
            self.concurrency.on_overload(started_at=ticket.started_at, now=now)
        self._end(now)

    def _note_overload(self, ticket: Ticket, now: float, retry_after_s: float | None) -> None:
        if self.refusals.on_refused(
            ticket.in_flight, ticket.in_second, now, retry_after_s=retry_after_s
        ):
            self._take_caps()
        else:
            self.concurrency.on_overload(started_at=ticket.started_at, now=now)

    def on_given_up(self, ticket: Ticket, now: float) -> None:
        """Note a call that took several times longer than it should."""
        if ticket.size.is_trial or ticket.size.is_narrow:
            self.on_timeout(ticket, now, None)
            return
        self.patience.on_given_up(ticket.started_at, now, is_divisible=ticket.size.ids > 1)
        size = self.sizes[ticket.axis]
        size.on_timeout(ticket.size, ticket.in_flight)
        if size.is_small(ticket.size.ids):
            self._note_overload(ticket, now, None)
        self._end(now)

    def on_too_large(
        self, ticket: Ticket, now: float, rectangle: Rectangle, *, is_request: bool
    ) -> None:
        """Note a request or an answer that was too large."""
        size, bounds = ticket.size, self.sizes[ticket.axis]
        if is_request:
            self.taken.note_refused(rectangle)
        is_size_at_fault = rectangle.longer_axis() is ticket.axis
        if is_request and is_size_at_fault and not self.taken.cover(rectangle):
            bounds.on_too_large(replace(size, ids=rectangle.width(ticket.axis)))
        elif size.is_narrow:
            bounds.on_failure(size)
        elif not is_request:
            bounds.on_timeout(size, ticket.in_flight)
        elif self.taken.cover(rectangle):
            bounds.on_too_many_rows(size)
        else:
            bounds.on_failure(size)
        self._end(now)

    def on_failure(self, ticket: Ticket, now: float, retry_after_s: float | None = None) -> None:
        """Note a call that failed or was given up for any other reason."""
        if retry_after_s is not None:
            self.gate.shut(retry_after_s, now)
        self.sizes[ticket.axis].on_failure(ticket.size)
        self._end(now)

    def begin_anew(self) -> None:
        """Begin a run where none is under way: with no outage, and retries to spend."""
        is_out = self.health.outage is not None
        self.health.forget_failures()
        if is_out:
            self.on_outage_ended()

    def on_outage_ended(self) -> None:
        """Go on carefully: the service is back."""
        self.quota.refill_after_outage()
        self.concurrency.restart()

    def _learn_costs(self) -> None:
        """Learn what calls cost from those that stood in no queue."""
        for cost in self._unjudged:
            self._learn(cost)
        self._unjudged.clear()

    def _learn(self, cost: _Cost) -> None:
        self.models[cost.axis].note(
            ids=cost.ids, rows=cost.rows, body_bytes=cost.body_bytes, seconds=cost.seconds
        )

    def _is_rate_bound(self, now: float) -> bool:
        return self.minute.most is not None or now - self._rate_bound_at < _LATELY_S

    def _take_caps(self) -> None:
        most_in_flight, most_in_second = (
            self.refusals.most_in_flight,
            self.refusals.most_in_second,
        )
        if most_in_flight is not None:
            self.concurrency.hold_at(most_in_flight)
        elif most_in_second is None:
            self.concurrency.let_go()
        self.rate.learn(
            None if most_in_second is None else RATE_MARGIN * most_in_second, self.minute.most
        )

    def _end(self, now: float, *, seconds: float | None = None, rows: int = 0) -> None:
        self.in_flight -= 1
        self.timeline.on_end(now, seconds=seconds, rows=rows)
        self._observe(now)

    def is_falling(self, now: float) -> bool:
        """Whether the calls that may be in flight became fewer lately, and not more since."""
        return now - self._fell_at < _FALLING_S

    def _observe(self, now: float) -> None:
        if self.limit != self._limit_before:
            self._fell_at = now if self.limit < self._limit_before else float("-inf")
            self._limit_before = self.limit
        phase = "slow start" if self.concurrency.is_slow_start else "steady"
        if self.health.outage is not None:
            phase = "outage"
        elif self.gate.is_shut(now):
            phase = "gate"
        self.timeline.observe(
            now,
            in_flight=self.in_flight,
            limit=self.limit,
            batch_size=self._latest_size,
            rate=self.rate.per_second,
            phase=phase,
        )
