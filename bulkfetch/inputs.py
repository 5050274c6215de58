"""Check the id lists that a caller gives, before any request."""

from collections.abc import Iterable

from bulkfetch.errors import UsageError
from bulkfetch.plan.rectangle import Rectangle, make_rectangle
from bulkfetch.wire.envelope import require_sendable


def make_region(learner_ids: Iterable[str] | None, course_ids: Iterable[str] | None) -> Rectangle:
    """Build the region that is asked for; order and duplicates do not matter, None is no filter.

    Raises:
        UsageError: a list is empty or is one string, or an id is no text, empty, or holds control
            characters.
    """
    sides: list[set[str] | None] = []
    for ids, plural, what in (
        (learner_ids, "learner_ids", "A learner id"),
        (course_ids, "course_ids", "A course id"),
    ):
        if ids is None:
            sides.append(None)
            continue
        if isinstance(ids, str | bytes):
            raise UsageError(f"{plural} must be a list of ids, not one string.")
        unique = set(ids)
        for value in unique:
            require_sendable(value, what)
        if not unique:
            raise UsageError(
                f"{plural} is empty, so there is nothing to fetch. Leave it out for no filter: "
                "the service could read an empty list as the whole account."
            )
        sides.append(unique)
    return make_rectangle(*sides)
