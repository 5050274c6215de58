"""One durable export: journal, fetch what it lacks, publish, report.

The journal is the truth: each finished batch is committed in one transaction before it counts, by
one writer at a time, shielded from cancellation so that a batch is in it whole or not at all. What
it holds is subtracted from the region, whatever batch size the run before it had. The output is
published from the journal alone, so that it is the same whatever happened on the way.
"""

import contextlib
import functools
import gc
import math
import threading
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import chain
from pathlib import Path
from typing import TypeVar

import anyio
import pyarrow as pa

from bulkfetch.engine.accused import Accused
from bulkfetch.engine.batch import Batch
from bulkfetch.engine.call import Caller, Fetched, HttpExchange
from bulkfetch.engine.caps import Caps, Volume
from bulkfetch.engine.causes import first_cause
from bulkfetch.engine.fetch import fetch_region, make_pace
from bulkfetch.engine.listing import ListedPage, Lister
from bulkfetch.engine.outcome import Counters, Unfetched
from bulkfetch.engine.pool import Places
from bulkfetch.engine.shelf import Shelf, ShelvedAnswer
from bulkfetch.errors import FailedIds, IncompleteError, LocalError, SinkError
from bulkfetch.export.discovery import discover
from bulkfetch.export.journal import FinishedBatch, Journal, JournalIdentity
from bulkfetch.export.journal_codec import occurring_ids
from bulkfetch.export.journal_unproven import UnprovenAnswer
from bulkfetch.export.publish import Published, publish
from bulkfetch.export.report import Findings, effort_of, make_report, read_findings
from bulkfetch.export.sinks.nowhere import Nowhere
from bulkfetch.export.sinks.sink import Sink
from bulkfetch.options import Options
from bulkfetch.pace import learned
from bulkfetch.pace.controller import Pace
from bulkfetch.plan.rectangle import Axis, Rectangle, subtract_from
from bulkfetch.plan.region import Region, count_wanted, rest_of
from bulkfetch.runtime import Runtime
from bulkfetch.service import Credentials, open_service
from bulkfetch.wire.arrow import ArrowDecoder

ResultT = TypeVar("ResultT")

OPERATION = "getEnrollments"
_SHORTEST_S = 0.001
LISTS = ("quarantined", "failed")
_NOTES_EVERY_S = 0.5
# What the service answers now tells whether an answer was whole if the service is as it was then.
_UNPROVEN_KEPT_S = 3_600.0


@dataclass(frozen=True, slots=True)
class ExportSettings:
    """What to export, from where, to where.

    Attributes:
        base_url: the service.
        credentials: a token, or what to get tokens with.
        region: the ids asked for.
        discover: the sides whose ids are listed from the account; the region has none there.
        sink: the output.
        journal: the journal's file.
        options: batch size, workers, limits, retries.
        restart: discard an existing journal.
        partial: if the export ends incomplete, publish what there is beside the output.
        retry_quarantined: ask again for what earlier runs quarantined, which is else left alone.
    """

    base_url: str
    credentials: Credentials
    region: Region
    sink: Sink
    journal: Path
    options: Options = Options()  # noqa: RUF009 - frozen
    restart: bool = False
    partial: bool = False
    discover: frozenset[Axis] = frozenset()
    retry_quarantined: bool = False


@dataclass(frozen=True, slots=True)
class Unreachable:
    """The service is out. Times are seconds since 1970; `cause` is the latest error, fit to show.

    `gives_up_at` is when the run ends if the service is not back; None if it is there, but refuses
    all calls (429), for as long as a quota may take.
    """

    since: float
    next_probe_at: float
    gives_up_at: float | None
    cause: str


@dataclass(frozen=True, slots=True)
class _Asked:
    """How much is asked for."""

    ids: int
    pairs: int

    @classmethod
    def of(cls, region: Region) -> "_Asked":
        axis = Axis.COURSES if region.learners is None else Axis.LEARNERS
        return cls(region.width(axis), region.pairs)


