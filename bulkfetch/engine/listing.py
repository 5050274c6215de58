"""List the account's ids, page by page: ListUsers for learners, listContent for courses.

Pages are sequential by nature, since each names the next; so one is asked for at a time, through
the same token desk, transport, Retry-After gate and retry quota as everything else. A page that
failed is never the end of the listing, and a page is handed on before the next one is asked for, so
that a listing that was stopped goes on after its last page.

A page token is the service's, and may be good for a while only: one that was kept from an earlier
run and is rejected makes the listing begin anew, once. Ids that come more than once count once:
people are added while pages are read.
"""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from http import HTTPStatus

from bulkfetch.engine.asking import Reply, Service, ask_surely, note_verdict, send
from bulkfetch.engine.outcome import Counters
from bulkfetch.errors import (
    CallError,
    ConnectionFailedError,
    ContentError,
    FatalError,
    ListingError,
    MalformedAnswerError,
    OverloadedError,
    RepeatedPageTokenError,
    ServerFailedError,
    TimedOutError,
    TransientError,
)
from bulkfetch.http.tokens import Lease
from bulkfetch.http.transport import Answer
from bulkfetch.pace.controller import Pace
from bulkfetch.pace.retry import RetryPolicy, retrying
from bulkfetch.plan.rectangle import Axis
from bulkfetch.wire.envelope import write_listing
from bulkfetch.wire.listing import LISTINGS, Page, PageReader

PAGE_SIZE = 1_000
_VAIN_PAGES = 100
# A service that is out fails so; one that keeps answering, but no page, is waited for in vain.
_OF_THE_SERVICE = (ConnectionFailedError, OverloadedError, ServerFailedError, TimedOutError)


@dataclass(frozen=True, slots=True)
class ListedPage:
    """One page of a listing, as it is handed on.

    Attributes:
        axis: whose ids they are.
        position: 0 for the first page.
        token: what the page was asked for with; "" for the first one.
        next_token: what the next one is asked for with; "" at the end.
        ids: as listed, each once.
        items: how many were listed.
        latency_s: seconds of the call that answered.
        received_at: seconds since 1970.
    """

    axis: Axis
    position: int
    token: str
    next_token: str
    ids: tuple[str, ...]
    items: int
    latency_s: float
    received_at: float


@dataclass(slots=True)
class _Attempts:
    """The life of one page; `cost` is what its latest retry was charged."""

    first_at: float
    made: int = 0
    cost: int | None = None


