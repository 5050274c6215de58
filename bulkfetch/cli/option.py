"""The options of the commands, each once: its type, its name, its words.

Several commands have most of them. A default is beside its use where commands differ in it, and
here where they agree.
"""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from bulkfetch.export.sinks.postgres import Gone

ATTEMPTS = 6
CONNECT_TIMEOUT_S = 15.0
READ_TIMEOUT_S = 120.0
TOTAL_TIMEOUT_S = 900.0
MAX_ANSWER_BYTES = 1024 * 1024 * 1024
TOKEN_PATH = "/api/v3/token"  # noqa: S105 - a path is no password
DIFFERENCES_SHOWN = 50


_OPTIONS = {
    "max_outage_s": "--max-outage",
    "deadline_s": "--deadline",
    "retry.attempts": "--attempts",
    "limits.connect_s": "--connect-timeout",
    "limits.read_s": "--read-timeout",
    "limits.total_s": "--total-timeout",
    "limits.answer_bytes": "--max-answer-bytes",
}


def option_of(setting: str) -> str:
    """Return the option that gives a setting of the library."""
    return _OPTIONS.get(setting) or f"--{setting.replace('_', '-')}"


class Style(StrEnum):
    """How standard error is written."""

    TEXT = "text"
    JSON = "json"


# The service, and who asks.
Url = Annotated[str | None, typer.Option("--url", help="The service, https://…; or BULKFETCH_URL.")]
UrlAgain = Annotated[
    str | None, typer.Option("--url", help="The service, to confirm it: it is the journal's.")
]
TokenFile = Annotated[
    str | None,
    typer.Option(
        "--token-file",
        help="File with the token; - is stdin. Or BULKFETCH_TOKEN, or BULKFETCH_CLIENT_ID "
        "with BULKFETCH_CLIENT_SECRET, with which tokens are renewed.",
    ),
]
TokenFileAgain = Annotated[
    str | None,
    typer.Option("--token-file", help="File with the token, or variables, as for an export."),
]
Proxy = Annotated[
    str | None, typer.Option("--proxy", help="URL of a proxy; the environment's are not used.")
]
CaBundle = Annotated[
    Path | None,
    typer.Option("--ca-bundle", help="PEM file of certificate authorities to trust."),
]
SoapPath = Annotated[str, typer.Option("--soap-path", help="Where SOAP calls go, below the URL.")]
SoapPathAgain = Annotated[
    str | None, typer.Option("--soap-path", help="Likewise, where SOAP calls go below it.")
]
TokenPath = Annotated[
    str, typer.Option("--token-path", help="Where tokens are asked for, below the URL.")
]

# What is asked for.
Learners = Annotated[
    str | None,
    typer.Option(
        "--learners",
        help="Learner ids: text, CSV, JSONL or Parquet, FILE or FILE:COLUMN; - is stdin.",
    ),
]
Courses = Annotated[str | None, typer.Option("--courses", help="Course ids, likewise.")]
Pairs = Annotated[
    str | None,
    typer.Option(
        "--pairs",
        help="Pairs of a learner and a course, instead: CSV, JSONL or Parquet, FILE or "
        "FILE:LEARNER,COURSE (columns); - is CSV on stdin.",
    ),
]
All = Annotated[
    bool, typer.Option("--all", help="All learners and courses that the account lists.")
]
AllLearners = Annotated[
    bool,
    typer.Option("--all-learners", help="All learners that it lists; with --courses or none."),
]
AllCourses = Annotated[
    bool,
    typer.Option("--all-courses", help="All courses that it lists; with --learners or none."),
]
WholeAccount = Annotated[
    bool, typer.Option("--whole-account", help="Ask with no filter, all in a single call.")
]

