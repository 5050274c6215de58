import asyncio
from collections import Counter
from typing import Any

import aiohttp
import aiohttp.web
import async_solipsism
import pytest

from bulkfetch.simulator import Account, Simulator, load_profile, parse_profile
from bulkfetch.simulator.profile import Profile


def run(profile: Profile, request_for: Any, calls: int) -> tuple[Counter[object], float, Simulator]:
    """Make calls, ten at a time, and return their outcomes and the virtual time they took."""

    async def main() -> tuple[Counter[object], float, Simulator]:
        loop = asyncio.get_running_loop()
        simulator = Simulator(Account(60, 12, 900), profile, clock=loop.time)
        runner = aiohttp.web.AppRunner(simulator.app, access_log=None)
        await runner.setup()
        listening = async_solipsism.ListenSocket(("127.0.0.1", 80))
        await aiohttp.web.SockSite(runner, listening).start()
        outcomes: Counter[object] = Counter()
        ten = asyncio.Semaphore(10)
        async with aiohttp.ClientSession() as session:

            async def call() -> None:
                body = request_for(simulator.token)
                async with ten:
                    try:
                        async with session.post(
                            "http://127.0.0.1:80/api/v2/soap/2.0", data=body
                        ) as response:
                            await response.read()
                            outcomes[response.status] += 1
                    except aiohttp.ClientError as error:
                        outcomes[type(error)] += 1

            await asyncio.gather(*(call() for _ in range(calls)))
        took_s = loop.time()
        await runner.cleanup()
        return outcomes, took_s, simulator

    with asyncio.Runner(loop_factory=async_solipsism.EventLoop) as runner:
        return runner.run(main())


@pytest.fixture(autouse=True)
def _connect_in_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "aiohappyeyeballs.start_connection", async_solipsism.aiohappyeyeballs_start_connection
    )


def test_calls_in_line_take_their_turns_exactly(make_request: Any) -> None:
    profile = parse_profile({"latency": {"base_ms": 1000}, "capacity": {"slots": 3}})
    outcomes, took_s, simulator = run(profile, make_request, 30)
    assert outcomes == {200: 30}
    assert took_s == pytest.approx(10)
    assert simulator.ledger.max_in_flight == 10


def test_a_faulty_run_repeats_itself(make_request: Any) -> None:
    first, took_s, simulator = run(load_profile("flaky"), make_request, 100)
    again, took_again_s, _ = run(load_profile("flaky"), make_request, 100)
    assert (first, took_s) == (again, took_again_s)
    assert set(simulator.ledger.statistics().faults) >= {"http_503", "reset"}
