"""The best fixed pair of batch size and workers, found by search with the same engine.

Along the workers, along the batch sizes, and along the workers again, each through the best of the
lines before; then from neighbour to better neighbour, in factors of 2 and at last of √2, and again
from a small size if one is better, for where answers may have few rows these lie far off. A run is
broken off as soon as it takes longer than the best before, so most cost a fraction.

What was found is kept by case in a file beside this one; the pair is measured again whenever it is
used, so that the figures are those of the engine as it is, and `--search` looks for it anew.
"""

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from pace.cases import Case
from pace.measuring import Figures

FOUND = Path(__file__).with_name("oracle.json")
_MOST_WORKERS = 256
_FIRST = (400, 12)
_BATCH_SIZES = (50, 100, 200, 800, 1_600, 3_200, 12_800, 51_200)
_SMALL_SIZES = (6, 12, 25)
_WORKERS = (2, 5, 12, 32, 80)
_FINER = (2.0, 2**0.5)
_MOST_STEPS = 6


@dataclass(frozen=True, slots=True, order=True)
class Pair:
    """Fixed settings."""

    batch_size: int
    workers: int


Measure = Callable[[Sequence[Pair | None], float], Iterable[Figures | None]]


def search(case: Case, measure: Measure) -> Pair | None:
    """Find the pair with the shortest complete run; None if no run is complete.

    Args:
        case: What to fetch.
        measure: Runs pairs, each for so many virtual seconds at most, and returns the figures in
            order; None for a run that took longer.
    """
    results: dict[Pair, tuple[float, int]] = {}

    def try_all(pairs: Iterable[Pair]) -> None:
        untried = sorted({_within(case, pair) for pair in pairs} - results.keys())
        limit_s = min((makespan_s for makespan_s, _ in results.values()), default=float("inf"))
        for pair, figures in zip(untried, measure(untried, limit_s), strict=True):
            results[pair] = (float("inf"), 0)
            if figures is not None and figures.rows_missing == 0:
                results[pair] = (figures.makespan_s, figures.calls)

    def best() -> Pair:
        return min(results, key=lambda pair: (*results[pair], pair))

    try_all([Pair(*_FIRST)])
    try_all(Pair(best().batch_size, workers) for workers in _WORKERS)
    try_all(Pair(batch_size, best().workers) for batch_size in _BATCH_SIZES)
    try_all(Pair(best().batch_size, workers) for workers in _WORKERS)

    def refine() -> None:
        for factor in _FINER:
            for _ in range(_MOST_STEPS):
                before = best()
                try_all(_around(before, factor))
                if best() == before:
                    break

    refine()
    refined = best()
    try_all(Pair(batch_size, workers) for batch_size in _SMALL_SIZES for workers in _WORKERS)
    if best() != refined:
        refine()
    found = best()
    return None if results[found][0] == float("inf") else found


def _within(case: Case, pair: Pair) -> Pair:
    """Keep a pair within what makes a difference."""
    size = case.size
    ids = size.learners if size.names_learners else size.courses if size.names_courses else 1
    batch_size = max(1, min(pair.batch_size, ids))
    calls = -(-ids // batch_size)
    return Pair(batch_size, max(1, min(pair.workers, _MOST_WORKERS, calls)))


def _around(pair: Pair, factor: float) -> Iterator[Pair]:
    steps = (1 / factor, 1.0, factor)
    for along in steps:
        for across in steps:
            yield Pair(round(pair.batch_size * along), round(pair.workers * across))


def recall(case: Case) -> Pair | None:
    """Return the pair that an earlier search found for a case."""
    found = _read().get(case.key)
    return None if found is None else Pair(int(found["batch_size"]), int(found["workers"]))


def remember(case: Case, pair: Pair) -> None:
    """Keep a pair for the next time."""
    if recall(case) == pair:
        return
    entries = _read()
    entries[case.key] = {"batch_size": pair.batch_size, "case": case.name, "workers": pair.workers}
    lines = (f"  {json.dumps(key)}: {json.dumps(entries[key])}" for key in sorted(entries))
    written = FOUND.with_suffix(".new")  # other processes may read at any time
    written.write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")
    written.replace(FOUND)


def _read() -> dict[str, dict[str, int | str]]:
    if not FOUND.exists():
        return {}
    entries: dict[str, dict[str, int | str]] = json.loads(FOUND.read_text(encoding="utf-8"))
    return entries
