"""Verify a journal: ask again, otherwise, and compare.

Every call goes over a connection of its own and asks for ids grouped anew (`regroup`), so that
neither a mixed-up answer nor a cap strikes twice in the same place. What comes is spooled to disk
and compared with the journal's rows out of core. The journal is only read, and locked meanwhile.

An account changes: a difference may be younger than the journal. The times say how far apart both
are; whether a row was missed or has come since, the service alone knows.
"""

import contextlib
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

import anyio
import pyarrow as pa
import pyarrow.compute as pc

from bulkfetch.engine.asking import Reply
from bulkfetch.engine.batch import Batch
from bulkfetch.engine.call import Caller, Exchange, Fetched, HttpExchange
from bulkfetch.engine.fetch import fetch_calls
from bulkfetch.engine.outcome import Counters, Unfetched
from bulkfetch.errors import IncompleteError, SinkError, UsageError
from bulkfetch.export.atomic import scratch_of
from bulkfetch.export.comparison import Counts, Difference, Side, comparing
from bulkfetch.export.job import Progress
from bulkfetch.export.journal import Journal
from bulkfetch.export.regroup import (
    Sample,
    choose_sample,
    cover_asked,
    covered_area,
    regroup,
    regroup_rows,
)
from bulkfetch.http.tokens import Lease
from bulkfetch.options import Options
from bulkfetch.plan.coverage import Coverage, cover
from bulkfetch.plan.rectangle import Axis, Rectangle
from bulkfetch.plan.region import Region, rest_of
from bulkfetch.record import arrow_schema
from bulkfetch.runtime import Runtime
from bulkfetch.service import Credentials, open_service
from bulkfetch.wire.arrow import ArrowDecoder

ResultT = TypeVar("ResultT")

DIFFERENCES_KEPT = 10_000
_COLUMNS = {Axis.COURSES: 1, Axis.LEARNERS: 2}


@dataclass(frozen=True, slots=True)
class VerifySettings:
    """What to verify, and how.

    Attributes:
        journal: its file.
        credentials: a token, or what to get tokens with.
        url: the service; it must be the journal's. None takes that.
        soap_path: where calls go, below it; likewise, and instead of the options'.
        sample: how many ids are asked for again; None for all.
        options: workers, limits, retries; the size of batches is this module's.
    """

    journal: Path
    credentials: Credentials
    url: str | None = None
    sample: int | None = None
    options: Options = Options()  # noqa: RUF009 - frozen
    soap_path: str | None = None


@dataclass(frozen=True, slots=True)
class Verified:
    """What a verification found.

    Attributes:
        counts: of the rows asked for again: added were missed, removed are gone.
        first: the first ten thousand differences.
        sample: the ids that were asked for again; None for all, or for samples of both sides.
        ids_checked: how many ids of each side were asked for; None where none were named.
        unfetched: what could not be asked for again; it is not compared.
        asked_pairs: how many the export asks for; a side without ids counts as one.
        missing_pairs: how many of them it had not fetched when it was verified.
        filled: when the journal's rows came, from and to, in seconds since 1970; None if none did.
        asked: when they were asked for again.
        calls: how many it took.
    """

    counts: Counts
    first: tuple[Difference, ...]
    sample: Sample | None
    ids_checked: dict[Axis, int | None]
    unfetched: Unfetched
    asked_pairs: int
    missing_pairs: int
    filled: tuple[float, float] | None
    asked: tuple[float, float]
    calls: int

    @property
    def is_unfinished(self) -> bool:
        """Whether the export had not fetched everything."""
        return self.missing_pairs > 0


@dataclass(frozen=True, slots=True)
class _Plan:
    """What is asked for again."""

    endpoint: str
    soap_path: str
    region: Region
    kept: Coverage
    area: Rectangle
    calls: list[Rectangle]
    sample: Sample | None
    ids: int
    pairs: int
    missing_pairs: int
    filled: tuple[float, float] | None


