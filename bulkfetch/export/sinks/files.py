"""Outputs that are one file, or a stream of the same bytes."""

import fcntl
import os
import select
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO, Self

import pyarrow as pa

from bulkfetch.errors import SinkError
from bulkfetch.export.atomic import check_target, replacing
from bulkfetch.export.formats import OutputFormat
from bulkfetch.export.sinks.copied import copy
from bulkfetch.export.sinks.duckdb_file import write_duckdb
from bulkfetch.export.sinks.sink import Publication, Written
from bulkfetch.export.sinks.sqlite_file import write_sqlite

_COPY_BYTES = 1024 * 1024


@dataclass(frozen=True, slots=True)
class FileSink:
    """A file, which is replaced whole or not at all, readable by its owner alone."""

    path: Path
    format: OutputFormat
    csv_raw: bool = False

    @property
    def name(self) -> str:
        """The path."""
        return str(self.path)

    def check(self) -> None:
        """Check that the file can be made: see `check_target`."""
        check_target(self.path)

    def partial(self) -> Self:
        """Return a file beside, so that a whole one is never replaced by a part."""
        return replace(
            self, path=self.path.with_name(f"{self.path.stem}.partial{self.path.suffix}")
        )

    def write(self, rows: Iterator[pa.RecordBatch], publication: Publication) -> Written:
        """Write beside the file, then put it in place."""
        with replacing(self.path) as temporary:
            _write(rows, temporary, publication, self.format, csv_raw=self.csv_raw)
            size = temporary.stat().st_size
        return Written(size)


@dataclass(frozen=True, slots=True)
class StreamSink:
    """A stream, which gets nothing until everything can be written."""

    stream: BinaryIO
    format: OutputFormat
    csv_raw: bool = False

    @property
    def name(self) -> None:
        """A stream has none."""
        return

    def check(self) -> None:
        """Check that the stream can be written and that its reader, if any, is still there.

        Raises:
            SinkError: it cannot, or is not.
        """
        try:
            descriptor = self.stream.fileno()
            can_be_written = fcntl.fcntl(descriptor, fcntl.F_GETFL) & os.O_ACCMODE != os.O_RDONLY
        except (OSError, ValueError):
            return  # not the system's stream
        readers = select.poll()
        readers.register(descriptor, 0)  # a pipe that nobody reads is an error, asked for or not
        if not can_be_written or any(event & select.POLLERR for _, event in readers.poll(0)):
            raise SinkError("The output stream is closed: nobody would read what is written.")

    def partial(self) -> Self:
        """Return the stream itself: it holds nothing that could be lost."""
        return self

    def write(self, rows: Iterator[pa.RecordBatch], publication: Publication) -> Written:
        """Write a file in the temporary directory, then pass its bytes on."""
        temporary = publication.directory / "output"
        temporary.touch(0o600)
        _write(rows, temporary, publication, self.format, csv_raw=self.csv_raw)
        size = temporary.stat().st_size
        copy_to_stream(temporary, self.stream)
        return Written(size)


def copy_to_stream(path: Path, stream: BinaryIO) -> None:
    """Pass the bytes of a file on.

    Raises:
        SinkError: nobody takes them.
    """
    try:
        with path.open("rb") as file:
            while rest := memoryview(file.read(_COPY_BYTES)):
                while rest:
                    # An unbuffered stream (PYTHONUNBUFFERED) may take a part, and does when its
                    # reader goes away in the middle.
                    rest = rest[stream.write(rest) :]
        stream.flush()
    except OSError as error:
        raise SinkError(f"The output stream cannot be written: {error.strerror}.") from None


def _write(
    rows: Iterator[pa.RecordBatch],
    path: Path,
    publication: Publication,
    output_format: OutputFormat,
    *,
    csv_raw: bool,
) -> None:
    """Write rows to a file that is there and empty."""
    if output_format is OutputFormat.DUCKDB:
        write_duckdb(rows, path, publication)
    elif output_format is OutputFormat.SQLITE:
        write_sqlite(rows, path)
    else:
        copy(rows, path, publication, output_format, csv_raw=csv_raw)
