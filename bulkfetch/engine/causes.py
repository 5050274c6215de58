"""Unwrap the exception groups of task groups: one cause is raised, the one that matters most."""

from bulkfetch.errors import FatalError, LocalError


def first_cause(group: BaseExceptionGroup) -> BaseException:
    """Return the first of the group's exceptions, local and fatal ones before others."""
    leaves = list(_leaves(group))
    for kind in (LocalError, FatalError):
        for leaf in leaves:
            if isinstance(leaf, kind):
                return leaf
    return leaves[0]


def _leaves(group: BaseExceptionGroup) -> list[BaseException]:
    leaves: list[BaseException] = []
    for error in group.exceptions:
        leaves += _leaves(error) if isinstance(error, BaseExceptionGroup) else [error]
    return leaves
