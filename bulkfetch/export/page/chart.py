"""Charts over time as inline SVG: lines, steps, bars, shaded bands, ticks at round numbers.

No library draws SVG without bringing a script, a font or a hundred megabytes along, and four small
charts need little: a scale, a path, a few ticks. Colours and strokes are the style sheet's, by
class, so that the page is light or dark as its reader wishes. What a chart shows is also said: a
title and a summary for those who do not see it, and a hint for each stretch under the pointer.
"""

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from html import escape

_WIDTH, _HEIGHT = 900.0, 190.0
_LEFT, _TOP, _BOTTOM = 58.0, 8.0, 24.0
_RIGHT = 34.0  # half of the widest time, which stands below the axis's end
_MOST_TIME_TICKS = 9
_VALUE_TICKS = 4
_MARK_WIDTH = 90.0
_MINUTE_S, _HOUR_S, _DAY_S = 60.0, 3_600.0, 86_400.0
_TIME_STEPS_S = (
    *(0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30),
    *(_MINUTE_S * step for step in (1, 2, 5, 10, 15, 30)),
    *(_HOUR_S * step for step in (1, 2, 3, 6, 12)),
    *(_DAY_S * step for step in (1, 2, 5, 10, 20, 50, 100)),
)

Point = tuple[float, float | None]


@dataclass(frozen=True, slots=True)
class Line:
    """A line of points (seconds, value); a value of None is a gap. Steps hold until the next."""

    css: str
    points: Sequence[Point]
    is_stepped: bool = True


@dataclass(frozen=True, slots=True)
class Bars:
    """Bars of equal width from (seconds, value) on."""

    css: str
    points: Sequence[Point]
    width_s: float


@dataclass(frozen=True, slots=True)
class Chart:
    """What to draw.

    Attributes:
        title: what it is.
        summary: what it shows, in words.
        end_s: where the time axis ends; it begins at 0.
        bands: stretches to shade: class, from, to.
        hints: texts for stretches of equal width: (seconds, text).
        hint_width_s: of each.
        unit: of the values.
        marks: lines across the time axis: (seconds, text).
    """

    title: str
    summary: str
    end_s: float
    series: Sequence[Line | Bars]
    bands: Sequence[tuple[str, float, float]] = ()
    hints: Sequence[tuple[float, str]] = ()
    hint_width_s: float = 0.0
    unit: str = ""
    marks: Sequence[tuple[float, str]] = ()


def draw(chart: Chart) -> str:
    """Return a chart as an SVG element."""
    values = [value for one in chart.series for _, value in one.points if value is not None]
    step = round_step(max(values, default=0.0) / _VALUE_TICKS)
    top = max(step, math.ceil(max(values, default=0.0) / step) * step)
    scale = _Scale(max(chart.end_s, 1e-6), top)
    label = escape(f"{chart.title}. {chart.summary}")
    parts = [
        f'<svg viewBox="0 0 {_WIDTH:g} {_HEIGHT:g}" role="img" aria-label="{label}">',
        *(scale.band(*band) for band in chart.bands),
        *_grid(scale, step, chart.unit),
        *(scale.bars(one) if isinstance(one, Bars) else scale.line(one) for one in chart.series),
        *_marks(scale, chart.marks),
        *(scale.hint(start_s, chart.hint_width_s, text) for start_s, text in chart.hints),
        "</svg>",
    ]
    return "".join(parts)


