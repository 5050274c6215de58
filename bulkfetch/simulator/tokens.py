"""Access tokens: issued, used up, expired. Time is given with every question."""

from base64 import urlsafe_b64encode
from dataclasses import dataclass
from hashlib import sha256

from bulkfetch.simulator.profile import TokenRules


@dataclass(slots=True)
class _Token:
    generation: int
    expires_s: float
    calls_left: float


class Tokens:
    """The tokens of an account. They are made from the seed, so that runs can be repeated.

    Args:
        rules: How long each lives.
        seed: What their texts are derived from.
        ready: The text of the token that is there from the start; derived as well if None.
    """

    def __init__(self, rules: TokenRules, seed: int, ready: str | None) -> None:
        self._rules = rules
        self._seed = seed
        self._tokens: dict[str, _Token] = {}
        self.ready = ready if ready is not None else self._text(0)
        self._add(self.ready, 0.0)

    def issue(self, now_s: float) -> str:
        """Return a new token; those before it live on until they expire."""
        text = self._text(len(self._tokens))
        self._add(text, now_s)
        return text

    def use(self, text: str, now_s: float) -> int | None:
        """Spend one call of a token. Returns its generation, or None if it is not (any more) valid.

        The ready token is generation 0.
        """
        token = self._tokens.get(text)
        if token is None or now_s >= token.expires_s or token.calls_left <= 0:
            return None
        token.calls_left -= 1
        return token.generation

    def _add(self, text: str, now_s: float) -> None:
        calls = float("inf") if self._rules.calls is None else self._rules.calls
        self._tokens[text] = _Token(len(self._tokens), now_s + self._rules.lifetime_s, calls)

    def _text(self, generation: int) -> str:
        digest = sha256(f"token {self._seed} {generation}".encode()).digest()
        return urlsafe_b64encode(digest).decode().rstrip("=")
