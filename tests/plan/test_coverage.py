from hypothesis import given
from hypothesis import strategies as st

from bulkfetch.plan.coverage import cover
from bulkfetch.plan.rectangle import Rectangle, Side, split

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


@given(region=RECTANGLES, finished=st.lists(RECTANGLES, max_size=5))
def test_a_pair_is_covered_if_it_lies_in_the_region_and_in_something_finished(
    region: Rectangle, finished: list[Rectangle]
) -> None:
    coverage = cover(region, finished)
    for learner in (*LEARNERS, "unheard of"):
        for course in (*COURSES, "unheard of"):
            number = coverage.learners.get(learner, coverage.other_learners)
            side = () if number is None else coverage.course_sides[number]
            expected = holds(region, learner, course) and any(
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
