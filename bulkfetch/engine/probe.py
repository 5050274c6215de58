"""Ask an account a few small questions, to plan by what it answers."""

from typing import TypeVar

from bulkfetch.engine.call import Caller
from bulkfetch.errors import ContentError, TimedOutError, TooLargeError
from bulkfetch.plan.planner import Planner

RowsT = TypeVar("RowsT")


async def probe(caller: Caller[RowsT], planner: Planner) -> list[str]:
    """Make the planner's probing calls, one after the other, and let it learn from them.

    Returns:
        What went wrong, in sentences; a call that is too large or rejected for an id is a finding,
        too.

    Raises:
        CallError: the service cannot be asked.
    """
    findings = []
    for rectangle in planner.probes():
        try:
            fetched = await caller.fetch(rectangle)
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
