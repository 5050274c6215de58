"""Answers that came and wait until it is clear that they are whole: a run may end before that.

Whether an answer is whole may be known only seconds after it came (`bulkfetch.engine.guard`). Who
keeps a journal puts such answers on a shelf meanwhile, so that runs that are cut short again and
again get on: the next run checks what lies there, and does not ask for it anew.
"""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from bulkfetch.engine.batch import Batch
from bulkfetch.plan.rectangle import Rectangle

RowsT = TypeVar("RowsT")


@dataclass(frozen=True, slots=True)
class ShelvedAnswer(Generic[RowsT]):
    """An answer that an earlier run has kept; `load` returns it, None if it cannot be read."""

    rectangle: Rectangle
    load: Callable[[], Awaitable[Batch[RowsT] | None]]


@dataclass(frozen=True, slots=True)
class Shelf(Generic[RowsT]):
    """Where answers are kept until they are handed on.

    Attributes:
        earlier: what earlier runs have left there, the largest first.
        keep: awaited with an answer that has to wait for its check.
        forget: awaited with what such an answer asked for, when it is to be asked for again; one
            that is handed on needs no word.
    """

    earlier: Sequence[ShelvedAnswer[RowsT]]
    keep: Callable[[Batch[RowsT]], Awaitable[None]]
    forget: Callable[[Rectangle], Awaitable[None]]
