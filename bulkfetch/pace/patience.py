"""How long a call may take before it is given up, and its halves are asked for instead.

A size that answered before may not always: the rows of as many ids differ, and a service that
cannot answer so much says so only after a minute. So a call that takes six times as long as it
should, and eight seconds at least, is given up; what it should take goes by what the latest calls
took, for a queue may grow within a round trip. If it is not the call but the service that has
become slower, all calls under way are given up together; those that begin after that may take twice
as long, and so on, so that no call is given up for ever. Calls that succeed take that back, slowly.
A size that has never succeeded is on trial, and given up sooner.

Explicit state and steps, no I/O. Times are the injected clock's, in seconds.
"""

from collections import deque
from enum import Enum

_FACTOR_OF_TRIALS = 4.0
_FACTOR = 6.0
_LARGEST_FACTOR = 1e3
_DECAY = 0.98  # a call that succeeds: 35 take a doubling back
_FLOOR_S = 8.0
_FLOOR_OF_TRIALS_S = 3.0
_HASTE = 0.5
_USUAL = 2.0  # times what calls take at present
_LATEST = 5


class Haste(Enum):
    """Why a call is waited for half as long."""

    NONE = "it is not"
    IDLE = "nothing else is to be done meanwhile"
    SPARE = "there is another way to learn the same"


class Patience:
    """What calls may take."""

    def __init__(self) -> None:
        self._factor = self._factor_before = _FACTOR
        self._latest: deque[float] = deque(maxlen=_LATEST)
        self._raised_at = self._usual_since = float("-inf")

    def seconds(self, expected_s: float, started_at: float, haste: Haste = Haste.NONE) -> float:
        """Return how long a call may take that should take so long."""
        factor = self._factor_before if started_at < self._raised_at else self._factor
        floor_s = _FLOOR_OF_TRIALS_S if haste is Haste.SPARE else _FLOOR_S
        return max(floor_s, _hasten(factor * expected_s, haste))

    @staticmethod
    def seconds_of_trial(expected_s: float, haste: Haste = Haste.NONE) -> float:
        """Return the same for a call whose size has never succeeded."""
        return _hasten(max(_FLOOR_OF_TRIALS_S, _FACTOR_OF_TRIALS * expected_s), haste)

    @property
    def slowdown(self) -> float:
        """How many times longer than they should the latest calls took, at least 1."""
        latest = sorted(self._latest)
        return max(1.0, latest[len(latest) // 2]) if latest else 1.0

    def on_success(self, started_at: float, ratio: float) -> None:
        """Note a call that was answered, in so many times what it should have taken."""
        self._factor = max(_FACTOR, _DECAY * self._factor)
        if ratio < _USUAL * self.slowdown:
            self._usual_since = max(self._usual_since, started_at)
        self._latest.append(ratio)

    def on_given_up(self, started_at: float, now: float, *, is_divisible: bool) -> None:
        """Note a call that was given up: those that begin from now on may take longer.

        Unless it can be asked for in parts, and calls begun after it have taken their usual time.
        """
        if is_divisible and self._usual_since > started_at:
            return
        if started_at >= self._raised_at:
            self._factor_before = self._factor
            self._factor = min(_LARGEST_FACTOR, 2 * self._factor)
            self._raised_at = now


def _hasten(seconds: float, haste: Haste) -> float:
    return seconds if haste is Haste.NONE else _HASTE * seconds
