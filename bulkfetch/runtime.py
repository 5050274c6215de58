"""The one seam through which time, chance and threads come in.

Everything that waits, looks at a clock, draws a random number or leaves the event loop takes it
from here, so that the whole engine can run in virtual time from a seed, where threads do not work
at all.
"""

import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from random import Random
from typing import Protocol, TypeVar

import anyio
import anyio.to_thread

ResultT = TypeVar("ResultT")


class Offload(Protocol):
    """Runs a function away from the event loop and awaits its result."""

    def __call__(self, function: Callable[..., ResultT], /, *args: object) -> Awaitable[ResultT]:
        """Run `function(*args)`."""


async def offload_to_thread(function: Callable[..., ResultT], /, *args: object) -> ResultT:
    """Run a function in anyio's pool of worker threads."""
    return await anyio.to_thread.run_sync(function, *args)


async def run_inline(function: Callable[..., ResultT], /, *args: object) -> ResultT:
    """Run a function in the event loop itself: for virtual time, where threads cannot be used."""
    return function(*args)


@dataclass(frozen=True)
class Runtime:
    """Clock (seconds, monotonic), wall clock (seconds since 1970), sleep, random and off-load."""

    clock: Callable[[], float] = time.monotonic
    wall_clock: Callable[[], float] = time.time
    sleep: Callable[[float], Awaitable[None]] = anyio.sleep
    random: Random = field(default_factory=Random)
    offload: Offload = offload_to_thread
