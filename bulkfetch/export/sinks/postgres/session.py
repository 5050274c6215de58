"""One connection and its one transaction, with errors that say in a sentence what happened."""

import contextlib
import os
from collections.abc import Generator
from typing import TYPE_CHECKING

import pyarrow as pa

from bulkfetch.errors import SinkError, UsageError
from bulkfetch.export.sinks.postgres.url import DatabaseUrl
from bulkfetch.redact import Redactor

if TYPE_CHECKING:
    from adbc_driver_manager.dbapi import Cursor


class Session:
    """A transaction under way. Get it from `open_session`; without `commit` it is undone."""

    def __init__(self, cursor: "Cursor") -> None:
        self._cursor = cursor

    def execute(self, statement: str) -> None:
        """Run a statement that returns nothing."""
        self._cursor.execute(statement)

    def query(self, statement: str, *parameters: object) -> list[tuple[object, ...]]:
        """Return the rows of a query, `$1`, `$2`, … standing for the parameters."""
        self._cursor.execute(statement, parameters or None)
        return self._cursor.fetchall()

    def ingest(self, temporary_table: str, rows: pa.RecordBatchReader) -> None:
        """COPY rows into a temporary table that is there."""
        self._cursor.adbc_ingest(temporary_table, rows, mode="append", temporary=True)

    def cancel(self) -> None:
        """Cancel what runs, from another thread."""
        self._cursor.adbc_cancel()

    def commit(self) -> None:
        """Make everything since the beginning durable and visible."""
        self._cursor.connection.commit()


@contextlib.contextmanager
def open_session(url: DatabaseUrl) -> Generator[Session, None, None]:
    """Connect and begin a transaction, which is undone unless the block commits it.

    Raises:
        UsageError: the driver is not installed, or libpq does not understand the URL.
        SinkError: the server cannot be reached, or a statement in the block failed.
    """
    try:
        from adbc_driver_postgresql import dbapi  # noqa: PLC0415 - an extra
    except ImportError:
        raise UsageError(
            "Output to PostgreSQL needs its driver, which is not installed: "
            "pip install 'bulkfetch[postgres]'."
        ) from None
    show = Redactor(os.environ.get("PGPASSWORD", "")).show
    try:
        connection = dbapi.connect(url.conninfo)
    except dbapi.Error as error:
        reason = show(_reason(error))
        if reason.startswith("invalid "):  # libpq's own words, before any connection
            raise UsageError(f"The database URL cannot be used: {reason}.") from None
        raise SinkError(f"The database {url.shown} cannot be reached: {reason}.") from None
    cursor = connection.cursor()
    try:
        yield Session(cursor)
    except dbapi.Error as error:
        raise SinkError(f"The database {url.shown} failed: {show(_reason(error))}.") from None
    finally:
        # A connection that is broken already cannot be closed in order.
        for resource in (cursor, connection):
            with contextlib.suppress(dbapi.Error):
                resource.close()


def _reason(error: Exception) -> str:
    """Return the server's own sentence, or libpq's first line without the driver's prefix."""
    for key, value in getattr(error, "details", None) or ():
        if key in {b"PG_DIAG_MESSAGE_PRIMARY", "PG_DIAG_MESSAGE_PRIMARY"}:
            return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)
    line = (str(error).strip() or type(error).__name__).splitlines()[0]
    return line.partition("Failed to connect: ")[2] or line.partition("[libpq] ")[2] or line
