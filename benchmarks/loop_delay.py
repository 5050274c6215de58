"""How late a 1 ms ticker in the same event loop is woken while 50 MB answers are fetched.

An idle loop has its own delays, and a busy machine more: a peer that only downloads stands beside.
"""

from harness import Body, at_least, machine, make_parser, print_table, run_interleaved, write_json

_PATHS = ("objects", "arrow", "bare aiohttp", "aiohttp + lxml")


def main() -> None:
    """Fetch the answers along both paths, and by two peers."""
    parser = make_parser(__doc__, rounds=5)
    parser.add_argument("--answers", type=at_least(1), default=4)
    parser.add_argument(
        "--records", type=at_least(10), default=125_000, help="an answer: 50 MB of XML"
    )
    options = parser.parse_args()
    print(machine(), end="\n\n")
    body = Body(
        learners=options.answers * options.records // 10,
        per_learner=10,
        batch=options.records // 10,
        level=1,
    )
    medians = run_interleaved(
        {path: (path, ("--ticker",)) for path in _PATHS}, body, options.rounds
    )
    print(
        f"{options.answers} answers of {options.records:,} records at once, gzip, "
        f"median of {options.rounds}\n"
    )
    print_table(
        ["path", "p99 ms", "max ms", "records/s"],
        [
            (
                path,
                f"{figures['delay_p99_ms']:.1f}",
                f"{figures['delay_max_ms']:.1f}",
                f"{figures['records_per_s']:,.0f}",
            )
            for path, figures in medians.items()
        ],
    )
    write_json(options.json, "loop_delay", medians)


if __name__ == "__main__":
    main()
