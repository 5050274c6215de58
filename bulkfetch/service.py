"""Open the service: check address and credentials, build session, token desk and transport."""

import contextlib
from collections.abc import AsyncIterator

import aiohttp

from bulkfetch.engine.asking import Service
from bulkfetch.errors import UsageError
from bulkfetch.http.address import check_base_url
from bulkfetch.http.client_credentials import ClientCredentialsSource
from bulkfetch.http.tokens import ReadyToken, TokenDesk, TokenSource
from bulkfetch.http.transport import Transport, open_session
from bulkfetch.options import Options
from bulkfetch.redact import Redactor
from bulkfetch.runtime import Runtime
from bulkfetch.wire.envelope import require_sendable


class Credentials:
    """A ready token, or client id and secret to get tokens with. Never shows what it holds.

    Raises:
        UsageError: neither or both are given, half of a pair, or text that cannot be sent.
    """

    __slots__ = ("client_id", "client_secret", "token")

    def __init__(
        self,
        token: str | None = None,
        client_id: str | None = None,
        client_secret: str | None = None,
    ) -> None:
        if (client_id is None) != (client_secret is None):
            raise UsageError("Client id and client secret are needed together.")
        if (token is None) == (client_id is None):
            raise UsageError("Give either a token or client id and client secret.")
        for value, what in (
            (token, "The token"),
            (client_id, "The client id"),
            (client_secret, "The client secret"),
        ):
            if value is not None:
                require_sendable(value, what)
        self.token = token
        self.client_id = client_id
        self.client_secret = client_secret

    def __repr__(self) -> str:
        return "Credentials([redacted])"

    def make_redactor(self) -> Redactor:
        """Return what removes them from texts."""
        secrets = (self.token, self.client_secret)
        return Redactor(*(secret for secret in secrets if secret is not None))


@contextlib.asynccontextmanager
async def open_service(
    base_url: str,
    credentials: Credentials,
    options: Options,
    runtime: Runtime,
    session: aiohttp.ClientSession | None = None,
) -> AsyncIterator[Service]:
    """Hold the service open. A given session is used and not closed.

    Raises:
        UsageError: the address, proxy or CA bundle cannot be used.
    """
    base_url = check_base_url(base_url)
    redactor = credentials.make_redactor()
    async with contextlib.AsyncExitStack() as stack:
        fresh_session = None
        if session is None:
            session = await stack.enter_async_context(open_session(ca_bundle=options.ca_bundle))
            fresh_session = await stack.enter_async_context(
                open_session(ca_bundle=options.ca_bundle, reuse_connections=False)
            )
        transport = Transport(
            session,
            fresh_session,
            limits=options.limits,
            redactor=redactor,
            wall_clock=runtime.wall_clock,
            proxy=options.proxy,
        )
        source: TokenSource
        if credentials.token is not None:
            source = ReadyToken(credentials.token)
        else:
            assert credentials.client_id is not None
            assert credentials.client_secret is not None
            source = ClientCredentialsSource(
                transport,
                base_url + options.token_path,
                credentials.client_id,
                credentials.client_secret,
            )
        yield Service(
            url=base_url + options.soap_path,
            transport=transport,
            desk=TokenDesk(source, clock=runtime.clock, learn_secret=redactor.learn),
            redactor=redactor,
            runtime=runtime,
        )
