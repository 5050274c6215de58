"""Ask one question: with a token, over HTTP, and surely. What every operation's calls share.

A question is asked once, unless a token runs out, which is renewed and the question asked again, or
its answer is doubtful: an answer on a connection that has served before, such that a late answer to
an earlier request could have been taken for it, is asked for once more on a fresh connection.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Generic, Protocol, TypeVar

from bulkfetch.engine.outcome import Counters
from bulkfetch.errors import CallError, ContentError, TokenRejectedError
from bulkfetch.http.classify import classify_fault
from bulkfetch.http.tokens import Lease, TokenDesk
from bulkfetch.http.transport import Answer, Transport
from bulkfetch.redact import Redactor
from bulkfetch.runtime import Runtime
from bulkfetch.wire.fault import Fault
from bulkfetch.wire.flatten import Flattener

ResultT = TypeVar("ResultT")
ResultT_co = TypeVar("ResultT_co", covariant=True)


@dataclass(frozen=True, slots=True)
class Service:
    """Everything that calls share: where to, with what, and the seam."""

    url: str
    transport: Transport
    desk: TokenDesk
    redactor: Redactor
    runtime: Runtime
    flattener: Flattener = field(default_factory=Flattener)


@dataclass(frozen=True, slots=True)
class Reply(Generic[ResultT_co]):
    """How one request ended, and whether something else had been answered on its connection."""

    result: ResultT_co | CallError
    is_reused: bool


class Ask(Protocol[ResultT_co]):
    """Asks once; raises no CallError."""

    async def __call__(self, lease: Lease, *, fresh: bool) -> Reply[ResultT_co]:
        """Ask, if `fresh` on a connection that has served nothing else."""


async def ask_surely(
    ask: Ask[ResultT],
    desk: TokenDesk,
    counters: Counters,
    *,
    is_doubtful: Callable[[ResultT | CallError], bool],
    wait_again: Callable[[], Awaitable[None]],
    expected_s: float = 0.0,
    fresh: bool = False,
) -> ResultT:
    """Ask until the token serves, and again if the answer is doubtful.

    Args:
        ask: sends the question.
        desk: has the tokens.
        counters: where confirmations are counted.
        is_doubtful: says whether a result on a reused connection is to be confirmed.
        wait_again: awaited before each call but the first, until it may begin.
        expected_s: how long the call takes, as far as is known; its token must live for so long.
        fresh: on a connection that has served nothing else, so that no result is doubtful.

    Raises:
        CallError: the call failed; its class says what to do.
    """
    while True:
        async with desk.lease(expected_s) as lease:
            reply = await ask(lease, fresh=fresh)
            result = reply.result
            if reply.is_reused and is_doubtful(result):
                await wait_again()
                counters.confirmations += 1
                result = (await ask(lease, fresh=True)).result
        if not isinstance(result, CallError):
            return result
        if not isinstance(result, TokenRejectedError):
            raise result
        await desk.replace(lease, result)
        await wait_again()


async def send(
    service: Service,
    counters: Counters,
    lease: Lease,
    operation: str,
    body: bytes,
    *,
    read: Callable[[Answer], Awaitable[ResultT]],
    fresh: bool,
) -> Reply[ResultT]:
    """Send one request and read its answer to the end.

    Args:
        service: where to.
        counters: where the call is counted.
        lease: the token that the request carries.
        operation: named to the service.
        body: the request.
        read: reads the answer; it may raise CallError.
        fresh: on a connection that has served nothing else.
    """
    headers = {"Content-Type": "text/xml; charset=utf-8", "SOAPAction": f'"{operation}"'}
    is_reused = False
    counters.calls += 1
    counters.in_flight += 1
    counters.most_in_flight = max(counters.most_in_flight, counters.in_flight)
    try:
        async with service.transport.post(
            service.url, body, headers, fresh=fresh, on_resend=counters.note_resent
        ) as answer:
            is_reused = answer.is_reused
            try:
                await service.transport.require_ok(answer)
                result = await read(answer)
            finally:
                counters.wire_bytes += answer.wire_bytes
                counters.body_bytes += answer.body_bytes
    except CallError as error:
        if isinstance(error, ContentError):
            await service.desk.serves(lease)  # who rejects an id has accepted the token
        return Reply(error.with_traceback(None), is_reused)
    finally:
        counters.in_flight -= 1
    return Reply(result, is_reused)


async def note_verdict(
    found: ResultT | Fault, answer: Answer, service: Service, lease: Lease
) -> ResultT:
    """Return what an answer holds; raise its Fault. Either may show that the token serves.

    Raises:
        CallError: the answer is a Fault.
    """
    if not isinstance(found, Fault):
        await service.desk.serves(lease)
        return found
    error = classify_fault(found, answer.status, service.redactor)
    if not isinstance(error, TokenRejectedError):
        await service.desk.serves(lease)
    raise error
