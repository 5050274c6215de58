"""The commands and their options. What they need is imported when they run."""

import sys
from dataclasses import replace
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

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


class LogFormat(StrEnum):
    """How standard error is written."""

    TEXT = "text"
    JSON = "json"


GoneOption = Annotated[
    Gone,
    typer.Option(
        "--gone",
        help="Rows of earlier exports in a database that are no longer in the service, where that "
        "is proven: keep them, mark them in gone_at, or delete them.",
    ),
]
AllowOlderOption = Annotated[
    bool,
    typer.Option(
        "--allow-older",
        help="Publish into a database even where that undoes rows of a later export.",
    ),
]
UrlOption = Annotated[
    str | None, typer.Option("--url", help="The service, https://…; or BULKFETCH_URL.")
]
LearnersOption = Annotated[
    str | None,
    typer.Option(
        "--learners",
        help="Learner ids: text, CSV, JSONL or Parquet, FILE or FILE:COLUMN; - is stdin.",
    ),
]
CoursesOption = Annotated[str | None, typer.Option("--courses", help="Course ids, likewise.")]
PairsOption = Annotated[
    str | None,
    typer.Option(
        "--pairs",
        help="Pairs of a learner and a course, instead: CSV, JSONL or Parquet, FILE or "
        "FILE:LEARNER,COURSE (columns); - is CSV on stdin.",
    ),
]
AllOption = Annotated[
    bool, typer.Option("--all", help="All learners and courses that the account lists.")
]
AllLearnersOption = Annotated[
    bool,
    typer.Option("--all-learners", help="All learners that it lists; with --courses or none."),
]
AllCoursesOption = Annotated[
    bool,
    typer.Option("--all-courses", help="All courses that it lists; with --learners or none."),
]
WholeAccountOption = Annotated[
    bool, typer.Option("--whole-account", help="Ask with no filter, all in a single call.")
]
ShapeOption = Annotated[
    str | None,
    typer.Option(
        "--shape",
        help="Way of asking: learners, learners-only, courses, courses-only, both or whole; "
        "the cheapest if not given (see `bulkfetch plan`).",
    ),
]
TokenFileOption = Annotated[
    str | None,
    typer.Option(
        "--token-file",
        help="File with the token; - is stdin. Or BULKFETCH_TOKEN, or BULKFETCH_CLIENT_ID "
        "with BULKFETCH_CLIENT_SECRET, with which tokens are renewed.",
    ),
]
Quiet = Annotated[bool, typer.Option("--quiet", help="Only warnings and errors on stderr.")]
LogFormatOption = Annotated[
    LogFormat, typer.Option("--log-format", help="Sentences, or one JSON object a line.")
]


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
    output: Annotated[
        str,
        typer.Option(
            "-o",
            "--output",
            help="File to write (.csv, .jsonl, .parquet, .duckdb, .sqlite), a database "
            "(postgresql://USER@HOST/DATABASE?schema=NAME), or - for standard output.",
        ),
    ],
    url: UrlOption = None,
    learners: LearnersOption = None,
    courses: CoursesOption = None,
    pairs: PairsOption = None,
    all_ids: AllOption = False,
    all_learners: AllLearnersOption = False,
    all_courses: AllCoursesOption = False,
    whole_account: WholeAccountOption = False,
    shape: ShapeOption = None,
    token_file: TokenFileOption = None,
    output_format: Annotated[
        str | None,
        typer.Option(
            "--format", help="csv, jsonl, parquet, duckdb or sqlite, if the name does not say it."
        ),
    ] = None,
    journal: Annotated[
        Path | None,
        typer.Option(
            "--journal",
            help="Where progress is kept; OUTPUT.bulkfetch if not given, for a database "
            "enrollments.postgresql.bulkfetch. With -o - and no journal nothing is kept.",
        ),
    ] = None,
    restart: Annotated[
        bool, typer.Option("--restart", help="Discard the journal and fetch anew.")
    ] = False,
    retry_quarantined: Annotated[
        bool,
        typer.Option(
            "--retry-quarantined",
            help="Ask again for the ids that the service rejected in earlier runs.",
        ),
    ] = False,
    batch_size: Annotated[
        int | None,
        typer.Option("--batch-size", help="Ids a call; found out if not given."),
    ] = None,
    workers: Annotated[
        int | None,
        typer.Option("--workers", help="Calls in flight; found out if not given."),
    ] = None,
    max_workers: Annotated[
        int, typer.Option("--max-workers", help="Most calls in flight where that is found out.")
    ] = 64,
    rate: Annotated[
        float | None,
        typer.Option("--rate", help="Most calls a second; else only the service limits them."),
    ] = None,
    max_outage: Annotated[
        str,
        typer.Option(
            "--max-outage", help="How long the service may be out before giving up: 600, 10m, 2h."
        ),
    ] = "10m",
    deadline: Annotated[
        str | None,
        typer.Option("--deadline", help="Begin no call after so long: 3600, 90m, 2h."),
    ] = None,
    max_quarantined: Annotated[
        int | None,
        typer.Option(
            "--max-quarantined", help="Stop if the service rejects more ids or pairs than this."
        ),
    ] = None,
    hedge: Annotated[
        bool,
        typer.Option(
            "--hedge", help="Make the slowest calls a second time, at most 5 % more calls."
        ),
    ] = False,
    attempts: Annotated[int, typer.Option("--attempts", help="Most attempts of a batch.")] = 6,
    connect_timeout: Annotated[
        float, typer.Option("--connect-timeout", help="Seconds to connect.")
    ] = 15.0,
    read_timeout: Annotated[
        float, typer.Option("--read-timeout", help="Seconds of silence.")
    ] = 120.0,
    total_timeout: Annotated[
        float, typer.Option("--total-timeout", help="Seconds for a whole call.")
    ] = 900.0,
    max_answer_bytes: Annotated[
        int, typer.Option("--max-answer-bytes", help="Most bytes of one answer, inflated.")
    ] = 1024 * 1024 * 1024,
    proxy: Annotated[
        str | None,
        typer.Option("--proxy", help="URL of a proxy; the environment's are not used."),
    ] = None,
    ca_bundle: Annotated[
        Path | None,
        typer.Option("--ca-bundle", help="PEM file of certificate authorities to trust."),
    ] = None,
    soap_path: Annotated[
        str, typer.Option("--soap-path", help="Where SOAP calls go, below the URL.")
    ] = "/api/v2/soap/2.0",
    token_path: Annotated[
        str, typer.Option("--token-path", help="Where tokens are asked for, below the URL.")
    ] = "/api/v3/token",
    csv_raw: Annotated[
        bool,
        typer.Option("--csv-raw", help="Leave CSV cells as they are, formulas too."),
    ] = False,
    gone: GoneOption = Gone.KEEP,
    allow_older: AllowOlderOption = False,
    partial: Annotated[
        bool,
        typer.Option(
            "--partial", help="If incomplete, write what was fetched to NAME.partial.SUFFIX."
        ),
    ] = False,
    report: Annotated[
        Path | None, typer.Option("--report", help="Write the report there as JSON.")
    ] = None,
    quiet: Quiet = False,
    log_format: LogFormatOption = LogFormat.TEXT,
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
        Console(as_json=log_format is LogFormat.JSON, is_quiet=quiet),
    )


