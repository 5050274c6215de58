"""What is measured: a service's profile, and the account and the region that are asked of it.

A case gives one account from a seed and asks for all of it. Every profile meets the plain size;
a few sizes at the edge meet the steady service.
"""

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from pathlib import Path
from random import Random
from typing import Any
from zlib import crc32

from bulkfetch.inputs import make_pairs, make_region
from bulkfetch.plan.region import Region
from bulkfetch.simulator import Account, Profile, load_profile

PROFILES = Path(__file__).parent / "profiles"
STEADY = "steady"
_ROWS_KEPT = 20_000_000
_DEFAULTS = asdict(Profile(name=""))


@dataclass(frozen=True, slots=True)
class Size:
    """An account, and how the region is named: by two lists, or fewer, or by so many pairs."""

    learners: int = 100_000
    courses: int = 300
    enrollments: int = 1_000_000
    names_learners: bool = True
    names_courses: bool = True
    pairs: int = 0

    def shrunk(self, factor: int) -> "Size":
        """Return this size with so many times fewer learners and enrollments."""
        return replace(
            self,
            learners=max(1, self.learners // factor),
            enrollments=max(1, self.enrollments // factor),
            pairs=self.pairs // factor,
        )


@dataclass(frozen=True, slots=True)
class Case:
    """One service and one region of one account."""

    name: str
    profile: Profile
    size: Size = Size()
    seed: int = 1

    @property
    def key(self) -> str:
        """What a case is, whatever it is called: the same text for the same measurements."""
        profile = _differences({**asdict(self.profile), "name": "", "description": ""}, _DEFAULTS)
        text = json.dumps([profile, asdict(self.size), self.seed], sort_keys=True)
        return f"{crc32(text.encode()):08x}"

    def region(self) -> Region:
        """Return what is asked for."""
        return _region(self.account(), self.size, self.seed)

    def account(self) -> Account:
        """Return the account; the last few are kept."""
        return _account(self.size.learners, self.size.courses, self.size.enrollments, self.seed)


def _differences(found: dict[str, Any], usual: dict[str, Any]) -> dict[str, Any]:
    """Return what is not as usual: a key that profiles gain changes nothing for those before it."""
    changed: dict[str, Any] = {}
    for key, value in found.items():
        before = usual[key]
        if isinstance(value, dict) and isinstance(before, dict) and value.keys() == before.keys():
            changed[key] = _differences(value, before)
        elif value != before:
            changed[key] = value
    return {key: value for key, value in changed.items() if value != {}}


class RememberingAccount(Account):
    """An account that knows again what was asked of it: settings are searched by asking again."""

    def __init__(self, learners: int, courses: int, enrollments: int, seed: int) -> None:
        super().__init__(learners, courses, enrollments, seed)
        self._answers: dict[tuple[object, object], Sequence[int]] = {}
        self._rows_kept = 0

    def select(
        self, learner_ids: Iterable[str] | None, course_ids: Iterable[str] | None
    ) -> Sequence[int]:
        """Return the indexes of the enrollments that both filters let through, ascending."""
        question = (learner_ids, course_ids)
        if not all(side is None or isinstance(side, tuple) for side in question):
            return super().select(learner_ids, course_ids)
        if self._rows_kept > _ROWS_KEPT:
            self._answers, self._rows_kept = {}, 0
        found = self._answers.get(question)
        if found is None:
            found = self._answers[question] = super().select(learner_ids, course_ids)
            self._rows_kept += len(found)
        return found


@lru_cache(maxsize=3)
def _account(learners: int, courses: int, enrollments: int, seed: int) -> Account:
    return RememberingAccount(learners, courses, enrollments, seed)


@lru_cache(maxsize=3)
def _region(account: Account, size: Size, seed: int) -> Region:
    learners, courses = account.learner_ids, account.course_ids
    if not size.pairs:
        return make_region(
            learners if size.names_learners else None, courses if size.names_courses else None
        )
    # Half of them are enrolled, the others most likely not.
    random = Random(f"sparse {seed}")
    enrolled = random.sample(range(len(account)), min(len(account), size.pairs // 2))
    return make_pairs(
        [
            *((learners[account.learner_of[i]], courses[account.course_of[i]]) for i in enrolled),
            *(
                (random.choice(learners), random.choice(courses))
                for _ in range(size.pairs - len(enrolled))
            ),
        ]
    )


def read_case(path: Path, size: Size | None = None, seed: int = 1) -> Case:
    """Read a profile from a file; answers are sent as they are, since virtual time is exact.

    Raises:
        UsageError: It is no profile.
    """
    profile = load_profile(path)
    plain = replace(profile, dialect=replace(profile.dialect, gzip=False))
    return Case(path.stem, plain, size or Size(), seed)


def all_cases() -> list[Case]:
    """Return every profile at the plain size, and the sizes at the edge on the steady service."""
    cases = [read_case(path) for path in sorted(PROFILES.glob("*.toml"))]
    steady = PROFILES / f"{STEADY}.toml"
    edges = {
        "1M learners × 3": Size(1_000_000, 3, 1_000_000),
        "50 learners × 5,000": Size(50, 5_000, 50_000),
        "sparse pairs": Size(pairs=200_000),
    }
    cases += [replace(read_case(steady, size), name=name) for name, size in edges.items()]
    # One call, which a client gives up when it is silent for two minutes.
    whole = read_case(steady, Size(names_learners=False, names_courses=False))
    latency = replace(whole.profile.latency, per_row_us=100)
    profile = replace(whole.profile, latency=latency)
    return [*cases, replace(whole, name="whole account", profile=profile)]
