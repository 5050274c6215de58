"""Random services, random faults, the whole HTTP stack, in virtual time: is anything ever wrong?

    python -m benchmarks.chaos --seeds 500
    python -m benchmarks.chaos --seed 123           replay one, in detail

Exits with 1 if anything was lost, twice, foreign or altered, if anything hung, or if two settings
came to different output.
"""

import argparse
import sys
import time
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from chaos.check import Outcome, check
from chaos.scenario import make_scenario


def main() -> None:
    """Run the seeds and print what is wrong, and what happened on the way."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.chaos",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--seeds", type=int, default=500, help="how many, from 0 on")
    parser.add_argument("--seed", type=int, help="this one alone")
    parser.add_argument("--jobs", type=int, default=2, help="processes")
    options = parser.parse_args()
    seeds = range(options.seeds) if options.seed is None else [options.seed]
    started_s, problems, runs = time.monotonic(), [], []
    with ProcessPoolExecutor(options.jobs) as pool:
        for found, outcomes in pool.map(check, seeds, chunksize=min(8, len(seeds))):
            for problem in found:
                print(problem, file=sys.stderr)
            problems += found
            runs += outcomes
    if options.seed is not None:
        print(make_scenario(options.seed).profile)
        for outcome in runs:
            print(outcome.ending, dict(outcome.faults))
    print_summary(runs, len(seeds), len(problems), time.monotonic() - started_s)
    sys.exit(1 if problems else 0)


def print_summary(runs: list[Outcome], seeds: int, problems: int, took_s: float) -> None:
    """Print what happened in all runs together."""
    endings = Counter(run.ending.split(":")[0] for run in runs)
    faults: Counter[str] = sum((run.faults for run in runs), Counter())
    print(f"{seeds} seeds, {len(runs)} runs, {problems} problems, {took_s:,.0f} s")
    print(f"{sum(run.calls for run in runs):,} calls", end=", ")
    print(f"{sum(len(run.rows) for run in runs):,} rows", end=", ")
    print(f"{sum(run.seconds for run in runs) / 3600:,.1f} virtual hours")
    print("ended:", ", ".join(f"{name} {count:,}" for name, count in endings.most_common()))
    print("struck:", ", ".join(f"{name} {count:,}" for name, count in faults.most_common()))


if __name__ == "__main__":
    main()
