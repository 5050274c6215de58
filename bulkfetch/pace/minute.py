"""A quota of calls a minute, told from refusals that no other limit explains.

A service that lets in so many calls a minute says 429 to the next, and to every call from then on,
however few there are at a time or in a second, until its minute is over. Such an *episode* ends
with the next call that is let in. If calls were refused for ten seconds, or an earlier episode
began at the same number, the quota is what was let in within a minute before it; unless the call
that ended it had as many before it: then that was no quota of any minute. It may be one of minutes
by the clock, where calls let in late in one are followed by as many early in the next: then as many
are let in between one long episode and the next as before it.

A quota is tried again, a tenth above it, after two minutes, then after three times as long each
time; where that is let in, a minute later, twice as far above. In minutes by the clock a call more
within sixty seconds tells nothing: it is let in if none was refused for two minutes.

Explicit state and steps, no I/O. Times are the injected clock's, in seconds.
"""

from dataclasses import dataclass

_LASTED_S = 10.0
_ALIKE = 0.02  # that two episodes may differ by
_FEWEST = 5  # a quota of less is not one a minute
_TRY_AGAIN_S = 120.0
_LONGER = 3
_LET_IN_S = 60.0
_WHOLE_MINUTE_S = 120.0  # in which one by the clock lies
_STEP = 0.1


@dataclass(slots=True)
class _Episode:
    """Refusals from `began_at` to `refused_at`, with nothing let in between."""

    let_in: int
    began_at: float
    refused_at: float

    @property
    def has_lasted(self) -> bool:
        return self.refused_at - self.began_at >= _LASTED_S


class MinuteQuota:
    """What is known of it.

    Attributes:
        most: calls that the service lets in within a minute; None if no quota is known.
    """

    def __init__(self) -> None:
        self._episode: _Episode | None = None
        self._earlier: int | None = None
        self._let_in = 0  # since the latest episode
        self._let_in_before: int | None = None  # likewise, before that, if it lasted
        self._tries_at = 0.0
        self._wait_s = _TRY_AGAIN_S
        self._step = _STEP
        self._tried: int | None = None  # what it was before it was raised
        self._tried_at = 0.0
        self._is_by_clock = False
        self.most: int | None = None

    def on_admitted(self, in_minute: int, started_at: float, now: float) -> None:
        """Note a call that was let in, with so many begun in the minute before, itself counted."""
        episode = self._episode
        is_told = not self._is_by_clock or now >= self._tried_at + _WHOLE_MINUTE_S
        if self._tried is not None and in_minute > self._tried and is_told:
            self._tried, self._wait_s, self._step = None, _TRY_AGAIN_S, 2 * self._step
            self._tries_at = now + _LET_IN_S
        if episode is None or started_at < episode.began_at:
            self._let_in += 1
            return
        self._episode = None
        between, self._let_in = self._let_in, 1
        before, self._let_in_before = self._let_in_before, between if episode.has_lasted else None
        if in_minute > episode.let_in:
            self._earlier = None
            if episode.has_lasted and between >= _FEWEST and _are_alike(before, between):
                self.learn(between, now)
                self._is_by_clock = True
        elif self._is_quota(episode):
            self.learn(episode.let_in, now)
        else:
            self._earlier = episode.let_in

    def on_refused(self, in_minute: int, started_at: float, now: float) -> bool:
        """Note a call that was refused (429); return whether a quota a minute may explain it."""
        let_in = in_minute - 1
        if let_in < _FEWEST:
            return False
        if self._episode is None:
            self._episode = _Episode(let_in, started_at, now)
        else:
            self._episode.let_in = min(self._episode.let_in, let_in)
            self._episode.refused_at = now
        known = self.most if self._tried is None else self._tried
        if known is not None and let_in >= known:  # it was tried again, in vain
            self.most = known if self._is_by_clock else self._episode.let_in
            self._tried, self._step = None, _STEP
            return True
        return self._is_quota(self._episode)

    def try_again(self, now: float) -> None:
        """Raise the quota a little, if it has stood for long enough."""
        if self.most is not None and now >= self._tries_at:
            self._wait_s *= _LONGER
            self._tries_at = now + self._wait_s
            self._tried, self._tried_at = self.most, now
            self.most += max(1, int(self.most * self._step))

    def learn(self, most: int, now: float) -> None:
        """Take a quota as known."""
        self.most = most
        self._tries_at = now + self._wait_s

    def _is_quota(self, episode: _Episode) -> bool:
        return episode.has_lasted or _are_alike(self._earlier, episode.let_in)


def _are_alike(one: int | None, other: int) -> bool:
    return one is not None and abs(one - other) <= _ALIKE * one
