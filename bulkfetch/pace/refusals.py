"""What a service refuses, told from its refusals: too many at a time, or too many a second.

Each call is noted with two numbers: the calls in flight when it began, and the calls begun in the
second before; and with whether it was let in. If a threshold on one of the numbers parts the calls
let in from those refused, with hardly an exception, that is the service's limit, and it is kept. If
neither does, as in a brown-out, refusals say nothing about how many calls are too many.

A limit that was found is tried again, one call or a tenth above it, after half a minute, then after
three times as long each time. A single refusal may be chance, if the service did not say when to
come again: then what it shows is tried at once, and dropped if one call more is let in. Calls that
begin together are too many in both ways; so the one call more begins when none has for a second,
sooner where both explain the refusals; if it is let in, it may have been the rate all along.
Explicit state and steps, no I/O.
"""

from collections import deque
from dataclasses import dataclass

_KEPT = 64
_EXCEPTIONS = 0.2  # of the refusals, that a threshold may leave unexplained
_TRY_AGAIN_S = 30.0
_TRY_AGAIN_CAP_S = 480.0
_LONGER = 3  # times as long, after each that was in vain
_TELL_APART_S = 5.0
_CHANCE_S = 1.0
RATE_MARGIN = 0.95


@dataclass(frozen=True, slots=True)
class _Outcome:
    in_flight: int
    in_second: int
    is_refused: bool


@dataclass(slots=True)
class _Cap:
    """A limit that was found, and when it may be tried again."""

    most: float
    tries_at: float
    wait_s: float


class Refusals:
    """Caps learned from calls that were refused. Times are the injected clock's, in seconds."""

    def __init__(self) -> None:
        self._outcomes: deque[_Outcome] = deque(maxlen=_KEPT)
        self._in_flight: _Cap | None = None
        self._in_second: _Cap | None = None
        self._tried: int | None = None  # calls in flight, one more than the cap was

    @property
    def most_in_flight(self) -> int | None:
        """Calls that the service takes at a time, as far as is known."""
        return None if self._in_flight is None else int(self._in_flight.most)

    @property
    def most_in_second(self) -> float | None:
        """Calls that the service takes in a second, as far as is known."""
        return None if self._in_second is None else self._in_second.most

    def on_admitted(self, in_flight: int, in_second: int, now: float) -> None:
        """Note a call that was let in; one beyond a cap raises it."""
        self._outcomes.append(_Outcome(in_flight, in_second, is_refused=False))
        if self._tried is not None and in_flight >= self._tried:
            self._tried = None
            for_rate, rate_missed, allowed = self._rate()
            if for_rate and rate_missed <= min(allowed, self._at_a_time()[1] - 1):
                self._in_flight = None
                self._in_second = _set(self._in_second, for_rate, now)
        cap = self._in_flight
        if cap is not None and in_flight > cap.most and not self._explains_calls():
            self._in_flight = None  # it was chance
        for cap, value in ((self._in_flight, in_flight), (self._in_second, in_second)):
            if cap is not None and value > cap.most:
                cap.most = float(value)
                cap.wait_s = _TRY_AGAIN_S

    def wants_a_lone_call(self, in_flight: int) -> bool:
        """Whether the next call tries a cap on calls in flight, so many of which there are."""
        return self._tried is not None and in_flight + 1 >= self._tried

    @property
    def _refused(self) -> int:
        """How many of the calls that are kept were refused."""
        return sum(outcome.is_refused for outcome in self._outcomes)

    def _explains_calls(self) -> bool:
        """Whether calls in flight part those let in from those refused."""
        return self._at_a_time()[1] <= _EXCEPTIONS * self._refused

    def on_refused(
        self, in_flight: int, in_second: int, now: float, *, may_be_chance: bool = False
    ) -> bool:
        """Note a call that was refused; return whether a cap explains it.

        `may_be_chance` is whether the service did not say when to come again.
        """
        self._outcomes.append(_Outcome(in_flight, in_second, is_refused=True))
        self._tried = None
        for_calls, calls_missed = self._at_a_time()
        for_rate, rate_missed, allowed = self._rate()
        if calls_missed <= min(allowed, rate_missed) and for_calls:
            cap = self._in_flight = _set(self._in_flight, for_calls, now)
            is_untried = cap.wait_s == _TRY_AGAIN_S
            if is_untried and for_rate and rate_missed <= min(allowed, calls_missed):
                cap.tries_at = now + _TELL_APART_S
            if may_be_chance and self._refused == 1:
                cap.tries_at = now + _CHANCE_S
            return True
        if rate_missed <= allowed and for_rate:
            self._in_flight = None
            self._in_second = _set(self._in_second, for_rate, now)
            return True
        return False

    def try_again(self, now: float, *, is_rate_in_use: bool) -> None:
        """Raise a cap a little if it has stood for long enough."""
        cap = self._in_flight
        if cap is not None and now >= cap.tries_at:
            _wait_longer(cap, now)
            cap.most += 1
            self._tried = int(cap.most)
        cap = self._in_second
        if cap is not None and now >= cap.tries_at and is_rate_in_use:
            _wait_longer(cap, now)
            cap.most = max(cap.most + 1, cap.most * 1.1)

    def learn(self, most_in_flight: int | None, most_in_second: float | None, now: float) -> None:
        """Take over what an earlier run learned."""
        if most_in_flight is not None:
            self._in_flight = _set(None, most_in_flight, now)
        if most_in_second is not None:
            self._in_second = _set(None, most_in_second, now)

    def _at_a_time(self) -> tuple[int, int]:
        return self._threshold([outcome.in_flight for outcome in self._outcomes])

    def _rate(self) -> tuple[int, int, float]:
        """Return the threshold, how many it puts wrongly, and how many it may."""
        found = self._threshold([outcome.in_second for outcome in self._outcomes])
        return *found, _EXCEPTIONS * self._refused

    def _threshold(self, values: list[int]) -> tuple[int, int]:
        """Return the threshold that parts the outcomes best, and how many it puts wrongly."""
        admitted, refused = 0, 0
        by_value = sorted(zip(values, self._outcomes, strict=True), key=lambda pair: pair[0])
        all_admitted = sum(not outcome.is_refused for outcome in self._outcomes)
        best = (0, all_admitted)
        for position, (value, outcome) in enumerate(by_value):
            refused += outcome.is_refused
            admitted += not outcome.is_refused
            is_last = position + 1 == len(by_value) or by_value[position + 1][0] != value
            missed = refused + all_admitted - admitted
            if is_last and missed <= best[1]:
                best = (value, missed)
        above = [value for value, outcome in by_value if outcome.is_refused and value > best[0]]
        return (min(above) - 1 if above else 0), best[1]


def _set(cap: _Cap | None, most: float, now: float) -> _Cap:
    wait_s = _TRY_AGAIN_S
    if cap is not None:
        most, wait_s = min(cap.most, most), cap.wait_s  # a refusal raises no limit
    return _Cap(float(most), now + wait_s, wait_s)


def _wait_longer(cap: _Cap, now: float) -> None:
    cap.wait_s = min(_TRY_AGAIN_CAP_S, _LONGER * cap.wait_s)
    cap.tries_at = now + cap.wait_s
