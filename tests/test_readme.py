"""The README cannot drift: its Python is run, and its figures carry the commands that make them."""

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import aiohttp
import anyio.from_thread
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from bulkfetch.simulator import Account, Simulator, load_profile

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
PYTHON_BLOCKS = re.findall(r"^```python\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)
SHELL_BLOCKS = re.findall(r"^```sh\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)
CONSOLE_BLOCKS = re.findall(r"^```console\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)


@pytest.fixture(scope="module")
def account() -> Account:
    return Account(learners=200, courses=20, enrollments=2_000, seed=2)


@pytest.fixture(scope="module")
def simulator(account: Account) -> Iterator[Simulator]:
    with anyio.from_thread.start_blocking_portal() as portal:
        simulator = Simulator(account, load_profile("steady"))
        with portal.wrap_async_context_manager(simulator):
            yield simulator


@pytest.fixture
def names(account: Account, simulator: Simulator) -> dict[str, Any]:
    return {
        "__name__": "readme",
        "url": simulator.url,
        "token": simulator.token,
        "learners": list(account.learner_ids),
        "courses": list(account.course_ids),
    }


def test_there_are_examples() -> None:
    assert len(PYTHON_BLOCKS) >= 4
    assert len(SHELL_BLOCKS) >= 2
    assert CONSOLE_BLOCKS


@pytest.mark.parametrize("block", PYTHON_BLOCKS, ids=range(len(PYTHON_BLOCKS)))
def test_every_python_example_runs(block: str, names: dict[str, Any]) -> None:
    exec(compile(block, "README.md", "exec"), names)


async def test_the_web_handler_streams_what_a_learner_is_enrolled_in(
    account: Account, names: dict[str, Any]
) -> None:
    (block,) = [block for block in PYTHON_BLOCKS if "web.StreamResponse" in block]
    exec(compile(block, "README.md", "exec"), names)
    expected = list(account.enrollments())
    learner = expected[0].learner_id
    app = web.Application()
    app.router.add_get("/{learner}", names["enrollments_of"])
    async with aiohttp.ClientSession() as session:
        app[names["SESSION"]] = session
        async with (
            TestServer(app) as server,
            session.get(server.make_url(f"/{learner}")) as response,
        ):
            courses = (await response.text()).split()
    wanted = [row.course_id for row in expected if row.learner_id == learner]
    assert sorted(courses) == sorted(wanted)


def test_the_export_example_runs_as_it_stands(
    names: dict[str, Any], tmp_path: Path, account: Account
) -> None:
    command = CONSOLE_BLOCKS[0].removeprefix("$ ").replace("\\\n", " ")
    command = command.replace("https://api-learn.ispring.com", names["url"])
    command = command.replace("bulkfetch export", f"{sys.executable} -m bulkfetch export")
    (tmp_path / "token.txt").touch(0o600)
    (tmp_path / "token.txt").write_text(names["token"])
    (tmp_path / "learners.csv").write_text("\n".join(["learner_id", *names["learners"]]))
    (tmp_path / "courses.txt").write_text("\n".join(names["courses"]))
    result = subprocess.run(
        command, shell=True, cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr
    assert "can be read by others" not in result.stderr
    import pyarrow.parquet  # noqa: PLC0415

    table = pyarrow.parquet.read_table(tmp_path / "enrollments.parquet")
    assert table.num_rows == len(list(account.enrollments()))


def test_every_option_and_exit_code_that_the_readme_names_exists() -> None:
    help_text = "".join(
        subprocess.run(
            [sys.executable, "-m", "bulkfetch", command, "--help"],
            capture_output=True,
            text=True,
            check=True,
            env={"COLUMNS": "200", "PATH": "/usr/bin:/bin", "NO_COLOR": "1", "TERM": "dumb"},
        ).stdout
        for command in ("export", "publish", "verify", "diff", "plan")
    )
    section = README.split("## Export an account")[1].split("## Use it as a library")[0]
    options = set(re.findall(r"(--[a-z][a-z-]+)", section))
    assert options
    assert {option for option in options if option not in help_text} == set()
