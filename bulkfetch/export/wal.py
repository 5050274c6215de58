"""Tell a damaged write-ahead log from one that a power cut tore.

SQLite reads its log up to the first frame that does not match its checksum and says nothing of
what follows: right after a power cut, where only the last transaction, which nobody was told of,
can be torn; wrong after a flipped bit, where committed transactions would vanish in silence. The
two can be told apart, because a transaction is begun only when the one before it is on the disk:
behind a frame that is torn there is at most one commit, and nothing behind that.

The format is that of https://www.sqlite.org/fileformat2.html#walformat. What it cannot tell:
damage to the very last transaction, and a file cut at its end, look like a power cut. The batches
that are lost then are fetched again.
"""

import struct
from pathlib import Path
from typing import BinaryIO

_HEADER_BYTES = 32
_FRAME_HEADER_BYTES = 24
_MAGIC = 0x377F0682  # its lowest bit says that checksums are over big-endian words
_MASK = 0xFFFFFFFF

Checksum = tuple[int, int]


def is_damaged(log: Path) -> bool:
    """Whether a log holds transactions that its reader will not see, though they were committed.

    Raises:
        OSError: it cannot be read.
    """
    try:
        with log.open("rb") as file:
            return _is_damaged(file)
    except FileNotFoundError:
        return False


def _is_damaged(file: BinaryIO) -> bool:
    header = file.read(_HEADER_BYTES)
    first = file.read(_FRAME_HEADER_BYTES)
    if not first:
        return False  # the header is synced before the first frame is written
    magic, _, page_bytes, _, *salts, sum0, sum1 = struct.unpack(">8I", header)
    is_big_endian = bool(magic & 1)
    if magic & ~1 != _MAGIC or _sum(header[:24], (0, 0), is_big_endian) != (sum0, sum1):
        return True
    so_far, is_torn, commits = (sum0, sum1), False, 0
    frame_header = first
    while len(frame_header) == _FRAME_HEADER_BYTES:
        page = file.read(page_bytes)
        if len(page) < page_bytes:
            break
        _, pages_after_commit, *frame_salts, sum0, sum1 = struct.unpack(">6I", frame_header)
        is_of_this_log = frame_salts == salts  # others are left from before it was begun anew
        if not is_torn:
            so_far = _sum(page, _sum(frame_header[:8], so_far, is_big_endian), is_big_endian)
            is_torn = not is_of_this_log or so_far != (sum0, sum1)
        if is_torn and is_of_this_log:
            if commits:
                return True
            commits += pages_after_commit > 0
        frame_header = file.read(_FRAME_HEADER_BYTES)
    return False


def _sum(data: bytes, start: Checksum, is_big_endian: bool) -> Checksum:
    """Return SQLite's checksum of data, going on from that of what stands before it."""
    sum0, sum1 = start
    words = struct.unpack(f"{'>' if is_big_endian else '<'}{len(data) // 4}I", data)
    for even, odd in zip(words[::2], words[1::2], strict=True):
        sum0 = (sum0 + even + sum1) & _MASK
        sum1 = (sum1 + odd + sum0) & _MASK
    return sum0, sum1
