"""The pages that list the account's ids, as the journal keeps them."""

from collections.abc import Iterator

from bulkfetch.engine.listing import ListedPage
from bulkfetch.export.journal_codec import checksum_page
from bulkfetch.export.journal_file import JournalFile
from bulkfetch.plan.rectangle import Axis


def keep_page(file: JournalFile, page: ListedPage) -> None:
    """Keep a page; call it within a transaction."""
    ids = file.keep_side(page.ids)
    place = (page.axis.value, page.position, page.token, page.next_token, ids, page.items)
    file.connection.execute(
        "INSERT INTO page VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (*place, page.latency_s, page.received_at, checksum_page(*place)),
    )


def read_pages(file: JournalFile, axis: Axis) -> Iterator[ListedPage]:
    """Yield the pages of a listing so far, in their order.

    Raises:
        DamagedJournalError: they do not hang together.
    """
    rows = file.select("SELECT * FROM page WHERE axis = ? ORDER BY position", axis.value)
    token = ""
    for count, row in enumerate(rows):
        name, position, sent, next_token, ids, items, latency_s, received_at, checksum = row
        side = file.sides([ids])[ids]
        place = (name, position, sent, next_token, ids, items)
        if (
            side is None
            or checksum_page(*place) != checksum
            or position != count
            or sent != token
            or (count and not token)
        ):
            raise file.damaged(f"Page {count + 1} of the {name}")
        yield ListedPage(axis, position, sent, next_token, side, items, latency_s, received_at)
        token = next_token
