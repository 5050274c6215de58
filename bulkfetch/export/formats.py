"""The formats of an output: which one a name means."""

from enum import Enum
from pathlib import PurePath

from bulkfetch.errors import UsageError


class OutputFormat(Enum):
    """What an output file holds."""

    CSV = "csv"
    JSONL = "jsonl"
    PARQUET = "parquet"


_CHOICES = ", ".join(f".{member.value}" for member in OutputFormat)


def format_of(target: str, override: str | None = None) -> OutputFormat:
    """Return the format of an output: the one named, or that of the suffix; CSV for `-`.

    Raises:
        UsageError: neither is a format that can be written.
    """
    name = override or ("csv" if target == "-" else PurePath(target).suffix[1:])
    try:
        return OutputFormat(name.lower())
    except ValueError:
        raise UsageError(
            f"The format of the output {target} is not known: its name must end in one of "
            f"{_CHOICES}, or --format must say it."
        ) from None