class VerifyJob:
    """Runs one verification.

    Args:
        settings: what to do.
        runtime: the seam; its random chooses the sample and the groups.
    """

    def __init__(self, settings: VerifySettings, *, runtime: Runtime | None = None) -> None:
        self._settings = settings
        self._runtime = runtime or Runtime()
        self._counters = Counters()
        self._disk = anyio.CapacityLimiter(1)
        self._stopping = threading.Event()
        self._phase = "opening"
        self._plan: _Plan | None = None
        self._fetched: list[Rectangle] = []
        self.verified: Verified | None = None
        self.redactor = settings.credentials.make_redactor()

    async def run(self) -> None:
        """Ask again and compare; `verified` holds the result afterwards.

        Raises:
            UsageError: there is no such journal, it holds nothing, or it is of another service.
            JournalError: a run holds the journal, or it is damaged.
            CredentialsError, EndpointError: no call can succeed.
            SinkError: the space for comparing cannot be written.
            IncompleteError: some of it could not be asked for; the rest was compared.
        """
        settings = self._settings
        journal = await self._offload(Journal.open_existing, settings.journal)
        try:
            plan = self._plan = await self._offload(self._make_plan, journal)
            with scratch_of(journal.path, "verify") as directory:
                spool = _Spool(directory / "rows.arrow")
                started_at = self._runtime.wall_clock()
                try:
                    unfetched = await self._fetch(plan, spool)
                finally:
                    spool.close()
                asked = (started_at, self._runtime.wall_clock())
                self._phase = "comparing"
                counts, first = await self._offload(self._compare, journal, plan, spool, directory)
            self.verified = Verified(
                counts=counts,
                first=first,
                sample=plan.sample,
                ids_checked={axis: _count(self._fetched, axis) for axis in Axis},
                unfetched=unfetched,
                asked_pairs=plan.region.pairs,
                missing_pairs=plan.missing_pairs,
                filled=plan.filled,
                asked=asked,
                calls=self._counters.calls,
            )
        finally:
            with anyio.CancelScope(shield=True):
                await self._offload(journal.close)
        self._phase = "done"
        if unfetched.quarantined or unfetched.failed:
            raise IncompleteError(unfetched.quarantined, unfetched.failed)

    def progress(self) -> Progress:
        """Say where the verification stands; call it in the event loop that runs it."""
        plan, counters = self._plan, self._counters
        return Progress(
            phase=self._phase,
            ids_done=0 if plan is None else counters.pairs_done * plan.ids // plan.pairs,
            ids_total=0 if plan is None else plan.ids,
            rows=counters.rows,
            calls=counters.calls,
            in_flight=counters.in_flight,
            retries=counters.retries,
            resumed_rows=0,
        )

    def stop(self) -> None:
        """Tell a comparison under way to give up: a thread cannot be cancelled."""
        self._stopping.set()

    def _make_plan(self, journal: Journal) -> _Plan:
        """Decide what to ask for again.

        Raises:
            UsageError: nothing was fetched, or the journal is of another service.
        """
        settings, random = self._settings, self._runtime.random
        identity, finished = journal.identity, journal.finished()
        url = (settings.url or identity.endpoint) + (settings.soap_path or identity.soap_path)
        if url != identity.url:
            raise UsageError(
                f"The journal {journal.path} is of {identity.url}, not of {url}: "
                "leave --url and --soap-path out, or name that."
            )
        kept = cover(identity.region, finished)
        area = covered_area(identity.region, kept)
        if area is None:
            raise UsageError(f"The journal {journal.path} holds nothing yet: export first.")
        returned = journal.returned_ids()
        sample = None
        if area.learners is None and area.courses is None:
            seen = _ids_of_rows(journal)
            calls = regroup_rows(
                seen[Axis.LEARNERS], seen[Axis.COURSES], random, sample=settings.sample
            )
        else:
            if settings.sample is not None:
                axis = Axis.COURSES if area.learners is None else Axis.LEARNERS
                side = area.side(axis) or ()
                sample = choose_sample(side, axis, settings.sample, returned[axis], random)
                area = area.replace(axis, tuple(sorted(sample.ids)))
            calls = regroup(area, finished, random)
        return _Plan(
            endpoint=identity.endpoint,
            soap_path=identity.soap_path,
            region=identity.region,
            kept=kept,
            area=area,
            calls=calls,
            sample=sample,
            ids=max(_count(calls, axis) or 0 for axis in Axis),
            pairs=sum(call.pairs for call in calls),
            missing_pairs=sum(rest.pairs for rest in rest_of(identity.region, finished)),
            filled=journal.times(),
        )

    async def _fetch(self, plan: _Plan, spool: "_Spool") -> Unfetched:
        """Ask for everything again, and keep what comes."""
        settings = self._settings
        self._phase = "fetching"

        async def keep(batch: Batch[list[pa.RecordBatch]]) -> None:
            await self._offload(spool.add, batch.fetched.rows)
            self._fetched.append(batch.fetched.rectangle)

        options = replace(settings.options, soap_path=plan.soap_path)
        async with open_service(
            plan.endpoint, settings.credentials, options, self._runtime
        ) as service:
            self.redactor = service.redactor  # which learns of renewed tokens
            exchange = HttpExchange(service, ArrowDecoder(), self._counters, plan.region)
            return await fetch_calls(
                plan.calls,
                Caller(_Fresh(exchange), service.desk, self._counters),
                keep,
                options=options,
                runtime=self._runtime,
                counters=self._counters,
            )

    def _compare(
        self, journal: Journal, plan: _Plan, spool: "_Spool", directory: Path
    ) -> tuple[Counts, tuple[Difference, ...]]:
        with comparing(directory, self._stopping.is_set) as comparison:
            asked = cover_asked(plan.area, self._fetched)
            comparison.load(Side.OLD, _select(journal.record_batches(), plan, asked))
            comparison.cover(Side.OLD, plan.kept)
            comparison.load(Side.NEW, spool.read())
            comparison.cover(Side.NEW, asked)
            return comparison.compare(), tuple(comparison.differences(DIFFERENCES_KEPT))

    async def _offload(self, function: Callable[..., ResultT], *args: object) -> ResultT:
        """Run a function away from the loop, one at a time."""
        async with self._disk:
            return await self._runtime.offload(function, *args)


