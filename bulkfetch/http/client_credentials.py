"""Get tokens with client id and secret from the service's token endpoint."""

import json
import math
from urllib.parse import urlencode

from bulkfetch.errors import (
    ContentError,
    CredentialsError,
    MalformedAnswerError,
    TokenRejectedError,
    TooLargeError,
    UsageError,
)
from bulkfetch.http.tokens import IssuedToken
from bulkfetch.http.transport import Transport
from bulkfetch.wire.envelope import require_sendable

_ANSWER_CAP_BYTES = 64 * 1024
_DOCUMENTED_LIFETIME_S = 1800.0


class ClientCredentialsSource:
    """Issues tokens by the client credentials grant: a form out, JSON back."""

    def __init__(self, transport: Transport, url: str, client_id: str, client_secret: str) -> None:
        self._transport = transport
        self._url = url
        self._client_id = client_id
        self._client_secret = client_secret

    @property
    def can_renew(self) -> bool:
        """Always."""
        return True

    async def issue(self) -> IssuedToken:
        """Ask for a token.

        Raises:
            CredentialsError: 400, 401 or 403, which are this endpoint's documented refusals.
            CallError: the endpoint fails otherwise.
        """
        form = urlencode(
            {
                "client_id": self._client_id,
                "client_secret": self._client_secret,
                "grant_type": "client_credentials",
            }
        )
        headers = {
            "Content-Type": "application/x-www-form-urlencoded",
            "Accept": "application/json",
        }
        try:
            async with self._transport.post(self._url, form.encode(), headers) as answer:
                await self._transport.require_ok(answer)
                body = await answer.read_start(_ANSWER_CAP_BYTES)
        except (ContentError, TokenRejectedError, CredentialsError) as error:
            raise CredentialsError(
                f"The token endpoint refuses the client id and secret ({error.status}).",
                status=error.status,
            ) from None
        except TooLargeError:
            # Of the form or the answer here; the batch that waits for the token is not at fault.
            message = "The token endpoint finds the request too large, or its answer is."
            raise MalformedAnswerError(message) from None
        return _read_token(body)


def _read_token(body: bytes | None) -> IssuedToken:
    """Read the endpoint's JSON.

    Raises:
        MalformedAnswerError: it holds no usable token.
    """
    try:
        answer = json.loads(body or b"")
        value = answer["access_token"]
        require_sendable(value, "The token")
    except (ValueError, TypeError, KeyError, RecursionError, UsageError):
        message = "The token endpoint's answer holds no usable token."
        raise MalformedAnswerError(message) from None
    lifetime_s = answer.get("expires_in", _DOCUMENTED_LIFETIME_S)
    try:
        lifetime_s = float(lifetime_s)
    except (TypeError, ValueError, OverflowError):
        lifetime_s = _DOCUMENTED_LIFETIME_S
    if not (math.isfinite(lifetime_s) and lifetime_s > 0):
        lifetime_s = _DOCUMENTED_LIFETIME_S
    return IssuedToken(value, lifetime_s)
