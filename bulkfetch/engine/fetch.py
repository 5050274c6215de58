"""From what a caller asks for to a run: the one place where options become a pace and a plan.

The client and the export fetch through it, and so does whatever measures the pace: the same engine
with the same settings, whether calls go over HTTP or not.
"""

from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

from bulkfetch.engine.call import Caller
from bulkfetch.engine.caps import Caps
from bulkfetch.engine.guard import Guard
from bulkfetch.engine.outcome import Counters, Unfetched
from bulkfetch.engine.run import Batch, Run
from bulkfetch.options import Options
from bulkfetch.plan.rectangle import Rectangle
from bulkfetch.runtime import Runtime

RowsT = TypeVar("RowsT")


async def fetch_regions(
    regions: Sequence[Rectangle],
    caller: Caller[RowsT],
    hand_on: Callable[[Batch[RowsT]], Awaitable[None]],
    *,
    options: Options,
    runtime: Runtime,
    counters: Counters,
) -> Unfetched:
    """Fetch everything in these disjoint rectangles and hand finished batches on.

    Returns:
        What could not be fetched; empty means complete.

    Raises:
        FatalError: no call can succeed.
        BulkfetchError: `hand_on` raised it.
    """
    run = Run(
        Guard(caller, Caps(regions), counters),
        hand_on,
        workers=options.workers,
        policy=options.retry,
        runtime=runtime,
        counters=counters,
    )
    return await run.execute(regions, batch_size=options.batch_size)
