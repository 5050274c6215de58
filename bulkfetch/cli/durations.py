"""Read how long something may take: seconds, or a number with s, m or h."""

import re

from bulkfetch.errors import UsageError

_DURATION = re.compile(r"(\d+(?:\.\d+)?)\s*([smh]?)", re.ASCII)
_SECONDS = {"": 1, "s": 1, "m": 60, "h": 3600}


def read_duration(text: str, option: str) -> float:
    """Return seconds.

    Raises:
        UsageError: it is no duration.
    """
    match = _DURATION.fullmatch(text.strip())
    if match is None:
        raise UsageError(
            f"{option} must be a number of seconds, or a number with s, m or h (600, 90m, 2h), not "
            f"{text!r}."
        )
    return float(match[1]) * _SECONDS[match[2]]
