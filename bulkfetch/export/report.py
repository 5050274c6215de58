"""The report of an export: what came, what did not and why, and what it took.

Made from what the journal holds and from the counters of the run, by functions without state; a
run that fails or is stopped has one, too. These are its keys (the README explains them):

* `complete`, `output`, `journal`; `rows`, `duplicates`, `conflict_count`, `conflicts` (both rows of
  each, the first thousand), null or empty where the run did not get so far as to merge rows;
  `changes` of a table; `rows_surplus`; `anomaly_count`, `anomalies` (the first thousand).
* `ids`: for learners and courses how many were `asked`, and how many ended `returned`,
  `in_part`, `confirmed_empty`, `quarantined` and `failed` (see `completeness`); null where no ids
  were asked for, or not listed yet. `quarantined` and `failed` name them, with `cause`, `attempts`
  and `tried_at`. `ids_asked` and `confirmed_empty` repeat two of the counts.
* `pairs` of a learner and a course (or ids, where one side alone was asked for): how many were
  `asked`, how many are `missing`, and how many of those were rejected as pairs, though each of
  their ids was not: `quarantined`; null where the account's ids are not listed yet.
* `silent_caps` of the service that were proven: see `bulkfetch.SilentCaps`.
* `listed`: pages and ids of each listing of the account.
* `statistics`: of `this_run` and of `all_runs`: calls, retries, splits, confirmations, cap checks,
  batches, rows, bytes, `latency_s` of the calls that answered a batch (`p50`, `p90`, `p99`; null
  without any), start and end. A killed run counts up to its last commit.
* of this run alone: `rows_fetched`, `rows_resumed` (in the journal before), `rows_per_s`,
  `most_in_flight`, `hedges`, and again `calls`, `retries`, `splits`, `confirmations`, `cap_checks`,
  `wire_bytes`, `body_bytes`, `started_at`, `ended_at`, `duration_s`.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, date, datetime
from pathlib import Path

from bulkfetch.engine.listing import ListedPage
from bulkfetch.engine.outcome import ANOMALIES_KEPT, Counters, SilentCaps, Unfetched
from bulkfetch.errors import Anomaly, Conflict, FailedIds
from bulkfetch.export.completeness import IdCounts, PairCounts, count_ids, count_pairs, find_missing
from bulkfetch.export.journal import Effort, Journal, JournalTotals, RunRecord
from bulkfetch.export.publish import Published
from bulkfetch.plan.rectangle import Axis, Side
from bulkfetch.plan.region import rest_of

Json = dict[str, object]


@dataclass(frozen=True, slots=True)
class Findings:
    """What the journal holds at the end of a run.

    Attributes:
        is_settled: whether what is asked for is known: the account's ids are listed.
        unfetched: what is missing, named.
        unconfirmed: ids that failed without being named by it.
        counts: of the states of the ids.
        pairs: likewise of pairs; None while it is not known what is asked for.
        silent_caps: what was proven of them.
        listed: of each listing of the account's ids, what is reported.
    """

    is_settled: bool
    unfetched: Unfetched
    unconfirmed: tuple[FailedIds, ...]
    counts: Mapping[Axis, IdCounts | None]
    pairs: PairCounts | None
    silent_caps: SilentCaps
    totals: JournalTotals
    anomalies: Sequence[Anomaly]
    this_run: RunRecord
    all_runs: RunRecord
    listed: Json

    @property
    def is_complete(self) -> bool:
        """Whether all of what is asked for was fetched."""
        return self.is_settled and not self.unfetched


def effort_of(counters: Counters) -> Effort:
    """Return what the journal keeps of a run's counters."""
    return Effort(
        calls=counters.calls,
        retries=counters.retries,
        splits=counters.splits,
        confirmations=counters.confirmations,
        cap_checks=counters.cap_checks,
        wire_bytes=counters.wire_bytes,
        body_bytes=counters.body_bytes,
    )


def read_findings(journal: Journal, counters: Counters) -> Findings:
    """Read what the journal holds, and join it with what this run could not fetch.

    Raises:
        JournalError: the journal is damaged.
    """
    identity = journal.identity
    region = identity.region
    unfetched = Unfetched()
    unconfirmed: tuple[FailedIds, ...] = ()
    counts: dict[Axis, IdCounts | None] = dict.fromkeys(Axis)
    pairs: PairCounts | None = None
    if identity.is_settled:
        missing = rest_of(region, journal.each_finished())
        if missing:
            quarantined, failed = journal.unfetched()
            before = Unfetched(tuple(quarantined), tuple(failed))
            unfetched = find_missing(missing, before, counters.unfetched())
        counts, unconfirmed = count_ids(region, missing, unfetched, journal.returned_ids())
        pairs = count_pairs(region, missing, unfetched)
    this_run, all_runs = journal.records(effort_of(counters))
    return Findings(
        is_settled=identity.is_settled,
        unfetched=unfetched,
        unconfirmed=unconfirmed,
        counts=counts,
        pairs=pairs,
        silent_caps=journal.silent_caps(),
        totals=journal.totals(),
        anomalies=journal.anomalies(ANOMALIES_KEPT),
        this_run=this_run,
        all_runs=all_runs,
        listed={
            axis.value: _listed(journal.pages(axis), region.side(axis))
            for axis in Axis
            if axis in identity.discovered
        },
    )


