"""One table of the columns, and everything that comes from it."""

import builtins
import importlib

import pyarrow as pa
import pytest

from bulkfetch.errors import UsageError
from bulkfetch.record import FIELD_NAMES, FIELDS, Enrollment, FieldType, arrow_schema


def test_objects_and_arrow_have_the_columns_of_the_table() -> None:
    assert Enrollment._fields == FIELD_NAMES
    assert tuple(arrow_schema().names) == FIELD_NAMES


def test_the_columns_are_the_eleven_of_the_design() -> None:
    assert [(field.name, str(field.type)) for field in arrow_schema()] == [
        ("enrollment_id", "string"),
        ("course_id", "string"),
        ("learner_id", "string"),
        ("access_date", "date32[day]"),
        ("due_date", "date32[day]"),
        ("expiration_date", "date32[day]"),
        ("should_lock_after_due_date", "bool"),
        ("enrollment_type_group", "int8"),
        ("issued_certificate_id", "string"),
        ("cert_issue_date", "timestamp[s, tz=UTC]"),
        ("cert_expiry_date", "timestamp[s, tz=UTC]"),
    ]


def test_the_three_ids_are_required_and_nothing_else() -> None:
    required = [field.name for field in FIELDS if field.required]
    assert required == ["enrollment_id", "course_id", "learner_id"]
    assert [field.name for field in arrow_schema() if not field.nullable] == required
    assert Enrollment("e", "c", "l") == ("e", "c", "l", *[None] * 8)
    with pytest.raises(TypeError):
        Enrollment("e", "c")  # type: ignore[call-arg]


def test_no_wire_name_carries_two_columns() -> None:
    names = [name for field in FIELDS for name in field.wire_names]
    assert len(set(names)) == len(names)


def test_every_type_of_field_has_an_arrow_type() -> None:
    assert {field.type for field in FIELDS} == set(FieldType)
    assert not any(pa.types.is_null(field.type) for field in arrow_schema())


def test_without_pyarrow_arrow_is_a_usage_error_that_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(name: str, package: str | None = None) -> object:
        del name, package
        raise builtins.ImportError

    monkeypatch.setattr(importlib, "import_module", refuse)
    with pytest.raises(UsageError, match=r"pip install 'bulkfetch\[cli\]'") as caught:
        arrow_schema()
    assert caught.value.__cause__ is None
