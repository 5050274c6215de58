"""`bulkfetch demo`: a real export over real HTTP from a simulated account, in one command."""

import contextlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anyio
import pyarrow.parquet as pq
from rich import box
from rich.console import Console as RichConsole
from rich.table import Table

from bulkfetch.cli.console import Console
from bulkfetch.cli.ids import read_ids
from bulkfetch.cli.running import Resume, ending, leave, run_job, say_stopped
from bulkfetch.cli.simulate import COURSES_FILE, LEARNERS_FILE, TOKEN_FILE
from bulkfetch.cli.summary import say_summary
from bulkfetch.errors import SinkError
from bulkfetch.export.formats import OutputFormat
from bulkfetch.export.job import ExportJob, ExportSettings
from bulkfetch.export.sinks.files import FileSink
from bulkfetch.inputs import make_region
from bulkfetch.plan.rectangle import Axis
from bulkfetch.service import Credentials
from bulkfetch.words import counted

_ROWS_SHOWN = 5
_WIDTH_SHOWN = 13  # five columns on 80
_PATIENCE_S = 5


def demo(*, enrollments: int, directory: Path, profile: str, console: Console) -> None:
    """Start the simulator, export it to Parquet, show what came, and exit."""
    resume = Resume("bulkfetch demo", is_kept=False)  # each demo is a new server
    with ending(console, resume) as result:
        learners = max(1, enrollments // 10)
        console.say(
            "demo",
            f"A simulated account: about {counted(enrollments, 'enrollment')} of "
            f"{counted(learners, 'learner')} in "
            f"300 courses, behind a real HTTP server with the profile {profile}.",
        )
        with _simulator(enrollments, learners, directory, profile) as url:
            job = ExportJob(_settings(url, directory))
            stopped_by = anyio.run(run_job, job, console, resume)
        if stopped_by is not None:
            result.code = say_stopped(console, stopped_by, resume)
        else:
            _show_rows(directory / "enrollments.parquet")
            say_summary(job, console)
            console.say("next", _what_next(directory))
    leave(result.code)


def _settings(url: str, directory: Path) -> ExportSettings:
    target = directory / "enrollments.parquet"
    return ExportSettings(
        base_url=url,
        credentials=Credentials(token=(directory / TOKEN_FILE).read_text().strip()),
        region=make_region(
            read_ids(str(directory / LEARNERS_FILE), Axis.LEARNERS),
            read_ids(str(directory / COURSES_FILE), Axis.COURSES),
        ),
        sink=FileSink(target, OutputFormat.PARQUET),
        journal=directory / "enrollments.parquet.bulkfetch",
        restart=True,  # each demo is a new server
    )


@contextlib.contextmanager
def _simulator(enrollments: int, learners: int, directory: Path, profile: str) -> Iterator[str]:
    """Run the simulator as a process of its own, on a free port, and give its URL.

    Raises:
        SinkError: it did not start.
    """
    command = [sys.executable, "-m", "bulkfetch", "simulate", f"--enrollments={enrollments}"]
    command += [f"--learners={learners}", "--courses=300", f"--profile={profile}", "--quiet"]
    command += [f"--ids-dir={directory}", "--port=0"]
    # A session of its own: Ctrl-C is for the export, which ends the simulator when it is done.
    with subprocess.Popen(  # noqa: S603 - this program itself
        command, stdout=subprocess.PIPE, text=True, start_new_session=True
    ) as process:
        try:
            assert process.stdout is not None
            url = process.stdout.readline().strip()
            if not url:
                raise SinkError("The simulator did not start; its own message stands above.")
            yield url
        finally:
            process.terminate()
            try:
                process.wait(_PATIENCE_S)
            except subprocess.TimeoutExpired:
                process.kill()


def _show_rows(path: Path) -> None:
    """Print the first rows as a table on standard output."""
    rows: list[dict[str, Any]] = next(pq.ParquetFile(path).iter_batches(_ROWS_SHOWN)).to_pylist()
    table = Table(box=box.SIMPLE_HEAD, title="The first rows", title_justify="left")
    shown = ("enrollment_id", "course_id", "learner_id", "access_date", "due_date")
    for name in shown:
        table.add_column(name, no_wrap=True, overflow="ellipsis", max_width=_WIDTH_SHOWN)
    for row in rows:
        table.add_row(*("" if row[name] is None else str(row[name]) for name in shown))
    with contextlib.suppress(OSError):
        RichConsole(markup=False, highlight=False).print(table)


def _what_next(directory: Path) -> str:
    return (
        f"The ids that were asked for: {directory / LEARNERS_FILE}, {directory / COURSES_FILE}\n"
        "For a real account:\n"
        "  bulkfetch export --url https://api-learn.ispring.com --token-file token.txt \\\n"
        "      --learners learners.csv --courses courses.txt -o enrollments.parquet"
    )
