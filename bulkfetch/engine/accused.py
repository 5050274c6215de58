"""What earlier runs accused and is asked for again: who is known, and in which order to ask.

An id that was found to be bad is most likely still bad, so it is not searched for: each is asked
for by itself, with as much of the other side as a batch names. Where several in a row have healed,
the next ones are asked for together, twice as many each time, until one is rejected. What is left
of those that have healed, and where accused learners meet accused courses, is *held* until all of
them were asked for, and then cut into batches like everything else.

Pure: told what was answered and rejected, says what to ask for next.
"""

from collections import Counter, deque
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from bulkfetch.plan.frontier import OTHER_SIDE_CAP
from bulkfetch.plan.rectangle import Axis, Rectangle, Side, rectangle_along, subtract_from

_HEALED_IN_A_ROW = 5  # before several are asked for together


class Accused:
    """Ids and pairs that earlier runs accused and this one has not judged yet.

    Args:
        entries: those to be asked for again, in this order: an id alone, with no list or with many
            ids of the other side, or a pair. Anything else is not known by a name.
        set_aside: those that are not.

    Attributes:
        ids: those that stand alone.
        pairs: the others, a learner and a course.
        is_any_confirmed: whether one that an earlier run accused was named again.
        beside: along an axis, all that the ids of the other will be asked for with, as far as one
            call may ask about it; to be emptied if that is in vain.
    """

    def __init__(
        self, entries: Iterable[Rectangle] = (), set_aside: Iterable[Rectangle] = ()
    ) -> None:
        self.ids: dict[Axis, dict[str, None]] = {axis: {} for axis in Axis}
        self.pairs: dict[tuple[str, str], None] = {}
        self.is_any_confirmed = False
        self.beside: dict[Axis, tuple[str, ...]] = dict.fromkeys(Axis, ())
        self._ever: dict[Axis, set[str]] = {axis: set() for axis in Axis}
        for entry in entries:
            axis = _axis_of(entry)
            if axis is not None:
                self.ids[axis][(entry.side(axis) or ("",))[0]] = None
            elif entry.learners and entry.courses and entry.is_indivisible:
                self.pairs[entry.learners[0], entry.courses[0]] = None
            self._keep(entry)
        for entry in set_aside:
            self._keep(entry)

    def __bool__(self) -> bool:
        return bool(self.pairs) or any(self.ids.values())

    def axis_of(self, rectangle: Rectangle) -> Axis | None:
        """Return the axis along which all that a call names is accused; None if there is none."""
        for axis in Axis:
            named = rectangle.named(axis)
            if named and all(unit in self.ids[axis] for unit in named):
                return axis
        return rectangle.longer_axis() if self.are_pairs(rectangle) else None

    def are_pairs(self, rectangle: Rectangle) -> bool:
        """Whether a call names accused pairs alone."""
        learners, courses = rectangle.named(Axis.LEARNERS), rectangle.named(Axis.COURSES)
        return bool(self.pairs and learners and courses) and all(
            (learner, course) in self.pairs
            for learner in learners or ()
            for course in courses or ()
        )

    def was_bad(self, axis: Axis, unit: str) -> bool:
        """Whether an earlier run accused an id, whatever became of it since."""
        return unit in self._ever[axis]

    def was_accused(self, culprit: Rectangle) -> bool:
        """Whether an earlier run accused what is named now: an id by itself, or a pair."""
        axis = _axis_of(culprit)
        if axis is None:
            return self.are_pairs(culprit)
        return self.was_bad(axis, (culprit.side(axis) or ("",))[0])

    def settle(self, axis: Axis, units: Iterable[str]) -> None:
        """Note ids that were judged: they were answered, or are named again."""
        accused = self.ids[axis]
        if accused:
            for unit in units:
                accused.pop(unit, None)

    def _keep(self, entry: Rectangle) -> None:
        axis = _axis_of(entry)
        if axis is not None:
            self._ever[axis].update(entry.side(axis) or ())


class _Trial(NamedTuple):
    """An id, and what of the other side it is asked for with."""

    axis: Axis
    unit: str
    others: Side


