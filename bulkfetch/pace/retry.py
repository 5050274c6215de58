"""The retry policy of one batch, on tenacity: full jitter, bounded, by positive list only.

Full jitter (a uniform draw from zero to an exponentially growing cap) spreads the retries of many
workers best; see "Exponential Backoff And Jitter" in the AWS Architecture Blog. tenacity's own
defaults never stop and retry every exception, so everything is given. Whether a failure counts
against the batch is not known here: the caller says when to give up.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from random import Random

import tenacity

from bulkfetch.errors import TransientError


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """At most `attempts` a batch; waits from 0 to min(`cap_s`, `base_s` · 2ⁿ) seconds."""

    attempts: int = 6
    base_s: float = 0.5
    cap_s: float = 20.0

    def wait_s(self, retries: float, random: Random) -> float:
        """Draw the wait before retry number `retries` + 1."""
        cap = min(self.cap_s, self.base_s * 2 ** min(retries, 32))
        return random.uniform(0, cap)


def retrying(
    policy: RetryPolicy,
    random: Random,
    *,
    should_retry: Callable[[TransientError], bool],
    sleep: Callable[[float], Awaitable[None]],
    doublings: Callable[[int], float] = float,
) -> tenacity.AsyncRetrying:
    """Build the retry loop of one batch.

    Args:
        policy: the waits.
        random: draws them.
        should_retry: asked once with each transient error; False gives up, and the error is raised.
        sleep: waits.
        doublings: says how often the base is doubled after so many retries; as often by default.
    """

    def predicate(state: tenacity.RetryCallState) -> bool:
        error = state.outcome.exception() if state.outcome is not None else None
        return isinstance(error, TransientError) and should_retry(error)

    return tenacity.AsyncRetrying(
        retry=predicate,
        stop=tenacity.stop_never,
        wait=lambda state: policy.wait_s(doublings(state.attempt_number - 1), random),
        sleep=sleep,
        reraise=True,
    )
