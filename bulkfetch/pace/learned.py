"""What a run learned of a service, as JSON, and a pace that begins with it.

    {"version": 1, "limit": 39, "most_in_flight": null, "most_in_second": 10.0,
     "most_in_minute": null, "sizes": {"learners": {"proven": 500, "refused": 1001}},
     "models": {"learners": {"weight": 41.2, "ids": …}}}

A service may have changed since: limits that were refused hold and are tried again as ever, the
number of calls in flight begins at half of what it was, and all else is revised as calls come. What
cannot be read is passed over: it costs a slower start.
"""

import math
from dataclasses import asdict, fields
from typing import Any

from bulkfetch.pace.controller import Pace
from bulkfetch.pace.latency import LatencyModel
from bulkfetch.plan.rectangle import Axis

_VERSION = 1


def describe(pace: Pace) -> dict[str, object]:
    """Return what a pace has learned, ready for JSON."""
    return {
        "version": _VERSION,
        "limit": pace.limit,
        "most_in_flight": pace.refusals.sure_in_flight,
        "most_in_second": pace.refusals.sure_in_second,
        "most_in_minute": pace.minute.most,
        "sizes": {
            axis.value: {"proven": size.proven, "refused": size.refused}
            for axis, size in pace.sizes.items()
            if size.proven
        },
        "models": {
            axis.value: asdict(model) for axis, model in pace.models.items() if model.is_known
        },
    }


def recall(pace: Pace, learned: object, now: float) -> None:
    """Have a pace begin with what an earlier run learned.

    Args:
        pace: nothing has been called for yet.
        learned: what `describe` returned; anything else changes nothing.
        now: on the clock of the run.
    """
    if not isinstance(learned, dict) or learned.get("version") != _VERSION:
        return
    pace.concurrency.begin_at((_count(learned.get("limit")) or 0) // 2)
    pace.refusals.learn(
        _count(learned.get("most_in_flight")), _number(learned.get("most_in_second")), now
    )
    if most_in_minute := _count(learned.get("most_in_minute")):
        pace.minute.learn(most_in_minute, now)
    for axis in Axis:
        size, model = (_part(learned, kind, axis) for kind in ("sizes", "models"))
        proven = _count(size.get("proven"))
        if proven:
            pace.sizes[axis].learn(proven, _count(size.get("refused")))
        sums = {field.name: _number(model.get(field.name)) for field in fields(LatencyModel)}
        known = {name: value for name, value in sums.items() if value is not None}
        if len(known) == len(sums):
            pace.models[axis] = LatencyModel(**known)


def _part(learned: dict[str, Any], kind: str, axis: Axis) -> dict[str, Any]:
    parts = learned.get(kind)
    part = parts.get(axis.value) if isinstance(parts, dict) else None
    return part if isinstance(part, dict) else {}


def _number(value: object) -> float | None:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return float(value) if is_number and 0 <= value < math.inf else None  # type: ignore[arg-type,operator]


def _count(value: object) -> int | None:
    number = _number(value)
    return None if number is None or number < 1 else int(number)
