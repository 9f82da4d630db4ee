"""Peers that speak WebSocket by hand, so that a test decides about every byte."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from websockets.utils import accept_key

from tests.fakes.servers import tcp_server

PATH = "/v1/agents/connect"

Talk = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


async def silence(_reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
    await asyncio.Event().wait()


@asynccontextmanager
async def half_open_server(
    says: bytes = b"", *, then: Talk = silence, heads: list[str] | None = None, cut: int | None = None
) -> AsyncIterator[str]:
    """Completes the handshake, perhaps says something in the same breath, then neither reads nor speaks.

    The heads of the requests are added to `heads`; the handshake's answer is cut into two packets at `cut`.
    """

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        if heads is not None:
            heads.append(head)
        key = next(line.split(": ")[1] for line in head.split("\r\n") if line.startswith("Sec-WebSocket-Key"))
        answer = (
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Accept: " + accept_key(key).encode() + b"\r\n\r\n"
        )
        if cut is not None:
            writer.write(answer[:cut])
            await asyncio.sleep(0.02)  # or the network would join them again
            answer = answer[cut:]
        writer.write(answer + says)
        await writer.drain()
        await then(reader, writer)
        await silence(reader, writer)

    async with tcp_server(serve) as port:
        yield f"ws://127.0.0.1:{port}{PATH}"


@asynccontextmanager
async def raw_client(
    url: str, says: bytes = b""
) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """Asks for a WebSocket, and leaves every byte after `says`, in the same breath, to the test."""
    port = int(url.rpartition(":")[2].partition("/")[0])
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    request = (
        f"GET {PATH} HTTP/1.1\r\nHost: h\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
    )
    writer.write(request.encode() + says)
    await reader.readuntil(b"\r\n\r\n")
    try:
        yield reader, writer
    finally:
        writer.transport.abort()


@asynccontextmanager
async def mute_client(url: str) -> AsyncIterator[None]:
    """Asks for a WebSocket, then neither reads nor speaks."""
    async with raw_client(url) as (_, writer):
        writer.transport.pause_reading()  # type: ignore[attr-defined]
        yield


def masked(payload: bytes, first: int = 0x81) -> bytes:
    """One short frame of a client; its mask changes nothing."""
    return bytes([first, 0x80 | len(payload)]) + bytes(4) + payload