# How it is asked for.
Shape = Annotated[
    str | None,
    typer.Option(
        "--shape",
        help="Way of asking: learners, learners-only, courses, courses-only, both or whole; "
        "the cheapest if not given (see `bulkfetch plan`).",
    ),
]
BatchSize = Annotated[
    int | None,
    typer.Option(
        "--batch-size",
        help="Learners a call, or courses where it names no learners; found out if not given.",
    ),
]
BatchSizePlanned = Annotated[
    int | None,
    typer.Option("--batch-size", help="Learners (or courses) a call, if an export pins it."),
]
Workers = Annotated[
    int | None, typer.Option("--workers", help="Calls in flight; found out if not given.")
]
WorkersPlanned = Annotated[
    int | None, typer.Option("--workers", help="Calls in flight to reckon with.")
]
MaxWorkers = Annotated[
    int | None,
    typer.Option(
        "--max-workers", help="Most calls in flight where that is found out; 64 if not given."
    ),
]
Rate = Annotated[
    float | None,
    typer.Option("--rate", help="Most calls a second; else only the service limits them."),
]
MaxOutage = Annotated[
    str,
    typer.Option(
        "--max-outage", help="How long the service may be out before giving up: 600, 10m, 2h."
    ),
]
Deadline = Annotated[
    str | None, typer.Option("--deadline", help="Begin no call after so long: 3600, 90m, 2h.")
]
MaxQuarantined = Annotated[
    int | None,
    typer.Option(
        "--max-quarantined", help="Stop if the service rejects more ids or pairs than this."
    ),
]
Hedge = Annotated[
    bool,
    typer.Option("--hedge", help="Make the slowest calls a second time, at most 5 % more calls."),
]
Attempts = Annotated[int, typer.Option("--attempts", help="Most attempts of a batch.")]
ConnectTimeout = Annotated[float, typer.Option("--connect-timeout", help="Seconds to connect.")]
ReadTimeout = Annotated[float, typer.Option("--read-timeout", help="Seconds of silence.")]
TotalTimeout = Annotated[float, typer.Option("--total-timeout", help="Seconds for a whole call.")]
MaxAnswerBytes = Annotated[
    int, typer.Option("--max-answer-bytes", help="Most bytes of one answer, inflated.")
]
Probe = Annotated[
    bool,
    typer.Option(
        "--probe", help="Ask the account in a few small calls first; their rows are not kept."
    ),
]

# The journal.
Journal = Annotated[
    Path | None,
    typer.Option(
        "--journal",
        help="Where progress is kept; OUTPUT.bulkfetch if not given, for a database "
        "enrollments.postgresql.bulkfetch. With -o - and no journal nothing is kept.",
    ),
]
Restart = Annotated[bool, typer.Option("--restart", help="Discard the journal and fetch anew.")]
RetryQuarantined = Annotated[
    bool,
    typer.Option(
        "--retry-quarantined",
        help="Ask again for the ids that the service rejected in earlier runs.",
    ),
]

# What is written.
Output = Annotated[
    str,
    typer.Option(
        "-o",
        "--output",
        help="File to write (.csv, .jsonl, .parquet, .duckdb, .sqlite), a database "
        "(postgresql://USER@HOST/DATABASE?schema=NAME), or - for standard output.",
    ),
]
Format = Annotated[
    str | None,
    typer.Option(
        "--format", help="csv, jsonl, parquet, duckdb or sqlite, if the name does not say it."
    ),
]
CsvRaw = Annotated[
    bool, typer.Option("--csv-raw", help="Leave CSV cells as they are, formulas too.")
]
GoneRows = Annotated[
    Gone,
    typer.Option(
        "--gone",
        help="Rows of earlier exports in a database that are no longer in the service, where that "
        "is proven: keep them, mark them in gone_at, or delete them.",
    ),
]
AllowOlder = Annotated[
    bool,
    typer.Option(
        "--allow-older",
        help="Publish into a database even where that undoes rows of a later export.",
    ),
]
Partial = Annotated[
    bool,
    typer.Option("--partial", help="If incomplete, write what was fetched to NAME.partial.SUFFIX."),
]
Report = Annotated[Path | None, typer.Option("--report", help="Write the report there as JSON.")]

# What is shown.
Limit = Annotated[int, typer.Option("--limit", min=0, help="How many differences are shown.")]
Quiet = Annotated[bool, typer.Option("--quiet", help="Only warnings and errors on stderr.")]
LogFormat = Annotated[
    Style, typer.Option("--log-format", help="Sentences, or one JSON object a line.")
]
