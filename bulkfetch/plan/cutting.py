"""Turn what is wanted and a shape into cuts for the frontier.

Whatever the shape, and however often it changed before, the cuts cover what is wanted exactly: no
pair is lost, and none is asked for in two cuts. Where a side is left unsent the rectangle says
which of its ids are still wanted, so rows that other calls fetch are not kept twice.
"""

from collections.abc import Iterable, Mapping, Sequence

from bulkfetch.plan.frontier import Cut
from bulkfetch.plan.pairs import Prices, cover
from bulkfetch.plan.rectangle import Axis, Rectangle, Side
from bulkfetch.plan.region import PairSet
from bulkfetch.plan.shapes import Shape


def regroup(rectangles: Sequence[Rectangle], axis: Axis) -> list[Rectangle]:
    """Cover the same pairs with rectangles that share no id along an axis.

    Args:
        rectangles: disjoint; a side has no filter in all of them or in none.
        axis: the one along which no id may stand in two rectangles.
    """
    if len(rectangles) <= 1:
        return [each.leaving_out() for each in rectangles]
    numbers_of: dict[str | None, list[int]] = {}
    for number, rectangle in enumerate(rectangles):
        for unit in rectangle.side(axis) or (None,):
            numbers_of.setdefault(unit, []).append(number)
    groups: dict[tuple[int, ...], list[str | None]] = {}
    for unit, own in numbers_of.items():
        groups.setdefault(tuple(own), []).append(unit)
    regrouped = []
    for numbers, units in groups.items():
        first = rectangles[numbers[0]].leaving_out()
        if len(units) != first.width(axis):
            first = first.replace(axis, tuple(sorted(str(unit) for unit in units)))
        if len(numbers) > 1:
            others = _union(rectangles[number].side(axis.other) for number in numbers)
            first = first.replace(axis.other, others)
        regrouped.append(first)
    return regrouped


def cut_rectangles(rectangles: Sequence[Rectangle], shape: Shape, *, batch_size: int) -> list[Cut]:
    """Cut disjoint rectangles, all of whose pairs are wanted, for a shape.

    One call for everything is possible only for a single rectangle; several are cut along the
    learners instead.
    """
    axis = shape.axis
    grouped = regroup(rectangles, axis)
    if shape is Shape.WHOLE and len(grouped) > 1:
        shape = Shape.LEARNERS
    if shape is Shape.BOTH:
        grouped = [piece for each in grouped for piece in _chunks(each, axis.other, batch_size)]
    return [Cut(each.leaving_out(*shape.unsent), axis) for each in grouped]


def cut_pairs(
    region: PairSet,
    rectangles: Sequence[Rectangle],
    shape: Shape,
    *,
    batch_size: int,
    most_others: int,
    prices: Prices,
) -> list[Cut]:
    """Cut the listed pairs that lie in disjoint rectangles for a shape.

    Learners some of whose pairs are not among these (or courses, along them) are asked for just
    what is here; the others may be asked for more, around their pairs.
    """
    axis = shape.axis
    wanted = regroup(_listed(region, rectangles), axis)
    totals = _totals(region, axis)
    full: list[Rectangle] = []
    partial: list[Rectangle] = []
    for each in wanted:
        width = each.width(axis.other)
        ids = each.side(axis) or ()
        for group, is_full in ((full, True), (partial, False)):
            chosen = tuple(unit for unit in ids if (totals[unit] == width) is is_full)
            if chosen:
                group.append(each.replace(axis, chosen))
    if shape is Shape.WHOLE and (partial or len(full) > 1):
        # One call answers all of it: what is wanted is told by the pairs, if none is elsewhere.
        if not partial and sum(each.pairs for each in full) == region.pairs:
            whole = Rectangle(region.learners, region.courses)
            return [Cut(whole.leaving_out(*shape.unsent), axis)]
        shape = Shape.LEARNERS
    if shape.unsent and full:
        ids = tuple(sorted(unit for each in full for unit in each.side(axis) or ()))
        around = Rectangle(region.learners, region.courses).replace(axis, ids)
        full = [around.leaving_out(*shape.unsent)]
    else:
        full = cover(full, axis, most_ids=batch_size, most_others=most_others, prices=prices)
    return [Cut(each, axis) for each in (*full, *partial)]


def _listed(region: PairSet, rectangles: Iterable[Rectangle]) -> list[Rectangle]:
    """Return rectangles of just the listed pairs that lie in these."""
    found: list[Rectangle] = []
    for rectangle in rectangles:
        courses = None if rectangle.courses is None else frozenset(rectangle.courses)
        groups: dict[frozenset[str], list[str]] = {}
        for learner in rectangle.learners or region.learners:
            own = frozenset(region.courses_of(learner))
            groups.setdefault(own if courses is None else own & courses, []).append(learner)
        found += [
            Rectangle(tuple(learners), tuple(sorted(own)))
            for own, learners in groups.items()
            if own
        ]
    return found


def _totals(region: PairSet, axis: Axis) -> Mapping[str, int]:
    """Return how many listed pairs each id along an axis has."""
    totals: dict[str, int] = {}
    for each in region.rectangles:
        width = each.width(axis.other)
        for unit in each.side(axis) or ():
            totals[unit] = totals.get(unit, 0) + width
    return totals


def _union(sides: Iterable[Side]) -> Side:
    ids: set[str] = set()
    for side in sides:
        if side is None:
            return None
        ids.update(side)
    return tuple(sorted(ids))


def _chunks(rectangle: Rectangle, axis: Axis, size: int) -> list[Rectangle]:
    side = rectangle.side(axis)
    if side is None:
        return [rectangle]
    return [rectangle.replace(axis, side[at : at + size]) for at in range(0, len(side), size)]
