"""Second calls for slow ones: what they bring, that they are few, and when there are none."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pace.measuring import direct_caller
from virtual_time import run_virtually

from bulkfetch import Client, FetchReport, Options
from bulkfetch.engine.batch import Batch
from bulkfetch.engine.fetch import fetch_region, make_pace
from bulkfetch.engine.outcome import Counters
from bulkfetch.engine.pool import Places
from bulkfetch.inputs import make_region
from bulkfetch.pace.batch_size import Size
from bulkfetch.pace.controller import Pace, Ticket
from bulkfetch.plan.rectangle import Axis
from bulkfetch.plan.region import rest_of
from bulkfetch.runtime import Runtime
from bulkfetch.simulator import Account, Simulator, parse_profile

HEAVY_TAIL = {"base_ms": 250, "jitter_ms": 100, "tail_share": 0.03, "tail_factor": 20}
ACCOUNT = Account(8_000, 10, 16_000)


def over_http(
    options: Options, *, credentials: bool = False, **profile: Any
) -> tuple[FetchReport, Simulator, float]:
    """Fetch with the public client; each enrollment comes once."""

    async def main(runtime: Runtime) -> tuple[FetchReport, Simulator, float]:
        document = parse_profile({"latency": HEAVY_TAIL, **profile})
        async with Simulator(ACCOUNT, document, seed=3, clock=runtime.clock) as simulator:
            given: dict[str, Any] = {"token": simulator.token}
            if credentials:
                given = {
                    "client_id": simulator.client_id,
                    "client_secret": simulator.client_secret,
                }
            async with Client(simulator.url, **given, options=options, runtime=runtime) as client:
                fetch = client.enrollments(learner_ids=ACCOUNT.learner_ids)
                came = Counter([row.enrollment_id async for row in fetch])
                assert len(came) == len(ACCOUNT)
                assert set(came.values()) == {1}
                assert fetch.report.rows == len(ACCOUNT)
                return fetch.report, simulator, runtime.clock()

    return run_virtually(main)


def pinned(*, hedge: bool) -> Options:
    return Options(shape="learners", batch_size=20, workers=8, hedge=hedge)


def test_slow_calls_are_overtaken_by_few_more() -> None:
    plain, _, plain_s = over_http(pinned(hedge=False))
    hedged, simulator, hedged_s = over_http(pinned(hedge=True))
    assert plain.hedges == 0
    assert 0 < hedged.hedges <= 0.05 * (hedged.calls - hedged.hedges)
    assert hedged.calls == len(simulator.ledger.calls)
    assert hedged_s < 0.85 * plain_s
    # What is given up leaves its place, and no more than there are is ever taken.
    assert simulator.ledger.max_in_flight <= 8


def test_it_is_off_by_default() -> None:
    assert Options().hedge is False


def test_tokens_are_renewed_under_it() -> None:
    report, simulator, _ = over_http(
        pinned(hedge=True), credentials=True, token={"lifetime_s": 60, "calls": 40}
    )
    assert report.hedges > 0
    assert report.is_complete
    assert sum(call.operation == "token" for call in simulator.ledger.calls) > 5


class WatchedPace(Pace):
    """Tells when which limit was in force, and which calls began as second ones."""

    def __init__(self, pace: Pace, counters: Counters) -> None:
        super().__init__(pace.settings, pace.health._random, pace.timeline)
        self.counters = counters
        self.limits: list[tuple[float, int]] = [(0.0, self.limit)]
        self.second: list[bool] = []  # whether they should not have begun

    def begin(self, axis: Axis, size: Size, now: float) -> Ticket:
        if self.counters.hedges > len(self.second):
            is_waited_for = self.gate.is_shut(now) or self.health.outage is not None
            self.second.append(is_waited_for or self.was_falling(now))
            assert self.counters.hedges <= 0.05 * (self.counters.calls - self.counters.hedges + 1)
        return super().begin(axis, size, now)

    def _observe(self, now: float) -> None:
        super()._observe(now)
        if self.limit != self.limits[-1][1]:
            self.limits.append((now, self.limit))

    def was_falling(self, at: float) -> bool:
        before = self.limits
        return len(before) > 1 and before[-1][1] < before[-2][1] and at - before[-1][0] < 9.9


@settings(max_examples=12, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    seed=st.integers(0, 10_000),
    share=st.sampled_from([0.02, 0.1, 0.4]),
    in_flight=st.sampled_from([3, 6, 1_000]),
    slots=st.sampled_from([2, 5, 100]),
    refused=st.sampled_from([0.0, 0.05]),
    batch_size=st.sampled_from([None, 20]),
)
def test_there_are_none_while_the_limit_falls_or_anything_is_waited_for(
    seed: int, share: float, in_flight: int, slots: int, refused: float, batch_size: int | None
) -> None:
    options = Options(shape="learners", batch_size=batch_size, hedge=True)
    profile = parse_profile(
        {
            "latency": {**HEAVY_TAIL, "tail_share": share},
            "capacity": {"slots": slots},
            "limits": {"max_in_flight": {"at": in_flight, "past": "429", "retry_after_s": 2}},
            "faults": {"http_503": refused, "reset": refused},
            "schedule": [
                {"from_s": 8, "to_s": 14, "capacity_factor": 0.3},
                {"from_s": 16, "to_s": 22, "outage": True},
            ],
        }
    )
    handed_on: Counter[int] = Counter()

    async def main(runtime: Runtime) -> WatchedPace:
        simulator = Simulator(ACCOUNT, profile, seed=seed, clock=runtime.clock)
        counters = Counters()
        pace = WatchedPace(make_pace(options, runtime), counters)
        region = make_region(ACCOUNT.learner_ids, None)
        caller = direct_caller(simulator, region, options, runtime, counters)

        async def note(batch: Batch[Sequence[int]]) -> None:
            handed_on.update(index for rows in batch.fetched.rows for index in rows)

        unfetched = await fetch_region(
            region,
            rest_of(region, []),
            caller,
            note,
            options=options,
            runtime=runtime,
            counters=counters,
            places=Places(pace),
        )
        assert not unfetched
        assert counters.rows == len(ACCOUNT)
        assert pace.in_flight == counters.in_flight == 0
        return pace

    pace = run_virtually(main, seed=seed)
    assert len(handed_on) == len(ACCOUNT)
    assert set(handed_on.values()) == {1}
    assert len(pace.second) == pace.counters.hedges
    assert not any(pace.second)
