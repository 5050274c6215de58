"""Check the service's address before any socket is opened.

https only; plain http for this machine's own loopback names only, spelled plainly: a name such as
`http://2130706433/` is some resolver's 127.0.0.1 and some other's surprise.
"""

import ipaddress
from urllib.parse import urlsplit

from bulkfetch.errors import UsageError

SOAP_PATH = "/api/v2/soap/2.0"
TOKEN_PATH = "/api/v3/token"  # noqa: S105 - a path


def check_base_url(url: str) -> str:
    """Return the base URL without a trailing slash.

    Raises:
        UsageError: it is no https URL (or http on loopback), or has user name, query or fragment.
    """
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise UsageError("The service's URL cannot be read: its host or port is wrong.") from None
    if parts.username is not None or parts.password is not None or "@" in parts.netloc:
        raise UsageError("The service's URL must not hold a user name or password.")
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise UsageError("The service's URL must begin with https:// and name a host.")
    if parts.query or parts.fragment or "?" in url or "#" in url:
        raise UsageError("The service's URL must not hold a query or a fragment.")
    if any(character.isspace() or not character.isprintable() for character in url):
        raise UsageError("The service's URL holds white space or control characters.")
    if port == 0:
        raise UsageError("The service's URL names port 0.")
    if parts.scheme == "http" and not is_loopback(parts.hostname):
        raise UsageError(
            "The service's URL must begin with https://: the token would travel in the clear. "
            "Plain http is for this machine's own loopback address only."
        )
    return url.rstrip("/")


def check_proxy_url(url: str) -> str:
    """Return a proxy's URL.

    Raises:
        UsageError: it is no http or https URL with a host, or it holds a user name or password,
            which would be seen in the list of processes.
    """
    try:
        parts = urlsplit(url)
        parts.port  # noqa: B018 - reading it checks it
    except ValueError:
        raise UsageError("The proxy's URL cannot be read: its host or port is wrong.") from None
    if "@" in parts.netloc:
        raise UsageError("The proxy's URL must not hold a user name or password.")
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise UsageError("The proxy's URL must begin with http:// or https:// and name a host.")
    return url


def is_loopback(host: str) -> bool:
    """Whether a host name is `localhost` or a plainly written loopback address."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
