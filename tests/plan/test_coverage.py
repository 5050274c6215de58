from hypothesis import given
from hypothesis import strategies as st

from bulkfetch.plan.coverage import cover
from bulkfetch.plan.rectangle import Rectangle, Side, split
from bulkfetch.plan.region import PairSet, Region, make_pair_set

LEARNERS = ("l1", "l2", "l3", "l4")
COURSES = ("c1", "c2", "c3")


def sides(ids: tuple[str, ...]) -> st.SearchStrategy[Side]:
    some = st.sets(st.sampled_from(ids), min_size=1).map(lambda chosen: tuple(sorted(chosen)))
    return st.one_of(st.none(), some)


RECTANGLES = st.builds(Rectangle, sides(LEARNERS), sides(COURSES))


def holds(rectangle: Rectangle, learner: str, course: str) -> bool:
    return (rectangle.learners is None or learner in rectangle.learners) and (
        rectangle.courses is None or course in rectangle.courses
    )


def parts(region: Region) -> tuple[Rectangle, ...]:
    return region.rectangles if isinstance(region, PairSet) else (region,)


@given(
    region=st.one_of(
        RECTANGLES,
        st.sets(st.tuples(st.sampled_from(LEARNERS), st.sampled_from(COURSES)), min_size=1).map(
            make_pair_set
        ),
    ),
    finished=st.lists(RECTANGLES, max_size=5),
)
def test_a_pair_is_covered_if_it_lies_in_the_region_and_in_something_finished(
    region: Region, finished: list[Rectangle]
) -> None:
    """A region of every learner is asked for in rectangles of every learner."""
    if parts(region)[0].learners is None:
        finished = [rectangle for rectangle in finished if rectangle.learners is None]
    coverage = cover(region, finished)
    for learner in (*LEARNERS, "unheard of"):
        for course in (*COURSES, "unheard of"):
            number = coverage.learners.get(learner, coverage.other_learners)
            side = () if number is None else coverage.course_sides[number]
            expected = any(holds(part, learner, course) for part in parts(region)) and any(
                holds(rectangle, learner, course) for rectangle in finished
            )
            assert (side is None or course in side) == expected


def test_the_batches_of_a_whole_run_are_one_list_of_courses() -> None:
    region = Rectangle(
        tuple(f"l{number:05}" for number in range(10_000)),
        tuple(f"c{number:04}" for number in range(1_000)),
    )
    batches = [region]
    for _ in range(8):
        batches = [half for batch in batches for half in split(batch)]
    coverage = cover(region, batches)
    assert coverage.course_sides == (region.courses,)
    assert len(coverage.learners) == 10_000
    assert coverage.other_learners is None
