"""The small limiters of the pace, each against a simple service."""

import random
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bulkfetch.pace.batch_size import BatchSize, Size, round_down
from bulkfetch.pace.concurrency import Concurrency
from bulkfetch.pace.controller import Pace, PaceSettings
from bulkfetch.pace.health import Health
from bulkfetch.pace.latency import LatencyModel
from bulkfetch.pace.quota import CAPACITY, RetryQuota
from bulkfetch.pace.rate import CallRate
from bulkfetch.pace.refusals import Refusals
from bulkfetch.pace.taken import TakenRequests
from bulkfetch.pace.timeline import SAMPLES_KEPT, Timeline
from bulkfetch.plan.rectangle import Axis, Rectangle, make_rectangle


def serve(concurrency: Concurrency, started_at: float, seconds: float) -> None:
    """Have a call of 1,000 rows succeed while all places are in use."""
    concurrency.on_success(
        started_at=started_at,
        now=started_at + seconds,
        seconds=seconds,
        in_flight=concurrency.limit,
        rows=1_000,
        overhead_rows=300,
    )


def run_rounds(concurrency: Concurrency, slots: int, rounds: int, seed: int = 1) -> list[int]:
    """Serve rounds of calls in so many slots, a line before them; return the limits after each."""
    chance = random.Random(seed)
    limits, now = [], 0.0
    for _ in range(rounds):
        seconds = 1.0
        for _ in range(concurrency.limit):
            seconds = max(1.0, concurrency.limit / slots)
            serve(concurrency, now, seconds * chance.uniform(0.9, 1.1))
        now += 1.2 * seconds
        limits.append(concurrency.limit)
    return limits


@pytest.mark.parametrize("slots", [4, 16, 32, 50])
def test_concurrency_finds_the_slots_and_stays_there(slots: int) -> None:
    limits = run_rounds(Concurrency(4, 64), slots, 60)
    settled = limits[30:]
    assert min(settled) >= slots
    assert max(settled) <= 1.6 * slots + 6
    assert max(settled) - min(settled) <= 0.2 * slots + 2, "it oscillates"


@pytest.mark.parametrize("slower", [2.0, 3.0, 4.0, 6.0])
@pytest.mark.parametrize(("start", "ceiling"), [(8, 32), (4, 64)])
def test_a_service_that_becomes_slower_is_not_starved(
    start: int, ceiling: int, slower: float
) -> None:
    """Not even where all calls end together, when they seem to bring more than they do."""
    concurrency = Concurrency(start, ceiling)
    run_rounds(concurrency, 32, 20)
    before, limits, now = concurrency.limit, list[int](), 1_000.0
    for _ in range(40):
        for _ in range(concurrency.limit):
            serve(concurrency, now, slower)
        now += slower + 1
        limits.append(concurrency.limit)
    assert min(limits) >= before / 4
    assert min(limits[20:]) >= 16


def test_refusals_tell_too_many_at_a_time_from_too_many_a_second() -> None:
    at_a_time, a_second = Refusals(), Refusals()
    for n in range(1, 9):
        if n <= 5:
            at_a_time.on_admitted(n, 2 * n, now=1.0)
        else:
            assert at_a_time.on_refused(n, n, now=1.0)
    assert at_a_time.most_in_flight == 5
    for n in range(30):
        in_second = 1 + n % 15
        if in_second <= 10:
            a_second.on_admitted(1 + n % 7, in_second, now=1.0)
        else:
            a_second.on_refused(1 + n % 3, in_second, now=1.0)
    assert a_second.most_in_second == 10
    assert a_second.most_in_flight is None


def test_refusals_at_random_are_not_taken_for_a_limit() -> None:
    chance, refusals, explained = random.Random(1), Refusals(), 0
    for _ in range(400):
        n, m = chance.randint(1, 20), chance.randint(1, 20)
        if chance.random() < 0.5:
            explained += refusals.on_refused(n, m, now=1.0)
        else:
            refusals.on_admitted(n, m, now=1.0)
    assert explained <= 4


