"""Listing against a real server whose pages are scripted, one list of ids at a time."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiohttp import web
from lxml import etree

from bulkfetch.engine.fetch import make_pace
from bulkfetch.engine.listing import ListedPage, Lister
from bulkfetch.engine.outcome import Counters
from bulkfetch.errors import CredentialsError, ListingError
from bulkfetch.http.transport import Limits
from bulkfetch.options import Options
from bulkfetch.pace.retry import RetryPolicy
from bulkfetch.plan.rectangle import Axis
from bulkfetch.runtime import Runtime
from bulkfetch.service import Credentials, open_service
from bulkfetch.simulator import soap
from bulkfetch.simulator.profile import Dialect
from bulkfetch.simulator.render import render_listing

Answer = web.Response | str
Script = Callable[[str, int], Answer]
"""From a page token and how often it was asked for to what is answered."""

TOKEN = "secret-token-4711"


def page(ids: list[str], next_token: str = "") -> str:
    dialect = Dialect()
    frame = soap.frame(dialect, "GetUsersResult", next_token)
    return frame.head + render_listing(dialect, "userProfile", "userId", ids) + frame.tail


def fault(text: str, code: str = "client") -> web.Response:
    message = soap.fault_message(Dialect(), text, code)
    return web.Response(status=500, text=message, content_type="text/xml")


class Listing:
    """A server, a lister that asks it, and what it handed on."""

    def __init__(self, script: Script) -> None:
        self.asked: list[str] = []
        self.pages: list[ListedPage] = []
        self.forgotten = 0
        self.now = 1_000.0
        self.counters = Counters()
        self._script = script

    async def answer(self, request: web.Request) -> web.StreamResponse:
        body = await request.read()
        assert request.headers["SOAPAction"] == '"ListUsers"'
        asked = soap.read_request(body)
        assert (asked.operation, asked.page_size, asked.token) == ("ListUsers", 1000, TOKEN)
        assert b"<pageToken/>" not in body
        assert etree.fromstring(body) is not None
        self.asked.append(asked.page_token)
        answer = self._script(asked.page_token, self.asked.count(asked.page_token))
        if isinstance(answer, web.Response):
            return answer
        return web.Response(text=answer, content_type="text/xml")

    async def sleep(self, seconds: float) -> None:
        self.now += seconds

    async def keep(self, page: ListedPage) -> None:
        self.pages.append(page)

    async def forget(self) -> None:
        self.forgotten += 1
        self.pages.clear()


Listen = Callable[..., Any]


@pytest.fixture
def listing_of() -> Listen:
    """Serve a script and list it; the call after that goes on from the pages kept."""

    @asynccontextmanager
    async def serve(
        script: Script,
        attempts: int = 3,
        *,
        max_outage_s: float = 0.0,
        deadline: float | None = None,
    ) -> AsyncIterator[tuple[Listing, Callable[[], Awaitable[tuple[str, ...]]]]]:
        listing = Listing(script)
        app = web.Application()
        app.router.add_post("/api/v2/soap/2.0", listing.answer)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.05)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        options = Options(
            limits=Limits(total_s=5),
            retry=RetryPolicy(attempts=attempts),
            max_outage_s=max_outage_s,
        )
        try:
            runtime = Runtime(clock=lambda: listing.now, sleep=listing.sleep)
            async with open_service(url, Credentials(token=TOKEN), options, runtime) as service:

                async def run() -> tuple[str, ...]:
                    pace = make_pace(options, runtime)
                    lister = Lister(
                        service, listing.counters, options.retry, pace, deadline=deadline
                    )
                    pages = list(listing.pages)
                    return await lister.list_ids(Axis.LEARNERS, pages, listing.keep, listing.forget)

                yield listing, run
        finally:
            await runner.cleanup()

    return serve


PAGES = {"": page(["b", "a"], "t1"), "t1": page(["c", "a"], "t2"), "t2": page(["d"])}


def plainly(token: str, _times: int) -> str:
    return PAGES[token]


async def test_all_pages_are_listed_and_ids_that_come_again_count_once(listing_of: Listen) -> None:
    async with listing_of(plainly) as (listing, run):
        assert await run() == ("a", "b", "c", "d")
        assert listing.asked == ["", "t1", "t2"]
        assert [kept.ids for kept in listing.pages] == [("b", "a"), ("c", "a"), ("d",)]
        assert [kept.position for kept in listing.pages] == [0, 1, 2]


async def test_a_complete_listing_is_not_asked_for_again(listing_of: Listen) -> None:
    async with listing_of(plainly) as (listing, run):
        first = await run()
        assert await run() == first
        assert len(listing.asked) == 3


@pytest.mark.parametrize(
    "failure",
    [
        lambda: web.Response(status=503),
        lambda: web.Response(text=""),
        lambda: web.Response(status=204),
        lambda: web.Response(text="<html><body>Sign in</body></html>", content_type="text/html"),
        lambda: web.Response(text=PAGES["t1"][:-12]),
        lambda: web.Response(text=page(["x"], "t1")),
        lambda: web.Response(text=page(["x"], "")[:150]),
        lambda: fault("Internal error", "Server"),
        lambda: web.Response(text=soap.fault_message(Dialect(), "Internal error", "Server")),
        lambda: web.Response(text=page([TOKEN], "t9")),
        lambda: web.Response(text=page(["x"], f"t-{TOKEN}")),
    ],
    ids=[
        "503", "empty", "204", "HTML", "cut", "repeats its token", "cut early", "Server fault",
        "Server fault with 200", "the secret as an id", "the secret in the page token",
    ],
)  # fmt: skip
async def test_a_page_that_fails_is_retried_and_never_the_end(
    listing_of: Listen, failure: Callable[[], web.Response]
) -> None:
    def once(token: str, times: int) -> Answer:
        return failure() if (token, times) == ("t1", 1) else PAGES[token]

    async with listing_of(once) as (listing, run):
        assert await run() == ("a", "b", "c", "d")
        assert listing.asked == ["", "t1", "t1", "t2"]
        assert listing.counters.retries == 1

    def for_ever(token: str, _times: int) -> Answer:
        return failure() if token == "t1" else PAGES[token]

    async with listing_of(for_ever) as (listing, run):
        with pytest.raises(ListingError, match=r"learners could not be listed .* page 2 failed"):
            await run()
        assert listing.asked == ["", "t1", "t1", "t1"]
        # What was listed is kept, and the next run goes on after it.
        assert [kept.ids for kept in listing.pages] == [("b", "a")]
        with pytest.raises(ListingError):
            await run()
        assert listing.asked[4:] == ["t1"] * 3


async def test_tokens_that_lead_back_are_an_error(listing_of: Listen) -> None:
    def round_and_round(token: str, _times: int) -> str:
        return page([f"of {token}"], {"": "t1", "t1": "t2", "t2": "t1"}[token])

    async with listing_of(round_and_round) as (listing, run):
        with pytest.raises(ListingError, match=r"page 3 failed.*repeated page token"):
            await run()
        assert listing.asked == ["", "t1", "t2", "t2", "t2"]


async def test_pages_without_anything_new_come_to_an_end(listing_of: Listen) -> None:
    def on_and_on(token: str, _times: int) -> str:
        return page(["a"], f"t{int(token[1:] or 0) + 1}")

    async with listing_of(on_and_on) as (listing, run):
        with pytest.raises(ListingError, match="pages in a row brought no new id"):
            await run()
        assert len(listing.asked) == 102


async def test_an_empty_page_in_the_middle_is_not_the_end(listing_of: Listen) -> None:
    pages = {"": page(["a"], "t1"), "t1": page([], "t2"), "t2": page(["b"])}
    async with listing_of(lambda token, _times: pages[token]) as (listing, run):
        assert await run() == ("a", "b")
        # Asked twice: on a connection that had served, a late answer could look like it.
        assert listing.asked == ["", "t1", "t1", "t2"]
        assert listing.counters.confirmations == 1


async def test_an_account_without_users_is_an_error_and_asked_anew(listing_of: Listen) -> None:
    answers = [page([]), page([]), page(["a"])]
    async with listing_of(lambda _token, times: answers[times - 1]) as (listing, run):
        with pytest.raises(ListingError, match="lists no learners"):
            await run()
        assert listing.pages == []
        listing.asked.append("")  # the script goes on
        assert await run() == ("a",)


async def test_a_kept_token_that_is_refused_begins_the_listing_anew_once(
    listing_of: Listen,
) -> None:
    def expired(token: str, times: int) -> Answer:
        if token == "t1" and times == 1:
            return web.Response(status=503)
        return fault("Wrong parameters") if token == "t1" and times <= 5 else PAGES[token]

    async with listing_of(expired, 1) as (listing, run):
        with pytest.raises(ListingError, match="503"):
            await run()
        assert len(listing.pages) == 1
        # The kept token is refused, all is listed anew, and one of this run's is refused, too.
        with pytest.raises(ListingError, match=r"page 2 failed.*Wrong parameters"):
            await run()
        assert listing.forgotten == 1
        assert listing.asked[:2] == ["", "t1"]
        assert listing.asked.count("") == 2
        assert [kept.ids for kept in listing.pages] == [("b", "a")]


async def test_a_fatal_answer_stops_at_once(listing_of: Listen) -> None:
    async with listing_of(lambda *_: fault("Permission denied")) as (listing, run):
        with pytest.raises(CredentialsError, match="may not make it"):
            await run()
        assert listing.asked == [""]


async def test_an_outage_is_waited_for_as_long_as_it_may_last(listing_of: Listen) -> None:
    started_at = 1_000.0
    for lasts_s, is_survived in ((400.0, True), (700.0, False)):

        def out(token: str, _times: int) -> Answer:
            is_out = token == "t1" and listing.now < started_at + lasts_s  # noqa: B023
            return web.Response(status=502) if is_out else PAGES[token]

        async with listing_of(out, max_outage_s=600.0) as (listing, run):
            if is_survived:
                assert await run() == ("a", "b", "c", "d")
                assert listing.now >= started_at + lasts_s
            else:
                with pytest.raises(ListingError, match=r"page 2 failed.*502"):
                    await run()
                assert 600 <= listing.now - started_at < 640
            assert listing.asked.count("t1") < 120


async def test_refusals_are_no_outage_however_short_one_may_be(listing_of: Listen) -> None:
    def busy(token: str, _times: int) -> Answer:
        is_busy = token == "t1" and listing.now < 1_300.0
        return web.Response(status=429) if is_busy else PAGES[token]

    async with listing_of(busy, max_outage_s=20.0) as (listing, run):
        assert await run() == ("a", "b", "c", "d")
        assert listing.now >= 1_300


async def test_retry_after_is_respected_between_pages(listing_of: Listen) -> None:
    def busy(token: str, times: int) -> Answer:
        if (token, times) == ("t1", 1):
            return web.Response(status=429, headers={"Retry-After": "100"})
        return PAGES[token]

    async with listing_of(busy) as (listing, run):
        assert await run() == ("a", "b", "c", "d")
        assert 1_100 <= listing.now < 1_200


async def test_no_page_is_asked_for_after_the_deadline(listing_of: Listen) -> None:
    def busy(_token: str, _times: int) -> Answer:
        return web.Response(status=429, headers={"Retry-After": "100"})

    async with listing_of(busy, 50, max_outage_s=9_000.0, deadline=1_250.0) as (listing, run):
        with pytest.raises(ListingError, match="deadline was over"):
            await run()
        assert listing.now == pytest.approx(1_250)
        assert 2 <= len(listing.asked) <= 3
