"""A quota of calls a minute: told from refusals, kept to, and dropped when it is none."""

import pytest

from bulkfetch.pace.minute import MinuteQuota
from bulkfetch.pace.rate import CallRate


def let_in(quota: MinuteQuota, calls: int, at: float) -> None:
    for n in range(1, calls + 1):
        quota.on_admitted(n, started_at=at, now=at + 0.5)


def test_calls_that_are_refused_for_long_and_then_let_in_show_a_quota() -> None:
    quota = MinuteQuota()
    let_in(quota, 60, at=0.0)
    assert not quota.on_refused(61, started_at=5.0, now=5.0)
    assert quota.on_refused(61, started_at=35.0, now=35.0)
    assert quota.most is None  # it may be out
    quota.on_admitted(60, started_at=4.0, now=36.0)  # begun before: it tells nothing
    assert quota.most is None
    quota.on_admitted(1, started_at=65.0, now=66.0)
    assert quota.most == 60


def test_a_call_that_is_let_in_beyond_shows_that_there_is_no_quota() -> None:
    quota = MinuteQuota()
    let_in(quota, 60, at=0.0)
    quota.on_refused(61, started_at=5.0, now=5.0)
    quota.on_refused(61, started_at=25.0, now=25.0)
    quota.on_admitted(61, started_at=45.0, now=46.0)
    assert quota.most is None


@pytest.mark.parametrize(("second", "most"), [(60, 60), (45, None)])
def test_two_short_episodes_show_a_quota_if_they_began_alike(second: int, most: int | None) -> None:
    quota = MinuteQuota()
    for start, calls in ((0.0, 60), (65.0, second)):
        let_in(quota, calls, at=start)
        quota.on_refused(calls + 1, started_at=start + 5, now=start + 5)
    quota.on_admitted(1, started_at=130.0, now=131.0)
    assert quota.most == most


@pytest.mark.parametrize(
    ("second", "lasted_s", "most"), [(60, 50.0, 60), (45, 50.0, None), (60, 2.0, None)]
)
def test_minutes_by_the_clock_show_in_the_calls_between_two_long_episodes(
    second: int, lasted_s: float, most: int | None
) -> None:
    """The first call of a minute has all of the minute before within sixty seconds."""
    quota = MinuteQuota()
    for start, calls in ((60.0, 60), (120.0, second)):
        for n in range(1, calls + 1):  # the first ends the episode before
            in_minute = 61 if start > 60 and n == 1 else n
            quota.on_admitted(in_minute, started_at=start + n / 100, now=start + n / 100)
        quota.on_refused(calls + 1, started_at=start + 5, now=start + 5)
        quota.on_refused(calls + 1, started_at=start + 5 + lasted_s, now=start + 5 + lasted_s)
    assert quota.most is None
    quota.on_admitted(61, started_at=180.0, now=180.1)
    assert quota.most == most


def learned_by_the_clock() -> MinuteQuota:
    quota = MinuteQuota()
    for start in (60.0, 120.0, 180.0):
        for n in range(1, 61):
            in_minute = 61 if start > 60 and n == 1 else n
            quota.on_admitted(in_minute, started_at=start + n / 100, now=start + n / 100)
        if start < 180:
            quota.on_refused(61, started_at=start + 5, now=start + 5)
            quota.on_refused(61, started_at=start + 50, now=start + 50)
    assert quota.most == 60
    return quota


def test_in_minutes_by_the_clock_a_call_more_within_sixty_seconds_tells_nothing() -> None:
    quota = learned_by_the_clock()
    quota.try_again(301.0)
    assert quota.most == 66
    quota.on_admitted(66, started_at=310.0, now=310.1)  # some were of the minute before
    assert quota.most == 66
    assert quota.on_refused(64, started_at=320.0, now=320.1)
    assert quota.most == 60


def test_a_quota_by_the_clock_that_is_none_any_more_is_left_behind() -> None:
    quota, now = learned_by_the_clock(), 301.0
    while quota.most is not None and quota.most < 500:
        quota.try_again(now)
        quota.on_admitted(quota.most, started_at=now, now=now + 1)
        now += 10
    assert now < 3_600


def test_refusals_of_few_calls_show_no_quota() -> None:
    quota = MinuteQuota()
    for at in (0.0, 30.0):
        assert not quota.on_refused(2, started_at=at, now=at)
    quota.on_admitted(1, started_at=65.0, now=66.0)
    assert quota.most is None


def test_a_quota_is_tried_again_ever_more_seldom_and_falls_back_at_once() -> None:
    quota = MinuteQuota()
    quota.learn(60, now=0.0)
    quota.try_again(119.0)
    assert quota.most == 60
    quota.try_again(120.0)
    assert quota.most == 66
    assert not quota.on_refused(41, started_at=121.0, now=121.0)
    quota.on_admitted(42, started_at=122.0, now=123.0)  # that one was chance
    assert quota.most == 66
    assert quota.on_refused(61, started_at=130.0, now=130.0)
    assert quota.most == 60
    quota.try_again(479.0)
    assert quota.most == 60
    quota.try_again(480.0)
    assert quota.most == 66


def test_a_quota_that_is_none_any_more_is_soon_left_behind() -> None:
    quota, now = MinuteQuota(), 0.0
    quota.learn(5, now)
    while quota.most is not None and quota.most < 500:
        now += 10
        quota.try_again(now)
        quota.on_admitted(quota.most, started_at=now, now=now + 1)
    assert now < 1_200


def test_calls_wait_for_a_quota_of_a_minute_that_slides() -> None:
    rate, now, begun = CallRate(), 0.0, list[float]()
    rate.learn(None, 10)
    while len(begun) < 25:
        wait_s = rate.wait_s(now)
        if wait_s == 0.0:
            rate.begin(now)
            begun.append(now)
            now += 0.1
        else:
            now += wait_s
    for at in begun:
        assert sum(other <= at < other + 60 for other in begun) <= 10
    assert begun[10] == pytest.approx(60.0)
    assert begun[-1] < 122
    assert rate.left_of_quota(now) == 1  # 25 calls, 16 of them over a minute ago
    assert rate.left_of_quota(now + 60) == 10
