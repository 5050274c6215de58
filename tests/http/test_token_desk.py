"""Tokens ahead of need, on a clock of the test's own."""

import anyio
import anyio.lowlevel

from bulkfetch.errors import ConnectionFailedError
from bulkfetch.http.tokens import IssuedToken, TokenDesk


class Source:
    """Issues numbered tokens that live for half an hour; each takes a moment."""

    can_renew = True

    def __init__(self, lifetime_s: float = 1800.0) -> None:
        self.issued = 0
        self.under_way = self.most_under_way = 0
        self.lifetime_s = lifetime_s
        self.is_down = False

    async def issue(self) -> IssuedToken:
        self.under_way += 1
        self.most_under_way = max(self.most_under_way, self.under_way)
        try:
            await anyio.sleep(0.01)
            if self.is_down:
                raise ConnectionFailedError("down")
            self.issued += 1
            return IssuedToken(f"token-{self.issued}", self.lifetime_s)
        finally:
            self.under_way -= 1


class Desk:
    def __init__(self, source: Source) -> None:
        self.now = 0.0
        self.desk = TokenDesk(source, clock=lambda: self.now, learn_secret=lambda _: None)

    async def token(self, needed_s: float = 0.0) -> str:
        async with self.desk.lease(needed_s) as lease:
            return lease.token


async def test_no_call_begins_with_a_token_that_it_would_outlive() -> None:
    desk = Desk(Source())
    assert await desk.token(10) == "token-1"
    desk.now = 1_500.0
    assert await desk.token(10) == "token-1"
    assert await desk.token(300) == "token-2"


async def test_a_call_longer_than_any_token_lives_gets_a_young_one_not_always_a_new_one() -> None:
    desk = Desk(Source(60.0))
    assert [await desk.token(500) for _ in range(3)] == ["token-1"] * 3
    desk.now = 30.0
    assert await desk.token(500) == "token-2"


async def test_one_worker_renews_ahead_of_need_and_the_others_do_not_wait() -> None:
    source = Source()
    desk = Desk(source)
    await desk.token()
    desk.now = 1_700.0  # not due before 1740
    tokens: list[str] = []

    async def work() -> None:
        tokens.append(await desk.token())

    async with anyio.create_task_group() as group:
        for _ in range(8):
            group.start_soon(work)
    assert source.issued == 2
    assert source.most_under_way == 1
    assert tokens == ["token-1"] * 7 + ["token-2"]


async def test_a_token_that_is_still_good_serves_while_the_next_cannot_be_had() -> None:
    source = Source()
    desk = Desk(source)
    await desk.token()
    source.is_down = True
    desk.now = 1_700.0
    assert await desk.token() == "token-1"
