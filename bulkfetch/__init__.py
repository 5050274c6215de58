"""Every enrollment of an iSpring Learn account: fast, once, with proof that nothing is missing."""

from bulkfetch.client import Client, Fetch
from bulkfetch.engine.outcome import FetchReport
from bulkfetch.errors import (
    Anomaly,
    BulkfetchError,
    CallError,
    Conflict,
    CredentialsError,
    EndpointError,
    FailedIds,
    FatalError,
    IncompleteError,
    UsageError,
)
from bulkfetch.http.transport import Limits
from bulkfetch.options import Options
from bulkfetch.pace.retry import RetryPolicy
from bulkfetch.record import Enrollment
from bulkfetch.runtime import Runtime
from bulkfetch.sync import SyncFetch, fetch_enrollments

__all__ = [
    "Anomaly",
    "BulkfetchError",
    "CallError",
    "Client",
    "Conflict",
    "CredentialsError",
    "EndpointError",
    "Enrollment",
    "FailedIds",
    "FatalError",
    "Fetch",
    "FetchReport",
    "IncompleteError",
    "Limits",
    "Options",
    "RetryPolicy",
    "Runtime",
    "SyncFetch",
    "UsageError",
    "fetch_enrollments",
]