def test_a_rate_that_looked_like_too_many_at_a_time_is_found_out_by_a_lone_call() -> None:
    refusals = Refusals()
    for n in range(1, 5):
        if n <= 2:
            refusals.on_admitted(n, n, now=0.0)
        else:
            assert refusals.on_refused(n, n, now=0.0)
    assert (refusals.most_in_flight, refusals.most_in_second) == (2, None)
    refusals.try_again(10.0, is_rate_in_use=False)
    assert refusals.wants_a_lone_call(2)
    refusals.on_admitted(3, 1, now=20.0)
    assert (refusals.most_in_flight, refusals.most_in_second) == (None, 2)
    assert not refusals.wants_a_lone_call(2)


@pytest.mark.parametrize(("retry_after_s", "tried_at"), [(None, 2.0), (20.0, 61.0)])
def test_a_single_refusal_is_no_cap_once_more_are_let_in(
    retry_after_s: float | None, tried_at: float
) -> None:
    refusals = Refusals()
    for n in range(1, 6):
        refusals.on_admitted(n, 1, now=0.0)
    assert refusals.on_refused(6, 1, now=0.0, retry_after_s=retry_after_s)
    refusals.try_again(tried_at - 1.5, is_rate_in_use=False)
    assert refusals.most_in_flight == 5
    refusals.try_again(tried_at, is_rate_in_use=False)
    assert refusals.most_in_flight == 6
    refusals.on_admitted(7, 1, now=tried_at)
    assert refusals.most_in_flight is None


def test_a_cap_whose_refusals_stop_all_calls_for_long_is_tried_more_seldom() -> None:
    tried: dict[float, int] = {}
    for retry_after_s in (2.0, 60.0):
        refusals = Refusals()
        for n in range(1, 6):
            refusals.on_admitted(n, 1, now=0.0)
        for n in (6, 7):
            refusals.on_refused(n, 1, now=0.0, retry_after_s=retry_after_s)
        tried[retry_after_s] = next(
            now for now in range(1, 1_000) if _is_tried(refusals, float(now))
        )
    assert tried == {2.0: 100, 60.0: 600}  # no sooner than after 100 calls


def _is_tried(refusals: Refusals, now: float) -> bool:
    refusals.on_admitted(5, 1, now)
    refusals.try_again(now, is_rate_in_use=False)
    return refusals.most_in_flight == 6


@pytest.mark.parametrize("slots", [32, 3])
def test_a_refusal_by_chance_ends_no_doubling_unless_a_queue_shows(slots: int) -> None:
    concurrency = Concurrency(4, 64)
    run_rounds(concurrency, slots, 1)
    before = concurrency.limit
    concurrency.on_overload(started_at=50.0, now=50.0)
    assert concurrency.limit < before
    for start in (100.0, 200.0):
        seconds = max(1.0, concurrency.limit / slots)
        for _ in range(16):
            serve(concurrency, start, seconds)
    assert concurrency.limit >= 16 if slots == 32 else not concurrency.is_slow_start


def test_what_was_held_by_a_cap_that_is_none_goes_on_doubling() -> None:
    concurrency = Concurrency(4, 64)
    concurrency.hold_at(2)
    assert (concurrency.limit, concurrency.is_slow_start) == (2, False)
    concurrency.let_go()
    assert concurrency.is_slow_start
    run_rounds(concurrency, 32, 5)
    assert concurrency.limit >= 32


def test_a_cap_is_tried_again_ever_more_seldom() -> None:
    refusals, tries, now = Refusals(), 0, 0.0
    for n in range(1, 7):
        if n <= 5:
            refusals.on_admitted(n, n, now)
    refusals.on_refused(6, 6, now)
    while now < 600:
        now += 1
        refusals.try_again(now, is_rate_in_use=False)
        if refusals.most_in_flight == 6:
            tries += 1
            refusals.on_refused(6, 6, now)
        refusals.on_admitted(5, 5, now)
    assert refusals.most_in_flight == 5
    assert 2 <= tries <= 6


