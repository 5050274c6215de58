"""A journal is verified against the service as it is by then, in other calls."""

import socket
from collections.abc import Mapping, Sequence
from datetime import date
from pathlib import Path
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bulkfetch.errors import FailedIds, IncompleteError, JournalError, UsageError
from bulkfetch.export.comparison import Kind
from bulkfetch.export.formats import OutputFormat
from bulkfetch.export.job import ExportJob, ExportSettings
from bulkfetch.export.journal import Journal
from bulkfetch.export.publish import publish
from bulkfetch.export.regroup import choose_sample, regroup
from bulkfetch.export.sinks.files import FileSink
from bulkfetch.export.verify import Verified, VerifyJob, VerifySettings
from bulkfetch.inputs import make_region
from bulkfetch.plan.rectangle import Axis
from bulkfetch.plan.region import Region, make_pair_set
from bulkfetch.record import Enrollment
from bulkfetch.runtime import Runtime
from bulkfetch.service import Credentials
from bulkfetch.simulator import Account, Simulator, parse_profile

CREDENTIALS = Credentials(token="the-token")
STEADY: Mapping[str, object] = {"name": "steady"}
BEFORE = Account(learners=400, courses=12, enrollments=1_500, seed=4)
REGIONS = {
    "both": make_region(BEFORE.learner_ids, BEFORE.course_ids),
    "learners": make_region(BEFORE.learner_ids, None),
    "courses": make_region(None, BEFORE.course_ids),
    "whole": make_region(None, None),
}


class Place:
    """One port, behind which one service after another stands."""

    def __init__(self, directory: Path) -> None:
        self.journal = directory / "journal"
        self.output = directory / "o.csv"
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]

    def serve(self, account: Account, profile: Mapping[str, object] | None = None) -> Simulator:
        return Simulator(account, parse_profile(profile or STEADY), port=self.port,
                         token="the-token")  # fmt: skip

    async def export(self, simulator: Simulator, region: Region) -> None:
        sink = FileSink(self.output, OutputFormat.CSV)
        settings = ExportSettings(simulator.url, CREDENTIALS, region, sink, self.journal)
        await ExportJob(settings).run()

    async def verify(self, *, sample: int | None = None, seed: int = 1) -> Verified:
        settings = VerifySettings(self.journal, CREDENTIALS, sample=sample)
        job = VerifyJob(settings, runtime=Runtime(random=Random(seed)))
        await job.run()
        assert job.verified is not None
        return job.verified


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


def changed(
    rows: Sequence[Enrollment], *, without: Sequence[int] = (), more: Sequence[Enrollment] = ()
) -> Account:
    kept = [row for number, row in enumerate(rows) if number not in without]
    return Account.of([*kept, *more], learner_ids=BEFORE.learner_ids, course_ids=BEFORE.course_ids)


def ids(found: Verified, kind: Kind) -> list[str]:
    return [each.enrollment_id for each in found.first if each.kind is kind]


