"""One answer of 500 MB, 1.2 million enrollments, in Arrow batches: peak memory.

Rows are handed on only when the answer's document has closed, so all of them wait somewhere.
"""

from harness import Body, at_least, machine, make_parser, print_table, run_interleaved, write_json
from measured_client import PATHS


def main() -> None:
    """Fetch the one answer."""
    parser = make_parser(__doc__, rounds=1)
    parser.add_argument("--records", type=at_least(10), default=1_220_000)
    parser.add_argument("--paths", nargs="+", choices=PATHS, default=["arrow"])
    options = parser.parse_args()
    print(machine(), end="\n\n")
    body = Body(learners=options.records // 10, per_learner=10, batch=options.records, level=1)
    medians = run_interleaved({path: (path, ()) for path in options.paths}, body, options.rounds)
    print(f"one answer of {body.records:,} records, gzip, median of {options.rounds}\n")
    print_table(
        ["path", "peak MB", "before MB", "CPU µs/record"],
        [
            (
                path,
                f"{figures['peak_rss_mb']:.0f}",
                f"{figures['rss_before_mb']:.0f}",
                f"{figures['cpu_us_per_record']:.2f}",
            )
            for path, figures in medians.items()
        ],
    )
    write_json(options.json, "one_answer", medians)


if __name__ == "__main__":
    main()
