"""Keep secrets and control characters out of every text that leaves the process.

A service may echo the token anywhere: in a reason phrase, a header that an exception quotes, a
fault, a body. So secrets are removed by value, in the spellings in which they travel: raw, escaped
for XML, URL-quoted, as a Python or JSON literal, and base64 at any alignment.
"""

import base64
import json
import unicodedata
from urllib.parse import quote, quote_plus
from xml.sax.saxutils import escape

REDACTED = "[redacted]"
_SHORTEST_SECRET = 4
_TEXT_LIMIT = 300


class Redactor:
    """Knows the run's secrets; learns new ones as tokens are renewed."""

    def __init__(self, *secrets: str) -> None:
        self._spellings: list[str] = []
        for secret in secrets:
            self.learn(secret)

    def learn(self, secret: str) -> None:
        """Remove this value, too, from now on.

        Values under four characters cannot be told from ordinary text and are left alone.
        """
        if len(secret) < _SHORTEST_SECRET:
            return
        spellings = set(self._spellings) | _spellings(secret)
        self._spellings = sorted(spellings, key=len, reverse=True)

    def __call__(self, text: str) -> str:
        """Return the text without secrets, whole: for values that are kept, not shown."""
        for spelling in self._spellings:
            if spelling in text:
                text = text.replace(spelling, REDACTED)
        return text

    def show(self, text: str, limit: int = _TEXT_LIMIT) -> str:
        """Return server text fit for a message: no secrets, nothing a terminal obeys, bounded.

        Secrets go first: a cut or an escape in the middle of one would hide it from the search.
        """
        shown = escape_controls(self(text[: 64 * 1024]))
        return shown if len(shown) <= limit else shown[: limit - 1] + "…"


def escape_controls(text: str) -> str:
    """Write control and format characters, which a terminal might obey, as Python escapes."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(
        character
        if unicodedata.category(character) not in {"Cc", "Cf", "Cs", "Zl", "Zp"}
        else character.encode("unicode_escape").decode("ascii")
        if not "\ud800" <= character <= "\udfff"
        else "\\ufffd"
        for character in text
    )


def _spellings(secret: str) -> set[str]:
    spellings = {
        secret,
        escape(secret),
        escape(secret, {'"': "&quot;", "'": "&apos;"}),
        escape(secret, {'"': "&#34;", "'": "&#39;"}),
        escape(secret, {'"': "&quot;", "'": "&#x27;"}),
        quote(secret),
        quote(secret, safe=""),
        quote_plus(secret),
        repr(secret)[1:-1],
        json.dumps(secret)[1:-1],
        json.dumps(secret, ensure_ascii=False)[1:-1],
    }
    spellings |= {spelling.lower() for spelling in spellings if "%" in spelling}
    raw = secret.encode("utf-8", "surrogatepass")
    for encode in (base64.b64encode, base64.urlsafe_b64encode):
        for shift in range(3):
            # What the secret alone decides of the encoding of a text that contains it.
            encoded = encode(b"\0" * shift + raw).decode()
            start = (0, 2, 3)[shift]
            whole = (len(raw) + shift) // 3 * 4
            spellings.add(encoded[start:whole])
        spellings.add(encode(raw).decode().rstrip("="))
    return {spelling for spelling in spellings if len(spelling) >= _SHORTEST_SECRET}
