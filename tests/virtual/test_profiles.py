"""The engine against services with limits and bad days, in virtual time, counted at the service."""

from functools import lru_cache
from itertools import pairwise

import pytest
from pace.cases import PROFILES, Case, Size
from pace.measuring import direct_caller, fetch
from virtual_time import run_virtually

from bulkfetch import Options
from bulkfetch.engine.fetch import fetch_region, make_pace
from bulkfetch.engine.outcome import Counters
from bulkfetch.engine.pool import Places
from bulkfetch.inputs import make_region
from bulkfetch.pace import learned
from bulkfetch.plan.region import rest_of
from bulkfetch.runtime import Runtime
from bulkfetch.simulator import Account, Call, Simulator, load_profile, parse_profile

SIZE = Size(20_000, 300, 200_000)


@lru_cache
def calls_of(name: str, options: Options | None = None) -> tuple[Call, ...]:
    """Fetch everything from one of the services of the benchmark, and return its calls."""
    case = Case(name, load_profile(str(PROFILES / f"{name}.toml")), SIZE)
    _, simulator, handed_on = fetch(case, options or Options(), over_http=False)
    account = simulator.account
    sound = [account.learner_ids[i] not in simulator.poison_learners for i in account.learner_of]
    assert [bool(mark) for mark in handed_on] == sound
    return tuple(call for call in simulator.ledger.calls if call.operation != "token")


def refused(calls: tuple[Call, ...], status: int) -> list[Call]:
    return [call for call in calls if call.status == status]


@pytest.mark.parametrize(
    "name",
    ["steady", "fifo-of-four", "brown-out", "breathing", "heavy-tail", "thin-pipe", "poison"],
)
def test_everything_comes_whatever_the_service(name: str) -> None:
    assert calls_of(name)


def test_five_in_flight_is_found_with_few_refusals_and_every_wait_is_kept_to() -> None:
    calls = calls_of("five-in-flight")
    refusals = refused(calls, 429)
    assert 0 < len(refusals) <= 6
    for refusal in refusals:
        assert refusal.finished_s is not None
        opens_s = refusal.finished_s + 2
        early = [c for c in calls if refusal.finished_s + 1e-6 < c.started_s < opens_s - 1e-6]
        assert early == []


def test_the_gate_opens_on_an_outage_and_few_calls_run_into_it() -> None:
    profile = parse_profile(
        {
            "latency": {"base_ms": 250, "jitter_ms": 150, "per_row_us": 1000},
            "limits": {"max_in_flight": {"at": 30, "past": "429", "retry_after_s": 5}},
            "schedule": [{"from_s": 4, "to_s": 30, "outage": True}],
        }
    )
    _, simulator, handed_on = fetch(Case("", profile, SIZE, seed=2), Options(), over_http=False)
    assert all(handed_on)
    calls = [call for call in simulator.ledger.calls if call.operation != "token"]
    (refusal,) = (call for call in calls if call.status == 429)
    assert refusal.finished_s is not None
    opens_s = refusal.finished_s + 5
    assert 4 < opens_s < 30
    begun = [call.started_s - opens_s for call in calls if call.started_s > refusal.finished_s]
    assert begun[0] == pytest.approx(0, abs=0.01)
    # Each fails at once, and nobody takes its place.
    at_once = [each for each in begun if each < 1.25]
    assert all(sum(at_s <= each < at_s + 0.25 for each in at_once) <= 7 for at_s in at_once)
    assert len(at_once) <= 32


def test_ten_a_second_is_found_without_being_told() -> None:
    calls = calls_of("ten-a-second")
    assert 0 < len(refused(calls, 429)) <= 0.1 * len(calls)
    late = [call for call in calls if call.started_s > 10]
    assert len(refused(tuple(late), 429)) <= 2


def test_too_many_ids_are_not_tried_again() -> None:
    calls = calls_of("ids-over-200")
    too_many = [call for call in calls if len(call.learner_ids or ()) > 200]
    assert 0 < len(too_many) <= 10
    # Those that were in flight together do not count twice; none comes later.
    assert max(call.started_s for call in too_many) < 5
    assert max(len(call.learner_ids or ()) for call in calls if call.status == 200) > 150


