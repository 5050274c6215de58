"""How close are the defaults to the best fixed settings, on services of many kinds?

In virtual time, exact and repeatable: bulkfetch with its defaults, the best fixed pair of batch
size and workers (the oracle), and the usual guess of 100 ids and 10 workers, each through the same
engine against the same simulated service.

    python -m benchmarks.pace                      all cases
    python -m benchmarks.pace steady outage        some
    python -m benchmarks.pace --profile FILE       a service of your own, in the simulator's format
"""

import argparse
import dataclasses
import gc
import json
import math
import multiprocessing
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from itertools import repeat
from pathlib import Path

from pace.cases import Case, Size, all_cases, read_case
from pace.measuring import Figures, measure, row_facts
from pace.oracle import Measure, Pair, recall, remember, search
from virtual_time import DAY_S, HangError

from bulkfetch.errors import UsageError
from bulkfetch.options import Options

GUESS = Pair(100, 10)
_HTTP_SHRINKS = 20
_COLUMNS = (
    "case",
    "oracle: batch × workers",
    "oracle, s",
    "defaults, s",
    "against oracle",
    "against guess",
    "calls",
    "against oracle",
    "rows sent / wanted",
    "peak in flight",
    "over the limit, s",
    "429 late",
)


@dataclass(frozen=True, slots=True)
class Result:
    """What a case came to; a run of None did not end in a day."""

    case: Case
    oracle: Pair | None
    defaults: Figures | None
    best: Figures | None
    guess: Figures | None


def run(
    case: Case, pair: Pair | None, limit_s: float = DAY_S, *, over_http: bool = False
) -> Figures | None:
    """Measure a case with a pair, or with the defaults; None if it takes too long."""
    options = Options()
    if pair is not None:
        options = Options(batch_size=pair.batch_size, workers=pair.workers)
    try:
        return measure(case, options, over_http=over_http, limit_s=min(limit_s, DAY_S))
    except HangError:
        return None


def compare(case: Case, is_new_search: bool, measure_all: Measure) -> Result:
    """Measure a case in the three ways.

    Args:
        case: What to fetch.
        is_new_search: Do not take the oracle that an earlier search found.
        measure_all: Runs pairs, or the defaults for None, in order.
    """
    oracle = None if is_new_search else recall(case)
    if oracle is None:
        oracle = search(case, measure_all)
    defaults, guess, best = measure_all((None, GUESS, oracle or GUESS), DAY_S)
    return Result(case, oracle, defaults, best if oracle else None, guess)


def compare_here(case: Case, is_new_search: bool) -> Result:
    """Compare in this process, one run after the other: each knows again what others asked."""
    return compare(
        case, is_new_search, lambda pairs, limit_s: [run(case, pair, limit_s) for pair in pairs]
    )


def compare_all(cases: Sequence[Case], jobs: int, *, is_new_search: bool) -> Iterator[Result]:
    """Yield the results in order; processes share the cases, or the runs of the only one."""
    if jobs == 1:
        yield from (compare_here(case, is_new_search) for case in cases)
        return
    row_facts(cases[0].account(), cases[0].profile.dialect)  # built once, before processes fork
    cases[0].region()
    gc.freeze()
    with ProcessPoolExecutor(jobs, mp_context=multiprocessing.get_context("fork")) as pool:
        if len(cases) > 1:
            yield from pool.map(compare_here, cases, repeat(is_new_search))
            return

        def measure_all(pairs: Sequence[Pair | None], limit_s: float) -> Iterator[Figures | None]:
            return pool.map(run, repeat(cases[0]), pairs, repeat(limit_s))

        yield compare(cases[0], is_new_search, measure_all)


def ratio(ours: Figures | None, theirs: Figures | None, name: str) -> float | None:
    """Return how one figure compares; infinite where ours is incomplete, None where theirs is."""
    if theirs is None or theirs.rows_missing:
        return None
    if ours is None or ours.rows_missing:
        return math.inf
    return float(getattr(ours, name)) / float(getattr(theirs, name))


def geometric_mean(values: Sequence[float | None]) -> float:
    """Return the geometric mean of the values that there are."""
    logarithms = [math.log(value) for value in values if value is not None]
    return math.exp(sum(logarithms) / len(logarithms)) if logarithms else math.nan


def summarize(results: Sequence[Result]) -> dict[str, float]:
    """Return the figures over all cases."""
    against_oracle = [ratio(result.defaults, result.best, "makespan_s") for result in results]
    return {
        "makespan_against_oracle": geometric_mean(against_oracle),
        "worst_against_oracle": max((v for v in against_oracle if v is not None), default=math.nan),
        "makespan_against_guess": geometric_mean(
            [ratio(result.defaults, result.guess, "makespan_s") for result in results]
        ),
        "calls_against_oracle": geometric_mean(
            [ratio(result.defaults, result.best, "calls") for result in results]
        ),
        "refused_late": max(
            (result.defaults.refused_late for result in results if result.defaults), default=0.0
        ),
    }


