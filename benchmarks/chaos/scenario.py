"""A random service, a random account and a random question, all from one seed.

A *healing* scenario has only troubles that pass, or that can be named: whoever asks again, asks for
less, or waits, gets everything but the poisoned ids. An *unhealing* one has something in it that no
patience helps against: there the run must end, say so, and be right in what it did hand on.
"""

from dataclasses import dataclass
from random import Random
from typing import Any

from bulkfetch.options import Options
from bulkfetch.simulator import Account, Profile, parse_profile

# What passes when asked again, and leaves no trace in the rows.
_PASSING = (
    *("http_429", "http_500", "http_502", "http_503", "http_408", "http_425"),
    *("reset", "empty_200", "no_content_204", "html_200", "server_fault", "echo_token"),
    *("cut_body", "cut_chunked", "cut_close_delimited", "cut_gzip", "wrong_encoding"),
    *("malformed_xml", "ignore_filter", "foreign_row", "set_cookie", "slow_drip"),
    *("duplicate_rows", "http_504"),
)
_LASTING: tuple[dict[str, Any], ...] = (
    {"faults": {"redirect": 0.2}},
    {"faults": {"http_403": 0.3}},
    {"faults": {"http_404": 0.3}},
    {"faults": {"http_400": 0.3}},
    {"faults": {"http_503": 1.0}},
    {"faults": {"html_200": 0.9}},
    {"faults": {"cut_body": 0.9}},
    {"faults": {"foreign_row": 0.9}},
    {"faults": {"http_413": 0.9}},
    {"permanent": {"permission_denied": True}},
    {"permanent": {"subscription_expired": True}},
    {"permanent": {"poison_learners": 1}},
    {"limits": {"max_rows": {"at": 100, "past": "silent-cap"}}},
    {"limits": {"max_ids": {"at": 20, "past": "silent-cap"}}},
    {"limits": {"max_rows": {"at": 2, "past": "504", "timeout_s": 30}}},
    {"schedule": [{"from_s": 2, "to_s": 9e9, "outage": True}]},
    {"schedule": [{"from_s": 0, "to_s": 9e9, "error_rate": 0.97}]},
)


@dataclass(frozen=True, slots=True)
class Scenario:
    """What one seed stands for.

    Attributes:
        heals: everything but what is poisoned can be had.
        learner_ids, course_ids: what is asked for; None is no filter.
        settings: two, which must come to the same.
        exports: by way of journal and CSV file, rather than by iteration.
    """

    seed: int
    heals: bool
    account: Account
    profile: Profile
    learner_ids: tuple[str, ...] | None
    course_ids: tuple[str, ...] | None
    settings: tuple[Options, Options]
    exports: bool


def make_scenario(seed: int) -> Scenario:
    """Draw the scenario of a seed."""
    random = Random(f"chaos {seed}")
    heals = random.random() < 0.8
    learners, courses = random.randint(1, 160), random.randint(1, 12)
    account = Account(learners, courses, random.randint(0, 4 * learners), seed)
    learner_ids = _draw_ids(random, account.learner_ids)
    course_ids = _draw_ids(random, account.course_ids)
    document = _draw_troubles(random)
    document["limits"] |= _draw_quota(Random(f"quota {seed}"))
    if learner_ids is None:
        # What cannot be cut any finer cannot be had from a service with such a limit.
        document["limits"].pop("max_rows", None)
    if not heals:
        for section, values in random.choice(_LASTING).items():
            document[section] = values
    return Scenario(
        seed=seed,
        heals=heals,
        account=account,
        profile=parse_profile(document, name=f"chaos {seed}"),
        learner_ids=learner_ids,
        course_ids=course_ids,
        settings=(Options(), _draw_options(random)),
        exports=random.random() < 0.3,
    )


