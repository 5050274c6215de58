"""Every shape of calls, and listed pairs, over real HTTP: the same rows, each once."""

import random
from pathlib import Path

import pytest

import bulkfetch
from bulkfetch.errors import JournalError
from bulkfetch.export.formats import OutputFormat
from bulkfetch.export.job import ExportJob, ExportSettings
from bulkfetch.export.sinks.files import FileSink
from bulkfetch.inputs import make_pairs, make_region
from bulkfetch.plan.region import Region
from bulkfetch.plan.shapes import Shape
from bulkfetch.service import Credentials
from bulkfetch.simulator import Account, Profile, Simulator, load_profile, parse_profile

LIMITED: dict[str, object] = {
    "name": "few ids and rows",
    "limits": {"max_ids": {"at": 40, "past": "413"}, "max_rows": {"at": 500, "past": "413"}},
}


@pytest.fixture(scope="module")
def account() -> Account:
    return Account(learners=600, courses=50, enrollments=4_000, seed=12)


@pytest.fixture(scope="module")
def pairs(account: Account) -> list[tuple[str, str]]:
    """Every third enrollment's, and some that nobody is enrolled for."""
    draw = random.Random(2)
    rows = [(row.learner_id, row.course_id) for row in account.enrollments()][::3]
    nobody = [(draw.choice(account.learner_ids), draw.choice(account.course_ids))] * 50
    return [*rows, *nobody]


def profiles() -> list[Profile]:
    return [load_profile("steady"), parse_profile(LIMITED)]


@pytest.mark.parametrize("profile", profiles(), ids=lambda profile: profile.name)
@pytest.mark.parametrize("shape", Shape)
async def test_every_shape_gives_the_rows_asked_for_and_counts_the_others(
    account: Account, shape: Shape, profile: Profile
) -> None:
    learners, courses = account.learner_ids[:400], account.course_ids[:20]
    options = bulkfetch.Options(shape=shape.value, batch_size=50)
    async with (
        Simulator(account, profile) as simulator,
        bulkfetch.Client(simulator.url, token=simulator.token, options=options) as client,
    ):
        fetch = client.enrollments(learner_ids=learners, course_ids=courses)
        rows = [row async for row in fetch]
    wanted = [
        row
        for row in account.enrollments()
        if row.learner_id in set(learners) and row.course_id in set(courses)
    ]
    assert sorted(rows) == sorted(wanted)
    report = fetch.report
    assert (report.is_complete, report.duplicates, report.rows) == (True, 0, len(wanted))
    if profile.name == "steady":  # else the whole account is too large, and its ids are named
        assert (report.surplus > 0) == (len(shape.unsent) > 0)
    seen = {row.learner_id for row in wanted}
    assert report.confirmed_empty_learners == len(set(learners) - seen)


@pytest.mark.parametrize("profile", profiles(), ids=lambda profile: profile.name)
@pytest.mark.parametrize("shape", [None, *(shape for shape in Shape if shape is not Shape.BOTH)])
async def test_listed_pairs_give_just_their_rows(
    account: Account, pairs: list[tuple[str, str]], shape: Shape | None, profile: Profile
) -> None:
    options = bulkfetch.Options(shape=None if shape is None else shape.value, batch_size=50)
    async with (
        Simulator(account, profile) as simulator,
        bulkfetch.Client(simulator.url, token=simulator.token, options=options) as client,
    ):
        fetch = client.enrollments(pairs=pairs)
        rows = [row async for row in fetch]
        calls = len(simulator.ledger.calls_of("GetEnrollments"))
    listed = set(pairs)
    wanted = [row for row in account.enrollments() if (row.learner_id, row.course_id) in listed]
    assert sorted(rows) == sorted(wanted)
    assert fetch.report.duplicates == 0
    assert calls < len({learner for learner, _ in listed})


def test_pairs_work_synchronously_and_as_arrow(
    account: Account, pairs: list[tuple[str, str]]
) -> None:
    import anyio.from_thread  # noqa: PLC0415

    listed = set(pairs)
    with anyio.from_thread.start_blocking_portal() as portal:
        manager = portal.wrap_async_context_manager(Simulator(account, load_profile("steady")))
        with manager as simulator:
            table = bulkfetch.fetch_enrollments(
                simulator.url, simulator.token, pairs=pairs
            ).to_arrow()
    found = zip(*(table.column(name).to_pylist() for name in ("learner_id", "course_id")))  # noqa: B905
    wanted = [(row.learner_id, row.course_id) for row in account.enrollments()]
    assert sorted(found) == sorted(pair for pair in wanted if pair in listed)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"pairs": []}, "empty"),
        ({"pairs": ["ab"]}, "not strings"),
        ({"pairs": [("a", "b", "c")]}, "pairs of a learner id"),
        ({"pairs": [("a", 5)]}, "course id"),
        ({"pairs": [("a", "b")], "learner_ids": ["a"]}, "not both"),
    ],
)
def test_what_is_no_list_of_pairs_is_refused(arguments: dict[str, object], message: str) -> None:
    client = bulkfetch.Client("https://example.org", token="t")
    with pytest.raises(bulkfetch.UsageError, match=message):
        client.enrollments(**arguments)  # type: ignore[arg-type]


