"""Start-up: importing bulkfetch against its dependencies, its help against a bare Typer's.

Each is a new process, its bytecode cached beforehand; wall time less that of an empty interpreter.
"""

import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from harness import machine, make_parser, print_table, write_json

_TYPER = """
import typer
app = typer.Typer(add_completion=False, rich_markup_mode=None)
@app.command()
def one(name: str = ""): ...
@app.command()
def two(name: str = ""): ...
app()
"""
_PROGRAMS = {
    "nothing": "",
    "its dependencies": "import aiohttp, anyio, isal.isal_zlib, lxml.etree, tenacity",
    "import bulkfetch": "import bulkfetch",
    "import bulkfetch, and use it": "import bulkfetch; bulkfetch.Client, bulkfetch.SyncFetch",
    "a bare Typer program --help": _TYPER,
    "bulkfetch --help": "from bulkfetch.__main__ import main; main()",
}
_AGAINST = {
    "import bulkfetch": "its dependencies",
    "import bulkfetch, and use it": "its dependencies",
    "bulkfetch --help": "a bare Typer program --help",
}
_UNWANTED = ("pyarrow", "duckdb", "bulkfetch.simulator", "adbc_driver_postgresql", "rich")


def imported(program: str) -> list[str]:
    """Return which of the modules that should not be there a program has imported."""
    check = (
        "import atexit, sys; atexit.register(lambda: print(*(m for m in "
        f"{_UNWANTED!r} if m in sys.modules), file=sys.stderr))\n"
    )
    command = [sys.executable, "-c", check + program, "--help"]
    result = subprocess.run(command, check=True, capture_output=True, text=True)
    return result.stderr.split()


def main() -> None:
    """Run the programs in turn."""
    parser = make_parser(__doc__, rounds=15)
    options = parser.parse_args()
    print(machine(), end="\n\n")
    seconds: dict[str, list[float]] = {name: [] for name in _PROGRAMS}
    with tempfile.TemporaryDirectory() as directory:
        files = {}
        for number, (name, program) in enumerate(_PROGRAMS.items()):
            files[name] = Path(directory) / f"program_{number}.py"
            files[name].write_text(program, encoding="utf-8")
        for turn in range(options.rounds + 1):
            for name, file in files.items():
                started = time.perf_counter()
                command = [sys.executable, str(file), "--help"]
                subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
                if turn:  # the first compiles
                    seconds[name].append(time.perf_counter() - started)
    medians = {name: statistics.median(found) for name, found in seconds.items()}
    own = {name: found - medians["nothing"] for name, found in medians.items()}
    unwanted = {name: imported(_PROGRAMS[name]) for name in _AGAINST}
    print(f"median of {options.rounds}, less an empty interpreter's\n")
    print_table(
        ["program", "ms", "×", "of the unwanted modules"],
        [
            (
                name,
                f"{own[name] * 1e3:.0f}",
                f"{own[name] / own[_AGAINST[name]]:.2f}" if name in _AGAINST else "",
                ", ".join(unwanted[name]) or "none" if name in unwanted else "",
            )
            for name in list(_PROGRAMS)[1:]
        ],
    )
    write_json(options.json, "start_up", {"seconds": own, "unwanted": unwanted})


if __name__ == "__main__":
    main()
