"""What has changed between two exports: journals or published files, compared by enrollment_id."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from bulkfetch.errors import UsageError
from bulkfetch.export.atomic import check_target, replacing
from bulkfetch.export.comparison import Counts, Difference, Side, comparing
from bulkfetch.export.formats import OutputFormat
from bulkfetch.export.sinks.files import copy_to_stream
from bulkfetch.export.sources import open_source

FORMATS = (OutputFormat.CSV, OutputFormat.JSONL, OutputFormat.PARQUET)


@dataclass(frozen=True, slots=True)
class Diffed:
    """What two exports differ in.

    Attributes:
        counts: of all differences.
        first: some of them.
        is_covered: whether it is known what each side was asked for; else a row that one side
            lacks may never have been asked for.
    """

    counts: Counts
    first: tuple[Difference, ...]
    is_covered: dict[Side, bool]


def diff(
    old: Path,
    new: Path,
    directory: Path,
    *,
    output: Path | BinaryIO | None = None,
    output_format: OutputFormat = OutputFormat.CSV,
    csv_raw: bool = False,
    limit: int = 0,
    should_stop: Callable[[], bool] = lambda: False,
) -> Diffed:
    """Compare two exports.

    Args:
        old: a journal or a published file.
        new: likewise.
        directory: for temporary data; private and empty.
        output: where all differences are written to; a file is replaced whole or not at all.
        output_format: of the output: CSV, JSONL or Parquet.
        csv_raw: CSV is read and written with its cells as they are, formulas too.
        limit: how many differences are returned.
        should_stop: asked between steps and, from another thread, during them.

    Raises:
        UsageError: a file cannot be read as an export, or both are the same.
        JournalError: a run holds a journal, or it is damaged.
        SinkError: the output or the temporary data cannot be written.
    """
    if output_format not in FORMATS:
        choices = ", ".join(f".{member.value}" for member in FORMATS)
        raise UsageError(f"Differences are written as one of {choices}.")
    if old.exists() and new.exists() and old.samefile(new):
        raise UsageError(f"{old} and {new} are the same file.")
    if isinstance(output, Path):
        check_target(output)
        if output.resolve() in {old.resolve(), new.resolve()}:
            raise UsageError(f"The output {output} is one of the files compared.")
    is_covered = {}
    with comparing(directory, should_stop) as comparison:
        for side, path in ((Side.OLD, old), (Side.NEW, new)):
            with open_source(path, directory, csv_raw=csv_raw) as source:
                comparison.load(side, source.batches)
                is_covered[side] = source.coverage is not None
                if source.coverage is not None:
                    comparison.cover(side, source.coverage)
        counts = comparison.compare()
        if isinstance(output, Path):
            with replacing(output) as temporary:
                comparison.write(temporary, output_format, csv_raw=csv_raw)
        elif output is not None:
            temporary = directory / "output"
            temporary.touch(0o600)
            comparison.write(temporary, output_format, csv_raw=csv_raw)
            copy_to_stream(temporary, output)
        first = tuple(comparison.differences(limit))
    return Diffed(counts, first, is_covered)
