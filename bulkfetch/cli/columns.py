"""Read columns of ids out of a table: CSV, JSONL or Parquet.

Columns are named by the user or guessed from the usual names. A table gives its cells as they are,
with the line where they stand: what an id or a pair may be is for the reader of ids or pairs to
say. Everything wrong with a file is said in one sentence. No more of a file is held than a line or
a batch of rows: a table of people has many columns beside the one that holds their ids.
"""

import contextlib
import csv
import io
import json
import sys
from collections.abc import Callable, Generator, Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import Any, BinaryIO

from bulkfetch.errors import UsageError
from bulkfetch.plan.rectangle import Axis
from bulkfetch.record import import_pyarrow
from bulkfetch.redact import escape_controls

_USUAL = {
    Axis.LEARNERS: ("learnerid", "userid", "learner", "user", "id"),
    Axis.COURSES: ("courseid", "contentitemid", "contentid", "course", "id"),
}
_DELIMITERS = ",;\t"

Cells = Iterator[tuple[int, Sequence[str]]]  # the number of a line, and what stands in it
Choose = Callable[[list[str]], Sequence[int]]  # the positions of the columns, by their titles


def split_spec(spec: str) -> tuple[Path, str | None]:
    """Split a column from a path; a file that has just this name wins."""
    path = Path(spec)
    if path.exists() or ":" not in spec:
        return path, None
    before, _, column = spec.rpartition(":")
    return Path(before), column


@contextlib.contextmanager
def opened(path: Path | None, name: str, what: str) -> Generator[BinaryIO, None, None]:
    """Open a file, or standard input for None, and say what it is if it cannot be read.

    Raises:
        UsageError: it cannot be read, now or in the block, or is no text there.
    """
    try:
        with io.BytesIO(sys.stdin.buffer.read()) if path is None else path.open("rb") as file:
            yield file if file.seekable() else io.BytesIO(file.read())
    except OSError as error:
        raise UsageError(f"The {what} {name} cannot be read: {error.strerror}.") from None
    except UnicodeDecodeError:
        raise UsageError(f"The id list {name} is not text in UTF-8.") from None


def lines_of(file: BinaryIO, newline: str = "\n") -> Iterator[str]:
    """Yield the lines of UTF-8 or UTF-16; `newline` is what ends one, as `open` takes it.

    Raises:
        UnicodeDecodeError: it is neither.
    """
    is_wide = file.read(2) in {b"\xff\xfe", b"\xfe\xff"}
    file.seek(0)
    encoding = "utf-16" if is_wide else "utf-8-sig"
    with io.TextIOWrapper(file, encoding, newline=newline) as lines:
        yield from lines


def from_csv(file: BinaryIO, name: str, choose: Choose) -> Cells:
    """Yield the cells of each row, empty where a row is too short; its header is the first line.

    Raises:
        UnicodeDecodeError: it is no text.
        UsageError: it is no CSV, or has no such columns.
    """
    lines = lines_of(file, newline="")
    header = next(lines, "")
    delimiter = max(_DELIMITERS, key=header.count)
    rows = csv.reader(chain([header], lines), delimiter=delimiter)
    try:
        positions = choose(next(rows, []))
        for row in rows:
            yield rows.line_num, [row[at] if at < len(row) else "" for at in positions]
    except csv.Error as error:
        raise UsageError(f"Line {rows.line_num} of {name} is not CSV: {error}.") from None


def from_jsonl(file: BinaryIO, name: str, choose: Choose, *, count: int) -> Cells:
    """Yield what each line holds: an object with the columns as keys, or the ids by themselves.

    One id stands by itself as a string, `count` of them as an array.

    Raises:
        UnicodeDecodeError: it is no text.
        UsageError: a line is no JSON, or does not hold so many ids.
    """
    for line, content in enumerate(lines_of(file), 1):
        if not content.strip():
            continue
        try:
            value = json.loads(content)
        except (ValueError, RecursionError):
            raise UsageError(f"Line {line} of {name} is not JSON.") from None
        if isinstance(value, dict):
            keys = list(value)
            value = [value[keys[at]] for at in choose(keys)]
        elif count == 1:
            value = [value]
        if (
            not isinstance(value, list)
            or len(value) != count
            or not all(isinstance(unit, str) for unit in value)
        ):
            what = "an id as a string" if count == 1 else "two ids as strings"
            raise UsageError(f"Line {line} of {name} does not hold {what}.")
        yield line, value


def from_parquet(file: BinaryIO, name: str, choose: Choose) -> Cells:
    """Yield the cells of each row, empty where there is none.

    Raises:
        UsageError: it is no Parquet, or has no such columns of ids.
    """
    pa = import_pyarrow()
    import pyarrow.parquet as pq  # noqa: PLC0415 - only for such a file

    line = 0
    try:
        table = pq.ParquetFile(file)
        schema = table.schema_arrow
        titles = [schema.names[at] for at in choose(schema.names)]
        for title in titles:
            _require_text(schema.field(title).type, f"{name}:{title}")
        for batch in table.iter_batches(columns=titles):
            columns = [batch.column(title).cast(pa.string()).to_pylist() for title in titles]
            for row in zip(*columns, strict=True):
                line += 1
                yield line, [cell or "" for cell in row]
    except pa.ArrowException:
        raise UsageError(f"The file {name} cannot be read as Parquet with ids as text.") from None


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


def _require_text(kind: Any, name: str) -> None:
    """Check that a column of Parquet is of a type that ids are kept in.

    Raises:
        UsageError: it is not.
    """
    pa = import_pyarrow()
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    if pa.types.is_floating(kind):
        raise UsageError(
            f"The column {name} holds numbers with a fraction ({kind}), not ids: pandas makes such "
            "numbers of whole ones where some are missing. Write it as text, or as whole numbers."
        )
    is_text = (pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view)
    is_other = (pa.types.is_integer, pa.types.is_binary, pa.types.is_large_binary, pa.types.is_null)
    if not any(is_kind(kind) for is_kind in (*is_text, *is_other)):
        raise UsageError(f"The column {name} holds {kind}, not ids: write it as text.")


def _plain(title: str) -> str:
    return "".join(character for character in title.lower() if character.isalnum())
