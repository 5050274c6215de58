"""The retry policy of one batch, on tenacity: full jitter, bounded, by positive list only.

Full jitter (a uniform draw from zero to an exponentially growing cap) spreads the retries of many
workers best; see "Exponential Backoff And Jitter" in the AWS Architecture Blog. tenacity's own
defaults never stop and retry every exception, so everything is given.
"""

from collections.abc import Callable
from dataclasses import dataclass

import tenacity

from bulkfetch.errors import TransientError
from bulkfetch.runtime import Runtime


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """At most `attempts` a batch; waits from 0 to min(`cap_s`, `base_s` · 2ⁿ) seconds."""

    attempts: int = 6
    base_s: float = 0.5
    cap_s: float = 20.0

    def wait_s(self, retries: int, runtime: Runtime) -> float:
        """Draw the wait before retry number `retries` + 1."""
        cap = min(self.cap_s, self.base_s * 2 ** min(retries, 32))
        return runtime.random.uniform(0, cap)


def retrying(
    policy: RetryPolicy,
    runtime: Runtime,
    *,
    is_worth_retrying: Callable[[TransientError, int], bool],
    on_retry: Callable[[], None],
) -> tenacity.AsyncRetrying:
    """Build the retry loop of one batch.

    Args:
        policy: attempts and waits.
        runtime: gives sleep and random.
        is_worth_retrying: asked with a transient error and the attempts made; False gives up now.
        on_retry: called when a retry is decided, before its wait.
    """

    def predicate(state: tenacity.RetryCallState) -> bool:
        error = state.outcome.exception() if state.outcome is not None else None
        return isinstance(error, TransientError) and is_worth_retrying(error, state.attempt_number)

    return tenacity.AsyncRetrying(
        retry=predicate,
        stop=tenacity.stop_after_attempt(policy.attempts),
        wait=lambda state: policy.wait_s(state.attempt_number - 1, runtime),
        sleep=runtime.sleep,
        before_sleep=lambda _state: on_retry(),
        reraise=True,
    )
