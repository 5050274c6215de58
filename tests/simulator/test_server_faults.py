import asyncio
import gzip
import zlib
from typing import Any

import aiohttp
import pytest
from lxml import etree

from bulkfetch.simulator import Account, Simulator, parse_profile


def always(fault: str, **others: Any) -> Any:
    return parse_profile({"faults": {fault: 1.0, **others}})


@pytest.mark.parametrize("status", [400, 403, 404, 408, 425, 429, 500, 502, 503, 504])
async def test_an_http_fault_is_a_page_with_the_status(
    status: int, ask: Any, account: Account
) -> None:
    async with Simulator(account, always(f"http_{status}", retry_after="-1")) as simulator:
        answer = await ask(simulator)
        assert answer.status == status
        assert answer.headers.get("Retry-After") == ("-1" if status in (429, 503) else None)
        assert simulator.ledger.statistics().faults == {f"http_{status}": 1}


async def test_answers_with_nothing_in_them(ask: Any, account: Account) -> None:
    for fault, status in (("empty_200", 200), ("no_content_204", 204)):
        async with Simulator(account, always(fault)) as simulator:
            answer = await ask(simulator)
            assert (answer.status, answer.text) == (status, "")
            assert not simulator.ledger.calls[0].whole


async def test_a_login_page_comes_with_200(ask: Any, account: Account) -> None:
    async with Simulator(account, always("html_200")) as simulator:
        answer = await ask(simulator)
        assert answer.status == 200
        assert answer.headers["Content-Type"].startswith("text/html")
        assert "Sign in" in answer.text


async def test_a_reset_breaks_the_connection(ask: Any, account: Account) -> None:
    async with Simulator(account, always("reset")) as simulator:
        with pytest.raises(aiohttp.ClientConnectionError):
            await ask(simulator)
        assert simulator.ledger.calls[0].status == 0


@pytest.mark.parametrize("compress", [True, False], ids=["gzip", "plain"])
@pytest.mark.parametrize("fault", ["cut_body", "cut_chunked"])
async def test_a_cut_that_http_notices_is_a_payload_error(
    fault: str, compress: bool, ask: Any, account: Account
) -> None:
    profile = parse_profile({"faults": {fault: 1.0}, "dialect": {"gzip": compress}})
    async with Simulator(account, profile) as simulator:
        for _ in range(5):
            with pytest.raises(aiohttp.ClientPayloadError):
                await ask(simulator)
        assert all(len(call.rows) < len(account) for call in simulator.ledger.calls)
        assert simulator.ledger.rows_answered() == 0


async def _raw(simulator: Simulator, body: bytes, accept: str) -> tuple[Any, bytes]:
    """Read an answer as it comes, without inflating it."""
    async with (
        aiohttp.ClientSession(auto_decompress=False) as session,
        session.post(
            f"{simulator.url}/api/v2/soap/2.0", data=body, headers={"Accept-Encoding": accept}
        ) as response,
    ):
        return response.headers, await response.read()


async def test_a_close_delimited_cut_looks_like_an_end(make_request: Any, account: Account) -> None:
    async with Simulator(account, always("cut_close_delimited")) as simulator:
        for _ in range(5):
            headers, data = await _raw(simulator, make_request(simulator.token), "identity")
            assert "Content-Length" not in headers
            assert "Transfer-Encoding" not in headers
            assert data.startswith(b"<?xml")
            with pytest.raises(etree.XMLSyntaxError):
                etree.fromstring(data)
            assert data.count(b"</enrollment>") == len(simulator.ledger.calls[-1].rows)


async def test_a_cut_gzip_is_whole_by_the_rules_of_http(
    make_request: Any, account: Account
) -> None:
    async with Simulator(account, always("cut_gzip")) as simulator:
        _, data = await _raw(simulator, make_request(simulator.token), "gzip")
        with pytest.raises(EOFError):
            gzip.decompress(data)
        text = zlib.decompressobj(31).decompress(data)
        assert text.count(b"</enrollment>") == len(simulator.ledger.calls[0].rows)


async def test_an_empty_answer_can_be_cut_too(make_request: Any) -> None:
    async with Simulator(Account(1, 1, 0), always("cut_close_delimited")) as simulator:
        _, data = await _raw(simulator, make_request(simulator.token), "identity")
        assert data.endswith(b"<GetEnrollmentsResult>")


