"""Is everything rejected, or did the bad ids only come first?

A service that rejects whatever it is asked must not be asked for each id of a long list; but where
few ids of a list are sound, those asked for first may all be bad. So when some were quarantined and
nothing was answered, single pairs from all over the lists are asked for, while nothing else is: the
run goes on with the first that is answered, and ends if none is.
"""

from collections.abc import Awaitable, Callable, Sequence

import anyio

from bulkfetch.engine.causes import first_cause
from bulkfetch.plan.rectangle import Axis, Rectangle

DOUBTFUL_QUARANTINES = 3
_PAIRS = 300
_FEW = 25  # ids that are asked for to the last, whatever becomes of them


def may_be_hopeless(regions: Sequence[Rectangle]) -> bool:
    """Whether so much is asked for that it is worth finding out whether any of it is sound."""
    return sum(max(map(region.width, Axis)) for region in regions) > _FEW


async def find_answered(
    regions: Sequence[Rectangle],
    is_rejected: Callable[[Rectangle], Awaitable[bool | None]],
    *,
    at_a_time: int,
) -> Rectangle | None:
    """Ask for pairs from all over the regions; return one that is answered, None if none is.

    Raises:
        StoppedError: no call may begin any more.
        FatalError: no call can succeed.
    """
    pairs = iter(_spread(regions))
    found: list[Rectangle] = []

    async def look() -> None:
        for pair in pairs:
            if await is_rejected(pair) is False:
                found.append(pair)
            if found:
                return

    try:
        async with anyio.create_task_group() as group:
            for _ in range(at_a_time):
                group.start_soon(look)
    except BaseExceptionGroup as failures:
        raise first_cause(failures) from None
    return found[0] if found else None


def _spread(regions: Sequence[Rectangle]) -> list[Rectangle]:
    pairs: dict[Rectangle, None] = {}
    for part in range(_PAIRS):
        pair = regions[part * len(regions) // _PAIRS]
        for axis in Axis:
            ids = pair.named(axis)
            if ids:
                pair = pair.replace(axis, (ids[part * len(ids) // _PAIRS],))
        pairs[pair] = None
    return list(pairs)