@pytest.mark.parametrize("sample", [None, 60])
@pytest.mark.parametrize("name", REGIONS)
async def test_an_account_as_it_was_shows_no_difference(
    place: Place, name: str, sample: int | None
) -> None:
    async with place.serve(BEFORE) as simulator:
        await place.export(simulator, REGIONS[name])
        before = len(simulator.ledger.calls)
        found = await place.verify(sample=sample)
        calls = simulator.ledger.calls[before:]
    assert found.counts.differences == 0
    assert found.counts.outside_old == found.counts.outside_new == 0
    assert found.counts.old == found.counts.new > 0
    if sample is None:
        assert found.counts.old == 1_500
    journal = Journal.open_existing(place.journal)
    asked = {(each.learners, each.courses) for each in journal.finished()}
    journal.close()
    if name != "courses":  # all of them in one call: looking for a cap comes to that, too
        assert not {(call.learner_ids, call.course_ids) for call in calls} & asked
    assert found.calls == len(calls)
    if name == "both":  # along the courses, of more learners, but for what looks for caps
        widths = sorted((len(call.course_ids or ()), len(call.learner_ids or ())) for call in calls)
        assert widths[len(widths) // 2] <= (6, 400)
        assert sample is not None or max(learners for _, learners in widths) == 400


async def test_listed_pairs_are_verified_as_such(place: Place) -> None:
    rows = list(BEFORE.enrollments())
    wanted = sorted({(row.learner_id, row.course_id) for row in rows[:300]})
    kept = [row for row in rows if (row.learner_id, row.course_id) in set(wanted)]
    async with place.serve(BEFORE) as simulator:
        await place.export(simulator, make_pair_set(wanted))
        found = await place.verify()
    assert found.counts.differences == found.counts.outside_old == 0
    assert found.counts.old == found.counts.new == len(kept)
    async with place.serve(changed(rows, without=[7])):
        found = await place.verify()
    assert ids(found, Kind.REMOVED) == [rows[7].enrollment_id]
    assert found.counts.differences == 1


@pytest.mark.parametrize("name", REGIONS)
async def test_rows_missed_gone_and_changed_are_named(place: Place, name: str) -> None:
    rows = list(BEFORE.enrollments())
    empty = sorted(set(BEFORE.learner_ids) - {row.learner_id for row in rows})[3]
    missed = Enrollment("missed", rows[5].course_id, rows[9].learner_id, date(2022, 1, 1))
    unseen = Enrollment("unseen", rows[5].course_id, empty, date(2022, 1, 1))
    later = list(rows)
    later[77] = rows[77]._replace(due_date=date(2040, 1, 1))
    async with place.serve(BEFORE) as simulator:
        await place.export(simulator, REGIONS[name])
    published = place.output.read_bytes()
    async with place.serve(changed(later, without=[30], more=[missed, unseen])):
        found = await place.verify()
    assert ids(found, Kind.ADDED) == ["missed", "unseen"]
    assert ids(found, Kind.REMOVED) == [rows[30].enrollment_id]
    assert ids(found, Kind.CHANGED) == [rows[77].enrollment_id]
    (change,) = (each for each in found.first if each.kind is Kind.CHANGED)
    assert change.fields == {"due_date": (rows[77].due_date, date(2040, 1, 1))}
    journal = Journal.open_existing(place.journal)
    publish(journal, FileSink(place.output, OutputFormat.CSV))
    journal.close()
    assert place.output.read_bytes() == published
    assert sorted(path.name for path in place.journal.parent.iterdir() if path.is_dir()) == []


async def test_a_sample_sees_what_lies_in_it_and_nothing_else(place: Place) -> None:
    rows = list(BEFORE.enrollments())
    empty = sorted(set(BEFORE.learner_ids) - {row.learner_id for row in rows})
    more = [Enrollment(f"x{n}", rows[0].course_id, learner) for n, learner in enumerate(empty)]
    async with place.serve(BEFORE) as simulator:
        await place.export(simulator, REGIONS["both"])
    async with place.serve(changed(rows, more=more)) as simulator:
        found = await place.verify(sample=40)
        asked = {learner for call in simulator.ledger.calls for learner in call.learner_ids or ()}
    assert found.sample is not None
    assert len(found.sample.ids) == 40
    assert found.sample.returned
    assert found.sample.empty
    assert found.sample.ids <= asked
    assert {each.learner_id for each in found.first} == found.sample.empty
    assert found.counts.added == found.counts.differences == len(found.sample.empty)


async def test_other_seeds_choose_other_samples(place: Place) -> None:
    async with place.serve(BEFORE) as simulator:
        await place.export(simulator, REGIONS["both"])
        samples = [(await place.verify(sample=20, seed=seed)).sample for seed in (1, 1, 2)]
    assert samples[0] == samples[1] != samples[2]


async def test_what_was_not_fetched_is_neither_asked_nor_called_missed(place: Place) -> None:
    poison = BEFORE.learner_ids[7]
    profile = {"name": "p", "permanent": {"poison_learners": [poison]}}
    async with place.serve(BEFORE, profile) as simulator:
        with pytest.raises(IncompleteError):
            await place.export(simulator, REGIONS["both"])
        before = len(simulator.ledger.calls)
        found = await place.verify()
        calls = simulator.ledger.calls[before:]
    assert found.is_unfinished
    assert found.counts.differences == 0
    assert all(poison not in (call.learner_ids or ()) for call in calls)


async def test_what_cannot_be_asked_again_is_named_and_not_called_gone(place: Place) -> None:
    async with place.serve(BEFORE) as simulator:
        await place.export(simulator, REGIONS["both"])
    rows = list(BEFORE.enrollments())
    poison = rows[0].learner_id
    profile = {"name": "p", "permanent": {"poison_learners": [poison]}}
    job = VerifyJob(VerifySettings(place.journal, CREDENTIALS))
    async with place.serve(BEFORE, profile):
        with pytest.raises(IncompleteError) as caught:
            await job.run()
    assert {entry.learner_ids for entry in caught.value.quarantined} == {(poison,)}
    assert isinstance(caught.value.quarantined[0], FailedIds)
    assert job.verified is not None
    assert job.verified.counts.differences == 0
    assert job.verified.counts.outside_new == sum(row.learner_id == poison for row in rows)


async def test_every_call_goes_over_a_connection_of_its_own(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    connections: list[object] = []
    async with place.serve(BEFORE) as simulator:
        await place.export(simulator, REGIONS["both"])
        answer = simulator._answer_soap

        async def note(request: object) -> object:
            connections.append(request.transport)  # type: ignore[attr-defined]
            return await answer(request)  # type: ignore[arg-type]

        for resource in simulator.app.router.resources():
            for route in resource:
                if route.handler == answer:
                    monkeypatch.setattr(route, "_handler", note)
        found = await place.verify()
    assert len(connections) == found.calls
    assert len({id(connection) for connection in connections}) == len(connections)


async def test_another_service_an_empty_or_a_missing_journal_is_refused(
    place: Place, tmp_path: Path
) -> None:
    async with place.serve(BEFORE) as simulator:
        await place.export(simulator, REGIONS["both"])
        calls = len(simulator.ledger.calls)
        with pytest.raises(UsageError, match="leave --url and --soap-path out"):
            await VerifyJob(
                VerifySettings(place.journal, CREDENTIALS, url="https://example.org")
            ).run()
        with pytest.raises(UsageError, match="no journal"):
            await VerifyJob(VerifySettings(tmp_path / "none", CREDENTIALS)).run()
        held = Journal.open_existing(place.journal)
        with pytest.raises(JournalError):
            await VerifyJob(VerifySettings(place.journal, CREDENTIALS)).run()
        held.close()
        assert len(simulator.ledger.calls) == calls


@given(st.integers(0, 30), st.integers(0, 30), st.integers(1, 80), st.integers())
def test_a_sample_has_ids_with_rows_and_without(
    returned: int, empty: int, size: int, seed: int
) -> None:
    with_rows = {f"r{n}" for n in range(returned)}
    side = [*with_rows, *(f"e{n}" for n in range(empty))]
    if not side:
        return
    sample = choose_sample(side, Axis.LEARNERS, size, with_rows, Random(seed))
    assert sample.returned <= with_rows
    assert sample.empty <= set(side) - with_rows
    assert len(sample.ids) == min(max(size, bool(returned) + bool(empty)), len(side))
    assert bool(sample.returned) == bool(returned)
    assert bool(sample.empty) == bool(empty)


@given(
    st.integers(1, 60), st.integers(1, 20), st.integers(1, 30), st.sampled_from("LCB"),
    st.integers(),
)  # fmt: skip
def test_regrouping_covers_everything_once(
    learners: int, courses: int, width: int, shape: str, seed: int
) -> None:
    area = make_region(
        None if shape == "C" else [f"l{n}" for n in range(learners)],
        None if shape == "L" else [f"c{n}" for n in range(courses)],
    )
    some = tuple((area.learners or area.courses or ())[:width])
    axis = Axis.COURSES if area.learners is None else Axis.LEARNERS
    calls = regroup(area, [area.replace(axis, some)], Random(seed))
    pairs = [
        (learner, course)
        for call in calls
        for learner in call.learners or ("",)
        for course in call.courses or ("",)
    ]
    assert len(pairs) == len(set(pairs)) == area.pairs
