"""`bulkfetch export`: every enrollment of the given ids, into a file."""

import os
import sys
import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

import anyio

from bulkfetch.cli.asked import AskedArguments, read_asked, require_one_stdin
from bulkfetch.cli.columns import split_spec
from bulkfetch.cli.console import Console
from bulkfetch.cli.credentials import find_credentials
from bulkfetch.cli.names import Named, Role, check_names
from bulkfetch.cli.process import fit_descriptors, resume_command
from bulkfetch.cli.running import Resume, ending, leave, run_job, say_stopped
from bulkfetch.cli.standing import Standing
from bulkfetch.cli.summary import say_summary, say_unwritten, write_report
from bulkfetch.errors import IncompleteError, SinkError, UsageError
from bulkfetch.export.atomic import check_target
from bulkfetch.export.job import ExportJob, ExportSettings
from bulkfetch.export.sinks.choose import choose_sink, default_journal
from bulkfetch.export.sinks.files import FileSink
from bulkfetch.export.sinks.postgres import Gone
from bulkfetch.export.sinks.sink import Sink
from bulkfetch.http.address import check_base_url
from bulkfetch.options import Options
from bulkfetch.pace.controller import MAX_WORKERS

URL_VARIABLE = "BULKFETCH_URL"


@dataclass(frozen=True, slots=True)
class ExportArguments:
    """The command's options as they were given."""

    url: str | None
    asked: AskedArguments
    output: str
    format: str | None
    journal: Path | None
    token_file: str | None
    restart: bool
    retry_quarantined: bool
    partial: bool
    csv_raw: bool
    gone: Gone
    allow_older: bool
    report: Path | None
    ca_bundle: Path | None


def export(
    arguments: ExportArguments, make_options: Callable[[], Options], console: Console
) -> None:
    """Run an export and exit.

    `make_options` builds the options, whose values are checked with the other arguments.
    """
    to_stdout = arguments.output == "-"
    # Without a journal of its own, an export to standard output has nothing to go on from.
    is_kept = not to_stdout or arguments.journal is not None
    resume = Resume(
        resume_command(sys.argv[1:]), is_kept, resume_command(sys.argv[1:], retry_quarantined=True)
    )
    with ending(console, resume) as result, ExitStack() as stack:
        if to_stdout and arguments.journal is None:
            directory = stack.enter_context(tempfile.TemporaryDirectory(prefix="bulkfetch-"))
            journal = Path(directory) / "journal"
        else:
            journal = arguments.journal or default_journal(arguments.output)
        options = make_options()
        settings = _settle(arguments, options, journal, console)
        sink, job = settings.sink, ExportJob(settings)
        del settings  # the job alone holds the ids, so that it can let go of them
        try:
            stopped_by = anyio.run(run_job, job, console, resume)
        except BaseException as error:
            # What ended the run is what is said in the end.
            _write_report(job, arguments.report, console)
            result.standing = Standing.of(job.report())
            if not arguments.partial:
                is_any_kept = result.standing is not None and result.standing.batches > 0
                result.unwritten = say_unwritten(sink, sink.partial() if is_any_kept else None)
            if isinstance(error, IncompleteError):
                result.resume = _go_on(error, options.max_quarantined, is_kept=is_kept)
                say_summary(job, console)
            raise
        if arguments.report is not None:
            write_report(job, arguments.report)
        if stopped_by is None:
            say_summary(job, console)
        else:
            result.code = say_stopped(console, stopped_by, resume, Standing.of(job.report()))
    leave(result.code)


def _go_on(error: IncompleteError, max_quarantined: int | None, *, is_kept: bool) -> Resume | None:
    """Say how to go on where as many ids are rejected as end a run: it would end at once again."""
    if max_quarantined is None or len(error.quarantined) <= max_quarantined:
        return None
    arguments = sys.argv[1:]
    return Resume(
        resume_command(arguments, is_bounded=False),
        is_kept,
        resume_command(arguments, retry_quarantined=True, is_bounded=False),
        rest="Ask again for the rest, however many ids are rejected, with:",
    )


def _write_report(job: ExportJob, path: Path | None, console: Console) -> None:
    """Write the report of a run that failed, if one was asked for."""
    if path is not None:
        try:
            write_report(job, path)
        except SinkError as error:
            console.warn(f"The report could not be written. {error}")


def _settle(
    arguments: ExportArguments, options: Options, journal: Path, console: Console
) -> ExportSettings:
    """Check the arguments and read what they name, cheap things first.

    Raises:
        UsageError: they cannot be used.
        SinkError: the output cannot be written.
    """
    url = arguments.url or os.environ.get(URL_VARIABLE)
    if not url:
        raise UsageError(f"No service is given: use --url or {URL_VARIABLE}.")
    base_url = check_base_url(url)
    sink = choose_sink(
        arguments.output,
        sys.stdout.buffer,
        output_format=arguments.format,
        csv_raw=arguments.csv_raw,
        gone=arguments.gone,
        allow_older=arguments.allow_older,
    )
    _check_names(arguments, journal, sink)
    require_one_stdin(arguments.asked, arguments.token_file)
    credentials = find_credentials(arguments.token_file, os.environ, console.warn)
    asked = read_asked(arguments.asked)
    if arguments.report is not None:
        check_target(arguments.report)
    most = fit_descriptors(options.workers, options.max_workers or MAX_WORKERS)
    return ExportSettings(
        base_url=base_url,
        credentials=credentials,
        region=asked.region,
        discover=asked.discover,
        sink=sink,
        journal=journal,
        options=replace(options, max_workers=most),
        restart=arguments.restart,
        retry_quarantined=arguments.retry_quarantined,
        partial=arguments.partial,
    )


def _check_names(arguments: ExportArguments, journal: Path, sink: Sink) -> None:
    """Check that nothing that is written stands where something else is read or written.

    Raises:
        UsageError: two options name one file, or what belongs to another's.
    """
    asked = arguments.asked
    files = [Named("--journal", journal, Role.JOURNAL)]
    if isinstance(sink, FileSink):
        files.append(Named("--output", sink.path, Role.OUTPUT))
        if arguments.partial:
            files.append(Named("--partial", sink.partial().path, Role.OUTPUT))
    if arguments.report is not None:
        files.append(Named("--report", arguments.report, Role.OUTPUT))
    for option, spec in (
        ("--learners", asked.learners), ("--courses", asked.courses), ("--pairs", asked.pairs),
    ):  # fmt: skip
        if spec is not None and spec != "-":
            files.append(Named(option, split_spec(spec)[0], Role.INPUT))
    if arguments.token_file not in {None, "-"}:
        files.append(Named("--token-file", Path(str(arguments.token_file)), Role.INPUT))
    if arguments.ca_bundle is not None:
        files.append(Named("--ca-bundle", arguments.ca_bundle, Role.INPUT))
    check_names(*files)
