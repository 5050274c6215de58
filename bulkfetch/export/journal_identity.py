"""What a journal belongs to, as it is kept in it, and how it is compared with what is asked for."""

import json
from collections.abc import Sequence

from bulkfetch.export.journal_file import JournalFile
from bulkfetch.export.journal_pages import read_pages
from bulkfetch.export.journal_records import (
    ChangedInputsError,
    JournalIdentity,
    compare_regions,
)
from bulkfetch.http.address import SOAP_PATH
from bulkfetch.plan.rectangle import Axis, Rectangle
from bulkfetch.plan.region import PairSet, Region, list_pairs, read_pairs


def keep_identity(file: JournalFile, identity: JournalIdentity) -> None:
    """Keep it; call it within a transaction."""
    for key, value in (
        ("operation", identity.operation),
        ("endpoint", identity.endpoint),
        ("soap_path", identity.soap_path),
        ("region", json.dumps(_keep_region(file, identity.region))),
        ("discovered", json.dumps(sorted(axis.value for axis in identity.discovered))),
    ):
        file.set_meta(key, value)


def read_identity(file: JournalFile, known: Region | None = None) -> JournalIdentity:
    """Read it, with the lists of the account as far as they are complete.

    Args:
        file: where it is kept.
        known: a region in memory, whose lists are not read once more if they are the same.

    Raises:
        DamagedJournalError: it cannot be told.
    """
    operation, endpoint = file.meta("operation"), file.meta("endpoint")
    soap_path = file.meta("soap_path") or SOAP_PATH  # the first journals do not say it
    numbers, axes = read_region_numbers(file)
    try:
        given = (known.learners, known.courses) if isinstance(known, Rectangle) else ()
        lists = file.sides(numbers, file.known(given))
        if len(numbers) == 1 and operation is not None and endpoint is not None:
            pairs = read_pairs(lists[numbers[0]] or ())
            return JournalIdentity(operation, endpoint, pairs, axes, soap_path)
        learners, courses = numbers
    except (ValueError, TypeError):
        operation = None
    if operation is None or endpoint is None:
        raise file.damaged()
    region = Rectangle(lists[learners], lists[courses])
    for axis in axes:
        ids: set[str] = set()
        is_whole = False
        for page in read_pages(file, axis):
            ids.update(page.ids)
            is_whole = not page.next_token
        # No ids are no list: the listing says so, and begins anew.
        if ids and is_whole:
            region = region.replace(axis, tuple(sorted(ids)))
    return JournalIdentity(operation, endpoint, region, axes, soap_path)


def read_region_numbers(file: JournalFile) -> tuple[list[int | None], frozenset[Axis]]:
    """Read the numbers of the region's lists, two or one of pairs, and what the account lists.

    Raises:
        DamagedJournalError: they cannot be told.
    """
    try:
        numbers = list(json.loads(file.meta("region") or "null"))
        axes = frozenset(map(Axis, json.loads(file.meta("discovered") or "null")))
    except (ValueError, TypeError):
        raise file.damaged() from None
    return numbers, axes


def check_identity(file: JournalFile, identity: JournalIdentity) -> None:
    """Refuse a journal that is not of these inputs.

    Raises:
        ChangedInputsError: it is not.
        DamagedJournalError: it cannot be told.
    """
    was = read_identity(file, identity.region)
    differences = [
        f"{name} was {before!r}, is {now!r}"
        for name, before, now in (
            ("the operation", was.operation, identity.operation),
            ("the endpoint", was.url, identity.url),
        )
        if before != now
    ]
    differences += compare_regions(was, identity)
    if differences:
        raise ChangedInputsError(
            f"The journal {file.path} belongs to other inputs: {'; '.join(differences)}. "
            "Give the same inputs, name another journal, or begin anew with --restart."
        )


def _keep_region(file: JournalFile, region: Region) -> Sequence[int | None]:
    """Keep two id lists, or one list of pairs."""
    if isinstance(region, PairSet):
        return [file.keep_side(list_pairs(region))]
    return file.keep_side(region.learners), file.keep_side(region.courses)
