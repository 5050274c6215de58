import random
from datetime import UTC, datetime
from email.utils import format_datetime
from itertools import pairwise

import anyio
import anyio.lowlevel
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bulkfetch.errors import OverloadedError, TransientError, UsageError
from bulkfetch.http.retry_after import RETRY_AFTER_CAP_S, read_retry_after
from bulkfetch.pace.concurrency import Concurrency
from bulkfetch.pace.gate import RetryAfterGate
from bulkfetch.pace.patience import Haste, Patience
from bulkfetch.pace.retry import RetryPolicy, retrying

NOW = 1_700_000_000.0


class Time:
    """Virtual time: sleepers wake in order, and nobody waits."""

    def __init__(self) -> None:
        self.now = 0.0
        self.slept: list[float] = []

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds
        await anyio.lowlevel.checkpoint()


def http_date(seconds: float) -> str:
    return format_datetime(datetime.fromtimestamp(seconds, UTC), usegmt=True)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("7", 7.0), (" 7 ", 7.0), ("0", None), ("-1", None), ("7.5", None), ("NaN", None),
        ("", None), ("٧", None), ("７", None), ("1e9", None), ("999999999", None),
        ("9" * 40, None), ("3600", RETRY_AFTER_CAP_S), (http_date(NOW + 30), 30.0),
        (http_date(NOW - 30), None), ("yesterday", None), (None, None), ("inf", None),
        ("Thu, 99 Foo 2022 25:00:00 GMT", None),
    ],
)  # fmt: skip
def test_retry_after_is_read_or_ignored(value: str | None, expected: float | None) -> None:
    assert read_retry_after(value, now=NOW) == expected


def leave(gate: RetryAfterGate, from_s: float, to_s: float, workers: int) -> list[float]:
    """Have calls begin as soon as the gate lets them, and return when."""
    begun: list[float] = []
    now = from_s
    while (now := now + gate.wait_s(now, workers)) < to_s and len(begun) < 1_000:
        begun.append(now)
        gate.on_begin()
    return begun


def test_the_gate_holds_everyone_and_lets_them_out_staggered() -> None:
    gate = RetryAfterGate()
    assert gate.wait_s(0.0, 20) == 0.0
    gate.shut(10, now=0.0)
    gate.shut(4, now=0.0)  # an earlier opening changes nothing
    assert gate.is_shut(9.9)
    begun = leave(gate, 3.0, 11.49, 20)
    assert begun[0] == pytest.approx(10)
    assert len(begun) == 20
    assert [later - earlier for earlier, later in pairwise(begun)] == [pytest.approx(1.5 / 20)] * 19
    assert gate.wait_s(11.5, 20) == 0.0


def test_who_was_answered_after_the_gate_opened_is_not_held_up() -> None:
    gate = RetryAfterGate()
    gate.on_begin()
    gate.shut(10, now=0.0)
    gate.on_success(started_at=-1.0)  # before it was shut: that tells nothing
    gate.on_begin()
    assert gate.wait_s(10.0, 3) == pytest.approx(0.5)
    gate.on_success(started_at=10.0)
    assert gate.wait_s(10.1, 3) == 0.0


def test_a_gate_that_shuts_again_is_waited_for_again() -> None:
    gate = RetryAfterGate()
    gate.shut(5, now=0.0)
    gate.shut(20, now=5.0)
    assert gate.wait_s(6.0, 1) == 19
    gate.shut(10, now=20.0)
    assert gate.shut_s == 5 + 20 + 5  # what overlaps counts once


def test_pinned_workers_fall_once_for_calls_in_flight_together_and_grow_back() -> None:
    concurrency = Concurrency(10, 10, is_pinned=True)
    for _ in range(10):
        concurrency.on_overload(started_at=1.0, now=2.0)
    assert concurrency.limit == 7
    concurrency.on_overload(started_at=2.5, now=3.0)  # whether the first helped is not known yet
    assert concurrency.limit == 7
    for _ in range(40):
        succeed(concurrency, in_flight=1)
    concurrency.on_overload(started_at=20.0, now=21.0)
    assert concurrency.limit == 4
    for _ in range(100):
        succeed(concurrency, in_flight=1)  # the limit is not in use
    assert concurrency.limit == 4
    for _ in range(100):
        succeed(concurrency, in_flight=concurrency.limit)
    assert concurrency.limit == 10


def succeed(concurrency: Concurrency, *, in_flight: int, at: float = 10.0) -> None:
    concurrency.on_success(
        started_at=at, now=at + 1, seconds=1, in_flight=in_flight, rows=10, overhead_rows=10
    )


