"""Fetch one rectangle: token, envelope, call, cut, flatten, verify.

Rows are returned only when the answer's document has closed. Each row must lie in what the call
named: one outside means an ignored filter or a mixed-up answer, and all of it is refused. Rows that
were over-fetched on purpose, because a side was left unsent, are dropped after that. An empty or a
fatal answer on a connection that has served before is asked for once more on a fresh one: a late
answer to an earlier request could have been taken for it.
"""

import functools
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Generic, Protocol, TypeVar

import anyio

from bulkfetch.engine.asking import Service, ask_surely, note_verdict, send
from bulkfetch.engine.causes import first_cause
from bulkfetch.engine.outcome import Counters
from bulkfetch.errors import (
    Anomaly,
    CallError,
    ContentError,
    FatalError,
    ForeignRowsError,
    MalformedAnswerError,
)
from bulkfetch.http.tokens import Lease, TokenDesk
from bulkfetch.http.transport import Answer
from bulkfetch.plan.rectangle import Axis, Rectangle
from bulkfetch.plan.region import Region, Selection, Selector
from bulkfetch.wire.cutter import SliceCutter
from bulkfetch.wire.decode import Decoded, Decoder, decode_document
from bulkfetch.wire.envelope import write_get_enrollments
from bulkfetch.wire.fault import Fault

RowsT = TypeVar("RowsT")

_INLINE_BYTES = 16 * 1024
_INLINE_ROWS = 2_000
_SLICES_AT_ONCE = 4


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

        def is_doubtful(result: Fetched[RowsT] | CallError) -> bool:
            return (
                (isinstance(result, Fetched) and result.received == 0)
                or isinstance(result, FatalError)
                or (isinstance(result, ContentError) and rectangle.is_indivisible)
            )

        ask = functools.partial(self._exchange.ask, rectangle)
        return await ask_surely(ask, self._desk, self._counters, is_doubtful=is_doubtful)


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
        heard = await send(
            self._service,
            self._counters,
            lease,
            "GetEnrollments",
            write_get_enrollments(lease.token, *map(rectangle.named, Axis)),
            read=lambda answer: self._read(answer, rectangle, lease),
            fresh=fresh,
        )
        if isinstance(heard.result, CallError):
            return Reply(heard.result, heard.is_reused)
        return Reply(replace(heard.result, latency_s=heard.latency_s), heard.is_reused)

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
        found = await note_verdict(
            await self._decode(cutter.finish()), answer, self._service, lease
        )
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
