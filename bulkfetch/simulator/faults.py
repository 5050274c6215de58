"""Which fault strikes a call: pure decisions from a profile and an injected random.

One draw decides about a call, so the shares of a profile add up and two faults never hide one
another. Faults can be made to heal, for the whole run or for each question asked.
"""

from collections import Counter
from collections.abc import Hashable, Iterable
from random import Random
from zlib import crc32

from bulkfetch.simulator.profile import Faults, Window


class FaultChooser:
    """Chooses the fault of each call and remembers how many it has chosen."""

    def __init__(self, faults: Faults, random: Random) -> None:
        self._faults = faults
        self._random = random
        self._calls = 0
        self._struck: Counter[Hashable] = Counter()

    def choose(self, call_key: Hashable) -> str | None:
        """Return the name of the fault that strikes this call, or None.

        Args:
            call_key: What is asked; `max_per_call_key` counts by it.
        """
        self._calls += 1
        drawn = self._random.random()
        first_n, per_key = self._faults.only_first_n, self._faults.max_per_call_key
        if first_n is not None and self._calls > first_n:
            return None
        for name, share in self._faults.rates.items():
            drawn -= share
            if drawn < 0:
                if per_key is not None:
                    if self._struck[call_key] >= per_key:
                        return None
                    self._struck[call_key] += 1
                return name
        return None


def open_windows(schedule: Iterable[Window], elapsed_s: float) -> list[Window]:
    """Return the windows of trouble that are open, `elapsed_s` after the start."""
    return [window for window in schedule if window.from_s <= elapsed_s < window.to_s]


def choose_poison(ids: Iterable[str], poison: float | tuple[str, ...], seed: int) -> frozenset[str]:
    """Return the ids that fail every call they are part of: those listed, or a share of all.

    A share is decided for each id by itself, so that adding an id poisons no other.
    """
    if isinstance(poison, tuple):
        return frozenset(poison)
    threshold = int(poison * 2**32)
    return frozenset(text for text in ids if crc32(f"{seed} {text}".encode()) < threshold)
