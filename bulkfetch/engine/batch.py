"""The life of a batch in a run, and what is handed on or named in the end."""

from dataclasses import dataclass
from typing import Generic, TypeVar

from bulkfetch.engine.call import Fetched
from bulkfetch.errors import FailedIds
from bulkfetch.plan.rectangle import Axis, Rectangle

RowsT = TypeVar("RowsT")


@dataclass(frozen=True, slots=True)
class Batch(Generic[RowsT]):
    """A finished batch, as it is handed on. Times are seconds since 1970."""

    fetched: Fetched[RowsT]
    attempts: int
    started_at: float
    ended_at: float


@dataclass(slots=True, eq=False)
class OpenBatch:
    """A batch that was begun and is not finished.

    Attributes:
        number: tells it from others.
        rectangle: what it asks for; None until the first call may begin, for until then its size
            may change.
        started_at: seconds since 1970.
        axis: the side that it runs along.
        attempts: calls made.
        counted: those of them whose failure was the batch's own.
        foreign: answers with rows that were not asked for.
        timeouts: calls that timed out.
        cost: what its latest retry was charged, None before there was one.
        failed_at: when it first failed, on the run's clock.
        failed_last_at: when it failed last, on the same clock.
        in_vain: how often it failed since another call succeeded.
        tried_at: when it was asked for last, in seconds since 1970.
        answered_at: when the answer came that an earlier run has kept; None for an answer of now.
        shelved: what an answer that is kept until its check asked for; None if none is kept.
    """

    number: int
    rectangle: Rectangle | None
    started_at: float
    axis: Axis = Axis.LEARNERS
    attempts: int = 0
    counted: int = 0
    foreign: int = 0
    timeouts: int = 0
    cost: int | None = None
    failed_at: float | None = None
    failed_last_at: float = float("-inf")
    in_vain: int = 0
    tried_at: float | None = None
    answered_at: float | None = None
    shelved: Rectangle | None = None


def name_failed(rectangle: Rectangle, cause: str, batch: OpenBatch | None) -> FailedIds:
    """Name a rectangle that was not fetched, by the batch that tried, if one did."""
    made, tried_at = (0, None) if batch is None else (batch.attempts, batch.tried_at)
    return FailedIds(rectangle.learners, rectangle.courses, cause, made, tried_at)
