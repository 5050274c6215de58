"""The URL of a database: libpq's, with a schema of our own in it and without a password.

A password in an argument stands in the process list, in the shell's history and in the command
that a failed run prints to go on with; libpq has better places for it. What libpq would split
otherwise than a reader does (a password with a slash or a question mark in it) must not get into a
message by that way, so anything doubtful is refused without being quoted.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import quote, unquote

from bulkfetch.errors import UsageError

_SCHEMES = ("postgresql://", "postgres://")
_SECRETS = frozenset(
    {"password", "sslpassword", "oauth_client_secret", "scram_client_key", "scram_server_key"}
)
# Text is sent as UTF-8. A server or a network that is gone is noticed in minutes, not hours.
_DEFAULTS = {
    "client_encoding": "UTF8",
    "fallback_application_name": "bulkfetch",
    "connect_timeout": "15",
    "keepalives_idle": "60",
    "tcp_user_timeout": "120000",
}
_VARIABLES = {"connect_timeout": "PGCONNECT_TIMEOUT"}
_HOW = (
    "Put it into PGPASSWORD, ~/.pgpass or the file that PGSERVICEFILE names, where no process "
    "list shows it."
)


@dataclass(frozen=True, slots=True)
class DatabaseUrl:
    """Where a table stands.

    Attributes:
        conninfo: the URL as libpq gets it.
        schema: the schema asked for; None for the first of the search path.
        shown: host, database and schema, for messages.
    """

    conninfo: str
    schema: str | None
    shown: str


def is_database_url(output: str) -> bool:
    """Whether an output is a URL of PostgreSQL."""
    return output.lower().startswith(_SCHEMES)


def parse_url(url: str, environment: Mapping[str, str] = os.environ) -> DatabaseUrl:
    """Read the URL of a database.

    Args:
        url: `postgresql://[user[:]@][host[:port]][/database][?parameter=value&…]`, where
            `schema` is a parameter beside libpq's.
        environment: libpq's variables.

    Raises:
        UsageError: it holds a password, or cannot be read.
    """
    rest = url.partition("://")[2]
    address, _, query = rest.partition("?")
    userinfo, at, place = address.rpartition("@")
    if userinfo.partition(":")[2]:
        raise UsageError(f"The database URL has a password in it. {_HOW}")
    hosts, slash, database = place.partition("/")
    for host in hosts.split(","):
        port = host.rpartition("]")[2].partition(":")[2]
        if port and not (port.isascii() and port.isdigit()):
            raise UsageError(
                "The port in the database URL is not a number. The URL's form is "
                "postgresql://user@host:port/database."
            )
    parameters, schema = _read_query(query)
    for name, value in _DEFAULTS.items():
        if name not in parameters and _VARIABLES.get(name, "") not in environment:
            parameters[name] = value
    settings = "&".join(
        f"{quote(name)}={quote(value, safe='')}" for name, value in parameters.items()
    )
    shown = f"postgresql://{hosts}{slash}{database}"
    return DatabaseUrl(
        f"postgresql://{userinfo}{at}{place}?{settings}",
        schema,
        shown if schema is None else f"{shown}?schema={quote(schema)}",
    )


def _read_query(query: str) -> tuple[dict[str, str], str | None]:
    """Return libpq's parameters and the schema.

    Raises:
        UsageError: a parameter is a secret, or cannot be read.
    """
    parameters: dict[str, str] = {}
    for part in query.split("&") if query else ():
        name, equals, value = part.partition("=")
        name, value = unquote(name), unquote(value)
        if not equals or "@" in part:
            raise UsageError(
                "The parameters of the database URL must be name=value, joined by &, with %40 "
                "for @."
            )
        if name in _SECRETS and value:
            raise UsageError(f"The database URL has a password in it ({name}). {_HOW}")
        if name in parameters:
            raise UsageError(f"The database URL has the parameter {name!r} twice.")
        parameters[name] = value
    schema = parameters.pop("schema", None)
    if schema == "":
        raise UsageError("The schema in the database URL is empty.")
    return parameters, schema
