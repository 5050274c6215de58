"""The table: made on first use, or looked at closely; and rows merged into it.

Nobody else writes to the table while rows are merged, so that which rows are new or changed is
known before they are written: a row that is as it was is not touched at all.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import pyarrow as pa

from bulkfetch.errors import SinkError
from bulkfetch.export.sinks.postgres import Gone
from bulkfetch.export.sinks.postgres.session import Session
from bulkfetch.record import FIELD_NAMES, FIELDS, TABLE_NAME, FieldType, arrow_schema

KEY = FIELDS[0].name
GONE_AT = "gone_at"
INCOMING = "bulkfetch_incoming"
_TIMESTAMP = "timestamp with time zone"
_TYPES = {
    FieldType.TEXT: "text",
    FieldType.DATE: "date",
    FieldType.BOOL: "boolean",
    FieldType.INT8: "smallint",
    FieldType.TIMESTAMP: _TIMESTAMP,
}
_COLUMNS = {field.name: _TYPES[field.type] for field in FIELDS}


_PRIVILEGES = {
    Gone.KEEP: ("SELECT", "INSERT", "UPDATE"),
    Gone.MARK: ("SELECT", "INSERT", "UPDATE"),
    Gone.DELETE: ("SELECT", "INSERT", "UPDATE", "DELETE"),
}


@dataclass(frozen=True, slots=True)
class Table:
    """The table as it is found.

    Attributes:
        schema: it stands in, or will.
        exists: whether it was made already.
        has_gone_at: whether it has the column for rows that are gone.
        may_create: whether this user may make tables in the schema.
    """

    schema: str
    exists: bool
    has_gone_at: bool
    may_create: bool

    @property
    def sql(self) -> str:
        """Its name in a statement."""
        return f"{quote_identifier(self.schema)}.{TABLE_NAME}"


def quote_identifier(name: str) -> str:
    """Return a name as it stands in a statement, whatever it holds."""
    return '"' + name.replace('"', '""') + '"'


def find_table(session: Session, schema: str | None, gone: Gone) -> Table:
    """Find the table, or the place for it, and check that it can be used.

    Args:
        session: of the database.
        schema: where; None for the first of the search path.
        gone: what will be done about rows that are gone.

    Raises:
        SinkError: it cannot be used, and why.
    """
    _check_database(session)
    schema, may_create = _find_schema(session, schema)
    found = session.query(
        "SELECT c.relkind::text,"
        " array_to_string(ARRAY(SELECT p FROM unnest(string_to_array($3, ',')) p"
        "  WHERE NOT has_table_privilege(c.oid, p)), ', '),"
        " pg_has_role(c.relowner, 'USAGE'),"
        " EXISTS (SELECT FROM pg_index i JOIN pg_attribute a ON a.attrelid = i.indrelid"
        "  AND a.attnum = i.indkey[0] WHERE i.indrelid = c.oid AND a.attname = $4"
        "  AND i.indisunique AND i.indisvalid AND i.indimmediate AND i.indnkeyatts = 1"
        "  AND i.indpred IS NULL AND i.indexprs IS NULL),"
        " c.relkind <> 'p' OR EXISTS (SELECT FROM pg_inherits h WHERE h.inhparent = c.oid)"
        " FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace"
        " WHERE n.nspname = $1 AND c.relname = $2",
        schema, TABLE_NAME, ",".join(_PRIVILEGES[gone]), KEY,
    )  # fmt: skip
    if not found:
        if not may_create:
            raise SinkError(
                f"The schema {schema} has no table {TABLE_NAME}, and this user may not create one."
            )
        return Table(schema, exists=False, has_gone_at=False, may_create=True)
    ((kind, missing_privileges, is_owned, has_key, has_room),) = found
    name = f"{schema}.{TABLE_NAME}"
    if kind not in {"r", "p"}:
        raise SinkError(f"{name} is not a table. Name another schema.")
    if missing_privileges:
        raise SinkError(f"This user lacks {missing_privileges} on the table {name}.")
    columns = session.query(
        "SELECT a.attname::text, format_type(a.atttypid, a.atttypmod), a.attnotnull,"
        " a.atthasdef OR a.attidentity <> '',"
        " a.attgenerated <> '' OR a.attidentity = 'a' FROM pg_attribute a"
        " JOIN pg_class c ON c.oid = a.attrelid JOIN pg_namespace n ON n.oid = c.relnamespace"
        " WHERE n.nspname = $1 AND c.relname = $2 AND a.attnum > 0 AND NOT a.attisdropped"
        " ORDER BY a.attnum",
        schema, TABLE_NAME,
    )  # fmt: skip
    differences = _differences(columns)
    if not has_key:
        differences.append(f"{KEY} has no primary key or unique index of its own")
    if not has_room:
        differences.append("it is partitioned and has no partition")
    has_gone_at = any(column[0] == GONE_AT for column in columns)
    if differences:
        raise SinkError(
            f"The table {name} is not one for enrollments: {'; '.join(differences)}. "
            "Change it, rename it, or name another schema in the URL (?schema=NAME)."
        )
    if gone is Gone.MARK and not has_gone_at and not is_owned:
        raise SinkError(f"The table {name} has no column {GONE_AT}, and only its owner can add it.")
    return Table(schema, exists=True, has_gone_at=has_gone_at, may_create=may_create)


def _check_database(session: Session) -> None:
    ((is_read_only, may_make_temporary),) = session.query(
        "SELECT current_setting('transaction_read_only') = 'on',"
        " has_database_privilege(current_database(), 'TEMPORARY')"
    )
    if is_read_only:
        raise SinkError("The database is read-only: name its primary server.")
    if not may_make_temporary:
        raise SinkError("This user lacks TEMPORARY on the database, which a COPY goes through.")


def _find_schema(session: Session, schema: str | None) -> tuple[str, bool]:
    """Return the schema's name and whether tables can be created in it."""
    found = session.query(
        "SELECT nspname::text, has_schema_privilege(oid, 'USAGE'),"
        " has_schema_privilege(oid, 'CREATE')"
        " FROM pg_namespace WHERE nspname = coalesce(nullif($1, ''), current_schema())",
        schema or "",
    )
    if not found and schema is None:
        raise SinkError("No schema of the search path exists: name one in the URL (?schema=NAME).")
    if not found:
        raise SinkError(f"The schema {schema!r} does not exist: CREATE SCHEMA first.")
    ((name, may_use, may_create),) = found
    if not may_use:
        raise SinkError(f"This user lacks USAGE on the schema {name}.")
    return str(name), bool(may_create)


