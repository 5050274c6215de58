"""What the service replies to a request: decided here, without I/O, and sent by `sending.py`.

The order of the decisions is that of a real installation: the gateway in front (limits on calls,
outages, its own error pages), then the request's XML, the token, the ids, and at last the rows.
"""

from array import array
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from http import HTTPStatus
from random import Random

from bulkfetch.simulator import soap
from bulkfetch.simulator.account import Account
from bulkfetch.simulator.capacity import CallRate, MinuteQuota
from bulkfetch.simulator.faults import FaultChooser, choose_poison, open_windows
from bulkfetch.simulator.ledger import Call
from bulkfetch.simulator.profile import Limit, Profile
from bulkfetch.simulator.render import Body, RecordRenderer, render_listing, render_record
from bulkfetch.simulator.rows import is_in_sorted
from bulkfetch.simulator.tokens import Tokens

XML = "text/xml; charset=utf-8"
HTML = "text/html; charset=utf-8"
MOVED_PATH = "/moved/api/v2/soap/2.0"
LOGIN_PAGE = "<!DOCTYPE html><html><head><title>Sign in</title></head><body>Sign in</body></html>"

# Faults of the gateway come before the token is looked at, those of delivery change how a true
# answer is sent, and the others change the answer.
_DELIVERY_FAULTS = {
    "cut_body",
    "cut_chunked",
    "cut_close_delimited",
    "cut_gzip",
    "wrong_encoding",
    "slow_drip",
}
_UNACCEPTABLE = {"ignore_filter", "foreign_row", "malformed_xml"}


@dataclass(frozen=True, slots=True)
class Reply:
    """What to send.

    Attributes:
        body: A text, or rows that are rendered while they are sent.
        wait_s: How long nothing happens first (a gateway that times out).
        latency_s: How long a slot is held before the first byte; None needs no slot.
        delivery: "whole", or the fault that strikes while the answer is sent.
        acceptable: A careful client takes the rows of this answer.
    """

    status: int = 200
    body: Body | str = ""
    content_type: str = XML
    headers: Mapping[str, str] = field(default_factory=dict)
    reason: str | None = None
    wait_s: float = 0.0
    latency_s: float | None = None
    delivery: str = "whole"
    acceptable: bool = False


_GATEWAY_REPLIES = {
    "reset": Reply(delivery="reset"),
    "empty_200": Reply(),
    "no_content_204": Reply(204),
    "html_200": Reply(body=LOGIN_PAGE, content_type=HTML),
}


@dataclass(frozen=True, slots=True)
class _Rows:
    """The rows of an answer: those that are rendered as they are, after others that are not."""

    rendered: Sequence[int]
    preface: str = ""
    in_preface: Sequence[int] = ()