class Retrial:
    """Asks for each of the accused by itself, and keeps the rest of them until then.

    Args:
        missing: disjoint rectangles without a learner in two of them.
        accused: who.

    Attributes:
        ordinary: what of the missing nobody is accused of.
        apart: the rest, which is asked for here.
    """

    def __init__(self, missing: Sequence[Rectangle], accused: Accused) -> None:
        self._accused = accused
        self._trials: deque[_Trial] = deque()
        self._held: list[Rectangle] = []
        self._healed = 0  # in a row
        self._together = 1
        self.ordinary = list(missing)
        if accused:
            self._part(missing)
        self.apart = [*map(_rectangle, self._trials), *self._held]

    @property
    def next(self) -> Rectangle | None:
        """What is asked for next, or the first of it; None if all were."""
        return _rectangle(self._trials[0]) if self._trials else None

    def ids_left(self, axis: Axis) -> int:
        """Return how many ids of a side could be asked for in one call."""
        if not self._trials:
            return 0
        first = self._trials[0]
        return len(self._trials) if axis is first.axis else len(first.others or ())

    def take(self, most: Callable[[Axis], int]) -> Rectangle:
        """Take what to ask for next; there is something, as `next` says.

        Args:
            most: says how many ids of a side a call names.
        """
        axis, unit, others = self._trials.popleft()
        units = [unit]
        size = min(self._together, most(axis))
        while len(units) < size and self._trials:
            follower = self._trials[0]
            if follower.axis is not axis or follower.others != others:
                break
            units.append(self._trials.popleft().unit)
        rectangle = rectangle_along(axis, tuple(sorted(units)), others)
        beside = most(axis.other)
        if others is not None and len(others) > beside:
            self._held.append(rectangle.replace(axis.other, others[beside:]))
            rectangle = rectangle.replace(axis.other, others[:beside])
        return rectangle

    def note_answered(self, rectangle: Rectangle) -> None:
        """Note a call that was answered, before the accused know of it."""
        axis = self._accused.axis_of(rectangle) if self._trials else None
        if axis is not None:
            self._healed += 1
            if self._healed >= _HEALED_IN_A_ROW:
                self._together = max(self._together, 2 * len(rectangle.named(axis) or ()))

    def note_rejected(self) -> None:
        """Note that one of the accused, or several together, were rejected."""
        self._healed, self._together = 0, 1

    def release(self) -> list[Rectangle]:
        """Return what was held, if all of the accused were asked for, and hold it no longer."""
        if self._trials:
            return []
        held, self._held = self._held, []
        return held

    def remaining(self) -> list[Rectangle]:
        """Return what was not asked for, and take it."""
        rest = [*map(_rectangle, self._trials), *self._held]
        self._trials.clear()
        self._held.clear()
        return rest

    def _part(self, missing: Sequence[Rectangle]) -> None:
        """Take what is accused apart from the rest."""
        pairs = self._missing_pairs(missing)
        self.ordinary = []
        others_of: dict[tuple[Axis, str], list[Side]] = {
            (axis, unit): [] for axis in Axis for unit in self._accused.ids[axis]
        }
        for rectangle in subtract_from(missing, pairs) if pairs else missing:
            bad = {axis: self._accused_of(rectangle, axis) for axis in Axis}
            sound = {axis: _without(rectangle.side(axis), bad[axis]) for axis in Axis}
            if all(sound[axis] != () for axis in Axis):
                self.ordinary.append(Rectangle(sound[Axis.LEARNERS], sound[Axis.COURSES]))
            if sound[Axis.COURSES] == ():  # nobody else to ask for these learners with
                sound[Axis.COURSES] = bad[Axis.COURSES]
            elif all(bad.values()):
                self._held.append(Rectangle(bad[Axis.LEARNERS], bad[Axis.COURSES]))
            for axis in Axis:
                for unit in bad[axis] if sound[axis.other] != () else ():
                    others_of[axis, unit].append(sound[axis.other])
        # One part of each is asked for by itself; the others are for whoever has healed.
        for (axis, unit), others in others_of.items():
            self._trials += [_Trial(axis, unit, each) for each in others[:1]]
            self._held += [rectangle_along(axis, (unit,), each) for each in others[1:]]
        beside = _courses_beside(self._trials)
        if len(beside) <= OTHER_SIDE_CAP:  # of learners, a call names fewer
            self._accused.beside[Axis.COURSES] = beside
        self._trials.extend(_group(pairs))

    def _accused_of(self, rectangle: Rectangle, axis: Axis) -> tuple[str, ...]:
        accused = self._accused.ids[axis]
        return tuple(unit for unit in rectangle.side(axis) or () if unit in accused)

    def _missing_pairs(self, missing: Sequence[Rectangle]) -> list[Rectangle]:
        """Return the accused pairs that are missing, of ids that are not accused themselves."""
        courses_of: dict[str, list[str]] = {}
        for learner, course in self._accused.pairs:
            if learner not in self._accused.ids[Axis.LEARNERS]:
                courses_of.setdefault(learner, []).append(course)
        if not courses_of:
            return []
        accused = self._accused.ids[Axis.COURSES]
        found = []
        for rectangle in missing:
            wanted = [unit for unit in rectangle.learners or () if unit in courses_of]
            courses = frozenset(rectangle.courses or ()) if wanted else frozenset()
            found += [
                Rectangle((learner,), (course,))
                for learner in wanted
                for course in courses_of[learner]
                if course in courses and course not in accused
            ]
        return found


def _group(pairs: Sequence[Rectangle]) -> list[_Trial]:
    """Put the pairs of one learner side by side, or those of one course if that is fewer."""
    counts = {axis: len(Counter(pair.side(axis) for pair in pairs)) for axis in Axis}
    beside = min(Axis, key=counts.__getitem__)
    trials = [
        _Trial(beside.other, unit, pair.side(beside))
        for pair in pairs
        for unit in pair.side(beside.other) or ()
    ]
    return sorted(trials, key=lambda trial: trial.others or ())


def _axis_of(entry: Rectangle) -> Axis | None:
    """Return the axis along which an entry accuses one id; None if it does not."""
    for axis in Axis:
        others = entry.side(axis.other)
        if len(entry.side(axis) or ()) == 1 and (others is None or len(others) > 1):
            return axis
    return None


def _courses_beside(trials: Iterable[_Trial]) -> tuple[str, ...]:
    """Return the courses that learners will be asked for with."""
    sides = {trial.others: None for trial in trials if trial.axis is Axis.LEARNERS}
    return tuple(sorted({unit for side in sides for unit in side or ()}))


def _without(side: Side, some: tuple[str, ...]) -> Side:
    if side is None or not some:
        return side
    gone = frozenset(some)
    return tuple(unit for unit in side if unit not in gone)


def _rectangle(trial: _Trial) -> Rectangle:
    return rectangle_along(trial.axis, (trial.unit,), trial.others)
