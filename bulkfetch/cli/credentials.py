"""Find the credentials: a token file, or the environment. No option takes a secret as its value."""

import os
import stat
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

from bulkfetch.errors import UsageError
from bulkfetch.service import Credentials

TOKEN_VARIABLE = "BULKFETCH_TOKEN"  # noqa: S105 - a name
ID_VARIABLE = "BULKFETCH_CLIENT_ID"
SECRET_VARIABLE = "BULKFETCH_CLIENT_SECRET"  # noqa: S105 - a name
_CAP_BYTES = 64 * 1024


def find_credentials(
    token_file: str | None, environment: Mapping[str, str], warn: Callable[[str], None]
) -> Credentials:
    """Return the one set of credentials that is given.

    Args:
        token_file: a path, `-` for standard input, or None.
        environment: where the variables are looked for.
        warn: told that the token file can be read by others.

    Raises:
        UsageError: none or several are given, or the file holds no token.
    """
    token = environment.get(TOKEN_VARIABLE) or None
    client_id = environment.get(ID_VARIABLE) or None
    client_secret = environment.get(SECRET_VARIABLE) or None
    sources = [
        name
        for name, is_given in (
            ("--token-file", token_file is not None),
            (TOKEN_VARIABLE, token is not None),
            (f"{ID_VARIABLE} and {SECRET_VARIABLE}", bool(client_id or client_secret)),
        )
        if is_given
    ]
    if not sources:
        raise UsageError(
            f"No credentials are given: use --token-file, {TOKEN_VARIABLE}, or {ID_VARIABLE} with "
            f"{SECRET_VARIABLE}."
        )
    if len(sources) > 1:
        raise UsageError(f"Credentials are given more than once: {', '.join(sources)}. Keep one.")
    if token_file is not None:
        token = _read_token(token_file, warn)
    elif token is not None:
        token = token.strip()
    return Credentials(token, client_id, client_secret)


def _read_token(token_file: str, warn: Callable[[str], None]) -> str:
    """Read a token file.

    Raises:
        UsageError: it cannot be read, or holds no token.
    """
    try:
        if token_file == "-":  # noqa: S105 - standard input
            data = sys.stdin.buffer.read(_CAP_BYTES + 1)
        else:
            path = Path(token_file)
            mode = path.stat().st_mode
            if stat.S_ISREG(mode) and mode & 0o077 and os.name == "posix":
                warn(f"The token file {token_file} can be read by others: chmod 600 it.")
            with path.open("rb") as file:
                data = file.read(_CAP_BYTES + 1)
    except OSError as error:
        raise UsageError(f"The token file {token_file} cannot be read: {error.strerror}.") from None
    if len(data) > _CAP_BYTES:
        raise UsageError(f"The token file {token_file} is too large to hold a token.")
    try:
        token = data.decode("utf-8-sig").strip()
    except UnicodeDecodeError:
        raise UsageError(f"The token file {token_file} does not hold text in UTF-8.") from None
    if not token:
        raise UsageError(f"The token file {token_file} is empty.")
    return token