def test_a_rate_spaces_calls_evenly() -> None:
    rate, now, begun = CallRate(10), 0.0, list[float]()
    while len(begun) < 50:
        wait = rate.wait_s(now)
        if wait > 0:
            now += wait
            continue
        rate.begin(now)
        begun.append(now)
    assert begun[-1] == pytest.approx(4.9)
    assert max(sum(at - 1 < other <= at for other in begun) for at in begun) <= 11


def test_the_quota_is_charged_and_given_back() -> None:
    quota = RetryQuota()
    costs: list[int] = []
    while (cost := quota.charge(after_timeout=len(costs) % 2 == 0)) is not None:
        costs.append(cost)
    assert costs[:2] == [10, 5]
    assert len(costs) <= CAPACITY // 7 + 1
    quota.on_success(None)
    quota.on_success(costs[0])
    assert quota.tokens <= 16
    quota.refill_after_outage()
    assert quota.tokens == 100


def test_an_outage_begins_and_ends_and_is_given_up() -> None:
    health = Health(600, random.Random(1))
    assert not health.on_success(1)
    begun = [health.on_failure(n, "down", 10.0 + n, limit=8) for n in range(8)]
    assert begun == [False] * 7 + [True]
    assert not health.is_own_fault(3)
    wait = health.probe_wait_s(17.0)
    assert wait is not None
    assert 0 < wait <= 0.5
    health.is_probing = True
    assert health.probe_wait_s(18.0) is None
    health.on_probe_failed("still down", 18.0, is_refused=False)
    assert not health.is_given_up(609.0)
    assert health.is_given_up(610.0)  # since the first failure, not since the last
    assert health.on_success(2)
    assert health.outage is None


def test_waits_grow_by_a_batch_s_own_faults_or_by_the_share_of_calls_that_fail() -> None:
    health = Health(600, random.Random(1))
    for n in range(32):
        health.on_failure(n, "down", 10.0, limit=64)
    assert health.doublings(5, own_faults=0) == 5
    for n in range(16):
        health.on_success(n)
    assert health.doublings(5, own_faults=0) == 3
    assert health.doublings(2, own_faults=0) == 2
    assert health.doublings(5, own_faults=6) == 5
    for n in range(32):
        health.on_success(n)
    assert health.doublings(5, own_faults=0) == 0


def test_failures_of_an_earlier_run_are_no_part_of_an_outage() -> None:
    health = Health(600, random.Random(1))
    for n in range(5):
        health.on_failure(n, "down", 10.0 + n, limit=4)
    health.forget_failures()
    begun = [health.on_failure(n, "down", 5_000.0 + n, limit=4) for n in range(6)]
    assert begun == [False] * 5 + [True]
    assert not health.is_given_up(5_599.0)
    assert health.is_given_up(5_600.0)


def model(base_s: float, per_id_s: float) -> LatencyModel:
    found = LatencyModel()
    for n in range(40):
        ids = 50 * 2 ** (n % 4)
        found.note(ids=ids, rows=10 * ids, body_bytes=4_000 * ids, seconds=base_s + per_id_s * ids)
    return found


def test_the_model_tells_a_base_from_what_ids_cost() -> None:
    found = model(0.3, 0.01)
    assert found.base_s == pytest.approx(0.3, rel=0.2)
    assert found.per_id_s == pytest.approx(0.01, rel=0.1)
    assert found.rows_per_id == pytest.approx(10)


