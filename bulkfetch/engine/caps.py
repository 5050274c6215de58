"""Silent caps: does the service leave out rows past a number of rows, or ids past a number of ids?

A service that answers the first N rows and says nothing gives exactly N rows, and never more. So
an answer is suspect if none so far was larger; whatever N is, a capped answer is always among
those. Round sizes are suspect a few times whatever came before: one of several servers may cap.
Three kinds of extra calls tell, cheapest first:

* **One more.** The same rectangle, with ids that are known to have rows in the place of some that
  have none, or besides: a larger answer rules out every cap up to its size, mostly for the rest of
  the run; one of the same size, without those ids, proves the cap.
* **Halves.** Rows in the halves of a rectangle that are not in its whole prove a cap.
* **Another order.** An answer whose last id has rows proves that so many ids are read. If the last
  ids of a list longer than that are all empty, they are asked for first, and those with rows last:
  rows that vanish prove a cap on ids, and if none does, all ids of such a list are read.

In a healthy account the first answers cost a few calls and the rest none. What cannot be halved
and compared (a single pair, a call without ids) is suspect only if its size is round.

Pure: told what came, asked what to do.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from enum import Enum
from itertools import islice

from bulkfetch.errors import TooLargeError
from bulkfetch.plan.rectangle import Axis, Rectangle, Side

_SMALLEST_CAP = 10  # page sizes begin there
_SMALLEST_REFUSED = 100  # of what cannot be compared, and is not believed if its size is round
_TESTS_OF_A_SIZE = 3
_TESTS_OF_ROUND_SIZES = 2  # smaller than the largest answer, in all
_TESTS_OF_EMPTY = 3  # answers without any row, asked for in another order
_MORE_SHARE = 4  # one id in so many is asked for besides
_MORE_UNKNOWN = 10  # at least, where it is not known which ids have rows
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
    LARGEST = "none so far was larger"
    ROUND = "larger ones came, but the size is round"
    CAPPED = "as large as the cap"


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
    """

    def __init__(self, regions: Sequence[Rectangle]) -> None:
        self._regions = regions
        self._largest = 0
        self._row_cap: int | None = None
        self._id_caps: dict[Axis, int] = {}
        self._passed: Counter[int] = Counter()
        self._round_tests = 0
        self._read = dict.fromkeys(Axis, 0)  # so many ids of a list are read, at least
        self._empty_tests = 0
        self._with_rows: dict[Axis, tuple[AbstractSet[str], Side]] = {}  # and on the other side
        self._may_grow = True
        self._rejected: dict[Axis, set[str]] = {axis: set() for axis in Axis}

    def avoid(self, rectangle: Rectangle) -> None:
        """Ask for no id of a call that was rejected, before it is known to be sound."""
        for axis, ids in self._rejected.items():
            ids.update(rectangle.named(axis) or ())

    def judge(self, count: int) -> Suspicion:
        """Say whether an answer of so many rows is suspect."""
        if self._row_cap is not None:
            return Suspicion.CAPPED if count >= self._row_cap else Suspicion.NONE
        if count < _SMALLEST_CAP or self._passed[count] >= _TESTS_OF_A_SIZE:
            return Suspicion.NONE
        if count < self._largest:
            is_worth_it = is_round(count) and self._round_tests < _TESTS_OF_ROUND_SIZES
            return Suspicion.ROUND if is_worth_it else Suspicion.NONE
        return Suspicion.LARGEST

    def note(self, rectangle: Rectangle, count: int, with_rows: WithRows) -> None:
        """Note an answer, and which ids have rows in it, once it has been judged."""
        self._largest = max(self._largest, count)
        for axis, rejected in self._rejected.items():
            if rejected:
                rejected.difference_update(rectangle.named(axis) or ())
        for axis, ids in with_rows.items():
            if ids:
                self._with_rows[axis] = ids, rectangle.side(axis.other)

    def pass_rows(self, count: int) -> None:
        """Note that an answer of so many rows was compared with its halves, and is whole."""
        self._passed[count] += 1
        self._round_tests += count < self._largest

    def refuse_rows(self, count: int) -> CappedError | None:
        """Return the error for an answer that cannot be compared, if it is not to be believed."""
        if count < max(self._largest, _SMALLEST_REFUSED) or not is_round(count):
            return None
        return CappedError(
            f"The answer has exactly {count:,} rows, no other has more, and it cannot be asked for "
            "in parts: the service may silently leave out what is past that. Give both learner "
            "ids and course ids."
        )

    def prove_rows(self, count: int) -> CappedError:
        """Note that an answer of so many rows is not whole, and return the error to raise."""
        self._row_cap = min(count, self._row_cap or count)
        return self.capped_rows()

    def capped_rows(self) -> CappedError:
        """Return the error for an answer that has as many rows as the cap, or more."""
        return CappedError(
            f"The service silently answers at most {self._row_cap:,} rows, and this answer has "
            "as many: rows are missing from it. Ask for less at a time."
        )

    def one_more(self, rectangle: Rectangle, with_rows: WithRows) -> OneMore | None:
        """Return a rectangle that ought to have more rows than this one; None if none is known."""
        found = self._others(rectangle)
        if found is None:
            return None
        axis, others, have_rows = found
        side = rectangle.named(axis) or ()
        wanted = max(1 if have_rows else _MORE_UNKNOWN, len(side) // _MORE_SHARE)
        replaceable = [unit for unit in side if unit not in with_rows[axis]][:wanted]
        more = others[: wanted if self._may_grow else len(replaceable)]
        if not more:
            return None
        ids = set(side).difference(replaceable[: len(more)]).union(more)
        must_have_rows = set(with_rows[axis]).union(more if have_rows else ())
        return OneMore(rectangle.replace(axis, tuple(sorted(ids))), axis, must_have_rows)

    def hear_one_more(self, asked: OneMore, count: int, before: int, with_rows: WithRows) -> bool:
        """Learn from the answer to one more.

        Args:
            asked: what `one_more` returned.
            count: how many rows the answer has.
            before: how many the answer under suspicion has.
            with_rows: the ids that have rows in the answer.

        Returns:
            Whether that settled the matter: the answer under suspicion is to be judged again.
        """
        self.note(asked.rectangle, count, with_rows)
        missing = asked.must_have_rows - with_rows[asked.axis]
        if count > before or not missing:
            return count > before
        if count == before:
            self.prove_rows(count)
            return True
        self._may_grow = False
        side = asked.rectangle.named(asked.axis) or ()
        read = _read(side, with_rows[asked.axis])
        if missing <= set(side[read:]):
            self._read[asked.axis] = read
            self.prove_ids(asked.axis)
        return False

    def stop_growing(self) -> None:
        """Note that one more was refused: ask for no more ids than the run does."""
        self._may_grow = False

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

    def left_out(self, count: int) -> CappedError:
        """Return the error for an answer of so many rows that has others in another order.

        Both answers have as many rows: if none so far had more, that is a cap. Else it may be ids
        that were not read, and chance; in any case some are left out.
        """
        if count >= self._largest:
            return self.prove_rows(count)
        return CappedError(
            "The service silently leaves out some of the ids or of the rows, others in another "
            "order: ask for less at a time."
        )

    def prove_ids(self, axis: Axis) -> None:
        """Note that no more ids of a list are read than have been so far."""
        self._id_caps.setdefault(axis, max(1, self._read[axis]))

    def check_width(self, rectangle: Rectangle) -> None:
        """Check that the service reads all the ids of a rectangle, as far as is known.

        Raises:
            CappedError: a list is longer than what it reads.
        """
        for axis, cap in self._id_caps.items():
            if len(rectangle.named(axis) or ()) > cap:
                raise CappedError(
                    f"The service silently reads about {cap:,} ids of a list of {axis.value} at "
                    "most: ask for fewer at a time.",
                    axis,
                    cap,
                )

    def _others(self, rectangle: Rectangle) -> tuple[Axis, list[str], bool] | None:
        """Return ids that the rectangle does not ask for, and whether they are known to have rows.

        None are sought along a side that is not filtered, or that has all the run asks for.
        """
        for axis in Axis:
            side = rectangle.named(axis)
            if side is None:
                continue
            own = set(side)
            with_rows, other_side = self._with_rows.get(axis, (frozenset(), None))
            if rectangle.side(axis.other) in (None, other_side) or axis.other in rectangle.unsent:
                known = sorted(with_rows - own)
                if known:
                    return axis, known, True
            all_ids = (unit for region in self._regions for unit in region.side(axis) or ())
            avoided = own | self._rejected[axis]
            rest = [u for u in islice(all_ids, 2 * len(avoided) + 1) if u not in avoided]
            if rest:
                return axis, rest, False
        return None


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
