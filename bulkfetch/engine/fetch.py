"""From what a caller asks for to a run: the one place where options become a pace and a plan.

The client and the export fetch through it, and so does whatever measures the pace: the same engine
with the same settings, whether calls go over HTTP or not.
"""

import math
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from typing import TypeVar

from bulkfetch.engine.accused import Accused
from bulkfetch.engine.batch import Batch
from bulkfetch.engine.call import Caller
from bulkfetch.engine.caps import Caps
from bulkfetch.engine.outcome import Counters, Unfetched
from bulkfetch.engine.pool import Places
from bulkfetch.engine.reactions import RunLimits
from bulkfetch.engine.run import Run, TakeBack
from bulkfetch.engine.shelf import Shelf
from bulkfetch.options import Options
from bulkfetch.pace.controller import MAX_WORKERS, Pace, PaceSettings
from bulkfetch.pace.timeline import Timeline
from bulkfetch.plan.cost import Bounds
from bulkfetch.plan.fixed import FixedPlan
from bulkfetch.plan.planner import Planner
from bulkfetch.plan.rectangle import Axis, Rectangle
from bulkfetch.plan.region import Region
from bulkfetch.plan.shapes import Shape
from bulkfetch.runtime import Runtime

RowsT = TypeVar("RowsT")

_WORKERS_EXPECTED = 10  # for the plan, while it is not known how many the service bears


def make_planner(
    region: Region, options: Options, complete: frozenset[Axis] = frozenset()
) -> Planner:
    """Make the planner of a region; the ids of `complete` axes are all that the account has.

    Raises:
        UsageError: the shape is not possible for the region.
    """
    limits = options.limits
    bounds = Bounds(
        workers=options.workers or _WORKERS_EXPECTED,
        batch_size=options.batch_size,
        answer_bytes=limits.answer_bytes,
        call_s=min(limits.read_s, limits.total_s),
        # Where batches grow by themselves, what another plan would save is less sure.
        worth_s=1.0 if options.batch_size is not None else 10.0,
        settled_after=0 if options.batch_size is not None else 64,
        per_second=options.rate or math.inf,
    )
    shape = None if options.shape is None else Shape(options.shape)
    return Planner(region, bounds, shape=shape, complete=complete)


async def fetch_region(
    region: Region,
    rectangles: Sequence[Rectangle],
    caller: Caller[RowsT],
    hand_on: Callable[[Batch[RowsT]], Awaitable[None]],
    *,
    options: Options,
    runtime: Runtime,
    counters: Counters,
    places: Places | None = None,
    complete: frozenset[Axis] = frozenset(),
    caps: Caps | None = None,
    take_back: TakeBack | None = None,
    shelf: Shelf[RowsT] | None = None,
    accused: Accused | None = None,
) -> Unfetched:
    """Fetch everything in these disjoint rectangles and hand finished batches on.

    Args:
        region: what is wanted in all.
        rectangles: what of it is not fetched yet.
        caller: fetches one rectangle.
        hand_on: awaited with each finished batch, in no particular order.
        options: shape, batch size, workers, retries.
        runtime: the seam.
        counters: where the numbers go.
        places: the account's, if others share them; else the run has some of its own.
        complete: the axes whose ids are all that the account has.
        caps: what earlier runs proved of the service's silent caps.
        take_back: see `Run`.
        shelf: likewise.
        accused: likewise.

    Returns:
        What could not be fetched; empty means complete.

    Raises:
        FatalError: no call can succeed.
        BulkfetchError: `hand_on` raised it.
        UsageError: the shape is not possible for the region.
    """
    deadline = None if options.deadline_s is None else runtime.clock() + options.deadline_s
    run = Run(
        caller,
        hand_on,
        caps=caps or Caps(rectangles),
        places=places or Places(make_pace(options, runtime)),
        policy=options.retry,
        limits=RunLimits(deadline, options.max_quarantined, options.hedge),
        runtime=runtime,
        counters=counters,
        planner=make_planner(region, options, complete),
        take_back=take_back,
        shelf=shelf,
        accused=accused,
        region=region,
    )
    return await run.execute(rectangles)


async def fetch_calls(
    calls: Sequence[Rectangle],
    caller: Caller[RowsT],
    hand_on: Callable[[Batch[RowsT]], Awaitable[None]],
    *,
    options: Options,
    runtime: Runtime,
    counters: Counters,
) -> Unfetched:
    """Make calls that are planned already, and hand their batches on; see `fetch_region`.

    Args:
        calls: each asked for as it is, unless it proves too large; they may overlap.
        caller: fetches one rectangle.
        hand_on: awaited with each finished batch, in no particular order.
        options: workers, retries.
        runtime: the seam.
        counters: where the numbers go.
    """
    deadline = None if options.deadline_s is None else runtime.clock() + options.deadline_s
    widest = max((each.width(axis) for each in calls for axis in Axis), default=1)
    run = Run(
        caller,
        hand_on,
        caps=Caps(calls),
        places=Places(make_pace(replace(options, batch_size=widest), runtime)),
        policy=options.retry,
        limits=RunLimits(deadline, options.max_quarantined),
        runtime=runtime,
        counters=counters,
        planner=FixedPlan(),
    )
    return await run.execute(calls)


def make_pace(options: Options, runtime: Runtime) -> Pace:
    """Make the pace of an account, as the options pin or bound it."""
    settings = PaceSettings(
        batch_size=options.batch_size,
        workers=options.workers,
        max_workers=options.max_workers or MAX_WORKERS,
        rate=options.rate,
        max_outage_s=options.max_outage_s,
    )
    return Pace(settings, runtime.random, Timeline(runtime.clock(), runtime.wall_clock()))
