"""How a simulated service behaves: a TOML file, read into frozen records.

Everything is optional: an empty profile is a healthy service that answers at once. A key that is
unknown or has an impossible value is refused by name. `profiles/reference.toml` has every key with
its default and its meaning; the records below are the same in Python, and their types are what
values are checked against.

The sections: `[latency]` how long an answer takes, `[capacity]` how much is served at a time,
`[limits]` what is refused, `[[schedule]]` windows of trouble, `[faults]` shares of calls that go
wrong, `[permanent]` what stays wrong, `[token]` how long a token lives, `[dialect]` which edition
of the XML is spoken.
"""

import math
import re
import tomllib
import types
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, is_dataclass
from datetime import UTC, datetime
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin, get_type_hints

from bulkfetch.errors import UsageError
from bulkfetch.record import Enrollment

FAULT_NAMES = frozenset(
    {
        "conflicting_duplicate",
        "cut_body",
        "cut_chunked",
        "cut_close_delimited",
        "cut_gzip",
        "duplicate_rows",
        "echo_token",
        "empty_200",
        "foreign_row",
        "html_200",
        "ignore_filter",
        "malformed_xml",
        "no_content_204",
        "redirect",
        "repeated_page_token",
        "reset",
        "server_fault",
        "set_cookie",
        "slow_drip",
        "unreadable_value",
        "wrong_encoding",
    }
)
_HTTP_FAULT = re.compile(r"http_[45]\d\d")

Share = Annotated[float, "share"]
Rates = Annotated[Mapping[str, float], "rates"]
IdsOrShare = Annotated[float | tuple[str, ...], "ids or share"]
HeaderText = Annotated[str, "text or number"]
Past = Literal["413", "414", "429", "503", "504", "silent-cap"]


@dataclass(frozen=True, slots=True)
class Latency:
    """How long an answer takes before its first byte, while it holds a slot."""

    base_ms: float = 0.0
    jitter_ms: float = 0.0
    per_row_us: float = 0.0
    tail_share: Share = 0.0
    tail_factor: float = 10.0


@dataclass(frozen=True, slots=True)
class Capacity:
    """How much is served at a time; calls past `slots` wait in line. None is without limit."""

    slots: int | None = None
    bandwidth_bytes_per_s: float | None = None


@dataclass(frozen=True, slots=True)
class Limit:
    """A limit: what is `past` `at` is answered so; a 504 comes after `timeout_s`."""

    at: float
    past: Past
    retry_after_s: float | None = None
    timeout_s: float = 60.0


@dataclass(frozen=True, slots=True)
class Limits:
    """What the service refuses.

    `max_ids` counts each of the two id lists by itself. `max_calls_per_s` counts the calls let in
    during the second before, `max_calls_per_min` those since the minute began.
    """

    max_ids: Limit | None = None
    max_rows: Limit | None = None
    max_in_flight: Limit | None = None
    max_calls_per_s: Limit | None = None
    max_calls_per_min: Limit | None = None
    max_request_bytes: Limit | None = None


@dataclass(frozen=True, slots=True)
class Window:
    """A stretch of time, from the start of the service, with trouble in it."""

    from_s: float
    to_s: float
    error_rate: Share = 0.0
    outage: bool = False
    capacity_factor: float = 1.0


@dataclass(frozen=True, slots=True)
class Faults:
    """Shares of calls that go wrong, by fault name; at most one fault strikes a call."""

    rates: Rates = field(default_factory=dict)
    retry_after: HeaderText = ""
    drip_bytes_per_s: float = 100.0
    only_first_n: int | None = None
    max_per_call_key: int | None = None


@dataclass(frozen=True, slots=True)
class Permanent:
    """What is wrong for good."""

    poison_learners: IdsOrShare = 0.0
    poison_courses: IdsOrShare = 0.0
    unknown_ids: Literal["skip", "fault"] = "skip"
    subscription_expired: bool = False
    permission_denied: bool = False


@dataclass(frozen=True, slots=True)
class TokenRules:
    """How long a token lives, in seconds and in calls, and how a dead one is answered."""

    lifetime_s: float = 1800.0
    calls: int | None = None
    failure: Literal["fault-500", "fault-200", "http-401"] = "fault-500"