@dataclass(frozen=True, slots=True)
class Progress:
    """Where an export stands.

    `phase` is opening, listing, fetching, checking (what was fetched), publishing or done.
    `ids_total` is None while the account's ids are being listed; `ids_done` are those listed.
    `unreachable` is None while the service answers; `waits_until` is when the next call may begin,
    in seconds since 1970, where the service has asked to wait.
    """

    phase: str
    ids_done: int
    ids_total: int | None
    rows: int
    calls: int
    in_flight: int
    retries: int
    resumed_rows: int
    unreachable: Unreachable | None = None
    waits_until: float | None = None


class ExportJob:
    """Runs one export. Cancelling `run` leaves a journal that the next run goes on from.

    Args:
        settings: what to do.
        runtime: the seam.
    """

    def __init__(
        self,
        settings: ExportSettings,
        *,
        runtime: Runtime | None = None,
    ) -> None:
        # The ids are held in one place, and let go of before publishing.
        self._region: Region | None = settings.region
        self._settings = replace(settings, region=Rectangle(None, None))
        self._asked = _Asked.of(settings.region)
        self._runtime = runtime or Runtime()
        self._counters = Counters()
        self._writer = anyio.CapacityLimiter(1)
        self._stopping = threading.Event()
        self._phase = "opening"
        self._started_at = self._runtime.wall_clock()
        self._ended_at: float | None = None
        self._resumed_rows = 0
        self._pairs_before = 0
        self._listed = 0
        self._pace: Pace | None = None
        self._caps: Caps | None = None
        self._ends_at = math.inf  # by the deadline, on the runtime's clock
        self._notes_due_at = float("-inf")
        self._quarantined_kept = 0
        self._redactor = settings.credentials.make_redactor()
        self._findings: Findings | None = None
        self._published: Published | None = None
        self._published_to: str | None = None

    async def run(self) -> None:
        """Fetch what the journal lacks and publish. Returning means complete and published.

        Raises:
            IncompleteError: ids were quarantined or failed; the journal holds the rest.
            CredentialsError, EndpointError: no call can succeed.
            JournalError: the journal is locked, damaged, or of other inputs.
            SinkError: the output cannot be written.
            UsageError: the settings cannot be used.
        """
        await self._offload(self._settings.sink.check)
        journal = await self._offload(self._open)
        try:
            try:
                if self._settings.retry_quarantined:
                    await self._offload(journal.retry_quarantined)
                await self._fetch(journal)
                await self._finish(journal)
            except BaseException:
                # What went wrong first is what matters: a full disk may not take this either.
                with contextlib.suppress(LocalError):
                    await self._conclude(journal)
                raise
            self._phase = "done"
            await self._conclude(journal)
        finally:
            with anyio.CancelScope(shield=True):
                await self._offload(journal.close)

    def _open(self) -> Journal:
        settings, region = self._settings, self._region
        assert region is not None
        identity = JournalIdentity(
            OPERATION, settings.base_url, region, settings.discover, settings.options.soap_path
        )
        now = self._runtime.wall_clock()
        return Journal.open(settings.journal, identity, now=now, restart=settings.restart)

    async def _fetch(self, journal: Journal) -> None:
        """Fetch the part of the region that the journal does not hold, listing ids if need be."""
        settings, counters = self._settings, self._counters
        identity = await self._offload(lambda: journal.identity)
        region = identity.region
        missing: list[Rectangle] = []
        unproven: list[UnprovenAnswer] = []
        if identity.is_settled:
            missing, unproven = await self._offload(self._find_missing, journal, region)
            if not missing and not unproven:
                return

        options, pace = settings.options, make_pace(settings.options, self._runtime)
        self._pace, self._caps = pace, None
        if options.deadline_s is not None:
            self._ends_at = self._runtime.clock() + options.deadline_s

        async def commit(batch: Batch[list[pa.RecordBatch]]) -> None:
            with anyio.CancelScope(shield=True):
                await self._offload(
                    functools.partial(
                        journal.commit,
                        _finished(batch),
                        effort_of(counters),
                        quarantined=self._newly_quarantined(),
                        notes=self._notes(pace),
                    )
                )

        async def take_back(caps: Caps) -> list[Rectangle]:
            """Forget the batches that may be cut short, so that a later run asks for them, too."""

            def doubts(rectangle: Rectangle, rows: int, body_bytes: int) -> bool:
                return caps.doubts(rectangle, Volume(rows, body_bytes))

            return await self._offload(journal.take_back, doubts, "caps", asdict(caps.proven))

        async with (
            self._recorded(journal, pace),
            open_service(
                settings.base_url, settings.credentials, options, self._runtime
            ) as service,
        ):
            self._redactor = service.redactor  # which learns of renewed tokens
            if not identity.is_settled:
                self._phase = "listing"
                started_at = self._runtime.clock()
                deadline = None if options.deadline_s is None else started_at + options.deadline_s
                region = await discover(
                    journal,
                    Lister(service, counters, options.retry, pace, deadline=deadline),
                    counters,
                    offload=self._offload,
                    on_page=self._note_page,
                )
                missing, unproven = await self._offload(self._find_missing, journal, region)
                if deadline is not None:
                    left_s = max(_SHORTEST_S, deadline - self._runtime.clock())
                    options = replace(options, deadline_s=left_s)
            self._phase = "fetching"
            caps = Caps([*missing, *(answer.rectangle for answer in unproven)])
            refusals = await self._offload(journal.recall, "growth_refused")
            caps.recall(await self._offload(journal.silent_caps), refusals)
            self._caps = caps
            accused = await self._offload(lambda: Accused(journal.retrying(), journal.set_aside()))
            exchange = HttpExchange(service, ArrowDecoder(), counters, region)
            await fetch_region(
                region,
                missing,
                Caller(exchange, service.desk, counters),
                commit,
                options=options,
                runtime=self._runtime,
                counters=counters,
                places=Places(pace),
                complete=settings.discover,
                caps=caps,
                take_back=take_back,
                shelf=self._make_shelf(journal, unproven),
                accused=accused,
            )

    def _make_shelf(
        self, journal: Journal, unproven: Sequence[UnprovenAnswer]
    ) -> Shelf[list[pa.RecordBatch]]:
        """Keep answers in the journal while they wait for their check."""

        async def keep(batch: Batch[list[pa.RecordBatch]]) -> None:
            with anyio.CancelScope(shield=True):
                await self._offload(
                    journal.keep_unproven, _finished(batch), effort_of(self._counters)
                )

        async def forget(rectangle: Rectangle) -> None:
            with anyio.CancelScope(shield=True):
                await self._offload(journal.forget_unproven, rectangle)

        async def load(answer: UnprovenAnswer) -> Batch[list[pa.RecordBatch]] | None:
            found = await self._offload(journal.load_unproven, answer)
            return None if found is None else _unfinished(found)

        earlier = [
            ShelvedAnswer(answer.rectangle, functools.partial(load, answer)) for answer in unproven
        ]
        return Shelf(earlier, keep, forget)

    @contextlib.asynccontextmanager
    async def _recorded(self, journal: Journal, pace: Pace) -> AsyncIterator[None]:
        """Go on with the record of earlier runs over time, and keep it however this one ends."""
        pace.timeline.follow(await self._offload(journal.recall, "timeline") or {})
        learned.recall(pace, await self._offload(journal.recall, "pace"), self._runtime.clock())
        try:
            async with anyio.create_task_group() as group:
                group.start_soon(self._keep_notes, journal, pace)
                yield
                group.cancel_scope.cancel()
        except BaseExceptionGroup as failures:
            raise first_cause(failures) from None
        finally:
            with anyio.CancelScope(shield=True), contextlib.suppress(LocalError):
                await self._offload(journal.remember, self._describe(pace))

    async def _keep_notes(self, journal: Journal, pace: Pace) -> None:
        """Keep how the run goes where no batch is committed meanwhile: it may be killed."""
        kept: dict[str, object] | None = None
        while True:
            await self._runtime.sleep(_NOTES_EVERY_S)
            notes = self._notes(pace)
            if notes is not None and notes != kept:
                with contextlib.suppress(LocalError):  # the next batch says so
                    await self._offload(journal.remember, notes)
                kept = notes

    def _notes(self, pace: Pace) -> dict[str, object] | None:
        """Return how the run went and what it learned, if it is time to keep that."""
        now = self._runtime.clock()
        if now < self._notes_due_at:
            return None
        self._notes_due_at = now + _NOTES_EVERY_S
        return self._describe(pace)

    def _describe(self, pace: Pace) -> dict[str, object]:
        notes: dict[str, object] = {
            "timeline": pace.timeline.to_json(),
            "pace": learned.describe(pace),
        }
        # Else runs that are cut short would each begin with the same checks in vain.
        return notes if self._caps is None else {**notes, "growth_refused": self._caps.refusals}

    def _newly_quarantined(self) -> list[FailedIds]:
        """Return what was quarantined since the last time this was asked."""
        quarantined = list(self._counters.quarantined.values())[self._quarantined_kept :]
        self._quarantined_kept += len(quarantined)
        return quarantined

    def _find_missing(
        self, journal: Journal, region: Region
    ) -> tuple[list[Rectangle], list[UnprovenAnswer]]:
        """Find what is to be fetched and what to be checked, and note where the export stands.

        Not in the event loop.
        """
        missing = rest_of(region, chain(journal.set_aside(), journal.each_finished()))
        pairs = sum(rest.pairs for rest in missing)
        self._asked = _Asked.of(region)
        self._pairs_before = region.pairs - pairs
        self._resumed_rows = journal.totals().rows
        journal.forget_all_unproven(before=self._runtime.wall_clock() - _UNPROVEN_KEPT_S)
        unproven = journal.unproven()
        rectangles = [answer.rectangle for answer in unproven]
        rest = subtract_from(missing, rectangles) if rectangles else missing
        came = sum(count_wanted(region, rectangle) for rectangle in rectangles)
        if came + sum(piece.pairs for piece in rest) != pairs:  # some of it was fetched again
            return missing, []
        return rest, unproven

    def _note_page(self, page: ListedPage) -> None:
        self._listed += len(page.ids)

    async def _finish(self, journal: Journal) -> None:
        """Publish if complete; else the rest beside the output if that was asked for."""
        settings = self._settings
        self._phase = "checking"
        self._findings = await self._offload(read_findings, journal, self._counters)
        self._let_go(journal)
        is_complete = self._findings.is_complete
        if is_complete or settings.partial:
            self._phase = "publishing"
            sink = settings.sink if is_complete else settings.sink.partial()
            self._published = await self._publish(journal, sink)
            self._published_to = sink.name
        if not is_complete:
            if self._published is None:
                # The report tells of duplicates and conflicts all the same, if there is room.
                with contextlib.suppress(SinkError):
                    self._published = await self._publish(journal, Nowhere())
            unfetched = self._findings.unfetched
            raise IncompleteError(unfetched.quarantined, unfetched.failed, self._untried(unfetched))

    def _untried(self, unfetched: Unfetched) -> str:
        """Return why some of what is quarantined was not asked for again, if failures do not."""
        cause = self._counters.stopped_because
        return "" if any(entry.cause.startswith(cause) for entry in unfetched.failed) else cause

    def _let_go(self, journal: Journal) -> None:
        """Let go of all that fetching held: publishing has a use for the room, not for the ids."""
        self._region = None
        journal.let_go()
        gc.collect()  # a run that is over refers to itself

    async def _publish(self, journal: Journal, sink: Sink) -> Published:
        return await self._offload(
            functools.partial(publish, journal, sink, should_stop=self._stopping.is_set)
        )

    async def _conclude(self, journal: Journal) -> None:
        """Keep the report, and what is missing, however the run ended."""
        self._ended_at = self._runtime.wall_clock()
        with anyio.CancelScope(shield=True):
            if self._findings is None:
                self._findings = await self._offload(read_findings, journal, self._counters)
            unfetched = self._findings.unfetched
            await self._offload(
                journal.end_run,
                self._ended_at,
                effort_of(self._counters),
                unfetched.quarantined,
                unfetched.failed,
                self.report(),
            )

    def progress(self) -> Progress:
        """Say where the export stands; call it in the event loop that runs it."""
        asked, counters = self._asked, self._counters
        done = self._pairs_before + counters.pairs_done
        is_listing = self._phase == "listing"
        return Progress(
            phase=self._phase,
            ids_done=self._listed if is_listing else done * asked.ids // asked.pairs,
            ids_total=None if is_listing else asked.ids,
            rows=self._resumed_rows + counters.rows,
            calls=counters.calls,
            in_flight=counters.in_flight,
            retries=counters.retries,
            resumed_rows=self._resumed_rows,
            unreachable=self._unreachable(),
            waits_until=self._waits_until(),
        )

    def _unreachable(self) -> Unreachable | None:
        pace = self._pace
        if pace is None or (outage := pace.health.outage) is None:
            return None
        since_1970 = self._since_1970()
        next_probe_at = max(pace.health.next_probe_at, pace.tries_at(self._runtime.clock()))
        return Unreachable(
            since=since_1970 + outage.began_at,
            next_probe_at=since_1970 + next_probe_at,
            gives_up_at=None
            if outage.is_refusal
            else since_1970 + min(outage.ends_at, self._ends_at),
            cause=outage.cause,
        )

    def _waits_until(self) -> float | None:
        gate = None if self._pace is None else self._pace.gate
        if gate is None or not gate.is_shut(self._runtime.clock()):
            return None
        return self._since_1970() + gate.opens_at

    def _since_1970(self) -> float:
        """Return what makes the time since 1970 of the runtime's."""
        return self._runtime.wall_clock() - self._runtime.clock()

    def report(self) -> dict[str, object]:
        """Return the report, ready for JSON: so far, or of the whole export when it has ended."""
        report = make_report(
            self._findings,
            self._counters,
            self._published,
            is_complete=self._phase == "done",
            output=self._published_to,
            journal=self._settings.journal,
            started_at=self._started_at,
            ended_at=self._ended_at or self._runtime.wall_clock(),
        )
        # What comes from the service may be the token; ids that were given need no look.
        texts = {"anomalies", "conflicts", *(LISTS if self._settings.discover else ())}
        return {
            key: self._redactor.clean(value) if key in texts else value
            for key, value in report.items()
        }

    def stop(self) -> None:
        """Tell a publication under way to give up: a thread cannot be cancelled.

        Call it before cancelling the task of `run`.
        """
        self._stopping.set()

    async def _offload(self, function: Callable[..., ResultT], *args: object) -> ResultT:
        """Run a function of the journal away from the loop, one at a time."""
        async with self._writer:
            return await self._runtime.offload(function, *args)


