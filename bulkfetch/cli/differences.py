"""Show differences between rows: a table on a terminal, the same without colours elsewhere."""

from collections.abc import Iterable, Mapping
from datetime import UTC, date, datetime
from typing import TextIO

from rich.console import Console as RichConsole
from rich.table import Table
from rich.text import Text

from bulkfetch.export.comparison import Difference, Kind
from bulkfetch.redact import escape_controls

_WIDTH = 200  # where it is not a terminal
_COLOURS = {Kind.ADDED: "green", Kind.REMOVED: "red", Kind.CHANGED: "yellow"}


def show_differences(
    differences: Iterable[Difference], total: int, names: Mapping[Kind, str], stream: TextIO
) -> None:
    """Show some differences, and how many there are besides.

    Args:
        differences: those to show.
        total: how many there are.
        names: what each kind is called here.
        stream: where to.
    """
    console = RichConsole(
        file=stream, markup=False, highlight=False, width=None if stream.isatty() else _WIDTH
    )
    table = Table(box=None, padding=(0, 2, 0, 0))
    for title in ("", "enrollment", "learner", "course", "old → new"):
        table.add_column(title, overflow="fold")
    shown = 0
    for difference in differences:
        shown += 1
        table.add_row(
            Text(names[difference.kind], _COLOURS[difference.kind]),
            *map(_text, (difference.enrollment_id, difference.learner_id, difference.course_id)),
            Text("\n".join(_change(name, *pair) for name, pair in difference.fields.items())),
        )
    if shown:
        console.print(table)
    if shown < total:
        console.print(f"… and {total - shown:,} more")


def plain(value: object) -> object:
    """Make a value ready for JSON."""
    if isinstance(value, datetime) and value.tzinfo is None:
        value = value.replace(tzinfo=UTC)  # as it is compared
    return value.isoformat() if isinstance(value, date) else value


def _change(name: str, old: object, new: object) -> str:
    return f"{name}: {_shown(old)} → {_shown(new)}"


def _shown(value: object) -> str:
    return "nothing" if value is None else escape_controls(str(plain(value)))


def _text(value: str) -> Text:
    return Text(escape_controls(value))