async def test_a_wrong_label_says_br(make_request: Any, account: Account) -> None:
    async with Simulator(account, always("wrong_encoding")) as simulator:
        headers, data = await _raw(simulator, make_request(simulator.token), "gzip")
        assert headers["Content-Encoding"] == "br"
        assert gzip.decompress(data).endswith(b"</SOAP-ENV:Envelope>")


async def test_a_slow_drip_takes_its_time(fake_time: Any, ask: Any, account: Account) -> None:
    profile = always("slow_drip", drip_bytes_per_s=1000)
    async with Simulator(
        account, profile, clock=fake_time.clock, sleep=fake_time.sleep
    ) as simulator:
        answer = await ask(simulator, learners=list(account.learner_ids[:3]))
        (call,) = simulator.ledger.calls
        assert len(answer.enrollments) == len(call.rows)
        assert call.finished_s is not None
        assert call.finished_s - call.started_s >= call.body_bytes / 1000


async def test_a_server_fault_has_the_code_server(ask: Any, account: Account) -> None:
    async with Simulator(account, always("server_fault")) as simulator:
        answer = await ask(simulator)
        assert (answer.status, answer.fault) == (500, "Internal error")
        assert answer.texts("faultcode") == ["Server"]


async def test_an_echo_quotes_the_token_everywhere(ask: Any, account: Account) -> None:
    token = "a<b>&\t'c]]>"
    async with Simulator(account, always("echo_token"), token=token) as simulator:
        answer = await ask(simulator)
        on_one_line = "a<b>& 'c]]>"
        assert on_one_line in answer.reason
        assert answer.headers["X-Debug-Token"] == on_one_line
        assert token in (answer.fault or "")
        assert token not in repr(simulator.ledger.calls)


async def test_a_redirect_leads_elsewhere_and_followers_are_seen(
    ask: Any, session: aiohttp.ClientSession, account: Account
) -> None:
    async with Simulator(account, always("redirect")) as simulator:
        seen = {(await ask(simulator)).status for _ in range(20)}
        assert seen == {302, 307, 308}
        answer = await ask(simulator)
        moved = answer.headers["Location"]
        assert simulator.ledger.calls_of(moved) == []
        async with session.post(simulator.url + moved, data=b"secret") as response:
            assert response.status == 404
        assert len(simulator.ledger.calls_of(moved)) == 1


async def test_a_returned_cookie_is_seen(account: Account, make_request: Any) -> None:
    async with Simulator(account, always("set_cookie")) as simulator:
        jar = aiohttp.CookieJar(unsafe=True)
        async with aiohttp.ClientSession(cookie_jar=jar) as session:
            for _ in range(2):
                url, body = f"{simulator.url}/api/v2/soap/2.0", make_request(simulator.token)
                async with session.post(url, data=body) as response:
                    assert (await response.text()).endswith("</SOAP-ENV:Envelope>")
        assert [call.sent_cookie for call in simulator.ledger.calls] == [False, True]
        assert all(call.whole for call in simulator.ledger.calls)


async def test_faults_of_content(ask: Any, account: Account) -> None:
    learners = list(account.learner_ids[:20])
    asked = [account.enrollment(index) for index in account.select(learners, None)]

    async def rows(fault: str) -> Any:
        async with Simulator(account, always(fault)) as simulator:
            answer = await ask(simulator, learners=learners)
            (call,) = simulator.ledger.calls
            assert call.fault == fault
            assert len(call.rows) == len(answer.enrollments)
            return answer.enrollments, call.whole

    everything, whole = await rows("ignore_filter")
    assert (everything, whole) == (list(account.enrollments()), False)

    with_foreign, whole = await rows("foreign_row")
    assert len(with_foreign) == len(asked) + 1
    assert [row for row in with_foreign if row.learner_id in learners] == asked
    assert not whole

    twice, whole = await rows("duplicate_rows")
    assert len(twice) > len(asked)
    assert set(twice) == set(asked)
    assert whole

    conflicting, whole = await rows("conflicting_duplicate")
    assert conflicting[1:] == asked
    assert conflicting[0] not in asked
    assert conflicting[0].enrollment_id in {row.enrollment_id for row in asked}
    assert whole


