"""The page: what came, what is missing, how the run went, what was learned. HTML from plain values.

Everything is in the one file: style, pictures, tables. Its policy (Content-Security-Policy) allows
that style sheet and nothing else: no script, no request, no form. All texts are escaped here,
whoever wrote them.
"""

from base64 import b64encode
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from html import escape
from importlib.resources import files

from bulkfetch.engine.outcome import SilentCaps
from bulkfetch.export.journal_runs import RunTimes
from bulkfetch.export.page.chart import show_seconds
from bulkfetch.export.page.history import History
from bulkfetch.export.page.learned import say_learned
from bulkfetch.export.page.parts import (
    Json,
    and_more,
    legend,
    part_of,
    section,
    show_bytes,
    show_code,
    show_count,
    show_ids,
    table,
)
from bulkfetch.export.page.pictures import draw_history
from bulkfetch.export.page.runs import show_runs
from bulkfetch.words import counted

_STATES = ("returned", "in_part", "confirmed_empty", "quarantined", "failed")


_ENTRIES_SHOWN = 200

_FEW_SHOWN = 50


@dataclass(frozen=True, slots=True)
class PageData:
    """What the page is made of.

    Attributes:
        endpoint: the service.
        report: of the export, as `bulkfetch.export.report` makes it.
        history: how the runs went; None if there is no record.
        runs: when each was.
        learned: what was learned of the service, by name; values can be nested.
    """

    endpoint: str
    report: Json
    history: History | None
    runs: Sequence[RunTimes]
    learned: Json


def render(data: PageData) -> str:
    """Return the page as an HTML document."""
    style = files(__package__).joinpath("page.css").read_text("utf-8")
    digest = b64encode(sha256(style.encode()).digest()).decode()
    policy = f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"
    parts = (_header(data), _completeness(data.report), _missing(data.report))
    how = (draw_history(data.history), _learned(data), show_runs(data.runs), _work(data.report))
    body = "\n".join(part for part in (*parts, *how, _oddities(data.report)) if part)
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{escape(policy)}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="referrer" content="no-referrer">\n'
        f"<title>Export of {escape(data.endpoint)}</title>\n<style>{style}</style>\n"
        f"</head>\n<body>\n<main>\n{body}\n</main>\n</body>\n</html>\n"
    )


def _header(data: PageData) -> str:
    report = data.report
    whole = part_of(part_of(report, "statistics"), "all_runs")
    state = "complete" if report.get("complete") else "incomplete"
    runs = int(whole.get("runs") or 0)
    began, ended = whole.get("started_at") or "–", whole.get("ended_at") or "–"
    sums = {
        "Rows": show_count(report.get("rows")),
        "Calls": show_count(whole.get("calls")),
        "Retries": show_count(whole.get("retries")),
        "Received": show_bytes(whole.get("wire_bytes")),
        "Duplicates": show_count(report.get("duplicates")),
        "Conflicts": show_count(report.get("conflict_count")),
    }
    if data.history is not None:
        sums["Most in flight"] = show_count(max(m.in_flight for m in data.history.moments))
    tiles = "".join(f"<div><dt>{name}</dt><dd>{value}</dd></div>" for name, value in sums.items())
    output = report.get("output")
    return (
        f"<header>\n<h1>Export of {escape(data.endpoint)}</h1>\n"
        f'<p><span class="state {state}">{state.capitalize()}</span>'
        f'<span class="faint"> · {counted(runs, "run")},'
        f" from {escape(str(began))} to {escape(str(ended))}</span></p>\n"
        f'<p class="faint">{"Published to" if output else "Not published."}'
        f"{f' {show_code(output)}' if output else ''}</p>\n"
        f'<dl class="sums">{tiles}</dl>\n</header>'
    )


def _completeness(report: Json) -> str:
    """Say in numbers what became of every id."""
    counts = {side: count for side, count in part_of(report, "ids").items() if count}
    more = _besides(report)
    if not counts:
        whole = "<p>No ids were asked for: the whole account was.</p>"
        return section("Completeness", whole + more)
    rows = [
        [
            side.capitalize(),
            show_count(count["asked"]),
            *(show_count(count[state]) for state in _STATES),
        ]
        for side, count in counts.items()
    ]
    heads = ["", "Asked for", *map(_name_state, _STATES)]
    bars = "".join(
        f"<h3>{escape(side.capitalize())}</h3>{_bar(side, count)}"
        for side, count in counts.items()
        if count["asked"]
    )
    words = (
        "<p class='faint'>Returned: a row came. In part: a row came, and not all was fetched."
        " Confirmed empty: everything was fetched, and no row came. Quarantined: the service"
        " rejects the id. Failed: no row came, and some of it was not fetched.</p>"
    )
    key = legend([(state, _name_state(state), "") for state in _STATES])
    return section("Completeness", table(heads, rows) + bars + key + words + more)


def _name_state(state: str) -> str:
    return state.replace("_", " ").capitalize()


def _besides(report: Json) -> str:
    """Say how many pairs are missing, and what the service leaves out in silence."""
    pairs = part_of(report, "pairs")
    said = []
    if pairs.get("missing"):
        said.append(
            f"Missing: {show_count(pairs['missing'])} of {counted(pairs['asked'], 'pair')} of a"
            " learner and a course; a side without ids counts as one."
        )
    if pairs.get("quarantined"):
        said.append(
            counted(
                pairs["quarantined"],
                "of them is quarantined as a pair",
                "of them are quarantined as pairs",
            )
            + ": the service rejects the two ids together, not one of them."
        )
    caps = SilentCaps(**part_of(report, "silent_caps"))
    if caps:
        said.append(f"A silent cap was proven: {caps}. More than that was asked for in parts.")
    return "".join(f"<p>{sentence}</p>" for sentence in said)


