import asyncio
from collections import Counter
from random import Random
from typing import Any

import pytest

from bulkfetch.simulator import Faults, Window
from bulkfetch.simulator.capacity import CallRate, Line, Slots
from bulkfetch.simulator.faults import FaultChooser, choose_poison, open_windows


async def test_calls_past_the_slots_wait_in_line() -> None:
    slots = Slots(lambda: 2)
    order: list[int] = []
    gates = [asyncio.Event() for _ in range(4)]

    async def call(number: int) -> None:
        async with slots.slot():
            order.append(number)
            await gates[number].wait()

    tasks = [asyncio.create_task(call(number)) for number in range(4)]
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert order == [0, 1]
    gates[1].set()
    await tasks[1]
    await asyncio.sleep(0)
    assert order == [0, 1, 2]
    for gate in gates:
        gate.set()
    await asyncio.gather(*tasks)
    assert order == [0, 1, 2, 3]


async def test_a_waiting_call_that_goes_away_loses_no_slot() -> None:
    slots = Slots(lambda: 1)
    waiting: list[asyncio.Task[None]] = []

    async def hold() -> None:
        async with slots.slot():
            await asyncio.sleep(0)
            waiting[0].cancel()  # still in line
        waiting[1].cancel()  # has been given the slot and has not run since

    async def wait_in_line() -> None:
        async with slots.slot():
            pass

    holding = asyncio.create_task(hold())
    waiting += [asyncio.create_task(wait_in_line()) for _ in range(3)]
    async with asyncio.timeout(5):
        results = await asyncio.gather(holding, *waiting, return_exceptions=True)
    assert [type(result) for result in results[1:3]] == [asyncio.CancelledError] * 2
    assert (results[0], results[3]) == (None, None)


async def test_one_slot_stays_however_small_the_capacity() -> None:
    async with asyncio.timeout(5), Slots(lambda: 0.2).slot():
        pass


async def test_answers_share_the_line(fake_time: Any) -> None:
    line = Line(1000, fake_time.clock, fake_time.sleep)
    start_s = fake_time.now_s
    for _ in range(4):
        await line.carry(500)
    assert fake_time.now_s - start_s == pytest.approx(2)


def test_a_second_has_room_for_so_many_calls() -> None:
    rate = CallRate()
    assert [rate.admits(now_s, 2) for now_s in (0, 0.1, 0.2, 0.99, 1.0, 1.05, 1.2)] == [
        True,
        True,
        False,
        False,
        True,
        False,
        True,
    ]


def test_faults_strike_at_their_rates_and_the_same_for_a_seed() -> None:
    faults = Faults(rates={"reset": 0.2, "http_503": 0.3})
    drawn = [FaultChooser(faults, Random(5)).choose("key") for _ in range(2)]
    assert drawn[0] == drawn[1]
    chooser = FaultChooser(faults, Random(5))
    counts = Counter(chooser.choose("key") for _ in range(10_000))
    assert counts["reset"] == pytest.approx(2000, rel=0.1)
    assert counts["http_503"] == pytest.approx(3000, rel=0.1)


def test_faults_heal_after_the_first_calls_or_once_each() -> None:
    first = FaultChooser(Faults(rates={"reset": 1.0}, only_first_n=3), Random(1))
    assert [first.choose("key") for _ in range(5)] == ["reset"] * 3 + [None] * 2
    each = FaultChooser(Faults(rates={"reset": 1.0}, max_per_call_key=1), Random(1))
    assert [each.choose(key) for key in "abab"] == ["reset", "reset", None, None]


def test_windows_are_open_from_their_start_to_before_their_end() -> None:
    window = Window(10, 20)
    assert [bool(open_windows([window], at)) for at in (9.9, 10, 19.9, 20)] == [
        False,
        True,
        True,
        False,
    ]


def test_poison_is_listed_or_a_share_that_adding_ids_does_not_change() -> None:
    ids = [f"id-{number}" for number in range(5000)]
    poison = choose_poison(ids, 0.1, seed=1)
    assert len(poison) == pytest.approx(500, rel=0.3)
    assert choose_poison(ids[:100], 0.1, seed=1) == poison & set(ids[:100])
    assert choose_poison(ids, ("x", "y"), seed=1) == {"x", "y"}
    assert choose_poison(ids, 0.0, seed=1) == frozenset()
