"""The formats of an output file: which one a name means."""

from enum import Enum
from pathlib import PurePath

from bulkfetch.errors import UsageError


class OutputFormat(Enum):
    """What an output file holds."""

    CSV = "csv"
    JSONL = "jsonl"
    PARQUET = "parquet"
    DUCKDB = "duckdb"
    SQLITE = "sqlite"


_SUFFIXES = {"db": OutputFormat.SQLITE, "sqlite3": OutputFormat.SQLITE} | {
    member.value: member for member in OutputFormat
}
CHOICES = ", ".join(f".{member.value}" for member in OutputFormat)


def format_of(target: str, override: str | None = None) -> OutputFormat:
    """Return the format of an output: the one named, or that of the suffix; CSV for `-`.

    Raises:
        UsageError: neither is a format that can be written.
    """
    name = override or ("csv" if target == "-" else PurePath(target).suffix[1:])
    try:
        return _SUFFIXES[name.lower()]
    except KeyError:
        # Not quoted: a mistyped address of a database may hold a password.
        raise UsageError(
            "The format of the output is not known: its name must end in one of "
            f"{CHOICES}, or --format must say it."
        ) from None
