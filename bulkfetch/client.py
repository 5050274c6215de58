"""The asynchronous API: a client, and fetches that can be iterated, batched or taken as Arrow.

A fetch runs in a task of its own and hands batches over a bounded stream. So a slow consumer slows
the fetching; leaving the loop, an exception in it, or cancellation ends the task; and the client's
exit ends whatever is left. Nothing is yielded from inside a cancel scope, which is what makes
generators of other designs leak when they are not exhausted.
"""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterable
from collections.abc import Set as AbstractSet
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TypeVar

import aiohttp
import anyio
from anyio.streams.memory import MemoryObjectReceiveStream

from bulkfetch.dedupe import Deduplicator
from bulkfetch.engine.asking import Service
from bulkfetch.engine.batch import Batch
from bulkfetch.engine.call import Caller, HttpExchange
from bulkfetch.engine.caps import Caps
from bulkfetch.engine.fetch import fetch_region, make_pace
from bulkfetch.engine.outcome import Counters, FetchReport, SilentCaps, Unfetched, count_empty
from bulkfetch.engine.pool import Places
from bulkfetch.errors import IncompleteError, UsageError
from bulkfetch.http.address import check_base_url
from bulkfetch.inputs import choose_region
from bulkfetch.options import Options
from bulkfetch.plan.rectangle import Axis
from bulkfetch.plan.region import Region, rest_of
from bulkfetch.record import Enrollment, arrow_schema, import_pyarrow
from bulkfetch.runtime import Runtime
from bulkfetch.service import Credentials, open_service
from bulkfetch.wire.decode import Decoder
from bulkfetch.wire.keep import KeepingArrow, KeepingDecoder, KeepingObjects

if TYPE_CHECKING:
    import pyarrow as pa

RowsT = TypeVar("RowsT")

_BATCHES_AHEAD = 1
_ROWS_IN_A_GO = 512  # before others use the loop
_GOODBYE_S = 5.0
_ONCE = "A fetch can be iterated once: ask the client for another."


class Client:
    """A connection to one iSpring Learn account. Use it as an async context manager.

    Fetches at the same time share its calls in flight, its rate and its waits, and get them in
    turn; what one learns of the service is where the next begins.

    Args:
        base_url: such as `https://api-learn.ispring.com`; plain http on loopback only.
        token: a ready token, or
        client_id, client_secret: what tokens are got and renewed with.
        session: the caller's aiohttp session; it is used and never closed.
        options: batch size, workers, limits, retries.
        runtime: clock, sleep, random and off-load, for tests in virtual time.

    Raises:
        UsageError: address, credentials or options cannot be used; nothing has been sent.
    """

    def __init__(
        self,
        base_url: str,
        *,
        token: str | None = None,
        client_id: str | None = None,
        client_secret: str | None = None,
        session: aiohttp.ClientSession | None = None,
        options: Options | None = None,
        runtime: Runtime | None = None,
    ) -> None:
        self.base_url = base_url
        self._credentials = Credentials(token, client_id, client_secret)
        self._session = session
        self._options = options or Options()
        self._runtime = runtime or Runtime()
        self._stack = contextlib.AsyncExitStack()
        self._service: Service | None = None
        self._places: Places | None = None
        self._tasks: set[asyncio.Task[Unfetched]] = set()
        check_base_url(base_url)

    async def __aenter__(self) -> Self:
        if self._service is not None:
            raise UsageError("The client is open already.")
        self._service = await self._stack.enter_async_context(
            open_service(
                self.base_url, self._credentials, self._options, self._runtime, self._session
            )
        )
        self._places = Places(make_pace(self._options, self._runtime))
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        try:
            for task in self._tasks:
                task.cancel()
            if self._tasks:
                await asyncio.wait(self._tasks)
        finally:
            self._service = None
            await self._stack.aclose()

    def __repr__(self) -> str:
        state = "closed" if self._service is None else f"{len(self._tasks)} fetches under way"
        return f"<bulkfetch.Client {self.base_url} [{state}]>"

    def enrollments(
        self,
        *,
        learner_ids: Iterable[str] | None = None,
        course_ids: Iterable[str] | None = None,
        pairs: Iterable[tuple[str, str]] | None = None,
    ) -> "Fetch":
        """Prepare a fetch of all enrollments of these learners in these courses.

        None is no filter; `pairs` of a learner and a course stand instead of the two lists. Order
        and duplicates do not matter. Nothing is sent before the fetch is iterated.

        Raises:
            UsageError: an id list is empty, or an id cannot be sent.
        """
        return self.fetch_region(choose_region(learner_ids, course_ids, pairs))

    def fetch_region(self, region: Region) -> "Fetch":
        """Prepare a fetch of a region that has been checked."""
        return Fetch(self, region, self._options, self._runtime)

    def clone(self) -> "Client":
        """Return a closed client with the same settings, for another event loop.

        Raises:
            UsageError: this client has the caller's session, which belongs to one loop.
        """
        if self._session is not None:
            raise UsageError(
                "This client uses your own session, which belongs to your event loop: "
                "use `await fetch.to_arrow()`."
            )
        return Client(
            self.base_url,
            token=self._credentials.token,
            client_id=self._credentials.client_id,
            client_secret=self._credentials.client_secret,
            options=self._options,
            runtime=self._runtime,
        )

    def start(
        self, fetch: Callable[[Service, Places], Any], name: str
    ) -> "asyncio.Task[Unfetched]":
        """Start a fetch's task. All fetches of a client share the places for calls.

        Raises:
            UsageError: the client is not open.
        """
        if self._service is None or self._places is None:
            raise UsageError("The client is not open: use it in `async with Client(…) as client`.")
        task: asyncio.Task[Unfetched] = asyncio.create_task(
            fetch(self._service, self._places), name=name
        )
        self._tasks.add(task)
        task.add_done_callback(self._forget)
        return task

    def _forget(self, task: "asyncio.Task[Unfetched]") -> None:
        self._tasks.discard(task)
        if not task.cancelled():
            task.exception()  # whoever iterates is told; nobody may be left to