class Service:
    """The account behind its gateway. `now_s` is always seconds since the start."""

    def __init__(
        self, account: Account, profile: Profile, tokens: Tokens, random: Random, seed: int
    ) -> None:
        self._account = account
        self._profile = profile
        self._tokens = tokens
        self._random = random
        self._faults = FaultChooser(profile.faults, random)
        self._rate = CallRate()
        self._minute = MinuteQuota()
        self._renderer = RecordRenderer(account, profile.dialect)
        permanent = profile.permanent
        self.poison_learners = choose_poison(account.learner_ids, permanent.poison_learners, seed)
        self.poison_courses = choose_poison(account.course_ids, permanent.poison_courses, seed)

    def slots(self, now_s: float) -> float | None:
        """Return how many calls are served at a time at present; None is no limit."""
        slots: float | None = self._profile.capacity.slots
        for window in open_windows(self._profile.schedule, now_s):
            slots = None if slots is None else slots * window.capacity_factor
        return slots

    def is_out(self, now_s: float) -> bool:
        """Tell whether nothing is answered at present."""
        return any(window.outage for window in open_windows(self._profile.schedule, now_s))

    def outage_in_s(self, now_s: float) -> float | None:
        """Return in how many seconds the next outage begins; None if none does."""
        begins = [w.from_s for w in self._profile.schedule if w.outage and w.from_s > now_s]
        return min(begins) - now_s if begins else None

    def refuse_at_the_gate(
        self, call: Call, in_flight: int, size_bytes: int, now_s: float
    ) -> Reply | None:
        """Return what the gateway says without looking at the request, or None to let it in.

        Args:
            call: Where the reason is written down.
            in_flight: How many calls are being served, without this one.
            size_bytes: Of the request's body.
            now_s: Seconds since the start.
        """
        if self.is_out(now_s):
            call.fault = "outage"
            return Reply(delivery="reset")
        limits = self._profile.limits
        for name, limit, amount in (
            ("max_request_bytes", limits.max_request_bytes, size_bytes),
            ("max_in_flight", limits.max_in_flight, in_flight + 1),
        ):
            if limit is not None and amount > limit.at:
                return self._past(limit, name, call)
        for name, limit, counter in (
            ("max_calls_per_min", limits.max_calls_per_min, self._minute),
            ("max_calls_per_s", limits.max_calls_per_s, self._rate),
        ):
            if limit is not None and not counter.admits(now_s, limit.at):
                return self._past(limit, name, call)
        for window in open_windows(self._profile.schedule, now_s):
            if self._random.random() < window.error_rate:
                call.fault = "brown-out"
                return self._status_page(503)
        return None

    def reply(self, call: Call, payload: bytes, now_s: float) -> Reply:
        """Decide about a request that the gateway let in, and write down what it asked."""
        try:
            request = soap.read_request(payload)
        except soap.BadRequestError:
            return self._soap_fault(call, "Wrong parameters")
        self._note(call, request)
        return self.answer(call, request, now_s)

    def answer(self, call: Call, request: soap.Request, now_s: float) -> Reply:
        """Decide about a request that has been read; `call` says already what it asks."""
        key = (call.operation, call.learner_ids, call.course_ids, request.page_token)
        fault = self._faults.choose(key)
        early = (
            self._gateway_fault(call, fault)
            or self._check_account(call, request.token, now_s)
            or self._check_ids(call)
            or self._server_fault(call, fault, request.token)
        )
        if early is not None:
            return early
        if request.operation != "GetEnrollments":
            reply = self._listing(call, request, fault)
        else:
            reply = self._enrollments(call, request, fault)
        if fault in _DELIVERY_FAULTS and isinstance(reply.body, Body):
            call.fault = fault
            acceptable = reply.acceptable and fault == "slow_drip"
            return replace(reply, delivery=fault, acceptable=acceptable)
        if fault == "set_cookie" and isinstance(reply.body, Body):
            call.fault = fault
            return replace(reply, headers={"Set-Cookie": "session=simulated; Path=/"})
        return reply

    def _note(self, call: Call, request: soap.Request) -> None:
        """Write down what was asked, with the account's own copies of the ids it knows."""
        call.operation, call.page_token = request.operation, request.page_token
        if request.learner_ids is not None:
            call.learner_ids = tuple(
                self._account.learner_id_as_stored(text) or text for text in request.learner_ids
            )
        if request.course_ids is not None:
            call.course_ids = tuple(
                self._account.course_id_as_stored(text) or text for text in request.course_ids
            )

    def _gateway_fault(self, call: Call, fault: str | None) -> Reply | None:
        if fault is None or not (
            fault in _GATEWAY_REPLIES or fault == "redirect" or fault.startswith("http_")
        ):
            return None
        call.fault = fault
        if fault in _GATEWAY_REPLIES:
            return _GATEWAY_REPLIES[fault]
        if fault == "redirect":
            status = self._random.choice((302, 307, 308))
            return replace(self._status_page(status), headers={"Location": MOVED_PATH})
        status = int(fault.removeprefix("http_"))
        retry_after = self._profile.faults.retry_after
        headers = {"Retry-After": retry_after} if retry_after and status in (429, 503) else {}
        return replace(self._status_page(status), headers=headers)

    def _check_account(self, call: Call, token: str, now_s: float) -> Reply | None:
        """Refuse a dead token, an account without subscription, a role without permission."""
        call.token_generation = self._tokens.use(token, now_s)
        permanent = self._profile.permanent
        if call.token_generation is None:
            failure = self._profile.token.failure
            if failure == "http-401":
                return self._status_page(401)
            return self._soap_fault(call, "Authorization failed", status=int(failure[-3:]))
        if permanent.subscription_expired:
            return self._soap_fault(call, "Account subscription expired")
        if permanent.permission_denied:
            return self._soap_fault(call, "Permission denied")
        return None

    def _check_ids(self, call: Call) -> Reply | None:
        """Refuse too many ids, poison ids and, if the profile says so, unknown ones."""
        learners, courses = call.learner_ids or (), call.course_ids or ()
        limit = self._profile.limits.max_ids
        if limit and limit.past != "silent-cap" and max(len(learners), len(courses)) > limit.at:
            return self._past(limit, "max_ids", call)
        poisoned = not self.poison_learners.isdisjoint(
            learners
        ) or not self.poison_courses.isdisjoint(courses)
        if poisoned:
            return self._soap_fault(call, "Wrong parameters")
        if self._profile.permanent.unknown_ids == "fault":
            account = self._account
            if any(account.learner_id_as_stored(text) is None for text in learners):
                return self._soap_fault(call, "Unknown user")
            if any(account.course_id_as_stored(text) is None for text in courses):
                return self._soap_fault(call, "Unknown content item")
        return None

    def _enrollments(self, call: Call, request: soap.Request, fault: str | None) -> Reply:
        limits = self._profile.limits
        learners, courses = request.learner_ids, request.course_ids
        capped = None
        if limits.max_ids and max(len(learners or ()), len(courses or ())) > limits.max_ids.at:
            capped = "max_ids"
            most = int(limits.max_ids.at)
            learners, courses = learners and learners[:most], courses and courses[:most]
        indexes = self._account.select(learners, courses)
        if limits.max_rows and len(indexes) > limits.max_rows.at:
            if limits.max_rows.past != "silent-cap":
                return self._past(limits.max_rows, "max_rows", call)
            capped = "max_rows"
            indexes = indexes[: int(limits.max_rows.at)]
        distorted = self._distort(fault, indexes)
        call.fault = capped or (fault if distorted else None)
        rows = distorted or _Rows(indexes)
        call.rows = rows.rendered
        if rows.in_preface:
            call.rows = array("I", [*rows.in_preface, *rows.rendered])
        frame = soap.frame(self._profile.dialect, "GetEnrollmentsResult")
        return Reply(
            body=self._renderer.body(frame, rows.rendered, rows.preface),
            latency_s=self._latency_s(len(call.rows)),
            acceptable=not capped and (distorted is None or fault not in _UNACCEPTABLE),
        )

    def _distort(self, fault: str | None, indexes: Sequence[int]) -> _Rows | None:
        """Apply a fault of content; None when it is not one, or has nothing to work on."""
        match fault:
            case "malformed_xml":
                return _Rows(indexes, "<enrollment><enrollmentId>a & b</enrollmentId>")
            case "ignore_filter" if len(indexes) < len(self._account):
                return _Rows(range(len(self._account)))
            case "foreign_row":
                return self._with_foreign_row(indexes)
            case "duplicate_rows" if indexes:
                again = self._random.sample(indexes, max(1, len(indexes) // 10))
                return _Rows(array("I", [*indexes, *again]))
            case "conflicting_duplicate" | "unreadable_value" if indexes:
                return self._with_odd_row(indexes, is_unreadable=fault == "unreadable_value")
            case _:
                return None

    def _with_foreign_row(self, indexes: Sequence[int]) -> _Rows | None:
        """Put a row that was not asked for among the others; None if there hardly is one."""
        random, count = self._random, len(self._account)
        drawn = (random.randrange(count) for _ in range(100 if count else 0))
        foreign = next((index for index in drawn if not is_in_sorted(indexes, index)), None)
        if foreign is None:
            return None
        at = random.randrange(len(indexes) + 1)
        return _Rows(array("I", [*indexes[:at], foreign, *indexes[at:]]))

    def _with_odd_row(self, indexes: Sequence[int], *, is_unreadable: bool) -> _Rows:
        """Spoil a date of one row, or put before all rows another version of one of them."""
        at = self._random.randrange(len(indexes))
        enrollment, dialect = self._account.enrollment(indexes[at]), self._profile.dialect
        if is_unreadable:
            others = array("I", [*indexes[:at], *indexes[at + 1 :]])
            text = render_record(enrollment, dialect, access_date="2022-13-45")
            return _Rows(others, text, (indexes[at],))
        locks = not enrollment.should_lock_after_due_date
        other = enrollment._replace(should_lock_after_due_date=locks)
        return _Rows(indexes, render_record(other, dialect), (indexes[at],))

    def _listing(self, call: Call, request: soap.Request, fault: str | None) -> Reply:
        """Answer users or content items, all of them or a page."""
        dialect = self._profile.dialect
        users = request.operation.endswith("Users")
        ids = self._account.learner_ids if users else self._account.course_ids
        item, id_element = ("userProfile", "userId") if users else ("contentItem", "contentItemId")
        next_page_token = ""
        if request.operation.startswith("List"):
            try:
                start = int(urlsafe_b64decode(request.page_token)) if request.page_token else 0
            except ValueError:
                start = -1
            if start < 0:
                return self._soap_fault(call, "Wrong parameters")
            stop = start + request.page_size
            if stop < len(ids):
                next_page_token = urlsafe_b64encode(b"%d" % stop).decode()
            if fault == "repeated_page_token":
                call.fault = fault
                next_page_token = urlsafe_b64encode(b"%d" % start).decode()
            ids = ids[start : start + request.page_size]
        call.items = len(ids)
        frame = soap.frame(
            dialect, "GetUsersResult" if users else "GetContentResult", next_page_token
        )
        return Reply(
            body=Body(
                frame,
                len(ids),
                lambda start, stop: render_listing(dialect, item, id_element, ids[start:stop]),
            ),
            latency_s=self._latency_s(len(ids)),
            acceptable=call.fault is None,
        )

    def _latency_s(self, rows: int) -> float:
        latency = self._profile.latency
        milliseconds = latency.base_ms + self._random.random() * latency.jitter_ms
        seconds = milliseconds / 1e3 + rows * latency.per_row_us / 1e6
        return seconds * (
            latency.tail_factor if self._random.random() < latency.tail_share else 1.0
        )

    def _soap_fault(self, call: Call, text: str, *, status: int | None = None) -> Reply:
        call.soap_fault = text
        dialect = self._profile.dialect
        return Reply(status or int(dialect.fault_status), soap.fault_message(dialect, text))

    def _server_fault(self, call: Call, fault: str | None, token: str) -> Reply | None:
        """Fail inside; an echo quotes the token in the reason, in a header and in the fault."""
        if fault not in ("server_fault", "echo_token"):
            return None
        call.fault, call.soap_fault = fault, "Internal error"
        dialect = self._profile.dialect
        if fault == "server_fault":
            return Reply(500, soap.fault_message(dialect, "Internal error", "Server"))
        on_one_line = " ".join(token.split())
        return Reply(
            500,
            soap.fault_message(dialect, f"Internal error for token {token}", "Server"),
            reason=f"Failed for {on_one_line}",
            headers={"X-Debug-Token": on_one_line},
        )

    def _past(self, limit: Limit, name: str, call: Call) -> Reply:
        """Answer a call that is past a limit."""
        call.fault = name
        reply = self._status_page(int(limit.past))
        if limit.retry_after_s is not None:
            reply = replace(reply, headers={"Retry-After": f"{limit.retry_after_s:g}"})
        return replace(reply, wait_s=limit.timeout_s) if limit.past == "504" else reply

    def _status_page(self, status: int) -> Reply:
        """Make the page that a gateway shows for a status."""
        known = {member.value for member in HTTPStatus}
        phrase = HTTPStatus(status).phrase if status in known else "Error"
        return Reply(status, f"<html><body><h1>{status} {phrase}</h1></body></html>", HTML)