@settings(max_examples=200, deadline=None)
@given(
    cap=st.integers(1, 5_000),
    left=st.integers(1, 200_000),
    limit=st.integers(1, 64),
    calls=st.integers(1, 80),
)
def test_a_refused_size_is_not_asked_again_and_at_least_one_id_is(
    cap: int, left: int, limit: int, calls: int
) -> None:
    size, known, refusals = BatchSize(), model(0.3, 0.001), 0
    refused: set[int] = set()
    for _ in range(calls):
        next_size = size.next(
            left=left, limit=limit, model=known, is_rate_bound=False, is_brief=False
        )
        assert 1 <= next_size.ids <= left
        assert next_size.ids not in refused
        size.begin(next_size)
        if next_size.ids > cap:
            refused.add(next_size.ids)
            refusals += 1
            size.on_too_large(next_size)
        else:
            size.on_success(next_size)
    assert refusals <= 14


def test_a_limit_of_200_is_found_and_used() -> None:
    size, known = BatchSize(), model(0.3, 0.0005)
    for _ in range(30):
        next_size = size.next(
            left=100_000, limit=8, model=known, is_rate_bound=False, is_brief=False
        )
        size.begin(next_size)
        (size.on_success if next_size.ids <= 200 else size.on_too_large)(next_size)
    assert next_size.ids == 200


def proven_at(ids: int) -> BatchSize:
    size = BatchSize()
    size.begin(Size(ids, is_trial=True))
    size.on_success(Size(ids, is_trial=True))
    return size


def test_a_size_that_is_refused_again_and_again_while_smaller_ones_are_not_is_a_cap() -> None:
    size = proven_at(100)
    for _ in range(3):
        for _ in range(4):
            size.on_success(Size(100, is_trial=False))
        size.begin(Size(250, is_trial=True))
        size.on_refused(Size(250, is_trial=True))
    assert (size.proven, size.refused) == (100, 250)


def test_trials_that_hang_do_not_keep_sizes_from_growing() -> None:
    size = BatchSize()
    for ids in (50, 72, 74, 33):
        size.begin(Size(ids, is_trial=True))
    size.on_timeout(Size(50, is_trial=True))  # and the others hang until a gateway gives up
    size.begin(Size(1, is_trial=True))
    size.on_success(Size(1, is_trial=True))
    grown = size.next(
        left=3_000, limit=9, model=model(0.4, 0.03), is_rate_bound=False, is_brief=False
    )
    assert grown.is_trial
    assert 2 <= grown.ids < 16
    size.begin(grown)
    again = size.next(
        left=3_000, limit=9, model=model(0.4, 0.03), is_rate_bound=False, is_brief=False
    )
    assert (again.ids, again.is_trial) == (1, False)


def test_refusals_of_every_size_are_no_cap() -> None:
    size = proven_at(100)
    for _ in range(20):
        size.on_success(Size(100, is_trial=False))
        size.on_refused(Size(100, is_trial=False))
        size.begin(Size(250, is_trial=True))
        size.on_refused(Size(250, is_trial=True))
    assert size.refused is None


def test_time_outs_of_calls_larger_than_what_is_used_by_now_lower_it_no_further() -> None:
    size = proven_at(100)
    for _ in range(9):
        size.on_timeout(Size(100, is_trial=False))
    lowered = size.proven
    assert 50 <= lowered < 100
    for _ in range(30):
        size.on_timeout(Size(100, is_trial=False))
    assert size.proven == lowered


def test_a_pinned_size_that_is_refused_is_followed_by_what_is_taken() -> None:
    size, asked, refused = BatchSize(100), list[int](), 0
    for _ in range(60):
        model = LatencyModel()
        each = size.next(left=10_000, limit=4, model=model, is_rate_bound=False, is_brief=False)
        size.begin(each)
        asked.append(each.ids)
        if each.ids > 80:
            refused += 1
            size.on_too_large(each)
        else:
            size.on_success(each)
    assert max(asked) == 100
    assert refused <= 3
    assert asked[-1] >= 60


