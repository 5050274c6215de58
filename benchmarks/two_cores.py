"""Throughput of the Arrow path with one and with two off-load threads.

The server sends from another process. On a machine with two cores it, the event loop and the
threads share them: then two threads cannot give twice as much. `CPU µs/record` tells how much of
the machine a record takes, `cores used` how many were busy on the client's side.
"""

from harness import Body, at_least, machine, make_parser, print_table, run_interleaved, write_json


def main() -> None:
    """Fetch with one and with two threads, in turn."""
    parser = make_parser(__doc__)
    parser.add_argument("--records", type=at_least(10), default=400_000)
    parser.add_argument("--batches", type=at_least(10), nargs="+", default=[1_000, 10_000])
    parser.add_argument("--path", choices=["objects", "arrow"], default="arrow")
    options = parser.parse_args()
    print(machine(), end="\n\n")
    everything = {}
    for batch in options.batches:
        body = Body(learners=options.records // 10, per_learner=10, batch=batch // 10)
        runs = {str(n): (options.path, (f"--threads={n}",)) for n in (1, 2)}
        medians = run_interleaved(runs, body, options.rounds)
        everything[batch] = medians
        print(
            f"{options.path}, {body.records:,} records, {batch:,} an answer, gzip, "
            f"median of {options.rounds}\n"
        )
        print_table(
            ["threads", "records/s", "× one", "CPU µs/record", "cores used"],
            [
                (
                    threads,
                    f"{figures['records_per_s']:,.0f}",
                    f"{figures['records_per_s'] / medians['1']['records_per_s']:.2f}",
                    f"{figures['cpu_us_per_record']:.2f}",
                    f"{figures['cpu_s'] / figures['wall_s']:.2f}",
                )
                for threads, figures in medians.items()
            ],
        )
    write_json(options.json, "two_cores", everything)


if __name__ == "__main__":
    main()