@dataclass(frozen=True, slots=True)
class Dialect:
    """Which edition of the XML is spoken. The defaults are those of the documentation."""

    envelope_namespace: Literal["http", "https"] = "https"
    payload_namespace: Literal["http", "https", "none"] = "https"
    prefix: Literal["default", "ns1", "none"] = "default"
    booleans: Literal["digits", "words"] = "digits"
    certificate: Literal["nested", "flat"] = "nested"
    certificate_names: Literal["short", "long"] = "short"
    cert_dates: Literal["datetime", "date"] = "datetime"
    empty_elements: Literal["absent", "empty", "nil"] = "absent"
    unknown_elements: bool = False
    pretty: bool = False
    gzip: bool = True
    xml_declaration: bool = True
    element_order: Literal["documented", "shuffled"] = "documented"
    fault_status: Literal["500", "200"] = "500"

    def as_seen(self, enrollment: Enrollment) -> Enrollment:
        """Return what is left of an enrollment in this dialect: bare dates lose the time."""
        if self.cert_dates == "datetime":
            return enrollment
        issued, expires = (
            None if moment is None else datetime(moment.year, moment.month, moment.day, tzinfo=UTC)
            for moment in (enrollment.cert_issue_date, enrollment.cert_expiry_date)
        )
        return enrollment._replace(cert_issue_date=issued, cert_expiry_date=expires)


@dataclass(frozen=True, slots=True)
class Profile:
    """The behaviour of a service. `Profile()` is a healthy one."""

    name: str = "unnamed"
    description: str = ""
    latency: Latency = Latency()
    capacity: Capacity = Capacity()
    limits: Limits = Limits()
    schedule: tuple[Window, ...] = ()
    faults: Faults = field(default_factory=Faults)
    permanent: Permanent = Permanent()
    token: TokenRules = TokenRules()
    dialect: Dialect = Dialect()


def profile_names() -> list[str]:
    """Return the names of the profiles that come with the package."""
    entries = files("bulkfetch.simulator").joinpath("profiles").iterdir()
    return sorted(
        entry.name.removesuffix(".toml") for entry in entries if entry.name.endswith(".toml")
    )


def load_profile(name_or_path: str | Path) -> Profile:
    """Load a profile by its name or from a file of one's own.

    Raises:
        UsageError: No such profile, a file that is not TOML, or a key that cannot be used.
    """
    name = str(name_or_path)
    if name in profile_names():
        text = files("bulkfetch.simulator").joinpath("profiles", f"{name}.toml").read_text("utf-8")
    else:
        try:
            text = Path(name).read_text("utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise UsageError(
                f"No profile {name!r}: {', '.join(profile_names())} and TOML files can be used"
                f" ({error})."
            ) from None
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise UsageError(f"Profile {name} is not TOML: {error}") from None
    return parse_profile(document, name=Path(name).stem)


def parse_profile(document: Mapping[str, Any], *, name: str = "unnamed") -> Profile:
    """Make a profile of a mapping such as TOML gives.

    Raises:
        UsageError: A key is unknown, missing, or has a value that cannot be used.
    """
    profile = _read_record(Profile, {"name": name, **document}, "")
    assert isinstance(profile, Profile)
    for at, window in enumerate(profile.schedule):
        if window.to_s <= window.from_s:
            raise UsageError(f"schedule[{at}].to_s must be later than from_s.")
    for key in ("max_in_flight", "max_calls_per_s", "max_calls_per_min", "max_request_bytes"):
        limit = getattr(profile.limits, key)
        if limit is not None and limit.past == "silent-cap":
            raise UsageError(f"limits.{key}.past cannot be silent-cap: only ids and rows can.")
    if (profile.dialect.prefix, profile.dialect.payload_namespace) == ("ns1", "none"):
        raise UsageError("dialect.prefix ns1 needs a dialect.payload_namespace.")
    return profile