def _differences(columns: list[tuple[object, ...]]) -> list[str]:
    """Say what keeps columns from holding the record.

    `columns` are of name, type, whether NULL is forbidden, whether there is a default, and whether
    the server makes the values.
    """
    found = {str(name): facts for name, *facts in columns}
    differences = []
    for field in FIELDS:
        kind, is_not_null, _, is_generated = found.get(field.name, (None, False, False, False))
        if kind is None:
            differences.append(f"it has no column {field.name} ({_COLUMNS[field.name]})")
        elif kind != _COLUMNS[field.name]:
            differences.append(f"{field.name} is {kind}, not {_COLUMNS[field.name]}")
        elif is_not_null and not field.required:
            differences.append(f"{field.name} does not allow NULL")
        if is_generated:
            differences.append(f"{field.name} is generated by the server")
    for name, (kind, is_not_null, has_default, is_generated) in found.items():
        if name == GONE_AT:
            if kind != _TIMESTAMP or is_not_null or is_generated:
                differences.append(f"{name} is not a {_TIMESTAMP} that allows NULL")
        elif name not in _COLUMNS and is_not_null and not has_default:
            differences.append(f"{name} needs a value that no enrollment has")
    return differences


def create_table(session: Session, table: Table) -> None:
    """Make the table."""
    columns = ", ".join(
        f"{field.name} {_COLUMNS[field.name]}{' NOT NULL' if field.required else ''}"
        for field in FIELDS
    )
    session.execute(f"CREATE TABLE {table.sql} ({columns}, PRIMARY KEY ({KEY}))")


