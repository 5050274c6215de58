"""What a command says on standard error: sentences, or one JSON object a line."""

import json
import sys
from typing import TextIO

from bulkfetch.redact import escape_controls


class Console:
    """Standard error, in the form asked for.

    Args:
        stream: where it goes.
        as_json: one object a line instead of sentences.
        is_quiet: leave out everything but warnings and errors.
    """

    def __init__(
        self, stream: TextIO | None = None, *, as_json: bool = False, is_quiet: bool = False
    ) -> None:
        self.stream = stream or sys.stderr
        self.as_json = as_json
        self.is_quiet = is_quiet

    @property
    def shows_bar(self) -> bool:
        """Whether a progress bar can be drawn."""
        return self.stream.isatty() and not self.as_json and not self.is_quiet

    def say(self, event: str, text: str, **details: object) -> None:
        """Say something that a quiet run leaves out."""
        if not self.is_quiet:
            self._write(event, text, details)

    def warn(self, text: str) -> None:
        """Say something that did not stop the run."""
        self._write("warning", text, {})

    def fail(self, text: str, **details: object) -> None:
        """Say why the run ended."""
        self._write("error", text, details)

    def _write(self, event: str, text: str, details: dict[str, object]) -> None:
        if self.as_json:
            line = json.dumps({"event": event, "message": text, **details}, default=str)
        else:
            line = "\n".join(escape_controls(part) for part in text.split("\n"))
        try:
            self.stream.write(line + "\n")
            self.stream.flush()
        except (OSError, ValueError):
            return  # nobody listens: the exit code still tells