def _read_record(record: type, document: object, where: str) -> object:
    """Read a section into its record, each value by the type of its field."""
    if not isinstance(document, Mapping):
        raise UsageError(f"{where} must be a table.")
    hints = get_type_hints(record, include_extras=True)
    values = dict(document)
    if record is Faults:
        rates = {key: values.pop(key) for key in document if key not in hints or key == "rates"}
        values["rates"] = rates
    prefix = f"{where}." if where else ""
    for key in values:
        if key not in hints:
            known = ", ".join(hints)
            raise UsageError(f"Unknown key {prefix}{key} in the profile; known here: {known}.")
    read = {key: _read_value(hints[key], value, f"{prefix}{key}") for key, value in values.items()}
    try:
        return record(**read)
    except TypeError:
        missing = [f.name for f in fields(record) if f.name in ("at", "past", "from_s", "to_s")]
        raise UsageError(
            f"{where} needs {', '.join(key for key in missing if key not in read)}."
        ) from None


def _read_value(hint: Any, value: object, where: str) -> object:
    """Check one value against the type of its field."""
    if get_origin(hint) is types.UnionType:  # something | None: TOML has no null
        hint = get_args(hint)[0]
    if get_origin(hint) is Annotated:
        return _read_annotated(hint, value, where)
    if get_origin(hint) is Literal:
        allowed = get_args(hint)
        if str(value) in allowed and not isinstance(value, bool):
            return str(value)
        raise UsageError(f"{where} must be one of {', '.join(allowed)}, not {value!r}.")
    if get_origin(hint) is tuple:
        tables = _require(value, (list,), where, "an array of tables")
        member = get_args(hint)[0]
        return tuple(
            _read_record(member, table, f"{where}[{at}]") for at, table in enumerate(tables)
        )
    if is_dataclass(hint):
        assert isinstance(hint, type)
        return _read_record(hint, value, where)
    if hint in (int, float):
        return _read_number(hint, value, where)
    return _require(value, (hint,), where, {bool: "true or false", str: "a text"}[hint])


def _read_annotated(hint: Any, value: object, where: str) -> object:
    """Check a value of one of the kinds that are named above."""
    if hint == Rates:
        assert isinstance(value, dict)
        return _read_rates(value)
    if hint == HeaderText:
        return str(_require(value, (str, int, float), where, "a text or a number"))
    if hint == IdsOrShare and isinstance(value, list):
        return tuple(_require(text, (str,), where, "a share or a list of ids") for text in value)
    return _read_share(value, where)


def _require(value: Any, kinds: tuple[type, ...], where: str, what: str) -> Any:
    """Return the value if it is of one of the kinds; a bool is no number."""
    if not isinstance(value, kinds) or (isinstance(value, bool) and bool not in kinds):
        raise UsageError(f"{where} must be {what}, not {value!r}.")
    return value


def _read_number(kind: type, value: object, where: str) -> float:
    if kind is int:
        what = "a whole number, 1 or more"
        whole = int(_require(value, (int,), where, what))
        if whole < 1:
            raise UsageError(f"{where} must be {what}, not {value!r}.")
        return whole
    what = "a number, 0 or more"
    number = float(_require(value, (int, float), where, what))
    if not 0 <= number < math.inf:  # also refuses NaN
        raise UsageError(f"{where} must be {what}, not {value!r}.")
    return number


def _read_share(value: object, where: str) -> float:
    share = float(_require(value, (int, float), where, "a share from 0 to 1"))
    if not 0 <= share <= 1:
        raise UsageError(f"{where} must be a share from 0 to 1, not {value!r}.")
    return share


def _read_rates(values: Mapping[str, object]) -> dict[str, float]:
    """Read the shares of `[faults]`, whose keys are the names of faults."""
    rates = {}
    for key, value in values.items():
        if key not in FAULT_NAMES and not _HTTP_FAULT.fullmatch(key):
            raise UsageError(
                f"Unknown key faults.{key} in the profile; faults are http_NNN (400 to 599), "
                f"{', '.join(sorted(FAULT_NAMES))}."
            )
        rates[key] = _read_share(value, f"faults.{key}")
    if sum(rates.values()) > 1 + 1e-9:
        raise UsageError("The shares of faults come to more than 1.")
    return rates
