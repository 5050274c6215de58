"""Tokens: a ready one, or one renewed from client id and secret; and the account of their use.

A token lives 30 minutes, cannot be refreshed, only asked for anew, and the service says "expired"
and "wrong" with the same fault. So a rejected token is renewed, by one worker for all, and the
call is replayed. No call begins with a token that will not outlive it by what is known of such
calls; and renewal is ahead of need: one worker gets the next token while the present one still
serves the others. What tells a wrong credential from a short life is whether the *new* token ever
worked: tokens that serve a few calls each are renewed for ever, a renewed token that never served
is the second failure in a row and fatal. Answers overtake each other, so the judgement waits until
no other call with the same token is under way.
"""

import contextlib
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Protocol

import anyio

from bulkfetch.errors import CredentialsError, TokenRejectedError, TransientError
from bulkfetch.wire.envelope import require_sendable

_MARGIN_SHARE = 0.1
_MARGIN_CAP_S = 60.0
_AHEAD_SHARE = 0.05  # of a token's life: time enough to get the next one
_MOST_NEEDED_SHARE = 0.8


@dataclass(frozen=True, slots=True, repr=False)
class IssuedToken:
    """A token and its life in seconds, None where it is not known."""

    value: str
    lifetime_s: float | None = None


class TokenSource(Protocol):
    """Where tokens come from."""

    @property
    def can_renew(self) -> bool:
        """Whether another token can be had after the first."""

    async def issue(self) -> IssuedToken:
        """Get a token.

        Raises:
            CredentialsError: the credentials are refused.
            CallError: the token service cannot be used now.
        """


class ReadyToken:
    """A token that the caller holds, with nothing to renew it.

    Raises:
        UsageError: the token is empty or holds control characters.
    """

    @property
    def can_renew(self) -> bool:
        """Never: whoever gave it has to give the next."""
        return False

    def __init__(self, value: str) -> None:
        require_sendable(value, "The token")
        self._token = IssuedToken(value)

    async def issue(self) -> IssuedToken:
        """Return the token."""
        return self._token

    def __repr__(self) -> str:
        return "ReadyToken([redacted])"


@dataclass(slots=True, repr=False)
class Lease:
    """The use of one generation of token by one call."""

    token: str
    generation: int


@dataclass(slots=True)
class _Generation:
    number: int
    token: IssuedToken
    began_at: float
    expires_at: float | None
    in_flight: int = 0
    served: bool = False
    after_rejection: bool = False


class TokenDesk:
    """Hands tokens to workers; renews before expiry and on rejection, once for all of them.

    Args:
        source: where tokens come from.
        clock: seconds, monotonic.
        learn_secret: told every new token before it is used, so that it can be redacted.
    """

    def __init__(
        self,
        source: TokenSource,
        *,
        clock: Callable[[], float],
        learn_secret: Callable[[str], None],
    ) -> None:
        self._source = source
        self._clock = clock
        self._learn_secret = learn_secret
        self._lock = anyio.Lock()
        self._settled = anyio.Condition()
        self._waiting = 0
        self._current: _Generation | None = None

    def lease(self, needed_s: float = 0.0) -> AbstractAsyncContextManager[Lease]:
        """Hold a token for one call, which takes `needed_s` seconds as far as is known.

        Raises:
            CredentialsError: credentials are refused.
            CallError: no token can be had now.
        """
        return _Use(self, needed_s)

    async def begin_use(self, needed_s: float) -> _Generation:
        """Begin a call with the present token; see `lease`."""
        generation = await self._fresh(needed_s)
        generation.in_flight += 1
        return generation

    async def end_use(self, generation: _Generation) -> None:
        """Note that a call with this token is over."""
        generation.in_flight -= 1
        if self._waiting:
            with anyio.CancelScope(shield=True):
                await self._announce()

    async def serves(self, lease: Lease) -> None:
        """Note that the service accepted this token."""
        current = self._current
        if current is not None and current.number == lease.generation and not current.served:
            current.served = True
            if self._waiting:
                await self._announce()

    async def replace(self, rejected: Lease, error: TokenRejectedError) -> None:
        """See that calls no longer use a rejected token. Call it after the lease has ended.

        Raises:
            CredentialsError: it cannot be renewed, or a renewed token never worked.
        """
        if not self._source.can_renew:
            message = f"{error} It cannot be renewed: give a valid one."
            raise CredentialsError(message, status=error.status)
        generation = self._current
        if generation is None or generation.number != rejected.generation:
            return  # renewed meanwhile
        self._waiting += 1
        try:
            async with self._settled:
                while not generation.served and generation.in_flight > 0:
                    await self._settled.wait()
        finally:
            self._waiting -= 1
        if generation.after_rejection and not generation.served:
            message = f"{error} A renewed token was rejected, too: check client id and secret."
            raise CredentialsError(message, status=error.status)
        async with self._lock:
            if self._current is generation:
                await self._renew(after_rejection=True)

    async def _announce(self) -> None:
        async with self._settled:
            self._settled.notify_all()

    async def _fresh(self, needed_s: float) -> _Generation:
        current = self._current
        if current is not None and not self._is_short(current, needed_s):
            is_early = self._is_short(current, needed_s, _AHEAD_SHARE)
            if not is_early or self._lock.locked():
                return current
            # Others go on with the present token meanwhile; it will do if there is no other yet.
            with contextlib.suppress(TransientError):
                return await self._renew_once(current)
            return current
        return await self._renew_once(current)

    async def _renew_once(self, known: _Generation | None) -> _Generation:
        """Get another token, unless somebody else has done so meanwhile."""
        async with self._lock:
            current = self._current
            if current is None or current is known:
                current = await self._renew(after_rejection=False)
            return current

    def _is_short(self, generation: _Generation, needed_s: float, ahead_share: float = 0.0) -> bool:
        """Whether a token is too old for a call, or will be after a share of its life.

        A call that takes longer than any token lives must make do with a young one.
        """
        if generation.expires_at is None:
            return False
        life_s = generation.expires_at - generation.began_at
        needed_s = min(needed_s, _MOST_NEEDED_SHARE * life_s) + ahead_share * life_s
        return self._clock() + needed_s >= generation.expires_at

    async def _renew(self, *, after_rejection: bool) -> _Generation:
        asked_at = self._clock()
        token = await self._source.issue()
        self._learn_secret(token.value)
        expires_at = None
        if token.lifetime_s is not None:
            margin = min(_MARGIN_CAP_S, token.lifetime_s * _MARGIN_SHARE)
            expires_at = asked_at + token.lifetime_s - margin
        previous = self._current
        self._current = _Generation(
            number=0 if previous is None else previous.number + 1,
            token=token,
            began_at=asked_at,
            expires_at=expires_at if self._source.can_renew else None,
            after_rejection=after_rejection,
        )
        return self._current


class _Use:
    """The use of a token by one call. Every call enters one, so it takes few steps."""

    __slots__ = ("_desk", "_generation", "_needed_s")

    _generation: _Generation

    def __init__(self, desk: TokenDesk, needed_s: float) -> None:
        self._desk = desk
        self._needed_s = needed_s

    async def __aenter__(self) -> Lease:
        self._generation = await self._desk.begin_use(self._needed_s)
        return Lease(self._generation.token.value, self._generation.number)

    async def __aexit__(self, *_: object) -> None:
        await self._desk.end_use(self._generation)
