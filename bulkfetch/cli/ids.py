"""Read id lists: text, CSV, JSONL, Parquet, or standard input.

Ids are trimmed, blank lines left out, repeated ids kept once; their order does not matter. A column
is named after a colon or guessed from the usual names. Everything wrong with a file is said in one
sentence, with the line where it stands.
"""

import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

from bulkfetch.cli.columns import (
    Cells,
    choose_column,
    decode_text,
    from_csv,
    from_jsonl,
    from_parquet,
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
    ids: Iterable[tuple[int, str]]
    if spec == "-":
        name, ids = "standard input", _from_text(decode_text(sys.stdin.buffer.read(), "-"))
    else:
        path, column = split_spec(spec)
        name = str(path)
        try:
            ids = _from_file(path, column, axis)
        except OSError as error:
            raise UsageError(f"The id list {name} cannot be read: {error.strerror}.") from None
    unique: dict[str, None] = {}
    for line, raw in ids:
        value = raw.strip()
        if not value:
            continue
        if len(value) > LONGEST_ID:
            raise UsageError(f"Line {line} of {name} is too long to be an id.")
        require_sendable(value, f"Line {line} of {name}")
        unique[value] = None
    if not unique:
        raise UsageError(f"The id list {name} holds no ids.")
    return list(unique)


def _from_file(path: Path, column: str | None, axis: Axis) -> Iterable[tuple[int, str]]:
    name, suffix = str(path), path.suffix.lower()

    def choose(titles: list[str]) -> list[int]:
        return [choose_column(titles, name, column, axis)]

    if suffix == ".parquet":
        return _only(from_parquet(path, choose))
    text = decode_text(path.read_bytes(), name)
    if suffix in {".csv", ".tsv"}:
        return _only(from_csv(text, name, choose))
    if suffix in {".jsonl", ".ndjson"}:
        return _only(from_jsonl(text, name, choose, count=1))
    if column is not None:
        raise UsageError(f"The file {path} is read as text, one id a line: it has no columns.")
    return _from_text(text)


def _only(cells: Cells) -> Iterator[tuple[int, str]]:
    """Yield the only cell of each line."""
    return ((line, cell) for line, (cell,) in cells)


def _from_text(text: str) -> Iterator[tuple[int, str]]:
    return enumerate(text.split("\n"), 1)
