"""Show where an export stands: a bar on a terminal, plain lines elsewhere."""

import contextlib
import time
from collections.abc import Callable, Iterator
from typing import Protocol

import anyio
from rich.console import Console as RichConsole
from rich.console import RenderableType
from rich.progress import (
    BarColumn,
    Progress,
    TaskProgressColumn,
    TextColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from bulkfetch.cli.console import Console
from bulkfetch.export.job import Progress as State

_BAR_EVERY_S = 0.1
_LINE_EVERY_S = 10.0


class Job(Protocol):
    """Whatever runs for long, can be stopped, and says where it stands."""

    async def run(self) -> None:
        """Run to the end, or raise a BulkfetchError."""

    def stop(self) -> None:
        """Have threads give up; call it before cancelling `run`."""

    def progress(self) -> State:
        """Say where it stands."""


async def show_progress(job: Job, console: Console) -> None:
    """Show a job's progress until cancelled."""
    if console.shows_bar:
        with _bar(console) as update:
            try:
                while True:
                    update(job)
                    await anyio.sleep(_BAR_EVERY_S)
            finally:
                update(job)
    while not console.is_quiet:
        await anyio.sleep(_LINE_EVERY_S)
        state = job.progress()
        console.say(
            "progress",
            f"{state.phase}: {_count_ids(state)} ids, {state.rows:,} rows, "
            f"{state.calls:,} calls, {state.in_flight} in flight, {state.retries:,} retries",
            phase=state.phase,
            ids_done=state.ids_done,
            ids_total=state.ids_total,
            rows=state.rows,
            calls=state.calls,
            in_flight=state.in_flight,
            retries=state.retries,
        )


class _TwoLines(Progress):
    """A bar with a line of numbers below it: together they would not fit 80 columns."""

    below = ""

    def get_renderables(self) -> Iterator[RenderableType]:
        yield self.make_tasks_table(self.tasks)
        yield Text(f"{'':11}{self.below}")


@contextlib.contextmanager
def _bar(console: Console) -> Iterator[Callable[[Job], None]]:
    """Draw the bar; the function given brings it up to date."""
    rich_console = RichConsole(file=console.stream, markup=False, highlight=False)
    bar = _TwoLines(
        TextColumn("{task.description:10}", markup=False),
        BarColumn(bar_width=24),
        TaskProgressColumn(),
        TextColumn("{task.fields[ids]}", markup=False),
        TextColumn("ETA", markup=False),
        TimeRemainingColumn(compact=True),
        console=rich_console,
    )
    started = time.monotonic()
    with bar:
        task = bar.add_task("opening", total=None, ids="")

        def update(job: Job) -> None:
            state = job.progress()
            elapsed = max(time.monotonic() - started, 0.001)
            speed = (state.rows - state.resumed_rows) / elapsed
            bar.below = (
                f"{state.rows:,} rows, {speed:,.0f} rows/s, "
                f"{state.in_flight} in flight, {state.retries:,} retries"
            )
            bar.update(
                task,
                description=state.phase,
                total=state.ids_total,
                completed=state.ids_done,
                ids=f"{_count_ids(state)} ids",
            )

        yield update


def _count_ids(state: State) -> str:
    if state.ids_total is None:
        return f"{state.ids_done:,}"
    return f"{state.ids_done:,} of {state.ids_total:,}"