class Fetch:
    """One fetch. Iterate it once: for records, or by `batches()` or `to_arrow()` for Arrow.

    Coming to the end without an exception means complete.

    Raises (while iterated):
        IncompleteError: some ids could not be fetched; everything else was handed on.
        CredentialsError, EndpointError: no call can succeed.
    """

    def __init__(self, client: Client, region: Region, options: Options, runtime: Runtime) -> None:
        self._client = client
        self._region = region
        self._options = options
        self._runtime = runtime
        self._counters = Counters()
        self._caps: Caps | None = None
        self._dedupe = Deduplicator()
        self._unfetched: Unfetched | None = None
        self._seen: dict[Axis, set[str]] = {Axis.LEARNERS: set(), Axis.COURSES: set()}
        self._started_at: float | None = None
        self._ended_at: float | None = None

    def __aiter__(self) -> AsyncIterator[Enrollment]:
        """Iterate over the records, each once."""
        return self._records()

    async def batches(self) -> "AsyncGenerator[pa.RecordBatch, None]":
        """Iterate over Arrow record batches as they come, each enrollment once.

        Raises:
            UsageError: pyarrow is not installed.
        """
        pa = import_pyarrow()
        async with contextlib.aclosing(self._admitted(KeepingArrow())) as documents:
            async for batches, gone in documents:
                start = 0
                for batch in batches:
                    end = start + batch.num_rows
                    if gone:
                        wanted = [position not in gone for position in range(start, end)]
                        batch = batch.filter(pa.array(wanted, pa.bool_()))  # noqa: PLW2901
                    start = end
                    if batch.num_rows:
                        yield batch

    async def to_arrow(self) -> "pa.Table":
        """Fetch everything into one Arrow table.

        Raises:
            UsageError: pyarrow is not installed.
        """
        pa = import_pyarrow()
        schema = arrow_schema()
        return pa.Table.from_batches([batch async for batch in self.batches()], schema)

    async def lists(self) -> AsyncGenerator[list[Enrollment], None]:
        """Iterate over the records in lists as they come, for fewer steps than one a record."""
        async with contextlib.aclosing(self._admitted(KeepingObjects())) as documents:
            async for rows, gone in documents:
                kept = rows
                if gone:
                    kept = [row for position, row in enumerate(rows) if position not in gone]
                if kept:
                    yield kept

    async def _admitted(
        self, decoder: KeepingDecoder[RowsT]
    ) -> AsyncGenerator[tuple[RowsT, AbstractSet[int]], None]:
        """Yield each document's rows, with the positions of those that came before."""
        dedupe = self._dedupe
        async with contextlib.aclosing(self._fetch(decoder)) as documents:
            async for kept in documents:
                gone: AbstractSet[int] = frozenset()
                rows = kept.take()
                ids = decoder.ids_of(rows)
                hits = dedupe.note(ids, kept.recall)
                if hits:
                    gone = frozenset(
                        await self._runtime.offload(dedupe.settle, ids, kept.recall, hits)
                    )
                yield rows, gone

    @property
    def report(self) -> FetchReport:
        """What the fetch has done so far, or in the end."""
        counters, unfetched = self._counters, self._unfetched or Unfetched((), ())
        ended_at = self._runtime.clock() if self._ended_at is None else self._ended_at
        not_empty = (*unfetched.quarantined, *unfetched.failed)
        is_over = self._unfetched is not None
        empty = dict.fromkeys(Axis, 0)
        if is_over:
            empty = count_empty(self._region, self._seen, not_empty)
        return FetchReport(
            calls=counters.calls,
            retries=counters.retries,
            splits=counters.splits,
            confirmations=counters.confirmations,
            cap_checks=counters.cap_checks,
            silent_caps=SilentCaps() if self._caps is None else self._caps.proven,
            rows=counters.rows,
            surplus=counters.surplus,
            hedges=counters.hedges,
            duplicates=self._dedupe.duplicates,
            conflicts=tuple(self._dedupe.conflicts),
            conflict_count=self._dedupe.conflict_count,
            anomalies=tuple(counters.anomalies),
            anomaly_count=counters.anomaly_count,
            confirmed_empty_learners=empty[Axis.LEARNERS],
            confirmed_empty_courses=empty[Axis.COURSES],
            quarantined=unfetched.quarantined,
            failed=unfetched.failed,
            wire_bytes=counters.wire_bytes,
            body_bytes=counters.body_bytes,
            most_in_flight=counters.most_in_flight,
            duration_s=0.0 if self._started_at is None else ended_at - self._started_at,
            is_complete=is_over and not not_empty,
        )

    def __arrow_c_stream__(self, requested_schema: object = None) -> object:
        """Fetch as an Arrow C stream, for polars, DuckDB, pandas and pyarrow.

        The protocol is synchronous: the caller's thread waits for the service, with an event loop
        and session of its own. In a coroutine prefer `await fetch.to_arrow()`.

        Raises:
            UsageError: the client has the caller's session, which another loop cannot use.
        """
        from bulkfetch.sync import SyncFetch  # noqa: PLC0415 - which is made of this module

        if self._started_at is not None:
            raise UsageError(_ONCE)
        elsewhere = SyncFetch(self._client.clone(), self._region)
        return elsewhere.__arrow_c_stream__(requested_schema)

    async def _records(self) -> AsyncGenerator[Enrollment, None]:
        async with contextlib.aclosing(self.lists()) as lists:
            async for rows in lists:
                for row in rows:
                    yield row

    async def _fetch(self, decoder: Decoder[RowsT]) -> AsyncGenerator[RowsT, None]:
        """Run the fetch in a task and yield each document's rows as they are handed on."""
        if self._started_at is not None:
            raise UsageError(_ONCE)
        self._started_at = self._runtime.clock()
        send, receive = anyio.create_memory_object_stream[Batch[RowsT]](_BATCHES_AHEAD)

        async def hand_on(batch: Batch[RowsT]) -> None:
            try:
                send.send_nowait(batch)
            except anyio.WouldBlock:
                await send.send(batch)

        async def run(service: Service, places: Places) -> Unfetched:
            async with send:
                everything = rest_of(self._region, [])
                self._caps = Caps(everything)
                exchange = HttpExchange(service, decoder, self._counters, self._region)
                return await fetch_region(
                    self._region,
                    everything,
                    Caller(exchange, service.desk, self._counters),
                    hand_on,
                    options=self._options,
                    runtime=self._runtime,
                    counters=self._counters,
                    places=places,
                    caps=self._caps,
                )

        try:
            task = self._client.start(run, "bulkfetch fetch")
        except BaseException:
            send.close()
            receive.close()
            raise
        try:
            in_a_go = 0
            while (batch := await _take(receive)) is not None:
                self._note(batch)
                for number, rows in enumerate(batch.fetched.rows):
                    if number or in_a_go > _ROWS_IN_A_GO:
                        await asyncio.sleep(0)
                        in_a_go = 0
                    yield rows
                in_a_go += batch.fetched.count
            self._unfetched = await task
        finally:
            receive.close()
            task.cancel()
            await asyncio.wait({task}, timeout=_GOODBYE_S)
            send.close()  # the task may have ended before it began
            self._ended_at = self._runtime.clock()
        if self._unfetched.quarantined or self._unfetched.failed:
            raise IncompleteError(self._unfetched.quarantined, self._unfetched.failed)

    def _note(self, batch: Batch[Any]) -> None:
        """Remember which of the ids asked for have rows."""
        if self._region.learners is not None:
            self._seen[Axis.LEARNERS] |= batch.fetched.learner_ids
        if self._region.courses is not None:
            self._seen[Axis.COURSES] |= batch.fetched.course_ids


async def _take(receive: MemoryObjectReceiveStream[Batch[RowsT]]) -> Batch[RowsT] | None:
    """Return the next batch, at once if it is there; None at the end."""
    with contextlib.suppress(anyio.EndOfStream):
        try:
            return receive.receive_nowait()
        except anyio.WouldBlock:
            return await receive.receive()
    return None
