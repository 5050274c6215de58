"""How much of an export is kept and how much is missing, in numbers, for its last words."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self


@dataclass(frozen=True, slots=True)
class Standing:
    """What the journal holds, and how much of what was asked for, in `unit`, it does not."""

    rows: int
    batches: int
    missing: int
    asked: int
    unit: str

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
        )

    @property
    def is_mostly_fetched(self) -> bool:
        """Whether what is missing is the smaller part."""
        return 2 * self.missing < self.asked

    def __str__(self) -> str:
        if not self.batches:
            return f"Nothing was fetched of {self.asked:,} {self.unit}."
        kept = f"{_count(self.rows, 'row')} of {_count(self.batches, 'batch', 'es')}"
        if not self.missing:
            return f"Everything was fetched: {kept}, kept in the journal."
        return (
            f"Kept in the journal: {kept}. Missing: {self.missing:,} of {self.asked:,} {self.unit}."
        )


def name_unit(sides: Sequence[str]) -> str:
    """Name what is counted, where these sides are asked for by ids."""
    return "pairs" if len(sides) > 1 else (*sides, "account")[0]


def _count(number: int, what: str, plural: str = "s") -> str:
    return f"{number:,} {what}{'' if number == 1 else plural}"
