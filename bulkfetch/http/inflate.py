"""Inflate gzip in bounded steps under a byte cap, and tell a whole stream from a cut one.

aiohttp's own inflating hides a truncated stream and has no cap (306 kB became 300 MiB), so it is
switched off and done here. Every member must end with its checksum, and nothing may follow.
"""

import zlib
from collections.abc import Iterator
from typing import Any

from bulkfetch.errors import MalformedAnswerError

_STEP_BYTES = 256 * 1024
_FED_BYTES = 16 * 1024
_GZIP_WINDOW = 31
_MAGIC = b"\x1f\x8b"


def _fastest() -> Any:
    """Return the module that inflates: isal's takes half as long, where there is a build of it."""
    try:
        from isal import isal_zlib  # noqa: PLC0415 - not on every machine
    except ImportError:
        return zlib
    return isal_zlib


_FASTEST = _fastest()


class Inflater:
    """Inflates the chunks of one gzip body.

    Args:
        library: does it: `zlib`, or a module of the same interface.
    """

    def __init__(self, library: Any = _FASTEST) -> None:
        self._library = library
        self._member = library.decompressobj(_GZIP_WINDOW)
        self._pending = b""

    def feed(self, chunk: bytes) -> Iterator[bytes]:
        """Yield what a chunk inflates to, at most 256 KiB at a time.

        Raises:
            MalformedAnswerError: it is not gzip, its checksum is wrong, or something follows it.
        """
        # Fed in parts, because the end of a member copies what follows it, and there may be many.
        for start in range(0, len(chunk), _FED_BYTES):
            yield from self._feed(chunk[start : start + _FED_BYTES])

    def _feed(self, chunk: bytes) -> Iterator[bytes]:
        data = self._pending + chunk
        self._pending = b""
        while data:
            if self._member.eof:
                if len(data) < len(_MAGIC) and _MAGIC.startswith(data):
                    self._pending = data
                    return
                if not data.startswith(_MAGIC):
                    raise MalformedAnswerError("Bytes follow the answer's gzip stream.")
                self._member = self._library.decompressobj(_GZIP_WINDOW)
            try:
                inflated = self._member.decompress(data, _STEP_BYTES)
            except self._library.error:
                raise MalformedAnswerError("The answer's gzip stream is damaged.") from None
            data = self._member.unused_data if self._member.eof else self._member.unconsumed_tail
            if inflated:
                yield inflated

    def finish(self) -> None:
        """Check that the stream has ended.

        Raises:
            MalformedAnswerError: it was cut short.
        """
        if not self._member.eof or self._pending:
            raise MalformedAnswerError("The answer's gzip stream is cut short.")
