"""Silent caps: does the service leave out rows past so many rows or bytes, or ids past so many?

A service that stops at so many rows, or bytes, and says nothing gives answers whose sizes crowd
below that limit, which may waver from call to call. So an answer is suspect unless one that is 1.4
times as large has come, in rows and in bytes. Three kinds of extra calls tell, cheapest first:

* **More.** The same rectangle, with ids that are known to have rows in the place of some that have
  none, or besides: an answer 1.4 times as large clears all answers up to the one under suspicion,
  mostly for the rest of the run; one that lacks rows that are known proves a cap.
* **Halves.** Rows in the halves of a rectangle that are not in its whole prove a cap.
* **Another order.** An answer whose last id has rows proves that so many ids are read. If the last
  ids of a list longer than that are all empty, they are asked for first, and those with rows last:
  rows that vanish prove a cap on ids, and if none does, all ids of such a list are read.

No call is needed where three answers have the same round size although one asked for twice as much
as another, and none is larger: that is a cap.

Where more cannot be asked for, answers stay suspect; and where the caller has pinned how many ids a
call names, unless all have one size. Then those larger than any that proved whole are halved and
compared, and of the others a few and ever fewer: of n answers about 2·ln n calls for the first and
2·log4 n for the second. Round sizes are suspect a few times whatever came before: one of several
servers may cap. In a healthy account the first answers cost a few calls and the rest none. What
cannot be halved and compared (a single pair, a call without ids) is suspect only if its size is
round.

Once an answer was proven short, none that has half its rows or bytes counts any more, whether it
came before or comes after: it is asked for in parts, down to parts that are clearly below. If all
answers stop at one number of rows, what cannot be parted counts up to that number.

Pure: told what came, asked what to do.
"""

import math
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from enum import Enum
from itertools import islice
from typing import Self

from bulkfetch.engine.outcome import SilentCaps
from bulkfetch.errors import TooLargeError
from bulkfetch.plan.marks import find
from bulkfetch.plan.rectangle import Axis, Rectangle, Side
from bulkfetch.words import counted

_NOT_CLEARLY_BELOW = 2  # what has at least this part of a cap: half of it
_SMALLEST_CAP = 10  # page sizes begin there
_SMALLEST_REFUSED = 100  # of what cannot be compared, and is not believed if its size is round
_CLEAR = 1.4  # an answer that is larger by this clears others: caps may waver by less
_NEARLY_AS_LARGE = 1.05  # as one that proved whole
_GROWTH = (1.0, 0.5, 0.0)  # of what is asked for, each after the one before was refused

_AT_CAP = 3  # so many answers of one size, and none larger, show that a cap does not waver
_FILLED = 0.35  # of a cap, by the usual batch: those that are twice as full do not count
_USUAL_ANSWERS = 64  # kept to tell what a usual batch holds
_FAR_WIDER = 2  # times the pairs
_LEAST_BALANCE = -3
_TESTS_THIN_OUT = 4
_TESTS_OF_ROUND_SIZES = 2  # smaller than the largest answer, in all
_TESTS_OF_EMPTY = 3  # answers without any row, asked for in another order
_MORE_AT_LEAST = 40  # ids asked for besides: few ids make answers of very different sizes
_MORE_ROWS = 2_000  # asked for besides at most, or half as many as there are: they take time
_ROUND_LEADS = frozenset({"1", "2", "25", "5"})
_THOUSAND = 1_000
_SMALLEST_POWER = 128

WithRows = Mapping[Axis, AbstractSet[str]]  # the ids of each side that have rows in an answer


class CappedError(TooLargeError):
    """The service leaves out what is past a number, silently: ask for less at a time.

    `axis` is the side on which ids are left out, and `ids` how many are read; None where it is
    rows.
    """

    def __init__(self, message: str, axis: Axis | None = None, ids: int | None = None) -> None:
        super().__init__(message)
        self.axis = axis
        self.ids = ids


class Suspicion(Enum):
    """What is to be thought of an answer."""

    NONE = "none"
    LARGE = "none so far was clearly larger"
    SAMPLED = "some that were not smaller proved whole"
    ROUND = "larger ones came, but the size is round"
    CAPPED = "not clearly below the cap"


