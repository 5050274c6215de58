"""What a service refuses, told from its refusals: too many at a time, or too many a second.

Each call is noted with two numbers: the calls in flight when it began, and the calls begun in the
second before; and with whether it was let in. If a threshold on one of the numbers parts the calls
let in from those refused, with hardly an exception, that is the service's limit, and it is kept. If
neither does, as in a brown-out, refusals say nothing about how many calls are too many.

A limit that was found is tried again, one call or a tenth above it: after half a minute, or ten
times as long as a refusal stops all calls, then after three times as long each time; and after a
hundred calls, where it stops any or was tried in vain, so that refusals stay rare. It is tried
*soon* where it may be none: a single refusal may be chance, and calls that begin together are too
many in both ways. Soon is a few seconds, or when calls have gone on for twice as long as the
refusal stopped them. Where both numbers explain the refusals, the one call more begins when none
has for a second; if it is let in, it may have been the rate all along, or chance. A rate that turns
out to be too low rises by ever more, and soon again.

A limit is *sure* if few outcomes in fifty would be parted so by chance. Only such a one is for the
next run to begin with: of runs that are cut short, each would lower the limit of the one before.
Explicit state and steps, no I/O.
"""

from collections import deque
from dataclasses import dataclass, replace

from bulkfetch.pace.threshold import chance_of, find_threshold

_KEPT = 64
_EXCEPTIONS = 0.2  # of the refusals, that a threshold may leave unexplained
_TRY_AGAIN_S = 30.0
_TRY_AGAIN_CAP_S = 480.0
_STEP = 0.1  # by which a rate is raised, twice as much each time that it is let in
_LONGER = 3  # times as long, after each that was in vain
_TRY_AGAIN_STOPS = 10  # times as long as a refusal stops all calls, at least
_TRY_AGAIN_CALLS = 100
_SOON_S = 5.0
_SOON_STOPS = 3
_CHANCE_S = 1.0
_SURE = 0.02  # that refusals lie above a limit by chance, at most
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
    tries: int = 0
    after_calls: int = 0  # let in since the latest refusal
    sure: float | None = None  # what is left of it if the rest was chance
    raised: int = 0  # how many times in a row, since the latest refusal

    def try_soon(self, at: float) -> None:
        """Have it tried at that time at the latest, however few calls were let in."""
        self.tries_at, self.after_calls = min(self.tries_at, at), 0

    def try_later(self, now: float) -> None:
        """Note that it is tried now; the next time is after longer, and after many calls."""
        self.tries += 1
        self.wait_s = max(self.wait_s, min(_TRY_AGAIN_CAP_S, _LONGER * self.wait_s))
        self.tries_at, self.after_calls = now + self.wait_s, _TRY_AGAIN_CALLS

    def raise_to(self, most: float) -> None:
        """Take a higher limit, and forget how often it was tried in vain."""
        self.most, self.wait_s, self.tries = most, _TRY_AGAIN_S, 0
        if self.sure is not None:
            self.sure = max(self.sure, most)

    def without_doubt(self) -> "_Cap | None":
        """Return what is left of it if its latest refusals were chance."""
        return None if self.sure is None else replace(self, most=self.sure)


