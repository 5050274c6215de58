import json
import subprocess
from collections.abc import Callable
from typing import Any

Bulkfetch = Callable[..., subprocess.CompletedProcess[bytes]]
Serve = Callable[..., Any]


def test_a_sound_journal_is_confirmed(bulkfetch: Bulkfetch, serve: Serve) -> None:
    place = serve()
    assert bulkfetch(*place.export()).returncode == 0
    full = bulkfetch(
        *("verify", "o.csv.bulkfetch", "--full", "--token-file", "token.txt"),
        *("--report", "v.json", "--url", place.simulator.url),
    )
    assert full.returncode == 0, full.stderr
    assert full.stdout == b""
    assert "0 missed, 0 gone, 0 changed (5,000 rows in the journal, 5,000 now)" in (
        full.stderr.decode()
    )
    report = json.loads((place.directory / "v.json").read_text())
    assert report["is_full"] is True
    assert report["rows_in_journal"] == report["rows_now"] == 5_000
    assert report["differences"] == report["not_asked"] == []
    assert (place.directory / "v.json").stat().st_mode & 0o777 == 0o600
    some = bulkfetch("verify", "o.csv.bulkfetch", "--sample", "50", "--token-file", "token.txt")
    assert some.returncode == 0
    assert "that have rows" in some.stderr.decode()
    assert place.simulator.token not in (place.directory / "v.json").read_text()


def test_rows_that_a_journal_lacks_are_named(bulkfetch: Bulkfetch, serve: Serve) -> None:
    """A filter that is ignored for a while is no loss; rows of a learner that vanish are."""
    place = serve()
    assert bulkfetch(*place.export()).returncode == 0
    simulator, account = place.simulator, place.account
    select = account.select
    lost = account.enrollment(17)

    def without(learners: Any, courses: Any) -> list[int]:
        return [n for n in select(learners, courses) if n != 17]

    simulator._service._account = type("Less", (), {"__getattr__": lambda _, name: (
        without if name == "select" else getattr(account, name))})()  # fmt: skip
    result = bulkfetch(
        *("verify", "o.csv.bulkfetch", "--full", "--token-file", "token.txt"),
        *("--report", "v.json"),
    )
    assert result.returncode == 3, result.stderr
    assert f"gone  {lost.enrollment_id}" in result.stdout.decode()
    (difference,) = json.loads((place.directory / "v.json").read_text())["differences"]
    assert difference["kind"] == "gone"
    assert difference["enrollment_id"] == lost.enrollment_id
    assert difference["learner_id"] == lost.learner_id


def test_what_cannot_be_verified_has_its_exit_code(bulkfetch: Bulkfetch, serve: Serve) -> None:
    place = serve()
    assert bulkfetch(*place.export()).returncode == 0
    (place.directory / "wrong.txt").touch(0o600)
    (place.directory / "wrong.txt").write_text("wrong")
    calls = len(place.simulator.ledger.calls)
    token = ("--token-file", "token.txt")
    for arguments, code in (
        (("o.csv.bulkfetch",), 2),
        (("o.csv.bulkfetch", "--full", "--sample", "3", *token), 2),
        (("o.csv.bulkfetch", "--url", "https://example.org", *token), 2),
        (("missing", *token), 2),
        (("o.csv", *token), 6),
        (("o.csv.bulkfetch", "--report", "o.csv.bulkfetch", *token), 2),
    ):
        result = bulkfetch("verify", *arguments)
        assert result.returncode == code, (arguments, result.stderr)
    assert len(place.simulator.ledger.calls) == calls
    assert bulkfetch("verify", "o.csv.bulkfetch", "--token-file", "wrong.txt").returncode == 4
