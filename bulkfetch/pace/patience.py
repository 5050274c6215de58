"""How long a call may take before it is given up, and its halves are asked for instead.

A size that answered before may not always: the rows of as many ids differ, and a service that
cannot answer so much says so only after a minute. So a call that takes six times as long as it
should, and eight seconds at least, is given up. If it is not the call but the service that has
become slower, all calls under way are given up together; those that begin after that may take twice
as long, and so on, so that no call is given up for ever. Calls that succeed take that back, slowly.
A size that has never succeeded is on trial, and given up sooner.

Explicit state and steps, no I/O. Times are the injected clock's, in seconds.
"""

_FACTOR_OF_TRIALS = 4.0
_FACTOR = 6.0
_LARGEST_FACTOR = 1e3
_DECAY = 0.98  # a call that succeeds: 35 take a doubling back
_FLOOR_S = 8.0


class Patience:
    """What calls may take."""

    def __init__(self) -> None:
        self._factor = self._factor_before = _FACTOR
        self._raised_at = float("-inf")

    def seconds(self, expected_s: float, started_at: float) -> float:
        """Return how long a call may take that should take so long."""
        is_before = started_at < self._raised_at
        return max(_FLOOR_S, (self._factor_before if is_before else self._factor) * expected_s)

    @staticmethod
    def seconds_of_trial(expected_s: float) -> float:
        """Return the same for a call whose size has never succeeded."""
        return max(_FLOOR_S, _FACTOR_OF_TRIALS * expected_s)

    def on_success(self) -> None:
        """Note a call that was answered."""
        self._factor = max(_FACTOR, _DECAY * self._factor)

    def on_given_up(self, started_at: float, now: float) -> None:
        """Note a call that was given up: those that begin from now on may take longer."""
        if started_at >= self._raised_at:
            self._factor_before = self._factor
            self._factor = min(_LARGEST_FACTOR, 2 * self._factor)
            self._raised_at = now
