"""Is it the batch or the service? And when the service is out: who asks again, and when.

A failure counts against its batch only while other batches succeed. When calls fail whatever they
ask for, that is the service's doing: no batch can help it, and none is given up for it. If nothing
succeeds any more, or the retry quota is used up, the service is *out*: all workers pause but one,
which probes with growing waits, each time with another batch if there is one. A success ends the
outage; if none comes for as long as the caller allows, the run ends.

A service that answers "too many calls" (429) is there: a quota is used up, and will be free again.
So from each such answer, and the next try that it allows, the outage may last as long again; but
100 minutes in all, more than a quota of an hour takes, so that no run waits for ever.

Explicit state and steps, no I/O. Times are the injected clock's, in seconds.
"""

from collections import deque
from dataclasses import dataclass
from random import Random

_REMEMBERED = 32
_WELL = 0.7  # share of the other batches' calls that succeed, where a failure is a batch's own
_FEWEST_IN_A_ROW = 6
_DOUBLINGS = 6.0  # of the wait before a retry, where all calls fail
_PROBE_BASE_S = 0.5
_PROBE_CAP_S = 20.0
_REFUSED_CAP_S = 6_000.0


@dataclass(frozen=True, slots=True)
class Outage:
    """The service is out since the failure at `began_at`, and given up at `ends_at`.

    `cause` is fit to show. `is_refusal` is whether it has answered since, that there are too many
    calls.
    """

    began_at: float
    ends_at: float
    cause: str
    is_refusal: bool = False


class Health:
    """What the latest calls say of the service.

    Args:
        max_outage_s: how long an outage may last; 0 has each failure count against its batch.
        random: spreads the probes.

    Attributes:
        outage: the one that lasts, if one does.
        is_probing: whether somebody asks whether it is over.
        refused_probes: how many probes of it, or of the latest, the service asked less for.
    """

    def __init__(self, max_outage_s: float, random: Random) -> None:
        self._max_outage_s = max_outage_s
        self._random = random
        self._outcomes: deque[tuple[int, bool]] = deque(maxlen=_REMEMBERED)
        self._failed_in_a_row = 0
        self._failing_since = 0.0
        self._probes = 0
        self._next_probe_at = 0.0
        self._too_many_at = float("-inf")
        self._there_until = float("-inf")  # as far as the latest of such answers tells
        self.refused_probes = 0
        self.is_probing = False
        self.outage: Outage | None = None

    def is_own_fault(self, batch: int) -> bool:
        """Whether a failure counts against this batch: others succeed, or no outage may last."""
        if not self._max_outage_s:
            return True
        others = [succeeded for number, succeeded in self._outcomes if number != batch]
        return bool(others) and sum(others) >= _WELL * len(others)

    def doublings(self, retries: int, own_faults: int) -> float:
        """Say how often the wait before a batch's next retry is doubled.

        That goes by its own faults, or by the share of the service's calls that fail: a batch that
        had bad luck in a brown-out must not wait for long after it.
        """
        failed = sum(not succeeded for _, succeeded in self._outcomes)
        of_the_service = _DOUBLINGS * failed / max(1, len(self._outcomes))
        return min(retries, max(own_faults - 1, of_the_service))

    def knows_others(self, batch: int) -> bool:
        """Whether other batches than this one were asked for lately."""
        return any(number != batch for number, _ in self._outcomes)

    def on_success(self, batch: int) -> bool:
        """Note a success; return whether it ends an outage."""
        self._outcomes.append((batch, True))
        self._failed_in_a_row = 0
        was_out = self.outage is not None
        self.outage = None
        self.is_probing = False
        self._probes = 0
        return was_out

    def on_failure(self, batch: int, cause: str, now: float, *, limit: int) -> bool:
        """Note a failure that may be the service's; return whether an outage begins with it."""
        self._outcomes.append((batch, False))
        if not self._failed_in_a_row:
            self._failing_since = now
        self._failed_in_a_row += 1
        if self.outage is not None:
            return False
        if not self._max_outage_s or self._failed_in_a_row < max(_FEWEST_IN_A_ROW, limit):
            return False
        self.begin_outage(cause, now)
        return True

    def on_too_many(self, now: float, tries_at: float) -> None:
        """Note an answer (429) that there are too many calls; `tries_at` is when the next may be.

        It comes before `on_failure` of the same call.
        """
        self._too_many_at = now
        self._there_until = max(self._there_until, tries_at + _PROBE_CAP_S)
        if self.outage is not None:
            self._set_outage(self.outage.began_at, self.outage.cause)

    def may_last_s(self, *, is_refusal: bool) -> float:
        """Return how long an outage may last at most, where that is bounded."""
        if is_refusal and self._max_outage_s:
            return max(self._max_outage_s, _REFUSED_CAP_S)
        return self._max_outage_s

    def begin_outage(self, cause: str, now: float) -> None:
        """Pause: nothing succeeds, or no retry can be paid for."""
        if self.outage is None:
            self._set_outage(self._failing_since if self._failed_in_a_row else now, cause)
            self._probes = self.refused_probes = 0
            self._wait_for_probe(now)

    def forget_failures(self) -> None:
        """Begin as if nothing were known of failures: they were some time ago."""
        self.outage = None
        self.is_probing = False
        self._failed_in_a_row = self._probes = 0
        self._too_many_at = self._there_until = float("-inf")
        self._outcomes.clear()

    def probe_wait_s(self, now: float) -> float | None:
        """Return how long until somebody may probe; None while somebody does."""
        return None if self.is_probing else max(0.0, self._next_probe_at - now)

    def on_probe_failed(self, cause: str, now: float, *, is_refused: bool) -> None:
        """Note that a probe got nothing; another one may follow after a longer wait.

        `is_refused` is whether the service asked for less (429, 503).
        """
        self.is_probing = False
        self.refused_probes += is_refused
        if self.outage is not None:
            self._set_outage(self.outage.began_at, cause)
        self._wait_for_probe(now)

    @property
    def next_probe_at(self) -> float:
        """When somebody may ask whether the service is back, if nobody does so now."""
        return self._next_probe_at

    def is_given_up(self, now: float) -> bool:
        """Whether the outage has lasted for as long as it may."""
        return self.outage is not None and now >= self.outage.ends_at

    def _set_outage(self, began_at: float, cause: str) -> None:
        is_refusal = self._too_many_at >= began_at
        ends_at = max(began_at, self._there_until) + self._max_outage_s
        ends_at = min(ends_at, began_at + self.may_last_s(is_refusal=is_refusal))
        self.outage = Outage(began_at, ends_at, cause, is_refusal=is_refusal)

    def _wait_for_probe(self, now: float) -> None:
        cap = min(_PROBE_CAP_S, _PROBE_BASE_S * 2 ** min(self._probes, 16))
        self._probes += 1
        self._next_probe_at = now + self._random.uniform(cap / 2, cap)
