import contextlib
import gzip
import zlib
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bulkfetch.errors import MalformedAnswerError
from bulkfetch.http.inflate import Inflater

try:
    from isal import isal_zlib
except ImportError:  # no build for this machine
    isal_zlib = None  # type: ignore[assignment]


LIBRARIES = [zlib, isal_zlib] if isal_zlib else [zlib]
pytestmark = pytest.mark.parametrize("library", LIBRARIES)


def inflate(library: Any, *chunks: bytes) -> bytes:
    inflater = Inflater(library)
    inflated = b"".join(piece for chunk in chunks for piece in inflater.feed(chunk))
    inflater.finish()
    return inflated


def in_chunks(data: bytes, sizes: list[int]) -> list[bytes]:
    chunks = []
    for size in sizes:
        chunks.append(data[:size])
        data = data[size:]
    return [*chunks, data]


@given(st.lists(st.binary(max_size=500), min_size=1, max_size=4), st.lists(st.integers(0, 40)))
def test_members_are_inflated_however_they_are_chunked(
    library: Any, members: list[bytes], sizes: list[int]
) -> None:
    packed = b"".join(gzip.compress(member) for member in members)
    assert inflate(library, *in_chunks(packed, sizes)) == b"".join(members)


@given(st.binary(min_size=1, max_size=300), st.data())
def test_a_stream_cut_anywhere_is_refused(library: Any, text: bytes, data: st.DataObject) -> None:
    packed = gzip.compress(text)
    cut = data.draw(st.integers(1, len(packed) - 1))
    with pytest.raises(MalformedAnswerError):
        inflate(library, packed[:cut])


@given(st.binary(min_size=30, max_size=300), st.data())
def test_a_damaged_stream_is_refused_or_inflates_to_the_same(
    library: Any, text: bytes, data: st.DataObject
) -> None:
    """Of a header, name and time may change; everything else is under the checksum."""
    packed = bytearray(gzip.compress(text))
    at = data.draw(st.integers(0, len(packed) - 1))
    packed[at] ^= data.draw(st.integers(1, 255))
    with contextlib.suppress(MalformedAnswerError):
        assert inflate(library, bytes(packed)) == text


@pytest.mark.parametrize(
    "junk", [b"x", b"\0", b"\x1f", b"\x1f\x8b", b"<html>", b"\x1f\x8bjunk", b"\0" * 512]
)
def test_what_follows_the_stream_is_refused(library: Any, junk: bytes) -> None:
    with pytest.raises(MalformedAnswerError):
        inflate(library, gzip.compress(b"text") + junk)


@pytest.mark.parametrize("packed", [zlib.compress(b"text"), b"plain text", b"\x1f\x8b\x07"])
def test_what_is_not_gzip_is_refused(library: Any, packed: bytes) -> None:
    with pytest.raises(MalformedAnswerError):
        inflate(library, packed)


def test_pieces_are_bounded(library: Any) -> None:
    inflater = Inflater(library)
    sizes = [len(piece) for piece in inflater.feed(gzip.compress(b"\0" * 2**24))]
    inflater.finish()
    assert sum(sizes) == 2**24
    assert max(sizes) <= 256 * 1024


def test_a_chunk_of_many_small_members_costs_no_more_than_its_size_deserves(library: Any) -> None:
    """Each member's end hands back what follows it: to copy that each time is quadratic."""
    fed_bytes = 0

    class Member:
        """One member of the real library, which counts what it is handed."""

        def __init__(self, window: int) -> None:
            self._member = library.decompressobj(window)

        def decompress(self, data: bytes, most: int) -> bytes:
            nonlocal fed_bytes
            fed_bytes += len(data)
            return bytes(self._member.decompress(data, most))

        def __getattr__(self, name: str) -> Any:
            return getattr(self._member, name)

    member = gzip.compress(b"")
    chunk = member * (1024 * 1024 // len(member))
    counting = SimpleNamespace(decompressobj=Member, error=library.error)
    assert inflate(counting, chunk) == b""
    assert fed_bytes < 1_000 * len(chunk)  # 26,000 times, were the whole chunk copied each time
