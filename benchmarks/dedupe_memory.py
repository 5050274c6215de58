"""What it costs to know each enrollment again: bytes an id and CPU an id in the library path.

Answers, compressed as the service sends them, go through the two decoders and are admitted as a
fetch admits them, without a service, and nothing else is kept. Bytes are resident memory, before
against after. `--plain` is for a service that does not compress.
"""

import argparse
import gc
import gzip
import json
import subprocess
import sys
import time
from functools import partial
from pathlib import Path
from typing import Any

from bodies import DIALECTS, make_bodies
from harness import at_least, machine, make_parser, medians_of, print_table, write_json

_STEP = 100_000


def rss_bytes() -> int:
    """Return the resident memory of this process (Linux)."""
    for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024
    raise RuntimeError("no VmRSS")


def admit(path: str, ids: int, *, plain: bool) -> dict[str, float]:
    """Admit so many ids and return what they cost."""
    from bulkfetch.dedupe import Deduplicator  # noqa: PLC0415 - the measured process alone
    from bulkfetch.wire.decode import Decoded, decode_document  # noqa: PLC0415
    from bulkfetch.wire.dialect import Source  # noqa: PLC0415
    from bulkfetch.wire.flatten import Flattener  # noqa: PLC0415
    from bulkfetch.wire.keep import KeepingArrow, KeepingObjects  # noqa: PLC0415

    decoder: Any = KeepingObjects() if path == "objects" else KeepingArrow()
    flattener, dedupe = Flattener(), Deduplicator()
    used_s, admitted, before = 0.0, 0, 0
    for step in range(-1, ids // _STEP):
        for _, body in make_bodies(
            dialect=DIALECTS["plain"],
            learners=_STEP // 10,
            records_of=lambda _: 10,
            batch=100,
            seed=step,
        ):
            source = None
            if not plain:
                wire = gzip.compress(body, 6)
                source = Source(partial(gzip.decompress, wire), len(wire))
            decoded = decode_document(body, flattener, decoder, source)
            assert isinstance(decoded, Decoded)
            keys = decoder.enrollment_ids(decoded.rows)
            started = time.thread_time()
            dropped = dedupe.admit(keys, decoded.rows.recall)
            used_s += time.thread_time() - started
            assert not dropped
            admitted += decoded.count
        if step < 0:  # a warm process, and a new index
            dedupe, used_s, admitted = Deduplicator(), 0.0, 0
            gc.collect()
            before = rss_bytes()
    gc.collect()
    return {
        "bytes_per_id": (rss_bytes() - before) / admitted,
        "cpu_us_per_id": used_s / admitted * 1e6,
    }


def main() -> None:
    """Run each path and size in a process of its own."""
    parser = make_parser(__doc__, rounds=1)
    parser.add_argument("--ids", type=at_least(_STEP), nargs="+", default=[1_000_000, 5_000_000])
    parser.add_argument("--plain", action="store_true", help="without gzip")
    parser.add_argument("--path", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.path:
        print(json.dumps(admit(options.path, options.ids[0], plain=options.plain)))
        return
    print(machine(), end="\n\n")
    found = {}
    for ids in options.ids:
        for path in ("objects", "arrow"):
            command = [sys.executable, __file__, f"--path={path}", f"--ids={ids}"]
            command += ["--plain"] if options.plain else []
            found[f"{path} {ids}"] = medians_of(
                json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)
                for _ in range(options.rounds)
            )
    print_table(
        ["path, ids", "bytes/id", "CPU µs/id to note it"],
        [
            (name, f"{figures['bytes_per_id']:.0f}", f"{figures['cpu_us_per_id']:.2f}")
            for name, figures in found.items()
        ],
    )
    write_json(options.json, "dedupe_memory", found)


if __name__ == "__main__":
    main()
