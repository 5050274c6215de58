"""The plan of a run: chosen by cost, probed where that may pay, revised when calls show otherwise.

The planner gives the frontier its cuts, is told of every call that succeeded, and when another
shape has become cheaper by a margin it takes back what is whole and cuts that anew. A shape whose
surplus is only guessed is tried with one ordinary batch first, whose rows are kept, if at its best
it would be worth it. Every change of mind raises the margin for the next, so that it settles.

Pure: the same calls told in the same order give the same plan.
"""

import dataclasses
import math
from collections import deque
from collections.abc import Sequence

from bulkfetch.errors import UsageError
from bulkfetch.plan.beliefs import Beliefs, Ratio
from bulkfetch.plan.cost import Bounds, Choice, Estimate, choose, estimate, estimate_cover
from bulkfetch.plan.cutting import cut_pairs, cut_rectangles
from bulkfetch.plan.frontier import Cut, Frontier, default_cut
from bulkfetch.plan.learning import learn, learn_too_large
from bulkfetch.plan.pairs import Prices
from bulkfetch.plan.probing import choose_probes
from bulkfetch.plan.rectangle import Axis, Rectangle, split
from bulkfetch.plan.region import PairSet, Region, count_wanted, rest_of
from bulkfetch.plan.shapes import Shape, Sizes, legal_shapes

DEFAULT_BATCH_SIZE = 100
_MARGIN = 1.25
_MARGIN_OF_GUESSES = 2.0
_PROBE_WORTH_S = 5.0  # less is not worth a call that may answer far too much
_PROBE_RISK = 0.3
_PROBE_TAKES = 2.0
_MUCH_SURPLUS = 0.1  # of what is wanted
_NEARLY = 0.9
_SETTLED_CALLS = 32
_LOOK_EVERY = 8  # calls, after the first few


