"""Whole answers that say something else than rows: how often it is asked again, what is named."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

import bulkfetch

LEARNERS = [f"l{n:02}" for n in range(16)]
Serve = Callable[..., Awaitable[Any]]
Options = Callable[..., bulkfetch.Options]
PAIR = {"client_id": "me", "client_secret": "my-secret"}
SIX = bulkfetch.RetryPolicy(attempts=6, base_s=0.001, cap_s=0.002)

HEALING = ["408", "425", "429", "500", "502", "503", "504", "520", "599"]


@pytest.mark.parametrize("status", HEALING)
@pytest.mark.parametrize("times", [1, 5])
async def test_a_status_that_heals_costs_nothing_but_time(
    serve: Serve, say: Any, fetch: Any, status: str, times: int
) -> None:
    async def script(request: Any, _writer: Any) -> Any:
        if request.number < times:
            return say.http(b"<html>Oops</html>", f"{status} Oops")
        return say.http(say.rows(request.learners))

    server = await serve(script)
    outcome = await fetch(server.url, LEARNERS, workers=1, retry=SIX)
    assert outcome.error is None
    assert outcome.learners == LEARNERS
    assert outcome.report.is_complete
    assert outcome.report.retries + outcome.report.splits >= 1


@pytest.mark.parametrize("status", HEALING)
async def test_a_status_that_stays_is_asked_at_most_six_times_a_batch(
    serve: Serve, say: Any, fetch: Any, status: str
) -> None:
    async def script(_request: Any, _writer: Any) -> Any:
        return say.http(b"", f"{status} Oops")

    server = await serve(script)
    outcome = await fetch(server.url, LEARNERS, retry=SIX)
    assert outcome.rows == []
    assert outcome.named == set(LEARNERS)
    assert max(server.calls_by_batch().values()) <= 6
    assert len(server.requests) <= outcome.report.calls <= 60
    assert not outcome.report.is_complete
    assert outcome.report.confirmed_empty_learners == 0


@pytest.mark.parametrize("batch_size", [1, 4, 16])
@pytest.mark.parametrize(
    "refusal",
    ["500 Oops", "400 Bad Request", "500 fault", "truncated", "foreign", "504 Gateway Timeout"],
)
async def test_an_answer_that_is_bad_for_one_learner_is_that_learners_alone(
    serve: Serve, say: Any, fetch: Any, refusal: str, batch_size: int
) -> None:
    """While others succeed, what stays bad is narrowed down until one id is named."""

    async def script(request: Any, _writer: Any) -> Any:
        if "l05" not in request.learners:
            return say.http(say.rows(request.learners))
        if refusal == "500 fault":
            return say.http(say.fault("Internal error", "Server"), "500 Oops")
        if refusal == "truncated":
            return say.http(say.rows(request.learners)[:-20])
        if refusal == "foreign":
            return say.http(say.rows([*request.learners, "somebody-else"]))
        return say.http(b"", refusal)

    server = await serve(script)
    outcome = await fetch(server.url, LEARNERS, batch_size=batch_size)
    if batch_size == 16 and not refusal.startswith(("400", "504")):
        # Nothing else was asked for, so nothing succeeded: it could as well be an outage.
        assert outcome.named == set(LEARNERS)
        return
    assert outcome.learners == [learner for learner in LEARNERS if learner != "l05"]
    assert outcome.named == {"l05"}
    assert max(server.calls_by_batch().values()) <= 6


async def test_a_filter_that_is_ignored_hands_on_no_row(serve: Serve, say: Any, fetch: Any) -> None:
    everybody = say.rows([*LEARNERS, *(f"x{n}" for n in range(3_000))])

    async def script(_request: Any, _writer: Any) -> Any:
        return say.http(everybody)

    server = await serve(script)
    outcome = await fetch(server.url, LEARNERS)
    assert outcome.rows == []
    assert outcome.report.rows == 0
    assert outcome.named == set(LEARNERS)
    # Three attempts; what breaks on a used connection is sent once more, on a fresh one.
    assert max(server.calls_by_batch().values()) <= 3 * 2


@pytest.mark.parametrize("foreign", [1, 2, 3])
async def test_a_filter_ignored_after_other_failures_is_no_more_than_one_ignored_at_once(
    serve: Serve, say: Any, fetch: Any, foreign: int
) -> None:
    async def script(request: Any, _writer: Any) -> Any:
        if request.number < 5:
            return say.http(b"", "502 Bad Gateway")
        if request.number < 5 + foreign:
            return say.http(say.rows([*request.learners, "somebody-else"]))
        return say.http(say.rows(request.learners))

    server = await serve(script)
    outcome = await fetch(server.url, LEARNERS, batch_size=16, workers=1, retry=SIX)
    assert (outcome.error is None) == (foreign < 3)


async def test_a_course_filter_that_is_ignored_hands_on_no_row(
    serve: Serve, say: Any, options: Options
) -> None:
    async def script(request: Any, _writer: Any) -> Any:
        return say.http(say.rows(request.learners, course="c2"))

    server = await serve(script)
    got = []
    async with bulkfetch.Client(server.url, token="the-token", options=options()) as client:
        with pytest.raises(bulkfetch.IncompleteError):
            async for row in client.enrollments(learner_ids=LEARNERS, course_ids=["c1"]):
                got.append(row)  # noqa: PERF401 - rows before the error count
    assert got == []


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("Down\x1b[2J".replace("\x1b", "\u202e"), "Down\\u202e[2J"),
        ("one\r\ntwo", "one\\ntwo"),
        ("x" * 200_000, "x" * 299 + "…"),
        ("x" * 10_000_000, "failed"),
        ("", "without text"),
    ],
    ids=["controls", "line ends", "200 kB", "10 MB", "empty"],
)
@pytest.mark.parametrize("status", ["200 OK", "500 Oops"])
async def test_the_text_of_a_fault_is_shown_escaped_and_bounded(
    serve: Serve, say: Any, fetch: Any, text: str, shown: str, status: str
) -> None:
    body = say.fault(text, "" if not text else "Server")

    async def script(_request: Any, _writer: Any) -> Any:
        return say.http(body, status)

    server = await serve(script)
    outcome = await fetch(server.url, LEARNERS, retry=bulkfetch.RetryPolicy(attempts=1))
    assert outcome.named == set(LEARNERS)
    message = str(outcome.error)
    assert len(message) < 2_000
    assert message.isprintable()
    if not (status == "200 OK" and len(text) > 9_000_000):
        assert shown in message


@pytest.mark.parametrize("delays", [[0.0], [0.0, 0.02, 0.005]], ids=["at once", "staggered"])
@pytest.mark.parametrize(
    ("status", "text"),
    [
        ("401 Unauthorized", None),
        ("403 Forbidden", None),
        ("500 Oops", "Authorization failed"),
        ("200 OK", "Authorization failed"),
        ("200 OK", "Permission denied"),
        ("500 Oops", "Account subscription expired"),
        ("404 Not Found", None),
    ],
)
async def test_what_ends_a_run_costs_a_request_a_worker_at_most(
    serve: Serve, say: Any, fetch: Any, status: str, text: str | None, delays: list[float]
) -> None:
    async def script(request: Any, _writer: Any) -> Any:
        await asyncio.sleep(delays[request.number % len(delays)])
        return say.http(b"" if text is None else say.fault(text), status)

    server = await serve(script)
    outcome = await fetch(server.url, LEARNERS, workers=8, batch_size=1)
    assert isinstance(outcome.error, bulkfetch.FatalError)
    assert isinstance(outcome.error, bulkfetch.CredentialsError) == ("404" not in status)
    assert len(server.requests) <= 8
    assert outcome.rows == []


@pytest.mark.parametrize("batch_size", [1, 4])
async def test_a_token_that_is_revoked_in_the_middle_ends_the_run_after_its_rows(
    serve: Serve, say: Any, fetch: Any, batch_size: int
) -> None:
    async def script(request: Any, _writer: Any) -> Any:
        if request.number < 3:
            return say.http(say.rows(request.learners))
        return say.http(say.fault("Authorization failed"), "500 Oops")

    server = await serve(script)
    outcome = await fetch(server.url, LEARNERS, batch_size=batch_size)
    assert isinstance(outcome.error, bulkfetch.CredentialsError)
    assert len(outcome.rows) == 3 * batch_size
    assert len(server.requests) <= 3 + 2


def token_answer(say: Any, number: int, **more: object) -> Any:
    fields = "".join(f', "{name}": {value}' for name, value in more.items())
    return say.http(f'{{"access_token": "token-{number}"{fields}}}'.encode())


@pytest.mark.parametrize(
    "expires_in",
    ["1800", '"1800"', "0", "-5", "null", "NaN", "Infinity", "1e400", "9" * 400, "true", "[]"],
    ids=lambda value: value[:10],
)
async def test_any_lifetime_of_a_token_will_do(
    serve: Serve, say: Any, fetch: Any, expires_in: str
) -> None:
    async def script(request: Any, _writer: Any) -> Any:
        if request.path.endswith("/token"):
            return token_answer(say, 1, expires_in=expires_in)
        return say.http(say.rows(request.learners))

    server = await serve(script)
    outcome = await fetch(server.url, LEARNERS, credentials=PAIR)
    assert outcome.error is None
    assert outcome.learners == LEARNERS


async def test_a_token_is_renewed_before_it_expires_and_once_for_all(
    serve: Serve, say: Any, fetch: Any
) -> None:
    """Time moves ten minutes with each call; a token of half an hour outlives two of them."""
    now_s = 0.0
    issued = 0
    served: list[str] = []

    async def script(request: Any, _writer: Any) -> Any:
        nonlocal issued, now_s
        if request.path.endswith("/token"):
            issued += 1
            return token_answer(say, issued, expires_in=1800)
        served.append(request.token)
        now_s += 600
        return say.http(say.rows(request.learners))

    server = await serve(script)
    outcome = await fetch(
        server.url,
        LEARNERS,
        credentials=PAIR,
        workers=1,
        batch_size=1,
        shape="learners",
        runtime=bulkfetch.Runtime(clock=lambda: now_s),
    )
    assert outcome.error is None
    assert issued == 8
    assert served == [f"token-{1 + n // 2}" for n in range(16)]


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (lambda say: say.http(b"{}", "400 Bad Request"), bulkfetch.CredentialsError),
        (lambda say: say.http(b"{}", "401 Unauthorized"), bulkfetch.CredentialsError),
        (lambda say: say.http(b"{}", "403 Forbidden"), bulkfetch.CredentialsError),
        (lambda say: say.http(b"", "404 Not Found"), bulkfetch.EndpointError),
        (
            lambda say: say.http(b"", "307 Moved", "Location: http://127.0.0.1:9/"),
            bulkfetch.EndpointError,
        ),
        (lambda say: say.http(b"", "413 Payload Too Large"), bulkfetch.IncompleteError),
        (lambda say: say.http(b"", "500 Oops"), bulkfetch.IncompleteError),
        (lambda say: say.http(b"not JSON"), bulkfetch.IncompleteError),
        (lambda say: say.http(b"[]"), bulkfetch.IncompleteError),
        (lambda say: say.http(b"[" * 60_000), bulkfetch.IncompleteError),
        (lambda say: say.http(b"\xff\xfe"), bulkfetch.IncompleteError),
        (lambda say: say.http(b'{"access_token": 5}'), bulkfetch.IncompleteError),
        (lambda say: say.http(b'{"access_token": "a\\nb"}'), bulkfetch.IncompleteError),
        (lambda say: say.http(b'{"access_token": "\\ud800"}'), bulkfetch.IncompleteError),
        (lambda say: say.http(b" " * 1_000_000), bulkfetch.IncompleteError),
        (lambda _say: b"SSH-2.0\r\n\r\n", bulkfetch.IncompleteError),
    ],
    ids=[
        "400", "401", "403", "404", "307", "413", "500", "text", "list", "deep", "bytes", "number",
        "newline", "surrogate", "1 MB", "not HTTP",
    ],
)  # fmt: skip
async def test_a_token_endpoint_that_gives_no_token_ends_the_run_soon(
    serve: Serve, say: Any, fetch: Any, answer: Callable[[Any], bytes], kind: type[Exception]
) -> None:
    async def script(_request: Any, _writer: Any) -> Any:
        return answer(say)

    server = await serve(script)
    outcome = await fetch(server.url, LEARNERS, credentials=PAIR, workers=4)
    assert type(outcome.error) is kind
    assert {request.path for request in server.requests} == {"/api/v3/token"}
    bound = 1 if issubclass(kind, bulkfetch.FatalError) else 3 * 4
    assert len(server.requests) <= bound
    if kind is bulkfetch.IncompleteError:
        assert outcome.named == set(LEARNERS)


@pytest.mark.parametrize("workers", [1, 4])
@pytest.mark.parametrize("learner", [0, 7, 15])
async def test_a_pair_that_spoils_answers_is_named_alone(
    serve: Serve, say: Any, options: Options, learner: int, workers: int
) -> None:
    courses = [f"c{n}" for n in range(5)]
    bad = (LEARNERS[learner], "c2")

    async def script(request: Any, _writer: Any) -> Any:
        asked = [course for course in courses if f">{course}<".encode() in request.body]
        if bad[0] in request.learners and bad[1] in asked:
            return say.http(say.fault("Wrong parameters"), "500 Oops")
        return say.http(say.rows(request.learners, course=asked[0]))

    server = await serve(script)
    settings = options(shape="both", batch_size=16, workers=workers)
    async with bulkfetch.Client(server.url, token="t", options=settings) as client:
        fetch = client.enrollments(learner_ids=LEARNERS, course_ids=courses)
        with pytest.raises(bulkfetch.IncompleteError) as caught:
            async for _ in fetch:
                pass
    (entry,) = caught.value.quarantined
    assert (entry.learner_ids, entry.course_ids) == ((bad[0],), (bad[1],))
    assert "Wrong parameters" in entry.cause
    assert caught.value.failed == ()


async def test_a_learner_whose_calls_are_never_authorized_is_not_passed_over(
    serve: Serve, say: Any, fetch: Any
) -> None:
    """The documented meaning of the fault includes "user not found": it may be one id's own."""
    issued = 0

    async def script(request: Any, _writer: Any) -> Any:
        nonlocal issued
        if request.path.endswith("/token"):
            issued += 1
            return token_answer(say, issued)
        if "l05" in request.learners:
            await asyncio.sleep(0.005)
            return say.http(say.fault("Authorization failed"), "500 Oops")
        return say.http(say.rows(request.learners))

    server = await serve(script)
    outcome = await fetch(server.url, LEARNERS, credentials=PAIR, workers=4, batch_size=1)
    assert isinstance(outcome.error, bulkfetch.CredentialsError | bulkfetch.IncompleteError)
    assert "l05" not in outcome.learners
    assert issued <= len(LEARNERS)
