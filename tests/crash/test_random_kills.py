"""Ten kills at random moments of one export, from a service that fails one call in six."""

import random
import signal
import subprocess
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest

from bulkfetch.simulator import Account

OpenSite = Callable[..., AbstractContextManager[Any]]
# The shape is pinned: a plan may probe calls that leave a side unsent, and those answer more pairs
# than they are for.
SIZES = ("--shape", "learners", "--batch-size", "20", "--workers", "4")
KILLS = 10


@pytest.mark.sweep
@pytest.mark.timeout(600)
def test_ten_random_kills_change_nothing(open_site: OpenSite, tmp_path: Path) -> None:
    account = Account(learners=5_000, courses=40, enrollments=100_000, seed=7)
    with open_site(tmp_path / "quiet", "o.csv", account=account) as site:
        assert site.run(*SIZES).returncode == 0
        quiet = site.target.read_bytes()
    assert quiet.count(b"\n") == 100_001
    chance = random.Random()
    seed = chance.randrange(10**6)
    chance.seed(seed)
    print(f"seed {seed}")  # noqa: T201 - shown if it fails
    with open_site(tmp_path / "killed", "o.csv", profile="flaky", account=account) as site:
        for _ in range(KILLS):
            kill_at_random(site, chance)
        before, kept = len(site.asked()), site.kept()
        assert site.run(*SIZES, "--attempts", "12").returncode == 0
        assert not site.pairs(kept) & site.pairs(site.asked(before))
        assert site.target.read_bytes() == quiet
        assert set(site.created()) == {"o.csv", "o.csv.bulkfetch", "o.csv.bulkfetch.lock", "r.json"}


def kill_at_random(site: Any, chance: random.Random) -> None:
    """Kill a run some calls after its start, or before; what was kept is not asked for again."""
    kept, before = site.kept(), len(site.asked())
    calls, moment_s = chance.randrange(12), chance.random() / 4
    process = subprocess.Popen(
        site.command(*SIZES, "--attempts", "12"),
        cwd=site.directory,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    while len(site.asked()) - before < calls and process.poll() is None:
        time.sleep(0.002)
    time.sleep(moment_s)
    process.send_signal(signal.SIGKILL)
    assert process.wait(timeout=10) == -signal.SIGKILL
    assert not site.pairs(kept) & site.pairs(site.asked(before))
    now_kept = site.kept()
    assert now_kept[: len(kept)] == kept
