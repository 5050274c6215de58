import shutil
import tempfile
from collections.abc import Callable
from functools import partial
from operator import itemgetter
from pathlib import Path
from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st

from bulkfetch.export.cover import is_covered
from bulkfetch.export.journal import FinishedBatch, Journal, JournalIdentity
from bulkfetch.inputs import make_region
from bulkfetch.plan.rectangle import Axis, Rectangle, Side
from bulkfetch.plan.region import rest_of

ODD_IDS = st.sets(st.text('a"\\,[]é\U0001f600', min_size=1, max_size=4), min_size=1, max_size=20)


@given(wanted=st.sets(st.integers(0, 30)), lists=st.lists(st.sets(st.integers(0, 30), min_size=1)))
def test_a_list_is_covered_by_others_that_hold_all_of_it(
    wanted: set[int], lists: list[set[int]]
) -> None:
    def ids(numbers: set[int]) -> list[str]:
        return sorted(map(str, numbers))

    others = [(ids(each)[0], partial(ids, each)) for each in lists]
    found = is_covered(ids(wanted), sorted(others, key=itemgetter(0)))
    assert found is (wanted <= set().union(*lists))


@settings(deadline=None, max_examples=30)
@given(
    learners=ODD_IDS,
    courses=st.none() | ODD_IDS,
    axis=st.sampled_from(list(Axis)),
    chance=st.randoms(use_true_random=False),
)
def test_a_journal_knows_that_batches_along_one_side_cover_its_region(
    learners: set[str], courses: set[str] | None, axis: Axis, chance: Random
) -> None:
    region = make_region(learners, courses)
    assert isinstance(region, Rectangle)
    side = region.side(axis)
    lists: list[Side] = [None]
    if side is not None:
        lists = [tuple(sorted(chance.sample(side, chance.randint(1, len(side))))) for _ in range(8)]
    identity = JournalIdentity("getEnrollments", "https://example.org", region)
    directory = Path(tempfile.mkdtemp(dir="/dev/shm" if Path("/dev/shm").is_dir() else None))
    journal = Journal.open(directory / "j", identity, now=0.0)
    try:
        assert not journal.covers_region()
        for ids in lists:
            part = region.replace(axis, ids)
            journal.commit(FinishedBatch(part, [], 0, 0, 1, 0.0, 1.0, 1, 1, ()))
            assert journal.covers_region() is (not rest_of(region, journal.finished()))
    finally:
        journal.close()
        shutil.rmtree(directory)


def test_what_is_covered_across_both_sides_is_told_from_the_batches(
    tmp_path: Path, identity: JournalIdentity, finished: Callable[..., FinishedBatch]
) -> None:
    region = identity.region
    assert isinstance(region, Rectangle)
    assert region.learners is not None
    assert region.courses is not None
    journal = Journal.open(tmp_path / "j", identity, now=0.0)
    for learners in (region.learners[:50], region.learners[50:]):
        for courses in (region.courses[:2], region.courses[2:]):
            journal.commit(finished([], Rectangle(learners, courses)))
    assert not journal.covers_region()
    assert not rest_of(region, journal.finished())
    journal.close()