@app.command()
def plan(
    learners: LearnersOption = None,
    courses: CoursesOption = None,
    pairs: PairsOption = None,
    all_ids: AllOption = False,
    all_learners: AllLearnersOption = False,
    all_courses: AllCoursesOption = False,
    whole_account: WholeAccountOption = False,
    shape: ShapeOption = None,
    batch_size: Annotated[
        int | None, typer.Option("--batch-size", help="Ids a call, if an export pins it.")
    ] = None,
    workers: Annotated[
        int | None, typer.Option("--workers", help="Calls in flight to reckon with.")
    ] = None,
    probe: Annotated[
        bool, typer.Option("--probe", help="Ask the account in a few small calls first.")
    ] = False,
    url: UrlOption = None,
    token_file: TokenFileOption = None,
    quiet: Quiet = False,
    log_format: LogFormatOption = LogFormat.TEXT,
) -> None:
    """Show what each way of asking would cost, and which one an export would choose."""
    from bulkfetch.cli.asked import AskedArguments  # noqa: PLC0415
    from bulkfetch.cli.console import Console  # noqa: PLC0415
    from bulkfetch.cli.plan import PlanArguments  # noqa: PLC0415
    from bulkfetch.cli.plan import plan as run_plan  # noqa: PLC0415
    from bulkfetch.options import Options  # noqa: PLC0415

    def make_options() -> Options:
        given: dict[str, Any] = {"shape": shape, "batch_size": batch_size, "workers": workers}
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
        Console(as_json=log_format is LogFormat.JSON, is_quiet=quiet),
    )


@app.command()
def publish(
    journal: Annotated[Path, typer.Argument(help="Journal of a finished export.")],
    output: Annotated[
        str,
        typer.Option(
            "-o",
            "--output",
            help="File to write (.csv, .jsonl, .parquet, .duckdb, .sqlite), a database "
            "(postgresql://USER@HOST/DATABASE?schema=NAME), or - for standard output.",
        ),
    ],
    output_format: Annotated[
        str | None,
        typer.Option(
            "--format", help="csv, jsonl, parquet, duckdb or sqlite, if the name does not say it."
        ),
    ] = None,
    csv_raw: Annotated[
        bool,
        typer.Option("--csv-raw", help="Leave CSV cells as they are, formulas too."),
    ] = False,
    gone: GoneOption = Gone.KEEP,
    allow_older: AllowOlderOption = False,
    partial: Annotated[
        bool, typer.Option("--partial", help="Also of an export that has not finished.")
    ] = False,
    quiet: Quiet = False,
    log_format: LogFormatOption = LogFormat.TEXT,
) -> None:
    """Write a further output from a journal, without a call to the service."""
    from bulkfetch.cli.console import Console  # noqa: PLC0415
    from bulkfetch.cli.publish import PublishArguments  # noqa: PLC0415
    from bulkfetch.cli.publish import publish as run_publish  # noqa: PLC0415

    run_publish(
        PublishArguments(journal, output, output_format, csv_raw, gone, allow_older, partial),
        Console(as_json=log_format is LogFormat.JSON, is_quiet=quiet),
    )


