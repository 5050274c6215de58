"""What a call costs: seconds and rows by its ids, learned from the calls that succeeded.

Seconds are base + rows × seconds a row, by least squares with older calls weighing less; rows are
ids × rows an id. While all calls are alike the two parts cannot be told apart, and all of the time
counts as base: the batch size then grows, and larger batches tell. Outliers (a heavy tail, a stall)
count at most half as much again as was expected.

Explicit state and steps, no I/O.
"""

from dataclasses import dataclass

_KEPT = 0.98  # weight of the past with each call: about the last fifty count
_CLIP_AFTER = 8.0
_CLIP = 1.5
_LEAST_BASE = 0.3  # of the shortest call: sizes that are alike must not hide it
_RIDGE = 0.01  # of the mean square: sizes that differ by less than a tenth tell nothing


@dataclass(slots=True)
class LatencyModel:
    """Decayed sums over calls: weights, ids, rows, bytes, seconds and their products."""

    weight: float = 0.0
    ids: float = 0.0
    rows: float = 0.0
    body_bytes: float = 0.0
    seconds: float = 0.0
    rows_squared: float = 0.0
    rows_seconds: float = 0.0
    least_s: float = 0.0  # the shortest call lately

    def note(self, *, ids: int, rows: int, body_bytes: int, seconds: float) -> None:
        """Learn from a call that succeeded, its seconds as they would be without a queue."""
        if self.weight >= _CLIP_AFTER:
            base_s, per_row_s = self._fit()
            seconds = min(seconds, _CLIP * (base_s + per_row_s * rows) + 0.001)
        self.least_s = min(self.least_s / _KEPT, seconds) if self.weight else seconds
        for name, value in (
            ("weight", 1.0),
            ("ids", ids),
            ("rows", rows),
            ("body_bytes", body_bytes),
            ("seconds", seconds),
            ("rows_squared", rows * rows),
            ("rows_seconds", rows * seconds),
        ):
            setattr(self, name, getattr(self, name) * _KEPT + value)

    @property
    def is_known(self) -> bool:
        """Whether there was a call to learn from."""
        return self.weight > 0

    @property
    def base_s(self) -> float:
        """Seconds that a call takes whatever it asks for."""
        return self._fit()[0]

    @property
    def per_id_s(self) -> float:
        """Seconds that each id adds."""
        return self._fit()[1] * self.rows_per_id

    @property
    def rows_per_id(self) -> float:
        """Rows that each id brings."""
        return self.rows / self.ids if self.ids else 0.0

    @property
    def bytes_per_id(self) -> float:
        """Inflated bytes that each id brings."""
        return self.body_bytes / self.ids if self.ids else 0.0

    @property
    def overhead_rows(self) -> float:
        """How many rows take as long as a call's base, a million if rows take no time."""
        base_s, per_row_s = self._fit()
        return min(base_s / per_row_s, 1e6) if per_row_s > 0 else 1e6

    def seconds_of(self, ids: int) -> float:
        """Return how long a call for so many ids should take; 0 while nothing is known."""
        base_s, per_row_s = self._fit()
        return base_s + per_row_s * self.rows_per_id * ids

    def seconds_at_most(self, ids: int) -> float:
        """Return how long a call for more ids than usual may take: as if nothing were base."""
        return self.seconds / self.ids * ids if self.ids else 0.0

    def _fit(self) -> tuple[float, float]:
        if not self.weight:
            return 0.0, 0.0
        mean_rows, mean_s = self.rows / self.weight, self.seconds / self.weight
        spread = self.rows_squared / self.weight - mean_rows**2
        together = self.rows_seconds / self.weight - mean_rows * mean_s
        ridge = _RIDGE * mean_rows**2
        slope = max(0.0, together / (spread + ridge)) if spread > 0 else 0.0
        base = max(mean_s - slope * mean_rows, _LEAST_BASE * self.least_s)
        return base, max(0.0, mean_s - base) / mean_rows if mean_rows else 0.0