def copy_incoming(session: Session, rows: Iterator[pa.RecordBatch]) -> None:
    """COPY rows, in the types of `sorting`, into a temporary table."""
    columns = ", ".join(f"{name} {kind}" for name, kind in _COLUMNS.items())
    session.execute(f"CREATE TEMPORARY TABLE {INCOMING} ({columns}) ON COMMIT DROP")
    schema = pa.schema(
        [
            pa.field(field.name, pa.timestamp("us", "UTC"))
            if pa.types.is_timestamp(field.type)
            else field
            for field in arrow_schema()
        ]
    )
    in_utc = (batch.cast(schema) for batch in rows)
    session.ingest(INCOMING, pa.RecordBatchReader.from_batches(schema, in_utc))
    session.execute(f"ANALYZE pg_temp.{INCOMING}")


def lock_table(session: Session, table: Table) -> bool:
    """Keep everybody else from writing to the table until the end of the transaction.

    Returns:
        Whether there are rows in it.
    """
    session.execute(f"LOCK TABLE {table.sql} IN SHARE ROW EXCLUSIVE MODE")
    ((has_rows,),) = session.query(f"SELECT EXISTS (SELECT FROM {table.sql})")
    return bool(has_rows)


def merge_incoming(session: Session, table: Table) -> tuple[int, int]:
    """Insert what is new, update what has changed. A row that was gone and is back is not gone.

    The table must be locked.

    Returns:
        How many rows were inserted, and how many updated.

    Raises:
        SinkError: rows are not in the table as they were sent.
    """
    others = FIELD_NAMES[1:]
    new = ", ".join(f"new.{name}" for name in others)
    updates = [f"{name} = excluded.{name}" for name in others]
    if table.has_gone_at:
        updates.append(f"{GONE_AT} = NULL")
    names = ", ".join(FIELD_NAMES)
    wanted = _wanted(table)
    ((inserted, updated),) = session.query(
        f"WITH wanted AS MATERIALIZED (SELECT new.{KEY}, {new}, old.{KEY} IS NULL AS is_new"
        f" FROM {wanted}),"
        f" written AS (INSERT INTO {table.sql} ({names}) SELECT {names} FROM wanted"
        f" ON CONFLICT ({KEY}) DO UPDATE SET {', '.join(updates)})"
        " SELECT count(*) FILTER (WHERE is_new), count(*) FILTER (WHERE NOT is_new) FROM wanted"
    )
    counts = int(str(inserted)), int(str(updated))
    if any(counts):
        ((left,),) = session.query(f"SELECT count(*) FROM {wanted}")
        if left:
            raise SinkError(
                f"{left:,} of the rows written are not in the table {table.schema}.{TABLE_NAME} as "
                "they were sent, so nothing was changed. A trigger, a rule or a policy on the "
                "table drops or alters them: take it away."
            )
    return counts


def _wanted(table: Table) -> str:
    """Return what selects the incoming rows that the table lacks or has otherwise."""
    new, old = (
        ", ".join(f"{alias}.{name}" for name in FIELD_NAMES[1:]) for alias in ("new", "old")
    )
    is_changed = f"old.{KEY} IS NULL OR ({new}) IS DISTINCT FROM ({old})"
    if table.has_gone_at:
        is_changed += f" OR old.{GONE_AT} IS NOT NULL"
    return (
        f"pg_temp.{INCOMING} new LEFT JOIN {table.sql} old ON old.{KEY} = new.{KEY}"
        f" WHERE {is_changed}"
    )
