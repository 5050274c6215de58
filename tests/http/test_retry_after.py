import time
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bulkfetch.http.retry_after import RETRY_AFTER_CAP_S, read_retry_after

NOW = datetime(2026, 3, 1, 12, 0, 0, tzinfo=UTC).timestamp()


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("7", 7.0),
        (" 7 ", 7.0),
        ("599", 599.0),
        ("3600", RETRY_AFTER_CAP_S),
        ("Sun, 01 Mar 2026 12:00:30 GMT", 30.0),
        ("Sunday, 01-Mar-26 12:00:30 GMT", 30.0),
        ("Sun Mar  1 12:00:30 2026", 30.0),
        ("Sun, 01 Mar 2026 12:00:30 -0000", 30.0),
        ("Sun, 01 Mar 2026 13:00:30 +0100", 30.0),
    ],
)
def test_seconds_and_the_three_forms_of_an_http_date_are_kept(value: str, seconds: float) -> None:
    assert read_retry_after(value, now=NOW) == seconds


@pytest.mark.parametrize("zone", ["UTC", "Asia/Tokyo", "America/Los_Angeles"])
def test_a_date_without_a_zone_is_not_in_this_machines(
    monkeypatch: pytest.MonkeyPatch, zone: str
) -> None:
    """HTTP's oldest form of a date, asctime's, names no zone and means GMT."""
    with monkeypatch.context() as patch:
        patch.setenv("TZ", zone)
        time.tzset()
        seconds = read_retry_after("Sun Mar  1 12:00:30 2026", now=NOW)
    time.tzset()
    assert seconds == 30.0


@pytest.mark.parametrize(
    "value",
    [
        "", " ", "0", "-1", "+5", "1.5", "1e3", "1e9", "nan", "NaN", "inf", "0x7", "7s", "7, 8",
        "86401", "1000000000", "99999999999999999999", "٧", "\uff17", "²", "soon",
        "Sun, 01 Mar 2026 11:59:59 GMT", "Sun, 01 Mar 2036 12:00:00 GMT",
        "Sun, 99 Mar 2026 12:00:30 GMT", "Sun, 01 Mar 99999 12:00:30 GMT", "0,", ",,,", "-", "T",
    ],
)  # fmt: skip
def test_nonsense_is_ignored(value: str) -> None:
    assert read_retry_after(value, now=NOW) is None


def test_no_header_is_no_wait() -> None:
    assert read_retry_after(None, now=NOW) is None


@given(st.text(max_size=40) | st.text(alphabet="0123456789 :,-+GMTSunMar\udcff", max_size=40))
def test_any_text_gives_a_bounded_wait_or_none(value: str) -> None:
    seconds = read_retry_after(value, now=NOW)
    assert seconds is None or 0 < seconds <= RETRY_AFTER_CAP_S
