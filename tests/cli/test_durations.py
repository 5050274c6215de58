import pytest

from bulkfetch.cli.durations import read_duration
from bulkfetch.errors import UsageError


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("0", 0), ("90", 90), ("1.5s", 1.5), ("10m", 600), (" 2h ", 7200), ("0.5 h", 1800)],
)
def test_a_duration_is_a_number_with_its_unit(text: str, seconds: float) -> None:
    assert read_duration(text, "--deadline") == seconds


@pytest.mark.parametrize("text", ["", "h", "-1", "1d", "1h30", "inf", "nan", "1e3", "٣"])
def test_anything_else_is_refused_by_name(text: str) -> None:
    with pytest.raises(UsageError, match="--deadline"):
        read_duration(text, "--deadline")
