"""Bisection: what to ask for next, and which id is at fault when none is left.

The service rejects a whole call for one id, and does not say which. A rejected rectangle is parted
in two, and the *first* part is asked for. If it is answered, the rest is known to be at fault
without being asked, and is parted in turn; if it is rejected, too, it is parted, and the rest is
asked for besides. So a level costs one call or two. Parts are as even as they can be where the
dearer way is not the longer one too, which is what Fibonacci's numbers are for: one id at fault
among n costs at most as many calls as the place of the first Fibonacci number (1, 2, 3, 5, …) that
is not below n, about 1.44·log2 n; several cost no more each. The last of them is for the id alone:
nothing is named by inference.

With two lists in play the fault may lie in either. A success clears every id that it named, and
then only the side that is not clear is parted. While neither is clear, whether the rest is rejected
along with the first part tells which side it is: so nothing else is asked meanwhile. If both are
rejected it is most likely the other side, which is parted then, of the first part alone; the second
is *parked* until something is found. So is a batch that shares its suspect side with one that is
being searched, and its rejection says as much as that of a second part.

An answer can also be spoilt by a single pair, whose learner and course are both sound. So an id
that stands alone is named only if two disjoint parts of the other side, which is clear, are
rejected with it; if one is answered, the search goes on to the pair. Several spoilt pairs of one id
may pass for the id: it is then named with more than it is to blame for, never with less.

Where the other side is not clear, or too small to be parted, the batch alone cannot tell: there is
a *doubt*. A block of bad learners, say, has every course rejected. Then *witnesses* are asked, ids
of the account that do not stand in the batch (see `bulkfetch.engine.witnesses`).

So, beyond the batch's own call, an id at fault among n in a call that names one side costs at most
2·log2 n calls. Where calls name n learners and m courses, at least two of each, a learner costs at
most 2·log2 n + 2, a course 2·log2 m + 5 (6 if n is two), a pair 2·log2 n + 2·log2 m. The tests
count.

What an earlier run accused is not searched for again: it is named if it is rejected by itself with
ids that are clear; else one that nobody accuses is asked for with these (see
`bulkfetch.engine.comparing`), while whatever would be in the same doubt waits.

A side that a call does not name is not at fault. Pure: told what happened, says what to do.
"""

from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from itertools import chain

from bulkfetch.engine.accused import Accused
from bulkfetch.engine.comparing import Comparison, compare
from bulkfetch.engine.witnesses import Question, Verdict, Witnesses, try_id
from bulkfetch.plan.marks import Marks
from bulkfetch.plan.rectangle import Axis, Rectangle, Side


@dataclass(frozen=True, slots=True)
class Ask:
    """Ask for this next. `is_suspect` is whether something in it is most likely at fault."""

    rectangle: Rectangle
    is_suspect: bool = True


@dataclass(frozen=True, slots=True)
class Culprit:
    """The ids at fault stand alone: `rectangle` cannot be fetched.

    `axis` is the side whose id is at fault, None if that cannot be told (or the call has no ids).
    """

    rectangle: Rectangle
    axis: Axis | None


@dataclass(frozen=True, slots=True)
class Doubt:
    """Something in `rectangle` is at fault: the id of one of these axes, or none by itself.

    `blamed` is the axis whose id is named if witnesses cannot tell, either; `is_again`, whether an
    earlier run named that id.
    """

    rectangle: Rectangle
    axes: tuple[Axis, ...]
    blamed: Axis | None = None
    is_again: bool = False


Step = Ask | Culprit | Doubt


class _Question(Enum):
    """What asking for the two parts of a rectangle shall tell."""

    WHERE = "which part holds what is at fault"
    WHICH_SIDE = "whether it is on this side at all"
    ID_OR_PAIR = "whether it is one id of the other side, or a pair of it"


@dataclass(slots=True, eq=False)
class _Cut:
    """A rejected rectangle in two parts.

    Attributes:
        axis: along which it was cut.
        first: the part that is asked for.
        rest: the other.
        question: see there.
        is_first_rejected: whether the first waits for what becomes of the rest.
    """

    axis: Axis
    first: Rectangle
    rest: Rectangle
    question: _Question
    is_first_rejected: bool = False

    @property
    def withheld(self) -> Rectangle:
        """The part that is not being asked for."""
        return self.first if self.is_first_rejected else self.rest


