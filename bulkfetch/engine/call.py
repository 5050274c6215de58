"""Fetch one rectangle: token, envelope, call, cut, flatten, verify.

Rows are returned only when the answer's document has closed. Each row must lie in what the call
named: one outside means an ignored filter or a mixed-up answer, and all of it is refused. Rows that
were over-fetched on purpose, because a side was left unsent, are dropped after that. An empty or a
fatal answer on a connection that has served before is asked for once more on a fresh one: a late
answer to an earlier request could have been taken for it.
"""

import functools
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from bulkfetch.engine.asking import Reply, Service, ask_surely, note_verdict, send
from bulkfetch.engine.outcome import Counters
from bulkfetch.engine.reading import AnswerReader
from bulkfetch.errors import (
    Anomaly,
    CallError,
    ContentError,
    FatalError,
    ForeignRowsError,
)
from bulkfetch.http.tokens import Lease, TokenDesk
from bulkfetch.http.transport import Answer
from bulkfetch.plan.rectangle import Axis, Rectangle, Side
from bulkfetch.plan.region import Region, Selection, Selector
from bulkfetch.wire.decode import Decoded, Decoder
from bulkfetch.wire.envelope import write_get_enrollments
from bulkfetch.words import counted

RowsT = TypeVar("RowsT")

_INLINE_ROWS = 2_000


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


class Exchange(Protocol[RowsT]):
    """One request and its answer, by whatever means: `HttpExchange`, or a simulated one."""

    async def ask(
        self, rectangle: Rectangle, lease: Lease, *, fresh: bool
    ) -> Reply[Fetched[RowsT]]:
        """Ask once, if `fresh` on a connection that has served nothing else; raise no CallError."""


