"""What the service was asked and what it answered, for tests to look at afterwards.

A call is written down when it arrives and completed when its answer has gone out. Rows are kept as
indexes into the account, four bytes each; ids are the account's own strings. The text of a token
is never kept, only which of the issued tokens it was.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(slots=True)
class Call:
    """One call. Times are seconds on the service's clock, since its start.

    Attributes:
        operation: "GetEnrollments", "ListUsers", …, "token", "unreadable" when the request could
            not be read, or the path when there is nothing there.
        learner_ids: The learners asked for, None without that filter.
        course_ids: Likewise.
        page_token: Which page of a listing was asked for; "" for the first one.
        token_generation: 0 for the ready token, 1 for the first one issued, …; None: no valid one.
        status: HTTP status; 0 when no answer was begun.
        fault: The injected fault or the limit that struck, None for a healthy answer.
        soap_fault: The fault string, if the answer is a SOAP fault.
        rows: Enrollment indexes in the answer, as far as it was sent.
        items: How many users or content items were in the answer.
        body_bytes: Bytes of the answer's body as sent.
        sent_cookie: The client sent a cookie.
        whole: The answer went out to its end, and it was the true answer.
        finished_s: When the answer had gone out; None while the call is in flight.
    """

    sequence: int
    started_s: float
    operation: str = "unreadable"
    learner_ids: tuple[str, ...] | None = None
    course_ids: tuple[str, ...] | None = None
    page_token: str = ""
    token_generation: int | None = None
    status: int = 0
    fault: str | None = None
    soap_fault: str | None = None
    rows: Sequence[int] = ()
    items: int = 0
    body_bytes: int = 0
    sent_cookie: bool = False
    whole: bool = False
    finished_s: float | None = None


@dataclass(frozen=True, slots=True)
class Statistics:
    """The sums of a ledger."""

    calls: int
    calls_by_operation: dict[str, int]
    calls_by_status: dict[int, int]
    faults: dict[str, int]
    soap_faults: dict[str, int]
    rows_answered: int
    body_bytes: int
    max_in_flight: int


class Ledger:
    """Every call to a service, in the order in which they came."""

    def __init__(self) -> None:
        self.calls: list[Call] = []
        self.in_flight = 0
        self.max_in_flight = 0

    def __repr__(self) -> str:
        return f"<Ledger {len(self.calls)} calls, {self.in_flight} in flight>"

    def begin(self, started_s: float) -> Call:
        """Write down that a call has arrived."""
        call = Call(sequence=len(self.calls), started_s=started_s)
        self.calls.append(call)
        self.in_flight += 1
        self.max_in_flight = max(self.max_in_flight, self.in_flight)
        return call

    def finish(self, call: Call, finished_s: float) -> None:
        """Complete a call: its answer has gone out, or the client went away."""
        call.finished_s = finished_s
        self.in_flight -= 1

    def calls_of(self, operation: str) -> list[Call]:
        """Return the calls of one operation."""
        return [call for call in self.calls if call.operation == operation]

    def rows_answered(self) -> int:
        """Return how many enrollments went out in whole and true answers."""
        return sum(len(call.rows) for call in self.calls if call.whole)

    def times_answered(self) -> Counter[int]:
        """Count how often each enrollment, by its index, went out in a whole and true answer."""
        counts: Counter[int] = Counter()
        for call in self.calls:
            if call.whole:
                counts.update(call.rows)
        return counts

    def statistics(self) -> Statistics:
        """Return the sums so far."""
        calls = self.calls
        return Statistics(
            calls=len(calls),
            calls_by_operation=dict(Counter(call.operation for call in calls)),
            calls_by_status=dict(Counter(call.status for call in calls)),
            faults=dict(Counter(call.fault for call in calls if call.fault)),
            soap_faults=dict(Counter(call.soap_fault for call in calls if call.soap_fault)),
            rows_answered=self.rows_answered(),
            body_bytes=sum(call.body_bytes for call in calls),
            max_in_flight=self.max_in_flight,
        )