@dataclass(frozen=True, slots=True)
class Volume:
    """How much an answer holds: rows, and bytes, inflated."""

    rows: int = 0
    body_bytes: int = 0

    def exceeds(self, other: Self, *, by: float = 1.0) -> bool:
        """Whether there is more than `by` times the other's rows, or bytes."""
        return self.rows > by * other.rows or self.body_bytes > by * other.body_bytes

    def reaches(self, other: Self, *, part: int = 1) -> bool:
        """Whether there is at least a part of the other's rows, or bytes: the half for 2."""
        return part * self.rows >= other.rows or part * self.body_bytes >= other.body_bytes

    def clears(self, other: Self) -> bool:
        """Whether this is clearly larger, in both."""
        return self.rows >= _CLEAR * other.rows and self.body_bytes >= _CLEAR * other.body_bytes

    def join(self, other: Self, choose: Callable[[int, int], int]) -> "Volume":
        """Choose each number from the two."""
        return Volume(choose(self.rows, other.rows), choose(self.body_bytes, other.body_bytes))


@dataclass(frozen=True, slots=True)
class OneMore:
    """A rectangle to ask for, and the ids along `axis` that must have rows in its answer."""

    rectangle: Rectangle
    axis: Axis
    must_have_rows: AbstractSet[str]


@dataclass(frozen=True, slots=True)
class Reordered:
    """The rectangle of an answer with the ids of one side in another order: none is sorted."""

    axis: Axis
    rectangle: Rectangle


