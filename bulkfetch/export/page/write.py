"""From a journal to the page's file."""

from pathlib import Path

from bulkfetch.engine.outcome import Counters
from bulkfetch.export.atomic import check_target, replacing
from bulkfetch.export.journal import Journal
from bulkfetch.export.journal_file import Access
from bulkfetch.export.page.document import PageData, render
from bulkfetch.export.page.history import read_history
from bulkfetch.export.page.parts import Json
from bulkfetch.export.report import make_report, read_findings

# What only a publication knows: taken from the report of the run that made it.
_OF_PUBLICATION = ("output", "rows", "duplicates", "conflict_count", "conflicts", "changes")


def write_page(journal_path: Path, target: Path) -> None:
    """Write the page about an export, finished or not, whole or not at all.

    Raises:
        UsageError: there is no such journal, or the target cannot be a file.
        JournalError: a run holds the journal, or it is damaged or no journal.
        SinkError: the page cannot be written.
    """
    check_target(target)
    journal = Journal.open_existing(journal_path, Access.READ)
    try:
        page = render(_gather(journal))
    finally:
        journal.close()
    with replacing(target) as temporary:
        temporary.write_text(page, encoding="utf-8")


def _gather(journal: Journal) -> PageData:
    """Read what the page says. Ids are counted anew, because a killed run has no report."""
    findings = read_findings(journal, Counters())
    before: Json = journal.report() or {}
    began_at = findings.all_runs.started_at or 0.0
    report: Json = make_report(
        findings,
        Counters(),
        None,
        is_complete=findings.is_complete,
        output=None,
        journal=journal.path,
        started_at=began_at,
        ended_at=began_at,
    )
    statistics = dict(report["statistics"] or {})
    statistics["this_run"] = (before.get("statistics") or {}).get("this_run")
    whole, whole_before = statistics["all_runs"], (before.get("statistics") or {}).get("all_runs")
    whole["ended_at"] = (whole_before or {}).get("ended_at")
    # An incomplete export has merged its rows, too; a run killed since may have added some.
    is_merged = before.get("duplicates") is not None
    if before.get("output") or (is_merged and (whole_before or {}).get("rows") == whole["rows"]):
        published = {key: before.get(key) for key in _OF_PUBLICATION}
        if before.get("complete") and not before.get("output"):
            published["output"] = "standard output"
    else:
        published = {}
    learned, runs = journal.recall("pace"), journal.runs()
    return PageData(
        endpoint=journal.identity.endpoint,
        report={**report, "statistics": statistics, **published},
        history=read_history(journal.recall("timeline"), [run.started_at for run in runs]),
        runs=runs,
        learned=learned if isinstance(learned, dict) else {},
    )
