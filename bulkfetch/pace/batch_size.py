"""How many ids a call asks for: as many as pay, less where the service refuses or is slow.

Sizes are *proven* by calls that succeeded. A larger one is tried by one call, while the others go
on at what is proven, so that a refusal costs one call. Sizes that were refused outright (413, 414)
are a ceiling for the run; between what is proven and what was refused a few round numbers are
tried, since limits are round, and then no more. Time-outs of a size leave a ceiling, too, which is
forgotten when half as many calls are in flight: they may have stood in a queue of our own.

What pays, from the latency model: until a call's base is a small share of it, its time comes near
the target (or twice its base, if that is longer), or its bytes do. Where refusals stop all calls
for a while, each call's share of that counts as base; where calls a second are limited, each call
is dear, and only time and bytes count. Near the end what is left is spread over the workers, so
that none idles.

Considered and left: climbing by measured rows a second, which is slower to learn what the model
says after two sizes, and never stands still.

Explicit state and steps, no I/O.
"""

import math
from dataclasses import dataclass

from bulkfetch.pace.latency import LatencyModel

_FIRST = 50
_FIRST_SIZES = 4  # 50, 125, 312 and 781 teach what an id costs, and what is refused
_LADDER = (1.0, 1.25, 1.5, 2.0, 2.5, 3.0, 4.0, 5.0, 6.0, 8.0)
_GROWTH = 2.5
_GROWTH_IF_FLAT = 5.0
_FLAT = 0.5  # of a call's base, that the ids of a trial add at most
_LONG_S = 2.0
_WORTH_TRYING = 1.2
_BASE_SHARE = 0.03
_TARGET_S = 20.0
_TARGET_BYTES = 16 * 1024 * 1024
_IN_FLIGHT_BYTES = 256 * 1024 * 1024
_ANY = 1e9
_BRIEF = 1.5  # times a call's base
_FEW = 16  # calls in flight; where there are more, calls may be longer, for fewer calls in all
_ROUNDS = 20  # that such calls are to leave for later
_WAVES = 1.3
_WAVES_AFTER_TRIAL = 4.0  # it may be repeated in halves, and the largest answer is checked
_TRIES_BELOW_REFUSED = 4
_TIMEOUTS_KEPT = 0.9
_MANY_TIMEOUTS = 0.5
_REFUSED_FOR_ROWS = 0.3  # of the calls: where each is halved down to who has so many, calls are few
_ROWS_WEIGHT = 0.05  # of the latest call in that share
_SMALLER = 0.7
_REFUSED_TRIALS = 3
_FAR_MORE = 2
_FAR_FEWER = 4
_FEW_LOST = 4  # successes for each refusal of a proven size


@dataclass(frozen=True, slots=True)
class Size:
    """Ids for the next call, or of one.

    Attributes:
        ids: how many; of a narrow call, how many of the usual width have as many pairs.
        is_trial: no call of this size has succeeded.
        is_narrow: it has far fewer ids of the other side than usual, so that its size tells little.
    """

    ids: int
    is_trial: bool
    is_narrow: bool = False


