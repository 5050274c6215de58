"""Turns among answers that wait to be checked: one at a time, the largest first.

What is found out about a large answer mostly settles the smaller ones.
"""

import contextlib
import heapq
import itertools
from collections.abc import AsyncIterator, Callable, Sequence
from typing import NamedTuple

import anyio

from bulkfetch.engine.caps import Volume


class _Waiter(NamedTuple):
    """An answer that waits; ordered by the first two, which are never the same."""

    fewer_than: int
    number: int
    volume: Volume
    come: anyio.Event


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
        self._waiting: list[_Waiter] = []

    @property
    def waiting(self) -> Sequence[Volume]:
        """How much the answers hold that wait."""
        return [waiter.volume for waiter in self._waiting]

    @contextlib.asynccontextmanager
    async def take(self, volume: Volume) -> AsyncIterator[None]:
        """Have the turn, for an answer of so much."""
        if self._is_taken:
            self._step_aside()
            await self._wait(volume)
        self._is_taken = True
        try:
            yield
        finally:
            self._pass_on()

    async def _wait(self, volume: Volume) -> None:
        waiter = _Waiter(-volume.rows, next(self._numbers), volume, anyio.Event())
        heapq.heappush(self._waiting, waiter)
        try:
            await waiter.come.wait()
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
            waiter = heapq.heappop(self._waiting)
            self._step_back()
            waiter.come.set()
