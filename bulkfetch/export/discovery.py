"""List the ids that an export takes from the account, each page into the journal before the next.

A listing that was killed goes on after its last page; one that is complete is not asked for again,
and what it found stands for the export from then on.
"""

from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

import anyio

from bulkfetch.engine.listing import ListedPage, Lister
from bulkfetch.engine.outcome import Counters
from bulkfetch.export.journal import Journal
from bulkfetch.export.report import effort_of
from bulkfetch.plan.rectangle import Axis, Rectangle


async def discover(
    journal: Journal,
    lister: Lister,
    counters: Counters,
    *,
    offload: Callable[..., Awaitable[Any]],
    on_page: Callable[[ListedPage], None],
) -> Rectangle:
    """List what the journal's region lacks, and return the whole region.

    Args:
        journal: where pages are kept; each in one transaction, shielded from cancellation.
        lister: asks for them.
        counters: of the run.
        offload: runs a function of the journal away from the event loop.
        on_page: told each page that is kept.

    Raises:
        ListingError: a listing cannot be had to its end, or is empty.
        FatalError: no call can succeed.
        SinkError: the journal cannot be written.
    """
    identity = await offload(lambda: journal.identity)
    region: Rectangle = identity.region
    for axis in Axis:
        if axis not in identity.discovered:
            continue

        async def keep(page: ListedPage) -> None:
            with anyio.CancelScope(shield=True):
                await offload(journal.commit_page, page, effort_of(counters))
            on_page(page)

        async def forget(axis: Axis = axis) -> None:
            await offload(journal.forget_pages, axis)

        pages = await offload(lambda axis=axis: list(journal.pages(axis)))
        region = region.replace(axis, await lister.list_ids(axis, pages, keep, forget))
    journal.settle(replace(identity, region=region))
    return region
