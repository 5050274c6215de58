"""Replies onto the wire: in pieces, paced, compressed, and cut where the profile wants it.

A piece is a few hundred rows, rendered and compressed in the event loop: a millisecond or two,
after which others have their turn. So an answer of any size neither blocks the loop nor stands in
memory, and no thread is needed, which virtual time would not allow.
"""

import asyncio
import socket
import struct
import zlib
from collections.abc import Iterator
from random import Random

from aiohttp import web

from bulkfetch.simulator.capacity import Line, Sleep
from bulkfetch.simulator.ledger import Call
from bulkfetch.simulator.render import Body
from bulkfetch.simulator.service import Reply

_GZIP_WINDOW = 16 + zlib.MAX_WBITS
CUTS = {"cut_body", "cut_chunked", "cut_close_delimited", "cut_gzip"}


class _CloseDelimited(web.StreamResponse):
    """An answer without a length, ended by closing the connection, as HTTP/1.0 did."""

    _length_check = False  # aiohttp's switch for this, used by its WebSocketResponse too


class Sender:
    """Sends replies.

    Args:
        line: The bandwidth that all answers share.
        sleep: Waits a number of seconds.
        random: Decides where an answer is cut.
        gzip: Compress for clients that accept it.
        drip_bytes_per_s: The pace of a slow drip.
    """

    def __init__(
        self, line: Line, sleep: Sleep, random: Random, *, gzip: bool, drip_bytes_per_s: float
    ) -> None:
        self._line = line
        self._sleep = sleep
        self._random = random
        self._gzip = gzip
        self._drip_bytes = max(1, int(drip_bytes_per_s))

    async def send(self, request: web.Request, reply: Reply, call: Call) -> web.StreamResponse:
        """Send a reply and complete the call's entry as far as the answer got.

        Returns:
            What an aiohttp handler returns.
        """
        if reply.delivery == "reset":
            _reset(request)
            return web.Response()
        call.status = reply.status
        if isinstance(reply.body, Body):
            return await self._stream(request, reply, reply.body, call)
        data = reply.body.encode()
        await self._line.carry(len(data))
        call.body_bytes = len(data)
        headers = {**reply.headers, "Content-Type": reply.content_type}
        return web.Response(status=reply.status, reason=reply.reason, headers=headers, body=data)

    async def _stream(
        self, request: web.Request, reply: Reply, body: Body, call: Call
    ) -> web.StreamResponse:
        """Send rows, piece by piece."""
        gzip = self._gzip and "gzip" in request.headers.get("Accept-Encoding", "")
        headers = {**reply.headers, "Content-Type": reply.content_type}
        if gzip:
            headers["Content-Encoding"] = "gzip"
        if reply.delivery == "wrong_encoding":
            headers["Content-Encoding"] = "br"
        response = web.StreamResponse(headers=headers)
        if reply.delivery == "cut_close_delimited":
            response = _CloseDelimited(headers=headers)
            response.force_close()
        elif reply.delivery == "cut_body":
            response.content_length = 2000 + body.count * 600  # surely more than will be sent
        pieces = body.pieces()
        if reply.delivery in CUTS:
            keep, is_inside_row = draw_cut(self._random, body.count)
            pieces = body.cut_pieces(keep, inside_row=is_inside_row)
            call.rows, call.items = call.rows[:keep], min(call.items, keep)
        await response.prepare(request)
        is_cut = reply.delivery in CUTS
        for data in _compressed(pieces, is_cut=is_cut) if gzip else map(str.encode, pieces):
            await self._write(response, data, call, is_dripping=reply.delivery == "slow_drip")
        if reply.delivery in CUTS - {"cut_gzip"}:
            if request.transport is not None:
                request.transport.close()
            return response
        await response.write_eof()
        call.whole = reply.acceptable
        return response

    async def _write(
        self, response: web.StreamResponse, data: bytes, call: Call, *, is_dripping: bool
    ) -> None:
        step = self._drip_bytes if is_dripping else max(1, len(data))
        for start in range(0, len(data), step):
            part = data[start : start + step]
            await self._line.carry(len(part))
            await response.write(part)
            call.body_bytes += len(part)
            if is_dripping:
                await self._sleep(1.0)
        # Neither a write to a client that keeps up nor a piece that stays in the compressor waits
        # for anything: others must have their turn all the same.
        await asyncio.sleep(0)


def draw_cut(random: Random, count: int) -> tuple[int, bool]:
    """Draw where an answer is cut: after how many of its rows, and whether inside the next one."""
    return random.randrange(count) if count else 0, random.random() < 0.5  # noqa: PLR2004


def _compressed(pieces: Iterator[str], *, is_cut: bool) -> Iterator[bytes]:
    """Compress piece by piece; what is cut comes without the end of the gzip stream."""
    compressor = zlib.compressobj(1, zlib.DEFLATED, _GZIP_WINDOW)
    for piece in pieces:
        yield compressor.compress(piece.encode())
    yield compressor.flush(zlib.Z_SYNC_FLUSH if is_cut else zlib.Z_FINISH)


def _reset(request: web.Request) -> None:
    """Break the connection: a reset rather than an orderly end, if the socket is a real one.

    In virtual time it is not, and has no such option.
    """
    transport = request.transport
    if transport is None:
        return
    connection = transport.get_extra_info("socket")
    if connection is not None and isinstance(connection.fileno(), int):
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    transport.abort()
