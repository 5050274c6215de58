"""What is asked for: id lists from files, from the account itself, or no filter at all."""

from dataclasses import dataclass

from bulkfetch.cli.ids import read_ids
from bulkfetch.errors import UsageError
from bulkfetch.inputs import make_region
from bulkfetch.plan.rectangle import Axis, Rectangle


@dataclass(frozen=True, slots=True)
class AskedArguments:
    """The options that say what is asked for, as they were given."""

    learners: str | None = None
    courses: str | None = None
    all_ids: bool = False
    all_learners: bool = False
    all_courses: bool = False
    whole_account: bool = False


@dataclass(frozen=True, slots=True)
class Asked:
    """The region as far as it is known, and the sides that are to be listed from the account."""

    region: Rectangle
    discover: frozenset[Axis]


def read_asked(arguments: AskedArguments) -> Asked:
    """Check the options against each other, and read the files that they name.

    Raises:
        UsageError: they contradict each other, ask for nothing, or name what cannot be used.
    """
    sides = (
        (Axis.LEARNERS, arguments.learners, arguments.all_learners),
        (Axis.COURSES, arguments.courses, arguments.all_courses),
    )
    given = [f"--{axis.value}" for axis, file, _ in sides if file is not None]
    listed = [f"--all-{axis.value}" for axis, _, is_all in sides if is_all]
    if arguments.whole_account and (given or listed or arguments.all_ids):
        other = [*given, *listed, *(["--all"] if arguments.all_ids else [])]
        raise UsageError(f"--whole-account goes without {' and '.join(other)}.")
    if arguments.all_ids and given:
        raise UsageError(
            f"--all lists learners and courses of the account and goes without "
            f"{' and '.join(given)}: use --all-learners or --all-courses with a file."
        )
    for axis, file, is_all in sides:
        if file is not None and is_all:
            raise UsageError(f"--{axis.value} and --all-{axis.value} go without each other.")
    if not (given or listed or arguments.all_ids or arguments.whole_account):
        raise UsageError(
            "No ids are given: use --learners, --courses or both; --all, --all-learners or "
            "--all-courses, which list them from the account; or --whole-account, which asks for "
            "everything in a single call."
        )
    learners, courses = (None if file is None else read_ids(file, axis) for axis, file, _ in sides)
    return Asked(
        make_region(learners, courses),
        frozenset(axis for axis, _, is_all in sides if is_all or arguments.all_ids),
    )
