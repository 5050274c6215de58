"""What is called is part of what a journal belongs to."""

import contextlib
import sqlite3
import subprocess
from collections.abc import Callable
from typing import Any

Bulkfetch = Callable[..., subprocess.CompletedProcess[bytes]]
Serve = Callable[..., Any]
DEFAULT = "/api/v2/soap/2.0"


def test_another_path_is_another_endpoint(bulkfetch: Bulkfetch, serve: Serve) -> None:
    place = serve()
    assert bulkfetch(*place.export()).returncode == 0
    result = bulkfetch(*place.export("--soap-path", "/elsewhere"))
    assert result.returncode == 6
    assert b"/elsewhere'" in result.stderr
    result = bulkfetch(
        *("verify", "o.csv.bulkfetch", "--token-file", "token.txt", "--soap-path", "/elsewhere")
    )
    assert result.returncode == 2
    calls = len(place.simulator.ledger.calls)
    for same in ([], ["--soap-path", DEFAULT], ["--url", f"{place.simulator.url}/"]):
        assert bulkfetch(*place.export(*same)).returncode == 0
    assert len(place.simulator.ledger.calls) == calls


def test_a_journal_that_does_not_say_the_path_is_of_the_usual_one(
    bulkfetch: Bulkfetch, serve: Serve
) -> None:
    place = serve()
    assert bulkfetch(*place.export()).returncode == 0
    with (
        contextlib.closing(sqlite3.connect(place.directory / "o.csv.bulkfetch")) as journal,
        journal,
    ):
        journal.execute("DELETE FROM meta WHERE key = 'soap_path'")
    calls = len(place.simulator.ledger.calls)
    assert bulkfetch(*place.export()).returncode == 0
    assert bulkfetch(*place.export("--soap-path", "/elsewhere")).returncode == 6
    assert len(place.simulator.ledger.calls) == calls


def test_a_verification_calls_where_the_export_did(bulkfetch: Bulkfetch, serve: Serve) -> None:
    place = serve()
    url, path = f"{place.simulator.url}/api", DEFAULT.removeprefix("/api")
    arguments = [url if given == place.simulator.url else given for given in place.export()]
    assert bulkfetch(*arguments, "--soap-path", path).returncode == 0
    calls = len(place.simulator.ledger.calls)
    assert bulkfetch(*place.export()).returncode == 0
    assert len(place.simulator.ledger.calls) == calls
    result = bulkfetch("verify", "o.csv.bulkfetch", "--token-file", "token.txt", "--full")
    assert result.returncode == 0, result.stderr
