"""The sink: check the table, COPY, merge, and see to rows that are gone, all or nothing."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Self

import pyarrow as pa

from bulkfetch.errors import SinkError
from bulkfetch.export.sinks.postgres import Gone
from bulkfetch.export.sinks.postgres.exports import (
    Export,
    find_exports,
    find_later,
    forget,
    note,
    refuse,
    require_kept,
)
from bulkfetch.export.sinks.postgres.gone import remove_gone
from bulkfetch.export.sinks.postgres.session import open_session
from bulkfetch.export.sinks.postgres.table import (
    copy_incoming,
    create_table,
    find_table,
    lock_table,
    merge_incoming,
)
from bulkfetch.export.sinks.postgres.url import DatabaseUrl
from bulkfetch.export.sinks.sink import Publication, Written
from bulkfetch.export.stopping import PublishingStopped
from bulkfetch.plan.coverage import cover


@dataclass(frozen=True, slots=True)
class PostgresSink:
    """A table of enrollments, to which an export adds what it brings.

    Attributes:
        url: of the database, with the schema.
        gone: what is done about rows of earlier exports that are no longer in the service.
        allow_older: publish also what undoes rows of a later export.
    """

    url: DatabaseUrl
    gone: Gone = Gone.KEEP
    allow_older: bool = False

    @property
    def name(self) -> str:
        """Host, database and schema."""
        return self.url.shown

    def check(self) -> None:
        """Connect, and look at the table or the place where it will be made.

        Raises:
            UsageError: the driver is missing, or libpq does not understand the URL.
            SinkError: the server cannot be reached, or the table cannot be used.
        """
        with open_session(self.url) as session:
            table = find_table(session, self.url.schema, self.gone)
            exports = find_exports(session, table)
            if self.gone is not Gone.KEEP and not self.allow_older:
                require_kept(exports)

    def partial(self) -> Self:
        """Return the table itself: rows are added, and only what is proven gone goes."""
        return self

    def write(self, rows: Iterator[pa.RecordBatch], publication: Publication) -> Written:
        """Merge the rows in one transaction.

        Raises:
            SinkError: the server failed, or the table cannot be used.
            PublishingStopped: a statement was cancelled, as was asked for.
        """
        try:
            return self._merge(rows, publication)
        except SinkError:
            if publication.stopping.is_asked():
                raise PublishingStopped from None
            raise

    def _merge(self, rows: Iterator[pa.RecordBatch], publication: Publication) -> Written:
        with (
            open_session(self.url) as session,
            publication.stopping.interrupting(session.cancel),
        ):
            # What others commit until the table is locked has to be seen.
            session.execute("SET TRANSACTION ISOLATION LEVEL READ COMMITTED")
            # A user's limits for queries are not meant for loads, nor for the sort before them.
            session.execute("SET LOCAL statement_timeout = 0")
            session.execute("SET LOCAL idle_in_transaction_session_timeout = 0")
            table = find_table(session, self.url.schema, self.gone)
            copy_incoming(session, rows)
            if not table.exists:
                create_table(session, table)
            has_rows = lock_table(session, table)
            exports = find_exports(session, table)
            export = Export.of(publication.journal)
            if not has_rows:
                forget(session, exports)
            later = find_later(session, exports, export)
            inserted, updated = merge_incoming(session, table)
            changes = {"inserted": inserted, "updated": updated}
            if self.gone is not Gone.KEEP:
                journal = publication.journal
                coverage = cover(journal.identity.region, journal.finished())
                changes["gone"] = remove_gone(session, table, coverage, self.gone)
            if later is None or (self.allow_older and any(changes.values())):
                note(session, exports, export)
            elif any(changes.values()):
                raise refuse(table, export, later, changes)
            session.commit()
        return Written(0, changes)