def _bar(side: str, count: Json) -> str:
    """Draw the states as one bar."""
    x, boxes = 0.0, []
    for state in _STATES:
        width = 1000 * int(count[state]) / int(count["asked"])
        if width:
            boxes.append(f'<rect class="{state}" x="{x:g}" width="{max(width, 3):g}" height="9"/>')
        x += width
    said = ", ".join(f"{show_count(count[state])} {state.replace('_', ' ')}" for state in _STATES)
    return (
        f'<svg class="bar" viewBox="0 0 1000 9" preserveAspectRatio="none" role="img"'
        f' aria-label="{escape(f"{side}: {said}")}">{"".join(boxes)}</svg>'
    )


def _missing(report: Json) -> str:
    """Name what could not be fetched."""
    parts = []
    for kind in ("quarantined", "failed"):
        entries: Sequence[Json] = report.get(kind) or ()
        if not entries:
            continue
        rows = [
            [
                show_ids(entry.get("learner_ids")),
                show_ids(entry.get("course_ids")),
                escape(str(entry.get("cause") or "")),
                show_count(entry.get("attempts")),
            ]
            for entry in entries[:_ENTRIES_SHOWN]
        ]
        parts.append(f"<h3>{kind.capitalize()}</h3>")
        parts.append(table(["Learners", "Courses", "Cause", "Attempts"], rows, texts=3))
        parts.append(and_more(len(entries), _ENTRIES_SHOWN))
    return section("What is missing", "".join(parts)) if parts else ""


def _learned(data: PageData) -> str:
    """Show what was learned of the service, and how long its answers take."""
    rows = [[escape(name), escape(value)] for name, value in _flatten(data.learned)]
    latency = part_of(part_of(part_of(data.report, "statistics"), "all_runs"), "latency_s")
    rows += [
        [f"latency of the calls that answered, {name}", show_seconds(float(value))]
        for name, value in latency.items()
    ]
    if not rows:
        return ""
    said = say_learned(data.learned, latency)
    words = f"<p>{escape(said)}</p>" if said else ""
    numbers = f"<details><summary>All numbers</summary>{table(['', ''], rows)}</details>"
    return section("The service, as it was learned", words + numbers)


def _flatten(value: Json, before: str = "") -> Iterator[tuple[str, str]]:
    for key, found in value.items():
        name = f"{before}{str(key).replace('_', ' ')}"
        if isinstance(found, Mapping):
            yield from _flatten(found, f"{name}: ")
        elif isinstance(found, float):
            yield name, f"{found:,.4g}"
        elif isinstance(found, int) and not isinstance(found, bool):
            yield name, f"{found:,}"
        else:
            yield name, "–" if found is None else str(found)


def _work(report: Json) -> str:
    """Show what it took: of the last run, and of all."""
    statistics = part_of(report, "statistics")
    last, whole = part_of(statistics, "this_run"), part_of(statistics, "all_runs")
    names = {
        "batches": "Batches",
        "rows": "Rows",
        "calls": "Calls",
        "retries": "Retries",
        "splits": "Batches split",
        "confirmations": "Answers confirmed",
        "cap_checks": "Checks for silent caps",
    }
    rows = [
        [name, show_count(last.get(key)), show_count(whole.get(key))]
        for key, name in names.items()
        if key in whole
    ]
    rows += [
        [name, show_bytes(last.get(key)), show_bytes(whole.get(key))]
        for key, name in (("wire_bytes", "Received"), ("body_bytes", "Inflated"))
        if key in whole
    ]
    return section("What it took", table(["", "Last run", "All runs"], rows)) if rows else ""


def _oddities(report: Json) -> str:
    """Show values that could not be read, and rows that contradict each other."""
    parts = []
    anomalies: Sequence[Json] = report.get("anomalies") or ()
    if anomalies:
        rows = [
            [show_code(a["enrollment_id"]), escape(str(a["field"])), show_code(a["raw"])]
            for a in anomalies[:_FEW_SHOWN]
        ]
        parts.append("<h3>Values that could not be read</h3>")
        parts.append(table(["Enrollment", "Field", "As answered"], rows, texts=3))
        parts.append(and_more(int(report.get("anomaly_count") or 0), _FEW_SHOWN))
    conflicts: Sequence[Json] = report.get("conflicts") or ()
    if conflicts:
        rows = [[show_code(c["enrollment_id"]), _differences(c)] for c in conflicts[:_FEW_SHOWN]]
        parts.append("<h3>One id, different rows</h3>")
        parts.append(table(["Enrollment", "Kept, and dropped"], rows, texts=2))
        parts.append(and_more(int(report.get("conflict_count") or 0), _FEW_SHOWN))
    return section("Oddities", "".join(parts)) if parts else ""


def _differences(conflict: Json) -> str:
    kept, dropped = part_of(conflict, "kept"), part_of(conflict, "dropped")
    return "; ".join(
        f"{escape(str(name))}: {show_code(kept[name])}, not {show_code(dropped.get(name))}"
        for name in kept
        if kept[name] != dropped.get(name)
    )