class _Fresh:
    """An exchange that asks on a connection of its own each time."""

    def __init__(self, exchange: Exchange[list[pa.RecordBatch]]) -> None:
        self._exchange = exchange

    async def ask(
        self, rectangle: Rectangle, lease: Lease, *, fresh: bool
    ) -> Reply[Fetched[list[pa.RecordBatch]]]:
        """See `Exchange.ask`; every connection is fresh, whatever is asked for."""
        del fresh
        return await self._exchange.ask(rectangle, lease, fresh=True)


class _Spool:
    """Rows on disk, in the order in which they came.

    Raises:
        SinkError: the disk is full or fails.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        options = pa.ipc.IpcWriteOptions(compression="zstd")
        self._stack = contextlib.ExitStack()
        with _mapped(path):
            file = self._stack.enter_context(path.open("wb"))
            self._writer = pa.ipc.new_stream(file, arrow_schema(), options=options)
            self._stack.callback(self._writer.close)

    def add(self, answers: Sequence[list[pa.RecordBatch]]) -> None:
        """Keep the rows of an answer."""
        with _mapped(self._path):
            for batches in answers:
                for batch in batches:
                    self._writer.write_batch(batch)

    def close(self) -> None:
        """Finish writing."""
        with _mapped(self._path):
            self._stack.close()

    def read(self) -> Iterator[pa.RecordBatch]:
        """Yield everything."""
        with self._path.open("rb") as file, pa.ipc.open_stream(file) as reader:
            yield from reader


@contextlib.contextmanager
def _mapped(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise SinkError(f"The temporary file {path} cannot be written: {error.strerror}.") from None


def _select(
    batches: Iterator[pa.RecordBatch], plan: _Plan, asked: Coverage
) -> Iterator[pa.RecordBatch]:
    """Leave out rows that were not asked for again."""
    if plan.sample is not None:
        column, ids = _COLUMNS[plan.sample.axis], pa.array(sorted(plan.sample.ids), pa.string())
        for batch in batches:
            yield batch.filter(pc.is_in(batch.column(column), value_set=ids))
        return
    if plan.area.learners is not None or plan.area.courses is not None:
        yield from batches
        return
    learners = pa.array(sorted(asked.learners), pa.string())
    courses = pa.array(asked.course_sides[-1], pa.string())
    for batch in batches:
        yield batch.filter(
            pc.or_(
                pc.is_in(batch.column(_COLUMNS[Axis.LEARNERS]), value_set=learners),
                pc.is_in(batch.column(_COLUMNS[Axis.COURSES]), value_set=courses),
            )
        )


def _ids_of_rows(journal: Journal) -> dict[Axis, set[str]]:
    """Return all learners and courses that occur in rows."""
    ids: dict[Axis, set[str]] = {axis: set() for axis in Axis}
    for batch in journal.record_batches():
        for axis, column in _COLUMNS.items():
            ids[axis].update(pc.unique(batch.column(column)).to_pylist())
    return ids


def _count(rectangles: Sequence[Rectangle], axis: Axis) -> int | None:
    """Return how many ids of a side these name; None for none."""
    sides = {id(side): side for each in rectangles if (side := each.side(axis)) is not None}
    return len(frozenset().union(*sides.values())) if sides else None
