"""The pictures of the page: how the runs went over time."""

from collections.abc import Callable, Sequence
from datetime import UTC, datetime

from bulkfetch.export.page.chart import Bars, Chart, Line, draw, show_seconds
from bulkfetch.export.page.history import History, Moment
from bulkfetch.export.page.parts import legend, section, show_count, table
from bulkfetch.words import counted

_BARS_KEPT = 120
_ROWS_OF_NUMBERS = 40


def draw_history(history: History | None) -> str:
    """Draw how it went over time."""
    if history is None:
        return ""
    few = history.summed(_BARS_KEPT)
    shown = [
        (phase, name, css)
        for phase, name, css in (
            ("gate", "waiting, as the service asked", "gate"),
            ("outage", "outage", "outage"),
        )
        if any(True for _ in history.phases(phase))
    ]
    bands = [(css, *stretch) for phase, _, css in shown for stretch in history.phases(phase)]
    hints = [(moment.t, _hint(moment, few.interval_s)) for moment in few.moments]
    marks = [
        (mark.t, datetime.fromtimestamp(mark.at, UTC).strftime("%b %d, %H:%M"))
        for mark in history.marks
    ]
    swatches = [(css, name, "band") for _, name, css in shown]

    def panel(
        title: str,
        summary: str,
        series: Sequence[Line | Bars],
        key: Sequence[tuple[str, str, str]],
        unit: str = "",
    ) -> str:
        picture = draw(
            Chart(title, summary, few.duration_s, series, bands, hints, few.interval_s, unit, marks)
        )
        return f"<h3>{title}</h3>{legend([*key, *swatches])}{picture}"

    moments, bars = history.moments, few.interval_s
    rows_a_second = Bars("bars", [(m.t, m.rows / bars) for m in few.moments], bars)
    panels = [
        panel(
            "Calls in flight and their limit",
            f"At most {show_count(max(m.in_flight for m in moments))} in flight; "
            f"the limit ended at {show_count(moments[-1].limit)}.",
            [_line("second", history, lambda m: m.limit), _line("first", history, _in_flight)],
            [("first", "in flight", ""), ("second", "limit", "")],
        ),
        panel(
            "Batch size",
            "From {} to {} ids a call.".format(
                *(show_count(moments[at].batch_size) for at in (0, -1))
            ),
            [_line("first", history, lambda m: m.batch_size or None)],
            [("first", "ids a call", "")],
        ),
        panel(
            "Latency",
            "Median of the calls that succeeded.",
            [Line("first", few.series(lambda m: m.latency_s), is_stepped=False)],
            [("first", "median of the calls that succeeded", "")],
            " s",
        ),
        panel(
            "Calls and retries",
            f"{counted(sum(m.calls for m in moments), 'call')},"
            f" {counted(sum(m.retries for m in moments), 'retry', 'retries')}.",
            [
                Bars("bars", [(m.t, m.calls) for m in few.moments], bars),
                Bars("retries", [(m.t, m.retries) for m in few.moments], bars),
            ],
            [
                ("bars", f"calls in {show_seconds(bars)}", "band"),
                ("retries", "retries", "band"),
            ],
        ),
        panel("Rows a second", "", [rows_a_second], [("bars", "rows a second", "band")]),
    ]
    resumed = (
        "<p class='faint'>Dotted lines: the export was resumed, at the time beside them (UTC)."
        " The time between the runs is left out.</p>"
    )
    words = resumed if history.marks else ""
    return section("Over time", words + "".join(panels) + _numbers(history))


def _in_flight(moment: Moment) -> float | None:
    return moment.in_flight


def _line(css: str, history: History, value: Callable[[Moment], float | None]) -> Line:
    return Line(css, history.series(value))


def _hint(moment: Moment, interval_s: float) -> str:
    latency = "–" if moment.latency_s is None else show_seconds(moment.latency_s)
    return (
        f"{show_seconds(moment.t)} to {show_seconds(moment.t + interval_s)}: "
        f"{moment.in_flight:,.0f} in flight of {moment.limit:,.0f}, "
        f"{counted(moment.batch_size, 'id')} a call, latency {latency}, "
        f"{counted(moment.calls, 'call')}, {counted(moment.retries, 'retry', 'retries')}, "
        f"{counted(moment.rows, 'row')}"
    )


def _numbers(history: History) -> str:
    """Give the same in a table, for those who cannot see the pictures."""
    heads = ["From", "In flight", "Limit", "Ids a call", "Latency", "Calls", "Retries", "Rows"]
    rows = [
        [
            show_seconds(m.t),
            *map(show_count, (m.in_flight, m.limit, m.batch_size)),
            "–" if m.latency_s is None else show_seconds(m.latency_s),
            *map(show_count, (m.calls, m.retries, m.rows)),
        ]
        for m in history.summed(_ROWS_OF_NUMBERS).moments
    ]
    return f"<details><summary>The same in numbers</summary>{table(heads, rows)}</details>"
