"""A few small calls that tell the most about the shapes of a region."""

from collections.abc import Iterable

from bulkfetch.plan.cost import Estimate
from bulkfetch.plan.frontier import OTHER_SIDE_CAP
from bulkfetch.plan.rectangle import Axis, Rectangle
from bulkfetch.plan.region import PairSet, Region
from bulkfetch.plan.shapes import Shape

_IDS = (10, 100)
_CALL_S = 60.0  # as expected by a guess


def choose_probes(region: Region, usual: Shape, estimates: Iterable[Estimate]) -> list[Rectangle]:
    """Ask for some ids, more ids, and those of other shapes whose surplus is a guess.

    Args:
        region: what is wanted.
        usual: the shape that is asked for in two sizes.
        estimates: of all legal shapes.
    """
    probes = [_part(region, usual, ids) for ids in _IDS if ids <= region.width(usual.axis)]
    if not isinstance(region, PairSet):
        for each in estimates:
            if len(each.shape.unsent) == 1 and each.is_guess and each.call_s < _CALL_S:
                ids = _IDS[0] if each.shape.axis is Axis.LEARNERS else 1
                probes.append(_part(region, each.shape, ids))
    return probes


def _part(region: Region, shape: Shape, ids: int) -> Rectangle:
    """Return a small part of the region in a shape, from its middle."""
    whole = Rectangle(region.learners, region.courses)
    for axis, most in ((shape.axis, ids), (shape.axis.other, OTHER_SIDE_CAP)):
        side = whole.side(axis)
        if side is not None and (axis is shape.axis or axis not in shape.unsent):
            at = max(0, (len(side) - most) // 2)
            whole = whole.replace(axis, side[at : at + most])
    return whole.leaving_out(*shape.unsent)
