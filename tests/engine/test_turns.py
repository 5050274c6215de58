import asyncio

import anyio
import anyio.lowlevel
import pytest

from bulkfetch.engine.caps import Volume
from bulkfetch.engine.turns import Turns


class Desk:
    """Tasks that take turns, with the order in which they got them."""

    def __init__(self) -> None:
        self.served: list[int] = []
        self.aside = 0
        self.turns = Turns(self._step_aside, self._step_back)

    def _step_aside(self) -> None:
        self.aside += 1

    def _step_back(self) -> None:
        self.aside -= 1

    async def be_served(self, rows: int) -> None:
        async with self.turns.take(Volume(rows, 10 * rows)):
            self.served.append(rows)
            await anyio.lowlevel.checkpoint()


async def test_the_largest_that_waits_is_next() -> None:
    desk = Desk()
    async with anyio.create_task_group() as group:
        for rows in (5, 10, 30, 20, 30):
            group.start_soon(desk.be_served, rows)
        await anyio.wait_all_tasks_blocked()
    assert desk.served == [5, 30, 30, 20, 10]
    assert desk.aside == 0


async def test_nobody_slips_in_between_one_and_the_next() -> None:
    desk = Desk()
    async with anyio.create_task_group() as group:
        async with desk.turns.take(Volume(1)):
            group.start_soon(desk.be_served, 2)
            await anyio.wait_all_tasks_blocked()
            assert desk.aside == 1
            assert desk.turns.waiting == [Volume(2, 20)]
        group.start_soon(desk.be_served, 99)
        await anyio.wait_all_tasks_blocked()
    assert desk.served == [2, 99]


@pytest.mark.parametrize("has_been_called", [False, True])
async def test_who_leaves_the_line_leaves_the_turn_to_the_others(*, has_been_called: bool) -> None:
    desk = Desk()
    async with anyio.create_task_group() as group:
        async with desk.turns.take(Volume(1)):
            leaving = asyncio.create_task(desk.be_served(50))
            group.start_soon(desk.be_served, 7)
            await anyio.wait_all_tasks_blocked()
            if not has_been_called:
                leaving.cancel()
                await anyio.wait_all_tasks_blocked()
        leaving.cancel()
    assert desk.served == [7]
    assert leaving.cancelled()
    await desk.be_served(3)
    assert desk.served == [7, 3]
