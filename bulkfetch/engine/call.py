"""Fetch one rectangle: token, envelope, call, cut, flatten, verify.

Rows are returned only when the answer's document has closed. Each row must lie in what the call
named: one outside means an ignored filter or a mixed-up answer, and all of it is refused. Rows that
were over-fetched on purpose, because a side was left unsent, are dropped after that. An empty or a
fatal answer on a connection that has served before is asked for once more on a fresh one: a late
answer to an earlier request could have been taken for it.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from typing import Generic, Protocol, TypeVar

import anyio

from bulkfetch.engine.causes import first_cause
from bulkfetch.engine.outcome import Counters
from bulkfetch.errors import (
    Anomaly,
    CallError,
    ContentError,
    FatalError,
    ForeignRowsError,
    MalformedAnswerError,
    TokenRejectedError,
)
from bulkfetch.http.classify import classify_fault
from bulkfetch.http.tokens import Lease, TokenDesk
from bulkfetch.http.transport import Answer, Transport
from bulkfetch.plan.rectangle import Axis, Rectangle
from bulkfetch.plan.region import Region, Selection, Selector
from bulkfetch.redact import Redactor
from bulkfetch.runtime import Runtime
from bulkfetch.wire.cutter import SliceCutter
from bulkfetch.wire.decode import Decoded, Decoder, decode_document
from bulkfetch.wire.envelope import write_get_enrollments
from bulkfetch.wire.fault import Fault
from bulkfetch.wire.flatten import Flattener

RowsT = TypeVar("RowsT")

_INLINE_BYTES = 16 * 1024
_INLINE_ROWS = 2_000
_SLICES_AT_ONCE = 4
_HEADERS = {"Content-Type": "text/xml; charset=utf-8", "SOAPAction": '"GetEnrollments"'}


@dataclass(frozen=True, slots=True)
class Service:
    """Everything that calls share: where to, with what, and the seam."""

    url: str
    transport: Transport
    desk: TokenDesk
    redactor: Redactor
    runtime: Runtime
    flattener: Flattener = field(default_factory=Flattener)


def _no_ids(_rows: object) -> Iterable[str]:
    return ()


@dataclass(frozen=True, slots=True)
class Fetched(Generic[RowsT]):
    """The whole answer for one rectangle.

    Attributes:
        rectangle: what was wanted; every row lies in it.
        rows: the rows of each document that the answer was cut into, in order.
        count: how many rows there are.
        learner_ids: the learners that occur in the rows.
        course_ids: the courses that do.
        anomalies: values that could not be read; secrets are removed from their text.
        wire_bytes: bytes as received.
        body_bytes: bytes inflated.
        surplus: rows that were answered and dropped, because they are not wanted.
        read_ids: gives the enrollment ids of the rows of one document.
        latency_s: seconds from sending the request to the end of its answer.
    """

    rectangle: Rectangle
    rows: tuple[RowsT, ...]
    count: int
    learner_ids: frozenset[str]
    course_ids: frozenset[str]
    anomalies: tuple[Anomaly, ...]
    wire_bytes: int
    body_bytes: int
    surplus: int = 0
    read_ids: Callable[[RowsT], Iterable[str]] = _no_ids
    latency_s: float = 0.0

    @property
    def received(self) -> int:
        """How many rows were answered."""
        return self.count + self.surplus


@dataclass(frozen=True, slots=True)
class Reply(Generic[RowsT]):
    """How one request ended, and whether its connection had served before."""

    result: Fetched[RowsT] | CallError
    is_reused: bool


class Fetcher(Protocol[RowsT]):
    """Whatever fetches rectangles."""

    async def fetch(self, rectangle: Rectangle) -> Fetched[RowsT]:
        """Fetch all enrollments in a rectangle.

        Raises:
            CallError: the call failed; its class says what to do.
        """


class Exchange(Protocol[RowsT]):
    """One request and its answer, by whatever means: `HttpExchange`, or a simulated one."""

    async def ask(self, rectangle: Rectangle, lease: Lease, *, fresh: bool) -> Reply[RowsT]:
        """Ask once, if `fresh` on a connection that has served nothing else; raise no CallError."""


class Caller(Generic[RowsT]):
    """Fetches rectangles, one call for each unless a token runs out or an answer needs confirming.

    Raises out of `fetch`: CallError, classified.
    """

    def __init__(self, exchange: Exchange[RowsT], desk: TokenDesk, counters: Counters) -> None:
        self._exchange = exchange
        self._desk = desk
        self._counters = counters

    async def fetch(self, rectangle: Rectangle) -> Fetched[RowsT]:
        """Fetch all enrollments in a rectangle.

        Raises:
            CallError: the call failed; its class says what to do.
        """
        desk = self._desk
        while True:
            async with desk.lease() as lease:
                result = await self._ask_surely(rectangle, lease)
            if isinstance(result, Fetched):
                return result
            if not isinstance(result, TokenRejectedError):
                raise result
            await desk.replace(lease, result)

    async def _ask_surely(self, rectangle: Rectangle, lease: Lease) -> Fetched[RowsT] | CallError:
        reply = await self._exchange.ask(rectangle, lease, fresh=False)
        result = reply.result
        if reply.is_reused and (
            (isinstance(result, Fetched) and result.received == 0)
            or isinstance(result, FatalError)
            or (isinstance(result, ContentError) and rectangle.is_indivisible)
        ):
            self._counters.confirmations += 1
            result = (await self._exchange.ask(rectangle, lease, fresh=True)).result
        return result


class HttpExchange(Generic[RowsT]):
    """Asks over HTTP and reads the XML: cut, flattened, verified, what is not wanted dropped."""

    def __init__(
        self,
        service: Service,
        decoder: Decoder[RowsT],
        counters: Counters,
        region: Region | None = None,
    ) -> None:
        self._service = service
        self._decoder = decoder
        self._counters = counters
        self._selector = Selector(region)

    async def ask(self, rectangle: Rectangle, lease: Lease, *, fresh: bool) -> Reply[RowsT]:
        """Send one request and read its answer to the end."""
        service, counters = self._service, self._counters
        body = write_get_enrollments(lease.token, *map(rectangle.named, Axis))
        is_reused = False
        asked_at = service.runtime.clock()
        counters.calls += 1
        counters.in_flight += 1
        counters.most_in_flight = max(counters.most_in_flight, counters.in_flight)
        try:
            async with service.transport.post(service.url, body, _HEADERS, fresh=fresh) as answer:
                is_reused = answer.is_reused
                try:
                    await service.transport.require_ok(answer)
                    result = await self._read(answer, rectangle, lease)
                finally:
                    counters.wire_bytes += answer.wire_bytes
                    counters.body_bytes += answer.body_bytes
        except CallError as error:
            if isinstance(error, ContentError):
                await service.desk.serves(lease)  # who rejects an id has accepted the token
            return Reply(error.with_traceback(None), is_reused)
        finally:
            counters.in_flight -= 1
        latency_s = service.runtime.clock() - asked_at
        return Reply(replace(result, latency_s=latency_s), is_reused)

    async def _read(self, answer: Answer, rectangle: Rectangle, lease: Lease) -> Fetched[RowsT]:
        """Cut, flatten and verify an answer, slices in parallel, the last one last."""
        cutter = SliceCutter()
        selection = self._selector.select(rectangle)
        received = 0
        parts: list[Decoded[RowsT] | None] = []
        slots = anyio.Semaphore(_SLICES_AT_ONCE)

        async def decode_slice(index: int, document: bytes) -> None:
            nonlocal received
            try:
                found = await self._decode(document)
            finally:
                slots.release()
            if isinstance(found, Fault):
                raise MalformedAnswerError("The answer holds a Fault beside records.")
            self._verify(found, rectangle)
            received += found.count
            parts[index] = await self._keep(found, selection)

        try:
            async with anyio.create_task_group() as group:
                async for chunk in answer.chunks():
                    for document in cutter.feed(chunk):
                        if not parts:
                            await self._service.desk.serves(lease)
                        await slots.acquire()
                        parts.append(None)
                        group.start_soon(decode_slice, len(parts) - 1, document)
        except ExceptionGroup as failures:
            raise first_cause(failures) from None
        found = await self._decode(cutter.finish())
        if isinstance(found, Fault):
            error = classify_fault(found, answer.status, self._service.redactor)
            if not isinstance(error, TokenRejectedError):
                await self._service.desk.serves(lease)
            raise error
        await self._service.desk.serves(lease)
        self._verify(found, rectangle)
        whole = [part for part in parts if part is not None]
        whole.append(await self._keep(found, selection))
        received += found.count
        count = sum(part.count for part in whole)
        redactor = self._service.redactor
        return Fetched(
            rectangle=rectangle,
            rows=tuple(part.rows for part in whole),
            count=count,
            learner_ids=frozenset().union(*(part.learner_ids for part in whole)),
            course_ids=frozenset().union(*(part.course_ids for part in whole)),
            anomalies=tuple(
                Anomaly(anomaly.enrollment_id, anomaly.field, redactor(anomaly.raw))
                for part in whole
                for anomaly in part.anomalies
            ),
            wire_bytes=answer.wire_bytes,
            body_bytes=answer.body_bytes,
            surplus=received - count,
            read_ids=self._decoder.enrollment_ids,
        )

    def _verify(self, decoded: Decoded[RowsT], rectangle: Rectangle) -> None:
        """Check that every row lies in what the call named.

        Raises:
            ForeignRowsError: one does not.
        """
        for name, asked, got in (
            ("learner", rectangle.named(Axis.LEARNERS), decoded.learner_ids),
            ("course", rectangle.named(Axis.COURSES), decoded.course_ids),
        ):
            foreign = () if asked is None else got.difference(asked)
            if foreign:
                shown = self._service.redactor.show(min(foreign), 80)
                raise ForeignRowsError(
                    f"The answer holds rows of {len(foreign)} {name}s that were not asked for "
                    f"(such as {shown}): the service ignored the filter or mixed up answers."
                )

    async def _keep(self, received: Decoded[RowsT], selection: Selection | None) -> Decoded[RowsT]:
        """Drop the rows that are not wanted."""
        if selection is None or selection.takes_all(received.learner_ids, received.course_ids):
            return received
        if received.count < _INLINE_ROWS:
            return self._decoder.keep(received, selection)
        return await self._service.runtime.offload(self._decoder.keep, received, selection)

    async def _decode(self, document: bytes) -> Decoded[RowsT] | Fault:
        """Decode a document: a small one here, since a thread's round trip costs more."""
        flattener, decoder = self._service.flattener, self._decoder
        if len(document) < _INLINE_BYTES:
            return decode_document(document, flattener, decoder)
        return await self._service.runtime.offload(decode_document, document, flattener, decoder)
