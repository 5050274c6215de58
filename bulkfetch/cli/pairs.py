"""Read pairs of a learner and a course: CSV, JSONL, Parquet, or CSV on standard input.

As with id lists, cells are trimmed, repeated pairs count once and their order does not matter; the
two columns are named after a colon (`pairs.csv:Learner,Course`) or guessed from the usual names. A
line with one of the two missing is an error: nobody can tell what was meant.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from bulkfetch.cli.columns import (
    Cells,
    Choose,
    choose_column,
    from_csv,
    from_jsonl,
    from_parquet,
    opened,
    split_spec,
)
from bulkfetch.cli.ids import LONGEST_ID
from bulkfetch.errors import UsageError
from bulkfetch.plan.rectangle import Axis
from bulkfetch.wire.envelope import require_sendable


def read_pairs(spec: str) -> list[tuple[str, str]]:
    """Return the pairs that a file holds.

    Args:
        spec: a path, a path and two columns (`file.csv:LEARNER,COURSE`), or `-` for CSV on
            standard input.

    Raises:
        UsageError: the file cannot be read, has no such columns, or holds no or unusable pairs.
    """
    path, named = (None, None) if spec == "-" else split_spec(spec)
    name = "standard input" if path is None else str(path)
    columns = None if named is None else named.split(",")
    if columns is not None and len(columns) != len(Axis):
        raise UsageError(f"Name two columns after the colon: {name}:LEARNER,COURSE.")
    with opened(path, name, "pairs") as file:
        pairs = list(_checked(_read(file, name, _chooser(name, columns)), name))
    if not pairs:
        raise UsageError(f"The file {name} holds no pairs.")
    return pairs


def _checked(cells: Cells, name: str) -> Iterator[tuple[str, str]]:
    """Yield trimmed pairs, without blank lines."""
    known: set[str] = set()
    for line, row in cells:
        learner, course = (cell.strip() for cell in row)
        if not learner and not course:
            continue
        if not learner or not course:
            raise UsageError(f"Line {line} of {name} holds no pair: one of the two ids is missing.")
        for value in {learner, course} - known:
            if len(value) > LONGEST_ID:
                raise UsageError(f"Line {line} of {name} is too long to be an id.")
            require_sendable(value, f"Line {line} of {name}")
            known.add(value)
        yield learner, course


def _read(file: BinaryIO, name: str, choose: Choose) -> Cells:
    suffix = Path(name).suffix.lower()
    if suffix == ".parquet":
        return from_parquet(file, name, choose)
    if suffix in {".jsonl", ".ndjson"}:
        return from_jsonl(file, name, choose, count=len(Axis))
    return from_csv(file, name, choose)


def _chooser(name: str, columns: list[str] | None) -> Choose:
    """Return what finds the learners' and the courses' column of a file."""
    learners, courses = columns or (None, None)

    def choose(titles: list[str]) -> tuple[int, int]:
        positions = (
            choose_column(titles, name, learners, Axis.LEARNERS),
            choose_column(titles, name, courses, Axis.COURSES),
        )
        if positions[0] == positions[1]:
            raise UsageError(
                f"The file {name} has one column for learners and courses. Name two after a colon: "
                f"{name}:LEARNER,COURSE."
            )
        return positions

    return choose
