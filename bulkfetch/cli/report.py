"""`bulkfetch report`: a page about an export, from its journal."""

import sys
from pathlib import Path

from bulkfetch.cli.console import Console
from bulkfetch.cli.names import Named, Role, check_names
from bulkfetch.cli.process import resume_command
from bulkfetch.cli.running import Resume, ending, leave
from bulkfetch.export.page.write import write_page


def report(journal: Path, output: Path | None, console: Console) -> None:
    """Write the page and exit."""
    target = journal.with_name(f"{journal.name}.html") if output is None else output
    with ending(console, Resume(resume_command(sys.argv[1:]))) as result:
        check_names(Named("JOURNAL", journal, Role.SOURCE), Named("--output", target, Role.OUTPUT))
        write_page(journal, target)
        console.say("report", f"The report is in {target}.", output=str(target))
    leave(result.code)
