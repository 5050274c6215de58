"""`bulkfetch verify`: ask again, otherwise, and say what differs from the journal."""

import json
import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import anyio

from bulkfetch.cli.console import Console
from bulkfetch.cli.credentials import find_credentials
from bulkfetch.cli.differences import plain, show_differences
from bulkfetch.cli.exit_codes import ExitCode
from bulkfetch.cli.names import Named, Role, check_names
from bulkfetch.cli.process import resume_command
from bulkfetch.cli.running import Resume, ending, leave, run_job, say_stopped
from bulkfetch.cli.standing import name_unit
from bulkfetch.export.atomic import check_target, replacing
from bulkfetch.export.comparison import Difference, Kind
from bulkfetch.export.verify import Verified, VerifyJob, VerifySettings
from bulkfetch.http.address import check_base_url
from bulkfetch.options import Options
from bulkfetch.plan.rectangle import Axis
from bulkfetch.redact import Redactor
from bulkfetch.words import counted, counted_side

_NAMES = {Kind.ADDED: "missed", Kind.REMOVED: "gone", Kind.CHANGED: "changed"}


@dataclass(frozen=True, slots=True)
class VerifyArguments:
    """The command's options as they were given; `sample` is None for all."""

    journal: Path
    sample: int | None
    url: str | None
    soap_path: str | None
    token_file: str | None
    report: Path | None
    limit: int


def verify(
    arguments: VerifyArguments, make_options: Callable[[], Options], console: Console
) -> None:
    """Verify a journal and exit: 0 without a difference, 3 with some."""
    resume = Resume(resume_command(sys.argv[1:]), is_kept=False)
    with ending(console, resume) as result:
        options = make_options()
        if arguments.report is not None:
            files = [Named("JOURNAL", arguments.journal, Role.SOURCE)]
            if arguments.token_file not in {None, "-"}:
                token_file = Path(str(arguments.token_file))
                files.append(Named("--token-file", token_file, Role.INPUT))
            if options.ca_bundle is not None:
                files.append(Named("--ca-bundle", options.ca_bundle, Role.INPUT))
            check_names(*files, Named("--report", arguments.report, Role.OUTPUT))
            check_target(arguments.report)
        job = VerifyJob(
            VerifySettings(
                journal=arguments.journal,
                credentials=find_credentials(arguments.token_file, os.environ, console.warn),
                url=None if arguments.url is None else check_base_url(arguments.url),
                sample=arguments.sample,
                options=options,
                soap_path=arguments.soap_path,
            )
        )
        try:
            stopped_by = anyio.run(run_job, job, console, resume)
        finally:
            if job.verified is not None:
                _finish(job.verified, arguments, console, job.redactor)
        if stopped_by is not None:
            result.code = say_stopped(console, stopped_by, resume)
        elif job.verified is not None and job.verified.counts.differences:
            result.code = ExitCode.INCOMPLETE
    leave(result.code)


def _finish(
    found: Verified, arguments: VerifyArguments, console: Console, redactor: Redactor
) -> None:
    """Write the report, show differences, say the totals."""
    if arguments.report is not None:
        with replacing(arguments.report) as temporary:
            text = json.dumps(
                redactor.clean(_report(found, arguments)), indent=2, ensure_ascii=False
            )
            temporary.write_text(text + "\n", encoding="utf-8")
    counts = found.counts
    show_differences(found.first[: arguments.limit], counts.differences, _NAMES, sys.stdout)
    asked = " and ".join(
        counted_side(count, axis.value)
        for axis, count in found.ids_checked.items()
        if count is not None
    )
    if found.sample is not None:
        asked += (
            f" ({len(found.sample.returned):,} that have rows, {len(found.sample.empty):,} "
            "confirmed empty)"
        )
    differ = f"{counts.added:,} missed, {counts.removed:,} gone, {counts.changed:,} changed"
    lines = [
        f"asked again for {asked} in {counted(found.calls, 'other call')}",
        f"{differ} ({counted(counts.old, 'row')} in the journal, {counts.new:,} now)",
    ]
    if counts.outside_old:
        rows = counted(counts.outside_old, "row lies", "rows lie")
        lines.append(f"{rows} in what the export has not fetched")
    if counts.outside_new:
        lines.append(f"{counted(counts.outside_new, 'row')} could not be asked for again")
    if found.filled is not None:
        lines.append(
            f"the journal is of {_time(found.filled[0])} to {_time(found.filled[1])}, asked again "
            f"at {_time(found.asked[0])}: what has changed since then differs, too"
        )
    if found.is_unfinished:
        sides = [axis.value for axis, count in found.ids_checked.items() if count is not None]
        lines.append(
            f"the export is incomplete: it lacks {found.missing_pairs:,} of "
            f"{counted(found.asked_pairs, name_unit(sides))}, and only what it has was verified"
        )
    console.say("verified", "\n".join(lines), **_numbers(found))


def _numbers(found: Verified) -> dict[str, object]:
    counts = found.counts
    return {
        "missed": counts.added,
        "gone": counts.removed,
        "changed": counts.changed,
        "rows_in_journal": counts.old,
        "rows_now": counts.new,
        "rows_not_fetched_yet": counts.outside_old,
        "rows_not_asked_again": counts.outside_new,
        "calls": found.calls,
    }


def _report(found: Verified, arguments: VerifyArguments) -> Mapping[str, object]:
    sample = found.sample
    return {
        "journal": str(arguments.journal),
        "is_full": arguments.sample is None,
        **_numbers(found),
        "ids_checked": {axis.value: found.ids_checked[axis] for axis in Axis},
        "sample": None
        if sample is None
        else {
            "axis": sample.axis.value,
            "returned": len(sample.returned),
            "confirmed_empty": len(sample.empty),
        },
        "journal_from": None if found.filled is None else _time(found.filled[0]),
        "journal_to": None if found.filled is None else _time(found.filled[1]),
        "asked_from": _time(found.asked[0]),
        "asked_to": _time(found.asked[1]),
        "export_is_finished": not found.is_unfinished,
        "not_asked": [
            {
                "learner_ids": entry.learner_ids,
                "course_ids": entry.course_ids,
                "cause": entry.cause,
            }
            for entry in (*found.unfetched.quarantined, *found.unfetched.failed)
        ],
        "differences": [_difference(each) for each in found.first],
    }


def _difference(difference: Difference) -> Mapping[str, object]:
    return {
        "kind": _NAMES[difference.kind],
        "enrollment_id": difference.enrollment_id,
        "learner_id": difference.learner_id,
        "course_id": difference.course_id,
        "fields": {
            name: {"journal": plain(old), "now": plain(new)}
            for name, (old, new) in difference.fields.items()
        },
    }


def _time(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds")