def test_an_unknown_shape_is_refused() -> None:
    with pytest.raises(bulkfetch.UsageError, match="shape must be one of learners, "):
        bulkfetch.Options(shape="round")


async def export(directory: Path, region: Region, simulator: Simulator, shape: str | None) -> bytes:
    """Export to a file and return its bytes."""
    output = directory / "o.csv"
    options = bulkfetch.Options(shape=shape, batch_size=50)
    settings = ExportSettings(
        base_url=simulator.url,
        credentials=Credentials(simulator.token, None, None),
        region=region,
        sink=FileSink(output, OutputFormat.CSV),
        journal=directory / "journal",
        options=options,
        retry_quarantined=True,
    )
    await ExportJob(settings).run()
    return output.read_bytes()


@pytest.mark.parametrize("kind", ["rectangle", "pairs"])
async def test_an_export_is_the_same_whatever_the_shapes_of_its_runs(
    account: Account, pairs: list[tuple[str, str]], tmp_path: Path, kind: str
) -> None:
    region: Region = (
        make_pairs(pairs)
        if kind == "pairs"
        else make_region(account.learner_ids[:400], account.course_ids[:20])
    )
    outputs = []
    for number, shapes in enumerate(
        [("learners",), ("learners", "courses-only"), ("learners-only", "courses")]
    ):
        directory = tmp_path / str(number)
        directory.mkdir()
        # A first run, if there are two, lacks the learners that are rejected.
        first = parse_profile({"name": "p", "permanent": {"poison_learners": 0.02}})
        if len(shapes) > 1:
            async with Simulator(account, first, seed=number) as simulator:
                url = simulator.url
                with pytest.raises(bulkfetch.IncompleteError):
                    await export(directory, region, simulator, shapes[0])
                port = int(url.rpartition(":")[2])
        else:
            port = 0
        async with Simulator(account, load_profile("steady"), port=port) as simulator:
            outputs.append(await export(directory, region, simulator, shapes[-1]))
    assert outputs[0] == outputs[1] == outputs[2]
    assert len(outputs[0].splitlines()) > 100


async def test_a_journal_of_other_pairs_is_refused(
    account: Account, pairs: list[tuple[str, str]], tmp_path: Path
) -> None:
    async with Simulator(account, load_profile("steady")) as simulator:
        region = make_pairs(pairs)
        again = make_pairs(reversed(pairs))
        first = await export(tmp_path, region, simulator, None)
        calls = len(simulator.ledger.calls)
        assert await export(tmp_path, again, simulator, None) == first
        assert len(simulator.ledger.calls) == calls
        for other in (
            make_pairs([*pairs[:-1], ("someone", "something")]),
            make_pairs([(a, b) for a, b in pairs if (a, b) != pairs[0]]),
            make_region(region.learners, region.courses),
        ):
            with pytest.raises(JournalError, match="other inputs"):
                await export(tmp_path, other, simulator, None)


CAPPED: dict[str, object] = {
    "name": "silent caps",
    "limits": {"max_rows": {"at": 90, "past": "silent-cap"}},
}


@pytest.mark.parametrize(
    "profile", [*profiles(), parse_profile(CAPPED)], ids=lambda each: each.name
)
@pytest.mark.parametrize("shape", [None, *Shape])
async def test_no_call_names_more_than_a_pinned_batch_size(
    account: Account, shape: Shape | None, profile: Profile
) -> None:
    """Learners, whichever way it is asked for and for whatever reason; else courses."""
    most = 35
    learners, courses = account.learner_ids[:500], account.course_ids[:45]
    options = bulkfetch.Options(shape=None if shape is None else shape.value, batch_size=most)
    async with (
        Simulator(account, profile) as simulator,
        bulkfetch.Client(simulator.url, token=simulator.token, options=options) as client,
    ):
        fetch = client.enrollments(learner_ids=learners, course_ids=courses)
        rows = [row async for row in fetch]
    wanted = {row.enrollment_id for row in account.enrollments() if row.learner_id in set(learners)}
    wanted &= {row.enrollment_id for row in account.enrollments() if row.course_id in set(courses)}
    assert {row.enrollment_id for row in rows} == wanted
    for call in simulator.ledger.calls_of("GetEnrollments"):
        named = call.course_ids if call.learner_ids is None else call.learner_ids
        assert len(named or ()) <= most
