import pytest
from virtual_time import run_virtually

from bulkfetch import Client, IncompleteError, Options
from bulkfetch.runtime import Runtime
from bulkfetch.simulator import Account, Simulator, parse_profile


def test_a_token_that_was_spent_on_rejected_ids_is_renewed() -> None:
    account = Account(60, 5, 300)
    poisoned = account.learner_ids[10:20]
    profile = parse_profile(
        {
            "latency": {"base_ms": 100, "jitter_ms": 50},
            "permanent": {"poison_learners": list(poisoned)},
            "token": {"calls": 4, "failure": "http-401"},
        }
    )

    async def main(runtime: Runtime) -> set[str]:
        async with (
            Simulator(account, profile, clock=runtime.clock) as simulator,
            Client(
                simulator.url,
                client_id=simulator.client_id,
                client_secret=simulator.client_secret,
                options=Options(batch_size=20, workers=4),
                runtime=runtime,
            ) as client,
        ):
            fetch = client.enrollments(learner_ids=account.learner_ids)
            with pytest.raises(IncompleteError) as caught:
                async for _ in fetch:
                    pass
            assert not caught.value.failed
            return {unit for entry in caught.value.quarantined for unit in entry.learner_ids or ()}

    assert run_virtually(main) == set(poisoned)