@pytest.mark.parametrize("seed", [1, 2])
def test_too_many_ids_of_either_side_are_learned_from_few_refusals(seed: int) -> None:
    profile = parse_profile(
        {
            "latency": {"base_ms": 250, "jitter_ms": 150, "per_row_us": 1000},
            "limits": {
                "max_ids": {"at": 40, "past": "413"},
                "max_calls_per_s": {"at": 10, "past": "429"},
            },
        }
    )
    _, simulator, handed_on = fetch(
        Case("", profile, Size(10_000, 300, 100_000), seed), Options(), over_http=False
    )
    assert all(handed_on)
    # A batch that was cut before anything was known is halved down without asking for each part.
    assert len(refused(tuple(simulator.ledger.calls), 413)) <= 50


def test_a_way_that_was_tried_in_vain_leaves_no_strip_behind() -> None:
    """One course of all learners is too much: it is asked for with the others that are left."""
    profile = parse_profile(
        {
            "latency": {"base_ms": 300, "jitter_ms": 100, "per_row_us": 900},
            "capacity": {"slots": 6},
            "limits": {"max_rows": {"at": 900, "past": "504", "timeout_s": 20}},
        }
    )
    size = Size(100_000, 300, 1_000_000)
    makespan_s, simulator, handed_on = fetch(Case("", profile, size), Options(), over_http=False)
    assert all(handed_on)
    calls = [call for call in simulator.ledger.calls if call.operation != "token"]
    assert any(not call.learner_ids and not call.whole for call in calls)
    assert sum(0 < len(call.course_ids or ()) <= 30 for call in calls) <= 10
    # What came of many learners with one course says nothing of as many with all of them.
    assert sum(not call.whole for call in calls) <= 0.05 * len(calls)
    assert makespan_s < 300


def test_what_was_too_much_is_where_a_resumed_run_begins() -> None:
    account = Account(3_000, 10, 15_000)
    limits = {"max_ids": {"at": 40, "past": "413"}}
    profile = parse_profile({"latency": {"base_ms": 200}, "limits": limits})
    region = make_region(account.learner_ids, None)
    options = Options(shape="learners")

    async def run(runtime: Runtime, note: object) -> tuple[dict[str, object], list[int]]:
        simulator = Simulator(account, profile, clock=runtime.clock)
        counters = Counters()
        caller = direct_caller(simulator, region, options, runtime, counters)
        pace = make_pace(options, runtime)
        learned.recall(pace, note, runtime.clock())

        async def forget(_batch: object) -> None:
            pass

        unfetched = await fetch_region(
            region,
            rest_of(region, []),
            caller,
            forget,
            options=options,
            runtime=runtime,
            counters=counters,
            places=Places(pace),
        )
        assert not unfetched
        too_long = refused(tuple(simulator.ledger.calls), 413)
        return learned.describe(pace), [len(call.learner_ids or ()) for call in too_long]

    note, first = run_virtually(lambda runtime: run(runtime, None))
    _, second = run_virtually(lambda runtime: run(runtime, note))
    assert len(first) >= 3
    # What is asked for to find a silent cap may name a few more, but none that were refused.
    assert len(second) <= 2
    assert all(ids < min(first) for ids in second)


def test_too_many_rows_are_asked_for_a_few_times_and_given_up_before_the_gateway_does() -> None:
    calls = calls_of("rows-over-2000")
    slow = [call for call in calls if call.status != 200]
    assert len(slow) <= 8
    # 200,000 rows at 2,000 a call are 100 calls.
    assert len(calls) <= 3 * 100


def test_an_outage_is_probed_by_one_call_at_a_time_and_survived_at_any_moment() -> None:
    """Also where hardly anything was left to ask for, and calls begun before it end after it."""
    for from_s in (5.0, 15.0, 25.0, 30.0, 32.0):
        outage = {"from_s": from_s, "to_s": from_s + 300, "outage": True}
        document = {
            "latency": {"base_ms": 250, "jitter_ms": 150, "per_row_us": 1000},
            "capacity": {"slots": 8},
            "schedule": [outage],
        }
        _, simulator, handed_on = fetch(
            Case("outage", parse_profile(document), SIZE), Options(), over_http=False
        )
        assert all(handed_on), from_s
        probes = [
            call.started_s
            for call in simulator.ledger.calls
            if from_s + 60 <= call.started_s < from_s + 300
        ]
        assert len(probes) <= 240 / 10 + 1
        assert all(later - earlier >= 9.9 for earlier, later in pairwise(probes))


def test_a_line_that_only_grows_is_kept_short() -> None:
    calls = calls_of("fifo-of-four")
    ends_s = max(call.finished_s or 0.0 for call in calls)
    busy_s = sum((call.finished_s or ends_s) - call.started_s for call in calls)
    assert busy_s / ends_s < 4 * 3