def make_report(
    findings: Findings | None,
    counters: Counters,
    published: Published | None,
    *,
    is_complete: bool,
    output: str | None,
    journal: Path,
    started_at: float,
    ended_at: float,
) -> Json:
    """Make the report, ready for JSON.

    Args:
        findings: what the journal holds; None if it could not be read.
        counters: of this run.
        published: what was published, if anything was.
        is_complete: whether everything was fetched and published.
        output: where it was published to.
        journal: the journal's file.
        started_at: of this run, in seconds since 1970.
        ended_at: likewise.
    """
    duration_s = max(0.0, ended_at - started_at)
    counts: Mapping[Axis, IdCounts | None] = dict.fromkeys(Axis)
    failed: Sequence[FailedIds] = counters.failed
    quarantined: Sequence[FailedIds] = tuple(counters.quarantined.values())
    anomalies: Sequence[Anomaly] = counters.anomalies
    anomaly_count, resumed_rows, surplus_rows = counters.anomaly_count, 0, 0
    if findings is not None:
        counts = findings.counts
        quarantined = findings.unfetched.quarantined
        failed = (*findings.unfetched.failed, *findings.unconfirmed)
        anomalies, anomaly_count = findings.anomalies, findings.totals.anomalies
        resumed_rows = findings.all_runs.rows - findings.this_run.rows
        surplus_rows = findings.totals.surplus
    effort = asdict(effort_of(counters))
    return {
        "complete": is_complete,
        "rows": resumed_rows + counters.rows if published is None else published.rows,
        "rows_fetched": counters.rows,
        "rows_resumed": resumed_rows,
        "rows_surplus": surplus_rows,
        "duplicates": None if published is None else published.duplicates,
        "conflict_count": None if published is None else published.conflict_count,
        "conflicts": [] if published is None else [_conflict(c) for c in published.conflicts],
        "changes": None if published is None else published.changes,
        "anomaly_count": anomaly_count,
        "anomalies": [asdict(anomaly) for anomaly in anomalies],
        "ids": {
            axis.value: None if count is None else asdict(count) for axis, count in counts.items()
        },
        "ids_asked": {
            axis.value: None if count is None else count.asked for axis, count in counts.items()
        },
        "confirmed_empty": {
            axis.value: 0 if count is None else count.confirmed_empty
            for axis, count in counts.items()
        },
        "pairs": None if findings is None or findings.pairs is None else asdict(findings.pairs),
        "silent_caps": None if findings is None else asdict(findings.silent_caps),
        "quarantined": [_entry(entry) for entry in quarantined],
        "failed": [_entry(entry) for entry in failed],
        "listed": {} if findings is None else findings.listed,
        **effort,
        "hedges": counters.hedges,
        "most_in_flight": counters.most_in_flight,
        "started_at": iso(started_at),
        "ended_at": iso(ended_at),
        "duration_s": round(duration_s, 3),
        "rows_per_s": round(counters.rows / duration_s) if duration_s else 0,
        "statistics": None
        if findings is None
        else {
            "this_run": _statistics(findings.this_run, ended_at),
            "all_runs": {
                "runs": findings.all_runs.runs,
                **_statistics(findings.all_runs, ended_at),
            },
        },
        "output": output,
        "journal": str(journal),
    }


def iso(seconds: float | None) -> str | None:
    """Write a time, in seconds since 1970, as ISO 8601 in UTC; None stays None."""
    if seconds is None:
        return None
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds")


def percentile(ascending: Sequence[float], percent: float) -> float:
    """Return the value that so many percent are not above: the nearest rank, one that occurred."""
    return ascending[max(0, math.ceil(len(ascending) * percent / 100) - 1)]


def _statistics(record: RunRecord, ended_at: float) -> Json:
    latencies = record.latencies_s
    return {
        "started_at": iso(record.started_at),
        "ended_at": iso(ended_at),
        **asdict(record.effort),
        "batches": record.batches,
        "rows": record.rows,
        "latency_s": {
            f"p{percent}": round(percentile(latencies, percent), 4) for percent in (50, 90, 99)
        }
        if latencies
        else None,
    }


def _listed(pages: Iterable[ListedPage], ids: Side) -> Json:
    """Say how far a listing came; `ids` are those that it found if it is complete."""
    count = items = 0
    found: set[str] = set()
    first_at = last_at = None
    is_complete = False
    for page in pages:
        count, items = count + 1, items + page.items
        first_at = page.received_at if first_at is None else first_at
        last_at = page.received_at
        is_complete = not page.next_token
        if ids is None:
            found.update(page.ids)
    return {
        "pages": count,
        "items": items,
        "ids": len(found if ids is None else ids),
        "is_complete": is_complete,
        "first_page_at": iso(first_at),
        "last_page_at": iso(last_at),
    }


def _entry(entry: FailedIds) -> Json:
    return {
        "learner_ids": entry.learner_ids,
        "course_ids": entry.course_ids,
        "cause": entry.cause,
        "attempts": entry.attempts,
        "tried_at": iso(entry.tried_at),
    }


def _conflict(conflict: Conflict) -> Json:
    return {
        "enrollment_id": conflict.enrollment_id,
        "kept": _plain(conflict.kept),
        "dropped": _plain(conflict.dropped),
    }


def _plain(row: Mapping[str, object]) -> Json:
    """Make a row's dates and times text."""
    return {name: _plain_value(value) for name, value in row.items()}


def _plain_value(value: object) -> object:
    if isinstance(value, datetime) and value.tzinfo is None:
        value = value.replace(tzinfo=UTC)  # as it is sorted
    return value.isoformat() if isinstance(value, date) else value
