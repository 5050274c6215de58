"""The one table: what an HTTP status, a SOAP Fault or an exception of aiohttp means for the run.

Everything from below is mapped here onto `bulkfetch.errors`, with messages that are safe to show.
"""

import asyncio
import ssl

import aiohttp

from bulkfetch.errors import (
    CallError,
    ConnectionFailedError,
    ContentError,
    CredentialsError,
    EndpointError,
    MalformedAnswerError,
    OverloadedError,
    ServerFailedError,
    TimedOutError,
    TokenRejectedError,
    TooLargeError,
    TransientError,
)
from bulkfetch.redact import Redactor
from bulkfetch.wire.fault import Fault

_OK = 200
# Decided by the status alone, whatever the body says.
_BY_STATUS = frozenset({408, 413, 414, 425, 429, 502, 503, 504})
_CONTENT_FAULTS = (
    "wrong parameters",
    "unknown user",
    "unknown content item",
    "unknown enrollment",
)


def classify_status(
    status: int, *, retry_after_s: float | None, location: str | None = None
) -> CallError | None:
    """Return the error of a status by itself; None for 200, which the body decides.

    `location` is where a redirect points, already fit to show.
    """
    if status == _OK:
        return None
    if 300 <= status < 400:  # noqa: PLR2004
        where = f" to {location}" if location else ""
        return EndpointError(
            f"The service answered with a redirect ({status}){where}, which is not followed: it "
            "would carry the token elsewhere. Check the service's URL.",
            status=status,
        )
    if status in {413, 414}:
        return TooLargeError(f"The service finds the request too large ({status}).", status=status)
    if status in {408, 504}:
        return TimedOutError(
            f"The service timed out ({status}).", status=status, retry_after_s=retry_after_s
        )
    if status in {425, 429, 503}:
        return OverloadedError(
            f"The service asks for fewer calls ({status}).",
            status=status,
            retry_after_s=retry_after_s,
        )
    if status >= 500:  # noqa: PLR2004
        return ServerFailedError(
            f"The service failed ({status}).", status=status, retry_after_s=retry_after_s
        )
    if status == 400:  # noqa: PLR2004
        return ContentError("The service rejects the request (400).", status=status)
    if status == 401:  # noqa: PLR2004
        return TokenRejectedError("The service rejects the token (401).", status=status)
    if status == 403:  # noqa: PLR2004
        return CredentialsError(
            "The service forbids the call (403). Check the token's account and role.",
            status=status,
        )
    if status >= 400:  # noqa: PLR2004
        return EndpointError(
            f"The service does not know this call ({status}). Check the service's URL.",
            status=status,
        )
    return MalformedAnswerError(f"The service answered {status} instead of 200.", status=status)


def fault_may_decide(status: int) -> bool:
    """Whether a Fault in the body of this status says more than the status."""
    return status == _OK or (status >= 400 and status not in _BY_STATUS)  # noqa: PLR2004


def classify_fault(
    fault: Fault, status: int, redactor: Redactor, *, retry_after_s: float | None = None
) -> CallError:
    """Return the error that a SOAP Fault means. Strings are compared without regard to case."""
    shown = redactor.show(fault.text) or redactor.show(fault.code) or "without text"
    if fault.announces("authorization failed", most_words=1):  # the token
        return TokenRejectedError(f'The service rejects the token: "{shown}".', status=status)
    if fault.announces("account subscription expired"):
        return CredentialsError(
            f'The service refuses the account: "{shown}". Renew the subscription.', status=status
        )
    if fault.announces("permission denied"):
        return CredentialsError(
            f'The service refuses the call: "{shown}". The token\'s role may not make it.',
            status=status,
        )
    if fault.says(*_CONTENT_FAULTS) or fault.text.strip().casefold().startswith("unknown "):
        return ContentError(f'The service rejects an id: "{shown}".', status=status)
    by_status = classify_status(status, retry_after_s=None)
    if isinstance(by_status, TokenRejectedError | CredentialsError | EndpointError):
        return type(by_status)(f'The service refuses the call: "{shown}".', status=status)
    if fault.code.casefold() in {"client", "sender"}:
        return ContentError(f'The service rejects the request: "{shown}".', status=status)
    return ServerFailedError(
        f'The service failed: "{shown}".', status=status, retry_after_s=retry_after_s
    )


def classify_exception(error: Exception, redactor: Redactor) -> CallError:
    """Return the error that an exception of aiohttp, asyncio or the system means.

    Its own text is shown only where it says something that the class does not, and redacted: an
    exception's text can quote bytes of an answer's headers.
    """
    if isinstance(error, CallError):
        return error
    if isinstance(
        error, aiohttp.ClientConnectorCertificateError | ssl.SSLCertVerificationError
    ) or _holds(error, ssl.SSLCertVerificationError):
        return EndpointError(
            "The service's TLS certificate cannot be trusted "
            f"({redactor.show(_certificate_reason(error))}). Check the service's URL, or name the "
            "authority's certificates with a CA bundle."
        )
    if isinstance(error, aiohttp.ClientSSLError):
        return EndpointError(
            "No TLS connection to the service can be made "
            f"({redactor.show(str(error.os_error.strerror or error.os_error))}). "
            "Check the service's URL."
        )
    if isinstance(error, aiohttp.InvalidURL | aiohttp.NonHttpUrlClientError):
        return EndpointError("The service's URL cannot be used. Check it.")
    if isinstance(error, aiohttp.ClientProxyConnectionError | aiohttp.ClientHttpProxyError):
        return ConnectionFailedError("The proxy cannot be reached or refuses the connection.")
    if isinstance(error, aiohttp.ConnectionTimeoutError):
        return ConnectionFailedError("No connection to the service was made in time.")
    if isinstance(error, asyncio.TimeoutError):  # before OSError, which it is
        return TimedOutError("The service did not answer in time.")
    if isinstance(error, aiohttp.ClientConnectorDNSError):
        return ConnectionFailedError("The service's host name cannot be resolved.")
    if isinstance(error, aiohttp.ClientConnectorError):
        reason = error.os_error.strerror or type(error.os_error).__name__
        return ConnectionFailedError(f"The service cannot be reached ({redactor.show(reason)}).")
    if isinstance(error, aiohttp.ClientPayloadError | aiohttp.ClientConnectionError | OSError):
        return ConnectionFailedError(
            f"The connection to the service broke ({type(error).__name__})."
        )
    if isinstance(error, aiohttp.ClientError):
        # Protocol garbage comes as ClientResponseError with a status of aiohttp's own making.
        return MalformedAnswerError(f"The answer is not HTTP ({type(error).__name__}).")
    return TransientError(f"The call failed unexpectedly ({type(error).__name__}).")


def _holds(error: BaseException, kind: type[BaseException]) -> bool:
    return isinstance(error.__cause__, kind) or isinstance(error.__context__, kind)


def _certificate_reason(error: Exception) -> str:
    inner = getattr(error, "certificate_error", error)
    return str(getattr(inner, "verify_message", "") or type(inner).__name__)