def test_poisoned_ids_cost_a_small_share_of_the_calls() -> None:
    calls = calls_of("poison")
    bad = len(refused(calls, 500))
    assert bad <= 0.25 * len(calls)


def test_pinned_values_are_kept_to() -> None:
    calls = calls_of("steady", Options(batch_size=150, workers=6, shape="learners"))
    starts = [(call.started_s, 1) for call in calls]
    ends = [(call.finished_s or 0.0, -1) for call in calls]
    in_flight = most = 0
    for _, change in sorted(starts + ends):
        in_flight += change
        most = max(most, in_flight)
    assert most <= 6
    # What is asked for to find a silent cap may name more.
    assert sum(len(call.learner_ids or ()) > 150 for call in calls) <= 10


def test_a_gateway_that_gives_up_after_a_minute_is_not_waited_for() -> None:
    """Half of the batches of 500 ids have more rows than the service can answer in time."""
    profile = parse_profile(
        {
            "latency": {"base_ms": 150, "jitter_ms": 50, "per_row_us": 300},
            "capacity": {"slots": 48},
            "limits": {
                "max_ids": {"at": 500, "past": "413"},
                "max_rows": {"at": 5_000, "past": "504", "timeout_s": 60},
            },
        }
    )
    case = Case("a minute", profile, Size(60_000, 300, 600_000))
    makespan_s, simulator, handed_on = fetch(case, Options(), over_http=False)
    assert all(handed_on)
    assert makespan_s < 45
    assert len(simulator.ledger.calls) < 600


LATENCY = {"base_ms": 300, "jitter_ms": 100, "per_row_us": 300}
SIXTEEN = {"slots": 16}
IDS_AND_RATE = {"max_ids": {"at": 60, "past": "413"}, "max_calls_per_s": {"at": 10, "past": "429"}}


@pytest.mark.parametrize(
    ("document", "seed", "most_s", "most_calls"),
    [
        # Batches are made to fit a cap as soon as it is known: halved one by one, 31 s, 921 calls.
        pytest.param(
            {"capacity": SIXTEEN, "limits": {"max_rows": {"at": 1_000, "past": "silent-cap"}}},
            *(1, 25, 780),
            id="silent cap",
        ),
        # What the gateway will not answer holds up neither the checks nor the end: 35 s before.
        pytest.param(
            {
                "capacity": SIXTEEN,
                "limits": {"max_rows": {"at": 1_500, "past": "504", "timeout_s": 60}},
            },
            *(1, 25, 300),
            id="a minute's 504",
        ),
        # Answers that wait in a line are not given up: 1.28 times the rows.
        pytest.param({"capacity": {"slots": 2}}, *(1, 45, 70), id="two slots"),
        # One probe at a time is made, or the first is lost and its shape never tried: 177 s.
        pytest.param({"limits": IDS_AND_RATE}, *(3, 100, 900), id="short lists, ten a second"),
    ],
)
def test_limits_that_come_together_are_understood(
    document: dict[str, object], seed: int, most_s: float, most_calls: int
) -> None:
    profile = parse_profile({"latency": LATENCY, **document})
    case = Case("a service", profile, Size(20_000, 200, 200_000), seed)
    makespan_s, simulator, handed_on = fetch(case, Options(), over_http=False)
    assert all(handed_on)
    assert makespan_s < most_s
    assert len(simulator.ledger.calls) < most_calls


@pytest.mark.parametrize(
    ("limits", "options", "most_s"),
    [
        # The learners are not too many: it is the courses. Nothing came within 20 minutes.
        ({"max_ids": {"at": 300, "past": "504", "timeout_s": 40}}, Options(), 150),
        ({"max_rows": {"at": 700, "past": "504", "timeout_s": 45}}, Options(batch_size=50), 450),
    ],
    ids=["ids", "rows of a pinned batch"],
)
def test_a_gateway_that_gives_up_on_all_that_is_asked_for_first_is_asked_for_less(
    limits: dict[str, object], options: Options, most_s: float
) -> None:
    profile = parse_profile({"latency": {"base_ms": 300, "per_row_us": 500}, "limits": limits})
    case = Case("too much", profile, Size(3_000, 2_000, 150_000))
    makespan_s, simulator, handed_on = fetch(case, options, over_http=False)
    assert all(handed_on)
    assert makespan_s < most_s
    assert len(simulator.ledger.calls) < 1_000


