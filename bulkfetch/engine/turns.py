"""Turns among answers that wait to be checked: one at a time, the largest first.

What is found out about a large answer mostly settles the smaller ones.
"""

import contextlib
import heapq
import itertools
from collections.abc import AsyncIterator, Callable

import anyio


class Turns:
    """Gives turns to one task at a time.

    Args:
        step_aside: called when a task has to wait for its turn.
        step_back: called when the turn of one that waited has come.
    """

    def __init__(self, step_aside: Callable[[], None], step_back: Callable[[], None]) -> None:
        self._step_aside = step_aside
        self._step_back = step_back
        self._is_taken = False
        self._numbers = itertools.count()
        self._waiting: list[tuple[int, int, anyio.Event]] = []

    @contextlib.asynccontextmanager
    async def take(self, rows: int) -> AsyncIterator[None]:
        """Have the turn, for an answer of so many rows."""
        if self._is_taken:
            self._step_aside()
            await self._wait(rows)
        self._is_taken = True
        try:
            yield
        finally:
            self._pass_on()

    async def _wait(self, rows: int) -> None:
        waiter = (-rows, next(self._numbers), anyio.Event())
        heapq.heappush(self._waiting, waiter)
        try:
            await waiter[2].wait()
        except BaseException:  # cancelled
            if waiter in self._waiting:
                self._waiting.remove(waiter)
                heapq.heapify(self._waiting)
            else:
                self._pass_on()
            raise

    def _pass_on(self) -> None:
        self._is_taken = bool(self._waiting)  # nobody is to slip in before the next one goes on
        if self._waiting:
            *_, event = heapq.heappop(self._waiting)
            self._step_back()
            event.set()
