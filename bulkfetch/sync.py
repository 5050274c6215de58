"""The synchronous façade: the same fetch, driven from a thread of its own.

The event loop runs in anyio's blocking portal, so this works in a plain script, in a notebook and
in any thread of a program that runs a loop already. Rows cross over in lists, a batch at a time.
"""

import contextlib
from collections.abc import Awaitable, Callable, Generator, Iterable, Iterator
from typing import TYPE_CHECKING, TypeVar

import anyio.from_thread

from bulkfetch.client import Client, Fetch
from bulkfetch.engine.outcome import FetchReport
from bulkfetch.errors import UsageError
from bulkfetch.inputs import choose_region
from bulkfetch.options import Options
from bulkfetch.plan.region import Region
from bulkfetch.record import Enrollment, arrow_schema, import_pyarrow

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    import pyarrow as pa

ItemT = TypeVar("ItemT")
ResultT = TypeVar("ResultT")


def fetch_enrollments(
    base_url: str,
    token: str | None = None,
    *,
    learner_ids: Iterable[str] | None = None,
    course_ids: Iterable[str] | None = None,
    pairs: Iterable[tuple[str, str]] | None = None,
    client_id: str | None = None,
    client_secret: str | None = None,
    options: Options | None = None,
) -> "SyncFetch":
    """Prepare a fetch of all enrollments of these learners in these courses, synchronously.

    None is no filter; `pairs` of a learner and a course stand instead of the two lists. Nothing is
    sent before the result is iterated or turned into a table. For instance
    `fetch_enrollments(url, token, learner_ids=ids).to_arrow()`.

    Raises:
        UsageError: address, credentials, options or ids cannot be used.
    """
    client = Client(
        base_url, token=token, client_id=client_id, client_secret=client_secret, options=options
    )
    return SyncFetch(client, choose_region(learner_ids, course_ids, pairs))


class SyncFetch:
    """One fetch. Iterate it once: for records, or by `batches()` or `to_arrow()` for Arrow.

    Coming to the end without an exception means complete. Leaving a loop early ends the fetch.

    Raises (while iterated):
        IncompleteError: some ids could not be fetched; everything else was handed on.
        CredentialsError, EndpointError: no call can succeed.
    """

    def __init__(self, client: Client, region: Region) -> None:
        self._client = client
        self._fetch = client.fetch_region(region)
        self._is_used = False

    def __iter__(self) -> Iterator[Enrollment]:
        """Iterate over the records, each once."""
        return self._records()

    def batches(self) -> "Generator[pa.RecordBatch, None, None]":
        """Iterate over Arrow record batches as they come, each enrollment once.

        Raises:
            UsageError: pyarrow is not installed.
        """
        import_pyarrow()
        return self._drive(Fetch.batches)

    def to_arrow(self) -> "pa.Table":
        """Fetch everything into one Arrow table.

        Raises:
            UsageError: pyarrow is not installed.
        """
        pa = import_pyarrow()
        return pa.Table.from_batches(list(self.batches()), arrow_schema())

    def __arrow_c_stream__(self, requested_schema: object = None) -> object:
        """Fetch as an Arrow C stream: polars, DuckDB, pandas and pyarrow take this object as it is.

        Raises:
            UsageError: pyarrow is not installed.
        """
        pa = import_pyarrow()
        reader = pa.RecordBatchReader.from_batches(arrow_schema(), self.batches())
        return reader.__arrow_c_stream__(requested_schema)

    @property
    def report(self) -> FetchReport:
        """What the fetch has done so far, or in the end."""
        return self._fetch.report

    def _records(self) -> Generator[Enrollment, None, None]:
        with contextlib.closing(self._drive(Fetch.lists)) as lists:
            for rows in lists:
                yield from rows

    def _drive(
        self, iterate: "Callable[[Fetch], AsyncGenerator[ItemT, None]]"
    ) -> Generator[ItemT, None, None]:
        """Run the client in a portal's thread and pull items out of it, one step at a time."""
        if self._is_used:
            raise UsageError("A fetch can be iterated once: ask for another.")
        self._is_used = True
        with (
            anyio.from_thread.start_blocking_portal(name="bulkfetch") as portal,
            portal.wrap_async_context_manager(self._client),
        ):
            items = iterate(self._fetch)

            async def next_item() -> tuple[ItemT] | None:
                async for item in items:
                    return (item,)
                return None

            try:
                while (step := _call(portal, next_item)) is not None:
                    yield step[0]
            finally:
                _call(portal, items.aclose)


def _call(
    portal: anyio.from_thread.BlockingPortal, function: Callable[[], Awaitable[ResultT]]
) -> ResultT:
    """Await a coroutine in the portal; an interrupted wait cancels it there."""
    future = portal.start_task_soon(function)
    try:
        return future.result()
    except BaseException:
        future.cancel()
        raise