def test_a_probe_that_the_gateway_gives_up_is_made_once() -> None:
    case = Case("a probe", load_profile(str(PROFILES / "rows-over-2000.toml")), Size())
    makespan_s, _, handed_on = fetch(case, Options(), over_http=False)
    assert all(handed_on)
    assert makespan_s < 60  # 75 where it was made again


REFUSES_LONG_LISTS = [
    pytest.param(past, most, courses, id=f"{past} past {most} ids, {courses} courses")
    for past, most, courses in [("503", 5, 3), ("429", 5, 3), ("503", 20, 30), ("429", 20, 30)]
]


@pytest.mark.parametrize(("past", "most", "courses"), REFUSES_LONG_LISTS)
def test_a_service_that_refuses_all_but_short_lists_from_the_start_is_no_outage(
    past: str, most: int, courses: int
) -> None:
    profile = parse_profile(
        {"latency": {"base_ms": 250}, "limits": {"max_ids": {"at": most, "past": past}}}
    )
    case = Case("short lists", profile, Size(1_500, courses, 6_000))
    makespan_s, simulator, handed_on = fetch(case, Options(), over_http=False)
    assert all(handed_on)
    assert makespan_s < 300
    calls = simulator.ledger.calls
    assert max(len(call.learner_ids or ()) for call in calls if call.status == 200) > most / 2
    assert len(refused(tuple(calls), int(past))) <= 60


def test_an_outage_of_refusals_from_the_start_is_survived_and_sizes_are_what_they_would_be() -> (
    None
):
    out = {"from_s": 0, "to_s": 300, "error_rate": 1.0}
    profile = parse_profile({"latency": {"base_ms": 250}, "schedule": [out]})
    case = Case("out", profile, SIZE)
    makespan_s, simulator, handed_on = fetch(case, Options(), over_http=False)
    assert all(handed_on)
    assert makespan_s < 300 + 20 + 15
    calls = simulator.ledger.calls
    assert max(len(call.learner_ids or ()) for call in calls if call.status == 200) > 400
    assert len(calls) < 300


def test_nothing_but_refusals_is_given_up_when_an_outage_may_last_no_longer() -> None:
    out = {"from_s": 0, "to_s": 9e9, "error_rate": 1.0}
    case = Case("out", parse_profile({"schedule": [out]}), SIZE)
    makespan_s, simulator, handed_on = fetch(case, Options(max_outage_s=240), over_http=False)
    assert not any(handed_on)
    assert 239 < makespan_s < 245
    assert len(simulator.ledger.calls) < 40


@pytest.mark.parametrize(
    ("document", "options"),
    [
        (
            {"limits": {"max_calls_per_min": {"at": 50, "past": "429"}}},
            Options(batch_size=100, max_outage_s=5),
        ),
        (
            {"faults": {"http_429": 1.0, "only_first_n": 20, "retry_after": "60"}},
            Options(max_outage_s=20),
        ),
        (
            {"faults": {"http_429": 1.0, "only_first_n": 200}},
            Options(max_outage_s=1),
        ),
    ],
    ids=["a quota a minute", "a long Retry-After", "refusals alone"],
)
def test_a_service_that_refuses_calls_is_not_out_however_short_an_outage_may_be(
    document: dict[str, dict[str, object]], options: Options
) -> None:
    profile = parse_profile({"latency": {"base_ms": 300}, **document})
    makespan_s, simulator, handed_on = fetch(Case("no", profile, SIZE), options, over_http=False)
    assert all(handed_on)
    assert refused(tuple(simulator.ledger.calls), 429)
    assert makespan_s > 60


@pytest.mark.parametrize("more", [{}, {"retry_after": "600"}], ids=["silent", "retry-after"])
def test_a_service_that_refuses_all_calls_for_ever_is_given_up_in_the_end(
    more: dict[str, str],
) -> None:
    profile = parse_profile({"faults": {"http_429": 1.0, **more}})
    case = Case("never", profile, SIZE)
    makespan_s, simulator, handed_on = fetch(case, Options(max_outage_s=60), over_http=False)
    assert not any(handed_on)
    assert 5_900 < makespan_s < 6_700  # more than an hour, for a quota of one
    assert len(simulator.ledger.calls) < 600


def test_an_outage_after_refusals_lasts_as_long_as_any() -> None:
    schedule = [{"from_s": 100, "to_s": 9e9, "outage": True}]
    profile = parse_profile({"faults": {"http_429": 1.0}, "schedule": schedule})
    case = Case("both", profile, SIZE)
    makespan_s, _, handed_on = fetch(case, Options(max_outage_s=240), over_http=False)
    assert not any(handed_on)
    assert 300 < makespan_s < 400


