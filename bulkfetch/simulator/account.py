"""An iSpring Learn account: learners, courses and who is enrolled in what. Pure, no I/O.

A million enrollments must not cost a million objects: two arrays say which learner and which
course an enrollment belongs to, two more list the enrollments of each learner and of each course,
and everything else is derived from the seed when it is asked for (`rows.py`). The account is also
the truth that tests compare an export with.
"""

import re
from array import array
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from itertools import accumulate
from random import Random

from bulkfetch.errors import UsageError
from bulkfetch.record import Enrollment
from bulkfetch.simulator.rows import ExplicitRows, Rows, SeededRows, draw_pairs, make_ids

_LEARNER_KIND, _COURSE_KIND = 2, 3
_NOT_XML = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


class Account:
    """An account from a seed: the same arguments give the same account everywhere.

    Args:
        learners: How many learners; one in sixteen has no enrollment.
        courses: How many courses; a few hold most of the enrollments.
        enrollments: How many enrollments, re-enrollments among them.
        seed: What to derive them from.

    Raises:
        UsageError: A count is negative, or there are enrollments but nobody or nothing to enroll.
    """

    def __init__(
        self,
        learners: int = 50_000,
        courses: int = 400,
        enrollments: int = 1_000_000,
        seed: int = 1,
    ) -> None:
        if min(learners, courses, enrollments) < 0:
            raise UsageError("An account cannot have fewer than 0 learners, courses, enrollments.")
        if enrollments and not (learners and courses):
            raise UsageError("An account with enrollments needs a learner and a course.")
        learner_of, course_of = array("I"), array("I")
        random = Random(f"pairs {seed}")  # noqa: S311 - data for tests, not secrets
        for learner_block, course_block in draw_pairs(random, learners, courses, enrollments):
            learner_of.extend(learner_block)
            course_of.extend(course_block)
        self._fill(
            make_ids(seed, _LEARNER_KIND, learners),
            make_ids(seed, _COURSE_KIND, courses),
            learner_of,
            course_of,
            SeededRows(seed),
        )

    @classmethod
    def of(
        cls,
        enrollments: Iterable[Enrollment],
        *,
        learner_ids: Iterable[str] = (),
        course_ids: Iterable[str] = (),
    ) -> "Account":
        """Make an account of just these enrollments.

        Args:
            enrollments: The rows, in the order in which the service answers them.
            learner_ids: Learners besides those of the rows, or an order for them.
            course_ids: Courses likewise.

        Raises:
            UsageError: A text holds a character that XML cannot carry.
        """
        rows = list(enrollments)
        learners = list(dict.fromkeys([*learner_ids, *(row.learner_id for row in rows)]))
        courses = list(dict.fromkeys([*course_ids, *(row.course_id for row in rows)]))
        own_ids = (text for row in rows for text in (row.enrollment_id, row.issued_certificate_id))
        for text in (*learners, *courses, *own_ids):
            if text and _NOT_XML.search(text):
                raise UsageError(f"XML cannot carry the id {text!r}.")
        learner_numbers = {learner: number for number, learner in enumerate(learners)}
        course_numbers = {course: number for number, course in enumerate(courses)}
        account = cls.__new__(cls)
        account._fill(  # noqa: SLF001 - this class's own
            learners,
            courses,
            array("I", (learner_numbers[row.learner_id] for row in rows)),
            array("I", (course_numbers[row.course_id] for row in rows)),
            ExplicitRows(rows),
        )
        return account

    def _fill(
        self,
        learner_ids: list[str],
        course_ids: list[str],
        learner_of: "array[int]",
        course_of: "array[int]",
        rows: Rows,
    ) -> None:
        self.learner_ids: Sequence[str] = learner_ids
        self.course_ids: Sequence[str] = course_ids
        self.learner_of: Sequence[int] = learner_of
        self.course_of: Sequence[int] = course_of
        self.rows = rows
        self._by_learner = _Grouping(learner_ids, learner_of)
        self._by_course = _Grouping(course_ids, course_of)

    def __len__(self) -> int:
        return len(self.learner_of)

    def __repr__(self) -> str:
        return (
            f"<Account {len(self.learner_ids)} learners, {len(self.course_ids)} courses,"
            f" {len(self)} enrollments>"
        )

    def enrollment(self, index: int) -> Enrollment:
        """Return the enrollment at an index, typed: what a client ought to have read."""
        return self.rows.enrollment(
            index, self.course_ids[self.course_of[index]], self.learner_ids[self.learner_of[index]]
        )

    def enrollments(self) -> Iterator[Enrollment]:
        """Yield every enrollment in the order of the indexes."""
        return map(self.enrollment, range(len(self)))

    def select(
        self, learner_ids: Iterable[str] | None, course_ids: Iterable[str] | None
    ) -> Sequence[int]:
        """Return the indexes of the enrollments that both filters let through, ascending.

        None is no filter; unknown and repeated ids make no difference.
        """
        learners = None if learner_ids is None else self._by_learner.numbers(learner_ids)
        courses = None if course_ids is None else self._by_course.numbers(course_ids)
        if learners is None:
            return range(len(self)) if courses is None else self._by_course.members(courses)
        if courses is None or len(courses) == len(self.course_ids):
            return self._by_learner.members(learners)
        # The side that holds fewer enrollments is walked, the other one tested.
        if self._by_learner.count(learners) <= self._by_course.count(courses):
            walked, tested, side_of = self._by_learner.members(learners), courses, self.course_of
        else:
            walked, tested, side_of = self._by_course.members(courses), learners, self.learner_of
        return array("I", (index for index in walked if side_of[index] in tested))

    def learner_id_as_stored(self, learner_id: str) -> str | None:
        """Return the account's own copy of a learner id, or None when it knows no such learner."""
        return self._by_learner.own_copy(learner_id)

    def course_id_as_stored(self, course_id: str) -> str | None:
        """Return the account's own copy of a course id, or None when it knows no such course."""
        return self._by_course.own_copy(course_id)


class _Grouping:
    """The enrollments of each learner, or of each course: one array of indexes, cut by offsets."""

    def __init__(self, ids: Sequence[str], side_of: Sequence[int]) -> None:
        self._ids = ids
        self._number_of = {text: number for number, text in enumerate(ids)}
        counts = Counter(side_of)
        starts = list(accumulate((counts[number] for number in range(len(ids))), initial=0))
        self._starts = array("I", starts)
        self._order = array("I", bytes(array("I").itemsize * len(side_of)))
        for index, number in enumerate(side_of):
            self._order[starts[number]] = index
            starts[number] += 1

    def numbers(self, ids: Iterable[str]) -> set[int]:
        """Return the numbers of the known ones among the ids."""
        number_of = self._number_of
        return {number_of[text] for text in ids if text in number_of}

    def own_copy(self, text: str) -> str | None:
        """Return the stored text of an id."""
        number = self._number_of.get(text)
        return None if number is None else self._ids[number]

    def count(self, numbers: set[int]) -> int:
        """Return how many enrollments the numbered ones hold together."""
        starts = self._starts
        return sum(starts[number + 1] - starts[number] for number in numbers)

    def members(self, numbers: set[int]) -> "array[int]":
        """Return the enrollment indexes of the numbered ones, ascending."""
        starts = self._starts
        found = array("I")
        for number in sorted(numbers):
            found.extend(self._order[starts[number] : starts[number + 1]])
        return found if len(numbers) == 1 else array("I", sorted(found))