class Refusals:
    """Caps learned from calls that were refused. Times are the injected clock's, in seconds."""

    def __init__(self) -> None:
        self._outcomes: deque[_Outcome] = deque(maxlen=_KEPT)
        self._in_flight: _Cap | None = None
        self._in_second: _Cap | None = None
        self._tried: int | None = None  # calls in flight, one more than the cap was
        self._tried_above: float | None = None  # calls in a second, as many as the cap was
        self._let_in_above = 0
        self._let_in = 0  # since the latest refusal, which stopped all calls for so long
        self._stop_s = 0.0

    @property
    def most_in_flight(self) -> int | None:
        """Calls that the service takes at a time, as far as is known."""
        return None if self._in_flight is None else int(self._in_flight.most)

    @property
    def most_in_second(self) -> float | None:
        """Calls that the service takes in a second, as far as is known."""
        return None if self._in_second is None else self._in_second.most

    @property
    def sure_in_flight(self) -> int | None:
        """The same, but for what may be chance."""
        cap = self._in_flight
        return None if cap is None or cap.sure is None else int(cap.sure)

    @property
    def sure_in_second(self) -> float | None:
        """The same, but for what may be chance."""
        return None if self._in_second is None else self._in_second.sure

    def on_admitted(self, in_flight: int, in_second: int, now: float) -> None:
        """Note a call that was let in; one beyond a cap raises it."""
        self._outcomes.append(_Outcome(in_flight, in_second, is_refused=False))
        self._let_in += 1
        was_tried = self._tried is not None and in_flight >= self._tried
        if was_tried:
            self._tried = None
            for_rate, rate_missed, allowed = self._rate()
            if for_rate and rate_missed <= min(allowed, self._at_a_time()[1] - 1):
                self._in_flight = None
                chance = chance_of(self._by_rate(), for_rate)
                self._in_second = self._set(self._in_second, for_rate, now, chance)
        cap = self._in_flight
        if cap is not None and (was_tried or in_flight > cap.most):
            if self._explains_calls():
                cap.raise_to(max(cap.most, in_flight))
                cap.try_soon(now + _SOON_S)
            else:
                self._in_flight = None  # it was chance
        self._note_rate_let_in(in_second, now)

    def _note_rate_let_in(self, in_second: int, now: float) -> None:
        """Take a higher rate when a second of it was let in, or none if that explains nothing."""
        cap = self._in_second
        if cap is None:
            return
        if in_second > cap.most:
            cap.raise_to(in_second)
        if self._tried_above is None or in_second <= self._tried_above:
            return
        self._let_in_above += 1
        if self._let_in_above < cap.most:
            return
        self._tried_above = None
        cap.raise_to(cap.most)
        cap.try_soon(now + _SOON_S)
        cap.raised += 1
        _, missed, allowed = self._rate()
        if missed > allowed:
            self._in_second = cap.without_doubt()

    def wants_a_lone_call(self, in_flight: int) -> bool:
        """Whether the next call tries a cap on calls in flight that may be one on the rate.

        `in_flight` is how many calls there are.
        """
        if self._tried is None or in_flight + 1 < self._tried:
            return False
        for_rate, rate_missed, allowed = self._rate()
        return for_rate > 0 and rate_missed <= allowed

    @property
    def _refused(self) -> int:
        """How many of the calls that are kept were refused."""
        return sum(outcome.is_refused for outcome in self._outcomes)

    def _explains_calls(self) -> bool:
        """Whether calls in flight part those let in from those refused."""
        return self._at_a_time()[1] <= _EXCEPTIONS * self._refused

    def on_refused(
        self, in_flight: int, in_second: int, now: float, *, retry_after_s: float | None = None
    ) -> bool:
        """Note a call that was refused; return whether a cap explains it.

        `retry_after_s` is for how long that stops all calls; None if the service did not say when
        to come again.
        """
        self._outcomes.append(_Outcome(in_flight, in_second, is_refused=True))
        self._tried, self._let_in, self._stop_s = None, 0, retry_after_s or 0.0
        self._tried_above = None
        soon_s = _SOON_STOPS * self._stop_s
        for_calls, calls_missed = self._at_a_time()
        for_rate, rate_missed, allowed = self._rate()
        if calls_missed <= min(allowed, rate_missed) and for_calls:
            chance = chance_of(self._by_calls(), for_calls)
            cap = self._in_flight = self._set(self._in_flight, for_calls, now, chance)
            if self._refused == 1:
                cap.try_soon(now + max(_CHANCE_S, soon_s))
            elif not cap.tries and for_rate and rate_missed <= min(allowed, calls_missed):
                cap.try_soon(now + max(_SOON_S, soon_s))
            return True
        if rate_missed <= allowed and for_rate:
            self._in_flight = None
            chance = chance_of(self._by_rate(), for_rate)
            cap = self._in_second = self._set(self._in_second, for_rate, now, chance)
            if chance > _SURE:
                cap.try_soon(now + max(_CHANCE_S, soon_s))
            return True
        if self._in_second is not None and 2 * rate_missed >= self._refused:
            self._in_second = self._in_second.without_doubt()
        if 2 * calls_missed >= self._refused:
            self._in_flight = None  # it was chance before as well
        elif self._in_flight is not None:
            self._in_flight.try_soon(now + max(_SOON_S, soon_s))
        return False

    def try_again(self, now: float, *, is_rate_in_use: bool) -> None:
        """Raise a cap a little if it has stood for long enough."""
        cap = self._in_flight
        if cap is not None and self._is_due(cap, now):
            cap.try_later(now)
            cap.most += 1
            self._tried = int(cap.most)
        cap = self._in_second
        if cap is not None and self._is_due(cap, now) and is_rate_in_use:
            cap.try_later(now)
            self._tried_above, self._let_in_above = cap.most, 0
            cap.most = max(cap.most + 1, cap.most * (1 + min(1.0, _STEP * 2**cap.raised)))

    def _is_due(self, cap: _Cap, now: float) -> bool:
        return now >= cap.tries_at and self._let_in >= cap.after_calls

    def learn(self, most_in_flight: int | None, most_in_second: float | None, now: float) -> None:
        """Take over what an earlier run learned."""
        if most_in_flight is not None:
            self._in_flight = self._set(None, most_in_flight, now, 0.0)
        if most_in_second is not None:
            self._in_second = self._set(None, most_in_second, now, 0.0)

    def _set(self, cap: _Cap | None, most: float, now: float, chance: float) -> _Cap:
        wait_s, tries, sure = max(_TRY_AGAIN_S, _TRY_AGAIN_STOPS * self._stop_s), 0, None
        if cap is not None:
            most = min(cap.most, most)  # a refusal raises no limit
            wait_s, tries, sure = max(cap.wait_s, wait_s), cap.tries, cap.sure
        if chance <= _SURE:
            sure = float(most)
        after_calls = _TRY_AGAIN_CALLS if tries or self._stop_s else 0
        return _Cap(float(most), now + wait_s, wait_s, tries, after_calls, sure)

    def _at_a_time(self) -> tuple[int, int]:
        return find_threshold(self._by_calls())

    def _rate(self) -> tuple[int, int, float]:
        """Return the threshold, how many it puts wrongly, and how many it may."""
        return *find_threshold(self._by_rate()), _EXCEPTIONS * self._refused

    def _by_calls(self) -> list[tuple[int, bool]]:
        return [(outcome.in_flight, outcome.is_refused) for outcome in self._outcomes]

    def _by_rate(self) -> list[tuple[int, bool]]:
        return [(outcome.in_second, outcome.is_refused) for outcome in self._outcomes]