class Lister:
    """Lists the ids of an axis.

    A page that keeps failing costs as many attempts as a batch may have; while the failures are
    such that the service may be out, it is asked for until an outage has lasted as long as it may.

    Args:
        service: where to ask, with what, and the seam.
        counters: where the numbers go.
        policy: attempts and backoff of a page.
        pace: the account's: when calls may begin, what retries cost, how long an outage may last.
        deadline: on the runtime's clock, when the last call may begin; None for never.
    """

    def __init__(
        self,
        service: Service,
        counters: Counters,
        policy: RetryPolicy,
        pace: Pace,
        *,
        deadline: float | None = None,
    ) -> None:
        self._service = service
        self._counters = counters
        self._policy = policy
        self._pace = pace
        self._deadline = float("inf") if deadline is None else deadline

    async def list_ids(
        self,
        axis: Axis,
        pages: Sequence[ListedPage],
        hand_on: Callable[[ListedPage], Awaitable[None]],
        forget: Callable[[], Awaitable[None]],
    ) -> tuple[str, ...]:
        """List all ids of an axis.

        Args:
            axis: users for learners, content items for courses.
            pages: what earlier runs have listed.
            hand_on: awaited with each page.
            forget: awaited when the pages, kept and handed on, are void: the listing begins anew.

        Returns:
            The ids, sorted; at least one.

        Raises:
            ListingError: a page cannot be had, the pages never end, or they hold no ids.
            FatalError: no call can succeed.
        """
        listed = list(pages)
        known = {unit for page in listed for unit in page.ids}
        vain = 0
        is_kept = bool(listed)  # the token that is asked with comes from an earlier run
        while not listed or listed[-1].next_token:
            try:
                page = await self._fetch(axis, listed)
            except FatalError:
                raise
            except CallError as error:
                if is_kept and isinstance(error, ContentError):
                    await forget()
                    listed, known, is_kept = [], set(), False
                    continue
                raise _failed(axis, listed, str(error)) from None
            is_kept = False
            await hand_on(page)
            listed.append(page)
            vain = vain + 1 if known.issuperset(page.ids) else 0
            if vain > _VAIN_PAGES:
                raise _failed(axis, listed, f"{vain} pages in a row brought no new id.")
            known.update(page.ids)
        if not known:
            # Not kept: people may be added, or the role be given more to see.
            await forget()
            raise ListingError(
                f"The account lists no {axis.value}, so that there is nothing to fetch. Check that "
                "the token's role may see them."
            )
        return tuple(sorted(known))

    async def _fetch(self, axis: Axis, listed: Sequence[ListedPage]) -> ListedPage:
        """Ask for the page after those listed, until it is there or cannot be had.

        Raises:
            CallError: it cannot.
        """
        runtime, pace = self._service.runtime, self._pace
        attempts = _Attempts(first_at=runtime.clock())

        def should_retry(error: TransientError) -> bool:
            is_worth_it = self._is_worth_it(attempts, error)
            self._counters.retries += is_worth_it
            return is_worth_it

        async for attempt in retrying(
            self._policy, runtime.random, should_retry=should_retry, sleep=runtime.sleep
        ):
            with attempt:
                await self._wait_for_permit(axis, listed)
                attempts.made += 1
                try:
                    page = await self._ask_surely(axis, listed)
                except TransientError as error:
                    if error.retry_after_s is not None:
                        pace.gate.shut(error.retry_after_s, runtime.clock())
                    raise
        pace.quota.on_success(attempts.cost)
        return page

    def _is_worth_it(self, attempts: _Attempts, error: TransientError) -> bool:
        pace, now = self._pace, self._service.runtime.clock()
        if attempts.made < self._policy.attempts:
            attempts.cost = pace.quota.charge(after_timeout=isinstance(error, TimedOutError))
            if attempts.cost is not None:
                return True
        lasted_s = now - attempts.first_at
        is_refusal = error.status == HTTPStatus.TOO_MANY_REQUESTS
        may_last_s = pace.health.may_last_s(is_refusal=is_refusal)
        return isinstance(error, _OF_THE_SERVICE) and lasted_s < may_last_s

    async def _wait_for_permit(self, axis: Axis, listed: Sequence[ListedPage]) -> None:
        """Wait for the gate and the rate.

        Raises:
            ListingError: the deadline comes first.
        """
        runtime, pace = self._service.runtime, self._pace
        while (now := runtime.clock()) < self._deadline:
            wait_s = pace.wait_s(now)
            if wait_s <= 0:
                pace.rate.begin(now)
                return
            await runtime.sleep(min(wait_s, self._deadline - now))
        raise _failed(axis, listed, "The time given with the deadline was over.")

    async def _ask_surely(self, axis: Axis, listed: Sequence[ListedPage]) -> ListedPage:
        """Make one attempt."""
        service, listing = self._service, LISTINGS[axis]
        clock, token = service.runtime.clock, _token_after(listed)

        async def ask(lease: Lease, *, fresh: bool) -> Reply[ListedPage]:
            asked_at = clock()

            async def read(answer: Answer) -> ListedPage:
                reader = PageReader(listing)
                async for chunk in answer.chunks():
                    reader.feed(chunk)
                found = await service.runtime.offload(reader.finish)
                page = await note_verdict(found, answer, service, lease)
                self._check(page, listed)
                return ListedPage(
                    axis=axis,
                    position=len(listed),
                    token=token,
                    next_token=page.next_token,
                    ids=page.ids,
                    items=page.items,
                    latency_s=clock() - asked_at,
                    received_at=service.runtime.wall_clock(),
                )

            body = write_listing(listing.operation, lease.token, PAGE_SIZE, token)
            return await send(
                service, self._counters, lease, listing.operation, body, read=read, fresh=fresh
            )

        return await ask_surely(
            ask,
            service.desk,
            self._counters,
            is_doubtful=_is_doubtful,
            wait_again=lambda: self._wait_for_permit(axis, listed),
        )

    def _check(self, page: Page, listed: Sequence[ListedPage]) -> None:
        """Refuse a page that leads back, or that would put the token into the journal.

        Raises:
            MalformedAnswerError: it does.
        """
        asked = {_token_after(listed), *(before.token for before in listed)}
        if page.next_token and page.next_token in asked:
            raise RepeatedPageTokenError(
                "The service names a page as the next that was asked for before (a repeated page "
                "token): the listing would never end."
            )
        kept = "\n".join((page.next_token, *page.ids))
        if self._service.redactor(kept) != kept:
            raise MalformedAnswerError("The page repeats a secret where an id should be.")


def _token_after(listed: Sequence[ListedPage]) -> str:
    return listed[-1].next_token if listed else ""


def _is_doubtful(result: ListedPage | CallError) -> bool:
    """Whether a late answer to another request could look like this."""
    if isinstance(result, ListedPage):
        return not result.items
    return isinstance(result, FatalError | ContentError)


def _failed(axis: Axis, listed: Sequence[ListedPage], cause: str) -> ListingError:
    return ListingError(
        f"The account's {axis.value} could not be listed to their end: page {len(listed) + 1} "
        f"failed. {cause}"
    )