async def test_an_unreadable_value_is_one_bad_date(make_request: Any, account: Account) -> None:
    async with Simulator(account, always("unreadable_value")) as simulator:
        _, data = await _raw(simulator, make_request(simulator.token), "identity")
        days = [element.text for element in etree.fromstring(data).iter("{*}accessDate")]
        assert len(days) == len(account)
        assert days.count("2022-13-45") == 1
        assert sorted(simulator.ledger.calls[0].rows) == list(range(len(account)))


async def test_malformed_xml_is_not_xml(make_request: Any, account: Account) -> None:
    async with Simulator(account, always("malformed_xml")) as simulator:
        _, data = await _raw(simulator, make_request(simulator.token), "identity")
        with pytest.raises(etree.XMLSyntaxError):
            etree.fromstring(data)


@pytest.mark.parametrize(
    "fault", ["ignore_filter", "foreign_row", "duplicate_rows", "unreadable_value"]
)
async def test_a_fault_with_nothing_to_work_on_is_no_fault(fault: str, ask: Any) -> None:
    async with Simulator(Account(3, 2, 0), always(fault)) as simulator:
        assert (await ask(simulator)).enrollments == []
        assert (await ask(simulator, "GetUsersRequest")).status == 200
        assert [call.fault for call in simulator.ledger.calls] == [None, None]


async def test_poison_fails_every_call_it_is_in(ask: Any, account: Account) -> None:
    bad, good = account.learner_ids[3], account.learner_ids[4]
    profile = parse_profile({"permanent": {"poison_learners": [bad], "poison_courses": 0.5}})
    async with Simulator(account, profile) as simulator:
        assert simulator.poison_learners == {bad}
        assert simulator.poison_courses < set(account.course_ids)
        assert (await ask(simulator, learners=[good, bad])).fault == "Wrong parameters"
        poison = sorted(simulator.poison_courses)
        assert (await ask(simulator, courses=poison[:1])).fault == "Wrong parameters"
        assert (await ask(simulator, learners=[good])).fault is None


async def test_what_is_wrong_for_good(ask: Any, account: Account) -> None:
    for permanent, call, fault in (
        ({"subscription_expired": True}, {}, "Account subscription expired"),
        ({"permission_denied": True}, {}, "Permission denied"),
        ({"unknown_ids": "fault"}, {"learners": ["x"]}, "Unknown user"),
        ({"unknown_ids": "fault"}, {"courses": ["x"]}, "Unknown content item"),
        ({"unknown_ids": "fault"}, {"courses": account.course_ids}, None),
    ):
        profile = parse_profile({"permanent": permanent, "dialect": {"fault_status": 200}})
        async with Simulator(account, profile) as simulator:
            answer = await ask(simulator, **call)
            assert (answer.status, answer.fault) == (200, fault)


@pytest.mark.parametrize("past", ["413", "414", "429", "503", "504"])
@pytest.mark.parametrize("limit", ["max_ids", "max_rows", "max_request_bytes", "max_calls_per_s"])
async def test_a_call_past_a_limit_gets_its_status(
    limit: str, past: str, fake_time: Any, ask: Any, account: Account
) -> None:
    at = {"max_ids": 2, "max_rows": 100, "max_request_bytes": 700, "max_calls_per_s": 1}[limit]
    rule = {"at": at, "past": past, "retry_after_s": 2, "timeout_s": 30}
    async with Simulator(
        account,
        parse_profile({"limits": {limit: rule}}),
        clock=fake_time.clock,
        sleep=fake_time.sleep,
    ) as simulator:
        small = await ask(simulator, learners=list(account.learner_ids[:2]))
        large = await ask(simulator, learners=list(account.learner_ids))
        assert (small.status, large.status) == (200, int(past))
        assert large.headers["Retry-After"] == "2"
        call = simulator.ledger.calls[1]
        assert call.fault == limit
        assert call.finished_s is not None
        assert call.finished_s - call.started_s == (30 if past == "504" else 0)


async def test_calls_past_the_limit_a_minute_are_refused_until_the_next_one(
    fake_time: Any, ask: Any, account: Account
) -> None:
    rule = {"at": 2, "past": "429"}
    async with Simulator(
        account,
        parse_profile({"limits": {"max_calls_per_min": rule}}),
        clock=fake_time.clock,
        sleep=fake_time.sleep,
    ) as simulator:
        statuses = []
        for wait_s in (50, 0, 9, 2, 0, 0):
            await fake_time.sleep(wait_s)
            statuses.append((await ask(simulator)).status)
        assert statuses == [200, 200, 429, 200, 200, 429]
        assert simulator.ledger.calls[2].fault == "max_calls_per_min"


