"""Peak memory and time of publishing journals of one and of ten million enrollments.

Journals are filled through `Journal.commit` with made-up enrollments of a million learners in 300
courses whose ids are in no order; each publication is `republish` in a process of its own, opening
and checking the journal included. The peak is the kernel's high-water mark of that process.

`--learners` is for the largest journal, and as many times fewer for the others as they have fewer
rows: an account that has ten times the enrollments has more people.

Fails where the peak passes 600 MB, or where that of the largest journal passes that of the
smallest by more than a tenth. Ten million enrollments need about 6 GB of disk and some minutes.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from random import Random

from harness import Figures, make_parser, medians_of, positive, write_json

BATCHES = 200
COURSES = tuple(f"{number:08x}-5a1b-11ec-9d3e-0242ac120002" for number in range(300))
LIMIT_MB = 600
GROWTH = 1.10


def fill(path: Path, rows: int, learner_count: int) -> None:
    """Make the finished journal of an export of so many enrollments."""
    rows_a_batch, learners_a_batch = rows // BATCHES, learner_count // BATCHES
    import pyarrow as pa  # noqa: PLC0415 - the child processes alone import it

    from bulkfetch.export.journal import (  # noqa: PLC0415
        FinishedBatch,
        Journal,
        JournalIdentity,
    )
    from bulkfetch.inputs import make_region  # noqa: PLC0415
    from bulkfetch.plan.rectangle import Rectangle  # noqa: PLC0415
    from bulkfetch.record import arrow_schema  # noqa: PLC0415

    chance = Random(rows)
    learners = sorted(str_of(chance) for _ in range(learner_count))
    region = make_region(learners, COURSES)
    identity = JournalIdentity("getEnrollments", "https://example.org", region)
    journal = Journal.open(path, identity, now=0.0)
    schema = arrow_schema()
    ones = range(rows_a_batch)
    for start in range(0, len(learners), learners_a_batch):
        some = tuple(learners[start : start + learners_a_batch])
        days = pa.array([19_000 + number % 700 for number in ones], pa.int32())
        seconds = pa.array([1_650_000_000 + number * 61 for number in ones], pa.int64())
        certified = pa.array([number % 3 == 0 for number in ones])
        values = {
            "enrollment_id": pa.array([str_of(chance) for _ in ones]),
            "course_id": pa.array([COURSES[number % 300] for number in ones]),
            "learner_id": pa.array([some[number % learners_a_batch] for number in ones]),
            "access_date": days.cast(pa.date32()),
            "due_date": days.cast(pa.date32()),
            "should_lock_after_due_date": certified,
            "enrollment_type_group": pa.array([number % 2 for number in ones], pa.int8()),
            "issued_certificate_id": pa.array(
                [str_of(chance) if number % 3 == 0 else None for number in ones]
            ),
            "cert_issue_date": seconds.cast(schema.field("cert_issue_date").type),
        }
        columns = [values.get(field.name, pa.nulls(rows_a_batch, field.type)) for field in schema]
        batch = pa.RecordBatch.from_arrays(columns, schema=schema)
        rectangle = Rectangle(some, COURSES)
        journal.commit(
            FinishedBatch(rectangle, [batch], rows_a_batch, 0, 1, 0.0, 1.0, 10**6, 10**7, ())
        )
    journal.close()


def str_of(chance: Random) -> str:
    """Draw an id that looks like the service's."""
    text = f"{chance.getrandbits(128):032x}"
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


def publish(journal: Path, output: Path) -> None:
    """Publish, and print rows, seconds to open, seconds in all, and the peak in MB."""
    from bulkfetch.export.formats import format_of  # noqa: PLC0415
    from bulkfetch.export.journal import Journal  # noqa: PLC0415
    from bulkfetch.export.republish import republish  # noqa: PLC0415
    from bulkfetch.export.sinks.files import FileSink  # noqa: PLC0415

    started = time.perf_counter()
    Journal.open_existing(journal).close()
    opened = time.perf_counter()
    published = republish(journal, FileSink(output, format_of(output.name))).published
    status = Path("/proc/self/status").read_text(encoding="ascii")
    peak_kb = int(status.partition("VmHWM:")[2].split()[0])
    figures = {
        "rows": published.rows,
        "open_s": round(opened - started, 2),
        "publish_s": round(time.perf_counter() - opened, 2),
        "peak_mb": round(peak_kb / 1024, 1),
        "journal_mb": round(journal.stat().st_size / 1e6),
        "output_mb": round(published.bytes_written / 1e6),
    }
    print(json.dumps(figures))


def in_child(*arguments: str) -> str:
    """Run this script's other faces in a process of their own."""
    command = [sys.executable, __file__, *arguments]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout


def main() -> None:
    """Measure, print a table, and fail where the memory is not flat."""
    parser = make_parser(__doc__, rounds=1)
    parser.add_argument("--sizes", type=positive, nargs="+", default=[1_000_000, 10_000_000])
    parser.add_argument("--learners", type=positive, default=1_000_000)
    parser.add_argument(
        "--formats", nargs="+", choices=["csv", "parquet"], default=["csv", "parquet"]
    )
    parser.add_argument("--directory", type=Path, help="where there is room for it")
    parser.add_argument("--fill", metavar="JOURNAL", help=argparse.SUPPRESS)
    parser.add_argument(
        "--publish", nargs=2, metavar=("JOURNAL", "OUTPUT"), type=Path, help=argparse.SUPPRESS
    )
    arguments = parser.parse_args()
    if arguments.fill:
        fill(Path(arguments.fill), arguments.sizes[0], arguments.learners)
        return
    if arguments.publish:
        publish(*arguments.publish)
        return
    learners_of = {
        size: arguments.learners * size // max(arguments.sizes) for size in sorted(arguments.sizes)
    }
    if any(number % BATCHES or not number for pair in learners_of.items() for number in pair):
        parser.error(f"sizes, and the learners of each, are multiples of {BATCHES}")
    found: dict[str, Figures] = {}
    peaks: dict[str, list[float]] = {name: [] for name in arguments.formats}
    print("| rows | format | peak MB | publish s | open s | journal MB | output MB |")
    print("|---:|---|---:|---:|---:|---:|---:|")
    with tempfile.TemporaryDirectory(dir=arguments.directory) as directory:
        journal = Path(directory) / "journal"
        for size, learners in learners_of.items():
            sizes = ("--sizes", str(size), "--learners", str(learners))
            in_child("--fill", str(journal), *sizes)
            for name in arguments.formats:
                output = Path(directory) / f"enrollments.{name}"
                figures = found[f"{name} {size}"] = medians_of(
                    json.loads(in_child("--publish", str(journal), str(output)))
                    for _ in range(arguments.rounds)
                )
                assert figures["rows"] == size
                output.unlink()
                peaks[name].append(figures["peak_mb"])
                print(
                    f"| {size:,} | {name} | {figures['peak_mb']} | {figures['publish_s']} "
                    f"| {figures['open_s']} | {figures['journal_mb']} | {figures['output_mb']} |",
                    flush=True,
                )
            journal.unlink()
    write_json(arguments.json, "publish_memory", found)
    for name, values in peaks.items():
        if max(values) > LIMIT_MB or values[-1] > values[0] * GROWTH:
            sys.exit(f"The peak of {name} is not flat: {values} MB")


if __name__ == "__main__":
    main()
