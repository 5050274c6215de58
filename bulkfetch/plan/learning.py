"""What a call teaches of an account and its service."""

import math

from bulkfetch.plan.beliefs import Beliefs
from bulkfetch.plan.rectangle import Axis, Rectangle
from bulkfetch.plan.region import Region, count_wanted


def learn(
    beliefs: Beliefs,
    region: Region,
    rectangle: Rectangle,
    *,
    received: int,
    kept: int,
    body_bytes: int,
    seconds: float,
) -> int:
    """Learn from a call that succeeded.

    Args:
        beliefs: changed.
        region: what is wanted in all.
        rectangle: what was asked for.
        received: rows answered.
        kept: those of them that are wanted.
        body_bytes: of the answer, inflated.
        seconds: that the call took.

    Returns:
        How many wanted pairs that were.
    """
    wanted = count_wanted(region, rectangle)
    beliefs.density.add(kept, wanted)
    beliefs.bytes_per_row.add(body_bytes, received)
    beliefs.most_rows = max(beliefs.most_rows, received)
    if rectangle.unsent == {Axis.COURSES}:
        beliefs.share_of_learner.add(kept / _part_of(region, rectangle, Axis.COURSES), received)
    elif rectangle.unsent == {Axis.LEARNERS}:
        beliefs.share_of_course.add(kept / _part_of(region, rectangle, Axis.LEARNERS), received)
    elif rectangle.pairs > wanted:
        beliefs.density_elsewhere.add(received - kept, rectangle.pairs - wanted)
    ids = sum(len(rectangle.named(axis) or ()) for axis in Axis)
    beliefs.speed.add(rows=received, ids=ids, seconds=seconds)
    return wanted


def learn_too_large(beliefs: Beliefs, region: Region, rectangle: Rectangle) -> None:
    """Learn that the answer for a rectangle was too large, or took too long."""
    rows = count_wanted(region, rectangle) * beliefs.density.value
    if Axis.COURSES in rectangle.unsent:
        rows /= beliefs.share_of_learner.value
    if Axis.LEARNERS in rectangle.unsent:
        rows /= beliefs.share_of_course.value
    # It had a row at least, whatever was believed.
    beliefs.failed_rows = max(1.0, min(rows, beliefs.failed_rows or math.inf))


def _part_of(region: Region, rectangle: Rectangle, axis: Axis) -> float:
    """Return how much of a side a rectangle wants: the rest may have been fetched before."""
    return rectangle.width(axis) / region.width(axis)