def _draw_ids(random: Random, ids: Any) -> tuple[str, ...] | None:
    """Draw what is asked for: no filter, everything, or a part and ids that nobody knows."""
    kind = random.choice(("all", "all", "part", "none"))
    if kind == "none":
        return None
    if kind == "all":
        return tuple(ids)
    known = random.sample(list(ids), random.randint(1, len(ids)))
    return (*known, *(f"unknown-{number}" for number in range(random.randint(0, 3))))


def _draw_options(random: Random) -> Options:
    return Options(
        batch_size=random.choice((1, 3, 10, 40, 100)), workers=random.choice((1, 2, 5, 16))
    )


def _draw_quota(random: Random) -> dict[str, Any]:
    """Draw a quota of calls a minute, or none. On its own: it came later than the other draws."""
    waits = {"retry_after_s": 20} if random.random() < 0.5 else {}
    quota = {"at": random.choice((10, 40)), "past": "429", **waits}
    return {"max_calls_per_min": quota} if random.random() < 0.15 else {}


def _draw_troubles(random: Random) -> dict[str, Any]:
    """Draw a service: its pace, its limits, its bad days, and how its XML looks."""

    def sometimes(share: float, value: Any) -> dict[str, Any]:
        return value if random.random() < share else {}

    start_s = random.uniform(0, 5)
    end_s = start_s + random.choice((1, 5, 60))
    return {
        "latency": {
            "base_ms": random.choice((0, 20, 300)),
            "jitter_ms": random.choice((0, 200)),
            "per_row_us": random.choice((0, 1000)),
            **sometimes(0.3, {"tail_share": 0.05, "tail_factor": 20}),
        },
        "capacity": {
            **sometimes(0.5, {"slots": random.choice((1, 2, 8))}),
            **sometimes(0.2, {"bandwidth_bytes_per_s": random.choice((20_000, 500_000))}),
        },
        "limits": {
            **sometimes(0.2, {"max_ids": {"at": random.choice((1, 5, 50)), "past": "413"}}),
            **sometimes(
                0.2,
                {
                    "max_rows": {
                        "at": random.choice((30, 60)),
                        "past": random.choice(("413", "504")),
                        "timeout_s": 30,
                    }
                },
            ),
            **sometimes(
                0.3,
                {
                    "max_in_flight": {
                        "at": random.choice((1, 3, 5)),
                        "past": random.choice(("429", "503")),
                        **sometimes(0.5, {"retry_after_s": random.choice((1, 4))}),
                    }
                },
            ),
            **sometimes(
                0.2,
                {"max_calls_per_s": {"at": random.choice((2, 10)), "past": "429"}},
            ),
        },
        "schedule": [
            *([{"from_s": start_s, "to_s": end_s, "outage": True}] * (random.random() < 0.2)),
            *([{"from_s": start_s, "to_s": end_s, "error_rate": 0.5}] * (random.random() < 0.3)),
            {"from_s": 3, "to_s": 6, "capacity_factor": random.choice((0.3, 1, 3))},
        ],
        "faults": {
            **{name: random.choice((0.0, 0.01, 0.08)) for name in random.sample(_PASSING, 6)},
            "max_per_call_key": random.choice((1, 2)),
            "retry_after": random.choice(("", "2", "-1", "NaN", "soon")),
            "drip_bytes_per_s": 2000,
        },
        "permanent": {
            **sometimes(0.2, {"poison_learners": 0.04}),
            **sometimes(0.1, {"poison_courses": 0.1}),
        },
        "token": {
            "lifetime_s": random.choice((20, 1800)),
            **sometimes(0.3, {"calls": random.choice((10, 30))}),
            "failure": random.choice(("fault-500", "fault-200", "http-401")),
        },
        "dialect": {
            "gzip": random.random() < 0.3,
            "pretty": random.random() < 0.2,
            "booleans": random.choice(("digits", "words")),
            "certificate": random.choice(("nested", "flat")),
            "empty_elements": random.choice(("absent", "empty", "nil")),
            "unknown_elements": random.random() < 0.3,
            "payload_namespace": random.choice(("https", "http", "none")),
            "fault_status": random.choice(("500", "200")),
        },
    }