class BatchSize:
    """The size and what is known of its bounds.

    Args:
        pinned: the caller's choice: never more; less only where the service refuses it.
    """

    def __init__(self, pinned: int | None = None) -> None:
        self._pinned = pinned
        self._proven = self._largest = 0
        self._refused: int | None = None  # the smallest size that was refused or timed out
        self._timed_out_among: int | None = None  # calls in flight, if time-outs are why
        self._tries_left = _TRIES_BELOW_REFUSED
        self._trials: list[int] = []
        self._timeouts = 0.0
        self._refused_for_rows = 0.0
        self._refused_trials = 0  # in a row, and what came of proven sizes meanwhile
        self._kept = self._lost = 0

    @property
    def proven(self) -> int:
        """The largest size that may be used without a trial; 0 while nothing has succeeded."""
        return self._proven

    def is_small(self, ids: int) -> bool:
        """Whether calls for far more were answered: if one fails, its size is not why."""
        return ids * _FAR_FEWER <= self._largest

    @property
    def refused(self) -> int | None:
        """The smallest size that is known to be too large."""
        return self._refused

    def next(
        self,
        *,
        left: int,
        limit: int,
        model: LatencyModel,
        is_rate_bound: bool,
        is_brief: bool,
        stop_s: float = 0.0,
    ) -> Size:
        """Say how many ids the next call should ask for.

        Args:
            left: ids that no call has asked for yet.
            limit: calls that are served at a time.
            model: what calls cost.
            is_rate_bound: calls wait for the rate.
            is_brief: calls should be short, because the limit still doubles with each round trip.
            stop_s: for how long a call stops all others, on average, by being refused.
        """
        if self._timed_out_among is not None and 2 * limit <= self._timed_out_among:
            self.forget_refused()
        if self._pinned is not None:
            wanted = min(self._pinned, left)
            if self._refused is None or wanted < self._refused:
                return Size(max(1, wanted), is_trial=False)
            trial = self._trial(wanted, _GROWTH, most=1) if self._proven else None
            ids = trial or self._proven or self._refused // 2
            return Size(max(1, min(ids, wanted)), is_trial=trial is not None)
        below_refused = left if self._refused is None else self._refused - 1
        spread = math.ceil(left / (limit * _WAVES))
        if not model.is_known or not self._proven:
            # The largest first: if it is refused, that is not for the calls that were in flight.
            steps = max(0, min(limit, _FIRST_SIZES) - 1 - len(self._trials))
            spread = math.ceil(left / (limit * _WAVES_AFTER_TRIAL))
            below = left if self._refused is None else self._refused // 2
            size = min(int(_FIRST * _GROWTH**steps), spread, below)
            return Size(max(1, size), is_trial=True)
        base_s = model.base_s + stop_s * limit
        useful = self._useful(limit, model, base_s, is_rate_bound=is_rate_bound)
        floor = math.ceil(3 * base_s / model.per_id_s) if model.per_id_s > 0 else left
        size = max(1, min(useful, max(spread, min(floor, self._proven)), left, below_refused))
        is_flat = is_brief and self._is_flat(model)
        is_dear = is_rate_bound or base_s > 2 * model.base_s
        most_trials = max(1, limit // 4) if is_flat or is_dear else 1
        if size > self._proven:
            waves = _WAVES if is_dear else _WAVES_AFTER_TRIAL
            wanted = min(size, math.ceil(left / (limit * waves)))
            growth = _GROWTH_IF_FLAT if is_flat else _GROWTH
            trial = self._trial(wanted, growth, most=most_trials)
            if trial is not None and trial > self._proven:
                return Size(trial, is_trial=True)
        if is_brief and model.per_id_s > 0 and not is_rate_bound:
            brief = _BRIEF * base_s / model.per_id_s
            brief = max(brief, min(brief * limit / _FEW, left / limit / _ROUNDS))
            size = min(size, max(_FIRST, int(brief)))
        return Size(min(self._proven, size), is_trial=False)

    def begin(self, size: Size) -> None:
        """Note that a call of this size was begun."""
        if size.is_trial:
            self._trials.append(size.ids)

    def on_success(self, size: Size) -> None:
        """Note a call that succeeded."""
        self._forget(size)
        self._timeouts *= _TIMEOUTS_KEPT
        self._refused_for_rows *= 1 - _ROWS_WEIGHT
        if size.ids > self._proven:
            self._refused_trials = self._lost = self._kept = 0
        else:
            self._kept += 1
        self._largest = max(self._largest, size.ids)
        if self._refused is None or size.ids < self._refused:
            self._proven = max(self._proven, size.ids)

    def on_failure(self, size: Size) -> None:
        """Note a call that failed for a reason that has nothing to do with its size."""
        self._forget(size)

    def on_refused(self, size: Size) -> None:
        """Note that the service asked for less (429, 503): of larger sizes only, that is a cap."""
        self._forget(size)
        if not 0 < self._proven < size.ids:
            self._lost += 1
            return
        self._refused_trials += 1
        if self._refused_trials >= _REFUSED_TRIALS and self._kept > _FEW_LOST * self._lost:
            self._refused_trials = self._lost = self._kept = 0
            self._lower(size.ids)

    def on_too_large(self, size: Size) -> None:
        """Note a size that the service refuses (413, 414, the byte cap)."""
        self._forget(size)
        self._lower(size.ids)

    def on_too_many_rows(self, size: Size) -> None:
        """Note a refusal of no more ids than were taken before: these have too many rows.

        Where that befalls many calls, the size is at fault all the same.
        """
        self._forget(size)
        if size.ids > self._proven:
            self._lower(size.ids)
        elif size.ids > _SMALLER * self._proven:
            self._refused_for_rows += _ROWS_WEIGHT * (1 - self._refused_for_rows)
            if self._refused_for_rows > _REFUSED_FOR_ROWS:
                self._refused_for_rows = 0.0
                self._lower_proven()

    def on_timeout(self, size: Size, in_flight: int = 0) -> None:
        """Note a time-out: of a trial, or of many, where the size is at fault and not chance.

        `in_flight` is how many calls there were when it began.
        """
        self._forget(size)
        if size.ids > self._proven:
            if size.is_trial:
                self._lower(size.ids, in_flight)
        elif size.ids * 2 > self._proven > 1 and not self.is_small(size.ids):
            self._timeouts += 1 - _TIMEOUTS_KEPT
            if self._timeouts > _MANY_TIMEOUTS * (1 - _TIMEOUTS_KEPT) * 4:
                self._timeouts = 0.0
                self._lower_proven(in_flight)

    def forget_refused(self) -> None:
        """Let all sizes be tried: those that were refused were so for another reason."""
        self._refused = self._timed_out_among = None
        self._tries_left = _TRIES_BELOW_REFUSED

    def learn(self, proven: int, refused: int | None) -> None:
        """Take over what an earlier run learned."""
        self._proven = proven
        self._refused = refused
        self._tries_left = 0 if refused is not None else _TRIES_BELOW_REFUSED

    def _lower_proven(self, timed_out_among: int | None = None) -> None:
        self._lower(max(2, math.ceil(_SMALLER * self._proven)), timed_out_among)

    def _lower(self, refused: int, timed_out_among: int | None = None) -> None:
        if self._refused is None or refused < self._refused:
            self._refused = max(2, refused)
            self._timed_out_among = timed_out_among
        self._proven = min(self._proven, self._refused - 1)

    def _forget(self, size: Size) -> None:
        if size.is_trial and size.ids in self._trials:
            self._trials.remove(size.ids)

    def _useful(
        self, limit: int, model: LatencyModel, base_s: float, *, is_rate_bound: bool
    ) -> int:
        """Return the size beyond which more ids a call bring nothing."""
        bounds = [_ANY]
        if model.per_id_s > 0:
            # Where the base alone takes as long as a call should, fewer ids make it no shorter.
            bounds.append(max(_TARGET_S - model.base_s, model.base_s) / model.per_id_s)
            if not is_rate_bound:
                pays = base_s / model.per_id_s * (1 / _BASE_SHARE - 1)
                bounds.append(max(pays, _FIRST))
        if model.bytes_per_id > 0:
            bounds.append(min(_TARGET_BYTES, _IN_FLIGHT_BYTES / limit) / model.bytes_per_id)
        return max(1, int(min(*bounds, _ANY)))

    def _is_flat(self, model: LatencyModel) -> bool:
        """Whether a call is long whatever it asks for: then round trips are dear, not refusals."""
        added_s = model.per_id_s * _GROWTH_IF_FLAT * self._proven
        return self._refused is None and model.base_s > max(_LONG_S, added_s / _FLAT)

    def _trial(self, wanted: int, growth: float, *, most: int) -> int | None:
        """Return a size to try above what is proven, None if it is not worth it.

        Or if so many trials are under way already. While what is proven is far below what is
        refused, those of far more do not count: they may hang until a gateway gives up.
        """
        if wanted < self._proven * _WORTH_TRYING:
            return None
        if self._refused is None:
            size = min(wanted, round_down(int(self._proven * growth)))
            return size if self._are_open(size) < most else None
        if self._tries_left <= 0:
            return None
        middle = round_down(int(math.sqrt(self._proven * self._refused)))
        if middle <= self._proven or middle >= self._refused or self._are_open(middle) >= most:
            return None
        self._tries_left -= 1
        return min(wanted, middle)

    def _are_open(self, ids: int) -> int:
        """Return how many trials are under way that tell what a trial of so many ids would."""
        if self._refused is None or self._refused < _FAR_MORE * self._proven:
            return len(self._trials)
        below = min(self._refused, _FAR_MORE * ids)
        return sum(each < below for each in self._trials)


def round_down(size: int) -> int:
    """Return the largest round number up to a size: limits that people set are round."""
    if size < _LADDER[-1] * 2:
        return size
    scale = 10 ** int(math.log10(size))
    return int(max(step * scale for step in _LADDER if step * scale <= size))
