"""Check the id lists that a caller gives, before any request."""

from collections.abc import Iterable

from bulkfetch.errors import UsageError
from bulkfetch.plan.rectangle import Rectangle, make_rectangle
from bulkfetch.plan.region import PairSet, Region, make_pair_set
from bulkfetch.wire.envelope import require_sendable


def make_region(learner_ids: Iterable[str] | None, course_ids: Iterable[str] | None) -> Rectangle:
    """Build the region that is asked for; order and duplicates do not matter, None is no filter.

    Raises:
        UsageError: a list is empty or is one string, or an id is no text, empty, or holds control
            characters.
    """
    sides: list[list[str] | None] = []
    for ids, plural, what in (
        (learner_ids, "learner_ids", "A learner id"),
        (course_ids, "course_ids", "A course id"),
    ):
        if ids is None:
            sides.append(None)
            continue
        if isinstance(ids, str | bytes):
            raise UsageError(f"{plural} must be a list of ids, not one string.")
        checked = list(ids)  # of a million ids, a set of them takes eight times the room
        for value in checked:
            require_sendable(value, what)
        if not checked:
            raise UsageError(
                f"{plural} is empty, so there is nothing to fetch. Leave it out for no filter: "
                "the service could read an empty list as the whole account."
            )
        sides.append(checked)
    return make_rectangle(*sides)


def make_pairs(pairs: Iterable[tuple[str, str]]) -> PairSet:
    """Build the region of pairs of a learner id and a course id, listed one by one.

    Order and repetitions do not matter.

    Raises:
        UsageError: there are none, or something is no pair of ids that can be sent.
    """
    checked: set[str] = set()
    listed: list[tuple[str, str]] = []
    for pair in pairs:
        if isinstance(pair, str | bytes):
            raise UsageError("pairs must hold pairs of a learner id and a course id, not strings.")
        try:
            learner, course = pair
        except (TypeError, ValueError):
            raise UsageError("pairs must hold pairs of a learner id and a course id.") from None
        for value, what in ((learner, "A learner id"), (course, "A course id")):
            if value not in checked:
                require_sendable(value, what)
                checked.add(value)
        listed.append((learner, course))
    if not listed:
        raise UsageError("pairs is empty, so there is nothing to fetch.")
    return make_pair_set(listed)


def choose_region(
    learner_ids: Iterable[str] | None,
    course_ids: Iterable[str] | None,
    pairs: Iterable[tuple[str, str]] | None,
) -> Region:
    """Build the region of two id lists or of pairs.

    Raises:
        UsageError: both are given, or they cannot be used.
    """
    if pairs is None:
        return make_region(learner_ids, course_ids)
    if learner_ids is not None or course_ids is not None:
        raise UsageError("Give pairs, or lists of learners and courses, not both.")
    return make_pairs(pairs)
