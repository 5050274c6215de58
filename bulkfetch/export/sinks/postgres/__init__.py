"""A table in PostgreSQL, filled by COPY and merged by enrollment_id in one transaction."""

from enum import StrEnum


class Gone(StrEnum):
    """What is done about rows of earlier exports that are no longer in the service."""

    KEEP = "keep"
    MARK = "mark"  # with the time, in a column of its own
    DELETE = "delete"
