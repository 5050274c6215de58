"""The speed benchmarks refuse what they cannot run at once, and measure what they say."""

import json
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
from harness import Body, run_client, serving
from measured_client import PATHS
from peers import LIBRARIES

BENCHMARKS = Path(__file__).parent.parent / "benchmarks"


def run(script: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(BENCHMARKS / script), *arguments]
    return subprocess.run(command, check=False, capture_output=True, text=True, timeout=120)


@pytest.mark.parametrize(
    "command",
    [
        "cpu_per_record.py --rounds 0",
        "cpu_per_record.py --rounds -1",
        "cpu_per_record.py --rounds many",
        "cpu_per_record.py --dialects klingon",
        "cpu_per_record.py --paths nope",
        "cpu_per_record.py --records 5",
        "cpu_per_record.py --batches 5",
        "cpu_per_record.py --per-learner 0",
        "cpu_per_record.py --json /no/such/directory/figures.json",
        "small_batches.py --answers 0",
        "small_batches.py --paths nope",
        "two_cores.py --records 9",
        "two_cores.py --batches 9",
        "loop_delay.py --records 9",
        "loop_delay.py --answers 0",
        "one_answer.py --records 9",
        "one_answer.py --paths nope",
        "export.py --sizes 9",
        "export.py --formats xml",
        "start_up.py --rounds 0",
        "dedupe_memory.py --ids 10",
        "dedupe_memory.py --rounds 0",
        "publish_memory.py --sizes 10",
        "publish_memory.py --sizes 200 2000000",
        "publish_memory.py --formats xml",
        "publish_memory.py --rounds 0",
        "publish_memory.py --json /no/such/directory/figures.json",
    ],
)
def test_what_cannot_be_run_is_refused_in_a_line(command: str) -> None:
    done = run(*command.split())
    assert done.returncode == 2
    assert done.stdout == ""
    assert "Traceback" not in done.stderr
    assert ": error: " in done.stderr.splitlines()[-1]


@pytest.mark.parametrize("path", PATHS)
def test_nothing_is_imported_while_a_client_is_measured(path: str) -> None:
    for library in LIBRARIES.get(path, ()):
        if find_spec(library.partition(".")[0]) is None:
            pytest.skip("needs the bench extra")
    body = Body(learners=20, per_learner=10, batch=10)
    with serving(body) as url:
        figures = run_client(path, url, body)
    assert figures["modules_imported"] <= 5  # codecs of the standard library


def test_small_answers_are_reckoned_by_answers_and_by_calls(tmp_path: Path) -> None:
    written = tmp_path / "figures.json"
    done = run(
        "small_batches.py", "--answers=60", "--rounds=1", "--paths", "objects", f"--json={written}"
    )
    assert done.returncode == 0, done.stderr
    assert "| path | CPU µs/answer | × bare aiohttp | answers/s | calls | CPU µs/call |" in (
        done.stdout
    )
    figures = json.loads(written.read_text())["figures"]["objects"]
    assert figures["calls"] > 60  # empty answers are confirmed
    assert figures["cpu_us_per_answer"] == pytest.approx(figures["cpu_s"] / 60 * 1e6)


def test_publishing_is_measured_so_many_rounds(tmp_path: Path) -> None:
    written = tmp_path / "figures.json"
    sizes = ("--sizes", "2000", "--learners", "200", "--formats", "csv")
    done = run("publish_memory.py", *sizes, "--rounds=2", f"--json={written}")
    assert done.returncode == 0, done.stderr
    assert json.loads(written.read_text())["figures"]["csv 2000"]["rows"] == 2000
