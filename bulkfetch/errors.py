"""One tree of errors: what happened, to which ids, and what to do.

Every failure of a call carries its *fault class*, and the class alone decides the reaction (retry,
split, bisect, renew the token, stop). Lower layers' exceptions are mapped onto this tree in one
place, `bulkfetch.http.classify`; they are shown to a person in one place, the command line.

Messages are safe to print: server text in them has been through `bulkfetch.redact` (secrets
removed, control characters escaped, length bounded) before it gets here.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum

from bulkfetch.words import counted


class FaultClass(Enum):
    """What kind of failure it is, and so what is done about it."""

    TRANSIENT = "transient"  # retried with backoff, a bounded number of times
    TOO_LARGE = "too large"  # the rectangle is split, later batches are smaller
    CONTENT = "content"  # bisected until the ids at fault stand alone
    TOKEN = "token"  # noqa: S105 - a class of faults: the token is renewed once, the call replayed
    FATAL = "fatal"  # the run stops at once
    LOCAL = "local"  # journal, lock, disk, sink: the run stops and can be resumed


@dataclass(frozen=True, slots=True)
class FailedIds:
    """Ids that a run could not fetch, and why.

    `learner_ids` or `course_ids` is None where that side is not to blame, or the call at fault did
    not filter on it. `tried_at` is when they were asked for last, in seconds since 1970; None if
    they never were.
    """

    learner_ids: tuple[str, ...] | None
    course_ids: tuple[str, ...] | None
    cause: str
    attempts: int
    tried_at: float | None = None

    @property
    def is_of_pairs(self) -> bool:
        """Whether it is learners together with courses that are to blame, not the ids alone."""
        return self.learner_ids is not None and self.course_ids is not None

    def __str__(self) -> str:
        return f"{_name_ids(self.learner_ids, self.course_ids)}: {self.cause}"


class BulkfetchError(Exception):
    """Root of everything that bulkfetch raises on purpose."""


class UsageError(BulkfetchError, ValueError):
    """The caller's input cannot be used; nothing was sent."""


class SettingError(UsageError):
    """A setting has a value that it cannot have.

    Args:
        sentence: a format; its fields are the settings' names, then the values.
        settings: their names in the library. Other doors have other names for them: see `naming`.
        values: what else the sentence holds.
    """

    def __init__(self, sentence: str, settings: Sequence[str], *values: object) -> None:
        self.sentence, self.settings, self.values = sentence, tuple(settings), values
        super().__init__(self.naming(str))

    def naming(self, name_of: Callable[[str], str]) -> str:
        """Return the message with other names of the settings."""
        return self.sentence.format(*map(name_of, self.settings), *self.values)

    def __reduce__(self) -> tuple[type["SettingError"], tuple[object, ...]]:
        return type(self), (self.sentence, self.settings, *self.values)


class CallError(BulkfetchError):
    """One call failed. `fault_class` says how the run reacts; `status` is HTTP's, if any."""

    fault_class = FaultClass.TRANSIENT

    def __init__(self, message: str, *, status: int | None = None) -> None:
        super().__init__(message)
        self.status = status


class TransientError(CallError):
    """Worth another attempt. `retry_after_s` is what the service asked for, already bounded."""

    def __init__(
        self, message: str, *, status: int | None = None, retry_after_s: float | None = None
    ) -> None:
        super().__init__(message, status=status)
        self.retry_after_s = retry_after_s


class ConnectionFailedError(TransientError):
    """No connection, or it broke: refused, reset, disconnected, name not resolved."""


class TimedOutError(TransientError):
    """A connect, read or total time limit passed, or a gateway said so (504)."""


class GivenUpError(TimedOutError):
    """A call took several times longer than calls of its size do."""


class OverloadedError(TransientError):
    """The service asks for less: 429 or 503."""


class ServerFailedError(TransientError):
    """A 5xx or a SOAP `Server` fault without a meaning that we know."""


class MalformedAnswerError(TransientError):
    """The body is not a whole, well-formed answer: cut short, not XML, or refused."""


class RepeatedPageTokenError(MalformedAnswerError):
    """A page of a listing names one that was asked for before as the next: it would never end."""


class ForeignRowsError(TransientError):
    """Rows outside the rectangle asked for: a filter was ignored or answers were mixed up."""


class TooLargeError(CallError):
    """Request or answer is too large (413, 414, the byte cap): ask for less at a time."""

    fault_class = FaultClass.TOO_LARGE


