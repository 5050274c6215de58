"""Records a second and CPU microseconds a record, from the socket to objects, Arrow and Parquet.

The server is another process with ready-made answers; the client is a process of its own for each
path, and only its user and system time count, from before the first request to after the last row.
Paths are run in turn, several times, and the median is shown. Quote ratios: machines differ.
"""

import argparse
import asyncio
import contextlib
import importlib
import json
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
PATHS = ("objects", "arrow", "parquet")


def cpu_s() -> float:
    """Return this process's user and system seconds."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


async def fetch(path: str, url: str, learners: list[str], batch: int) -> int:
    """Fetch everything along one path and return the number of records."""
    import bulkfetch  # noqa: PLC0415 - the client process alone imports it

    options = bulkfetch.Options(batch_size=batch)
    if path == "parquet":
        return await export(url, learners, options)
    async with bulkfetch.Client(url, token="benchmark-token", options=options) as client:
        fetched = client.enrollments(learner_ids=learners)
        if path == "objects":
            return len([None async for _ in fetched])
        return sum([batch.num_rows async for batch in fetched.batches()])


async def export(url: str, learners: list[str], options: Any) -> int:
    """Export to a Parquet file, journal and publication included."""
    from bulkfetch.export.formats import OutputFormat  # noqa: PLC0415
    from bulkfetch.export.job import ExportJob, ExportSettings  # noqa: PLC0415
    from bulkfetch.export.sinks.files import FileSink  # noqa: PLC0415
    from bulkfetch.inputs import make_region  # noqa: PLC0415
    from bulkfetch.service import Credentials  # noqa: PLC0415

    with tempfile.TemporaryDirectory() as directory:
        target = Path(directory) / "enrollments.parquet"
        job = ExportJob(
            ExportSettings(
                base_url=url,
                credentials=Credentials(token="benchmark-token"),
                region=make_region(learners, None),
                sink=FileSink(target, OutputFormat.PARQUET),
                journal=target.with_name("journal"),
                options=options,
            )
        )
        await job.run()
        return job.progress().rows


def run_client(options: argparse.Namespace) -> None:
    """Be the client process: fetch, and print the figures as JSON."""
    sys.path.insert(0, str(HERE))
    learner_id = importlib.import_module("canned_server").learner_id
    learners = [learner_id(number) for number in range(options.records // options.per_learner)]
    if options.client != "objects":
        import pyarrow.csv  # noqa: F401, PLC0415 - importing is not what is measured
    started, cpu_before = time.perf_counter(), cpu_s()
    count = asyncio.run(fetch(options.client, options.url, learners, options.batch))
    wall_s, used_s = time.perf_counter() - started, cpu_s() - cpu_before
    assert count == options.records, f"{count} of {options.records} records"
    figures = {
        "records_per_s": count / wall_s,
        "cpu_us_per_record": used_s / count * 1e6,
        "peak_rss_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }
    print(json.dumps(figures))


@contextlib.contextmanager
def server(options: argparse.Namespace) -> Iterator[str]:
    """Run the server process and give its URL."""
    command = [sys.executable, str(HERE / "canned_server.py")]
    command += [f"--records={options.records}", f"--batch={options.batch}"]
    command += [f"--per-learner={options.per_learner}", *(["--plain"] if options.plain else [])]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            yield f"http://127.0.0.1:{int(process.stdout.readline())}"
        finally:
            process.stdin.close()


def main() -> None:
    """Run the paths in turn and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--records", type=int, default=300_000)
    parser.add_argument("--batch", type=int, default=100, help="learners a call")
    parser.add_argument("--per-learner", type=int, default=10, help="records a learner")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--plain", action="store_true", help="without gzip")
    parser.add_argument("--json", type=Path, help="write the figures here, too")
    parser.add_argument("--client", choices=PATHS, help=argparse.SUPPRESS)
    parser.add_argument("--url", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.client:
        run_client(options)
        return
    rounds: dict[str, list[dict[str, float]]] = {path: [] for path in PATHS}
    with server(options) as url:
        for _ in range(options.rounds):
            for path in PATHS:
                arguments = [*sys.argv[1:], f"--client={path}", f"--url={url}"]
                result = subprocess.run(
                    [sys.executable, __file__, *arguments],
                    check=True,
                    stdout=subprocess.PIPE,
                    text=True,
                )
                rounds[path].append(json.loads(result.stdout))
    medians = {
        path: {name: statistics.median(run[name] for run in runs) for name in runs[0]}
        for path, runs in rounds.items()
    }
    print(
        f"{options.records:,} records, {options.batch * options.per_learner:,} a call, "
        f"{'plain' if options.plain else 'gzip'}; {platform.python_implementation()} "
        f"{platform.python_version()} on {platform.machine()}; median of {options.rounds}\n"
    )
    print("| path | records/s | CPU µs/record | against objects | peak RSS MB |")
    print("|---|---:|---:|---:|---:|")
    for path, figures in medians.items():
        ratio = figures["cpu_us_per_record"] / medians["objects"]["cpu_us_per_record"]
        print(
            f"| {path} | {figures['records_per_s']:,.0f} | {figures['cpu_us_per_record']:.1f} "
            f"| {ratio:.2f} | {figures['peak_rss_mb']:.0f} |"
        )
    if options.json:
        options.json.write_text(json.dumps({"options": sys.argv[1:], "medians": medians}, indent=1))


if __name__ == "__main__":
    main()
