"""How much of an export is kept and how much is missing, in numbers, for its last words."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

from bulkfetch.words import counted, counted_side


@dataclass(frozen=True, slots=True)
class Standing:
    """What the journal holds, and how much of what was asked for, in `unit`, it does not.

    `failed` are the ids that ended so, counted for each side.
    """

    rows: int
    batches: int
    missing: int
    asked: int
    unit: str
    failed: tuple[str, ...] = ()

    @classmethod
    def of(cls, report: Mapping[str, Any]) -> Self | None:
        """Read a job's report; None if it does not say: the journal could not be read."""
        statistics, pairs = report["statistics"], report["pairs"]
        if statistics is None or pairs is None:
            return None
        sides = [side for side, count in report["ids"].items() if count is not None]
        whole = statistics["all_runs"]
        return cls(
            rows=whole["rows"],
            batches=whole["batches"],
            missing=pairs["missing"],
            asked=pairs["asked"],
            unit=name_unit(sides),
            failed=tuple(
                counted_side(report["ids"][side]["failed"], side)
                for side in sides
                if report["ids"][side]["failed"]
            ),
        )

    def say_rest(self) -> str:
        """Say that all but what was rejected was fetched, and what even so is not known."""
        if not self.failed:
            return "Everything else was fetched."
        return (
            f"Everything else was fetched, but nothing came of {' and '.join(self.failed)}, which "
            "what was rejected may hold: that cannot be confirmed as empty."
        )

    @property
    def is_mostly_fetched(self) -> bool:
        """Whether what is missing is the smaller part."""
        return 2 * self.missing < self.asked

    def __str__(self) -> str:
        if not self.batches:
            return f"Nothing was fetched of {counted(self.asked, self.unit)}."
        kept = f"{counted(self.rows, 'row')} of {counted(self.batches, 'batch', 'batches')}"
        if not self.missing:
            return f"Everything was fetched: {kept}, kept in the journal."
        return (
            f"Kept in the journal: {kept}. "
            f"Missing: {self.missing:,} of {counted(self.asked, self.unit)}."
        )


def name_unit(sides: Sequence[str]) -> str:
    """Name one of what is counted, where these sides are asked for by ids."""
    return "pair" if len(sides) > 1 else (*sides, "account")[0].removesuffix("s")
