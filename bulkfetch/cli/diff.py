"""`bulkfetch diff`: what has changed between two exports."""

import sys
import tempfile
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial as bind
from pathlib import Path
from typing import BinaryIO

from bulkfetch.cli.console import Console
from bulkfetch.cli.differences import show_differences
from bulkfetch.cli.names import Named, Role, check_names
from bulkfetch.cli.running import ending, leave
from bulkfetch.errors import UsageError
from bulkfetch.export.comparison import Kind, Side
from bulkfetch.export.diff import Diffed, diff
from bulkfetch.export.formats import OutputFormat, format_of
from bulkfetch.words import counted

_NAMES = {kind: kind.value for kind in Kind}


@dataclass(frozen=True, slots=True)
class DiffArguments:
    """The command's options as they were given."""

    old: Path
    new: Path
    output: str | None
    format: str | None
    csv_raw: bool
    limit: int


def run_diff(arguments: DiffArguments, console: Console) -> None:
    """Compare two exports and exit."""
    stop = threading.Event()
    to_stdout = arguments.output == "-"
    with ending(console, None) as result:
        output_format = OutputFormat.CSV
        if arguments.output is not None:
            output_format = format_of(arguments.output, arguments.format)
        elif arguments.format is not None:
            raise UsageError("--format goes with -o: without that, differences are shown.")
        files = [
            Named("OLD", arguments.old, Role.SOURCE), Named("NEW", arguments.new, Role.SOURCE),
        ]  # fmt: skip
        if arguments.output is not None and not to_stdout:
            files.append(Named("--output", Path(arguments.output), Role.OUTPUT))
        check_names(*files)
        parent = None
        if arguments.output is not None and not to_stdout:
            parent = Path(arguments.output).absolute().parent
            parent = parent if parent.is_dir() else None
        with (
            tempfile.TemporaryDirectory(prefix=".bulkfetch-diff-", dir=parent) as directory,
            # In a thread, because a signal reaches Python only between DuckDB's long calls.
            ThreadPoolExecutor(1) as executor,
        ):
            work = bind(
                diff,
                arguments.old,
                arguments.new,
                Path(directory),
                output=_target(arguments.output),
                output_format=output_format,
                csv_raw=arguments.csv_raw,
                limit=0 if arguments.output is not None else arguments.limit,
                should_stop=stop.is_set,
            )
            try:
                found = executor.submit(work).result()
            except BaseException:
                stop.set()
                raise
        if arguments.output is None:
            show_differences(found.first, found.counts.differences, _NAMES, sys.stdout)
        _say(found, arguments, console)
    leave(result.code)


def _target(output: str | None) -> Path | BinaryIO | None:
    if output == "-":
        return sys.stdout.buffer
    return None if output is None else Path(output)


def _say(found: Diffed, arguments: DiffArguments, console: Console) -> None:
    counts = found.counts
    found_text = f"{counts.added:,} added, {counts.removed:,} removed, {counts.changed:,} changed"
    lines = [f"{found_text} ({counted(counts.old, 'row')} before, {counts.new:,} after)"]
    for side, path, count, what in (
        (Side.OLD, arguments.old, counts.outside_old, "new"),
        (Side.NEW, arguments.new, counts.outside_new, "old"),
    ):
        if count:
            rows = counted(count, f"{what} row lies", f"{what} rows lie")
            lines.append(f"{rows} outside what {path} covers: not compared")
        if not found.is_covered[side]:
            lines.append(
                f"{path} does not say what was asked for: it counts as the whole. A journal would."
            )
    if arguments.output not in {None, "-"}:
        lines.append(f"written to {arguments.output}")
    console.say(
        "diff",
        "\n".join(lines),
        added=counts.added,
        removed=counts.removed,
        changed=counts.changed,
        rows_before=counts.old,
        rows_after=counts.new,
        outside_old=counts.outside_old,
        outside_new=counts.outside_new,
    )
