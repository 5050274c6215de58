"""`bulkfetch publish`: a further output from a finished journal, without a call."""

import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial as bind
from pathlib import Path

from bulkfetch.cli.console import Console
from bulkfetch.cli.names import Named, Role, check_names
from bulkfetch.cli.process import resume_command
from bulkfetch.cli.running import (
    Resume,
    TerminatedError,
    ending,
    exit_later,
    leave,
    signal_of,
)
from bulkfetch.cli.summary import say_changes, say_unwritten
from bulkfetch.export.republish import republish
from bulkfetch.export.sinks.choose import choose_sink
from bulkfetch.export.sinks.files import FileSink
from bulkfetch.export.sinks.postgres import Gone
from bulkfetch.words import counted


@dataclass(frozen=True, slots=True)
class PublishArguments:
    """The command's options as they were given."""

    journal: Path
    output: str
    format: str | None
    csv_raw: bool
    gone: Gone
    allow_older: bool
    partial: bool


def publish(arguments: PublishArguments, console: Console) -> None:
    """Publish a journal and exit."""
    stop = threading.Event()
    resume = Resume(
        resume_command(sys.argv[1:]),
        rest="Run the export again for the rest, then publish with:",
    )
    with ending(console, resume) as result:
        sink = choose_sink(
            arguments.output,
            sys.stdout.buffer,
            output_format=arguments.format,
            csv_raw=arguments.csv_raw,
            gone=arguments.gone,
            allow_older=arguments.allow_older,
        )
        files = [Named("JOURNAL", arguments.journal, Role.SOURCE)]
        if isinstance(sink, FileSink):
            files.append(Named("--output", sink.path, Role.OUTPUT))
        check_names(*files)
        if not arguments.partial:
            result.unwritten = say_unwritten(sink, sink)
        work = bind(
            republish,
            arguments.journal,
            sink,
            partial=arguments.partial,
            should_stop=stop.is_set,
        )
        # In a thread, because a signal reaches Python only between DuckDB's long calls.
        with ThreadPoolExecutor(1) as executor:
            try:
                done = executor.submit(work).result()
            except (KeyboardInterrupt, TerminatedError) as error:
                stop.set()
                exit_later(console, signal_of(error), resume)
                raise
        published = done.published
        changes = say_changes(published.changes) or counted(published.bytes_written, "byte")
        console.say(
            "published",
            f"{counted(published.rows, 'row')}, {counted(published.duplicates, 'duplicate')}, "
            f"{counted(published.conflict_count, 'conflict')}, {changes}\n"
            f"written to {sink.name or 'standard output'}",
            rows=published.rows,
            duplicates=published.duplicates,
            conflicts=published.conflict_count,
            bytes=published.bytes_written,
            changes=published.changes,
            output=sink.name,
        )
        if done.lack is not None:
            raise done.lack
    leave(result.code)
