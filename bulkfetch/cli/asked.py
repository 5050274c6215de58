"""What is asked for: ids or pairs from files, ids from the account itself, or no filter at all."""

from dataclasses import dataclass

from bulkfetch.cli.ids import read_ids
from bulkfetch.cli.pairs import read_pairs
from bulkfetch.errors import UsageError
from bulkfetch.inputs import make_pairs, make_region
from bulkfetch.plan.rectangle import Axis
from bulkfetch.plan.region import Region


@dataclass(frozen=True, slots=True)
class AskedArguments:
    """The options that say what is asked for, as they were given."""

    learners: str | None = None
    courses: str | None = None
    all_ids: bool = False
    all_learners: bool = False
    all_courses: bool = False
    whole_account: bool = False
    pairs: str | None = None


@dataclass(frozen=True, slots=True)
class Asked:
    """The region as far as it is known, and the sides that are to be listed from the account."""

    region: Region
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
    if arguments.pairs is not None:
        return _read_pairs(arguments)
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
            "No ids are given: use --learners, --courses or both; --pairs; --all, --all-learners "
            "or --all-courses, which list them from the account; or --whole-account, which asks "
            "for everything in a single call."
        )
    learners, courses = (None if file is None else read_ids(file, axis) for axis, file, _ in sides)
    return Asked(
        make_region(learners, courses),
        frozenset(axis for axis, _, is_all in sides if is_all or arguments.all_ids),
    )


def require_one_stdin(arguments: AskedArguments, token_file: str | None) -> None:
    """Check that standard input is to be only one thing.

    Raises:
        UsageError: it is to be several.
    """
    named = (
        ("--learners", arguments.learners),
        ("--courses", arguments.courses),
        ("--pairs", arguments.pairs),
        ("--token-file", token_file),
    )
    from_stdin = [name for name, value in named if value == "-"]
    if len(from_stdin) > 1:
        raise UsageError(f"Only one of {', '.join(from_stdin)} can be read from standard input.")


def _read_pairs(arguments: AskedArguments) -> Asked:
    others = (
        ("--learners", arguments.learners is not None),
        ("--courses", arguments.courses is not None),
        ("--all", arguments.all_ids),
        ("--all-learners", arguments.all_learners),
        ("--all-courses", arguments.all_courses),
        ("--whole-account", arguments.whole_account),
    )
    given = [name for name, is_given in others if is_given]
    if given:
        raise UsageError(f"--pairs goes without {' and '.join(given)}.")
    assert arguments.pairs is not None
    return Asked(make_pairs(read_pairs(arguments.pairs)), frozenset())