def _finished(batch: Batch[list[pa.RecordBatch]]) -> FinishedBatch:
    fetched = batch.fetched
    return FinishedBatch(
        rectangle=fetched.rectangle,
        batches=[record_batch for rows in fetched.rows for record_batch in rows],
        rows=fetched.count,
        surplus=fetched.surplus,
        attempts=batch.attempts,
        started_at=batch.started_at,
        ended_at=batch.ended_at,
        wire_bytes=fetched.wire_bytes,
        body_bytes=fetched.body_bytes,
        anomalies=fetched.anomalies,
        latency_s=fetched.latency_s,
    )


def _unfinished(batch: FinishedBatch) -> Batch[list[pa.RecordBatch]]:
    """Return a batch of the journal as it was before it was kept."""
    learner_ids, course_ids = (occurring_ids(batch.batches, axis) for axis in Axis)
    fetched = Fetched(
        rectangle=batch.rectangle,
        rows=(batch.batches,),
        count=batch.rows,
        learner_ids=learner_ids,
        course_ids=course_ids,
        anomalies=batch.anomalies,
        wire_bytes=batch.wire_bytes,
        body_bytes=batch.body_bytes,
        surplus=batch.surplus,
        read_ids=ArrowDecoder().enrollment_ids,
        latency_s=batch.latency_s,
    )
    return Batch(fetched, batch.attempts, batch.started_at, batch.ended_at)
