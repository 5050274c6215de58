"""CPU per record, from the socket to typed objects and to Arrow, beside peers and the floor.

The floor downloads the same bodies with aiohttp and parses them with libxml2, nothing more.
"""

from bodies import DIALECTS
from harness import (
    Body,
    Figures,
    machine,
    make_parser,
    positive,
    print_table,
    run_interleaved,
    write_json,
)
from measured_client import OWN_PATHS, PATHS
from peers import PEERS

_READERS = [peer for peer in PEERS if peer != "bare aiohttp"]


def main() -> None:
    """Run the paths and peers in turn for each size and dialect."""
    parser = make_parser(__doc__)
    parser.add_argument(
        "--batches", type=positive, nargs="+", default=[100, 1_000, 10_000, 100_000],
        help="records an answer",
    )  # fmt: skip
    parser.add_argument("--dialects", nargs="+", choices=DIALECTS, default=[*DIALECTS])
    parser.add_argument("--records", type=positive, default=200_000)
    parser.add_argument("--per-learner", type=positive, default=10)
    parser.add_argument(
        "--paths", nargs="+", choices=PATHS, default=["objects", "arrow", *_READERS]
    )
    parser.add_argument("--plain", action="store_true", help="without gzip")
    options = parser.parse_args()
    if min(options.records, *options.batches) < options.per_learner:
        parser.error("--records and --batches are at least --per-learner")
    print(machine(), end="\n\n")
    everything: dict[str, dict[str, Figures]] = {}
    for dialect in options.dialects:
        for batch in options.batches if dialect == options.dialects[0] else [1_000]:
            body = Body(
                learners=options.records // options.per_learner,
                per_learner=options.per_learner,
                batch=batch // options.per_learner,
                dialect=dialect,
                plain=options.plain,
            )
            # The peers know one edition of the service.
            paths = [
                path
                for path in options.paths
                if dialect == "plain" or path in OWN_PATHS or path == "floor"
            ]
            medians = run_interleaved({path: (path, ()) for path in paths}, body, options.rounds)
            everything[f"{dialect} {batch}"] = medians
            _print(medians, body, options.rounds)
    write_json(options.json, "cpu_per_record", everything)


def _print(medians: dict[str, Figures], body: Body, rounds: int) -> None:
    print(
        f"{body.records:,} records, {body.batch * body.per_learner:,} an answer, "
        f"dialect {body.dialect}, {'plain' if body.plain else 'gzip'}, median of {rounds}\n"
    )
    floor = medians.get("floor", {}).get("cpu_us_per_record", 0.0)
    objects = medians.get("objects", {}).get("cpu_us_per_record", 0.0)
    print_table(
        ["path", "CPU µs/record", "× floor", "× objects", "records/s", "peak MB"],
        [
            (
                path,
                f"{figures['cpu_us_per_record']:.2f}",
                f"{figures['cpu_us_per_record'] / floor:.2f}" if floor else "",
                f"{figures['cpu_us_per_record'] / objects:.2f}" if objects else "",
                f"{figures['records_per_s']:,.0f}",
                f"{figures['peak_rss_mb']:.0f}",
            )
            for path, figures in medians.items()
        ],
    )


if __name__ == "__main__":
    main()
