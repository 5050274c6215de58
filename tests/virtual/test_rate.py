"""A rate that is given spaces every call, whatever it is made for."""

from itertools import pairwise
from typing import Any

import pytest
from virtual_time import run_virtually

from bulkfetch import Client, FetchReport, Options
from bulkfetch.runtime import Runtime
from bulkfetch.simulator import Account, Simulator, parse_profile

ACCOUNT = Account(learners=200, courses=8, enrollments=150)  # most learners have none
RATE = 5.0


def fetch(options: Options, **profile: Any) -> tuple[FetchReport, list[float]]:
    """Fetch the account; return the report, and when each call for enrollments came."""

    async def main(runtime: Runtime) -> tuple[FetchReport, list[float]]:
        document = parse_profile({"latency": {"base_ms": 300}, **profile})
        async with (
            Simulator(ACCOUNT, document, seed=4, clock=runtime.clock) as simulator,
            Client(
                simulator.url,
                client_id=simulator.client_id,
                client_secret=simulator.client_secret,
                options=options,
                runtime=runtime,
            ) as client,
        ):
            fetch = client.enrollments(learner_ids=ACCOUNT.learner_ids)
            assert len([row async for row in fetch]) == len(ACCOUNT)
            calls = simulator.ledger.calls_of("GetEnrollments")
            return fetch.report, [call.started_s for call in calls]

    return run_virtually(main)


@pytest.mark.parametrize(
    ("profile", "shows"),
    [
        ({}, "confirmations"),
        ({"faults": {"http_503": 0.1}}, "retries"),
        ({"token": {"calls": 7}}, "confirmations"),
    ],
    ids=["confirmations", "retries", "tokens"],
)
def test_no_two_calls_are_closer_than_the_rate(profile: dict[str, Any], shows: str) -> None:
    options = Options(batch_size=2, workers=12, rate=RATE)
    report, starts = fetch(options, **profile)
    assert getattr(report, shows) > 0
    assert report.calls == len(starts)
    gaps = [later - earlier for earlier, later in pairwise(sorted(starts))]
    assert min(gaps) > 0.99 / RATE
    assert sum(gaps) < 1.3 * len(gaps) / RATE  # and it is made use of


def test_waiting_for_the_rate_is_no_slowness_of_the_service() -> None:
    """A call that is confirmed after a wait of ten seconds is not given up for it."""
    options = Options(workers=12, rate=0.1, shape="learners")
    report, _ = fetch(options)
    assert report.confirmations > 0
    assert report.retries == 0
