"""Read pairs of a learner and a course: CSV, JSONL, Parquet, or CSV on standard input.

As with id lists, cells are trimmed, repeated pairs count once and their order does not matter; the
two columns are named after a colon (`pairs.csv:Learner,Course`) or guessed from the usual names. A
line with one of the two missing is an error: nobody can tell what was meant.
"""

import csv
import io
import json
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

from bulkfetch.cli.ids import (
    DELIMITERS,
    LONGEST_ID,
    choose_column,
    decode_text,
    split_spec,
    text_of,
)
from bulkfetch.errors import UsageError
from bulkfetch.plan.rectangle import Axis
from bulkfetch.record import import_pyarrow
from bulkfetch.wire.envelope import require_sendable

Cells = Iterable[tuple[int, str, str]]


def read_pairs(spec: str) -> list[tuple[str, str]]:
    """Return the pairs that a file holds.

    Args:
        spec: a path, a path and two columns (`file.csv:LEARNER,COURSE`), or `-` for CSV on
            standard input.

    Raises:
        UsageError: the file cannot be read, has no such columns, or holds no or unusable pairs.
    """
    cells: Cells
    if spec == "-":
        name = "standard input"
        cells = _from_csv(decode_text(sys.stdin.buffer.read(), "-"), name, None)
    else:
        path, named = split_spec(spec)
        name = str(path)
        columns = None if named is None else named.split(",")
        if columns is not None and len(columns) != len(Axis):
            raise UsageError(f"Name two columns after the colon: {name}:LEARNER,COURSE.")
        try:
            cells = _from_file(path, columns)
        except OSError as error:
            raise UsageError(f"The pairs {name} cannot be read: {error.strerror}.") from None
    pairs = list(_checked(cells, name))
    if not pairs:
        raise UsageError(f"The file {name} holds no pairs.")
    return pairs


def _checked(cells: Cells, name: str) -> Iterator[tuple[str, str]]:
    """Yield trimmed pairs, without blank lines."""
    known: set[str] = set()
    for line, *raw in cells:
        learner, course = (cell.strip() for cell in raw)
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


def _from_file(path: Path, columns: list[str] | None) -> Cells:
    suffix = path.suffix.lower()
    if suffix == ".parquet":
        return _from_parquet(path, columns)
    text = decode_text(path.read_bytes(), str(path))
    if suffix in {".jsonl", ".ndjson"}:
        return _from_jsonl(text, str(path), columns)
    return _from_csv(text, str(path), columns)


def _from_csv(text: str, name: str, columns: list[str] | None) -> Iterator[tuple[int, str, str]]:
    header = text.partition("\n")[0]
    delimiter = max(DELIMITERS, key=header.count)
    rows = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
    try:
        learner, course = _choose(next(rows, []), name, columns)
        for row in rows:
            if row:
                cells = [row[at] if at < len(row) else "" for at in (learner, course)]
                yield rows.line_num, cells[0], cells[1]
    except csv.Error as error:
        raise UsageError(f"Line {rows.line_num} of {name} is not CSV: {error}.") from None


def _from_jsonl(text: str, name: str, columns: list[str] | None) -> Iterator[tuple[int, str, str]]:
    for line, content in enumerate(text.split("\n"), 1):
        if not content.strip():
            continue
        try:
            value = json.loads(content)
        except (ValueError, RecursionError):
            raise UsageError(f"Line {line} of {name} is not JSON.") from None
        if isinstance(value, dict):
            keys = list(value)
            value = [value[keys[at]] for at in _choose(keys, name, columns)]
        if (
            not isinstance(value, list)
            or len(value) != len(Axis)
            or not all(isinstance(unit, str) for unit in value)
        ):
            raise UsageError(f"Line {line} of {name} does not hold two ids as strings.")
        yield line, value[0], value[1]


def _from_parquet(path: Path, columns: list[str] | None) -> Cells:
    pa = import_pyarrow()
    import pyarrow.parquet as pq  # noqa: PLC0415 - only for such a file

    try:
        file = pq.ParquetFile(path)
        names = file.schema_arrow.names
        chosen = [names[at] for at in _choose(names, str(path), columns)]
        table = file.read(chosen)
        learners, courses = (
            text_of(table.column(name), f"{path}:{name}").to_pylist() for name in chosen
        )
    except pa.ArrowException:
        raise UsageError(f"The file {path} cannot be read as Parquet with ids as text.") from None
    return (
        (line, learner or "", course or "")
        for line, (learner, course) in enumerate(zip(learners, courses, strict=True), 1)
    )


def _choose(titles: list[str], name: str, columns: list[str] | None) -> tuple[int, int]:
    """Return the positions of the learners' and the courses' column."""
    learners, courses = columns or (None, None)
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
