"""The building blocks of the page: sections, tables, legends, numbers and ids as text."""

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

Json = Mapping[str, Any]

_IDS_SHOWN = 20
_BYTES = (("GB", 1e9), ("MB", 1e6), ("kB", 1e3))
_SWATCH = 'width="24" height="10" rx="2"'


def section(title: str, body: str) -> str:
    """Make a section of the page; the body is HTML."""
    return f"<section>\n<h2>{title}</h2>\n{body}\n</section>"


def table(heads: Sequence[str], rows: Sequence[Sequence[str]], *, texts: int = 1) -> str:
    """Make a table of cells that are HTML; the first so many columns are text, the rest numbers."""

    def cells(tag: str, values: Sequence[str]) -> str:
        return "".join(
            f'<{tag} class="text">{value}</{tag}>' if at < texts else f"<{tag}>{value}</{tag}>"
            for at, value in enumerate(values)
        )

    head = f"<thead><tr>{cells('th', heads)}</tr></thead>" if any(heads) else ""
    body = "".join(f"<tr>{cells('td', row)}</tr>" for row in rows)
    return f'<div class="scroll"><table>{head}<tbody>{body}</tbody></table></div>'


def legend(entries: Sequence[tuple[str, str, str]]) -> str:
    """Make a legend of (class, name, kind): a line, or a filled box for a band or a state."""
    items = []
    for css, name, kind in entries:
        is_line = css in ("first", "second") and not kind
        shape = (
            f'<path class="{css}" d="M0 5H24"/>' if is_line else f'<rect class="{css}" {_SWATCH}/>'
        )
        items.append(f'<li><svg viewBox="0 0 24 10" aria-hidden="true">{shape}</svg>{name}</li>')
    return f'<ul class="legend">{"".join(items)}</ul>'


def show_ids(ids: Sequence[str] | None) -> str:
    """Show the first of some ids; None is any."""
    if ids is None:
        return '<span class="faint">any</span>'
    shown = ", ".join(map(show_code, ids[:_IDS_SHOWN]))
    return shown + (f" and {len(ids) - _IDS_SHOWN:,} more" if len(ids) > _IDS_SHOWN else "")


def show_code(value: object) -> str:
    """Show a text letter by letter."""
    return f"<code>{escape(str(value))}</code>"


def and_more(count: int, shown: int) -> str:
    """Say how many are not shown."""
    rest = count - shown
    return f'<p class="faint">… and {rest:,} more: see the report.</p>' if rest > 0 else ""


def part_of(value: Json, key: str) -> Json:
    """Return the mapping under a key; an empty one if there is none."""
    found = value.get(key)
    return found if isinstance(found, Mapping) else {}


def show_count(value: float | None) -> str:
    """Show a whole number; None where it is not known."""
    return "–" if value is None else f"{value:,.0f}"


def show_bytes(value: float | None) -> str:
    """Show a size in the largest unit that fits; None where it is not known."""
    if value is None:
        return "–"
    for suffix, divisor in _BYTES:
        if value >= divisor:
            return f"{value / divisor:,.1f} {suffix}"
    return f"{value:,.0f} B"
