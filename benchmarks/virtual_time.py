"""Run the whole of bulkfetch in virtual time: the real client, the real server, no waiting.

`async-solipsism` gives a loop whose sockets are in memory and whose clock jumps to the next timer
when nothing is left to do. Here it also takes connections the way aiohttp makes them, so nothing
has to be patched, and it knows a hang when it sees one: nothing to do and no timer, a clock that
has run past the limit, or endless work in no time. All chance comes from one seed, so that two runs
with a seed are the same to the last microsecond.

The loop's package is licensed under the GPL, which is why this stands beside bulkfetch and not
in it.
"""

import asyncio
import selectors
import socket
from collections import Counter
from collections.abc import Callable, Coroutine, Iterator
from random import Random
from typing import Any, TypeVar
from unittest import mock

import anyio
import async_solipsism
from async_solipsism.selector import Selector

from bulkfetch.runtime import Runtime, run_inline

ResultT = TypeVar("ResultT")

DAY_S = 86_400.0
EPOCH_S = 1_767_225_600.0  # 2026-01-01, where the wall clock of every run begins
_STEPS_IN_NO_TIME = 300_000


class HangError(AssertionError):
    """The run can not end, or not in the time it was given; says where its tasks wait."""


def run_virtually(
    main: Callable[[Runtime], Coroutine[Any, Any, ResultT]],
    *,
    seed: int = 1,
    limit_s: float = 7 * DAY_S,
) -> ResultT:
    """Run a coroutine in virtual time and return its result.

    Args:
        main: Given the runtime to hand to a `Client`, an `ExportJob` or (its clock) a `Simulator`,
            which listens in memory and runs in the same loop.
        seed: Of the runtime's random.
        limit_s: Virtual seconds after which a run counts as hanging.

    Raises:
        HangError: It hangs.
    """
    loop = _VirtualLoop(limit_s)
    runtime = Runtime(
        clock=loop.time,
        wall_clock=lambda: EPOCH_S + loop.time(),
        sleep=anyio.sleep,
        random=Random(f"engine {seed}"),
        offload=run_inline,
    )
    with (
        # Its pool of connections reads the clock of the machine, where all else asks the loop.
        mock.patch("aiohttp.connector.monotonic", loop.time),
        asyncio.Runner(loop_factory=lambda: loop) as runner,
    ):
        try:
            return runner.run(main(runtime))
        except async_solipsism.SleepForeverError:
            hang = HangError(f"Nothing is left to wait for.\n{_where_tasks_wait(loop)}")
        except _ClockError as error:
            hang = HangError(f"{error}\n{_where_tasks_wait(loop)}")
        loop.watch.is_on = False
    raise hang


class _ClockError(Exception):
    """Time passes without end, or does not pass."""


class _WatchedSelector(Selector):  # type: ignore[misc]
    """Advances the clock when nothing is ready, and watches that this leads somewhere."""

    def __init__(self, clock: Any, limit_s: float) -> None:
        super().__init__(clock)
        self.is_on = True
        self._limit_s = limit_s
        self._steps = 0
        self._seen_at = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout:
            # At least a tick: who sleeps for what is left of a time must get past it.
            timeout = max(timeout, self.clock.resolution)
        ready: list[tuple[selectors.SelectorKey, int]] = super().select(timeout)
        now = self.clock.time()
        self._steps = self._steps + 1 if now == self._seen_at else 0
        self._seen_at = now
        if self.is_on and now > self._limit_s:
            raise _ClockError(f"The run has not ended after {self._limit_s:,.0f} virtual seconds.")
        if self.is_on and self._steps > _STEPS_IN_NO_TIME:
            raise _ClockError(f"The run is endlessly busy at {now:.6f} s.")
        return ready


class _VirtualLoop(async_solipsism.EventLoop):  # type: ignore[misc]
    """A loop in which aiohttp's connections end in memory as well.

    aiohttp makes a socket, has the loop connect it, and then asks for a transport over it. The
    socket stays a name: what it stands for is the in-memory one that was connected in its place.
    """

    def __init__(self, limit_s: float) -> None:
        super().__init__()
        self.watch = _WatchedSelector(self._selector.clock, limit_s)
        self._selector: Any = self.watch
        self._connected: dict[socket.socket, async_solipsism.Socket] = {}

    async def sock_connect(self, sock: socket.socket, address: Any) -> None:
        """Connect a socket to a listener in this loop."""
        info = (sock.family, sock.type, sock.proto, "", address)
        self._connected[sock] = await self.aiohappyeyeballs_start_connection([info])

    async def create_connection(self, protocol_factory: Any, *args: Any, **settings: Any) -> Any:
        """Make a transport; over the socket in memory if one was connected."""
        name = settings.get("sock")
        if name in self._connected:
            settings["sock"] = self._connected.pop(name)
            name.close()
        return await super().create_connection(protocol_factory, *args, **settings)


def _where_tasks_wait(loop: asyncio.AbstractEventLoop) -> str:
    """Name the pending tasks and the lines they wait at."""
    places = Counter(" > ".join(_stack(task.get_coro())) for task in asyncio.all_tasks(loop))
    return "\n".join(f"  {count} × {place}" for place, count in sorted(places.items()))


def _stack(awaitable: Any) -> Iterator[str]:
    """Yield where a coroutine stands, and what it awaits, outermost first."""
    while awaitable is not None:
        frame = getattr(awaitable, "cr_frame", None) or getattr(awaitable, "ag_frame", None)
        if frame is not None:
            yield f"{frame.f_code.co_qualname}:{frame.f_lineno}"
        awaitable = getattr(awaitable, "cr_await", None) or getattr(awaitable, "ag_await", None)
