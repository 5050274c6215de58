"""What is believed of an account and its service before and after calls were made.

Every belief is a guess that measurements outweigh: it begins as if a little had been seen already,
so that one odd answer does not overturn it and a hundred answers do. The guesses are those of a
middling account; nothing is documented (WIRE facts: no limits, no page sizes).
"""

import math
from dataclasses import dataclass, field, replace

from bulkfetch.plan.rectangle import Axis

GUESSED_LEARNERS = 50_000
GUESSED_COURSES = 300
GUESSED_ROWS_PER_LEARNER = 10.0
GUESSED_ROWS_PER_LISTED_PAIR = 0.5
GUESSED_BYTES_PER_ROW = 460.0  # 46 MB in 100,000 records of the documented form
GUESSED_CALL_S = 0.3
GUESSED_ROW_S = 200e-6
GUESSED_ID_S = 20e-6  # an id is 46 bytes of a request, and a term of somebody's query
_GUESS_WEIGHS_ROWS = 20.0
_ROUGH = 0.1  # share of the guess in a belief, from which on it is to be told from a measurement
_FORGETTING = 0.98  # the last fifty calls count: a service's speed changes with the hour
_K = 1e-3  # rows and ids are counted in thousands, so that the three unknowns are of a size


@dataclass(slots=True)
class Ratio:
    """Something per something, as a guess that weighs `weight` and what was measured."""

    guess: float
    weight: float
    top: float = 0.0
    bottom: float = 0.0

    def add(self, top: float, bottom: float) -> None:
        """Note a measurement."""
        self.top += top
        self.bottom += bottom

    def scaled(self, factor: float) -> "Ratio":
        """Return the same belief of something that is so many times as much."""
        return Ratio(self.guess * factor, self.weight, self.top * factor, self.bottom)

    @property
    def is_measured(self) -> bool:
        """Whether anything was measured."""
        return self.bottom > 0

    @property
    def is_rough(self) -> bool:
        """Whether the guess still makes up a tenth of it."""
        return self.weight > _ROUGH * (self.weight + self.bottom)

    @property
    def value(self) -> float:
        """The belief now."""
        return (self.guess * self.weight + self.top) / (self.weight + self.bottom)


class Speed:
    """Seconds of a call: so many for itself, for each row answered and for each id named.

    Least squares over recent calls, drawn towards the guess (a ridge): calls that are all alike
    cannot tell a slow start from slow rows, and then the guessed proportion stays.
    """

    def __init__(self) -> None:
        self._guess = (GUESSED_CALL_S, GUESSED_ROW_S / _K, GUESSED_ID_S / _K)
        self._squares = [[float(i == j) / 2 for j in range(3)] for i in range(3)]
        self._products = [value / 2 for value in self._guess]
        self.is_measured = False
        self.longest_s = 0.0
        self._rows = self._seconds = 0.0

    def add(self, *, rows: int, ids: int, seconds: float) -> None:
        """Note a call that succeeded."""
        features = (1.0, rows * _K, ids * _K)
        for i, one in enumerate(features):
            for j, other in enumerate(features):
                guess = (1 - _FORGETTING) / 2 if i == j else 0.0
                self._squares[i][j] = self._squares[i][j] * _FORGETTING + guess + one * other
            drawn = self._guess[i] * (1 - _FORGETTING) / 2
            self._products[i] = self._products[i] * _FORGETTING + drawn + one * seconds
        self.is_measured = True
        self.longest_s = max(self.longest_s, seconds)
        self._rows = self._rows * _FORGETTING + rows
        self._seconds = self._seconds * _FORGETTING + seconds

    def coefficients(self) -> tuple[float, float, float]:
        """Return the seconds of a call, of a row and of an id; none is negative."""
        call, row, named = _solve(self._squares, self._products)
        return max(call, 1e-3), max(row * _K, 0.0), max(named * _K, 0.0)

    def row_at_most_s(self) -> float:
        """Return the seconds of a row if calls and ids cost nothing."""
        return self._seconds / self._rows if self._rows else math.inf


