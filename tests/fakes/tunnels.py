"""A proxy that makes tunnels, to one engine whatever is asked for."""

import asyncio
import ssl
from contextlib import suppress
from types import TracebackType
from typing import Self


class TunnelProxy:
    """Answers each CONNECT with `status`, and then passes on what comes. An async context manager.

    Attributes:
        heads: what it was asked, in order.
    """

    def __init__(self, port: int, *, status: str = "200 OK", tls: ssl.SSLContext | None = None) -> None:
        self._to_port = port
        self._status = status
        self._tls = tls
        self._tasks: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None
        self.heads: list[str] = []
        self.port = 0

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._connected, "127.0.0.1", 0, ssl=self._tls)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._server is not None:
            self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.get_running_loop().create_task(self._serve(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.heads.append((await reader.readuntil(b"\r\n\r\n")).decode())
        writer.write(f"HTTP/1.1 {self._status}\r\n\r\n".encode())
        try:
            if self._status.startswith("200"):
                far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self._to_port)
                async with asyncio.TaskGroup() as group:
                    group.create_task(_pass_on(reader, far_writer))
                    group.create_task(_pass_on(far_reader, writer))
        finally:
            await _close(writer)


async def _pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        with suppress(OSError):
            while data := await reader.read(65536):
                writer.write(data)
    finally:
        await _close(writer)


async def _close(writer: asyncio.StreamWriter) -> None:
    writer.transport.abort()
    with suppress(OSError):
        await writer.wait_closed()
