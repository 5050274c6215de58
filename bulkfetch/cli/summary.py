"""Say at the end what an export did, and write its report."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from bulkfetch.cli.console import Console
from bulkfetch.engine.outcome import SilentCaps
from bulkfetch.export.atomic import replacing
from bulkfetch.export.completeness import UNCONFIRMED
from bulkfetch.export.job import ExportJob
from bulkfetch.export.sinks.sink import Sink
from bulkfetch.words import counted, counted_side


def say_summary(job: ExportJob, console: Console) -> None:
    """Say the totals of a job."""
    report: Mapping[str, Any] = job.report()
    resumed = f" ({report['rows_resumed']:,} from the journal)" if report["rows_resumed"] else ""
    speed = f"{report['duration_s']:,.1f} s, {report['rows_per_s']:,} rows/s"
    effort = f"{counted(report['calls'], 'call')}, {counted(report['retries'], 'retry', 'retries')}"
    merged = "duplicates not counted"
    if report["duplicates"] is not None:
        merged = (
            f"{counted(report['duplicates'], 'duplicate')}, "
            f"{counted(report['conflict_count'], 'conflict')}"
        )
    received = f"{report['wire_bytes'] / 1e6:,.1f} MB received"
    latency = (report["statistics"] or {}).get("this_run", {}).get("latency_s")
    if latency is not None:
        received += f", latency {latency['p50']:.2f} s (99 %: {latency['p99']:.2f} s)"
    lines = [
        f"{counted(report['rows'], 'row')}{resumed} in {speed}",
        f"{effort}, {counted(report['splits'], 'split')}, {received}",
        f"{merged}, {counted(report['anomaly_count'], 'unreadable value')}",
        *_say_ids(report["ids"], report["failed"]),
        *_say_besides(report),
    ]
    if report["output"] is not None:
        changes = say_changes(report["changes"])
        lines.append(f"written to {report['output']}{f': {changes}' if changes else ''}")
    lines.append(f"journal {report['journal']}")
    console.say("summary", "\n".join(lines), report=report)


def _say_ids(
    ids: Mapping[str, Mapping[str, int] | None], failed: Sequence[Mapping[str, Any]]
) -> list[str]:
    """Say for each list what became of its ids.

    Where all that could be was fetched, an id failed only because nothing came of it.
    """
    is_rest_fetched = all(entry["cause"] == UNCONFIRMED for entry in failed)
    did_fail = "not confirmed empty" if failed and is_rest_fetched else "failed"
    lines = [
        f"{counted_side(count['asked'], side)}: {count['returned']:,} returned, "
        f"{f'{part:,} in part, ' if (part := count['in_part']) else ''}"
        f"{count['confirmed_empty']:,} confirmed empty, "
        f"{count['quarantined']:,} quarantined, {count['failed']:,} {did_fail}"
        for side, count in ids.items()
        if count is not None
    ]
    return lines or ["asked for the whole account"]


def _say_besides(report: Mapping[str, Any]) -> list[str]:
    """Say which pairs were rejected, and which silent caps were proven."""
    pairs = (report["pairs"] or {}).get("quarantined")
    lines = []
    if pairs:
        lines.append(
            counted(
                pairs,
                "quarantined as a pair, not for one of its ids",
                "quarantined as pairs, not for one of their ids",
            )
        )
    caps = SilentCaps(**(report["silent_caps"] or {}))
    return [*lines, f"{caps}: more was asked for in parts"] if caps else lines


def say_unwritten(sink: Sink, partial: Sink | None) -> str:
    """Return the sentence that says that nothing was written, and where --partial writes to."""
    where = f"Nothing was written to {sink.name or 'standard output'}"
    if partial is None:
        return f"{where}."
    beside = f" to {partial.name}" if partial.name != sink.name else ""
    return f"{where}; --partial writes what was fetched{beside}."


def write_report(job: ExportJob, path: Path) -> None:
    """Write a job's report as JSON, readable by its owner alone.

    Raises:
        SinkError: it cannot be written.
    """
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(job.report(), indent=2, ensure_ascii=False) + "\n")


def say_changes(changes: Mapping[str, int] | None) -> str:
    """Return what changed in a table, in words; nothing for a file."""
    return ", ".join(f"{count:,} {what}" for what, count in (changes or {}).items())
