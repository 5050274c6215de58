"""The retry quota that all batches share: retries stop when the service gives nothing back.

As the standard mode of botocore: a run begins with 500 tokens; a retry costs 5, or 10 after a
time-out, charged when it is decided; a first-try success gives 1 back, and a retry that succeeds
what it cost. So retries are free where they help, and bounded at a hundred where they do not.
Explicit state and steps, no I/O.
"""

CAPACITY = 500
RETRY_COST = 5
TIMEOUT_RETRY_COST = 10
_FIRST_TRY_RETURN = 1
_AFTER_OUTAGE = 100


class RetryQuota:
    """The tokens that are left."""

    def __init__(self, capacity: int = CAPACITY) -> None:
        self._capacity = capacity
        self.tokens = capacity

    def charge(self, *, after_timeout: bool) -> int | None:
        """Pay for a retry; return what it cost, or None if that cannot be paid."""
        cost = TIMEOUT_RETRY_COST if after_timeout else RETRY_COST
        if cost > self.tokens:
            return None
        self.tokens -= cost
        return cost

    def on_success(self, cost: int | None) -> None:
        """Note a success; `cost` is what its last retry was charged, None for a first try."""
        returned = _FIRST_TRY_RETURN if cost is None else cost
        self.tokens = min(self._capacity, self.tokens + returned)

    def refill_after_outage(self) -> None:
        """Let retries be made again: the service is back."""
        self.tokens = max(self.tokens, min(self._capacity, _AFTER_OUTAGE))