class ContentError(CallError):
    """The service rejects something in the request's ids."""

    fault_class = FaultClass.CONTENT


class TokenRejectedError(CallError):
    """The service did not accept the token."""

    fault_class = FaultClass.TOKEN


class FatalError(CallError):
    """No further call can succeed; the run stops."""

    fault_class = FaultClass.FATAL


class CredentialsError(FatalError):
    """Token, client id or secret refused, subscription expired, or role without permission."""


class EndpointError(FatalError):
    """Wrong address, a redirect, or TLS that cannot be trusted."""


class IncompleteError(BulkfetchError):
    """The run ended without everything that was asked for.

    `quarantined` are ids that the service rejects by themselves, `failed` ids whose calls kept
    failing or were never made. What was fetched was handed on. `untried` says why a run that was to
    ask again for what was quarantined did not come to some of it; empty if it did.
    """

    def __init__(
        self,
        quarantined: Sequence[FailedIds],
        failed: Sequence[FailedIds],
        untried: str = "",
    ) -> None:
        self.quarantined = tuple(quarantined)
        self.failed = tuple(failed)
        self.untried = untried
        parts = [
            f"{count(some)} {what} (first: {some[0]})"
            for count, what, some in (
                (_count_quarantined, "quarantined", self.quarantined),
                (_count_failed, "failed", self.failed),
            )
            if some
        ]
        if untried:
            parts.append(f"what was not asked for again was {untried}")
        super().__init__("Not everything that was asked for was fetched: " + "; ".join(parts))

    def __reduce__(self) -> tuple[type["IncompleteError"], tuple[object, ...]]:
        # By what it was made of, not by its message: pools of processes pass errors as pickles.
        return type(self), (self.quarantined, self.failed, self.untried)


class ListingError(BulkfetchError):
    """The account's ids could not be listed to their end, or there are none.

    What was listed is kept. Nothing was fetched: part of a list is no list.
    """


class LocalError(BulkfetchError):
    """This machine's side failed: the run stops and can be resumed."""

    fault_class = FaultClass.LOCAL


class JournalError(LocalError):
    """The journal is locked, damaged, foreign, or belongs to other inputs."""


class SinkError(LocalError):
    """The output could not be written."""


@dataclass(frozen=True, slots=True)
class Anomaly:
    """A value that could not be read as its type and is null in its row, kept as raw text."""

    enrollment_id: str
    field: str
    raw: str


@dataclass(frozen=True, slots=True)
class Conflict:
    """Two rows with one enrollment_id and different content; `kept` is the one handed on."""

    enrollment_id: str
    kept: Mapping[str, object] = field(hash=False)
    dropped: Mapping[str, object] = field(hash=False)


def _count_quarantined(entries: Sequence[FailedIds]) -> str:
    """Count ids, and apart from them pairs that are rejected though neither id is."""
    pairs = sum(entry.is_of_pairs for entry in entries)
    ids = len(entries) - pairs
    if not pairs:
        return f"{ids:,}"
    of_pairs = counted(pairs, "pair")
    return f"{counted(ids, 'id')} and {of_pairs}" if ids else of_pairs


def _count_failed(entries: Sequence[FailedIds]) -> str:
    """Count the ids that entries name: apart from each other, those of learners with courses."""
    of_pairs = [entry for entry in entries if entry.is_of_pairs]
    others = [entry for entry in entries if not entry.is_of_pairs]
    parts = _count_sides(others)
    if of_pairs:
        parts.append(f"pairs of {' and '.join(_count_sides(of_pairs))}")
    return " and ".join(parts) or "the whole account"


def _count_sides(entries: Sequence[FailedIds]) -> list[str]:
    sides = (
        ("learner", {unit for entry in entries for unit in entry.learner_ids or ()}),
        ("course", {unit for entry in entries for unit in entry.course_ids or ()}),
    )
    return [counted(len(ids), name) for name, ids in sides if ids]


def _name_ids(learners: Sequence[str] | None, courses: Sequence[str] | None) -> str:
    """Name a rectangle's ids for a message, the first three of each side."""
    sides = [
        f"{counted(len(ids), name)} ({', '.join(ids[:3])}{', …' if len(ids) > 3 else ''})"  # noqa: PLR2004
        for name, ids in (("learner", learners), ("course", courses))
        if ids is not None
    ]
    return " × ".join(sides) or "the whole account"
