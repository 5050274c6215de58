"""An iSpring Learn account behind a real HTTP server: to try, develop and test against.

The data come from a seed (`Account`), the behaviour from a profile (`load_profile`), the server is
`Simulator`, and its `Ledger` says afterwards what it was asked and what it answered.
"""

from bulkfetch.simulator.account import Account
from bulkfetch.simulator.ledger import Call, Ledger, Statistics
from bulkfetch.simulator.profile import (
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
    profile_names,
)
from bulkfetch.simulator.server import Simulator

__all__ = [
    "Account",
    "Call",
    "Capacity",
    "Dialect",
    "Faults",
    "Latency",
    "Ledger",
    "Limit",
    "Limits",
    "Permanent",
    "Profile",
    "Simulator",
    "Statistics",
    "TokenRules",
    "Window",
    "load_profile",
    "parse_profile",
    "profile_names",
]