def test_the_first_calls_are_of_many_sizes_the_largest_first() -> None:
    size, sizes = BatchSize(), []
    for _ in range(4):
        sizes.append(
            size.next(
                left=100_000, limit=4, model=LatencyModel(), is_rate_bound=False, is_brief=True
            )
        )
        size.begin(sizes[-1])
    assert [each.ids for each in sizes] == [781, 312, 125, 50]


@pytest.mark.parametrize(
    ("size", "rounded"), [(7, 7), (99, 80), (282, 250), (1_000, 1_000), (4_999, 4_000)]
)
def test_sizes_are_round(size: int, rounded: int) -> None:
    assert round_down(size) == rounded


def test_a_timeline_keeps_a_bounded_number_of_samples_and_all_sums() -> None:
    timeline = Timeline(0.0, 1_767_225_600.0)
    for n in range(10_000):
        now = n * 0.3
        timeline.observe(now, in_flight=n % 9, limit=9, batch_size=100, rate=None, phase="steady")
        timeline.on_end(now, seconds=1.0, rows=7)
    record = timeline.to_json()
    samples = record["samples"]
    assert isinstance(samples, list)
    assert len(samples) <= SAMPLES_KEPT
    assert sum(sample[7] for sample in samples) == 70_000
    assert sum(sample[5] for sample in samples) == 10_000


def asking(learners: int, courses: int | None) -> Rectangle:
    some = None if courses is None else [f"c{n}" for n in range(courses)]
    return make_rectangle([f"l{n}" for n in range(learners)], some)


def test_a_request_is_covered_by_one_that_named_no_fewer_ids_of_either_side() -> None:
    taken = TakenRequests()
    assert not taken.cover(asking(1, 1))
    taken.note(asking(10, 3))
    taken.note(asking(2, 20))
    taken.note(asking(5, 2))
    assert taken.cover(asking(10, 3))
    assert taken.cover(asking(2, 20))
    assert taken.cover(asking(10, None))
    assert not taken.cover(asking(3, 4))
    assert not taken.cover(asking(11, None))
    taken.note(asking(10, 20))
    assert taken.cover(asking(3, 4))


def test_what_names_no_fewer_than_a_request_that_was_refused_is_refused_until_one_is_taken() -> (
    None
):
    taken = TakenRequests()
    assert not taken.exclude(asking(40, 40))
    taken.note_refused(asking(40, 10))
    taken.note_refused(asking(20, 20))
    taken.note_refused(asking(50, 10))
    assert taken.exclude(asking(40, 10))
    assert taken.exclude(asking(41, 300))
    assert taken.exclude(asking(20, 300))
    assert not taken.exclude(asking(39, 19))
    assert not taken.exclude(asking(500, None))
    taken.note_refused(asking(1, None))  # may be for all of its rows
    assert taken.exclude(asking(2, None))
    assert not taken.exclude(asking(39, 19))
    taken.note_refused(asking(30, 5))
    assert taken.exclude(asking(30, 5))
    taken.note(asking(60, 12))
    assert not taken.exclude(asking(60, 12))
    assert taken.exclude(asking(20, 20))
    taken.note_refused(asking(50, 10))  # for its rows, or for just these ids
    assert not taken.exclude(asking(50, 10))


def test_time_outs_of_what_is_small_lower_no_size() -> None:
    size = BatchSize()
    size.on_success(Size(800, is_trial=True))
    for _ in range(20):
        size.on_timeout(Size(200, is_trial=False))
    assert size.is_small(200)
    assert not size.is_small(201)
    assert size.proven == 800
    for _ in range(20):
        size.on_timeout(Size(600, is_trial=False))
    assert size.proven < 600


def block(learners: int, courses: int) -> Rectangle:
    return make_rectangle([f"l{i}" for i in range(learners)], [f"c{i}" for i in range(courses)])


