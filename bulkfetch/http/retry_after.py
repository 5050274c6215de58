"""Read Retry-After: seconds or an HTTP date; nonsense is ignored.

Negative, past, fractional, non-ASCII and absurd values (over a day) are nonsense: there is no way
to respect them that serves anyone. What remains is capped, so that one answer cannot park a run.
"""

import re
from datetime import UTC
from email.utils import parsedate_to_datetime

_SECONDS = re.compile(r"[0-9]{1,9}", re.ASCII)
_ABSURD_S = 86_400.0
RETRY_AFTER_CAP_S = 600.0


def read_retry_after(value: str | None, *, now: float) -> float | None:
    """Return the wait in seconds, at most RETRY_AFTER_CAP_S, or None where none is to be kept.

    Args:
        value: the header, if any.
        now: seconds since 1970, against which a date is held.
    """
    if value is None:
        return None
    value = value.strip()
    if _SECONDS.fullmatch(value):
        seconds = float(value)
    elif value.isascii():
        try:
            date = parsedate_to_datetime(value)
            # asctime's form, HTTP's oldest, names no zone and means GMT.
            seconds = (date if date.tzinfo else date.replace(tzinfo=UTC)).timestamp() - now
        except (ValueError, TypeError, IndexError, OverflowError):
            return None
    else:
        return None
    if not 0 < seconds <= _ABSURD_S:
        return None
    return min(seconds, RETRY_AFTER_CAP_S)
