"""Secrets in the spellings in which a service, a proxy or a library may repeat them."""

import base64
import json
import re
import unicodedata
import urllib.parse
from collections.abc import Callable
from html import escape as html_escape
from xml.sax.saxutils import escape

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bulkfetch.redact import REDACTED, Redactor, escape_controls

SECRET = "Ab+/=<&\"'>]]>ü-Zy"


def lower_hex(quoted: str) -> str:
    return re.sub("%[0-9A-F]{2}", lambda match: match[0].lower(), quoted)


SPELLINGS: dict[str, Callable[[str], str]] = {
    "raw": lambda secret: secret,
    "XML": lambda secret: escape(secret),
    "XML, only what must be": lambda secret: secret.replace("&", "&amp;").replace("<", "&lt;"),
    "HTML": lambda secret: html_escape(secret),
    "XML of XML": lambda secret: escape(escape(secret)),
    "decimal references": lambda secret: re.sub(
        r"[^A-Za-z0-9]", lambda match: f"&#{ord(match[0])};", secret
    ),
    "hexadecimal references": lambda secret: re.sub(
        r"[^A-Za-z0-9]", lambda match: f"&#x{ord(match[0]):X};", secret
    ),
    "ASCII with references": lambda secret: (
        escape(secret).encode("ascii", "xmlcharrefreplace").decode()
    ),
    "URL": lambda secret: urllib.parse.quote(secret, safe=""),
    "URL, lower case": lambda secret: lower_hex(urllib.parse.quote(secret, safe="")),
    "URL, with slash": lambda secret: urllib.parse.quote(secret),
    "form": lambda secret: urllib.parse.quote_plus(secret),
    "JSON": lambda secret: json.dumps(secret),
    "JSON of PHP": lambda secret: json.dumps(secret).replace("/", "\\/"),
    "JSON of Go": lambda secret: (
        json.dumps(secret)
        .replace("<", "\\u003c")
        .replace(">", "\\u003e")
        .replace("&", "\\u0026")
    ),
    "repr": lambda secret: repr(secret),
    "repr of bytes": lambda secret: repr(secret.encode()),
    "base64": lambda secret: base64.b64encode(secret.encode()).decode(),
    "base64 for URLs": lambda secret: base64.urlsafe_b64encode(secret.encode()).decode(),
    "base64 of more": lambda secret: base64.b64encode(f"Bearer {secret} x".encode()).decode(),
}  # fmt: skip


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_a_secret_is_removed_in_every_spelling(spelling: str) -> None:
    echoed = SPELLINGS[spelling](SECRET)
    shown = Redactor(SECRET).show(f"before {echoed} after")
    assert REDACTED in shown
    assert shown.startswith("before ")
    assert shown.endswith(" after")
    # Of base64, a character at each end is made of the secret's neighbours, too.
    rest = shown.replace(REDACTED, "").removeprefix("before ").removesuffix(" after")
    assert len(rest.strip("\"'b")) <= (16 if "of more" in spelling else 2), shown


@pytest.mark.parametrize("length", [20, 1_000, 3_000, 10_000, 70_000])
@pytest.mark.parametrize("times", [1, 7, 300])
def test_no_part_of_a_long_secret_is_shown(length: int, times: int) -> None:
    secret = "".join(f"s{n:05}" for n in range(length // 6 + 1))[:length]
    shown = Redactor(secret).show(f"{secret} " * times)
    assert "s0" not in shown
    assert len(shown) <= 300


SENDABLE = st.text(st.characters(exclude_categories=["Cc", "Cs"]), min_size=8, max_size=60)


@given(SENDABLE, st.sampled_from(sorted(SPELLINGS)))
def test_any_secret_is_removed_in_every_spelling(secret: str, spelling: str) -> None:
    shown = Redactor(secret).show(f"<{SPELLINGS[spelling](secret)}>", 10_000)
    assert SPELLINGS[spelling](secret) not in shown


def test_a_renewed_token_is_removed_and_the_first_still_is() -> None:
    redactor = Redactor("first-token")
    redactor.learn("second-token")
    assert redactor("first-token second-token") == f"{REDACTED} {REDACTED}"


@given(st.text())
def test_what_is_shown_is_printable_and_bounded(text: str) -> None:
    shown = Redactor("the-token").show(text, 80)
    assert len(shown) <= 80
    categories = {unicodedata.category(character) for character in shown}
    assert categories.isdisjoint({"Cc", "Cf", "Cs", "Zl", "Zp"})


def test_controls_of_a_terminal_are_written_as_escapes() -> None:
    assert escape_controls("a\x1b[2J\r\n\u202e\u2028b\ud800") == (
        "a\\x1b[2J\\r\\n\\u202e\\u2028b\\ufffd"
    )
