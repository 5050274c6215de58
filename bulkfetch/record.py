"""The record: one flat row, one schema, everywhere.

`FIELDS` is the only table of the columns. The object's attributes, the Arrow schema, the
stylesheet, CSV headers and the journal's columns come from it, so that a column cannot be called
one thing here and another there. Wire names are those of the vendor's documentation; its field
table says certIssueDate and certExpiryDate where its samples say issueDate and expiryDate, nested
in a certificate element or not: all are read.
"""

import importlib
from dataclasses import dataclass
from datetime import date, datetime
from enum import Enum
from types import ModuleType
from typing import TYPE_CHECKING, NamedTuple

from bulkfetch.errors import UsageError

if TYPE_CHECKING:
    import pyarrow as pa


class FieldType(Enum):
    """How a column's text is read."""

    TEXT = "text"
    DATE = "date"
    BOOL = "bool"
    INT8 = "int8"
    TIMESTAMP = "timestamp"  # UTC, whole seconds


@dataclass(frozen=True, slots=True)
class Field:
    """One column: its name here, its type, and the element names that carry it on the wire.

    `nested` columns stand inside a `certificate` element or, flat, beside the others.
    """

    name: str
    type: FieldType
    wire_names: tuple[str, ...]
    nested: bool = False
    required: bool = False


FIELDS: tuple[Field, ...] = (
    Field("enrollment_id", FieldType.TEXT, ("enrollmentId",), required=True),
    Field("course_id", FieldType.TEXT, ("courseId",), required=True),
    Field("learner_id", FieldType.TEXT, ("learnerId",), required=True),
    Field("access_date", FieldType.DATE, ("accessDate",)),
    Field("due_date", FieldType.DATE, ("dueDate",)),
    Field("expiration_date", FieldType.DATE, ("expirationDate",)),
    Field("should_lock_after_due_date", FieldType.BOOL, ("shouldLockAfterDueDate",)),
    Field("enrollment_type_group", FieldType.INT8, ("enrollmentTypeGroup",)),
    Field("issued_certificate_id", FieldType.TEXT, ("issuedCertificateId",), nested=True),
    Field("cert_issue_date", FieldType.TIMESTAMP, ("issueDate", "certIssueDate"), nested=True),
    Field("cert_expiry_date", FieldType.TIMESTAMP, ("expiryDate", "certExpiryDate"), nested=True),
)

FIELD_NAMES: tuple[str, ...] = tuple(field.name for field in FIELDS)

TABLE_NAME = "enrollments"  # in databases

RECORD_ELEMENT = "enrollment"
CERTIFICATE_ELEMENT = "certificate"
RESULT_ELEMENT = "GetEnrollmentsResult"


class Enrollment(NamedTuple):
    """One enrollment: of one learner in one course. `enrollment_id` is the key.

    The pair (learner, course) is not unique: a learner can be enrolled again. Dates are dates,
    timestamps are aware and in UTC; a value that the service did not send, or that could not be
    read, is None.
    """

    enrollment_id: str
    course_id: str
    learner_id: str
    access_date: date | None = None
    due_date: date | None = None
    expiration_date: date | None = None
    should_lock_after_due_date: bool | None = None
    enrollment_type_group: int | None = None
    issued_certificate_id: str | None = None
    cert_issue_date: datetime | None = None
    cert_expiry_date: datetime | None = None


def import_pyarrow() -> ModuleType:
    """Import pyarrow when it is first needed: core works without it.

    Raises:
        UsageError: pyarrow is not installed.
    """
    try:
        return importlib.import_module("pyarrow")
    except ImportError:
        raise UsageError(
            "Arrow output needs pyarrow, which is not installed: pip install 'bulkfetch[cli]'."
        ) from None


def arrow_schema() -> "pa.Schema":
    """Return the record's Arrow schema. Needs pyarrow (the `cli` extra).

    Raises:
        UsageError: pyarrow is not installed.
    """
    pa = import_pyarrow()
    types = {
        FieldType.TEXT: pa.string(),
        FieldType.DATE: pa.date32(),
        FieldType.BOOL: pa.bool_(),
        FieldType.INT8: pa.int8(),
        FieldType.TIMESTAMP: pa.timestamp("s", tz="UTC"),
    }
    return pa.schema(
        [pa.field(field.name, types[field.type], nullable=not field.required) for field in FIELDS]
    )
