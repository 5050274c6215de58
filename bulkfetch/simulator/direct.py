"""The simulator without HTTP and XML: an exchange that asks the service's decisions themselves.

Rendering a million rows, sending and parsing them takes a minute of processor time, which a search
over many settings cannot pay. This door leads past all that, in the same event loop: gateway,
faults, limits, line, slots, bandwidth and ledger are the server's own, and so are the times. What
HTTP adds is imitated where it shows: connections that are reused first in, first out, and for
fifteen idle seconds; the client's limits on silence and on the whole call; requests and answers of
their true size, uncompressed. Rows are indexes into the account.

A test holds this door against the real one: the same calls at the same times.
"""

import asyncio
import math
from array import array
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from bulkfetch.engine.asking import Reply
from bulkfetch.engine.call import Fetched
from bulkfetch.engine.outcome import Counters
from bulkfetch.errors import (
    Anomaly,
    CallError,
    ConnectionFailedError,
    ContentError,
    ForeignRowsError,
    MalformedAnswerError,
    TokenRejectedError,
)
from bulkfetch.http.classify import (
    classify_exception,
    classify_fault,
    classify_status,
    fault_may_decide,
)
from bulkfetch.http.retry_after import read_retry_after
from bulkfetch.http.tokens import IssuedToken, Lease, TokenDesk
from bulkfetch.http.transport import Limits
from bulkfetch.plan.rectangle import Axis, Rectangle
from bulkfetch.plan.region import Region, Selector
from bulkfetch.redact import Redactor
from bulkfetch.runtime import Runtime
from bulkfetch.simulator.account import Account
from bulkfetch.simulator.ledger import Call
from bulkfetch.simulator.render import PIECE_ROWS, Body
from bulkfetch.simulator.sending import CUTS, draw_cut
from bulkfetch.simulator.server import Simulator
from bulkfetch.simulator.service import Reply as Served
from bulkfetch.simulator.service import Service as SimulatedService
from bulkfetch.simulator.soap import Request
from bulkfetch.wire.decode import ObjectDecoder, decode_document
from bulkfetch.wire.document import read_fault
from bulkfetch.wire.envelope import write_get_enrollments
from bulkfetch.wire.fault import Fault
from bulkfetch.wire.flatten import Flattener

_KEEP_ALIVE_S = 15.0  # aiohttp's
_OK = 200
_FACTS_KEPT = 20_000


class DirectTokens:
    """The token endpoint without HTTP."""

    def __init__(self, simulator: Simulator) -> None:
        self._simulator = simulator

    @property
    def can_renew(self) -> bool:
        """Always."""
        return True

    async def issue(self) -> IssuedToken:
        """Get a token, and have that written down in the ledger."""
        simulator = self._simulator
        with simulator.recorded() as call:
            call.operation, call.status = "token", _OK
            return IssuedToken(simulator.issue_token(), simulator.profile.token.lifetime_s)


@dataclass(frozen=True, slots=True)
class Facts:
    """What the rows of an answer come to: bytes as XML, and the ids that occur."""

    size_bytes: int
    learner_ids: frozenset[str]
    course_ids: frozenset[str]


class RowFacts:
    """What rows of an account come to; remembered for those that are asked for again.

    Args:
        account: whose rows they are.
        sizes: the bytes of each as XML, by its index: `RecordRenderer.sizes()`.
    """

    def __init__(self, account: Account, sizes: Sequence[int]) -> None:
        self.sizes = sizes
        self._account = account
        self._known: dict[int, tuple[Sequence[int], Facts]] = {}

    def of(self, rows: Sequence[int]) -> Facts:
        """Return the facts of these rows, which must not change from now on."""
        known = self._known.get(id(rows))
        if known is not None:
            return known[1]
        account = self._account
        facts = Facts(
            sum(map(self.sizes.__getitem__, rows)),
            _distinct(account.learner_ids, account.learner_of, rows),
            _distinct(account.course_ids, account.course_of, rows),
        )
        while len(self._known) >= _FACTS_KEPT:
            self._known.pop(next(iter(self._known)))
        self._known[id(rows)] = (rows, facts)  # kept with them, so that the identity stays theirs
        return facts


def _distinct(ids: Sequence[str], side_of: Sequence[int], rows: Sequence[int]) -> frozenset[str]:
    return frozenset(map(ids.__getitem__, set(map(side_of.__getitem__, rows))))


