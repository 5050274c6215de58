"""What each way of asking would cost, and which one to choose.

A region of learners × courses can be asked for along either side, naming the other one or not, or
in one call. Naming a long list costs in every call; leaving it out costs surplus rows; few calls
have long answers, which may pass a limit that nobody has documented. For each shape: how many
calls, rows, surplus rows and bytes, and how many seconds with so many calls in flight.

A long answer is charged for its risk: a call that passes a limit has cost its time for nothing,
and its halves are asked for after it. What limits there are is unknown until one is hit, so the
chance is taken to grow with the answer: even at 30 s, which is what gateways commonly allow.
Courses are taken to be as unequal as Zipf has it (the most popular of n has 1/Hₙ of all rows).
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from bulkfetch.plan.beliefs import Beliefs
from bulkfetch.plan.frontier import OTHER_SIDE_CAP
from bulkfetch.plan.rectangle import Axis, Rectangle
from bulkfetch.plan.shapes import Shape, Sizes, title_of
from bulkfetch.words import counted

COMMON_GATEWAY_S = 30.0
_ANSWER_BYTES = 1024 * 1024 * 1024
_UNEQUAL_COVERS = 2.0  # the largest call around listed pairs, as a multiple of the mean
_UNEQUAL_LEARNERS = 3.0  # the busiest learner of a batch of one, as a multiple of the mean
_MARGIN_OF_GUESSES = 2.0
_MARGIN = 1.25
_MOST_RISK = 0.43  # three quarters of what gateways allow, by the largest answer


@dataclass(frozen=True, slots=True)
class Bounds:
    """What calls must keep to.

    Attributes:
        workers: calls in flight.
        batch_size: ids of a call along its axis if they are pinned, and the most learners of any
            call; None to suit the answers.
        caps: most ids that a call may name of a side, as far as the service has shown.
        other_side_cap: most ids of the other side.
        answer_bytes: most bytes of an answer, inflated.
        call_s: most seconds of a call.
        target_s, target_bytes: what an answer is meant to stay under.
        settled_after: calls after which batches have found their size, and a plan may change.
        worth_s: a change of plan under way must save so many seconds.
        per_second: calls that may begin in a second.
    """

    workers: int = 10
    batch_size: int | None = None
    caps: Mapping[Axis, float] = field(default_factory=lambda: dict.fromkeys(Axis, math.inf))
    other_side_cap: int = OTHER_SIDE_CAP
    answer_bytes: int = _ANSWER_BYTES
    call_s: float = math.inf
    target_s: float = 5.0
    target_bytes: float = 8e6
    worth_s: float = 1.0
    settled_after: int = 0
    per_second: float = math.inf

    def most_beside(self, axis: Axis) -> int:
        """Return the most ids of a side that calls along the other one name."""
        most = min(self.other_side_cap, self.caps[axis])
        if axis is Axis.LEARNERS and self.batch_size is not None:
            most = min(most, self.batch_size)
        return int(most)


@dataclass(frozen=True, slots=True)
class Estimate:
    """What one shape is believed to cost.

    Attributes:
        calls: how many.
        batch_size: ids a call along the axis.
        ids_a_call: ids that a call names, of both sides.
        rows: rows wanted.
        surplus: rows answered besides.
        body_bytes: of all answers, inflated.
        seconds: of the whole, with the calls in flight that there are.
        call_s: seconds of a call, the longest.
        risk: the chance that the largest answer is too large.
        is_guess: whether the surplus is guessed, not measured.
        is_rough: whether it still rests on a guess to a part that counts.
    """

    shape: Shape
    title: str
    calls: int
    batch_size: int
    ids_a_call: int
    rows: int
    surplus: int
    body_bytes: int
    seconds: float
    call_s: float
    risk: float
    is_guess: bool
    is_rough: bool


def estimate(shape: Shape, sizes: Sizes, beliefs: Beliefs, bounds: Bounds) -> Estimate:
    """Estimate what a region of these sizes costs in a shape."""
    axis = shape.axis
    other = axis.other
    wanted = sizes.pairs * beliefs.density.value
    shares = {Axis.COURSES: beliefs.share_of_learner, Axis.LEARNERS: beliefs.share_of_course}
    picked_here = [each for each in shape.unsent if sizes.names(each)]
    received = wanted
    for each in picked_here:
        received /= max(shares[each].value, 1e-6)
    units = 1.0 if axis in shape.unsent else sizes.count(axis)
    batch = _batch_size(axis, units, received / units, beliefs, bounds)
    across = 1.0
    if other not in shape.unsent:
        cap: float = bounds.most_beside(other)
        if shape is Shape.BOTH:
            cap = min(cap, batch)
        across = math.ceil(sizes.count(other) / cap)
    named = ((axis, batch), (other, sizes.count(other) / across))
    return _weigh(
        _Calls(
            shape=shape,
            title=title_of(shape, sizes),
            calls=math.ceil(units / batch) * across,
            batch_size=batch,
            ids=sum(n for each, n in named if each not in shape.unsent and sizes.names(each)),
            inequality=_inequality(shape, units, batch),
        ),
        wanted,
        received,
        beliefs,
        bounds,
        is_guess=not all(shares[each].is_measured for each in picked_here),
        is_rough=any(shares[each].is_rough for each in picked_here),
    )


def estimate_cover(
    shape: Shape,
    covering: Sequence[Rectangle],
    sizes: Sizes,
    beliefs: Beliefs,
    bounds: Bounds,
    *,
    batch_size: int,
    listed: int,
) -> Estimate:
    """Estimate what it costs to ask for the listed pairs by a cover of them.

    Args:
        shape: along learners or along courses.
        covering: rectangles that cover `listed` pairs.
        sizes: of what is left of them.
        beliefs: of the account and its service.
        bounds: what calls must keep to.
        batch_size: most ids of a call along the axis.
        listed: how many pairs the covering is of.
    """
    calls = ids = asked = 0.0
    for each in covering:
        pieces = math.ceil(each.width(shape.axis) / batch_size)
        across = math.ceil(each.width(shape.axis.other) / bounds.most_beside(shape.axis.other))
        calls += pieces * across
        ids += each.width(shape.axis) * across + each.width(shape.axis.other) * pieces
        asked += each.pairs
    ids /= max(calls, 1.0)
    left = sizes.pairs / listed
    calls = max(1, math.ceil(calls * left))
    wanted = sizes.pairs * beliefs.density.value
    surplus = (asked - listed) * left * beliefs.density_elsewhere.value
    return _weigh(
        _Calls(
            shape=shape,
            title=title_of(shape, sizes),
            calls=calls,
            batch_size=batch_size,
            ids=ids,
            inequality=_UNEQUAL_COVERS,
        ),
        wanted,
        wanted + surplus,
        beliefs,
        bounds,
        is_guess=not beliefs.density_elsewhere.is_measured,
        is_rough=beliefs.density_elsewhere.is_rough,
    )


@dataclass(frozen=True, slots=True)
class _Calls:
    """The calls of a shape: how many, how many ids each, how unequal their answers."""

    shape: Shape
    title: str
    calls: float
    batch_size: float
    ids: float
    inequality: float


def _weigh(
    calls: _Calls,
    wanted: float,
    received: float,
    beliefs: Beliefs,
    bounds: Bounds,
    *,
    is_guess: bool,
    is_rough: bool,
) -> Estimate:
    """Put seconds and risk to calls that answer so many rows."""
    mean_rows = received / calls.calls
    most_rows = mean_rows * calls.inequality
    call_s, row_s, id_s = beliefs.speed.coefficients()
    mean_s = call_s + row_s * mean_rows + id_s * calls.ids
    longest_s = call_s + row_s * most_rows + id_s * calls.ids
    risk = _risk(most_rows, longest_s, beliefs, bounds)
    mean_risk = _risk(mean_rows, mean_s, beliefs, bounds)
    # What is too large comes in parts, however it is parted.
    parts = 1.0
    if beliefs.failed_rows is not None:
        parts = max(1.0, mean_rows / max(beliefs.failed_rows, beliefs.most_rows))
    return Estimate(
        shape=calls.shape,
        title=calls.title,
        calls=round(calls.calls),
        batch_size=round(calls.batch_size),
        ids_a_call=round(calls.ids),
        rows=round(wanted),
        surplus=round(received - wanted),
        body_bytes=round(received * beliefs.bytes_per_row.value),
        seconds=max(
            calls.calls * mean_s * parts * (1 + 2 * mean_risk) / bounds.workers,
            longest_s * parts * (1 + 2 * risk),
            calls.calls * parts / bounds.per_second,
        ),
        call_s=longest_s,
        risk=risk,
        is_guess=is_guess,
        is_rough=is_rough,
    )


@dataclass(frozen=True, slots=True)
class Choice:
    """The shape chosen among the estimates, and why, in a sentence."""

    shape: Shape
    reason: str


def choose(
    estimates: Sequence[Estimate],
    *,
    current: Shape | None = None,
    margin: float = _MARGIN,
    worth_s: float = 1.0,
) -> Choice:
    """Choose the cheapest shape, if it beats the current one by a margin.

    Not one whose answers are rather likely to be too large: what they cost then, nobody knows.

    Args:
        estimates: of all legal shapes, the usual one first.
        current: the shape that is left only for a much better one; the usual one if not given.
        margin: by how many times; at least twice for an estimate that is a guess.
        worth_s: seconds that a change must save.
    """
    by_shape = {each.shape: each for each in estimates}
    kept = by_shape.get(current, estimates[0]) if current else estimates[0]
    # Cutting both lists is what the caps of the others come to; it is there to be pinned.
    others = sorted(
        (each for each in estimates if each is not kept and each.shape is not Shape.BOTH),
        key=lambda each: each.seconds,
    )
    most_risk = max(_MOST_RISK, kept.risk)
    rivals = [each for each in others if each.risk <= most_risk]
    for rival in rivals:
        needed = max(margin, _MARGIN_OF_GUESSES) if rival.is_guess else margin
        if rival.seconds * needed < kept.seconds and kept.seconds - rival.seconds > worth_s:
            return Choice(
                rival.shape,
                f"{rival.title}: {kept.seconds / rival.seconds:,.1f} times as fast as "
                f"{kept.title}, with {_effort(rival)} against {_effort(kept)}",
            )
    if not others:
        return Choice(kept.shape, f"{kept.title}: nothing else is possible")
    rival = others[0]
    if rival.seconds >= kept.seconds:
        return Choice(kept.shape, f"{kept.title}: nothing else is faster")
    gain = f"{kept.seconds / rival.seconds:,.1f}"
    faster = "hardly faster" if gain == "1.0" else f"{gain} times as fast"
    why_not = "too little to leave the usual way on an estimate"
    if rival.risk > most_risk:
        why_not = f"but an answer may well be too large ({rival.risk:.0%} risk)"
    return Choice(kept.shape, f"{kept.title}: {rival.title} would be {faster}, {why_not}")


def _effort(of: Estimate) -> str:
    surplus = f" and {counted(of.surplus, 'surplus row')}" if of.surplus else ""
    return f"{counted(of.calls, 'call')}{surplus}"


def _batch_size(
    axis: Axis, units: float, rows_per_unit: float, beliefs: Beliefs, bounds: Bounds
) -> float:
    """Return the ids of a call: the pinned ones, or as many as an answer is meant to hold."""
    cap = min(units, bounds.caps[axis])
    if bounds.batch_size is not None:
        return max(1.0, min(bounds.batch_size, cap))
    call_s, row_s, _ = beliefs.speed.coefficients()
    rows = bounds.target_bytes / beliefs.bytes_per_row.value
    if row_s > 0:
        rows = min(rows, max(bounds.target_s - call_s, call_s) / row_s)
    if beliefs.failed_rows is not None:
        rows = min(rows, max(beliefs.failed_rows / 2, beliefs.most_rows))
    ids = min(cap, bounds.other_side_cap, rows / max(rows_per_unit, 1e-9))
    ids = min(ids, math.ceil(units / bounds.workers))  # every place has something to do
    return max(1.0, float(math.floor(ids)))


def _inequality(shape: Shape, units: float, batch: float) -> float:
    """Return how many times the rows of the mean call the largest has."""
    if shape.axis is Axis.LEARNERS:
        return 1 + (_UNEQUAL_LEARNERS - 1) / batch if units > batch else 1.0
    if units <= batch:
        return 1.0
    harmonic = math.log(units) + 0.5772
    # The most popular course, and the mean of the others beside it in the call.
    return (units / harmonic + batch - 1) / batch


def _risk(rows: float, seconds: float, beliefs: Beliefs, bounds: Bounds) -> float:
    """Return the chance that an answer passes a limit."""
    allowed_s = min(bounds.call_s, max(COMMON_GATEWAY_S, 2 * beliefs.speed.longest_s))
    load = seconds / allowed_s
    load = max(load, rows * beliefs.bytes_per_row.value / bounds.answer_bytes)
    if beliefs.failed_rows is not None and rows > beliefs.most_rows:
        load = max(load, 3 * (rows / max(beliefs.failed_rows, beliefs.most_rows)) ** 2)
    return load / (1 + load)
