"""What is not needed is not imported."""

import subprocess
import sys

import pytest

import bulkfetch

HEAVY = ("pyarrow", "duckdb", "adbc_driver_postgresql", "bulkfetch.simulator")


def imported(program: str, *candidates: str) -> set[str]:
    check = f"import sys; print(*[m for m in {candidates!r} if m in sys.modules], file=sys.stderr)"
    done = subprocess.run(
        [sys.executable, "-c", f"{program}\n{check}"], check=True, capture_output=True, text=True
    )
    return set(done.stderr.split())


@pytest.mark.parametrize("name", bulkfetch.__all__)
def test_public_names_are_there(name: str) -> None:
    assert getattr(bulkfetch, name).__name__ == name
    assert name in dir(bulkfetch)


def test_other_names_are_not() -> None:
    with pytest.raises(AttributeError, match="no attribute 'client_of_nothing'"):
        _ = bulkfetch.client_of_nothing


def test_the_package_alone_imports_no_http_client() -> None:
    assert not imported("import bulkfetch", "aiohttp", "lxml", "anyio", *HEAVY)


def test_the_library_imports_nothing_heavy() -> None:
    use = "import bulkfetch; bulkfetch.Client('http://127.0.0.1', token='t'); bulkfetch.SyncFetch"
    assert not imported(use, "typer", "rich", *HEAVY)


def test_the_help_imports_neither_the_library_nor_anything_heavy() -> None:
    show = "import bulkfetch.cli.app as a, contextlib, io\nwith contextlib.suppress(SystemExit), "
    show += "contextlib.redirect_stdout(io.StringIO()):\n    a.app(['export', '--help'])"
    assert not imported(show, "aiohttp", "lxml", "rich", *HEAVY)