def test_a_brown_out_does_not_have_batches_wait_for_long_because_of_their_own_bad_luck() -> None:
    profile = parse_profile(
        {
            "latency": {"base_ms": 250},
            "schedule": [{"from_s": 0, "to_s": 9e9, "error_rate": 0.5}],
        }
    )
    options = Options(batch_size=10, workers=4, shape="learners")
    idle_s, seeds = 0.0, range(3, 19)
    for seed in seeds:
        case = Case("brown-out", profile, Size(4_000, 3, 4_000), seed)
        _, simulator, handed_on = fetch(case, options, over_http=False)
        assert all(handed_on)
        busy_until_s = 0.0
        for call in sorted(simulator.ledger.calls, key=lambda call: call.started_s):
            idle_s += max(0.0, call.started_s - busy_until_s)
            busy_until_s = max(busy_until_s, call.finished_s or 0.0)
    assert idle_s / len(seeds) < 45  # 64, where each failure in a row doubled the wait


@pytest.mark.parametrize("sound", [range(50, 600, 100), range(0)], ids=["few are sound", "none is"])
def test_sound_ids_are_looked_for_all_over_the_list_before_everything_counts_as_rejected(
    sound: range,
) -> None:
    size = Size(600, 30, 1_800)
    learners = sorted(Account(size.learners, size.courses, size.enrollments, 1).learner_ids)
    bad = [learner for at, learner in enumerate(learners) if at not in sound]
    profile = parse_profile({"permanent": {"poison_learners": bad}})
    case = Case("bad", profile, size)
    _, simulator, handed_on = fetch(case, Options(), over_http=False)
    account = case.account()
    wanted = {i for i, at in enumerate(account.learner_of) if account.learner_ids[at] not in bad}
    assert {i for i, is_there in enumerate(handed_on) if is_there} == wanted
    assert len(simulator.ledger.calls) < (3_500 if sound else 500)


@pytest.mark.parametrize("waits", [{}, {"retry_after_s": 30}], ids=["silent", "retry-after"])
def test_a_quota_of_calls_a_minute_is_found_in_its_first_minute(waits: dict[str, float]) -> None:
    profile = parse_profile(
        {
            "latency": {"base_ms": 300, "jitter_ms": 100, "per_row_us": 500},
            "limits": {"max_calls_per_min": {"at": 50, "past": "429", **waits}},
        }
    )
    case = Case("minute", profile, SIZE)
    makespan_s, simulator, handed_on = fetch(case, Options(batch_size=100), over_http=False)
    calls = simulator.ledger.calls_of("GetEnrollments")
    assert all(handed_on)
    assert len(calls) > 200
    assert not refused(tuple(call for call in calls if call.started_s > 70), 429)
    assert makespan_s < 60 * len(calls) / 50


def test_refusals_by_chance_are_no_limit() -> None:
    """A fifth of the calls; taken for one, they leave four in flight, and it takes 37 s."""
    document = {"latency": LATENCY, "capacity": SIXTEEN, "faults": {"http_503": 0.2}}
    profile, spans_s = parse_profile(document), list[float]()
    for seed in range(1, 9):
        case = Case("a fifth are 503", profile, Size(20_000, 200, 200_000), seed)
        makespan_s, simulator, handed_on = fetch(case, Options(), over_http=False)
        assert all(handed_on)
        assert len(simulator.ledger.calls) < 250
        spans_s.append(makespan_s)
    assert sum(spans_s) / len(spans_s) < 18


@pytest.mark.parametrize("seed", [1, 2])
def test_too_many_calls_a_second_may_be_answered_with_a_time_out(seed: int) -> None:
    """Batches that are far smaller than what was answered are not halved for it, down to one id."""
    profile = parse_profile(
        {
            "latency": {"base_ms": 400, "jitter_ms": 200, "per_row_us": 400},
            "capacity": {"slots": 32},
            "limits": {"max_calls_per_s": {"at": 3, "past": "504", "timeout_s": 30}},
        }
    )
    case = Case("a second's 504", profile, Size(50_000, 300, 500_000), seed)
    makespan_s, simulator, handed_on = fetch(case, Options(), over_http=False, limit_s=1_000)
    assert all(handed_on)
    assert makespan_s < 150
    assert len(simulator.ledger.calls) < 500