@app.command()
def report(
    journal: Annotated[Path, typer.Argument(help="Journal of an export, finished or not.")],
    output: Annotated[
        Path | None,
        typer.Option("-o", "--output", help="Page to write; by default JOURNAL.html."),
    ] = None,
    quiet: Quiet = False,
    log_format: LogFormatOption = LogFormat.TEXT,
) -> None:
    """Write a page about an export: what came, what is missing, how it went over time."""
    from bulkfetch.cli.console import Console  # noqa: PLC0415
    from bulkfetch.cli.report import report as run_report  # noqa: PLC0415

    run_report(journal, output, Console(as_json=log_format is LogFormat.JSON, is_quiet=quiet))


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
    url: Annotated[
        str | None,
        typer.Option("--url", help="The service, to confirm it: it is the journal's."),
    ] = None,
    token_file: Annotated[
        str | None,
        typer.Option("--token-file", help="File with the token, or variables, as for an export."),
    ] = None,
    report: Annotated[
        Path | None,
        typer.Option("--report", help="Write what was found there as JSON."),
    ] = None,
    limit: Annotated[
        int, typer.Option("--limit", min=0, help="How many differences are shown.")
    ] = 50,
    workers: Annotated[
        int | None,
        typer.Option("--workers", help="Calls in flight; found out if not given."),
    ] = None,
    attempts: Annotated[int, typer.Option("--attempts", help="Most attempts of a batch.")] = 6,
    connect_timeout: Annotated[
        float, typer.Option("--connect-timeout", help="Seconds to connect.")
    ] = 15.0,
    read_timeout: Annotated[
        float, typer.Option("--read-timeout", help="Seconds of silence.")
    ] = 120.0,
    total_timeout: Annotated[
        float, typer.Option("--total-timeout", help="Seconds for a whole call.")
    ] = 900.0,
    max_answer_bytes: Annotated[
        int, typer.Option("--max-answer-bytes", help="Most bytes of one answer, inflated.")
    ] = 1024 * 1024 * 1024,
    proxy: Annotated[
        str | None,
        typer.Option("--proxy", help="URL of a proxy; the environment's are not used."),
    ] = None,
    ca_bundle: Annotated[
        Path | None,
        typer.Option("--ca-bundle", help="PEM file of certificate authorities to trust."),
    ] = None,
    soap_path: Annotated[
        str | None, typer.Option("--soap-path", help="Likewise, where SOAP calls go below it.")
    ] = None,
    token_path: Annotated[
        str, typer.Option("--token-path", help="Where tokens are asked for, below the URL.")
    ] = "/api/v3/token",
    quiet: Quiet = False,
    log_format: LogFormatOption = LogFormat.TEXT,
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
        Console(as_json=log_format is LogFormat.JSON, is_quiet=quiet),
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
    limit: Annotated[
        int, typer.Option("--limit", min=0, help="How many differences are shown.")
    ] = 50,
    quiet: Quiet = False,
    log_format: LogFormatOption = LogFormat.TEXT,
) -> None:
    """Say what was added, removed and changed between two exports; exit 0 when it could be told."""
    from bulkfetch.cli.console import Console  # noqa: PLC0415
    from bulkfetch.cli.diff import DiffArguments, run_diff  # noqa: PLC0415

    run_diff(
        DiffArguments(old, new, output, output_format, csv_raw, limit),
        Console(as_json=log_format is LogFormat.JSON, is_quiet=quiet),
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
    quiet: Quiet = False,
    log_format: LogFormatOption = LogFormat.TEXT,
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
    console = Console(as_json=log_format is LogFormat.JSON, is_quiet=quiet)

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
    quiet: Quiet = False,
    log_format: LogFormatOption = LogFormat.TEXT,
) -> None:
    """Export a simulated account over real HTTP: nothing to set up."""
    from bulkfetch.cli.console import Console  # noqa: PLC0415
    from bulkfetch.cli.demo import demo as run_demo  # noqa: PLC0415

    run_demo(
        enrollments=enrollments,
        directory=directory,
        profile=profile,
        console=Console(as_json=log_format is LogFormat.JSON, is_quiet=quiet),
    )


def run() -> None:
    """Run the command line."""
    sys.exit(app())
