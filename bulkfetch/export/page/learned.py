"""What was learned of the service, in words; see `bulkfetch.pace.learned` for the numbers."""

from collections.abc import Iterator

from bulkfetch.export.page.chart import show_seconds
from bulkfetch.export.page.parts import Json, part_of
from bulkfetch.words import counted, counted_side


def say_learned(learned: Json, latency: Json) -> str:
    """Return a sentence; nothing where nothing was learned.

    Args:
        learned: what the pace kept; what cannot be read as that is passed over.
        latency: of the calls that answered: `p50`, `p99`, in seconds.
    """
    parts = [*_say_calls(learned), *_say_sizes(learned)]
    if latency:
        half, most = (show_seconds(float(latency[name])) for name in ("p50", "p99"))
        parts.append(f"half of the answers take {half} at most, 99 of 100 {most}")
    text = "; ".join(parts)
    return f"{text[0].upper()}{text[1:]}." if text else ""


def _say_calls(learned: Json) -> Iterator[str]:
    limit, most, rate, quota = (
        _number(learned.get(key))
        for key in ("limit", "most_in_flight", "most_in_second", "most_in_minute")
    )
    if limit:
        yield f"about {counted(limit, 'call')} in flight"
    if most:
        yield f"more than {most:,.0f} at a time are refused"
    if rate:
        yield f"more than {rate:,.4g} a second are refused"
    if quota:
        yield f"more than {quota:,.0f} a minute are refused"


def _say_sizes(learned: Json) -> Iterator[str]:
    sizes = part_of(learned, "sizes")
    for side in sizes:
        size = part_of(sizes, side)
        proven, refused = _number(size.get("proven")), _number(size.get("refused"))
        if proven:
            too_many = f", {refused:,.0f} are too many" if refused else ""
            yield f"calls of {counted_side(proven, side)} are answered{too_many}"


def _number(value: object) -> float | None:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return float(value) if is_number else None  # type: ignore[arg-type]
