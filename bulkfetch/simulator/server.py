"""The simulator: an account behind a real HTTP server, with a profile and a ledger.

It runs by itself (`async with Simulator(…) as simulator`), or as an aiohttp application on a
server of one's own, for instance one in virtual time: every wait goes through `sleep`, every look
at the time through `clock`, and chance through one seeded random.
"""

import asyncio
import hmac
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from random import Random
from types import TracebackType
from typing import Self, TypeVar

from aiohttp import web

from bulkfetch.simulator.account import Account
from bulkfetch.simulator.capacity import Clock, Line, Sleep, Slots
from bulkfetch.simulator.ledger import Call, Ledger
from bulkfetch.simulator.profile import Profile
from bulkfetch.simulator.sending import Sender
from bulkfetch.simulator.service import Reply, Service
from bulkfetch.simulator.tokens import Tokens

SentT = TypeVar("SentT")

SOAP_PATH = "/api/v2/soap/2.0"
TOKEN_PATH = "/api/v3/token"  # noqa: S105 - an address
_MAX_REQUEST_BYTES = 256 * 2**20


class Simulator:
    """An iSpring Learn account to develop and test against.

    Args:
        account: The data.
        profile: How the service behaves; a healthy one if None.
        seed: Of everything that is left to chance.
        host: Where to listen.
        port: 0 for a free one.
        client_id: What the token endpoint accepts.
        client_secret: Likewise.
        token: The text of the ready token; derived from the seed if None.
        clock: Seconds from any start, never going back.
        sleep: Waits a number of those seconds.

    Attributes:
        app: The application, for a server of one's own.
        ledger: What was asked and answered.
        random: The chance in it.
        line: The bandwidth that all answers share.
        token: A valid token from the start on.
        url: "http://127.0.0.1:PORT" while it runs by itself.
        poison_learners: Learners that the profile makes fail every call they are part of.
        poison_courses: Courses likewise.
    """

    def __init__(
        self,
        account: Account,
        profile: Profile | None = None,
        *,
        seed: int = 1,
        host: str = "127.0.0.1",
        port: int = 0,
        client_id: str = "simulator",
        client_secret: str = "simulated-secret",  # noqa: S107 - opens nothing but this
        token: str | None = None,
        clock: Clock = time.monotonic,
        sleep: Sleep = asyncio.sleep,
    ) -> None:
        self.account = account
        self.profile = profile or Profile()
        self.client_id = client_id
        self.client_secret = client_secret
        self.ledger = Ledger()
        self.url = ""
        self._host = host
        self._port = port
        self._clock = clock
        self._sleep = sleep
        self._started_s = clock()
        self._served = 0
        self._runner: web.AppRunner | None = None
        self.random = Random(f"service {seed}")  # noqa: S311 - faults for tests, not secrets
        self._tokens = Tokens(self.profile.token, seed, token)
        self.token = self._tokens.ready
        self._service = Service(account, self.profile, self._tokens, self.random, seed)
        self.poison_learners = self._service.poison_learners
        self.poison_courses = self._service.poison_courses
        self._slots = Slots(lambda: self._service.slots(self._now_s()))
        self.line = Line(self.profile.capacity.bandwidth_bytes_per_s, clock, sleep)
        self._sender = Sender(
            self.line,
            sleep,
            self.random,
            gzip=self.profile.dialect.gzip,
            drip_bytes_per_s=self.profile.faults.drip_bytes_per_s,
        )
        self.app = web.Application(client_max_size=_MAX_REQUEST_BYTES)
        self.app.on_startup.append(self._restart_clock)
        self.app.router.add_post(SOAP_PATH, self._answer_soap)
        self.app.router.add_post(TOKEN_PATH, self._answer_token)
        self.app.router.add_route("*", "/{path:.*}", self._answer_elsewhere)

    def __repr__(self) -> str:
        where = self.url or "not listening"
        return f"<Simulator {self.profile.name} {where} {self.account!r} {self.ledger!r}>"

    async def __aenter__(self) -> Self:
        """Start listening.

        Raises:
            OSError: The port is taken.
        """
        # A client that goes away frees its slot; on exit nobody is waited for.
        self._runner = web.AppRunner(
            self.app, handler_cancellation=True, access_log=None, shutdown_timeout=0.05
        )
        await self._runner.setup()
        try:
            await web.TCPSite(self._runner, self._host, self._port).start()
        except BaseException:
            await self._runner.cleanup()
            raise
        host, port = self._runner.addresses[0][:2]
        self.url = f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._runner is not None:
            await self._runner.cleanup()

    def _now_s(self) -> float:
        return self._clock() - self._started_s

    async def _restart_clock(self, _app: web.Application) -> None:
        """Let schedule and token lifetimes begin when the server does."""
        self._started_s = self._clock()

    def issue_token(self) -> str:
        """Return a new token; those before it live on until they expire."""
        return self._tokens.issue(self._now_s())

    @contextmanager
    def recorded(self, *, sent_cookie: bool = False) -> Iterator[Call]:
        """Keep the ledger's entry of one call, from its arrival to its end."""
        call = self.ledger.begin(self._now_s())
        call.sent_cookie = sent_cookie
        try:
            yield call
        finally:
            self.ledger.finish(call, self._now_s())

    async def serve(
        self,
        call: Call,
        size_bytes: int,
        decide: Callable[[Service, float], Reply],
        send: Callable[[Reply], Awaitable[SentT]],
    ) -> SentT:
        """Take one request through gateway, decision, line and slot, and send the reply.

        An outage that begins meanwhile breaks the connection, as it does those that come later.

        Args:
            call: Its entry in the ledger.
            size_bytes: Of the request's body.
            decide: Given the service and the seconds since its start.
            send: Brings the reply on its way; what it returns is returned.
        """
        outage_in_s = self._service.outage_in_s(self._now_s())
        try:
            async with asyncio.timeout(outage_in_s) as until_outage:
                return await self._serve(call, size_bytes, decide, send)
        except TimeoutError:
            if not until_outage.expired():
                raise
        call.fault = "outage"
        return await send(Reply(delivery="reset"))

    async def _serve(
        self,
        call: Call,
        size_bytes: int,
        decide: Callable[[Service, float], Reply],
        send: Callable[[Reply], Awaitable[SentT]],
    ) -> SentT:
        refusal = self._service.refuse_at_the_gate(call, self._served, size_bytes, self._now_s())
        if refusal is not None:
            await self._sleep(refusal.wait_s)
            return await send(refusal)
        self._served += 1
        try:
            reply = decide(self._service, self._now_s())
            await self._sleep(reply.wait_s)
            if reply.latency_s is None:
                return await send(reply)
            async with self._slots.slot():
                await self._sleep(reply.latency_s)
                return await send(reply)
        finally:
            self._served -= 1

    async def _answer_soap(self, request: web.Request) -> web.StreamResponse:
        with self.recorded(sent_cookie="Cookie" in request.headers) as call:
            payload = await request.read()
            return await self.serve(
                call,
                len(payload),
                lambda service, now_s: service.reply(call, payload, now_s),
                lambda reply: self._sender.send(request, reply, call),
            )

    async def _answer_token(self, request: web.Request) -> web.StreamResponse:
        with self.recorded(sent_cookie="Cookie" in request.headers) as call:
            call.operation = "token"
            form = await request.post()
            given = (str(form.get("client_id", "")), str(form.get("client_secret", "")))
            known = (self.client_id, self.client_secret)
            if form.get("grant_type") != "client_credentials":
                call.status = 400
                return web.json_response({"error": "unsupported_grant_type"}, status=400)
            if not hmac.compare_digest("\0".join(given).encode(), "\0".join(known).encode()):
                call.status = 401
                return web.json_response({"error": "invalid_client"}, status=401)
            call.status = 200
            return web.json_response(
                {
                    "access_token": self.issue_token(),
                    "expires_in": int(self.profile.token.lifetime_s),
                    "token_type": "bearer",
                }
            )

    async def _answer_elsewhere(self, request: web.Request) -> web.StreamResponse:
        """Refuse other addresses and methods; the ledger shows who followed a redirect."""
        with self.recorded(sent_cookie="Cookie" in request.headers) as call:
            call.operation = request.path
            call.status = 405 if request.path in (SOAP_PATH, TOKEN_PATH) else 404
            return web.Response(status=call.status)
