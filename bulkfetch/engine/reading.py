"""Read one answer: inflate, cut and decode it away from the event loop, slices in parallel.

The loop only receives bytes. A small answer is read where it is, since a thread's round trip costs
more; one of ordinary size in one trip; of a large one each portion is inflated and cut in a trip of
its own, one after the other, and the slices are decoded in any number of threads meanwhile.
"""

import itertools
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import replace
from functools import partial
from typing import Generic, TypeVar

import anyio

from bulkfetch.engine.causes import first_cause
from bulkfetch.errors import MalformedAnswerError
from bulkfetch.http.body import Body
from bulkfetch.http.transport import Answer
from bulkfetch.runtime import Runtime
from bulkfetch.wire.cutter import SliceCutter
from bulkfetch.wire.decode import Decoded, Decoder, decode_document, decode_unscanned
from bulkfetch.wire.dialect import Source
from bulkfetch.wire.fault import Fault
from bulkfetch.wire.flatten import Flattener
from bulkfetch.wire.pack import SMALL_ROWS

RowsT = TypeVar("RowsT")

_INLINE_BYTES = 64 * 1024  # half a millisecond
_INLINE_WIRE_BYTES = 16 * 1024
_PORTION_BYTES = 128 * 1024
_SLICES_AT_ONCE = 4
# Of a large answer. A slice is scanned in one call that holds the interpreter's lock, and the event
# loop waits for it: with slices four times as large, one tick in a hundred came 15 ms late, not 8.
_SLICE_BYTES = 128 * 1024
# More gain nothing, since most of decoding holds the interpreter's lock, and each more keeps the
# event loop waiting for it: with eight, one tick in a hundred came 30 ms late.
_THREADS = 2


class _Documents:
    """Inflates and cuts: a step at a time, in whatever thread, never in two at once."""

    def __init__(self, body: Body, cutter: SliceCutter) -> None:
        self._body = body
        self._cutter = cutter
        self._pieces: Iterator[bytes] = iter(())
        self._portions = 0
        self._slices = 0
        self._portion = b""
        self._only = b""

    def feed(self, portion: bytes) -> None:
        """Take bytes as received; `cut` goes through them."""
        self._pieces = self._body.feed(portion)
        self._portions += 1
        self._portion = portion

    def cut(self) -> bytes | None:
        """Return the next document that is complete; None when more bytes are needed."""
        for piece in self._pieces:
            for document in self._cutter.feed(piece):
                self._slices += 1
                return document
        return None

    def is_small(self) -> bool:
        """Whether the bytes fed, which are all, are so few that no thread is needed for them."""
        first = [*itertools.islice(self._pieces, 2)]
        self._pieces = itertools.chain(first, self._pieces)
        self._only = b"".join(first)
        return len(first) <= 1 and len(self._only) < _INLINE_BYTES

    def only(self) -> bytes:
        """Return a small body as it is.

        The scan proves all that the cutter would refuse to be absent.
        """
        self._body.finish()
        return self._only

    def finish(self) -> bytes:
        """Return the last document."""
        self._body.finish()
        return self._cutter.finish()

    def source(self) -> Source | None:
        """Return what gives the only document again, if it was received compressed."""
        if self._portions != 1 or self._slices or not self._body.is_compressed:
            return None
        again = partial(_read_again, self._body.anew(), self._portion)
        return Source(again, len(self._portion))


def _read_again(make_body: Callable[[], Body], portion: bytes) -> bytes:
    documents = _Documents(make_body(), SliceCutter())
    documents.feed(portion)
    assert documents.cut() is None
    return documents.finish()


