"""The ways of asking for a region, its shapes, and the sizes that they are reckoned from."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from bulkfetch.plan.rectangle import Axis


class Shape(StrEnum):
    """A way of asking for learners × courses.

    Along learners or courses, the other list named in every call or, `-only`, not named and its
    ids picked from what is answered; with both lists cut; or in one call that names nothing.
    """

    LEARNERS = "learners"
    LEARNERS_ONLY = "learners-only"
    COURSES = "courses"
    COURSES_ONLY = "courses-only"
    BOTH = "both"
    WHOLE = "whole"

    @property
    def axis(self) -> Axis:
        """The axis that batches run along."""
        is_along_courses = self in {Shape.COURSES, Shape.COURSES_ONLY}
        return Axis.COURSES if is_along_courses else Axis.LEARNERS

    @property
    def unsent(self) -> tuple[Axis, ...]:
        """The sides that calls do not name."""
        return _UNSENT.get(self, ())


_UNSENT: Mapping[Shape, tuple[Axis, ...]] = {
    Shape.LEARNERS_ONLY: (Axis.COURSES,),
    Shape.COURSES_ONLY: (Axis.LEARNERS,),
    Shape.WHOLE: (Axis.LEARNERS, Axis.COURSES),
}
_TITLES = {
    Shape.LEARNERS: "along learners, courses named",
    Shape.LEARNERS_ONLY: "along learners, courses picked here",
    Shape.COURSES: "along courses, learners named",
    Shape.COURSES_ONLY: "along courses, learners picked here",
    Shape.BOTH: "both lists cut",
    Shape.WHOLE: "whole account in one call",
}


@dataclass(frozen=True, slots=True)
class Sizes:
    """How many ids a region has along each side, None for no filter; and pairs, if listed."""

    learners: float | None
    courses: float | None
    listed: float | None = None

    def count(self, axis: Axis) -> float:
        """Return the ids along an axis, 1 for no filter."""
        count = self.learners if axis is Axis.LEARNERS else self.courses
        return 1.0 if count is None else count

    def names(self, axis: Axis) -> bool:
        """Whether there is a list along an axis."""
        return (self.learners if axis is Axis.LEARNERS else self.courses) is not None

    @property
    def pairs(self) -> float:
        """How many pairs there are."""
        if self.listed is not None:
            return self.listed
        return self.count(Axis.LEARNERS) * self.count(Axis.COURSES)


def legal_shapes(sizes: Sizes) -> list[Shape]:
    """Return the shapes that a region can be asked for in, the usual one first."""
    if sizes.learners is None and sizes.courses is None:
        return [Shape.WHOLE]
    if sizes.courses is None:
        return [Shape.LEARNERS, Shape.WHOLE]
    if sizes.learners is None:
        return [Shape.COURSES, Shape.WHOLE]
    return [shape for shape in Shape if sizes.listed is None or shape is not Shape.BOTH]


def title_of(shape: Shape, sizes: Sizes) -> str:
    """Say what a shape is, in words."""
    if sizes.learners is None or sizes.courses is None:
        return _TITLES[shape].partition(",")[0]
    if sizes.listed is not None and not shape.unsent:
        return f"along {shape.axis.value}, around the listed pairs"
    return _TITLES[shape]
