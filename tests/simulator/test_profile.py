import re
import tomllib
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from bulkfetch.errors import UsageError
from bulkfetch.simulator import (
    Capacity,
    Dialect,
    Faults,
    Latency,
    Limit,
    Limits,
    Permanent,
    Profile,
    TokenRules,
    Window,
    load_profile,
    parse_profile,
)
from bulkfetch.simulator import profile as profile_module
from bulkfetch.simulator.profile import FAULT_NAMES, profile_names

REFERENCE = Path(profile_module.__file__).parent / "profiles" / "reference.toml"


def test_the_shipped_profiles_are_there_and_can_be_read() -> None:
    names = profile_names()
    assert {"steady", "flaky", "strict", "slow", "legacy", "expiring", "poison", "demo"} <= set(
        names
    )
    for name in names:
        profile = load_profile(name)
        assert profile.name == name
        assert profile.description


def test_an_empty_profile_is_a_healthy_service() -> None:
    assert parse_profile({}) == Profile()


def test_the_reference_states_the_defaults() -> None:
    reference = load_profile("reference")
    assert parse_profile({"name": reference.name, "description": reference.description}) == (
        Profile(
            reference.name,
            reference.description,
            reference.latency,
            reference.capacity,
            reference.limits,
            reference.schedule,
            Faults(),
            reference.permanent,
            reference.token,
            reference.dialect,
        )
    )
    assert set(reference.faults.rates) == FAULT_NAMES | {"http_503"}
    assert not any(reference.faults.rates.values())


def test_the_reference_has_every_key_and_all_of_them_can_be_used() -> None:
    text = REFERENCE.read_text("utf-8")
    document = tomllib.loads(re.sub(r"(?m)^# (?=\w+ = |\[\[)", "", text))
    parse_profile(document)
    for section, record in (
        ("latency", Latency),
        ("capacity", Capacity),
        ("limits", Limits),
        ("permanent", Permanent),
        ("token", TokenRules),
        ("dialect", Dialect),
    ):
        assert set(document[section]) == {field.name for field in fields(record)}
    assert set(document["schedule"][0]) == {field.name for field in fields(Window)}
    assert set(document["faults"]) == FAULT_NAMES | {"http_503"} | (
        {field.name for field in fields(Faults)} - {"rates"}
    )


def test_a_profile_of_one_s_own_is_read_from_a_file(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(
        "[capacity]\nslots = 3\n[limits]\nmax_rows = {at = 10, past = 504, timeout_s = 2}\n"
        "[[schedule]]\nfrom_s = 1\nto_s = 2.5\noutage = true\n"
        "[faults]\nhttp_418 = 0.5\nretry_after = 7\n[permanent]\npoison_learners = ['a', 'b']\n",
        encoding="utf-8",
    )
    profile = load_profile(path)
    assert profile.name == "mine"
    assert profile.capacity.slots == 3
    assert profile.limits.max_rows == Limit(10, "504", timeout_s=2)
    assert profile.schedule == (Window(1, 2.5, outage=True),)
    assert profile.faults.rates == {"http_418": 0.5}
    assert profile.faults.retry_after == "7"
    assert profile.permanent.poison_learners == ("a", "b")


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ({"latencey": {}}, "Unknown key latencey"),
        ({"latency": {"base_s": 1}}, r"Unknown key latency\.base_s"),
        ({"latency": {"base_ms": -1}}, r"latency\.base_ms must be a number, 0 or more"),
        ({"latency": {"base_ms": float("nan")}}, r"latency\.base_ms"),
        ({"latency": {"base_ms": True}}, r"latency\.base_ms"),
        ({"latency": {"tail_share": 1.5}}, r"latency\.tail_share must be a share"),
        ({"latency": 3}, "latency must be a table"),
        ({"capacity": {"slots": 0}}, r"capacity\.slots must be a whole number, 1 or more"),
        ({"capacity": {"slots": 1.5}}, r"capacity\.slots"),
        ({"limits": {"max_ids": 5}}, r"limits\.max_ids must be a table"),
        ({"limits": {"max_ids": {"at": 5}}}, r"limits\.max_ids needs past"),
        ({"limits": {"max_ids": {"at": 5, "past": "418"}}}, r"limits\.max_ids\.past must be one"),
        ({"limits": {"max_in_flight": {"at": 5, "past": "silent-cap"}}}, r"limits\.max_in_flight"),
        ({"schedule": {}}, "schedule must be an array of tables"),
        ({"schedule": [{"from_s": 1}]}, r"schedule\[0\] needs to_s"),
        ({"schedule": [{"from_s": 2, "to_s": 1}]}, r"schedule\[0\]\.to_s"),
        ({"faults": {"http_200": 0.1}}, r"Unknown key faults\.http_200"),
        ({"faults": {"rates": 0.1}}, r"Unknown key faults\.rates"),
        ({"faults": {"reset": "often"}}, r"faults\.reset must be a share"),
        ({"faults": {"reset": 0.6, "http_503": 0.6}}, "more than 1"),
        ({"faults": 1}, "faults must be a table"),
        ({"permanent": {"poison_courses": [1]}}, r"permanent\.poison_courses"),
        ({"permanent": {"permission_denied": 1}}, r"permanent\.permission_denied must be true"),
        ({"token": {"failure": "500"}}, r"token\.failure must be one of fault-500"),
        ({"dialect": {"prefix": "ns1", "payload_namespace": "none"}}, r"dialect\.prefix"),
        ({"description": 1}, "description must be a text"),
    ],
)
def test_a_key_that_cannot_be_used_is_named(document: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        parse_profile(document)


def test_a_profile_that_is_not_there_is_named_with_those_that_are() -> None:
    with pytest.raises(UsageError, match=r"No profile 'nowhere'.*steady"):
        load_profile("nowhere")


def test_a_file_that_is_not_toml_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "bad.toml"
    path.write_text("latency = [", encoding="utf-8")
    with pytest.raises(UsageError, match="is not TOML"):
        load_profile(path)