class AnswerReader(Generic[RowsT]):
    """Reads answers into rows of one kind.

    Args:
        flattener: reads documents.
        decoder: makes rows.
        runtime: the seam; its off-load is the way to threads.
    """

    def __init__(self, flattener: Flattener, decoder: Decoder[RowsT], runtime: Runtime) -> None:
        self._flattener = flattener
        self._decoder = decoder
        self._runtime = runtime
        self._threads = anyio.Semaphore(_THREADS, fast_acquire=True)

    async def read(
        self, answer: Answer, take: Callable[[int, Decoded[RowsT]], Awaitable[None]]
    ) -> Decoded[RowsT] | Fault:
        """Read an answer to its end.

        Args:
            answer: what is read.
            take: awaited with the number of each slice but the last, from 0, and what it holds.

        Returns:
            What the last document holds, which ends in the answer's real tail.

        Raises:
            MalformedAnswerError: the answer is not whole, or not acceptable.
            CallError: the call failed meanwhile, or `take` refused a slice.
        """
        portion, is_last = await answer.receive(_PORTION_BYTES)
        cutter = SliceCutter() if is_last else SliceCutter(slice_bytes=_SLICE_BYTES)
        documents = _Documents(answer.body, cutter)
        documents.feed(portion)
        if is_last and len(portion) < _INLINE_WIRE_BYTES and documents.is_small():
            return self._read_small(documents)
        step = await self._off_load_step(documents, is_last)
        if is_last and not isinstance(step, bytes):
            assert step is not None
            return step
        assert not isinstance(step, Decoded | Fault)
        try:
            return await self._read_slices(answer, documents, step, is_last, take)
        except ExceptionGroup as failures:
            raise first_cause(failures) from None

    def _read_small(self, documents: _Documents) -> Decoded[RowsT] | Fault:
        """Read an answer that is one small document, and nearly always plain: in one pass then."""
        columns = self._flattener.scan(documents.only())
        if columns is not None:
            if columns.count >= SMALL_ROWS:
                columns = replace(columns, source=documents.source())
            return self._decoder.from_columns(columns)
        cut = documents.cut()
        assert cut is None
        return decode_unscanned(documents.finish(), self._flattener, self._decoder)

    async def _read_slices(
        self,
        answer: Answer,
        documents: _Documents,
        document: bytes | None,
        is_last: bool,
        take: Callable[[int, Decoded[RowsT]], Awaitable[None]],
    ) -> Decoded[RowsT] | Fault:
        """Go on with an answer of more than one portion or slice."""
        slots = anyio.Semaphore(_SLICES_AT_ONCE)

        async def decode_slice(number: int, document: bytes) -> None:
            try:
                found = await self._decode(document)
            finally:
                slots.release()
            if isinstance(found, Fault):
                raise MalformedAnswerError("The answer holds a Fault beside records.")
            await take(number, found)

        slices = 0
        step: bytes | Decoded[RowsT] | Fault | None = document
        async with anyio.create_task_group() as group:
            while True:
                if isinstance(step, bytes):
                    await slots.acquire()
                    group.start_soon(decode_slice, slices, step)
                    slices += 1
                elif not is_last:
                    portion, is_last = await answer.receive(_PORTION_BYTES)
                    documents.feed(portion)
                step = await self._off_load_step(documents, is_last)
                if isinstance(step, Decoded | Fault):
                    last = step
                    break
        return last

    async def _off_load_step(
        self, documents: _Documents, is_last: bool
    ) -> bytes | Decoded[RowsT] | Fault | None:
        async with self._threads:
            return await self._runtime.offload(self._step, documents, is_last)

    def _step(self, documents: _Documents, is_last: bool) -> bytes | Decoded[RowsT] | Fault | None:
        """Return the next slice; without one, None, or if no more comes what the end holds."""
        document = documents.cut()
        if document is not None or not is_last:
            return document
        source = documents.source()
        return decode_document(documents.finish(), self._flattener, self._decoder, source)

    async def _decode(self, document: bytes) -> Decoded[RowsT] | Fault:
        """Decode a document: a small one here, since a thread's round trip costs more."""
        if len(document) < _INLINE_BYTES:
            return decode_document(document, self._flattener, self._decoder)
        async with self._threads:
            return await self._runtime.offload(
                decode_document, document, self._flattener, self._decoder
            )