@dataclass(slots=True, eq=False)
class _Search:
    """The search through one rejected batch.

    Attributes:
        root: the batch.
        asked: what is being asked for, and the cut that its answer decides, if it does.
        parked: rejected for what the search is expected to find.
        doubted: rejected, and witnesses are being asked about it.
        shared: the side that is most likely at fault, because others were rejected with it.
    """

    root: Rectangle
    asked: dict[Rectangle, _Cut | None] = field(default_factory=dict)
    parked: list[Rectangle] = field(default_factory=list)
    doubted: set[Rectangle] = field(default_factory=set)
    shared: Axis | None = None
    _ids: dict[Axis, frozenset[str]] = field(default_factory=dict)

    def names(self, axis: Axis, unit: str) -> bool:
        """Whether the batch names an id."""
        if axis not in self._ids:
            self._ids[axis] = frozenset(self.root.named(axis) or ())
        return unit in self._ids[axis]


class Suspects:
    """What is known of the ids, those in a call that succeeded being clear; and the searches.

    Args:
        regions: all that will be asked for; witnesses are taken from there.
        accused: what earlier runs named, and is asked for again.
        whole: all that was ever asked for, of which the accused are compared with others.
    """

    def __init__(
        self,
        regions: Sequence[Rectangle],
        accused: Accused | None = None,
        whole: Mapping[Axis, Sequence[str]] | None = None,
    ) -> None:
        self._witnesses = Witnesses(regions, whole)
        self._accused = Accused() if accused is None else accused
        self._again: dict[Rectangle, None] = {}  # rejected, of the accused, and not judged yet
        self._begun: _Search | None = None  # the latest search
        self._compared: Rectangle | None = None  # the one that others are being asked about
        sides = {axis: [each.side(axis) or () for each in regions] for axis in Axis}
        self._clear = {axis: Marks(max(sides[axis], key=len, default=())) for axis in Axis}
        self._clear_sides: dict[int, Side] = {}
        self._searches: dict[_Search, None] = {}  # in the order of their beginning
        self._search_of: dict[Rectangle, _Search] = {}

    def reject(self, rectangle: Rectangle) -> list[Step]:
        """Note that the content of a call for this rectangle was rejected."""
        search = self._search_of.pop(rectangle, None)
        if search is None:
            axis = self._accused.axis_of(rectangle)
            if axis is not None:
                steps = self._reject_again(rectangle, axis)
            elif self._is_parked(rectangle):
                return []
            else:
                steps = self._begin(rectangle)
        else:
            steps = self._judge(rectangle, search.asked.pop(rectangle), search)
        return steps + self._tidy()

    def clear(self, rectangle: Rectangle) -> list[Step]:
        """Note that a call for this rectangle succeeded."""
        for axis in Axis:
            side = rectangle.named(axis)
            if side is not None and id(side) not in self._clear_sides:
                self._clear[axis].update(side)
                self._accused.settle(axis, side)
                self._witnesses.note_clear(axis, side)
                if axis is Axis.COURSES:
                    self._clear_sides[id(side)] = side  # shared by many batches: noted once
        if not self._searches and not self._again:
            return []
        search = self._search_of.pop(rectangle, None)
        steps: list[Step] = []
        if search is not None and (cut := search.asked.pop(rectangle)) is not None:
            steps = self._part(cut.withheld, search, was_asked=cut.is_first_rejected)
        return steps + self._tidy()

    def let_go(self, rectangle: Rectangle) -> list[Step]:
        """Note that this rectangle is neither answered nor rejected, and is no longer asked for."""
        search = self._search_of.pop(rectangle, None)
        if search is None:
            return []
        cut = search.asked.pop(rectangle)
        steps: list[Step] = [] if cut is None else [Ask(cut.withheld)]
        return steps + self._tidy()

    def try_doubt(self, doubt: Doubt) -> Generator[Question, bool | None, list[Step]]:
        """Ask witnesses what is at fault, and say what follows.

        Yields:
            What to ask for besides; to be sent whether it was rejected, None if that is not known.
            What was not rejected is to be noted with `clear` before.
        """
        rectangle = doubt.rectangle
        if doubt.is_again:
            return (yield from self._compare(rectangle, doubt.axes[0]))
        at_fault = doubt.blamed
        for axis in doubt.axes:
            verdict = yield from try_id(rectangle, axis, self._witnesses, self._clear)
            is_alone = verdict is Verdict.ALONE and rectangle.is_indivisible
            if verdict is Verdict.AT_FAULT or is_alone:
                at_fault = axis
                break
            if verdict in {Verdict.ALONE, Verdict.OTHERS_SOUND}:
                at_fault = None  # the search goes on, and knows more now
            elif verdict is Verdict.SOUND and at_fault is axis:
                at_fault = None
                yield from self._clear_root(rectangle, axis)
        search = self._search_of.pop(rectangle, None)
        if search is None:
            return []  # an id of it was named meanwhile
        search.doubted.remove(rectangle)
        untried = [
            axis for axis in Axis if axis not in doubt.axes and self._unclear(rectangle, axis)
        ]
        if at_fault is not None or (rectangle.is_indivisible and not untried):
            return self._name(rectangle, at_fault) + self._tidy()
        return self._part(rectangle, search) + self._tidy()

    def holds_back(self, rectangle: Rectangle) -> bool:
        """Whether a batch that was not asked for would most likely be rejected.

        Others with the same ids of a side were, the search goes on, and no answer clears them.
        """
        if self._again:
            axis = self._accused.axis_of(rectangle)
            if axis is not None and self._unclear(rectangle, axis.other):
                return True
        return any(
            search.shared is not None
            and any(
                search.names(search.shared, unit)
                for unit in self._unclear(rectangle, search.shared)
            )
            for search in self._searches
        )

    def withheld(self) -> list[Rectangle]:
        """Return what waits for the answer to something else."""
        cuts = (cut for search in self._searches for cut in search.asked.values() if cut)
        others = ((*search.parked, *search.doubted) for search in self._searches)
        return [*(cut.withheld for cut in cuts), *chain.from_iterable(others), *self._again]

    def _begin(self, rectangle: Rectangle) -> list[Step]:
        self._begun = search = _Search(rectangle)
        self._searches[search] = None
        return self._part(rectangle, search)

    def _reject_again(self, rectangle: Rectangle, axis: Axis) -> list[Step]:
        """Say what follows where only what earlier runs named is rejected."""
        named = rectangle.named(axis) or ()
        if len(named) > 1:
            return [Ask(rectangle.replace(axis, (unit,))) for unit in named]
        if self._accused.are_pairs(rectangle):
            return self._name(rectangle, None)
        self._again[rectangle] = None
        return []

    def _judge_again(self) -> list[Step]:
        """Name those that were rejected with what is clear; doubt one of the others."""
        steps: list[Step] = []
        for rectangle in [each for each in self._again if each != self._compared]:
            axis = self._accused.axis_of(rectangle)
            if rectangle not in self._again:
                continue  # it names something that was named just now
            if axis is None:  # the id was answered with others since
                del self._again[rectangle]
                steps += self._begin(rectangle)
            elif not self._unclear(rectangle, axis.other):
                del self._again[rectangle]
                steps += self._name(rectangle, axis)
            elif self._compared is None and self._begun not in self._searches:
                self._compared = rectangle
                steps.append(Doubt(rectangle, (axis,), is_again=True))
        return steps

    def _compare(
        self, rectangle: Rectangle, axis: Axis
    ) -> Generator[Question, bool | None, list[Step]]:
        """Ask for others than an accused id, and say what follows."""
        found = yield from compare(
            rectangle,
            axis,
            self._witnesses,
            self._accused,
            lambda asked: self._unclear(asked, axis.other),
        )
        self._compared = None
        steps: list[Step] = []
        if rectangle in self._again:
            del self._again[rectangle]
            if found is Comparison.STILL_BAD:
                steps = self._name(rectangle, axis)
            elif found is Comparison.UNKNOWN:
                self._accused.settle(axis, rectangle.named(axis) or ())
                steps = self._begin(rectangle)
            else:
                culprit = rectangle.replace(axis.other, (found,))
                steps = [*self._name(culprit, axis.other), Ask(rectangle)]
        return steps + self._tidy()

    def _judge(self, rejected: Rectangle, cut: _Cut | None, search: _Search) -> list[Step]:
        """Say what follows where a part that was asked for is rejected."""
        if cut is None:
            return self._part(rejected, search)
        if not cut.is_first_rejected:
            if cut.question is _Question.WHICH_SIDE and self._are_both_suspect(cut.first):
                if search.shared is cut.axis.other and _count(cut.first, search.shared) > 1:
                    search.parked.append(cut.rest)
                    return self._part(cut.first, search, axis=search.shared)
            elif cut.question is not _Question.ID_OR_PAIR:
                return [*self._part(cut.first, search), self._ask(cut.rest, None, search)]
            cut.is_first_rejected = True
            return [self._ask(cut.rest, cut, search)]
        if cut.question is _Question.ID_OR_PAIR:
            return self._name(rejected, cut.axis.other)
        return self._judge_both(cut, search)

    def _judge_both(self, cut: _Cut, search: _Search) -> list[Step]:
        """Say what follows where both parts are rejected: most likely it is the other side."""
        if not self._are_both_suspect(cut.first):
            return [*self._part(cut.first, search), *self._part(cut.rest, search)]
        other = search.shared = cut.axis.other
        parked, kept = sorted((cut.first, cut.rest), key=lambda part: part.pairs)
        search.parked.append(parked)
        if _count(kept, other) == 1:
            return [self._doubt(kept, (other,), search, blamed=other)]
        return self._part(kept, search, axis=other)

    def _part(
        self,
        rectangle: Rectangle,
        search: _Search,
        *,
        was_asked: bool = True,
        axis: Axis | None = None,
    ) -> list[Step]:
        """Cut a rectangle that something is at fault in, or name it.

        Args:
            rectangle: what is at fault.
            search: that it belongs to.
            was_asked: whether its own call was rejected, so that it may be named.
            axis: where to cut it if neither side is clear.
        """
        suspected = [side for side in Axis if self._unclear(rectangle, side)]
        divisible = [side for side in Axis if _count(rectangle, side) > 1]
        blamed = None  # the side whose id is at fault, if there is nothing to cut
        question = _Question.WHERE
        if len(suspected) == 1:
            (axis,) = suspected
            if axis not in divisible:
                blamed = axis if _count(rectangle, axis.other) == 0 else None
                axis, question = axis.other, _Question.ID_OR_PAIR
        elif suspected:
            axis, question = axis or search.shared, _Question.WHICH_SIDE
        # Else every id is clear by itself: then it is the pair, or something that has changed.
        if axis not in divisible:
            axis = divisible[0] if divisible and question is not _Question.ID_OR_PAIR else None
        if axis is not None:
            first, rest = self._cut(rectangle, axis)
            return [self._ask(first, _Cut(axis, first, rest, question), search)]
        if not was_asked:
            return [self._ask(rectangle, None, search)]
        if suspected and blamed is None and all(_count(rectangle, side) for side in Axis):
            return [self._doubt(rectangle, tuple(suspected), search)]
        return self._name(rectangle, blamed)

    def _ask(self, rectangle: Rectangle, cut: _Cut | None, search: _Search) -> Ask:
        search.asked[rectangle] = cut
        self._search_of[rectangle] = search
        return Ask(rectangle)

    def _clear_root(
        self, rectangle: Rectangle, axis: Axis
    ) -> Generator[Question, bool | None, None]:
        """Ask for all the ids of a side that was blamed in vain, so that none is held back."""
        search = self._search_of.get(rectangle)
        witness = self._witnesses.clear_one(axis.other)
        if search is not None and witness is not None:
            yield search.root.leaving_out().replace(axis.other, (witness,))

    def _doubt(
        self,
        rectangle: Rectangle,
        axes: tuple[Axis, ...],
        search: _Search,
        *,
        blamed: Axis | None = None,
    ) -> Doubt:
        search.doubted.add(rectangle)
        self._search_of[rectangle] = search
        return Doubt(rectangle, axes, blamed)

    def _name(self, rectangle: Rectangle, axis: Axis | None) -> list[Step]:
        """Name what is at fault; whatever else names it is to be asked for without it."""
        steps: list[Step] = [Culprit(rectangle, axis)]
        if axis is None:
            return steps
        (unit,) = rectangle.named(axis) or ()
        self._witnesses.dismiss(axis, unit)
        self._accused.settle(axis, (unit,))
        self._accused.is_any_confirmed |= self._accused.was_bad(axis, unit)
        for each in [each for each in self._again if unit in (each.named(axis) or ())]:
            del self._again[each]
            steps.append(Ask(each))
        for other in self._searches:
            steps += self._leave_out(other, axis, unit)  # its root need not name what it parked
            with_unit = [each for each in other.parked if unit in (each.named(axis) or ())]
            for each in with_unit:
                other.parked.remove(each)
                steps.append(Ask(each, is_suspect=False))
        return steps

    def _leave_out(self, search: _Search, axis: Axis, unit: str) -> list[Step]:
        """Go on with a search without an id that was named: it explains what was rejected."""
        steps: list[Step] = []
        for doubted in [each for each in search.doubted if unit in (each.named(axis) or ())]:
            search.doubted.remove(doubted)
            del self._search_of[doubted]
            steps.append(Ask(doubted, is_suspect=False))
        for asked, cut in list(search.asked.items()):
            is_in_asked = unit in (asked.named(axis) or ())
            if is_in_asked:  # it is asked for without the id, as if it were whole
                del search.asked[asked], self._search_of[asked]
            if cut is not None:
                is_in_withheld = unit in (cut.withheld.named(axis) or ())
                if is_in_withheld or is_in_asked:
                    steps.append(Ask(cut.withheld, is_suspect=False))
                if is_in_withheld and not is_in_asked:
                    search.asked[asked] = None
        return steps

    def _tidy(self) -> list[Step]:
        """Take up what is parked for no reason any more, and end the searches that are over."""
        steps: list[Step] = []
        for search in list(self._searches):
            decided = [each for each in search.parked if not self._are_both_suspect(each)]
            for each in decided:
                search.parked.remove(each)
                steps += self._part(each, search)
            if search.shared is not None and not self._unclear(search.root, search.shared):
                search.shared = None
            if not search.asked and not search.doubted:
                steps += [Ask(each, is_suspect=False) for each in search.parked]
                del self._searches[search]
        return steps + self._judge_again()

    def _is_parked(self, rectangle: Rectangle) -> bool:
        """Park a rejected batch that a search is expected to explain, if there is one."""
        if not self._are_both_suspect(rectangle):
            return False
        for search in self._searches:
            for axis in Axis:
                shares = rectangle.named(axis) == search.root.named(axis)
                if shares and self._are_both_suspect(search.root):
                    search.shared = axis
                    search.parked.append(rectangle)
                    return True
        return False

    def _cut(self, rectangle: Rectangle, axis: Axis) -> tuple[Rectangle, Rectangle]:
        """Cut along an axis: the ids that are clear, if others are not, go with the first part."""
        side = rectangle.named(axis) or ()
        unclear = self._unclear(rectangle, axis) or side
        first = _first_of(len(unclear)) if len(unclear) > 1 else 0
        apart = set(unclear[first:])
        return (
            rectangle.replace(axis, tuple(unit for unit in side if unit not in apart)),
            rectangle.replace(axis, unclear[first:]),
        )

    def _unclear(self, rectangle: Rectangle, axis: Axis) -> tuple[str, ...]:
        side = rectangle.named(axis)
        if side is None or id(side) in self._clear_sides:
            return ()
        return tuple(self._clear[axis].absent_from(side))

    def _are_both_suspect(self, rectangle: Rectangle) -> bool:
        return all(self._unclear(rectangle, axis) for axis in Axis)


def _first_of(count: int) -> int:
    """Return how many of so many ids, at least two, are asked for first.

    The first part, which costs a call more, must be worth one less: it may have as many ids as the
    Fibonacci number two places before the first that is not below `count`.
    """
    before, last, number = 1, 1, 2
    while number < count:
        before, last, number = last, number, last + number
    return min(before, count // 2)


def _count(rectangle: Rectangle, axis: Axis) -> int:
    return len(rectangle.named(axis) or ())