@dataclass(frozen=True, slots=True)
class _Scale:
    """Seconds and values to places in the picture."""

    end_s: float
    top: float

    def x(self, seconds: float) -> float:
        share = min(1.0, max(0.0, seconds / self.end_s))
        return round(_LEFT + share * (_WIDTH - _LEFT - _RIGHT), 1)

    def y(self, value: float) -> float:
        return round(_HEIGHT - _BOTTOM - value / self.top * (_HEIGHT - _TOP - _BOTTOM), 1)

    def line(self, line: Line) -> str:
        path, is_drawing, before = [], False, 0.0
        for seconds, value in line.points:
            if value is None:
                if is_drawing and line.is_stepped:
                    path.append(f"H{self.x(seconds):g}")
                is_drawing = False
                continue
            x, y = self.x(seconds), self.y(value)
            if is_drawing and line.is_stepped:
                path.append(f"H{x:g}")
            if not is_drawing or y != before or not line.is_stepped:
                path.append(f"{'L' if is_drawing else 'M'}{x:g} {y:g}")
            is_drawing, before = True, y
        if is_drawing and line.is_stepped:
            path.append(f"H{self.x(self.end_s):g}")
        return f'<path class="{line.css}" d="{"".join(path)}"/>'

    def bars(self, bars: Bars) -> str:
        path = []
        for seconds, value in bars.points:
            if value:
                left, right = self.x(seconds), self.x(seconds + bars.width_s)
                gap = min(1.0, (right - left) / 4)
                path.append(f"M{left + gap:g} {self.y(0):g}V{self.y(value):g}H{right - gap:g}V")
                path.append(f"{self.y(0):g}Z")
        return f'<path class="{bars.css}" d="{"".join(path)}"/>'

    def band(self, css: str, start_s: float, end_s: float) -> str:
        return self._box(css, start_s, end_s, "")

    def hint(self, start_s: float, width_s: float, text: str) -> str:
        return self._box("hint", start_s, start_s + width_s, f"<title>{escape(text)}</title>")

    def _box(self, css: str, start_s: float, end_s: float, inside: str) -> str:
        left, right = self.x(start_s), self.x(end_s)
        return (
            f'<rect class="{css}" x="{left:g}" y="{_TOP:g}" width="{max(1.0, right - left):g}"'
            f' height="{_HEIGHT - _TOP - _BOTTOM:g}">{inside}</rect>'
        )


def _grid(scale: _Scale, step: float, unit: str) -> Iterator[str]:
    """Yield lines and numbers of both axes."""
    for number in range(round(scale.top / step) + 1):
        y = scale.y(number * step)
        css = "axis" if number == 0 else "grid"
        yield f'<path class="{css}" d="M{_LEFT:g} {y:g}H{_WIDTH - _RIGHT:g}"/>'
        label = f"{show_number(number * step)}{unit}"
        yield f'<text class="tick" x="{_LEFT - 6:g}" y="{y + 4:g}" text-anchor="end">{label}</text>'
    for seconds in time_ticks(scale.end_s):
        x = scale.x(seconds)
        yield f'<path class="axis" d="M{x:g} {scale.y(0):g}v4"/>'
        yield (
            f'<text class="tick" x="{x:g}" y="{_HEIGHT - 6:g}" text-anchor="middle">'
            f"{show_seconds(seconds)}</text>"
        )


def _marks(scale: _Scale, marks: Iterable[tuple[float, str]]) -> Iterator[str]:
    """Yield lines across, with their texts where there is room."""
    free_from = 0.0
    for seconds, text in marks:
        x = scale.x(seconds)
        yield f'<path class="mark" d="M{x:g} {_TOP:g}V{scale.y(0):g}"/>'
        if x >= free_from:
            free_from = x + _MARK_WIDTH
            side, dx = ("end", -4) if free_from > _WIDTH else ("start", 4)
            yield (
                f'<text class="tick" x="{x + dx:g}" y="{_TOP + 10:g}" text-anchor="{side}">'
                f"{escape(text)}</text>"
            )


def round_step(at_least: float) -> float:
    """Return the smallest of 1, 2, 5 × 10ⁿ that is no less; 1 for nothing."""
    if at_least <= 0:
        return 1.0
    power = 10.0 ** math.floor(math.log10(at_least))
    for factor in (1, 2, 5):
        if factor * power >= at_least * (1 - 1e-9):
            return factor * power
    return 10 * power


def time_ticks(end_s: float) -> Iterable[float]:
    """Return round times from 0 to the end, a handful."""
    step_s = next((s for s in _TIME_STEPS_S if end_s / s <= _MOST_TIME_TICKS), end_s / 5)
    return [number * step_s for number in range(int(end_s / step_s * (1 + 1e-9)) + 1)]


def show_number(value: float) -> str:
    """Write a number shortly: 1,500 is 1.5k."""
    for divisor, suffix in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= divisor:
            return f"{value / divisor:.3g}{suffix}"
    return f"{value:.3g}"


def show_seconds(seconds: float) -> str:
    """Write a duration: 0.5 s, 42 s, 3:07 min, 2:15 h, 3 d 04 h."""
    if seconds < 1:
        return f"{seconds:.2g} s" if seconds else "0"
    if seconds < _MINUTE_S:
        return f"{seconds:.3g} s"
    whole = round(seconds)
    if whole < _HOUR_S:
        return f"{whole // 60}:{whole % 60:02} min"
    if whole < _DAY_S:
        return f"{whole // 3600}:{whole // 60 % 60:02} h"
    return f"{whole // 86_400} d {whole // 3600 % 24:02} h"
