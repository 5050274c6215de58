"""One run in virtual time, through one of two doors, and the figures of it.

Direct: the engine over the simulator's own decisions, seconds of processor time for a million rows.
HTTP: the public client, aiohttp, the server, XML. Both count calls by the service's ledger.
"""

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from pace.cases import Case
from virtual_time import DAY_S, run_virtually

from bulkfetch.client import Client
from bulkfetch.engine.batch import Batch
from bulkfetch.engine.call import Caller
from bulkfetch.engine.fetch import fetch_region
from bulkfetch.engine.outcome import Counters
from bulkfetch.errors import BulkfetchError
from bulkfetch.http.tokens import TokenDesk
from bulkfetch.options import Options
from bulkfetch.plan.region import PairSet, Region, rest_of
from bulkfetch.runtime import Runtime
from bulkfetch.simulator import Account, Call, Simulator
from bulkfetch.simulator.direct import DirectExchange, DirectTokens, RowFacts
from bulkfetch.simulator.faults import open_windows
from bulkfetch.simulator.profile import Dialect, Profile
from bulkfetch.simulator.render import RecordRenderer
from bulkfetch.simulator.rows import SeededRows

_MINUTE_S = 60.0
_TOO_MANY_REQUESTS = 429


@dataclass(frozen=True, slots=True)
class Figures:
    """What one run came to.

    Attributes:
        makespan_s: virtual seconds from the beginning to the end.
        calls: requests for enrollments that reached the service.
        rows_sent: rows that the service put into answers, whatever became of them.
        rows_wanted: rows in the region, less those of poisoned ids.
        rows_missing: of those wanted, how many were not handed on.
        peak_in_flight: most calls at the service at once.
        over_limit_s: seconds with more calls at the service than it serves or lets in.
        refused_late: share of the calls after the first minute that were answered 429.
    """

    makespan_s: float
    calls: int
    rows_sent: int
    rows_wanted: int
    rows_missing: int
    peak_in_flight: int
    over_limit_s: float
    refused_late: float


def measure(
    case: Case, options: Options, *, over_http: bool = False, limit_s: float = DAY_S
) -> Figures:
    """Run a case with these options and return the figures.

    Raises:
        HangError: It takes longer than `limit_s` virtual seconds.
    """
    makespan_s, simulator, handed_on = fetch(case, options, over_http=over_http, limit_s=limit_s)
    calls = [call for call in simulator.ledger.calls if call.operation != "token"]
    wanted = _wanted(simulator, case.region())
    late = [call for call in calls if call.started_s >= _MINUTE_S]
    refused = sum(call.status == _TOO_MANY_REQUESTS for call in late)
    return Figures(
        makespan_s=makespan_s,
        calls=len(calls),
        rows_sent=sum(len(call.rows) for call in calls),
        rows_wanted=sum(wanted),
        rows_missing=sum(map(int.__gt__, wanted, handed_on)),
        peak_in_flight=simulator.ledger.max_in_flight,
        over_limit_s=seconds_over_limit(case.profile, calls),
        refused_late=refused / len(late) if late else 0.0,
    )


def fetch(
    case: Case, options: Options, *, over_http: bool, limit_s: float = DAY_S
) -> tuple[float, Simulator, bytearray]:
    """Fetch a case's region; return the makespan, the simulator, and marks of the rows got.

    Raises:
        HangError: It takes longer than `limit_s` virtual seconds.
    """
    account = case.account()
    handed_on = bytearray(len(account))

    async def main(runtime: Runtime) -> tuple[float, Simulator, bytearray]:
        simulator = Simulator(account, case.profile, seed=case.seed, clock=runtime.clock)
        through = _fetch_over_http if over_http else _fetch_directly
        with contextlib.suppress(BulkfetchError):  # the rows that are missing say so
            await through(simulator, case, options, runtime, handed_on)
        return runtime.clock(), simulator, handed_on

    return run_virtually(main, seed=case.seed, limit_s=limit_s)