class Planner:
    """Chooses the shape of a region's calls, and revises it. Say `begin` once.

    Args:
        region: what is wanted.
        bounds: what calls must keep to.
        shape: pinned by the caller; None to choose.
        complete: the axes whose ids are all that the account has.

    Raises:
        UsageError: the pinned shape is not possible for the region.
    """

    def __init__(
        self,
        region: Region,
        bounds: Bounds | None = None,
        *,
        shape: Shape | None = None,
        complete: frozenset[Axis] = frozenset(),
    ) -> None:
        self._region = region
        self._bounds = bounds or Bounds()
        self._pinned = shape
        is_listed = isinstance(region, PairSet)
        learners, courses = (
            None if region.side(axis) is None else region.width(axis) for axis in Axis
        )
        self._sizes = Sizes(learners, courses, region.pairs if is_listed else None)
        self._sizes_begun = self._sizes  # when the shape in use was chosen, and so many pairs left
        self.beliefs = Beliefs.guess(
            learners, courses, region.pairs if is_listed else None, complete
        )
        self.revisions = 0
        self._total = self._left = region.pairs
        self._frontier: Frontier | None = None
        self._rest: list[Rectangle]  # as it was cut last
        self._rest_pairs: int
        self._cuts: dict[Shape, list[Cut]]
        self._cut_with: int
        self._probed: set[Shape] = set()
        self._favourite: Shape | None = None  # to be tried with one batch, and then taken
        self._always_sent: frozenset[Axis] = frozenset()
        self._notes = 0
        # Of late calls along the axis of the shape in use: what the pace has come to.
        self._widths: deque[tuple[Axis, int]] = deque(maxlen=_SETTLED_CALLS)
        shapes = legal_shapes(self._sizes)
        if shape is not None and shape not in shapes:
            raise UsageError(
                f"The shape {shape} is not possible for what is asked for: {', '.join(shapes)} are."
            )
        self._choice: Choice | None = None
        self._set_rest(rest_of(region, []))

    @property
    def choice(self) -> Choice:
        """The shape in use and why; made when it is first asked for, for listed pairs are many."""
        if self._choice is None:
            self._choice = self._choose(self.estimates())
        return self._choice

    @choice.setter
    def choice(self, choice: Choice) -> None:
        self._choice = choice

    @property
    def shape(self) -> Shape:
        """The shape in use."""
        return self.choice.shape

    @property
    def workers(self) -> int:
        """Calls in flight that are reckoned with."""
        return self._bounds.workers

    @property
    def pinned_size(self) -> int | None:
        """The most learners of a call, or courses where it names no learners; None for any."""
        return self._bounds.batch_size

    @property
    def batch_size(self) -> int:
        """Ids of a call along the axis of the shape in use: pinned, or a size to begin with."""
        if self.pinned_size is not None:
            return self.pinned_size
        found = self._estimate(self.shape, self._sizes_left(), self.beliefs)
        return found.batch_size if self._notes else min(found.batch_size, DEFAULT_BATCH_SIZE)

    def estimates(self) -> list[Estimate]:
        """Estimate each legal shape for what is left, the usual one first."""
        sizes = self._sizes_left()
        return [
            self._estimate(shape, sizes, self.beliefs)
            for shape in legal_shapes(sizes)
            if self._always_sent.isdisjoint(shape.unsent)
        ]

    def choose_again(self) -> None:
        """Choose by what has been learned since."""
        self.choice = self._choose(self.estimates())

    def begin(
        self,
        rectangles: Sequence[Rectangle],
        frontier: Frontier,
        apart: Sequence[Rectangle] = (),
    ) -> None:
        """Cut what is to be fetched and give it to the frontier.

        Args:
            rectangles: disjoint; of the region, what a journal does not hold.
            frontier: without rectangles.
            apart: what it does not hold, either, and is asked for by itself, or added later.
        """
        self._frontier = frontier
        if self.pinned_size is not None:
            frontier.shrink(Axis.LEARNERS, self.pinned_size)
        # A call that left such a side out would answer what an earlier run has kept.
        if not isinstance(self._region, PairSet):
            everything = (*rectangles, *apart)
            self._always_sent = frozenset(
                axis
                for axis in Axis
                if any(each.width(axis) < self._region.width(axis) for each in everything)
            )
        self._set_rest(rectangles)
        self._total = self._left = self._rest_pairs
        for rectangle in apart:
            self.expect(rectangle)
        if not rectangles:
            return
        found = self.estimates()
        self.choice = chosen = self._choose(found)
        if self._is_bold(chosen, found):
            usual, self._favourite = found[0], chosen.shape
            self.choice = Choice(usual.shape, f"{usual.title}, while another way is tried")
        frontier.add(*self._cut(self.shape))
        if chosen is self.choice:
            self._probe(found, _MARGIN)
        else:
            self._add_probe(chosen.shape, _of(found, chosen.shape))

    def add(self, rectangles: Sequence[Rectangle]) -> None:
        """Cut what was asked for apart so far, with what is whole, for the shape that now pays."""
        frontier = self._frontier
        assert frontier is not None
        is_begun = not frontier.is_empty
        frontier.add(*map(default_cut, rectangles))
        whole = frontier.withdraw()
        if not is_begun and whole:
            self._set_rest(whole)
            found = self.estimates()
            chosen = self._choose(found)
            is_bold = self._is_bold(chosen, found)
            self.choice = Choice(found[0].shape, found[0].title) if is_bold else chosen
        self._add(whole)

    def _is_bold(self, chosen: Choice, found: Sequence[Estimate]) -> bool:
        """Whether a choice is a guess that leads far from the small batches that are pinned."""
        return (
            self._pinned is None
            and self.pinned_size is not None
            and chosen.shape is not found[0].shape
            and _of(found, chosen.shape).is_guess
            and len(chosen.shape.unsent) == 1
            and not isinstance(self._region, PairSet)
        )

    def expect(self, rectangle: Rectangle) -> None:
        """Reckon with something besides, which came already and may have to be asked for again."""
        wanted = count_wanted(self._region, rectangle)
        self._left += wanted
        self._total += wanted

    def follow(self, *, workers: int, per_second: float | None) -> None:
        """Reckon with so many calls in flight and so many in a second, None for any number."""
        self._bounds = dataclasses.replace(
            self._bounds, workers=workers, per_second=per_second or math.inf
        )

    def note(
        self, rectangle: Rectangle, *, received: int, kept: int, body_bytes: int, seconds: float
    ) -> int:
        """Learn from a call that succeeded, and cut what is left anew if that pays.

        Args:
            rectangle: what was asked for.
            received: rows answered.
            kept: those of them that are wanted.
            body_bytes: of the answer, inflated.
            seconds: that the call took.

        Returns:
            How many wanted pairs that were.
        """
        wanted = self.learn(
            rectangle, received=received, kept=kept, body_bytes=body_bytes, seconds=seconds
        )
        self._left -= wanted
        self._notes += 1
        axis = self.shape.axis
        if named := rectangle.named(axis):  # or it was tried in another shape
            self._widths.append((axis, len(named)))
        if self._notes <= _LOOK_EVERY or not self._notes % _LOOK_EVERY:
            self._reconsider()
        return wanted

    def learn(
        self, rectangle: Rectangle, *, received: int, kept: int, body_bytes: int, seconds: float
    ) -> int:
        """Learn from a call that succeeded, as `note` does, and change nothing.

        Returns:
            How many wanted pairs that were.
        """
        return learn(
            self.beliefs,
            self._region,
            rectangle,
            received=received,
            kept=kept,
            body_bytes=body_bytes,
            seconds=seconds,
        )

    def probes(self) -> list[Rectangle]:
        """Return a few small calls that tell the most about the shapes."""
        usual = legal_shapes(self._sizes)[0]
        return choose_probes(self._region, usual, self.estimates(), self._bounds)

    def note_too_large(self, rectangle: Rectangle) -> None:
        """Learn that an answer was too large, or took too long."""
        learn_too_large(self.beliefs, self._region, rectangle)

    def take_back(self, rectangle: Rectangle) -> int:
        """Ask again for something that had come, and return how many wanted pairs that is."""
        assert self._frontier is not None
        cut = default_cut(rectangle)
        shape = self.shape
        is_whole_beside = all(
            rectangle.width(axis) == self._region.width(axis) for axis in shape.unsent
        )
        if shape.unsent and is_whole_beside and not isinstance(self._region, PairSet):
            cut = Cut(rectangle.leaving_out(*shape.unsent), shape.axis)
        self._frontier.add(cut, go_first=True)
        wanted = count_wanted(self._region, rectangle)
        self._left += wanted
        return wanted

    def narrow(self, rectangle: Rectangle) -> bool:
        """Ask for the same along a side that was not named, of a batch that cannot be split.

        Of a way that was tried in vain, what is left of the same ids takes the pairs along.

        Returns:
            Whether there was such a side.
        """
        if not rectangle.unsent or self._frontier is None:
            return False
        named = rectangle.leaving_out()
        is_tried = rectangle.unsent.isdisjoint(self.shape.unsent)
        if is_tried and not isinstance(self._region, PairSet):
            rest = self._put_back(named)
            if rest is None:
                return True
            named = rest
        axis = default_cut(named).axis
        if len(rectangle.unsent) == 1:
            (axis,) = rectangle.unsent
        if self.pinned_size is None and named.width(axis) > 1:
            self._frontier.give_back(*split(named, axis))
        else:
            self._frontier.add(Cut(named, axis), go_first=True)
        return True

    def _put_back(self, rectangle: Rectangle) -> Rectangle | None:
        """Have what is whole ask for a rectangle's pairs, and return those of all other ids."""
        assert self._frontier is not None
        along = self.shape.axis
        whole = self._frontier.withdraw()
        ids_left = {unit for each in whole for unit in each.side(along) or ()}
        side = rectangle.side(along) or ()
        back = tuple(unit for unit in side if unit in ids_left)
        self._add([rectangle.replace(along, back), *whole] if back else whole)
        rest = tuple(unit for unit in side if unit not in ids_left)
        return rectangle.replace(along, rest) if rest else None

    def _reconsider(self) -> None:
        frontier = self._frontier
        if self._pinned is not None or frontier is None or self._left <= 0:
            return
        if self._notes < self._bounds.settled_after and not isinstance(self._region, PairSet):
            return
        found = self.estimates()
        current = _of(found, self.shape)
        if current.seconds < self._bounds.worth_s:
            return
        # Where batches and places grow by themselves, what is left may take less than it seems.
        margin = _MARGIN_OF_GUESSES if self.pinned_size is None else _MARGIN
        margin *= _MARGIN**self.revisions
        considered = [each for each in found if self._is_for_later(each, current)]
        choice = choose(considered, current=self.shape, margin=margin, worth_s=self._bounds.worth_s)
        # A cover of listed pairs is made for a batch size.
        ratio = frontier.batch_size / self._cut_with if isinstance(self._region, PairSet) else 1
        chosen = _of(found, choice.shape)
        if chosen.is_guess and chosen is not current and not isinstance(self._region, PairSet):
            if choice.shape not in self._probed and self._may_probe(chosen, current):
                self._add_probe(choice.shape, chosen)
        elif choice.shape is not self.shape or not 1 / 2 < ratio < 2:  # noqa: PLR2004
            self.revisions += choice.shape is not self.shape
            self._sizes_begun, self._total = self._sizes_left(), max(1, self._left)
            self.choice = choice
            self._add(frontier.withdraw())
        else:
            self._probe(found, margin)

    def _is_for_later(self, found: Estimate, current: Estimate) -> bool:
        """Whether a run that is under way may change to a shape.

        Not to a single call, which leaves all other places idle and may answer more than can be
        answered. Nor to larger answers than any so far with much surplus: calls that answered less
        cannot tell well what rows cost, least of all while they stood in a queue. Where the rate
        makes calls dear, there is nothing to tell.
        """
        if found.shape in {self.shape, self._favourite}:
            return True
        rows = (found.rows + found.surplus) / found.calls
        is_bold = rows > self.beliefs.most_rows and not found.is_guess
        is_dear = found.surplus > _MUCH_SURPLUS * found.rows
        is_dear &= current.calls < _NEARLY * current.seconds * self._bounds.per_second
        return found.shape is not Shape.WHOLE and not (is_bold and is_dear)

    def _probe(self, found: Sequence[Estimate], margin: float) -> None:
        """Ask for one batch in a shape whose surplus is a guess, if at its best it would pay."""
        if self._pinned is not None or isinstance(self._region, PairSet):
            return
        current = _of(found, self.shape)
        for each in found:
            shape = each.shape
            if len(shape.unsent) != 1 or not each.is_guess or shape in self._probed:
                continue
            if shape is self.shape or not self._sizes.names(shape.unsent[0]):
                continue
            best = self._estimate(shape, self._sizes_left(), self.beliefs.at_best())
            saved = current.seconds - best.seconds
            if (
                best.seconds * margin < current.seconds
                and saved > max(_PROBE_WORTH_S, 2 * best.call_s)
                and best.risk < _PROBE_RISK
                and self._may_probe(each, current)
            ):
                self._add_probe(shape, best)
                return

    def _may_probe(self, found: Estimate, current: Estimate) -> bool:
        """Whether a call in a shape takes, at worst, twice as long as all that is left as it is.

        And whether no other waits to be made. Calls so far, which answer far less, cannot tell what
        rows cost and what ids: it may be that rows are all that takes time.
        """
        assert self._frontier is not None
        whole = self._frontier.next_whole
        if whole is not None and whole.unsent != frozenset(self.shape.unsent):
            return False  # one that nobody has taken yet
        rows = (found.rows + found.surplus) / found.calls
        return rows * self.beliefs.speed.row_at_most_s() < _PROBE_TAKES * current.seconds

    def _add_probe(self, shape: Shape, best: Estimate) -> None:
        """Take a batch's worth off what is whole, from its middle, and let it go first."""
        frontier = self._frontier
        self._probed.add(shape)
        assert frontier is not None
        withdrawn = frontier.withdraw()
        cuts = cut_rectangles(withdrawn, shape, batch_size=self.batch_size)
        if not cuts:
            return
        ids = 1 if shape.axis is Axis.COURSES else min(best.batch_size, DEFAULT_BATCH_SIZE)
        chosen = max((cut.rectangle for cut in cuts), key=lambda each: each.pairs)
        side = chosen.side(shape.axis) or ()
        at = max(0, (len(side) - ids) // 2)
        probe = chosen.replace(shape.axis, side[at : at + ids])
        rest = [cut.rectangle.leaving_out() for cut in cuts if cut.rectangle is not chosen]
        left = side[:at] + side[at + ids :]
        if left:
            rest.append(chosen.replace(shape.axis, left).leaving_out())
        self._add(rest)
        frontier.add(Cut(probe, shape.axis), go_first=True)

    def _add(self, rectangles: Sequence[Rectangle]) -> None:
        """Cut for the shape in use, and give the cuts to the frontier."""
        assert self._frontier is not None
        self._set_rest(rectangles)
        self._frontier.add(*self._cut(self.shape))

    def _set_rest(self, rectangles: Sequence[Rectangle]) -> None:
        self._rest = list(rectangles)
        self._rest_pairs = sum(count_wanted(self._region, each) for each in rectangles)
        self._cuts = {}
        self._cut_with = self._ids_a_call(Shape.LEARNERS)

    def _cut(self, shape: Shape) -> list[Cut]:
        """Cut the rest, as it was when it was cut last, for a shape."""
        region = self._region
        if shape not in self._cuts:
            if isinstance(region, PairSet):
                self._cuts[shape] = self._cover(region, shape)
            else:
                size = self._bounds.batch_size or DEFAULT_BATCH_SIZE
                self._cuts[shape] = cut_rectangles(self._rest, shape, batch_size=size)
        return self._cuts[shape]

    def _cover(self, region: PairSet, shape: Shape) -> list[Cut]:
        call_s, row_s, id_s = self.beliefs.speed.coefficients()
        bounds = self._bounds_now()
        return cut_pairs(
            region,
            self._rest,
            shape,
            batch_size=self._ids_a_call(shape),
            most_others=bounds.most_beside(shape.axis.other),
            prices=Prices(self.beliefs.density_elsewhere.value * row_s / call_s, id_s / call_s),
        )

    def _ids_a_call(self, shape: Shape) -> int:
        """Return for how many ids a call listed pairs are put together."""
        if self._bounds.batch_size is not None:
            return self._bounds.batch_size
        if self._frontier is not None:
            return self._frontier.batch_size
        around = Ratio(self.beliefs.density_elsewhere.value, 1.0)
        sizes = dataclasses.replace(self._sizes, listed=None)
        beliefs = dataclasses.replace(self.beliefs, density=around)
        return estimate(shape, sizes, beliefs, self._bounds).batch_size

    def _choose(self, found: Sequence[Estimate]) -> Choice:
        if self._pinned is not None:
            return Choice(self._pinned, "pinned")
        return choose(found, margin=_MARGIN_OF_GUESSES)

    def _estimate(self, shape: Shape, sizes: Sizes, beliefs: Beliefs) -> Estimate:
        region, bounds = self._region, self._bounds_now()
        # What is done along one side comes again where that side is not named.
        left = {axis: sizes.count(axis) / self._sizes.count(axis) for axis in Axis}
        if Axis.LEARNERS in shape.unsent:
            share = beliefs.share_of_course.scaled(left[Axis.LEARNERS])
            beliefs = dataclasses.replace(beliefs, share_of_course=share)
        if Axis.COURSES in shape.unsent:
            share = beliefs.share_of_learner.scaled(left[Axis.COURSES])
            beliefs = dataclasses.replace(beliefs, share_of_learner=share)
        if not isinstance(region, PairSet) or shape.unsent:
            return estimate(shape, sizes, beliefs, bounds)
        return estimate_cover(
            shape,
            [cut.rectangle for cut in self._cut(shape)],
            sizes,
            beliefs,
            bounds,
            batch_size=self._ids_a_call(shape),
            listed=max(1, self._rest_pairs),
        )

    def _bounds_now(self) -> Bounds:
        """What calls must keep to, with what the service has shown since."""
        if self._frontier is None:
            return self._bounds
        caps = {axis: self._frontier.most_named(axis) for axis in Axis}
        axis = self._axis
        widths = [width for along, width in self._widths if along is axis]
        if len(widths) == _SETTLED_CALLS:
            caps[axis] = min(caps[axis], max(widths))
        return dataclasses.replace(self._bounds, caps=caps)

    @property
    def _axis(self) -> Axis:
        """The axis that batches run along, or the usual one while nothing is chosen."""
        is_chosen = self._choice is not None and self._frontier is not None
        return self.shape.axis if is_chosen else Axis.LEARNERS

    def _sizes_left(self) -> Sizes:
        """The sizes of what is left: the side that batches run along is shorter by what is done."""
        sizes = self._sizes_begun
        share = max(self._left, 0) / self._total if self._total else 0.0
        axis = self._axis
        if not sizes.names(axis):
            axis = axis.other
        learners, courses = sizes.learners, sizes.courses
        if axis is Axis.LEARNERS and learners is not None:
            learners = max(1.0, learners * share)
        elif axis is Axis.COURSES and courses is not None:
            courses = max(1.0, courses * share)
        listed = None if sizes.listed is None else max(1.0, sizes.listed * share)
        return Sizes(learners, courses, listed)


def _of(found: Sequence[Estimate], shape: Shape) -> Estimate:
    return next(each for each in found if each.shape is shape)
