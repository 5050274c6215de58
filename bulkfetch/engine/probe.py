"""Ask an account a few small questions, to plan by what it answers."""

from collections.abc import Awaitable, Callable
from typing import TypeVar

from bulkfetch.engine.call import Caller
from bulkfetch.errors import ContentError, TimedOutError, TooLargeError
from bulkfetch.plan.planner import Planner

RowsT = TypeVar("RowsT")


async def probe(
    caller: Caller[RowsT], planner: Planner, wait: Callable[[], Awaitable[None]]
) -> list[str]:
    """Make the planner's probing calls, one after the other, and let it learn from them.

    Args:
        caller: makes them.
        planner: says which.
        wait: awaited before each call, until it may begin.

    Returns:
        What went wrong, in sentences; a call that is too large or rejected for an id is a finding,
        too.

    Raises:
        CallError: the service cannot be asked.
    """
    findings = []
    for rectangle in planner.probes():
        try:
            await wait()
            fetched = await caller.fetch(rectangle, wait_again=wait)
        except (TooLargeError, TimedOutError, ContentError) as error:
            if not isinstance(error, ContentError):
                planner.note_too_large(rectangle)
            findings.append(str(error))
            continue
        planner.learn(
            rectangle,
            received=fetched.received,
            kept=fetched.count,
            body_bytes=fetched.body_bytes,
            seconds=fetched.latency_s,
        )
    return findings