@dataclass(slots=True)
class Beliefs:
    """All of it. Build it with `guess`.

    Attributes:
        density: rows per wanted pair; a side without a filter is one unit of a pair.
        density_elsewhere: rows per pair that is asked for around listed pairs and not wanted.
        share_of_learner: of the rows of one learner in all courses, how many are wanted.
        share_of_course: of the rows of one course for all learners, how many are wanted.
        bytes_per_row: of the answer, inflated.
        speed: of the service, as one call sees it.
        failed_rows: the fewest rows that an answer was believed to have when it was too large.
        most_rows: the most rows that an answer had.
    """

    density: Ratio
    share_of_learner: Ratio
    share_of_course: Ratio
    density_elsewhere: Ratio
    bytes_per_row: Ratio = field(default_factory=lambda: Ratio(GUESSED_BYTES_PER_ROW, 10.0))
    speed: Speed = field(default_factory=Speed)
    failed_rows: float | None = None
    most_rows: int = 0

    def at_best(self) -> "Beliefs":
        """Return the same, but for the belief that nothing is surplus."""
        sure = Ratio(1.0, 1.0)
        return replace(self, share_of_learner=sure, share_of_course=sure)

    @classmethod
    def guess(
        cls,
        learners: int | None,
        courses: int | None,
        listed: int | None = None,
        complete: frozenset[Axis] = frozenset(),
    ) -> "Beliefs":
        """Guess from the sizes of the id lists, None for no filter, and the listed pairs.

        The longer a list, the likelier it names the whole account; those of `complete` axes do.
        """
        all_learners = max(GUESSED_LEARNERS, learners or 0)
        all_courses = max(GUESSED_COURSES, courses or 0)
        if Axis.LEARNERS in complete and learners is not None:
            all_learners = learners
        if Axis.COURSES in complete and courses is not None:
            all_courses = courses
        elsewhere = GUESSED_ROWS_PER_LEARNER / all_courses
        if listed is not None and learners is not None and courses is not None:
            rows = listed * GUESSED_ROWS_PER_LISTED_PAIR
            rows_per_course = GUESSED_ROWS_PER_LEARNER * all_learners / all_courses
            return cls(
                Ratio(GUESSED_ROWS_PER_LISTED_PAIR, _GUESS_WEIGHS_ROWS),
                Ratio(min(1.0, rows / learners / GUESSED_ROWS_PER_LEARNER), _GUESS_WEIGHS_ROWS),
                Ratio(min(1.0, rows / courses / rows_per_course), _GUESS_WEIGHS_ROWS),
                Ratio(elsewhere, _GUESS_WEIGHS_ROWS / elsewhere),
            )
        density = GUESSED_ROWS_PER_LEARNER
        if courses is not None:
            density /= all_courses
        if learners is None:
            density *= all_learners
        return cls(
            Ratio(density, _GUESS_WEIGHS_ROWS / density),
            Ratio(1.0 if courses is None else courses / all_courses, _GUESS_WEIGHS_ROWS),
            Ratio(1.0 if learners is None else learners / all_learners, _GUESS_WEIGHS_ROWS),
            Ratio(elsewhere, _GUESS_WEIGHS_ROWS / elsewhere),
        )


def _solve(squares: list[list[float]], products: list[float]) -> list[float]:
    """Solve three positive definite equations by elimination."""
    rows = [[*row, right] for row, right in zip(squares, products, strict=True)]
    size = len(rows)
    for i, pivot in enumerate(rows):
        for below in rows[i + 1 :]:
            factor = below[i] / pivot[i]
            for j in range(i, size + 1):
                below[j] -= factor * pivot[j]
    solution = [0.0] * size
    for i in reversed(range(size)):
        known = sum(rows[i][j] * solution[j] for j in range(i + 1, size))
        solution[i] = (rows[i][size] - known) / rows[i][i]
    return solution
