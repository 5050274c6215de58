"""Witnesses: ids asked for beside a suspect, to find out which of the two sides is at fault.

A call is rejected that names one id, the suspect, with one or more of the other side. Then either
the id is at fault, or those that stand with it are, or only both together. Two questions tell:

* Is the id answered with somebody else of the other side, the witness? Then it is sound.
* If not, is the witness answered with somebody else than the id? Then it is the id, or the pair:
  so two such witnesses are needed, of which those that stand with the id may be one.

A witness that was answered before needs no second question. Others are taken from all over the
account, as far apart as can be, since what is bad often stands side by side. If eight say nothing,
nothing is known; each time that happens, half as many are asked the next time, down to two.

Pure: the questions are yielded, and whether they were rejected is sent back.
"""

from bisect import bisect_right
from collections.abc import Callable, Collection, Generator, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from enum import Enum
from itertools import accumulate, chain, islice

from bulkfetch.plan.rectangle import Axis, Rectangle, rectangle_along

_ASKED = 8
_FEWEST = 2
_PARTS = 2  # of one id alone there may be a bad pair
_CLEAR_KEPT = 16

Question = Rectangle


class Verdict(Enum):
    """What witnesses say of an id."""

    SOUND = "it was answered"
    OTHERS_SOUND = "all that it was asked for with was answered"
    AT_FAULT = "what it was asked for with is answered without it"
    UNKNOWN = "nothing was answered"
    ALONE = "it was rejected with the few that there are"


class Witnesses:
    """Ids to ask for beside suspects.

    Args:
        regions: all that will be asked for.
        whole: the ids of all that was ever asked for, side by side; by default those of `regions`.

    Attributes:
        asked: how many are asked at most.
        rejected: what was asked in vain, and need not be asked again.
    """

    def __init__(
        self, regions: Sequence[Rectangle], whole: Mapping[Axis, Sequence[str]] | None = None
    ) -> None:
        self._sides = {axis: [each.side(axis) or () for each in regions] for axis in Axis}
        self._whole = None if whole is None else {axis: [ids] for axis, ids in whole.items()}
        self._clear: dict[Axis, list[str]] = {axis: [] for axis in Axis}
        self._dismissed: dict[Axis, set[str]] = {axis: set() for axis in Axis}
        self.asked = _ASKED
        self.rejected: set[Rectangle] = set()

    def note_clear(self, axis: Axis, side: Sequence[str]) -> None:
        """Note ids that were answered: a few are kept."""
        kept = self._clear[axis]
        if len(kept) < _CLEAR_KEPT and side[0] not in kept:
            kept.append(side[0])

    def dismiss(self, axis: Axis, unit: str) -> None:
        """Ask for an id no more: it is named."""
        self._dismissed[axis].add(unit)
        if unit in self._clear[axis]:
            self._clear[axis].remove(unit)

    def clear_one(self, axis: Axis, besides: Collection[str] = ()) -> str | None:
        """Return an id that was answered; None if none is known."""
        return next((unit for unit in self._clear[axis] if unit not in besides), None)

    def beside(self, axis: Axis, besides: Collection[str]) -> Iterator[str]:
        """Choose some ids, those that were answered first, the others far apart."""
        known = [unit for unit in self._clear[axis] if unit not in besides]
        passed_over = {*besides, *known}
        others = (
            unit
            for unit in _spread(self._sides[axis])
            if unit not in passed_over and unit not in self._dismissed[axis]
        )
        return islice(chain(known, others), self.asked)

    def likely_sound(
        self, axis: Axis, besides: Collection[str], is_accused: Callable[[Axis, str], bool]
    ) -> Iterator[str]:
        """Choose ids that nobody accuses, of all that was ever asked for: the answered ones first.

        Args:
            axis: of the ids.
            besides: ids that are passed over.
            is_accused: whether an earlier run accused an id.
        """
        known = [unit for unit in self._clear[axis] if unit not in besides]
        yield from known
        sides = self._sides if self._whole is None else self._whole
        for unit in _spread(sides[axis]):
            if (
                unit not in known
                and unit not in besides
                and unit not in self._dismissed[axis]
                and not is_accused(axis, unit)
            ):
                yield unit

    def note_unknown(self) -> None:
        """Note that nobody knew anything: ask fewer in future."""
        self.asked = max(_FEWEST, self.asked // 2)


def try_id(
    rejected: Rectangle,
    axis: Axis,
    witnesses: Witnesses,
    clear: Mapping[Axis, AbstractSet[str]],
) -> Generator[Question, bool | None, Verdict]:
    """Find out whether an id is at fault.

    Args:
        rejected: a rectangle that names the id alone along `axis`, and others along the other.
        axis: of the id.
        witnesses: whom to ask for besides.
        clear: the ids that were answered; it is kept up to date with every question.

    Yields:
        What to ask for; to be sent whether it was rejected, None if that is not known.
    """
    (unit,) = rejected.named(axis) or ()
    others = rejected.named(axis.other) or ()
    sound = tuple(other for other in others if other in clear[axis.other])
    besides = next(witnesses.beside(axis, (unit,)), None)
    parts = 0  # of what is sound, and rejected with the id
    if sound:
        is_rejected = len(sound) == len(others) or (yield rectangle_along(axis, (unit,), sound))
        if is_rejected is False:
            return Verdict.SOUND
        parts += is_rejected is True
    elif len(others) > 1 and besides is not None:
        is_rejected = yield rectangle_along(axis, (besides,), others)
        if is_rejected is False:
            return Verdict.OTHERS_SOUND
    asked = 0
    for witness in witnesses.beside(axis.other, others):
        asked += 1
        question = rectangle_along(axis, (unit,), (witness,))
        is_rejected = question in witnesses.rejected or (yield question)
        if is_rejected is False:
            return Verdict.SOUND
        if is_rejected:
            witnesses.rejected.add(question)
            parts += yield from _is_sound(witness, besides, axis, clear)
        if parts >= _PARTS:
            return Verdict.AT_FAULT
    if asked < witnesses.asked:
        return Verdict.ALONE if asked or parts else Verdict.UNKNOWN
    witnesses.note_unknown()
    return Verdict.UNKNOWN


def _is_sound(
    witness: str, besides: str | None, axis: Axis, clear: Mapping[Axis, AbstractSet[str]]
) -> Generator[Question, bool | None, bool]:
    """Find out whether a witness that was rejected with an id is answered with another one."""
    if witness in clear[axis.other]:
        return True
    return besides is not None and (yield rectangle_along(axis, (besides,), (witness,))) is False


def _spread(sides: Sequence[Sequence[str]]) -> Iterator[str]:
    """Go through the ids of some lists, each time as far from those before as can be."""
    ends = [*accumulate(map(len, sides))]
    count = ends[-1] if ends else 0
    seen: set[int] = set()
    for number in range(1, 2 * count + 1):
        at = int(_mirror(number) * count)
        if at not in seen:
            seen.add(at)
            side = bisect_right(ends, at)
            yield sides[side][at - ends[side]]


def _mirror(number: int) -> float:
    """Return the fraction whose binary digits are a number's, mirrored: ½, ¼, ¾, ⅛ and so on."""
    fraction, weight = 0.0, 0.5
    while number:
        fraction += weight * (number & 1)
        number >>= 1
        weight /= 2
    return fraction