class Caller(Generic[RowsT]):
    """Fetches rectangles, one call for each unless a token runs out or an answer needs confirming.

    Raises out of `fetch`: CallError, classified.
    """

    def __init__(self, exchange: Exchange[RowsT], desk: TokenDesk, counters: Counters) -> None:
        self._exchange = exchange
        self._desk = desk
        self._counters = counters

    async def fetch(
        self,
        rectangle: Rectangle,
        expected_s: float = 0.0,
        *,
        wait_again: Callable[[], Awaitable[None]],
        fresh: bool = False,
    ) -> Fetched[RowsT]:
        """Fetch all enrollments in a rectangle, which takes `expected_s` as far as is known.

        `wait_again` is awaited before any call but the first, until it may begin; `fresh` asks on a
        connection that has served nothing else.

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
        return await ask_surely(
            ask,
            self._desk,
            self._counters,
            is_doubtful=is_doubtful,
            wait_again=wait_again,
            expected_s=expected_s,
            fresh=fresh,
        )

    async def fetch_once(self, rectangle: Rectangle, expected_s: float = 0.0) -> Fetched[RowsT]:
        """Make one call on a fresh connection, and no other even if its token is rejected.

        Raises:
            CallError: the call failed.
        """
        async with self._desk.lease(expected_s) as lease:
            result = (await self._exchange.ask(rectangle, lease, fresh=True)).result
        if isinstance(result, CallError):
            raise result
        return result


class _Whole(Generic[RowsT]):
    """What the slices of one answer add up to; the last has the highest number."""

    def __init__(self) -> None:
        self.parts: dict[int, tuple[RowsT, tuple[Anomaly, ...]]] = {}
        self.received = 0
        self.count = 0
        self.learner_ids: set[str] = set()
        self.course_ids: set[str] = set()

    def add(self, number: int, part: Decoded[RowsT]) -> None:
        """Add what is kept of a slice. Each slice's own sets of ids are not kept: they repeat."""
        self.parts[number] = (part.rows, part.anomalies)
        self.count += part.count
        self.learner_ids |= part.learner_ids
        self.course_ids |= part.course_ids


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
        self._reader = AnswerReader(service.flattener, decoder, service.runtime)
        self._counters = counters
        self._selector = Selector(region)
        self._latest_asked: dict[Axis, tuple[Side, frozenset[str]]] = {}

    async def ask(
        self, rectangle: Rectangle, lease: Lease, *, fresh: bool
    ) -> Reply[Fetched[RowsT]]:
        """Send one request and read its answer to the end."""
        asked_at = self._service.runtime.clock()
        return await send(
            self._service,
            self._counters,
            lease,
            "GetEnrollments",
            write_get_enrollments(
                lease.token, rectangle.named(Axis.LEARNERS), rectangle.named(Axis.COURSES)
            ),
            read=lambda answer: self._read(answer, rectangle, lease, asked_at),
            fresh=fresh,
        )

    async def _read(
        self, answer: Answer, rectangle: Rectangle, lease: Lease, asked_at: float
    ) -> Fetched[RowsT]:
        """Read and verify an answer, slices in parallel, the last one last."""
        service = self._service
        selection = self._selector.select(rectangle)
        whole: _Whole[RowsT] = _Whole()
        learners, courses = (
            self._asked(rectangle, Axis.LEARNERS),
            self._asked(rectangle, Axis.COURSES),
        )

        async def take(number: int, found: Decoded[RowsT]) -> None:
            self._verify("learner", learners, found.learner_ids)
            self._verify("course", courses, found.course_ids)
            if number == 0:  # rows came, so the token serves
                await service.desk.serves(lease)
            whole.received += found.count
            whole.add(number, await self._keep(found, selection))

        found = await self._reader.read(answer, take)
        await take(len(whole.parts), await note_verdict(found, answer, service, lease))
        parts = [whole.parts[number] for number in sorted(whole.parts)]
        anomalies = [each for _, found_in_part in parts for each in found_in_part]
        return Fetched(
            rectangle=rectangle,
            rows=tuple(rows for rows, _ in parts),
            count=whole.count,
            learner_ids=frozenset(whole.learner_ids),
            course_ids=frozenset(whole.course_ids),
            anomalies=tuple(map(self._redacted, anomalies)),
            wire_bytes=answer.wire_bytes,
            body_bytes=answer.body_bytes,
            surplus=whole.received - whole.count,
            read_ids=self._decoder.enrollment_ids,
            latency_s=service.runtime.clock() - asked_at,
        )

    def _redacted(self, anomaly: Anomaly) -> Anomaly:
        redactor = self._service.redactor
        return Anomaly(redactor(anomaly.enrollment_id), anomaly.field, redactor(anomaly.raw))

    def _asked(self, rectangle: Rectangle, axis: Axis) -> frozenset[str] | None:
        """Return the ids that a call names along an axis; batches share a side, often."""
        side = rectangle.named(axis)
        if side is None:
            return None
        known = self._latest_asked.get(axis)
        if known is None or known[0] is not side:
            known = self._latest_asked[axis] = side, frozenset(side)
        return known[1]

    def _verify(self, name: str, asked: frozenset[str] | None, got: frozenset[str]) -> None:
        """Check that the rows of a document lie in what the call named.

        Raises:
            ForeignRowsError: one does not.
        """
        if asked is None or got <= asked:
            return
        foreign = got - asked
        shown = self._service.redactor.show(min(foreign), 80)
        raise ForeignRowsError(
            f"The answer holds rows of {counted(len(foreign), name)} that were not asked for "
            f"(such as {shown}): the service ignored the filter or mixed up answers."
        )

    async def _keep(self, received: Decoded[RowsT], selection: Selection | None) -> Decoded[RowsT]:
        """Drop the rows that are not wanted."""
        if selection is None or selection.takes_all(received.learner_ids, received.course_ids):
            return received
        if received.count < _INLINE_ROWS:
            return self._decoder.keep(received, selection)
        return await self._service.runtime.offload(self._decoder.keep, received, selection)
