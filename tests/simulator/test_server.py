import asyncio
from collections import Counter
from typing import Any

import aiohttp
import aiohttp.web
import pytest

from bulkfetch.record import Enrollment
from bulkfetch.simulator import Account, Profile, Simulator, load_profile, parse_profile

HARD = "a<b>&\"' ]]> \t 😀"


@pytest.mark.parametrize("name", ["steady", "legacy", "slow"])
async def test_every_filter_gives_just_its_rows(name: str, ask: Any, account: Account) -> None:
    learners, courses = list(account.learner_ids[:20]), list(account.course_ids[:5])
    truth = list(account.enrollments())
    profile = load_profile(name)

    async def no_wait(_seconds: float) -> None:
        return

    async with Simulator(account, profile, sleep=no_wait) as simulator:
        for some_learners in (None, learners):
            for some_courses in (None, courses):
                answer = await ask(simulator, learners=some_learners, courses=some_courses)
                assert answer.status == 200
                assert answer.enrollments == [
                    row
                    for row in truth
                    if (some_learners is None or row.learner_id in some_learners)
                    and (some_courses is None or row.course_id in some_courses)
                ]


async def test_ids_with_special_characters_go_both_ways(ask: Any) -> None:
    rows = [Enrollment(f"e{HARD}", f"c{HARD}", f"l{HARD}"), Enrollment("e", "c", "l")]
    async with Simulator(Account.of(rows)) as simulator:
        answer = await ask(simulator, learners=[f"l{HARD}"], courses=[f"c{HARD}"])
        assert answer.enrollments == rows[:1]
        users = await ask(simulator, "GetUsersRequest")
        assert users.texts("userId") == [f"l{HARD}", "l"]


async def test_an_empty_list_is_no_filter_and_unknown_ids_are_skipped(
    ask: Any, account: Account
) -> None:
    async with Simulator(account) as simulator:
        everything = await ask(simulator, learners=[], courses=[])
        assert len(everything.enrollments) == len(account)
        assert (await ask(simulator, learners=["unknown"])).enrollments == []
        assert simulator.ledger.calls[0].learner_ids is None
        assert simulator.ledger.calls[1].learner_ids == ("unknown",)


@pytest.mark.parametrize("payload", ["http://ispringlearn.com/go/services/api/soap", ""])
@pytest.mark.parametrize("scheme", ["http", "https"])
async def test_requests_of_every_edition_are_understood(
    payload: str, scheme: str, ask: Any, account: Account
) -> None:
    soap = f"{scheme}://schemas.xmlsoap.org/soap/envelope/"
    async with Simulator(account) as simulator:
        learners = [account.learner_ids[0]]
        answer = await ask(simulator, learners=learners, soap=soap, payload=payload)
        assert answer.status == 200
        assert len(answer.enrollments) == len(account.select(learners, None))


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<a",
        b"<a/>",
        b"<!DOCTYPE a><a/>",
        b"\xff\xfe",
    ],
    ids=["empty", "cut", "not SOAP", "DOCTYPE", "not text"],
)
async def test_what_is_no_request_is_wrong_parameters(
    body: bytes, session: aiohttp.ClientSession, account: Account
) -> None:
    async with Simulator(account) as simulator:
        async with session.post(f"{simulator.url}/api/v2/soap/2.0", data=body) as response:
            assert response.status == 500
            assert "<faultstring>Wrong parameters</faultstring>" in await response.text()
        assert simulator.ledger.calls[0].operation == "unreadable"


@pytest.mark.parametrize(
    "request_", [{"operation": "DeleteEverything"}, {"payload": "urn:else"}], ids=str
)
async def test_an_operation_of_another_service_is_wrong_parameters(
    request_: dict[str, str], ask: Any, account: Account
) -> None:
    async with Simulator(account) as simulator:
        assert (await ask(simulator, **request_)).fault == "Wrong parameters"


