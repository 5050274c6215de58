"""Exit codes, and which error ends in which."""

from enum import IntEnum

from bulkfetch.errors import (
    BulkfetchError,
    CredentialsError,
    EndpointError,
    IncompleteError,
    JournalError,
    LocalError,
    TokenRejectedError,
    UsageError,
)


class ExitCode(IntEnum):
    """How a command ended; a signal ends it with 128 and its number."""

    COMPLETE = 0
    BUG = 1
    USAGE = 2
    INCOMPLETE = 3
    CREDENTIALS = 4
    ENDPOINT = 5
    JOURNAL = 6
    SINK = 7


def exit_code_of(error: BulkfetchError) -> ExitCode:
    """Return the exit code that an error ends in."""
    for kinds, code in (
        ((UsageError,), ExitCode.USAGE),
        ((CredentialsError, TokenRejectedError), ExitCode.CREDENTIALS),
        ((EndpointError,), ExitCode.ENDPOINT),
        ((JournalError,), ExitCode.JOURNAL),
        ((LocalError,), ExitCode.SINK),
        ((IncompleteError,), ExitCode.INCOMPLETE),
    ):
        if isinstance(error, kinds):
            return code
    return ExitCode.INCOMPLETE
