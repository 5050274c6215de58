"""The body of one answer, as bytes come in: inflated and capped. No I/O here, so any thread may.

One thread at a time, though.
"""

from collections.abc import Callable, Iterator
from functools import partial

from bulkfetch.errors import MalformedAnswerError, TooLargeError
from bulkfetch.http.inflate import Inflater

_IDENTITY = frozenset({"", "identity"})
_GZIP = frozenset({"gzip", "x-gzip"})


class Body:
    """Counts, inflates and caps what comes.

    Args:
        encoding: the Content-Encoding, if it has to be undone here.
        status: of the answer, for errors.
        cap_bytes: most bytes, inflated or as received.
    """

    def __init__(self, encoding: str | None, *, status: int, cap_bytes: int) -> None:
        self._encoding = (encoding or "").strip().lower()
        self._inflater = Inflater() if self._encoding in _GZIP else None
        self._status = status
        self._cap_bytes = cap_bytes
        self.wire_bytes = 0
        self.body_bytes = 0

    @property
    def is_compressed(self) -> bool:
        """Whether it takes less room as received."""
        return self._inflater is not None

    def anew(self) -> "Callable[[], Body]":
        """Return what makes such a body again, and holds next to nothing."""
        return partial(Body, self._encoding, status=self._status, cap_bytes=self._cap_bytes)

    def feed(self, chunk: bytes) -> Iterator[bytes]:
        """Take bytes as received and yield what they are, at most a few hundred kilobytes a piece.

        Raises:
            MalformedAnswerError: an encoding that was not asked for, or a damaged one.
            TooLargeError: the byte cap was passed.
        """
        self._require_known_encoding()
        self.wire_bytes += len(chunk)
        for piece in (chunk,) if self._inflater is None else self._inflater.feed(chunk):
            self.body_bytes += len(piece)
            self._require_under_cap()
            yield piece
        self._require_under_cap()

    def finish(self) -> None:
        """Check that the body has come to its end.

        Raises:
            MalformedAnswerError: it was cut short.
        """
        self._require_known_encoding()
        if self._inflater is not None and self.body_bytes + self.wire_bytes > 0:
            self._inflater.finish()

    def _require_known_encoding(self) -> None:
        if self._inflater is None and self._encoding not in _IDENTITY:
            raise MalformedAnswerError(
                "The answer has a Content-Encoding that was not asked for.", status=self._status
            )

    def _require_under_cap(self) -> None:
        # Compressed, too: gzip members of nothing can go on for ever.
        if max(self.body_bytes, self.wire_bytes) > self._cap_bytes:
            raise TooLargeError(
                f"The answer is larger than {self._cap_bytes:,} bytes.", status=self._status
            )