def print_table(results: Sequence[Result]) -> None:
    """Print the table, in Markdown."""
    print_row(*_COLUMNS)
    print_row("---", *["---:"] * (len(_COLUMNS) - 1))
    for result in results:
        oracle, ours, best = result.oracle, result.defaults, result.best
        print_row(
            result.case.name,
            f"{oracle.batch_size:,} × {oracle.workers}" if oracle else "none",
            "" if best is None else f"{best.makespan_s:,.1f}",
            *(["never ends"] if ours is None else _cells(result, ours)),
        )


def print_row(*cells: str) -> None:
    """Print one line of a table in Markdown."""
    print(f"| {' | '.join(cells)} |")


def _cells(result: Result, ours: Figures) -> list[str]:
    missing = f" ({ours.rows_missing:,} rows missing)" if ours.rows_missing else ""
    return [
        f"{ours.makespan_s:,.1f}{missing}",
        _show(ratio(ours, result.best, "makespan_s")),
        _show(ratio(ours, result.guess, "makespan_s")),
        f"{ours.calls:,}",
        _show(ratio(ours, result.best, "calls")),
        f"{ours.rows_sent / ours.rows_wanted:.2f}",
        str(ours.peak_in_flight),
        f"{ours.over_limit_s:,.1f}",
        f"{ours.refused_late:.1%}",
    ]


def _show(value: float | None) -> str:
    return "–" if value is None else f"{value:.2f}"


def to_json(results: Sequence[Result]) -> str:
    """Return everything, the same for the same engine."""
    return json.dumps(
        {
            "summary": summarize(results),
            "cases": [
                {
                    "name": result.case.name,
                    "oracle": result.oracle and dataclasses.asdict(result.oracle),
                    **{
                        name: figures and dataclasses.asdict(figures)
                        for name, figures in (
                            ("defaults", result.defaults),
                            ("best", result.best),
                            ("guess", result.guess),
                        )
                    },
                }
                for result in results
            ],
        },
        indent=1,
    )


def print_over_http(cases: Sequence[Case]) -> None:
    """Run the defaults through both doors, on smaller accounts, and print both."""
    print(f"\nThe defaults through both doors, learners and rows {_HTTP_SHRINKS} times fewer:\n")
    print_row("case", "direct, s", "HTTP, s", "direct, calls", "HTTP, calls")
    print_row("---", *["---:"] * 4)
    for case in cases:
        small = replace(case, size=case.size.shrunk(_HTTP_SHRINKS))
        direct, http = run(small, None), run(small, None, over_http=True)
        cells = [f"{f.makespan_s:,.3f}" if f else "never ends" for f in (direct, http)]
        cells += [f"{f.calls:,}" if f else "" for f in (direct, http)]
        print_row(case.name, *cells)


def main() -> None:
    """Measure, print the table, keep the figures."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.pace",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("names", nargs="*", help="cases; all if none is named")
    parser.add_argument("--profile", type=Path, action="append", default=[], metavar="FILE")
    parser.add_argument("--learners", type=int, default=100_000, help="of --profile's account")
    parser.add_argument("--courses", type=int, default=300)
    parser.add_argument("--enrollments", type=int, default=1_000_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--search", action="store_true", help="look for the oracles anew")
    parser.add_argument("--http", action="store_true", help="the defaults over HTTP as well")
    parser.add_argument("--jobs", type=int, default=2, help="processes")
    parser.add_argument("--json", type=Path, metavar="FILE", help="keep all figures")
    options = parser.parse_args()
    size = Size(options.learners, options.courses, options.enrollments)
    try:
        cases = [read_case(path, size, options.seed) for path in options.profile]
    except UsageError as error:
        parser.error(str(error))
    if options.names or not cases:
        known = {case.name: case for case in all_cases()}
        if unknown := set(options.names) - known.keys():
            parser.error(f"No case {', '.join(sorted(unknown))}: there are {', '.join(known)}.")
        cases += [replace(known[name], seed=options.seed) for name in options.names or known]
    results, started_s = [], time.monotonic()
    for result in compare_all(cases, options.jobs, is_new_search=options.search):
        results.append(result)
        if result.oracle is not None:
            remember(result.case, result.oracle)
        print(f"{result.case.name}: {time.monotonic() - started_s:,.0f} s", file=sys.stderr)
    print_table(results)
    print()
    for name, value in summarize(results).items():
        print(f"* {name.replace('_', ' ')}: {value:.3f}")
    if options.http:
        print_over_http(cases)
    if options.json is not None:
        options.json.write_text(to_json(results), encoding="utf-8")
