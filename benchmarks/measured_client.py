"""The process that is measured: one client, one path, its figures as JSON on standard output.

User and system time count from before the first request to after the last row, threads included;
importing and setting up do not. Peak memory is the process's own high-water mark.
"""

import argparse
import asyncio
import importlib
import json
import math
import resource
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
from bodies import learner_id
from peers import LIBRARIES, PEERS, WORKERS

EXPORTS = ("parquet", "csv")
OWN_PATHS = ("objects", "arrow", *EXPORTS)
PATHS = (*OWN_PATHS, *PEERS)
_TICK_S = 0.001
_OBJECTS = ("bulkfetch.client", "anyio._backends._asyncio")
_ARROW = (*_OBJECTS, "pyarrow", "bulkfetch.wire.arrow")
_EXPORT = (*_ARROW, "bulkfetch.cli.asked", "bulkfetch.export.job", "bulkfetch.export.sinks.files")
_LIBRARIES = {"objects": _OBJECTS, "arrow": _ARROW} | dict.fromkeys(EXPORTS, _EXPORT)

Run = Callable[[], Awaitable[tuple[int, int]]]  # to the numbers of records and of calls


def cpu_s() -> float:
    """Return this process's user and system seconds."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def peak_rss_mb() -> float:
    """Return the high-water mark of resident memory.

    From the kernel's account of this address space where there is one: `ru_maxrss` begins with
    the size of the process that started this one.
    """
    status = Path("/proc/self/status")
    if status.exists():
        for line in status.read_text(encoding="ascii").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) / 1024
    unit = 1024 * 1024 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit


class Ticker:
    """Sleeps a millisecond at a time and keeps how late the event loop woke it."""

    def __init__(self) -> None:
        self.delays_s: list[float] = []

    async def run(self) -> None:
        """Tick until cancelled."""
        while True:
            due = time.perf_counter() + _TICK_S
            await asyncio.sleep(_TICK_S)
            self.delays_s.append(time.perf_counter() - due)

    def figures(self) -> dict[str, float]:
        """Return the largest delay and the 99th percentile, in milliseconds."""
        delays = sorted(self.delays_s)
        p99 = delays[math.ceil(len(delays) * 0.99) - 1]
        return {"delay_max_ms": delays[-1] * 1e3, "delay_p99_ms": p99 * 1e3}


def _runtime(threads: int | None) -> Any:
    """Return bulkfetch's runtime with so many off-load threads; None leaves its own."""
    import bulkfetch  # noqa: PLC0415 - a peer's process must not import it

    if threads is None:
        return bulkfetch.Runtime()
    limiter = anyio.CapacityLimiter(threads)

    async def offload(function: Any, /, *args: object) -> Any:
        return await anyio.to_thread.run_sync(function, *args, limiter=limiter)

    return bulkfetch.Runtime(offload=offload)


async def fetch(options: argparse.Namespace, learners: list[str]) -> tuple[int, int]:
    """Fetch along one of bulkfetch's paths; return the numbers of records and of calls."""
    import bulkfetch  # noqa: PLC0415

    settings = bulkfetch.Options(batch_size=options.batch, workers=options.workers)
    async with bulkfetch.Client(
        options.url, token="benchmark-token", options=settings, runtime=_runtime(options.threads)
    ) as client:
        fetched = client.enrollments(learner_ids=learners)
        if options.path == "objects":
            count = 0
            async for _ in fetched:
                count += 1
        else:
            count = sum([batch.num_rows async for batch in fetched.batches()])
        return count, fetched.report.calls


async def export(options: argparse.Namespace, learners: Path) -> tuple[int, int]:
    """Export the learners of a file to a file, journal and publication included."""
    import bulkfetch  # noqa: PLC0415
    from bulkfetch.cli.asked import AskedArguments, read_asked  # noqa: PLC0415
    from bulkfetch.export.formats import OutputFormat  # noqa: PLC0415
    from bulkfetch.export.job import ExportJob, ExportSettings  # noqa: PLC0415
    from bulkfetch.export.sinks.files import FileSink  # noqa: PLC0415
    from bulkfetch.service import Credentials  # noqa: PLC0415

    job = ExportJob(
        ExportSettings(
            base_url=options.url,
            credentials=Credentials(token="benchmark-token"),
            region=read_asked(AskedArguments(learners=str(learners))).region,
            sink=FileSink(learners.with_name("enrollments"), OutputFormat(options.path)),
            journal=learners.with_name("journal"),
            options=bulkfetch.Options(batch_size=options.batch, workers=options.workers),
        )
    )
    await job.run()
    return job.progress().rows, job.progress().calls


def prepare(options: argparse.Namespace, directory: Path) -> Run:
    """Make the ids, in the form in which users of the path have them, and return what is run."""
    ids = map(learner_id, range(options.learners))
    if options.path in EXPORTS:
        file = directory / "learners.txt"
        with file.open("w", encoding="ascii") as lines:
            lines.writelines(f"{unit}\n" for unit in ids)
        return partial(export, options, file)
    learners = list(ids)
    if options.path not in PEERS:
        return partial(fetch, options, learners)
    batches = [
        learners[start : start + options.batch] for start in range(0, len(learners), options.batch)
    ]

    async def ask() -> tuple[int, int]:
        return await PEERS[options.path](options.url, batches), len(batches)

    return ask


async def measure(options: argparse.Namespace, run: Run) -> dict[str, float]:
    """Run the path and return its figures."""
    ticker = Ticker()
    ticking = asyncio.create_task(ticker.run()) if options.ticker else None
    modules_before = len(sys.modules)
    started, cpu_before = time.perf_counter(), cpu_s()
    count, calls = await run()
    figures = {
        "records": count,
        "calls": calls,
        "wall_s": time.perf_counter() - started,
        "cpu_s": cpu_s() - cpu_before,
        "modules_imported": len(sys.modules) - modules_before,
    }
    if ticking is not None:
        ticking.cancel()
        figures |= ticker.figures()
    return figures


def _import_path(path: str) -> None:
    """Import beforehand what the path needs: importing is not what is measured."""
    for library in (_LIBRARIES | LIBRARIES)[path]:
        importlib.import_module(library)
    if "pyarrow" in sys.modules:
        sys.modules["pyarrow"].array([""])  # the first one imports pandas, where that is installed


def main() -> None:
    """Parse the arguments, run, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--path", choices=PATHS, required=True)
    parser.add_argument("--url", required=True)
    parser.add_argument("--learners", type=int, required=True)
    parser.add_argument("--batch", type=int, required=True)
    parser.add_argument("--workers", type=int, default=WORKERS)
    parser.add_argument("--threads", type=int)
    parser.add_argument("--ticker", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        run = prepare(options, Path(directory))
        _import_path(options.path)
        rss_before = peak_rss_mb()
        figures = asyncio.run(measure(options, run))
    print(json.dumps({**figures, "rss_before_mb": rss_before, "peak_rss_mb": peak_rss_mb()}))


if __name__ == "__main__":
    main()
