"""Show where an export stands: a bar on a terminal, plain lines elsewhere.

An outage of the service is said once when it begins and once when it ends, in both, and so is a
time in which it refuses all calls, if it lasts; a long wait that the service asks for is said once.
"""

import contextlib
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Protocol

import anyio
from rich.console import Console as RichConsole
from rich.console import RenderableType
from rich.progress import (
    BarColumn,
    Progress,
    Task,
    TextColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from bulkfetch.cli.console import Console
from bulkfetch.export.job import Progress as State
from bulkfetch.export.job import Unreachable
from bulkfetch.redact import escape_controls
from bulkfetch.words import counted

_BAR_EVERY_S = 0.1
_LOOK_EVERY_S = 0.25
_LOOKS_PER_LINE = 40  # a line every ten seconds
_LONG_WAIT_S = 10.0
_REFUSED_FOR_S = 5.0  # before it is worth a line: a service that limits calls refuses some
_LONGER = 2.0  # times as long, where it was said before


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
    news = News()
    if console.shows_bar:
        with _bar(console) as (bar, update):

            def look() -> None:
                update(job, is_over=False)
                if line := news.note(job.progress()):
                    bar.console.print(Text(escape_controls(line.text)), soft_wrap=True)

            try:
                while True:
                    look()
                    await anyio.sleep(_BAR_EVERY_S)
            finally:  # an outage may have ended since the last look, here and below
                look()
                update(job, is_over=True)
    if console.is_quiet:
        return
    try:
        await _say_lines(job, console, news)
    finally:
        _say_news(job.progress(), console, news)


async def _say_lines(job: Job, console: Console, news: "News") -> None:
    looks = 0
    while True:
        await anyio.sleep(_LOOK_EVERY_S)
        looks += 1
        state = job.progress()
        _say_news(state, console, news)
        if looks % _LOOKS_PER_LINE:
            continue
        console.say(
            "progress",
            f"{state.phase}: {_count_ids(state)}, {counted(state.rows, 'row')}, "
            f"{counted(state.calls, 'call')}, {_effort(state)}",
            phase=state.phase,
            ids_done=state.ids_done,
            ids_total=state.ids_total,
            rows=state.rows,
            calls=state.calls,
            in_flight=state.in_flight,
            retries=state.retries,
        )


def _say_news(state: State, console: Console, news: "News") -> None:
    if line := news.note(state):
        console.say(line.event, line.text, **line.details)


@dataclass(frozen=True, slots=True)
class NewsLine:
    """What to say of the service: an event, a sentence, and the same for machines."""

    event: str
    text: str
    details: dict[str, object]


class News:
    """Knows what was said of outages and of waits, and says each beginning and each end once."""

    def __init__(self) -> None:
        self._since: float | None = None
        self._refused_for_s = _REFUSED_FOR_S
        self._waits_until = 0.0

    def note(self, state: State) -> NewsLine | None:
        """Look at where a job stands; return what is new, if anything is."""
        return self._note_outage(state) or self._note_wait(state)

    def _note_wait(self, state: State) -> NewsLine | None:
        until, now = state.waits_until, time.time()
        if until is None or until - max(now, self._waits_until) < _LONG_WAIT_S:
            return None
        self._waits_until = until
        return NewsLine(
            "wait",
            f"The service asks to wait: no call begins before {_clock(until)}.",
            {"until": until},
        )

    def _note_outage(self, state: State) -> NewsLine | None:
        now, since = state.unreachable, self._since
        if now is not None and since is None and self._is_worth_a_line(now, state):
            self._since = now.since
            return NewsLine("outage", _say_outage(now), {"state": "began", **asdict(now)})
        if now is None and since is not None:
            self._since = None
            took_s = time.time() - since
            self._refused_for_s = max(self._refused_for_s, _LONGER * took_s)
            return NewsLine(
                "outage",
                f"The service answers again, after {took_s:,.0f} s.",
                {"state": "ended", "seconds": round(took_s, 1)},
            )
        return None

    def _is_worth_a_line(self, outage: Unreachable, state: State) -> bool:
        """Whether it is an outage, or the service has refused for long, and a next try is known.

        Where a quota is used up every minute, that is said once.
        """
        if outage.gives_up_at is not None:
            return True
        is_asking, is_told = state.in_flight > 0, state.waits_until is not None
        has_lasted = time.time() - outage.since >= self._refused_for_s
        return has_lasted and not is_asking and not is_told


def _say_outage(outage: Unreachable) -> str:
    does, end = "refuses all calls", ""
    if outage.gives_up_at is not None:
        does, end = "is out", f", gives up at {_clock(outage.gives_up_at)}"
    return (
        f"The service {does} since {_clock(outage.since)}: {outage.cause} All calls wait; next try "
        f"at {_clock(outage.next_probe_at)}{end}."
    )


def _clock(since_1970: float) -> str:
    return datetime.fromtimestamp(since_1970).astimezone().strftime("%H:%M:%S")


class _TwoLines(Progress):
    """A bar with a line of numbers below it: together they would not fit 80 columns."""

    below = ""

    def get_renderables(self) -> Iterator[RenderableType]:
        yield self.make_tasks_table(self.tasks)
        yield Text(f"{'':11}{self.below}")


class _Remaining(TimeRemainingColumn):
    """The time that is left, unless the run is over, whatever it has left undone."""

    def render(self, task: Task) -> Text:
        """Return it with its name."""
        if task.fields["is_over"]:
            return Text("")
        return Text("ETA ").append_text(super().render(task))


class Update(Protocol):
    """Brings the bar up to date."""

    def __call__(self, job: Job, *, is_over: bool) -> None:
        """Show where the job stands."""


@contextlib.contextmanager
def _bar(console: Console) -> Iterator[tuple[Progress, Update]]:
    """Draw the bar; the function given with it brings it up to date."""
    rich_console = RichConsole(file=console.stream, markup=False, highlight=False)
    bar = _TwoLines(
        TextColumn("{task.description:10}", markup=False),
        BarColumn(bar_width=24),
        TextColumn("{task.fields[share]}", markup=False),
        TextColumn("{task.fields[ids]}", markup=False),
        _Remaining(compact=True),
        console=rich_console,
    )
    started = time.monotonic()
    with bar:
        task = bar.add_task("opening", total=None, ids="", share="", is_over=False)

        def update(job: Job, *, is_over: bool) -> None:
            state = job.progress()
            elapsed = max(time.monotonic() - started, 0.001)
            speed = (state.rows - state.resumed_rows) / elapsed
            bar.below = f"{counted(state.rows, 'row')}, {speed:,.0f} rows/s, {_effort(state)}"
            bar.update(
                task,
                description=state.phase,
                total=state.ids_total,
                completed=state.ids_done,
                ids=_count_ids(state),
                share=_share(state),
                is_over=is_over,
            )

        yield bar, update


def _share(state: State) -> str:
    """Return how much is done, never rounded up: 100 % is all."""
    return f"{100 * state.ids_done // state.ids_total:3}%" if state.ids_total else ""


def _count_ids(state: State) -> str:
    if state.ids_total is None:
        return counted(state.ids_done, "id")
    return f"{state.ids_done:,} of {counted(state.ids_total, 'id')}"


def _effort(state: State) -> str:
    return f"{state.in_flight} in flight, {counted(state.retries, 'retry', 'retries')}"