def test_calls_with_far_fewer_courses_than_usual_say_nothing_of_the_size() -> None:
    pace = Pace(PaceSettings(), random.Random(1), Timeline(0.0, 0.0))
    along = Axis.LEARNERS

    def begin(rectangle: Rectangle) -> Size:
        return pace.size_of(rectangle, along)

    for now, learners in enumerate((50, 60)):
        ticket = pace.begin(along, begin(block(learners, 300)), 2.0 * now)
        pace.on_success(ticket, 2.0 * now + 1, rows=500, body_bytes=9_000, seconds=1.0)
    narrow = begin(block(3_000, 1))
    assert (narrow.ids, narrow.is_trial, narrow.is_narrow) == (10, False, True)
    ticket = pace.begin(along, narrow, 5.0)
    pace.on_success(ticket, 6.0, rows=100, body_bytes=2_000, seconds=0.3)
    assert pace.sizes[along].proven == 60
    assert not pace.sizes[along].is_small(60)
    pace.on_timeout(pace.begin(along, narrow, 7.0), 17.0, None)
    pace.on_given_up(pace.begin(along, narrow, 17.0), 27.0)
    pace.on_too_large(pace.begin(along, narrow, 27.0), 28.0, block(3_000, 1), is_request=False)
    assert (pace.sizes[along].proven, pace.sizes[along].refused, pace.limit) == (60, None, 5)
    # A request is too large for what it names, whatever is answered.
    pace.on_too_large(pace.begin(along, narrow, 28.0), 29.0, block(3_000, 1), is_request=True)
    assert pace.sizes[along].refused == 3_000
    assert pace.in_flight == 0


def test_a_rate_that_may_be_chance_is_tried_soon_and_gone_once_a_second_of_more_is_let_in() -> None:
    refusals = Refusals()
    refusals.on_admitted(1, 1, now=0.0)
    assert refusals.on_refused(1, 2, now=0.1)
    assert (refusals.most_in_second, refusals.sure_in_second) == (1, None)
    refusals.try_again(0.9, is_rate_in_use=True)
    assert refusals.most_in_second == 1
    refusals.try_again(1.2, is_rate_in_use=True)
    assert refusals.most_in_second == 2
    refusals.on_admitted(1, 2, now=1.3)
    assert refusals.most_in_second == 2
    refusals.on_admitted(1, 2, now=1.8)
    assert refusals.most_in_second is None


def refuse_above(most: int, refusals: Refusals) -> None:
    for n in range(60):
        in_second = 1 + n % (most + 4)
        if in_second <= most:
            refusals.on_admitted(1, in_second, now=0.0)
        else:
            refusals.on_refused(1, in_second, now=0.0)


def test_what_may_be_chance_leaves_the_limit_that_is_sure_as_it_was() -> None:
    refusals = Refusals()
    refuse_above(10, refusals)
    assert (refusals.most_in_second, refusals.sure_in_second) == (10, 10)
    resumed = Refusals()
    resumed.learn(None, refusals.sure_in_second, now=0.0)
    for _ in range(2):
        resumed.on_admitted(1, 3, now=0.0)
    assert resumed.on_refused(1, 4, now=0.0)
    assert (resumed.most_in_second, resumed.sure_in_second) == (3, 10)
    for _ in range(3):  # these are not explained by it
        resumed.on_refused(1, 3, now=0.5)
    assert (resumed.most_in_second, resumed.sure_in_second) == (10, 10)


def test_a_rate_that_is_too_low_rises_by_ever_more_and_soon() -> None:
    refusals, now, seen = Refusals(), 0.0, list[float]()
    refuse_above(10, refusals)
    while (rate := refusals.most_in_second or 0) < 40 and now < 200:
        seen.append(rate)
        now += 1 / rate
        refusals.on_admitted(1, int(rate), now)
        refusals.try_again(now, is_rate_in_use=True)
    steps = [after / before for before, after in pairwise(dict.fromkeys(seen))]
    assert steps == sorted(steps)
    assert now < 60
