"""A few small calls that tell the most about the shapes of a region."""

from collections.abc import Iterable

from bulkfetch.plan.cost import Bounds, Estimate
from bulkfetch.plan.rectangle import Axis, Rectangle
from bulkfetch.plan.region import PairSet, Region
from bulkfetch.plan.shapes import Shape

_IDS = (10, 100)
_CALL_S = 60.0  # as expected by a guess


def choose_probes(
    region: Region, usual: Shape, estimates: Iterable[Estimate], bounds: Bounds
) -> list[Rectangle]:
    """Ask for some ids, more ids, and those of other shapes whose surplus is a guess.

    Args:
        region: what is wanted.
        usual: the shape that is asked for in two sizes.
        estimates: of all legal shapes.
        bounds: what calls must keep to.
    """
    most = min(region.width(usual.axis), bounds.batch_size or _IDS[-1])
    probes = [_part(region, usual, ids, bounds) for ids in sorted({min(n, most) for n in _IDS})]
    if not isinstance(region, PairSet):
        for each in estimates:
            if len(each.shape.unsent) == 1 and each.is_guess and each.call_s < _CALL_S:
                ids = min(_IDS[0], most) if each.shape.axis is Axis.LEARNERS else 1
                probes.append(_part(region, each.shape, ids, bounds))
    return probes


def _part(region: Region, shape: Shape, ids: int, bounds: Bounds) -> Rectangle:
    """Return a small part of the region in a shape, from its middle."""
    whole = Rectangle(region.learners, region.courses)
    other = shape.axis.other
    for axis, most in ((shape.axis, ids), (other, bounds.most_beside(other))):
        side = whole.side(axis)
        if side is not None and (axis is shape.axis or axis not in shape.unsent):
            at = max(0, (len(side) - most) // 2)
            whole = whole.replace(axis, side[at : at + most])
    return whole.leaving_out(*shape.unsent)
