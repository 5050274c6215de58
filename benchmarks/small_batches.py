"""Many small answers, of 0 to 5 records: CPU per answer against bare aiohttp that posts and reads.

An empty answer on a connection that has served is asked for once more on a fresh one: these calls
are part of what the answer costs, and are dearer, because each connects. `--per-learner 3` leaves
them out.
"""

from harness import Body, machine, make_parser, positive, print_table, run_interleaved, write_json
from measured_client import PATHS

_PATHS = ("objects", "bare aiohttp", "aiohttp + lxml", "zeep")


def main() -> None:
    """Ask for one learner a call."""
    parser = make_parser(__doc__)
    parser.add_argument("--answers", type=positive, default=10_000)
    parser.add_argument("--per-learner", type=int, default=-5, help="-5 is 0 to 5 in turn")
    parser.add_argument("--paths", nargs="+", choices=PATHS, default=_PATHS)
    options = parser.parse_args()
    print(machine(), end="\n\n")
    body = Body(learners=options.answers, per_learner=options.per_learner, batch=1)
    medians = run_interleaved({path: (path, ()) for path in options.paths}, body, options.rounds)
    bare = medians.get("bare aiohttp", {}).get("cpu_us_per_answer", 0.0)
    print(f"{options.answers:,} answers, gzip, median of {options.rounds}\n")
    print_table(
        ["path", "CPU µs/answer", "× bare aiohttp", "answers/s", "calls", "CPU µs/call"],
        [
            (
                path,
                f"{figures['cpu_us_per_answer']:.0f}",
                f"{figures['cpu_us_per_answer'] / bare:.2f}" if bare else "",
                f"{body.answers / figures['wall_s']:,.0f}",
                f"{figures['calls']:,.0f}",
                f"{figures['cpu_us_per_call']:.0f}",
            )
            for path, figures in medians.items()
        ],
    )
    write_json(options.json, "small_batches", medians)


if __name__ == "__main__":
    main()
