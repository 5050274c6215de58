"""Every enrollment of an iSpring Learn account: fast, once, with proof that nothing is missing.

The names are imported from their modules when they are first asked for: whoever imports one thing,
as the command line does for its help, does not wait for the HTTP client.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bulkfetch.client import Client, Fetch
    from bulkfetch.engine.outcome import FetchReport, SilentCaps
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
    "SilentCaps",
    "SyncFetch",
    "UsageError",
    "fetch_enrollments",
]

_MODULES = {
    "bulkfetch.client": ("Client", "Fetch"),
    "bulkfetch.engine.outcome": ("FetchReport", "SilentCaps"),
    "bulkfetch.errors": (
        "Anomaly",
        "BulkfetchError",
        "CallError",
        "Conflict",
        "CredentialsError",
        "EndpointError",
        "FailedIds",
        "FatalError",
        "IncompleteError",
        "UsageError",
    ),
    "bulkfetch.http.transport": ("Limits",),
    "bulkfetch.options": ("Options",),
    "bulkfetch.pace.retry": ("RetryPolicy",),
    "bulkfetch.record": ("Enrollment",),
    "bulkfetch.runtime": ("Runtime",),
    "bulkfetch.sync": ("SyncFetch", "fetch_enrollments"),
}
_MODULE_OF = {name: module for module, names in _MODULES.items() for name in names}


def __getattr__(name: str) -> object:
    module = _MODULE_OF.get(name)
    if module is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value: object = getattr(import_module(module), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
