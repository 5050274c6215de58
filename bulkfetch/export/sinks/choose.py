"""Which sink an output means."""

import re
from pathlib import Path
from typing import BinaryIO

from bulkfetch.errors import UsageError
from bulkfetch.export.formats import format_of
from bulkfetch.export.sinks.files import FileSink, StreamSink
from bulkfetch.export.sinks.postgres import Gone
from bulkfetch.export.sinks.postgres.sink import PostgresSink
from bulkfetch.export.sinks.postgres.url import is_database_url, parse_url
from bulkfetch.export.sinks.sink import Sink

# A URL of something else, one without its slashes, or the parameters of libpq.
_ADDRESS = re.compile(
    r"://|^\s*postgres(ql)?\s*:|(^|\s)(password|host|dbname|user)\s*=", re.IGNORECASE
)
_DATABASE_JOURNAL = "enrollments.postgresql.bulkfetch"


def choose_sink(
    output: str,
    stdout: BinaryIO,
    *,
    output_format: str | None = None,
    csv_raw: bool = False,
    gone: Gone = Gone.KEEP,
    allow_older: bool = False,
) -> Sink:
    """Return the sink of an output: a file, a database's URL, or `-` for standard output.

    Args:
        output: as it was given.
        stdout: standard output.
        output_format: overrides what a file's name says.
        csv_raw: leave cells of a CSV as they are, also those that a spreadsheet would run.
        gone: what is done about rows of earlier exports that are no longer in the service.
        allow_older: publish into a database also what undoes rows of a later export.

    Raises:
        UsageError: no such output can be written.
    """
    if is_database_url(output):
        if output_format is not None:
            raise UsageError("--format goes with a file or standard output, not with a database.")
        return PostgresSink(parse_url(output), gone, allow_older)
    if _ADDRESS.search(output):  # not quoted: it may hold a password
        raise UsageError(
            "The output looks like the address of a database, but not of PostgreSQL as a URL: "
            "postgresql://USER@HOST/DATABASE."
        )
    if gone is not Gone.KEEP:
        raise UsageError(
            "--gone goes with a database: a file is replaced whole, and holds what is there now."
        )
    if allow_older:
        raise UsageError("--allow-older goes with a database: a file is replaced whole.")
    kind = format_of(output, output_format)
    if output == "-":
        return StreamSink(stdout, kind, csv_raw)
    return FileSink(Path(output), kind, csv_raw)


def default_journal(output: str) -> Path:
    """Return where the journal of an output is kept if nothing else is said.

    Beside a file; for a database, under one name in the working directory, which says nothing of
    the database: an export of other ids into it needs a journal of its own.
    """
    return Path(_DATABASE_JOURNAL if is_database_url(output) else output + ".bulkfetch")
