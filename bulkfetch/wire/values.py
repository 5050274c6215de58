"""Read the text of one value as its column's type, strictly, or say that it cannot be read.

The forms are those of XML Schema that the service's editions show or could show. Dates may come as
date-times: then the date as written counts. A time stamp without an offset is read as UTC, a bare
date as its midnight. A fraction of a second is dropped: the column holds whole seconds.
"""

import re
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta, timezone

from bulkfetch.record import FieldType
from bulkfetch.wire.names import XML_WHITESPACE

_DATE = r"(\d{4})-(\d\d)-(\d\d)"
_OFFSET = r"(Z|[+-]\d\d:?\d\d)?"
_TIMESTAMP = re.compile(
    rf"{_DATE}(?:[T ](\d\d):(\d\d)(?::(\d\d)(?:[.,]\d+)?)?)?{_OFFSET}", re.ASCII | re.IGNORECASE
)
# The documented spellings, which the standard library reads in C. It would read more than is meant
# (week dates, no dashes, and in newer versions hour 24), so it is given just these.
_PLAIN_DATE = re.compile(r"\d{4}-\d\d-\d\d", re.ASCII)
_PLAIN_TIMESTAMP = re.compile(r"\d{4}-\d\d-\d\dT(?:[01]\d|2[0-3]):\d\d:\d\d(?:\+00:00|Z)", re.ASCII)
_INTEGER = re.compile(r"[+-]?\d{1,9}", re.ASCII)
_BOOLEANS = {"0": False, "1": True, "false": False, "true": True}


def read_date(text: str) -> date:
    """Read `2022-07-14`, or the date of a date-time.

    Raises:
        ValueError: it is neither, or no day of the calendar.
    """
    if _PLAIN_DATE.fullmatch(text):
        return date.fromisoformat(text)
    return _read_written(text).date()


def read_timestamp(text: str) -> datetime:
    """Read `2022-07-15T07:19:00+00:00`, with any offset or none, or a bare date, as UTC.

    Raises:
        ValueError: it is neither, or no time of the calendar.
    """
    if _PLAIN_TIMESTAMP.fullmatch(text):
        return datetime.fromisoformat(text)
    try:
        return _read_written(text).astimezone(UTC)
    except OverflowError:
        raise ValueError(text) from None


def read_bool(text: str) -> bool:
    """Read `0`, `1`, `true` or `false`.

    Raises:
        ValueError: it is none of them.
    """
    value = _BOOLEANS.get(text.strip(XML_WHITESPACE).lower())
    if value is None:
        raise ValueError(text)
    return value


def read_int8(text: str) -> int:
    """Read an integer from -128 to 127.

    Raises:
        ValueError: it is none, or out of range.
    """
    value = int(_match(_INTEGER, text)[0])
    if not -128 <= value <= 127:  # noqa: PLR2004 - an int8
        raise ValueError(text)
    return value


def read_text(text: str) -> str:
    """Return the text as it is."""
    return text


READERS: dict[FieldType, Callable[[str], object]] = {
    FieldType.TEXT: read_text,
    FieldType.DATE: read_date,
    FieldType.BOOL: read_bool,
    FieldType.INT8: read_int8,
    FieldType.TIMESTAMP: read_timestamp,
}


def _read_written(text: str) -> datetime:
    """Read a date or date-time as it is written, in its own zone; UTC where it names none."""
    match = _match(_TIMESTAMP, text)
    year, month, day, hour, minute, second = (int(part or 0) for part in match.groups()[:6])
    offset = match[7]
    zone = UTC
    if offset and offset.upper() != "Z":
        hours, minutes = int(offset[1:3]), int(offset[-2:])
        if hours > 14 or minutes > 59:  # noqa: PLR2004 - XML Schema's bounds
            raise ValueError(text)
        delta = timedelta(hours=hours, minutes=minutes)
        zone = timezone(-delta if offset[0] == "-" else delta)
    return datetime(year, month, day, hour, minute, second, tzinfo=zone)


def _match(pattern: re.Pattern[str], text: str) -> re.Match[str]:
    match = pattern.fullmatch(text.strip(XML_WHITESPACE))
    if match is None:
        raise ValueError(text)
    return match
