"""Which sink an output means."""

from pathlib import Path
from typing import BinaryIO

from bulkfetch.export.formats import format_of
from bulkfetch.export.sinks.files import FileSink, StreamSink
from bulkfetch.export.sinks.sink import Sink


def choose_sink(
    output: str, stdout: BinaryIO, *, output_format: str | None = None, csv_raw: bool = False
) -> Sink:
    """Return the sink of an output: a file, or `-` for standard output.

    Args:
        output: as it was given.
        stdout: standard output.
        output_format: overrides what the output's name says.
        csv_raw: leave cells of a CSV as they are, also those that a spreadsheet would run.

    Raises:
        UsageError: no such output can be written.
    """
    kind = format_of(output, output_format)
    if output == "-":
        return StreamSink(stdout, kind, csv_raw)
    return FileSink(Path(output), kind, csv_raw)
