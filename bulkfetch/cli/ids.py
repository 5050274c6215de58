"""Read id lists: text, CSV, JSONL, Parquet, or standard input.

Ids are trimmed, blank lines left out, repeated ids kept once; their order does not matter. A column
is named after a colon or guessed from the usual names. Everything wrong with a file is said in one
sentence, with the line where it stands.
"""

import csv
import io
import json
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from bulkfetch.errors import UsageError
from bulkfetch.plan.rectangle import Axis
from bulkfetch.record import import_pyarrow
from bulkfetch.redact import escape_controls
from bulkfetch.wire.envelope import require_sendable

_USUAL = {
    Axis.LEARNERS: ("learnerid", "userid", "learner", "user", "id"),
    Axis.COURSES: ("courseid", "contentitemid", "contentid", "course", "id"),
}
LONGEST_ID = 1_000
DELIMITERS = ",;\t"


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


def split_spec(spec: str) -> tuple[Path, str | None]:
    """Split a column from a path; a file that has just this name wins."""
    path = Path(spec)
    if path.exists() or ":" not in spec:
        return path, None
    before, _, column = spec.rpartition(":")
    return Path(before), column


def _from_file(path: Path, column: str | None, axis: Axis) -> Iterable[tuple[int, str]]:
    suffix = path.suffix.lower()
    if suffix == ".parquet":
        return _from_parquet(path, column, axis)
    text = decode_text(path.read_bytes(), str(path))
    if suffix in {".csv", ".tsv"}:
        return _from_csv(text, str(path), column, axis)
    if suffix in {".jsonl", ".ndjson"}:
        return _from_jsonl(text, str(path), column, axis)
    if column is not None:
        raise UsageError(f"The file {path} is read as text, one id a line: it has no columns.")
    return _from_text(text)


def decode_text(data: bytes, name: str) -> str:
    """Decode a file's bytes.

    Raises:
        UsageError: they are neither UTF-8 nor UTF-16.
    """
    encoding = "utf-16" if data[:2] in {b"\xff\xfe", b"\xfe\xff"} else "utf-8-sig"
    try:
        return data.decode(encoding)
    except UnicodeDecodeError:
        raise UsageError(f"The id list {name} is not text in UTF-8.") from None


def _from_text(text: str) -> Iterator[tuple[int, str]]:
    return enumerate(text.split("\n"), 1)


def _from_csv(text: str, name: str, column: str | None, axis: Axis) -> Iterator[tuple[int, str]]:
    header = text.partition("\n")[0]
    delimiter = max(DELIMITERS, key=header.count)
    rows = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
    try:
        columns = next(rows, [])
        position = choose_column(columns, name, column, axis)
        for row in rows:
            if len(row) > position:
                yield rows.line_num, row[position]
    except csv.Error as error:
        raise UsageError(f"Line {rows.line_num} of {name} is not CSV: {error}.") from None


def _from_jsonl(text: str, name: str, column: str | None, axis: Axis) -> Iterator[tuple[int, str]]:
    for line, content in enumerate(text.split("\n"), 1):
        if not content.strip():
            continue
        try:
            value = json.loads(content)
        except (ValueError, RecursionError):
            raise UsageError(f"Line {line} of {name} is not JSON.") from None
        if isinstance(value, dict):
            keys = list(value)
            value = value[keys[choose_column(keys, name, column, axis)]]
        if not isinstance(value, str):
            raise UsageError(f"Line {line} of {name} does not hold an id as a string.")
        yield line, value


def _from_parquet(path: Path, column: str | None, axis: Axis) -> Iterator[tuple[int, str]]:
    pa = import_pyarrow()
    import pyarrow.parquet as pq  # noqa: PLC0415 - only for such a file

    try:
        file = pq.ParquetFile(path)
        names = file.schema_arrow.names
        chosen = names[choose_column(names, str(path), column, axis)]
        values = text_of(file.read([chosen]).column(0), f"{path}:{chosen}")
    except pa.ArrowException:
        raise UsageError(f"The file {path} cannot be read as Parquet with ids as text.") from None
    return enumerate((value or "" for value in values.to_pylist()), 1)


def text_of(column: Any, name: str) -> Any:
    """Return a column of Parquet as text.

    Raises:
        UsageError: it is of a type that no id is kept in.
    """
    pa = import_pyarrow()
    kind = column.type.value_type if pa.types.is_dictionary(column.type) else column.type
    if pa.types.is_floating(kind):
        raise UsageError(
            f"The column {name} holds numbers with a fraction ({kind}), not ids: pandas makes such "
            "numbers of whole ones where some are missing. Write it as text, or as whole numbers."
        )
    is_text = (pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view)
    is_other = (pa.types.is_integer, pa.types.is_binary, pa.types.is_large_binary, pa.types.is_null)
    if not any(is_kind(kind) for is_kind in (*is_text, *is_other)):
        raise UsageError(f"The column {name} holds {kind}, not ids: write it as text.")
    return column.cast(pa.string())


def choose_column(columns: list[str], name: str, column: str | None, axis: Axis) -> int:
    """Return the position of the column that is named, or of the usual one.

    Raises:
        UsageError: there is none, or more than one.
    """
    found = ", ".join(escape_controls(title[:60]) for title in columns[:20]) or "none"
    if column is not None:
        wanted, titles = [column], [title.strip() for title in columns]
        if column not in titles:
            wanted, titles = [_plain(column)], [_plain(title) for title in columns]
    else:
        wanted, titles = list(_USUAL[axis]), [_plain(title) for title in columns]
    for title in wanted:
        if titles.count(title) > 1:
            raise UsageError(
                f"The file {name} has several columns called {title}. Columns: {found}."
            )
        if title in titles:
            return titles.index(title)
    asked = f"column {column}" if column is not None else f"usual column for {axis.value}"
    raise UsageError(
        f"The file {name} has no {asked}. Columns: {found}. Name one after a colon: {name}:COLUMN."
    )


def _plain(title: str) -> str:
    return "".join(character for character in title.lower() if character.isalnum())
