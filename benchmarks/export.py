"""An export, journal and publishing included: CPU, wall and peak memory, and how they grow.

The objects path over the same bodies stands beside it.
"""

from harness import (
    Body,
    Figures,
    at_least,
    machine,
    make_parser,
    positive,
    print_table,
    run_interleaved,
    write_json,
)
from measured_client import EXPORTS

_PER_LEARNER = 10


def main() -> None:
    """Export each size in each format."""
    parser = make_parser(__doc__, rounds=3)
    parser.add_argument(
        "--sizes",
        type=at_least(_PER_LEARNER),
        nargs="+",
        default=[100_000, 1_000_000, 10_000_000],
        help="enrollments; the largest takes a quarter of an hour and the server 1 GB",
    )
    parser.add_argument("--formats", nargs="+", choices=EXPORTS, default=EXPORTS)
    parser.add_argument(
        "--rounds-from", type=positive, default=5_000_000, help="once from this size on"
    )
    options = parser.parse_args()
    print(machine(), end="\n\n")
    found: dict[int, dict[str, Figures]] = {}
    for size in options.sizes:
        body = Body(
            learners=size // _PER_LEARNER, per_learner=_PER_LEARNER, batch=100, level=1
        )  # fmt: skip
        rounds = 1 if size >= options.rounds_from else options.rounds
        paths = ["objects", *options.formats]
        found[size] = run_interleaved({path: (path, ()) for path in paths}, body, rounds)
    print(f"1,000 records an answer, gzip, median of {options.rounds}\n")
    smallest = min(found)
    print_table(
        ["records", "path", "CPU µs/record", "× objects", "wall µs/record", "peak MB", "growth"],
        [
            (
                f"{size:,}",
                path,
                f"{figures['cpu_us_per_record']:.2f}",
                f"{figures['cpu_us_per_record'] / paths_['objects']['cpu_us_per_record']:.2f}",
                f"{figures['wall_us_per_record']:.2f}",
                f"{figures['peak_rss_mb']:.0f}",
                f"{figures['peak_rss_mb'] / found[smallest][path]['peak_rss_mb']:.2f}",
            )
            for size, paths_ in found.items()
            for path, figures in paths_.items()
        ],
    )
    write_json(options.json, "export", found)


if __name__ == "__main__":
    main()