@pytest.mark.parametrize(("kind", "element"), [("Users", "userId"), ("Content", "contentItemId")])
async def test_listings_come_whole_or_by_pages(
    kind: str, element: str, ask: Any, account: Account
) -> None:
    ids = list(account.learner_ids if kind == "Users" else account.course_ids)
    async with Simulator(account) as simulator:
        for operation in (f"Get{kind}Request", f"get{kind}", f"List{kind}Request"):
            whole = await ask(simulator, operation)
            assert whole.texts(element) == ids
            assert whole.texts("nextPageToken") == []
        found, page_token = [], ""
        while True:
            page = await ask(simulator, f"List{kind}Request", pageSize="5", pageToken=page_token)
            assert len(page.texts(element)) <= 5
            found += page.texts(element)
            if not page.texts("nextPageToken"):
                break
            (page_token,) = page.texts("nextPageToken")
        assert found == ids
        for wrong in ({"pageToken": "?"}, {"pageToken": "LTU="}, {"pageSize": "0"}):
            assert (await ask(simulator, f"List{kind}", **wrong)).fault == "Wrong parameters"


@pytest.mark.parametrize(
    ("failure", "status"), [("fault-500", 500), ("fault-200", 200), ("http-401", 401)]
)
async def test_a_wrong_token_is_refused_as_the_profile_says(
    failure: str, status: int, ask: Any, account: Account
) -> None:
    profile = parse_profile({"token": {"failure": failure}})
    async with Simulator(account, profile) as simulator:
        answer = await ask(simulator, token="wrong")
        assert answer.status == status
        if status != 401:
            assert answer.fault == "Authorization failed"
        assert simulator.ledger.calls[0].token_generation is None


async def _renew(session: aiohttp.ClientSession, simulator: Simulator, **changes: str) -> Any:
    form = {
        "client_id": simulator.client_id,
        "client_secret": simulator.client_secret,
        "grant_type": "client_credentials",
        **changes,
    }
    async with session.post(f"{simulator.url}/api/v3/token", data=form) as response:
        return response.status, await response.json()


async def test_a_token_dies_after_its_calls_and_a_new_one_works(
    ask: Any, session: aiohttp.ClientSession, account: Account
) -> None:
    async with Simulator(account, parse_profile({"token": {"calls": 2}})) as simulator:
        faults = [(await ask(simulator, learners=["x"])).fault for _ in range(3)]
        assert faults == [None, None, "Authorization failed"]
        status, answer = await _renew(session, simulator)
        assert status == 200
        assert answer["expires_in"] == 1800
        assert answer["token_type"] == "bearer"
        assert answer["access_token"] != simulator.token
        assert (await ask(simulator, token=answer["access_token"])).fault is None
        generations = [call.token_generation for call in simulator.ledger.calls]
        assert generations == [0, 0, None, None, 1]
        assert simulator.ledger.calls[3].operation == "token"


async def test_a_token_dies_after_its_lifetime(ask: Any, fake_time: Any, account: Account) -> None:
    profile = parse_profile({"token": {"lifetime_s": 60}})
    async with Simulator(account, profile, clock=fake_time.clock) as simulator:
        fake_time.now_s += 59
        assert (await ask(simulator, learners=["x"])).fault is None
        fake_time.now_s += 1
        assert (await ask(simulator, learners=["x"])).fault == "Authorization failed"


@pytest.mark.parametrize(
    ("changes", "status"),
    [({"client_id": "x"}, 401), ({"client_secret": "x"}, 401), ({"grant_type": "x"}, 400)],
    ids=str,
)
async def test_wrong_credentials_get_no_token(
    changes: dict[str, str], status: int, session: aiohttp.ClientSession, account: Account
) -> None:
    async with Simulator(account) as simulator:
        assert (await _renew(session, simulator, **changes))[0] == status


async def test_gzip_is_for_those_who_accept_it(
    session: aiohttp.ClientSession, make_request: Any, account: Account
) -> None:
    async def encoding(simulator: Simulator, accept: str) -> str | None:
        async with session.post(
            f"{simulator.url}/api/v2/soap/2.0",
            data=make_request(simulator.token),
            headers={"Accept-Encoding": accept},
        ) as response:
            assert (await response.text()).endswith("</SOAP-ENV:Envelope>")
            return response.headers.get("Content-Encoding")

    async with Simulator(account) as simulator:
        assert await encoding(simulator, "gzip, deflate") == "gzip"
        assert await encoding(simulator, "identity") is None
    async with Simulator(account, load_profile("legacy")) as simulator:
        assert await encoding(simulator, "gzip") is None


