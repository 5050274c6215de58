"""The runs of an export, as a table: when each was, and what it added."""

from collections.abc import Sequence
from datetime import UTC, datetime

from bulkfetch.export.journal_runs import RunTimes
from bulkfetch.export.page.parts import section, show_count, table
from bulkfetch.words import counted

_RUNS_SHOWN = 100


def show_runs(runs: Sequence[RunTimes]) -> str:
    """Show the last hundred runs."""
    first = max(0, len(runs) - _RUNS_SHOWN)
    rows = [
        [
            str(number),
            show_time(run.started_at),
            '<span class="faint">was killed</span>'
            if run.ended_at is None
            else show_time(run.ended_at),
            *map(show_count, (run.calls, run.retries, run.batches, run.rows)),
        ]
        for number, run in enumerate(runs[first:], first + 1)
    ]
    heads = ["Run", "From (UTC)", "To (UTC)", "Calls", "Retries", "Batches", "Rows"]
    left_out = counted(first, "run before these is", "runs before these are")
    before = f'<p class="faint">{left_out} left out.</p>' if first else ""
    return section("Runs", table(heads, rows, texts=3) + before) if rows else ""


def show_time(seconds: float) -> str:
    """Show a time since 1970, which may be broken between day and hour and nowhere else."""
    day, hour = datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%S").split()
    return f'<span class="whole">{day}</span> <span class="whole">{hour}</span>'
