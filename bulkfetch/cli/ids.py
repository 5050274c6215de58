"""Read id lists: text, CSV, JSONL, Parquet, or standard input.

Ids are trimmed, blank lines left out, repeated ids kept once; their order does not matter. A column
is named after a colon or guessed from the usual names. Everything wrong with a file is said in one
sentence, with the line where it stands.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from bulkfetch.cli.columns import (
    Cells,
    choose_column,
    from_csv,
    from_jsonl,
    from_parquet,
    lines_of,
    opened,
    split_spec,
)
from bulkfetch.errors import UsageError
from bulkfetch.plan.rectangle import Axis
from bulkfetch.wire.envelope import require_sendable

LONGEST_ID = 1_000


def read_ids(spec: str, axis: Axis) -> list[str]:
    """Return the ids that a file holds, each once.

    Args:
        spec: a path, a path and a column (`file.csv:column`), or `-` for text on standard input.
        axis: whose ids they are, for guessing the column.

    Raises:
        UsageError: the file cannot be read, has no such column, or holds no or unusable ids.
    """
    path, column = (None, None) if spec == "-" else split_spec(spec)
    name = "standard input" if path is None else str(path)
    unique: dict[str, None] = {}
    with opened(path, name, "id list") as file:
        for line, raw in _read(file, name, column, axis):
            value = raw.strip()
            if not value or value in unique:
                continue
            if len(value) > LONGEST_ID:
                raise UsageError(f"Line {line} of {name} is too long to be an id.")
            require_sendable(value, f"Line {line} of {name}")
            unique[value] = None
    if not unique:
        raise UsageError(f"The id list {name} holds no ids.")
    return list(unique)


def _read(file: BinaryIO, name: str, column: str | None, axis: Axis) -> Iterator[tuple[int, str]]:
    suffix = Path(name).suffix.lower()

    def choose(titles: list[str]) -> list[int]:
        return [choose_column(titles, name, column, axis)]

    if suffix == ".parquet":
        return _only(from_parquet(file, name, choose))
    if suffix in {".csv", ".tsv"}:
        return _only(from_csv(file, name, choose))
    if suffix in {".jsonl", ".ndjson"}:
        return _only(from_jsonl(file, name, choose, count=1))
    if column is not None:
        raise UsageError(f"The file {name} is read as text, one id a line: it has no columns.")
    return enumerate(lines_of(file), 1)


def _only(cells: Cells) -> Iterator[tuple[int, str]]:
    """Yield the only cell of each line."""
    return ((line, cell) for line, (cell,) in cells)
