"""Text read as a column's type, strictly."""

from datetime import UTC, date, datetime, timedelta, timezone

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bulkfetch.record import FieldType
from bulkfetch.wire.values import (
    READERS,
    read_bool,
    read_date,
    read_int8,
    read_text,
    read_timestamp,
)

NO_DATES = (
    "", " ", "2022", "2022-07", "2022-7-14", "22-07-14", "20220714", "14.07.2022", "07/14/2022",
    "2022-00-10", "2022-13-01", "2022-02-30", "2023-02-29", "0000-01-01", "-0001-01-01",
    "+2022-07-14", "02022-07-14", "12022-07-14", "2022-W28-4", "2022-195", "٢٠٢٢-٠٧-١٤",
    "２０２２-07-14", "2022-07-1４", "2022-07-14x", "x2022-07-14", "2022-07-14T", "2022-07-14T10",
    "2022-07-14T10:", "2022-07-14T24:00:00", "2022-07-14T10:60:00", "2022-07-14T10:00:60",
    "2022-07-14T10:00:00.", "2022-07-14T10:00:00+15:00", "2022-07-14T10:00:00+02:60",
    "2022-07-14T10:00:00+2", "2022-07-14T10:00:00+02", "2022-07-14T10:00:00 +02:00",
    "2022-07-14T10:00:00UTC", "2022-07-14T10:00:00ZZ", "2022-07-14\n2022-07-15", "\u00a02022-07-14",
    "2022-07-14+99:99", "2022-07-14T10:00.5", "2022\u201307\u201314", "null", "NaN", "0",
    "2022-07-14T１0:00:00", "2022-07-14T10:00:00.٥", "2022-07-14T10:00:00+٠2:00",
)  # fmt: skip


@pytest.mark.parametrize("text", NO_DATES)
def test_what_is_no_date_is_refused(text: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - the readers' contract
        read_date(text)
    with pytest.raises(ValueError):  # noqa: PT011
        read_timestamp(text)


@pytest.mark.parametrize(
    ("text", "day", "moment"),
    [
        ("2022-07-14", (2022, 7, 14), (2022, 7, 14)),
        (" \r\n2022-07-14\t", (2022, 7, 14), (2022, 7, 14)),
        ("2022-07-14Z", (2022, 7, 14), (2022, 7, 14)),
        ("2022-07-14+02:00", (2022, 7, 14), (2022, 7, 13, 22)),
        ("2022-07-14T23:30:00-05:00", (2022, 7, 14), (2022, 7, 15, 4, 30)),
        ("2022-07-14T00:30:00+14:00", (2022, 7, 14), (2022, 7, 13, 10, 30)),
        ("2022-07-14T10:11:12", (2022, 7, 14), (2022, 7, 14, 10, 11, 12)),
        ("2022-07-14T10:11:12Z", (2022, 7, 14), (2022, 7, 14, 10, 11, 12)),
        ("2022-07-14t10:11:12z", (2022, 7, 14), (2022, 7, 14, 10, 11, 12)),
        ("2022-07-14 10:11:12", (2022, 7, 14), (2022, 7, 14, 10, 11, 12)),
        ("2022-07-14T10:11", (2022, 7, 14), (2022, 7, 14, 10, 11)),
        ("2022-07-14T10:11+0530", (2022, 7, 14), (2022, 7, 14, 4, 41)),
        ("2022-07-14T10:11:12.999999999Z", (2022, 7, 14), (2022, 7, 14, 10, 11, 12)),
        ("2022-07-14T10:11:12,5-00:00", (2022, 7, 14), (2022, 7, 14, 10, 11, 12)),
        ("2020-02-29", (2020, 2, 29), (2020, 2, 29)),
        ("0001-01-01", (1, 1, 1), (1, 1, 1)),
        ("9999-12-31T23:59:59Z", (9999, 12, 31), (9999, 12, 31, 23, 59, 59)),
    ],
)
def test_dates_are_read_as_written_and_stamps_in_utc(
    text: str, day: tuple[int, int, int], moment: tuple[int, int, int]
) -> None:
    assert read_date(text) == date(*day)
    assert type(read_date(text)) is date
    assert read_timestamp(text) == datetime(*moment, tzinfo=UTC)
    assert read_timestamp(text).tzinfo is UTC


@pytest.mark.parametrize(
    ("text", "day"),
    [
        ("0001-01-01T00:00:00+03:00", date(1, 1, 1)),
        ("0001-01-01+00:01", date(1, 1, 1)),
        ("9999-12-31T23:59:59-00:01", date(9999, 12, 31)),
    ],
)
def test_beyond_the_first_and_last_year_the_date_is_known_and_the_instant_is_not(
    text: str, day: date
) -> None:
    assert read_date(text) == day
    with pytest.raises(ValueError, match=text[:4]):
        read_timestamp(text)


@settings(max_examples=200, deadline=None)
@given(
    st.datetimes(datetime(2, 1, 1), datetime(9998, 1, 1)),  # noqa: DTZ001 - zones come beside
    st.integers(-14 * 60, 14 * 60),
    st.sampled_from(["seconds", "minutes", "milliseconds", "microseconds"]),
)
def test_every_iso_stamp_is_read(naive: datetime, minutes: int, precision: str) -> None:
    aware = naive.replace(tzinfo=timezone(timedelta(minutes=minutes)))
    if precision == "minutes":
        aware = aware.replace(second=0)
    text = aware.isoformat(timespec=precision)
    assert read_timestamp(text) == aware.replace(microsecond=0)
    assert read_date(text) == naive.date()


@settings(max_examples=300, deadline=None)
@given(st.text("0123456789-+:.,TZ ٣\n\ud800x", max_size=30) | st.text())
def test_any_text_is_read_or_is_a_value_error(text: str) -> None:
    for field_type in FieldType:
        try:
            READERS[field_type](text)
        except ValueError as error:
            assert type(error) in {ValueError, UnicodeEncodeError}  # noqa: PT017


@pytest.mark.parametrize(
    ("text", "value"),
    [("0", False), ("1", True), ("false", False), ("true", True), ("TRUE", True), (" 1\n", True)],
)
def test_booleans_are_read(text: str, value: bool) -> None:
    assert read_bool(text) is value


@pytest.mark.parametrize("text", ["", "2", "00", "yes", "no", "t", "١", "tru e", "-1", "null"])
def test_what_is_no_boolean_is_refused(text: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011
        read_bool(text)


@pytest.mark.parametrize(
    ("text", "value"),
    [("0", 0), ("1", 1), ("-128", -128), ("127", 127), ("+7", 7), ("007", 7), (" 1 ", 1)],
)
def test_small_integers_are_read(text: str, value: int) -> None:
    assert read_int8(text) == value


@pytest.mark.parametrize(
    "text", ["", "128", "-129", "1.0", "1e1", "0x1", "1_0", "١", "1 1", "--1", "9" * 10_000, "²"]
)
def test_what_is_no_small_integer_is_refused(text: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011
        read_int8(text)


def test_text_is_left_as_it_is() -> None:
    assert read_text(" =1\t\r\n") == " =1\t\r\n"