async def test_calls_past_the_limit_in_flight_are_refused(ask: Any, account: Account) -> None:
    together, leave = asyncio.Event(), asyncio.Event()
    inside = 0

    async def sleep(seconds: float) -> None:
        nonlocal inside
        if seconds:
            inside += 1
            if inside == 2:
                together.set()
            await leave.wait()

    profile = parse_profile(
        {
            "latency": {"base_ms": 1},
            "limits": {"max_in_flight": {"at": 2, "past": "429", "retry_after_s": 1}},
        }
    )
    async with Simulator(account, profile, sleep=sleep) as simulator:
        served = [asyncio.create_task(ask(simulator)) for _ in range(2)]
        async with asyncio.timeout(5):
            await together.wait()
        refused = await ask(simulator)
        assert (refused.status, refused.headers["Retry-After"]) == (429, "1")
        leave.set()
        assert [(await answer).status for answer in served] == [200, 200]
        assert (await ask(simulator)).status == 200
        assert simulator.ledger.max_in_flight == 3


async def test_a_silent_cap_answers_less_and_says_nothing(ask: Any, account: Account) -> None:
    ids = list(account.learner_ids)
    for limit, expected in (
        ("max_rows", [account.enrollment(index) for index in range(25)]),
        ("max_ids", [account.enrollment(index) for index in account.select(ids[:25], None)]),
    ):
        profile = parse_profile({"limits": {limit: {"at": 25, "past": "silent-cap"}}})
        async with Simulator(account, profile) as simulator:
            answer = await ask(simulator, learners=ids)
            assert (answer.status, answer.enrollments) == (200, expected)
            (call,) = simulator.ledger.calls
            assert (call.fault, call.whole) == (limit, False)


async def test_trouble_comes_and_goes_by_schedule(
    fake_time: Any, ask: Any, account: Account
) -> None:
    profile = parse_profile(
        {
            "schedule": [
                {"from_s": 10, "to_s": 20, "error_rate": 1.0},
                {"from_s": 20, "to_s": 30, "outage": True},
            ]
        }
    )
    async with Simulator(account, profile, clock=fake_time.clock) as simulator:
        statuses = []
        for _ in range(2):
            statuses.append((await ask(simulator)).status)
            fake_time.now_s += 10
        with pytest.raises(aiohttp.ClientConnectionError):
            await ask(simulator)
        fake_time.now_s += 10
        statuses.append((await ask(simulator)).status)
        assert statuses == [200, 503, 200]
        assert [call.fault for call in simulator.ledger.calls] == [
            None,
            "brown-out",
            "outage",
            None,
        ]


async def test_latency_and_bandwidth_take_time(fake_time: Any, ask: Any, account: Account) -> None:
    profile = parse_profile(
        {
            "latency": {"base_ms": 100, "per_row_us": 1000, "tail_share": 1, "tail_factor": 2},
            "capacity": {"bandwidth_bytes_per_s": 1000, "slots": 4},
            "schedule": [{"from_s": 0, "to_s": 1, "capacity_factor": 0.5}],
        }
    )
    async with Simulator(
        account, profile, clock=fake_time.clock, sleep=fake_time.sleep
    ) as simulator:
        await ask(simulator)
        (call,) = simulator.ledger.calls
        assert call.finished_s is not None
        assert call.finished_s - call.started_s == pytest.approx(
            2 * (0.1 + len(account) / 1000) + call.body_bytes / 1000
        )


async def test_a_seed_repeats_a_run(ask: Any, account: Account) -> None:
    profile = parse_profile({"faults": {"http_503": 0.3, "foreign_row": 0.3, "server_fault": 0.2}})

    async def run(seed: int) -> list[tuple[str | None, list[int]]]:
        async with Simulator(account, profile, seed=seed) as simulator:
            for learner in account.learner_ids[:20]:
                await ask(simulator, learners=[learner])
            return [(call.fault, list(call.rows)) for call in simulator.ledger.calls]

    first, again, other = await run(1), await run(1), await run(2)
    assert first == again != other