class Caps:
    """What is known of the service's caps.

    Args:
        regions: all that the run will ask for; ids to ask for besides are taken from there.

    Attributes:
        limit: the least that was proven short, by rows and by bytes; None before any was.
        revision: grows when answers that counted before may not count any more.
        refusals: how often one more was refused, as far as that matters.
    """

    def __init__(self, regions: Sequence[Rectangle]) -> None:
        self._regions = regions
        self.limit: Volume | None = None
        self.revision = 0
        self._largest = Volume()
        self._whole = Volume()  # the largest that was compared with its parts
        self._sizes: Counter[int] = Counter()  # so many answers had so many rows
        self._latest: deque[tuple[int, Volume]] = deque(maxlen=_USUAL_ANSWERS)  # pairs, and volume
        self._pairs_wanted = math.inf  # in a batch, so that it stays below the cap
        self._pairs_of: dict[int, tuple[int, int]] = {}  # least and most, of answers so large
        self._balance = 0  # of answers of such batches that reach it, and those that do not
        self._suspects = 0
        self._id_caps: dict[Axis, int] = {}
        self._round_tests = 0
        self._read = dict.fromkeys(Axis, 0)  # so many ids of a list are read, at least
        self._empty_tests = 0
        self._with_rows: dict[Axis, tuple[AbstractSet[str], Side]] = {}  # and on the other side
        self.refusals = 0
        self._rejected: dict[Axis, set[str]] = {axis: set() for axis in Axis}

    def avoid(self, rectangle: Rectangle) -> None:
        """Ask for no id of a call that was rejected, before it is known to be sound."""
        for axis, ids in self._rejected.items():
            ids.update(rectangle.named(axis) or ())

    def judge(
        self, volume: Volume, *, is_drawn: bool = False, is_divisible: bool = True
    ) -> Suspicion:
        """Say whether an answer is suspect.

        Args:
            volume: how much it holds.
            is_drawn: whether it is one of the sample that is tested although larger ones proved
                whole: what `draws_next` said before it was noted.
            is_divisible: whether it can be asked for in parts.
        """
        if self.limit is not None:
            is_over = volume.reaches(self.limit, part=_NOT_CLEARLY_BELOW)
            if is_over and not is_divisible:
                is_below = self._is_exact() and volume.rows < self.limit.rows
                is_over = not is_below and not self.limit.clears(volume)
            return Suspicion.CAPPED if is_over else Suspicion.NONE
        if volume.rows < _SMALLEST_CAP:
            return Suspicion.NONE
        if self._largest.clears(volume):
            is_worth_it = is_round(volume.rows) and self._round_tests < _TESTS_OF_ROUND_SIZES
            return Suspicion.ROUND if is_worth_it else Suspicion.NONE
        if volume.exceeds(self._whole, by=_NEARLY_AS_LARGE):
            return Suspicion.LARGE
        return Suspicion.SAMPLED if is_drawn else Suspicion.NONE

    @property
    def are_alike(self) -> bool:
        """Whether most answers have just as many rows as the largest, and one of those is whole.

        So it is where all learners have the same courses, and where a cap cuts some others to that.
        """
        count = self._sizes[self._largest.rows]
        is_usual = count >= _AT_CAP and 2 * count > self._sizes.total()
        return is_usual and self._whole.rows == self._largest.rows

    @property
    def draws_next(self) -> bool:
        """Whether the next suspect is tested although larger ones proved whole: ever fewer are."""
        number = self._suspects + 1
        while number % _TESTS_THIN_OUT == 0:
            number //= _TESTS_THIN_OUT
        return number == 1

    def note(self, rectangle: Rectangle, volume: Volume, with_rows: WithRows) -> None:
        """Note an answer, and which ids have rows in it, once it has been judged."""
        if self.limit is not None:
            if volume.rows > self.limit.rows >= self._largest.rows and self._is_exact():
                self.revision += 1  # what could not be parted was believed
            if rectangle.pairs <= self._pairs_wanted:
                is_over = volume.reaches(self.limit, part=_NOT_CLEARLY_BELOW)
                self._balance = max(_LEAST_BALANCE, self._balance + (1 if is_over else -1))
        elif volume.rows >= _SMALLEST_CAP and not self._largest.clears(volume):
            self._suspects += 1
        self._latest.append((rectangle.pairs, volume))
        self._sizes[volume.rows] += 1
        self._largest = self._largest.join(volume, max)
        if self.limit is None:
            self._note_round(rectangle, volume)
        for axis, rejected in self._rejected.items():
            if rejected:
                rejected.difference_update(rectangle.named(axis) or ())
        for axis, ids in with_rows.items():
            if ids:
                self._with_rows[axis] = ids, rectangle.side(axis.other)

    def _note_round(self, rectangle: Rectangle, volume: Volume) -> None:
        """Note an answer of a round size; a few such answers may show a cap by themselves.

        So it is where three have the same size, one of them to a question twice as wide as another,
        and none has more rows.
        """
        rows, pairs = volume.rows, rectangle.pairs
        if rows < _SMALLEST_REFUSED or not is_round(rows):
            return
        least, most = self._pairs_of.get(rows, (pairs, pairs))
        self._pairs_of[rows] = least, most = min(least, pairs), max(most, pairs)
        if most >= _FAR_WIDER * least and self._are_at(rows):
            self.prove_short(volume)

    def _are_at(self, rows: int) -> bool:
        """Whether a few answers have so many rows, and none has more."""
        return self._sizes[rows] >= _AT_CAP and self._largest.rows == rows

    def _is_exact(self) -> bool:
        """Whether the cap is a number of rows that does not waver, as far as can be seen."""
        return self.limit is not None and self._are_at(self.limit.rows)

    def pass_rows(self, volume: Volume) -> None:
        """Note that an answer of so much was compared with its halves, and is whole."""
        self._round_tests += self._largest.clears(volume)
        self._whole = self._whole.join(volume, max)

    def refuse_rows(self, count: int) -> CappedError | None:
        """Return the error for an answer that cannot be compared, if it is not to be believed."""
        if count < max(self._largest.rows, _SMALLEST_REFUSED) or not is_round(count):
            return None
        return CappedError(
            f"The answer has exactly {counted(count, 'row')}, no other has more, and it cannot be "
            "asked for in parts: the service may silently leave out what is past that. Give both "
            "learner ids and course ids."
        )

    def prove_short(self, volume: Volume) -> CappedError:
        """Note that an answer of so much is not whole, and return the error to raise."""
        limit = volume if self.limit is None else self.limit.join(volume, min)
        if limit != self.limit:
            self.limit = limit
            self.revision += 1
            self._pairs_wanted = min(self._pairs_wanted, self._pairs_that_fit(limit))
        return self.capped_rows()

    def capped_rows(self) -> CappedError:
        """Return the error for an answer that is not clearly below the cap."""
        assert self.limit is not None
        return CappedError(
            f"The service silently cuts answers at about {counted(self.limit.rows, 'row')} "
            f"({self.limit.body_bytes:,} bytes), and this answer is not clearly below that: rows "
            "may be missing from it. Ask for less at a time."
        )

    def pairs_wanted(self, rectangle: Rectangle) -> float:
        """Return how many pairs batches ought to have, now that this one reached the cap.

        As many as stay below it by what other answers hold, and half as many each time that most
        of such batches reach it; infinite while that is not known.
        """
        if rectangle.pairs <= self._pairs_wanted and self._balance > 0:
            self._pairs_wanted = rectangle.pairs / 2
            self._balance = -2
        return self._pairs_wanted

    def _pairs_that_fit(self, limit: Volume) -> float:
        """Return how many pairs fill as much of a limit as a usual batch may."""
        below = [(pairs, volume) for pairs, volume in self._latest if not volume.reaches(limit)]
        rows = sum(volume.rows for _, volume in below) / limit.rows
        body_bytes = sum(volume.body_bytes for _, volume in below) / limit.body_bytes
        if not max(rows, body_bytes):
            return math.inf
        return max(1.0, _FILLED * sum(pairs for pairs, _ in below) / max(rows, body_bytes))

    def one_more(
        self,
        rectangle: Rectangle,
        with_rows: WithRows,
        refused: Mapping[Axis, int],
        rows: int,
    ) -> OneMore | None:
        """Return a rectangle that ought to have more rows than this one; None if none is known.

        Args:
            rectangle: what was asked for.
            with_rows: the ids that have rows in its answer.
            refused: so many ids of a side were refused, or took too long.
            rows: how many its answer has.
        """
        found = self._others(rectangle)
        if found is None:
            return None
        axis, known, others = found
        side = rectangle.named(axis) or ()
        growth = _GROWTH[self.refusals]
        most_wanted = 1 + max(_MORE_ROWS, rows // 2) * len(side) // rows
        wanted = min(max(_MORE_AT_LEAST, len(side)), most_wanted)
        replaceable = [unit for unit in side if unit not in with_rows[axis]][:wanted]
        most = min(self._id_caps.get(axis, math.inf), refused.get(axis, math.inf) - 1)
        grows_by = min(int(growth * wanted), most - len(side))
        more = [*known, *others][: int(min(wanted, len(replaceable) + max(0, grows_by)))]
        if not more:
            return None
        ids = set(side).difference(replaceable[: len(more)]).union(more)
        must_have_rows = set(with_rows[axis]).union(more[: len(known)])
        return OneMore(rectangle.replace(axis, tuple(sorted(ids))), axis, must_have_rows)

    def hear_short(self, asked: OneMore, volume: Volume, with_rows: WithRows) -> None:
        """Learn that the answer to one more lacks rows that are known.

        Args:
            asked: what `one_more` returned.
            volume: how much the answer holds.
            with_rows: the ids that have rows in the answer.
        """
        side = asked.rectangle.named(asked.axis) or ()
        read = _read(side, with_rows[asked.axis])
        missing = asked.must_have_rows - with_rows[asked.axis]
        if missing and missing <= set(side[read:]):  # as if the end of the list was not read
            self._read[asked.axis] = max(self._read[asked.axis], read)
            self.prove_ids(asked.axis)
            if volume.rows < _SMALLEST_CAP or self._largest.clears(volume):
                return  # no cap on rows or bytes: larger answers came
        self.prove_short(volume)

    def stop_growing(self) -> None:
        """Note that one more was refused: ask for less more, in the end for no more ids."""
        self.refusals = min(self.refusals + 1, len(_GROWTH) - 1)

    def reorder(self, rectangle: Rectangle, with_rows: WithRows) -> list[Reordered]:
        """Return what to ask for where the end of a list may not have been read.

        Args:
            rectangle: what was asked for.
            with_rows: the ids that have rows in its answer; they are noted as read.
        """
        found = []
        for axis, ids in with_rows.items():
            side = rectangle.named(axis)
            if side is None or len(side) == 1:  # there is no other order
                continue
            if axis in self._id_caps or self._read[axis] >= len(side):
                continue
            self._read[axis] = max(self._read[axis], _read(side, ids))
            if self._read[axis] < len(side) and (ids or self._empty_tests < _TESTS_OF_EMPTY):
                order = sorted(side, key=ids.__contains__) if ids else side[::-1]
                found.append(Reordered(axis, rectangle.replace(axis, tuple(order))))
        return found

    def hear_reordered(
        self, asked: Reordered, before: AbstractSet[str], after: AbstractSet[str]
    ) -> bool:
        """Learn from the answer in another order; say whether ids were left out.

        Args:
            asked: one of what `reorder` returned.
            before: the ids of the side that have rows in the answer in order.
            after: those in this one.
        """
        side = asked.rectangle.named(asked.axis) or ()
        self._empty_tests += not after
        self._read[asked.axis] = max(self._read[asked.axis], _read(side, after))
        return before != after

    def left_out(self, volume: Volume) -> CappedError:
        """Return the error for an answer of so much that has other rows in another order.

        Both answers have as many rows: if none so far had more, that is a cap. Else it may be ids
        that were not read, and chance; in any case some are left out.
        """
        if volume.rows >= max(self._largest.rows, _SMALLEST_CAP):
            return self.prove_short(volume)
        return CappedError(
            "The service silently leaves out some of the ids or of the rows, others in another "
            "order: ask for less at a time."
        )

    def prove_ids(self, axis: Axis) -> None:
        """Note that no more ids of a list are read than have been so far."""
        if axis not in self._id_caps:
            self._id_caps[axis] = max(1, self._read[axis])
            self.revision += 1

    def doubts(self, rectangle: Rectangle, volume: Volume) -> bool:
        """Whether an answer that counted before does not any more, by what has been proven."""
        is_over = self.limit is not None and volume.reaches(self.limit, part=_NOT_CLEARLY_BELOW)
        return is_over or self.is_too_wide(rectangle)

    def is_too_wide(self, rectangle: Rectangle) -> bool:
        """Whether a rectangle names more ids than are read."""
        return any(len(rectangle.named(axis) or ()) > cap for axis, cap in self._id_caps.items())

    @property
    def proven(self) -> SilentCaps:
        """What was proven so far, by this run or one before."""
        limit, ids = self.limit or Volume(), self._id_caps
        return SilentCaps(
            rows=limit.rows or None,
            body_bytes=limit.body_bytes or None,
            learner_ids=ids.get(Axis.LEARNERS),
            course_ids=ids.get(Axis.COURSES),
        )

    def recall(self, proven: SilentCaps, refusals: object = None) -> None:
        """Begin with what an earlier run proved, and with how often one more was refused to it."""
        if isinstance(refusals, int):
            self.refusals = max(0, min(refusals, len(_GROWTH) - 1))
        if proven.rows and proven.body_bytes:
            self.limit = Volume(proven.rows, proven.body_bytes)
        for axis, ids in (
            (Axis.LEARNERS, proven.learner_ids), (Axis.COURSES, proven.course_ids),
        ):  # fmt: skip
            if ids:
                self._id_caps[axis] = ids

    def check_width(self, rectangle: Rectangle) -> None:
        """Check that the service reads all the ids of a rectangle, as far as is known.

        Raises:
            CappedError: a list is longer than what it reads.
        """
        for axis, cap in self._id_caps.items():
            if len(rectangle.named(axis) or ()) > cap:
                raise CappedError(
                    f"The service silently reads about {counted(cap, 'id')} of a list of "
                    f"{axis.value} at most: ask for fewer at a time.",
                    axis,
                    cap,
                )

    def _others(self, rectangle: Rectangle) -> tuple[Axis, list[str], list[str]] | None:
        """Return ids that the rectangle does not ask for: known to have rows, and others.

        None are sought along a side that is not filtered, or that has all the run asks for. Nor in
        regions that lack ids of the other side: what an earlier run has fetched is not asked for.
        """
        for axis in Axis:
            side = rectangle.named(axis)
            if side is None:
                continue
            own, known, other = set(side), [], rectangle.side(axis.other)
            with_rows, other_side = self._with_rows.get(axis, (frozenset(), None))
            if other in (None, other_side) or axis.other in rectangle.unsent:
                known = sorted(with_rows - own)
            regions = (each for each in self._regions if _has(each.side(axis.other), other))
            all_ids = (unit for region in regions for unit in region.side(axis) or ())
            enough = 2 * len(own | self._rejected[axis]) + _MORE_AT_LEAST
            rest = set(islice(all_ids, enough)).difference(own, known, self._rejected[axis])
            if known or rest:
                return axis, known, sorted(rest)
        return None


def _has(side: Side, wanted: Side) -> bool:
    """Whether a side of a region has all the ids of a side of a rectangle."""
    if side is None or side is wanted:
        return True
    return wanted is not None and all(find(side, unit) is not None for unit in wanted)


def _read(side: Sequence[str], with_rows: AbstractSet[str]) -> int:
    """Return how many ids of a list were read, at least: up to the last that has rows."""
    return next((n for n in range(len(side), 0, -1) if side[n - 1] in with_rows), 0)


def is_round(count: int) -> bool:
    """Whether a number looks like a limit: 10, 20, 25, 50, 100, …, any thousands, powers of 2."""
    if count < _SMALLEST_CAP:
        return False
    return (
        str(count).rstrip("0") in _ROUND_LEADS
        or count % _THOUSAND == 0
        or (count >= _SMALLEST_POWER and count & (count - 1) == 0)
    )
