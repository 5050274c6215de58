"""Keep secrets and control characters out of every text that leaves the process.

A service may echo the token anywhere: in a reason phrase, a header that an exception quotes, a
fault, a body. So secrets are removed by value, in the spellings in which they travel: raw, escaped
for XML, URL-quoted, as a literal of Python or JSON, and base64 at any alignment. Writers differ in
which characters they escape and how (PHP's JSON escapes slashes, Go's angle brackets, some URLs
have lower-case digits), so each character is looked for in all of its spellings.
"""

import base64
import functools
import re
import unicodedata
from collections.abc import Mapping

REDACTED = "[redacted]"
_SHORTEST_SECRET = 4
_TEXT_LIMIT = 300
_NAMES = {"&": ("amp",), "<": ("lt",), ">": ("gt",), '"': ("quot",), "'": ("apos",)}


class Redactor:
    """Knows the run's secrets; learns new ones as tokens are renewed."""

    def __init__(self, *secrets: str) -> None:
        self._patterns: dict[str, re.Pattern[str]] = {}
        for secret in secrets:
            self.learn(secret)

    def learn(self, secret: str) -> None:
        """Remove this value, too, from now on.

        Values under four characters cannot be told from ordinary text and are left alone.
        """
        if len(secret) >= _SHORTEST_SECRET and secret not in self._patterns:
            self._patterns[secret] = _pattern(secret)

    def __call__(self, text: str) -> str:
        """Return the text without secrets, whole: for values that are kept, not shown."""
        for pattern in self._patterns.values():
            text = pattern.sub(REDACTED, text)
        return text

    def clean(self, value: object) -> object:
        """Return a value made for JSON without secrets in any of its texts."""
        if isinstance(value, str):
            return self(value)
        if isinstance(value, Mapping):
            return {key: self.clean(entry) for key, entry in value.items()}
        if isinstance(value, list | tuple):
            return [self.clean(entry) for entry in value]
        return value

    def show(self, text: str, limit: int = _TEXT_LIMIT) -> str:
        """Return server text fit for a message: no secrets, nothing a terminal obeys, bounded.

        Secrets go first, from all of the text: a cut or an escape in the middle of one would hide
        it from the search.
        """
        shown = escape_controls(self(text)[: limit + 1])
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


def _pattern(secret: str) -> re.Pattern[str]:
    """Match a secret with each of its characters in any spelling, or the whole in base64."""
    spelled = "".join(_spellings_of(character) for character in secret)
    return re.compile("|".join([*map(re.escape, _in_base64(secret)), spelled]))


@functools.cache
def _spellings_of(character: str) -> str:
    """Match one character raw, URL-quoted, as an XML reference, or as a literal's escape."""
    if character.isascii() and character.isalnum():
        return character
    code = ord(character)
    utf8 = character.encode("utf-8", "surrogatepass")
    utf16 = character.encode("utf-16-be", "surrogatepass").hex()
    units = [utf16[at : at + 4] for at in range(0, len(utf16), 4)]
    names = [f"#0*{code}", f"#[xX]0*(?i:{code:x})", *_NAMES.get(character, ())]
    spellings = [
        r"\\?" + re.escape(character),
        "(?i:" + "".join(f"%{byte:02x}" for byte in utf8) + ")",
        "(?i:" + "".join(rf"\\x{byte:02x}" for byte in utf8) + ")",
        "(?i:" + "".join(rf"\\u{unit}" for unit in units) + ")",
        f"(?i:{re.escape(character.encode('unicode_escape').decode())})",
        f"&(?:amp;)*(?:{'|'.join(names)});",
        *([r"\+"] if character == " " else []),
    ]
    return f"(?:{'|'.join(spellings)})"


def _in_base64(secret: str) -> list[str]:
    raw = secret.encode("utf-8", "surrogatepass")
    spellings = set()
    for encode in (base64.b64encode, base64.urlsafe_b64encode):
        for shift in range(3):
            # What the secret alone decides of the encoding of a text that contains it.
            encoded = encode(b"\0" * shift + raw).decode()
            start = (0, 2, 3)[shift]
            whole = (len(raw) + shift) // 3 * 4
            spellings.add(encoded[start:whole])
        spellings.add(encode(raw).decode().rstrip("="))
    longest_first = sorted(spellings, key=len, reverse=True)
    return [spelling for spelling in longest_first if len(spelling) >= _SHORTEST_SECRET]