class DirectExchange:
    """Asks a simulator's service without HTTP. Give it to a `Caller`.

    Args:
        simulator: Which need not listen; its clock must be the event loop's.
        facts: Of the account's rows.
        desk: Is told that a token serves.
        limits: The client's, of time.
        runtime: The seam; its clock must be the event loop's, too.
        counters: Where calls and bytes are counted.
        region: What is wanted, if a call may ask for more.
    """

    def __init__(
        self,
        simulator: Simulator,
        facts: RowFacts,
        *,
        desk: TokenDesk,
        limits: Limits,
        runtime: Runtime,
        counters: Counters,
        region: Region | None = None,
    ) -> None:
        self._simulator = simulator
        self._facts = facts
        self._desk = desk
        self._limits = limits
        self._runtime = runtime
        self._counters = counters
        self._selector = Selector(region)
        self._redactor = Redactor()
        self._idle_since: deque[float] = deque()
        self._counts_request_bytes = simulator.profile.limits.max_request_bytes is not None

    async def ask(
        self, rectangle: Rectangle, lease: Lease, *, fresh: bool
    ) -> Reply[Fetched[Sequence[int]]]:
        """See `bulkfetch.engine.call.Exchange`."""
        is_reused = not fresh and self._takes_idle_connection()
        now, limits, counters = self._runtime.clock(), self._limits, self._counters
        counters.calls += 1
        counters.in_flight += 1
        counters.most_in_flight = max(counters.most_in_flight, counters.in_flight)
        try:
            async with (
                asyncio.timeout_at(math.ceil(now + limits.total_s)),  # aiohttp rounds it up
                asyncio.timeout_at(now + limits.read_s) as silence,
            ):
                result = await self._ask(rectangle, lease, silence)
        except (CallError, TimeoutError) as error:
            failure = classify_exception(error, self._redactor)
            if isinstance(failure, ContentError):
                await self._desk.serves(lease)
            return Reply(failure.with_traceback(None), is_reused)  # its connection is dropped
        finally:
            counters.in_flight -= 1
        if not fresh:
            self._idle_since.append(self._runtime.clock())
        latency_s = self._runtime.clock() - now
        return Reply(replace(result, latency_s=latency_s), is_reused)

    def _takes_idle_connection(self) -> bool:
        """Take the connection that has been idle for longest, as aiohttp does."""
        now = self._runtime.clock()
        while self._idle_since:
            if now - self._idle_since.popleft() <= _KEEP_ALIVE_S:
                return True
        return False

    async def _ask(
        self, rectangle: Rectangle, lease: Lease, silence: asyncio.Timeout
    ) -> Fetched[Sequence[int]]:
        learners, courses = map(rectangle.named, Axis)
        request = Request("GetEnrollments", lease.token, learners, courses)
        size_bytes = 0
        if self._counts_request_bytes:
            size_bytes = len(write_get_enrollments(lease.token, learners, courses))
        with self._simulator.recorded() as call:

            def decide(service: SimulatedService, now_s: float) -> Served:
                call.operation = request.operation
                call.learner_ids, call.course_ids = learners, courses
                return service.answer(call, request, now_s)

            return await self._simulator.serve(
                call,
                size_bytes,
                decide,
                lambda served: self._receive(served, call, rectangle, lease, silence),
            )

    async def _receive(
        self,
        served: Served,
        call: Call,
        rectangle: Rectangle,
        lease: Lease,
        silence: asyncio.Timeout,
    ) -> Fetched[Sequence[int]]:
        """Carry a reply over, and make of it what the client makes of it.

        Raises:
            CallError: It is not an acceptable answer with rows.
        """
        if served.delivery == "reset":
            raise ConnectionFailedError("The connection to the service broke (reset).")
        call.status = served.status
        if isinstance(served.body, str):
            await self._receive_text(served, served.body.encode(), call, lease, silence)
        elif served.delivery == "wrong_encoding":
            raise MalformedAnswerError("The answer has a Content-Encoding that was not asked for.")
        else:
            await self._receive_rows(served, served.body, call, silence)
        await self._desk.serves(lease)
        return self._keep(call, rectangle)

    def _keep(self, call: Call, rectangle: Rectangle) -> Fetched[Sequence[int]]:
        """Make the result of an answer, without the rows that are not wanted."""
        account, rows = self._simulator.account, call.rows
        learners, courses = account.learner_ids, account.course_ids
        is_wanted = self._selector.select(rectangle)
        if is_wanted is None:
            facts = self._facts.of(rows)
            learner_ids, course_ids = facts.learner_ids, facts.course_ids
        else:
            rows = array("I", (i for i in rows if is_wanted(*self._ids_of(i))))
            learner_ids = _distinct(learners, account.learner_of, rows)
            course_ids = _distinct(courses, account.course_of, rows)
        is_odd = call.fault == "unreadable_value"
        return Fetched(
            rectangle=rectangle,
            rows=(rows,),
            count=len(rows),
            learner_ids=learner_ids,
            course_ids=course_ids,
            anomalies=(Anomaly("", "access_date", "2022-13-45"),) if is_odd else (),
            wire_bytes=call.body_bytes,
            body_bytes=call.body_bytes,
            surplus=len(call.rows) - len(rows),
            read_ids=self._read_ids,
        )

    def _ids_of(self, index: int) -> tuple[str, str]:
        account = self._simulator.account
        return (
            account.learner_ids[account.learner_of[index]],
            account.course_ids[account.course_of[index]],
        )

    def _read_ids(self, rows: Sequence[int]) -> list[str]:
        account = self._simulator.account
        return [account.enrollment(index).enrollment_id for index in rows]

    async def _receive_text(
        self, served: Served, data: bytes, call: Call, lease: Lease, silence: asyncio.Timeout
    ) -> None:
        """Read an answer that has no rows: a Fault or a page, with the client's own readers.

        Raises:
            CallError: As the client would.
        """
        await self._carry([len(data)], call, silence)
        headers, wall_clock = served.headers, self._runtime.wall_clock
        retry_after_s = read_retry_after(headers.get("Retry-After"), now=wall_clock())
        error = classify_status(
            served.status, retry_after_s=retry_after_s, location=headers.get("Location")
        )
        found: object = None
        if error is None:
            found = decode_document(data, Flattener(), ObjectDecoder())
        elif fault_may_decide(served.status):
            found = read_fault(data)
        if isinstance(found, Fault):
            error = classify_fault(
                found, served.status, self._redactor, retry_after_s=retry_after_s
            )
            if served.status == _OK and not isinstance(error, TokenRejectedError):
                await self._desk.serves(lease)
        if error is not None:
            raise error

    async def _receive_rows(
        self, served: Served, body: Body, call: Call, silence: asyncio.Timeout
    ) -> None:
        """Carry rows over, as many as the profile lets through.

        Raises:
            CallError: They are cut, or a careful client refuses them.
        """
        head, tail = len(body.frame.head.encode()), len(body.frame.tail.encode())
        head += len(body.preface.encode())
        if served.delivery in CUTS:
            keep, is_inside_row = draw_cut(self._simulator.random, body.count)
            tail = self._facts.sizes[call.rows[keep]] // 2 if is_inside_row and body.count else 0
            call.rows = call.rows[:keep]
        is_dripping, capacity = served.delivery == "slow_drip", self._simulator.profile.capacity
        rows, sizes = call.rows, self._facts.sizes
        # Rows that are not as they should be stand in the preface, and first.
        rendered = rows[-body.count :] if 0 < body.count < len(rows) else rows
        if capacity.bandwidth_bytes_per_s is None and not is_dripping:
            pieces = [head + self._facts.of(rendered).size_bytes + tail]
        else:
            starts = range(0, len(rendered), PIECE_ROWS)
            parts = (rendered[start : start + PIECE_ROWS] for start in starts)
            pieces = [head, *(sum(map(sizes.__getitem__, part)) for part in parts), tail]
        await self._carry(pieces, call, silence, is_dripping=is_dripping)
        if served.delivery in ("cut_body", "cut_chunked"):
            raise ConnectionFailedError("The connection to the service broke (cut).")
        if served.delivery in CUTS or call.fault == "malformed_xml":
            raise MalformedAnswerError("The answer's document is cut or malformed.")
        call.whole = served.acceptable
        if call.fault in ("ignore_filter", "foreign_row"):
            raise ForeignRowsError("The answer holds rows that were not asked for.")

    async def _carry(
        self,
        sizes: Iterable[int],
        call: Call,
        silence: asyncio.Timeout,
        *,
        is_dripping: bool = False,
    ) -> None:
        """Bring pieces of these sizes over the line; each of them breaks the silence."""
        simulator, counters = self._simulator, self._counters
        drip_bytes = max(1, int(simulator.profile.faults.drip_bytes_per_s))
        for size in sizes:
            step = drip_bytes if is_dripping else max(1, size)
            for start in range(0, size, step):
                part = min(step, size - start)
                await simulator.line.carry(part)
                call.body_bytes += part
                counters.wire_bytes += part
                counters.body_bytes += part
                silence.reschedule(self._runtime.clock() + self._limits.read_s)
                if is_dripping:
                    await asyncio.sleep(1.0)