async def test_the_ledger_tells_what_was_asked_and_answered(ask: Any, account: Account) -> None:
    learners = list(account.learner_ids[:10])
    async with Simulator(account) as simulator:
        await ask(simulator, learners=learners)
        await ask(simulator, learners=learners, courses=account.course_ids[:1])
        await ask(simulator, "GetUsersRequest")
        ledger = simulator.ledger
    first, second = ledger.calls_of("GetEnrollments")
    assert (first.sequence, first.status, first.whole) == (0, 200, True)
    assert (first.learner_ids, first.course_ids) == (tuple(learners), None)
    assert list(first.rows) == list(account.select(learners, None))
    assert first.body_bytes > 0
    assert first.finished_s is not None
    assert ledger.calls[2].items == len(account.learner_ids)
    assert ledger.times_answered() == Counter(first.rows) + Counter(second.rows)
    statistics = ledger.statistics()
    assert statistics.rows_answered == ledger.rows_answered() == len(first.rows) + len(second.rows)
    assert statistics.calls_by_operation == {"GetEnrollments": 2, "GetUsers": 1}
    assert statistics.calls_by_status == {200: 3}
    assert (statistics.max_in_flight, ledger.in_flight) == (1, 0)


async def test_the_text_of_the_token_is_kept_nowhere_in_the_ledger(
    ask: Any, account: Account
) -> None:
    async with Simulator(account, token="t0ken-t3xt") as simulator:
        assert (await ask(simulator, learners=["x"])).status == 200
        assert "t0ken-t3xt" not in repr(simulator.ledger.calls) + repr(simulator)


async def test_other_addresses_and_methods_are_refused_and_seen(
    session: aiohttp.ClientSession, account: Account
) -> None:
    async with Simulator(account) as simulator:
        for path, status in (("/elsewhere", 404), ("/api/v2/soap/2.0", 405)):
            async with session.get(simulator.url + path) as response:
                assert response.status == status
        assert [call.operation for call in simulator.ledger.calls] == [
            "/elsewhere",
            "/api/v2/soap/2.0",
        ]


async def test_a_large_answer_leaves_the_loop_to_others(ask: Any) -> None:
    account = Account(learners=500, courses=20, enrollments=20_000)
    turns = 0

    async def count_turns() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    async with Simulator(account) as simulator:
        counting = asyncio.create_task(count_turns())
        answer = await ask(simulator)
        counting.cancel()
    assert len(answer.enrollments) == 20_000
    assert turns > 70  # at least one between any two pieces


async def test_a_client_that_goes_away_frees_its_slot(
    session: aiohttp.ClientSession, make_request: Any, account: Account
) -> None:
    stuck = asyncio.Event()

    async def sleep(seconds: float) -> None:
        if seconds > 1:
            stuck.set()
            await asyncio.Event().wait()

    profile = parse_profile(
        {"capacity": {"slots": 1}, "latency": {"base_ms": 5000, "tail_factor": 0}}
    )
    async with Simulator(account, profile, sleep=sleep) as simulator:
        url, body = f"{simulator.url}/api/v2/soap/2.0", make_request(simulator.token)
        for _ in range(2):  # the second call needs the slot of the first
            stuck.clear()
            call = asyncio.create_task(session.post(url, data=body).__aenter__())
            async with asyncio.timeout(5):
                await stuck.wait()
            call.cancel()
            await asyncio.gather(call, return_exceptions=True)


async def test_the_application_runs_on_a_server_of_one_s_own(
    session: aiohttp.ClientSession, make_request: Any, account: Account
) -> None:
    simulator = Simulator(account, Profile())
    runner = aiohttp.web.AppRunner(simulator.app)
    await runner.setup()
    await aiohttp.web.TCPSite(runner, "127.0.0.1", 0).start()
    host, port = runner.addresses[0]
    async with session.post(
        f"http://{host}:{port}/api/v2/soap/2.0", data=make_request(simulator.token)
    ) as response:
        assert response.status == 200
        await response.read()
    await runner.cleanup()
    assert simulator.ledger.rows_answered() == len(account)


async def test_a_taken_port_is_an_error(account: Account) -> None:
    async with Simulator(account) as simulator:
        port = int(simulator.url.rpartition(":")[2])
        with pytest.raises(OSError, match="in use"):
            await Simulator(account, port=port).__aenter__()