async def _fetch_directly(
    simulator: Simulator, case: Case, options: Options, runtime: Runtime, handed_on: bytearray
) -> None:
    counters = Counters()
    region = case.region()
    caller = direct_caller(simulator, region, options, runtime, counters)

    async def note(batch: Batch[Sequence[int]]) -> None:
        for rows in batch.fetched.rows:
            for index in rows:
                handed_on[index] = 1

    await fetch_region(
        region,
        rest_of(region, []),
        caller,
        note,
        options=options,
        runtime=runtime,
        counters=counters,
    )


def direct_caller(
    simulator: Simulator,
    region: Region,
    options: Options,
    runtime: Runtime,
    counters: Counters,
) -> Caller[Sequence[int]]:
    """Return what asks the simulator without HTTP, with a token that nobody has to give."""
    desk = TokenDesk(DirectTokens(simulator), clock=runtime.clock, learn_secret=lambda _: None)
    exchange = DirectExchange(
        simulator,
        row_facts(simulator.account, simulator.profile.dialect),
        desk=desk,
        limits=options.limits,
        runtime=runtime,
        counters=counters,
        region=region,
    )
    return Caller(exchange, desk, counters)


async def _fetch_over_http(
    simulator: Simulator, case: Case, options: Options, runtime: Runtime, handed_on: bytearray
) -> None:
    account = simulator.account
    assert isinstance(account.rows, SeededRows)
    index_of = {
        key: index for index, (key, _, _) in enumerate(account.rows.keys(range(len(account))))
    }
    async with (
        simulator,
        Client(
            simulator.url,
            client_id=simulator.client_id,
            client_secret=simulator.client_secret,
            options=options,
            runtime=runtime,
        ) as client,
    ):
        async for rows in client.fetch_region(case.region()).lists():
            for row in rows:
                handed_on[index_of[row.enrollment_id]] = 1


@lru_cache(maxsize=3)
def row_facts(account: Account, dialect: Dialect) -> RowFacts:
    """Return what is known of the rows of an account; the last few are kept."""
    return RowFacts(account, RecordRenderer(account, dialect).sizes())


def _wanted(simulator: Simulator, region: Region) -> bytearray:
    """Mark the enrollments that are asked for and can be had: those of no poisoned id."""
    account = simulator.account
    marks = bytearray(b"\1" * len(account))
    if isinstance(region, PairSet):
        learners, courses = account.learner_ids, account.course_ids
        for index, pair in enumerate(zip(account.learner_of, account.course_of, strict=True)):
            marks[index] = (learners[pair[0]], courses[pair[1]]) in region
    for poisoned in (
        account.select(simulator.poison_learners, None),
        account.select(None, simulator.poison_courses),
    ):
        for index in poisoned:
            marks[index] = 0
    return marks


def seconds_over_limit(profile: Profile, calls: Sequence[Call]) -> float:
    """Return for how long there were more calls than the service serves or lets in.

    That is more in flight than slots or `max_in_flight`, or more begun within a second than
    `max_calls_per_s`.
    """
    steps: list[tuple[float, int, int]] = []  # when, change of calls in flight, of calls begun
    for call in calls:
        assert call.finished_s is not None
        steps += [(call.started_s, 1, 1), (call.started_s + 1.0, 0, -1), (call.finished_s, -1, 0)]
    steps += [(at_s, 0, 0) for window in profile.schedule for at_s in (window.from_s, window.to_s)]
    steps.sort()
    limits, over_s, before_s, in_flight, begun, is_over = profile.limits, 0.0, 0.0, 0, 0, False
    for at_s, flying, beginning in steps:
        over_s += (at_s - before_s) if is_over else 0.0
        before_s, in_flight, begun = at_s, in_flight + flying, begun + beginning
        slots = float("inf") if profile.capacity.slots is None else profile.capacity.slots
        for window in open_windows(profile.schedule, at_s):
            slots *= window.capacity_factor
        most = min(max(1.0, slots), limits.max_in_flight.at if limits.max_in_flight else slots)
        is_over = in_flight > most or (
            limits.max_calls_per_s is not None and begun > limits.max_calls_per_s.at
        )
    return over_s