@given(
    st.lists(st.tuples(st.booleans(), st.integers(1, 50)), max_size=200),
    st.integers(1, 50),
    st.booleans(),
)
def test_concurrency_stays_between_one_and_its_ceiling(
    steps: list[tuple[bool, int]], ceiling: int, is_pinned: bool
) -> None:
    concurrency = Concurrency(4, ceiling, is_pinned=is_pinned)
    for now, (is_success, in_flight) in enumerate(steps):
        if is_success:
            succeed(concurrency, in_flight=in_flight, at=now)
        else:
            concurrency.on_overload(started_at=now, now=now)
        assert 1 <= concurrency.limit <= ceiling


@given(st.integers(0, 200), st.integers(0, 2**32))
def test_backoff_is_full_jitter_under_its_cap(retries: int, seed: int) -> None:
    policy = RetryPolicy(base_s=0.5, cap_s=20.0)
    wait = policy.wait_s(retries, random.Random(seed))
    assert 0 <= wait <= min(20.0, 0.5 * 2 ** min(retries, 32))


async def attempt(
    time: Time, outcomes: list[Exception | None], attempts: int = 6
) -> tuple[int, int]:
    """Run the outcomes under a retry loop; return the attempts made and the retries announced."""
    made = retries = 0

    def should_retry(_error: TransientError) -> bool:
        nonlocal retries
        retries += made < attempts
        return made < attempts

    async for step in retrying(
        RetryPolicy(attempts=attempts),
        random.Random(1),
        should_retry=should_retry,
        sleep=time.sleep,
    ):
        with step:
            made += 1
            error = outcomes[made - 1]
            if error is not None:
                raise error
    return made, retries


async def test_transient_errors_are_retried_until_one_succeeds() -> None:
    time = Time()
    assert await attempt(time, [TransientError("a"), OverloadedError("b"), None]) == (3, 2)
    assert len(time.slept) == 2


async def test_attempts_are_bounded_and_the_last_error_is_raised() -> None:
    with pytest.raises(TransientError, match="5"):
        await attempt(Time(), [TransientError(str(n)) for n in range(9)])


@pytest.mark.parametrize("error", [UsageError("no"), KeyError("bug"), OSError("disk")])
async def test_nothing_else_is_retried(error: Exception) -> None:
    time = Time()
    with pytest.raises(type(error)):
        await attempt(time, [error, None])
    assert time.slept == []


async def test_a_cancellation_is_not_swallowed() -> None:
    async def never(_seconds: float) -> None:
        await anyio.sleep_forever()

    async def call() -> None:
        async for step in retrying(
            RetryPolicy(), random.Random(1), should_retry=lambda _error: True, sleep=never
        ):
            with step:
                raise TransientError("again")

    with anyio.move_on_after(0.02) as scope:
        await call()
    assert scope.cancelled_caught


def test_calls_that_began_together_are_given_up_together_and_later_ones_may_take_longer() -> None:
    patience = Patience()
    assert patience.seconds(0.1, started_at=0.0) == 8.0
    assert patience.seconds(10.0, started_at=0.0) == 60.0
    for started_at in (0.0, 1.0, 2.0):
        patience.on_given_up(started_at, now=62.0, is_divisible=True)
        assert patience.seconds(10.0, started_at) == 60.0
    assert patience.seconds(10.0, started_at=62.0) == 120.0
    patience.on_given_up(62.0, now=182.0, is_divisible=True)  # slower, for good
    assert patience.seconds(10.0, started_at=182.0) == 240.0
    for _ in range(100):
        patience.on_success(started_at=182.0, ratio=1.0)
    assert patience.seconds(10.0, started_at=200.0) == 60.0


@pytest.mark.parametrize(("is_divisible", "later"), [(True, 60.0), (False, 120.0)])
def test_a_call_that_is_slow_among_usual_ones_gives_no_other_more_time(
    later: float, *, is_divisible: bool
) -> None:
    patience = Patience()
    patience.on_success(started_at=5.0, ratio=1.1)
    patience.on_given_up(0.0, now=60.0, is_divisible=is_divisible)
    assert patience.seconds(10.0, started_at=60.0) == later


def test_how_slow_a_service_is_at_present_goes_by_its_latest_calls() -> None:
    patience = Patience()
    for started_at in range(5):
        patience.on_success(started_at, ratio=8.0)
    assert patience.slowdown == 8.0
    patience.on_success(5.0, ratio=100.0)  # one tells nothing
    assert patience.slowdown == 8.0


def test_in_haste_half_the_time_is_enough() -> None:
    patience = Patience()
    assert patience.seconds_of_trial(10.0) == 40.0
    for haste in (Haste.IDLE, Haste.SPARE):
        assert patience.seconds(10.0, 0.0, haste) == 30.0
        assert patience.seconds_of_trial(10.0, haste) == 20.0
    assert patience.seconds(0.1, 0.0, Haste.IDLE) == 8.0
    assert patience.seconds(0.1, 0.0, Haste.SPARE) == 3.0
