"""What the benchmarks share: the server, interleaved rounds of client processes, table and JSON."""

import argparse
import contextlib
import json
import math
import platform
import statistics
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from bodies import records_of

HERE = Path(__file__).parent

Figures = dict[str, float]


@dataclass(frozen=True)
class Body:
    """What the server sends: so many learners, each with about so many records, in such batches."""

    learners: int
    per_learner: int
    batch: int
    dialect: str = "plain"
    plain: bool = False
    level: int = 6

    @property
    def answers(self) -> int:
        """How many answers there are in all."""
        return math.ceil(self.learners / self.batch)

    @property
    def records(self) -> int:
        """How many records there are in all."""
        return sum(map(records_of(self.per_learner), range(self.learners)))


@contextlib.contextmanager
def serving(body: Body) -> Iterator[str]:
    """Run the server process and give its URL once its answers are ready."""
    command = [sys.executable, str(HERE / "canned_server.py")]
    command += [f"--learners={body.learners}", f"--per-learner={body.per_learner}"]
    command += [f"--batch={body.batch}", f"--dialect={body.dialect}", f"--level={body.level}"]
    command += ["--plain"] if body.plain else []
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            yield f"http://127.0.0.1:{int(process.stdout.readline())}"
        finally:
            process.stdin.close()


def run_client(path: str, url: str, body: Body, *extra: str) -> Figures:
    """Run one client process to its end; every record must have come."""
    command = [sys.executable, str(HERE / "measured_client.py"), f"--path={path}", f"--url={url}"]
    command += [f"--learners={body.learners}", f"--batch={body.batch}", *extra]
    result = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    figures: Figures = json.loads(result.stdout)
    expected = body.answers if path == "bare aiohttp" else body.records
    assert figures["records"] == expected, f"{path}: {figures['records']} of {expected} records"
    figures["cpu_us_per_record"] = figures["cpu_s"] / max(body.records, 1) * 1e6
    figures["wall_us_per_record"] = figures["wall_s"] / max(body.records, 1) * 1e6
    figures["cpu_us_per_call"] = figures["cpu_s"] / figures["calls"] * 1e6
    figures["cpu_us_per_answer"] = figures["cpu_s"] / body.answers * 1e6
    figures["records_per_s"] = body.records / figures["wall_s"]
    return figures


def run_interleaved(
    runs: Mapping[str, tuple[str, Sequence[str]]], body: Body, rounds: int
) -> dict[str, Figures]:
    """Run client processes in turn, so many rounds, and return the medians by name.

    Args:
        runs: by name, a path of `measured_client.py` and further arguments.
        body: what the server sends.
        rounds: how often each is run.
    """
    results: dict[str, list[Figures]] = {name: [] for name in runs}
    with serving(body) as url:
        for _ in range(rounds):
            for name, (path, extra) in runs.items():
                results[name].append(run_client(path, url, body, *extra))
    return {name: medians_of(found) for name, found in results.items()}


def medians_of(runs: Iterable[Figures]) -> Figures:
    """Return the median of each figure."""
    found = [*runs]
    return {key: statistics.median(run[key] for run in found) for key in found[0]}


def machine() -> str:
    """Describe the machine in a line."""
    model = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    cores = 0
    if cpuinfo.exists():
        for line in cpuinfo.read_text(encoding="utf-8").splitlines():
            name, _, value = line.partition(":")
            if name.strip() == "model name":
                model, cores = value.strip(), cores + 1
    return (
        f"{platform.python_implementation()} {platform.python_version()}, {platform.system()}, "
        f"{model}, {cores or '?'} cores"
    )


def at_least(lowest: int) -> Callable[[str], int]:
    """Make a type of argument: whole numbers from this one on."""

    def read(text: str) -> int:
        if not text.isdecimal() or int(text) < lowest:
            raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from {lowest:,} on")
        return int(text)

    return read


positive = at_least(1)


def _writable(text: str) -> Path:
    """Open a file for writing before the run, not after it."""
    try:
        Path(text).open("a", encoding="utf-8").close()
    except OSError as error:
        raise argparse.ArgumentTypeError(f"{text!r}: {error.strerror}") from None
    return Path(text)


def make_parser(description: str | None, *, rounds: int = 5) -> argparse.ArgumentParser:
    """Make a parser with the options that all benchmarks have."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument(
        "--rounds", type=positive, default=rounds, help="of which the median counts"
    )
    parser.add_argument("--json", type=_writable, help="write the figures here, too")
    return parser


def print_table(columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Print a Markdown table; numbers are aligned right."""
    print(f"| {' | '.join(columns)} |")
    print(f"|---|{'---:|' * (len(columns) - 1)}")
    for row in rows:
        print(f"| {' | '.join(map(str, row))} |")
    print(flush=True)


def write_json(path: Path | None, name: str, figures: object) -> None:
    """Write the figures of a benchmark with the machine they were made on."""
    if path is not None:
        text = json.dumps({"benchmark": name, "machine": machine(), "figures": figures}, indent=1)
        path.write_text(text + "\n", encoding="utf-8")
