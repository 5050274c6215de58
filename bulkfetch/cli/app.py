"""The commands and their options. What they need is imported when they run."""

import sys
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer

from bulkfetch.cli import option
from bulkfetch.export.sinks.postgres import Gone

app = typer.Typer(
    name="bulkfetch",
    help="Every enrollment of an iSpring Learn account: fast, once, with proof that nothing is "
    "missing.",
    no_args_is_help=True,
    add_completion=False,
    # Tracebacks with local variables would show secrets.
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


def _show_version(is_asked: bool) -> None:
    if is_asked:
        from importlib.metadata import version  # noqa: PLC0415 - slow, and seldom asked for

        typer.echo(version("bulkfetch"))
        raise typer.Exit


@app.callback()
def common(
    _version: Annotated[
        bool,
        typer.Option("--version", help="Show the version.", callback=_show_version, is_eager=True),
    ] = False,
) -> None:
    """Every enrollment of an iSpring Learn account."""


@app.command()
def export(
    output: option.Output,
    url: option.Url = None,
    learners: option.Learners = None,
    courses: option.Courses = None,
    pairs: option.Pairs = None,
    all_ids: option.All = False,
    all_learners: option.AllLearners = False,
    all_courses: option.AllCourses = False,
    whole_account: option.WholeAccount = False,
    shape: option.Shape = None,
    token_file: option.TokenFile = None,
    output_format: option.Format = None,
    journal: option.Journal = None,
    restart: option.Restart = False,
    retry_quarantined: option.RetryQuarantined = False,
    batch_size: option.BatchSize = None,
    workers: option.Workers = None,
    max_workers: option.MaxWorkers = None,
    rate: option.Rate = None,
    max_outage: option.MaxOutage = "10m",
    deadline: option.Deadline = None,
    max_quarantined: option.MaxQuarantined = None,
    hedge: option.Hedge = False,
    attempts: option.Attempts = option.ATTEMPTS,
    connect_timeout: option.ConnectTimeout = option.CONNECT_TIMEOUT_S,
    read_timeout: option.ReadTimeout = option.READ_TIMEOUT_S,
    total_timeout: option.TotalTimeout = option.TOTAL_TIMEOUT_S,
    max_answer_bytes: option.MaxAnswerBytes = option.MAX_ANSWER_BYTES,
    proxy: option.Proxy = None,
    ca_bundle: option.CaBundle = None,
    soap_path: option.SoapPath = "/api/v2/soap/2.0",
    token_path: option.TokenPath = option.TOKEN_PATH,
    csv_raw: option.CsvRaw = False,
    gone: option.GoneRows = Gone.KEEP,
    allow_older: option.AllowOlder = False,
    partial: option.Partial = False,
    report: option.Report = None,
    quiet: option.Quiet = False,
    log_format: option.LogFormat = option.Style.TEXT,
) -> None:
    """Fetch every enrollment of the given ids into a file; the same command again resumes."""
    from bulkfetch.cli.asked import AskedArguments  # noqa: PLC0415
    from bulkfetch.cli.console import Console  # noqa: PLC0415
    from bulkfetch.cli.durations import read_duration  # noqa: PLC0415
    from bulkfetch.cli.export import ExportArguments  # noqa: PLC0415
    from bulkfetch.cli.export import export as run_export  # noqa: PLC0415
    from bulkfetch.http.transport import Limits  # noqa: PLC0415
    from bulkfetch.options import Options  # noqa: PLC0415
    from bulkfetch.pace.retry import RetryPolicy  # noqa: PLC0415

    def make_options() -> Options:
        return Options(
            batch_size=batch_size,
            shape=shape,
            workers=workers,
            max_workers=max_workers,
            rate=rate,
            max_outage_s=read_duration(max_outage, "--max-outage"),
            deadline_s=None if deadline is None else read_duration(deadline, "--deadline"),
            max_quarantined=max_quarantined,
            hedge=hedge,
            limits=Limits(connect_timeout, read_timeout, total_timeout, max_answer_bytes),
            retry=RetryPolicy(attempts=attempts),
            proxy=proxy,
            ca_bundle=ca_bundle,
            soap_path=soap_path,
            token_path=token_path,
        )

    run_export(
        ExportArguments(
            url=url,
            asked=AskedArguments(
                learners, courses, all_ids, all_learners, all_courses, whole_account, pairs
            ),
            output=output,
            format=output_format,
            journal=journal,
            token_file=token_file,
            restart=restart,
            retry_quarantined=retry_quarantined,
            partial=partial,
            csv_raw=csv_raw,
            gone=gone,
            allow_older=allow_older,
            report=report,
            ca_bundle=ca_bundle,
        ),
        make_options,
        Console(as_json=log_format is option.Style.JSON, is_quiet=quiet),
    )


@app.command()
def plan(
    learners: option.Learners = None,
    courses: option.Courses = None,
    pairs: option.Pairs = None,
    all_ids: option.All = False,
    all_learners: option.AllLearners = False,
    all_courses: option.AllCourses = False,
    whole_account: option.WholeAccount = False,
    shape: option.Shape = None,
    batch_size: option.BatchSizePlanned = None,
    workers: option.WorkersPlanned = None,
    rate: option.Rate = None,
    probe: option.Probe = False,
    url: option.Url = None,
    token_file: option.TokenFile = None,
    quiet: option.Quiet = False,
    log_format: option.LogFormat = option.Style.TEXT,
) -> None:
    """Show what each way of asking would cost, and which one an export would choose."""
    from bulkfetch.cli.asked import AskedArguments  # noqa: PLC0415
    from bulkfetch.cli.console import Console  # noqa: PLC0415
    from bulkfetch.cli.plan import PlanArguments  # noqa: PLC0415
    from bulkfetch.cli.plan import plan as run_plan  # noqa: PLC0415
    from bulkfetch.options import Options  # noqa: PLC0415

    def make_options() -> Options:
        given: dict[str, Any] = {
            "shape": shape,
            "batch_size": batch_size,
            "workers": workers,
            "rate": rate,
        }
        return replace(
            Options(), **{name: value for name, value in given.items() if value is not None}
        )

    run_plan(
        PlanArguments(
            AskedArguments(
                learners, courses, all_ids, all_learners, all_courses, whole_account, pairs
            ),
            url,
            token_file,
            probe,
        ),
        make_options,
        Console(as_json=log_format is option.Style.JSON, is_quiet=quiet),
    )


@app.command()
def publish(
    journal: Annotated[Path, typer.Argument(help="Journal of a finished export.")],
    output: option.Output,
    output_format: option.Format = None,
    csv_raw: option.CsvRaw = False,
    gone: option.GoneRows = Gone.KEEP,
    allow_older: option.AllowOlder = False,
    partial: Annotated[
        bool, typer.Option("--partial", help="Also of an export that has not finished.")
    ] = False,
    quiet: option.Quiet = False,
    log_format: option.LogFormat = option.Style.TEXT,
) -> None:
    """Write a further output from a journal, without a call to the service."""
    from bulkfetch.cli.console import Console  # noqa: PLC0415
    from bulkfetch.cli.publish import PublishArguments  # noqa: PLC0415
    from bulkfetch.cli.publish import publish as run_publish  # noqa: PLC0415

    run_publish(
        PublishArguments(journal, output, output_format, csv_raw, gone, allow_older, partial),
        Console(as_json=log_format is option.Style.JSON, is_quiet=quiet),
    )


@app.command()
def report(
    journal: Annotated[Path, typer.Argument(help="Journal of an export, finished or not.")],
    output: Annotated[
        Path | None,
        typer.Option("-o", "--output", help="Page to write; by default JOURNAL.html."),
    ] = None,
    quiet: option.Quiet = False,
    log_format: option.LogFormat = option.Style.TEXT,
) -> None:
    """Write a page about an export: what came, what is missing, how it went over time."""
    from bulkfetch.cli.console import Console  # noqa: PLC0415
    from bulkfetch.cli.report import report as run_report  # noqa: PLC0415

    run_report(journal, output, Console(as_json=log_format is option.Style.JSON, is_quiet=quiet))


@app.command()
def verify(
    journal: Annotated[Path, typer.Argument(help="Journal of an export.")],
    sample: Annotated[
        int | None,
        typer.Option(
            "--sample", min=1, help="How many ids, chosen at random, are asked for again; 1000."
        ),
    ] = None,
    full: Annotated[bool, typer.Option("--full", help="Ask for everything again.")] = False,
    url: option.UrlAgain = None,
    token_file: option.TokenFileAgain = None,
    report: Annotated[
        Path | None,
        typer.Option("--report", help="Write what was found there as JSON."),
    ] = None,
    limit: option.Limit = option.DIFFERENCES_SHOWN,
    workers: option.Workers = None,
    attempts: option.Attempts = option.ATTEMPTS,
    connect_timeout: option.ConnectTimeout = option.CONNECT_TIMEOUT_S,
    read_timeout: option.ReadTimeout = option.READ_TIMEOUT_S,
    total_timeout: option.TotalTimeout = option.TOTAL_TIMEOUT_S,
    max_answer_bytes: option.MaxAnswerBytes = option.MAX_ANSWER_BYTES,
    proxy: option.Proxy = None,
    ca_bundle: option.CaBundle = None,
    soap_path: option.SoapPathAgain = None,
    token_path: option.TokenPath = option.TOKEN_PATH,
    quiet: option.Quiet = False,
    log_format: option.LogFormat = option.Style.TEXT,
) -> None:
    """Ask the service again, in other calls, and name what differs; exit 3 if anything does."""
    from bulkfetch.cli.console import Console  # noqa: PLC0415
    from bulkfetch.cli.verify import VerifyArguments  # noqa: PLC0415
    from bulkfetch.cli.verify import verify as run_verify  # noqa: PLC0415
    from bulkfetch.http.transport import Limits  # noqa: PLC0415
    from bulkfetch.options import Options  # noqa: PLC0415
    from bulkfetch.pace.retry import RetryPolicy  # noqa: PLC0415

    if full and sample is not None:
        raise typer.BadParameter("--full and --sample exclude each other.")

    def make_options() -> Options:
        return Options(
            workers=workers,
            limits=Limits(connect_timeout, read_timeout, total_timeout, max_answer_bytes),
            retry=RetryPolicy(attempts=attempts),
            proxy=proxy,
            ca_bundle=ca_bundle,
            token_path=token_path,
        )

    run_verify(
        VerifyArguments(
            journal, None if full else sample or 1_000, url, soap_path, token_file, report, limit
        ),
        make_options,
        Console(as_json=log_format is option.Style.JSON, is_quiet=quiet),
    )


@app.command()
def diff(
    old: Annotated[Path, typer.Argument(help="Journal, or file that was published.")],
    new: Annotated[Path, typer.Argument(help="A later one.")],
    output: Annotated[
        str | None,
        typer.Option(
            "-o",
            "--output",
            help="Write all differences (.csv, .jsonl, .parquet; - is CSV on standard output) "
            "instead of showing the first.",
        ),
    ] = None,
    output_format: Annotated[
        str | None,
        typer.Option("--format", help="csv, jsonl or parquet, if the name does not say it."),
    ] = None,
    csv_raw: Annotated[
        bool,
        typer.Option("--csv-raw", help="CSV was published with --csv-raw; write it so, too."),
    ] = False,
    limit: option.Limit = option.DIFFERENCES_SHOWN,
    quiet: option.Quiet = False,
    log_format: option.LogFormat = option.Style.TEXT,
) -> None:
    """Say what was added, removed and changed between two exports; exit 0 when it could be told."""
    from bulkfetch.cli.console import Console  # noqa: PLC0415
    from bulkfetch.cli.diff import DiffArguments, run_diff  # noqa: PLC0415

    run_diff(
        DiffArguments(old, new, output, output_format, csv_raw, limit),
        Console(as_json=log_format is option.Style.JSON, is_quiet=quiet),
    )


@app.command()
def simulate(
    learners: Annotated[int, typer.Option("--learners", help="How many learners.")] = 50_000,
    courses: Annotated[int, typer.Option("--courses", help="How many courses.")] = 400,
    enrollments: Annotated[
        int, typer.Option("--enrollments", help="How many enrollments.")
    ] = 1_000_000,
    seed: Annotated[int, typer.Option("--seed", help="Of the data and the faults.")] = 1,
    profile: Annotated[
        str, typer.Option("--profile", help="Name or TOML file of the service's behaviour.")
    ] = "steady",
    host: Annotated[str, typer.Option("--host", help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", help="Port; 0 is any free one.")] = 0,
    ids_dir: Annotated[
        Path, typer.Option("--ids-dir", help="Where id lists and a token are written.")
    ] = Path("bulkfetch-simulator"),
    list_profiles: Annotated[
        bool, typer.Option("--list-profiles", help="Name the profiles that ship, and exit.")
    ] = False,
    quiet: option.Quiet = False,
    log_format: option.LogFormat = option.Style.TEXT,
) -> None:
    """Run a simulated account to develop against, until Ctrl-C."""
    import anyio  # noqa: PLC0415

    from bulkfetch.cli.console import Console  # noqa: PLC0415
    from bulkfetch.cli.running import ending, leave  # noqa: PLC0415
    from bulkfetch.cli.simulate import make_account, serve  # noqa: PLC0415
    from bulkfetch.simulator import load_profile, profile_names  # noqa: PLC0415

    if list_profiles:
        for name in profile_names():
            typer.echo(f"{name}\t{load_profile(name).description}")
        return
    console = Console(as_json=log_format is option.Style.JSON, is_quiet=quiet)

    async def run() -> int:
        return await serve(
            make_account(learners, courses, enrollments, seed),
            load_profile(profile),
            host=host,
            port=port,
            directory=ids_dir,
            seed=seed,
            console=console,
        )

    with ending(console, None) as result:
        number = anyio.run(run)
        result.code = 128 + number
    leave(result.code)


@app.command()
def demo(
    enrollments: Annotated[
        int, typer.Option("--enrollments", min=1, help="About how many.")
    ] = 300_000,
    directory: Annotated[
        Path, typer.Option("--directory", help="Where everything is written.")
    ] = Path("bulkfetch-demo"),
    profile: Annotated[
        str, typer.Option("--profile", help="Name or TOML file of the service's behaviour.")
    ] = "demo",
    quiet: option.Quiet = False,
    log_format: option.LogFormat = option.Style.TEXT,
) -> None:
    """Export a simulated account over real HTTP: nothing to set up."""
    from bulkfetch.cli.console import Console  # noqa: PLC0415
    from bulkfetch.cli.demo import demo as run_demo  # noqa: PLC0415

    run_demo(
        enrollments=enrollments,
        directory=directory,
        profile=profile,
        console=Console(as_json=log_format is option.Style.JSON, is_quiet=quiet),
    )


def run() -> None:
    """Run the command line."""
    sys.exit(app())
