"""Is an id still bad that an earlier run accused, or has something else gone bad since?

A call is rejected that names the id alone along one side. If those that it was asked for with are
answered with somebody whom nobody accuses, it is the id: one question, and what was answered need
not be asked about for the next of the accused. If they are rejected with two such ids, too, one of
them has gone bad, and is searched for with these, by halves. What is found is named only if both of
these are rejected with it, and something is answered that it is not in.

Where too few say anything, what is at fault is searched for as if no earlier run had named anybody.
So it is where there is nobody to be compared with, until that has found one of the accused at fault
again: of the next ones, two calls that name one id with them are enough.

Pure: the questions are yielded, and whether they were rejected is sent back.
"""

from collections.abc import Callable, Generator, Sequence
from enum import Enum

from bulkfetch.engine.accused import Accused
from bulkfetch.engine.witnesses import Question, Witnesses
from bulkfetch.plan.rectangle import Axis, Rectangle, rectangle_along

_COMPARED = 3  # ids at most, of which some may say nothing
_REJECTED = 2  # of them show that it is not the id
_ALONE = 2  # ids that it is asked for with where there is nobody to be compared with


class Comparison(Enum):
    """What came of comparing, where nothing else was found at fault."""

    STILL_BAD = "the id is at fault as before"
    UNKNOWN = "it has to be searched for anew"


def compare(
    rejected: Rectangle,
    axis: Axis,
    witnesses: Witnesses,
    accused: Accused,
    unclear: Callable[[Rectangle], Sequence[str]],
) -> Generator[Question, bool | None, Comparison | str]:
    """Find out whether an accused id is still at fault.

    Args:
        rejected: a rectangle that names the id alone along `axis`, and others along the other.
        axis: of the id.
        witnesses: whom to compare with.
        accused: whom not to.
        unclear: says which others of a rectangle were not answered yet; it is kept up to date.

    Yields:
        What to ask for; to be sent whether it was rejected, None if that is not known.

    Returns:
        What came of it, or the id of the other side that is at fault.
    """
    named = rejected.named(axis) or ()
    everybody = {*accused.beside[axis.other], *(rejected.named(axis.other) or ())}
    wider = rejected.replace(axis.other, tuple(sorted(everybody)))
    rejecting: list[str] = []
    sound = witnesses.likely_sound(axis, named, accused.was_bad)
    for _, unit in zip(range(_COMPARED), sound, strict=False):
        others = tuple(unclear(rejected))
        if not others:
            return Comparison.STILL_BAD
        if accused.beside[axis.other] and len(asked := tuple(unclear(wider))) > len(others):
            # Then the next of the accused need not be compared with anybody.
            if (yield rectangle_along(axis, (unit,), asked)) is False:
                return Comparison.STILL_BAD
            accused.beside[axis.other] = ()
        is_rejected = yield rectangle_along(axis, (unit,), others)
        if is_rejected is False:
            return Comparison.STILL_BAD
        if is_rejected:
            rejecting.append(unit)
        if len(rejecting) == _REJECTED:
            found = yield from _search(rejecting, axis, others, witnesses, accused)
            return found or Comparison.UNKNOWN
    if rejecting or not accused.is_any_confirmed:
        return Comparison.UNKNOWN
    return (yield from _ask_alone(axis, named, tuple(unclear(rejected))))


def _ask_alone(
    axis: Axis, named: tuple[str, ...], others: tuple[str, ...]
) -> Generator[Question, bool | None, Comparison]:
    """Ask for the id with a few of the others, one at a time."""
    for other in others[:: max(1, len(others) // _ALONE)][:_ALONE]:
        if (yield rectangle_along(axis, named, (other,))) is False:
            return Comparison.UNKNOWN
    return Comparison.STILL_BAD


def _search(
    rejecting: Sequence[str],
    axis: Axis,
    others: tuple[str, ...],
    witnesses: Witnesses,
    accused: Accused,
) -> Generator[Question, bool | None, str | None]:
    """Find the one of the others that is at fault; None if it cannot be told.

    Args:
        rejecting: two ids that were rejected with all of them.
        axis: of these.
        others: one of which is at fault.
        witnesses: see `compare`.
        accused: likewise.
    """
    first, second = rejecting
    is_any_answered = False
    while len(others) > 1:
        middle = len(others) // 2
        is_rejected = yield rectangle_along(axis, (second,), others[:middle])
        if is_rejected is None:
            return None
        is_any_answered |= not is_rejected
        others = others[:middle] if is_rejected else others[middle:]
    if not is_any_answered:  # it may be whom they are asked for with
        another = next(witnesses.likely_sound(axis.other, others, accused.was_bad), None)
        if another is None or (yield rectangle_along(axis, (second,), (another,))) is not False:
            return None
    is_confirmed = yield rectangle_along(axis, (first,), others)
    return others[0] if is_confirmed else None
