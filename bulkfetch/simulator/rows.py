"""Where an account's enrollments come from: a seed, or a list.

A seeded enrollment is never stored. Its index is mixed into 64 bits (splitmix64, Steele, Lea and
Flood 2014: a bijection, so that no two indexes give one id); the id is those bits in the shape of
a UUID, and their last twelve choose one of 4,096 *facets*, the combinations of dates, flags and
certificates that the account knows. What is stored is only who is enrolled in what.
"""

from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, date, datetime, timedelta
from itertools import accumulate
from random import Random
from typing import Protocol

from bulkfetch.record import Enrollment

FACETS = 4096
ID_LENGTH = 36
_BITS_64 = (1 << 64) - 1
_GAMMA = 0x9E3779B97F4A7C15
_MIX_1 = 0xBF58476D1CE4E5B9
_MIX_2 = 0x94D049BB133111EB


class Rows(Protocol):
    """The columns of an account's enrollments, by index."""

    def enrollment(self, index: int, course_id: str, learner_id: str) -> Enrollment:
        """Return the enrollment at an index."""


class ExplicitRows:
    """Enrollments given as a list."""

    def __init__(self, enrollments: Sequence[Enrollment]) -> None:
        self._enrollments = enrollments

    def enrollment(self, index: int, course_id: str, learner_id: str) -> Enrollment:
        """Return the enrollment at an index."""
        return self._enrollments[index]._replace(course_id=course_id, learner_id=learner_id)


class SeededRows:
    """Enrollments derived from (seed, index).

    `facets` are enrollments without ids; those with a certificate have an empty certificate id.
    """

    def __init__(self, seed: int) -> None:
        random = Random(f"facets {seed}")  # noqa: S311 - data for tests, not secrets
        self.facets = tuple(_draw_facet(random) for _ in range(FACETS))
        self._start = splitmix64(seed, 0)
        self._node = f"{splitmix64(seed, 1) >> 16:012x}"

    def keys(self, indexes: Iterable[int]) -> Iterator[tuple[str, str, int]]:
        """Yield (enrollment id, certificate id, facet number) for each index.

        The mixing is written out here because a function call a row would double its price.
        """
        start, node = self._start, self._node
        for index in indexes:
            z = (start + index * _GAMMA) & _BITS_64
            z = ((z ^ z >> 30) * _MIX_1) & _BITS_64
            z = ((z ^ z >> 27) * _MIX_2) & _BITS_64
            z ^= z >> 31
            text = f"{z:016x}"
            yield (
                f"{text[:8]}-{text[8:12]}-11ed-{text[12:]}-{node}",
                f"{text[8:]}-{text[:4]}-11ee-{text[4:8]}-{node}",
                z & (FACETS - 1),
            )

    def facet_numbers(self, indexes: Iterable[int]) -> Iterator[int]:
        """Yield the facet number alone for each index."""
        start = self._start
        for index in indexes:
            z = (start + index * _GAMMA) & _BITS_64
            z = ((z ^ z >> 30) * _MIX_1) & _BITS_64
            z = ((z ^ z >> 27) * _MIX_2) & _BITS_64
            yield (z ^ z >> 31) & (FACETS - 1)

    def enrollment(self, index: int, course_id: str, learner_id: str) -> Enrollment:
        """Return the enrollment at an index."""
        enrollment_id, certificate_id, number = next(self.keys((index,)))
        facet = self.facets[number]
        return facet._replace(
            enrollment_id=enrollment_id,
            course_id=course_id,
            learner_id=learner_id,
            issued_certificate_id=None if facet.issued_certificate_id is None else certificate_id,
        )


def splitmix64(seed: int, index: int) -> int:
    """Mix (seed, index) into 64 bits; for one seed, different indexes give different results."""
    z = (seed * _MIX_2 + (index + 1) * _GAMMA) & _BITS_64
    z = ((z ^ z >> 30) * _MIX_1) & _BITS_64
    z = ((z ^ z >> 27) * _MIX_2) & _BITS_64
    return z ^ z >> 31


def make_ids(seed: int, kind: int, count: int) -> list[str]:
    """Return `count` different ids in the shape of UUIDs; `kind` keeps families of ids apart."""
    node = f"{splitmix64(seed, kind) >> 16:012x}"
    start = splitmix64(seed, -kind)
    texts = (f"{splitmix64(start, number):016x}" for number in range(count))
    return [f"{text[:8]}-{text[8:12]}-11ec-{text[12:]}-{node}" for text in texts]


def draw_pairs(
    random: Random, learners: int, courses: int, enrollments: int
) -> Iterator[tuple[list[int], list[int]]]:
    """Yield the learner and course numbers of all enrollments, in blocks.

    Courses are skewed as in Zipf's law, flattened at the top, and one in fifty has nobody; one
    learner in sixteen has nothing, a few have much more than others. One enrollment in 97 repeats
    the pair before it: a re-enrollment.
    """
    ranks = list(range(courses))
    random.shuffle(ranks)
    used_courses = max(1, courses - courses // 50)
    course_weights = list(
        accumulate((rank + 5) ** -0.9 if rank < used_courses else 0.0 for rank in ranks)
    )
    learner_weights = list(
        accumulate(
            0.0 if number % 16 == 15 else 0.3 + random.random() ** 4 * 5  # noqa: PLR2004
            for number in range(learners)
        )
    )
    block = 97 * 1000
    for first in range(0, enrollments, block):
        size = min(block, enrollments - first)
        learner_block = random.choices(range(learners), cum_weights=learner_weights, k=size)
        course_block = random.choices(range(courses), cum_weights=course_weights, k=size)
        learner_block[96::97] = learner_block[95:-1:97]
        course_block[96::97] = course_block[95:-1:97]
        yield learner_block, course_block


def is_in_sorted(numbers: Sequence[int], number: int) -> bool:
    """Tell whether an ascending sequence holds a number."""
    at = bisect_left(numbers, number)
    return at < len(numbers) and numbers[at] == number


def _draw_facet(random: Random) -> Enrollment:
    """Draw one combination of the columns that are not ids."""
    access = date(2018, 1, 1) + timedelta(days=random.randrange(2900))
    due = access + timedelta(days=random.randrange(7, 365)) if random.random() < 0.4 else None  # noqa: PLR2004
    locks = random.random() < (0.5 if due else 0.1)
    enrollment = Enrollment(
        enrollment_id="",
        course_id="",
        learner_id="",
        access_date=access,
        due_date=due,
        expiration_date=due + timedelta(days=random.randrange(30)) if due and locks else None,
        should_lock_after_due_date=locks,
        enrollment_type_group=random.choice((None, 0, 0, 0, 1)),
    )
    if random.random() >= 0.35:  # noqa: PLR2004 - about a third have finished
        return enrollment
    issued = datetime(access.year, access.month, access.day, tzinfo=UTC) + timedelta(
        seconds=random.randrange(90 * 86_400)
    )
    expires = issued + timedelta(days=365) if random.random() < 0.6 else None  # noqa: PLR2004
    return enrollment._replace(
        issued_certificate_id="", cert_issue_date=issued, cert_expiry_date=expires
    )
