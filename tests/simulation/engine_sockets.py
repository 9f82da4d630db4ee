"""Engines to which the agent's own HTTP client talks, on the clock that jumps: connections in memory."""

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final

from provider_agent.backends.wire import Wire
from tests.simulation.loop import VirtualLoop

STREAM_HEAD: Final = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n"
"""The body ends with the connection."""

Serve = Callable[["Conversation", bytes], Awaitable[None]]
"""Answers one request, whose head and body it is given."""


class Conversation(asyncio.Transport):
    """One connection, as the agent's wire sees it; what the engine does with it is its own business.

    Attributes:
        left: set when the agent has closed it.
    """

    def __init__(self, wire: Wire, serve: Serve) -> None:
        super().__init__()
        self.left = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self._wire = wire
        self._serve = serve
        self._request = bytearray()
        self._task: asyncio.Task[None] | None = None
        self._is_paused = False
        self._waiting: list[bytes] = []

    # --- what the engine does ---------------------------------------------------------------

    def say(self, data: bytes) -> None:
        """Send so much, or nothing more: b"". It arrives at once, unless the agent does not read."""
        if self.left.is_set():
            return
        if self._is_paused:
            self._waiting.append(data)
            return
        if not data:
            self._wire.eof_received()
            return
        self._wire.get_buffer(-1)[: len(data)] = data
        self._wire.buffer_updated(len(data))

    def say_json(self, value: object) -> None:
        body = json.dumps(value).encode()
        head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n" % len(body)
        self.say(head + b"Connection: close\r\n\r\n" + body)

    # --- as a transport ---------------------------------------------------------------------

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self._request += data
        head, _, body = bytes(self._request).partition(b"\r\n\r\n")
        length = next(
            (line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length")), b":0"
        )
        if (
            self._task is None
            and b"\r\n\r\n" in self._request
            and len(body) >= int(length.partition(b":")[2])
        ):
            self._task = self._loop.create_task(self._answer())

    async def _answer(self) -> None:
        await self._serve(self, bytes(self._request))
        self.say(b"")

    def pause_reading(self) -> None:
        self._is_paused = True

    def resume_reading(self) -> None:
        self._is_paused = False
        waiting, self._waiting = self._waiting, []
        for data in waiting:
            self.say(data)

    def is_closing(self) -> bool:
        return self.left.is_set()

    def get_write_buffer_size(self) -> int:
        return 0

    def abort(self) -> None:
        if not self.left.is_set():
            self.left.set()
            self._loop.call_soon(self._wire.connection_lost, None)


async def never() -> None:
    """Hang."""
    await asyncio.Event().wait()


class EngineLoop(VirtualLoop):
    """What connects on this loop comes to one of these engines, by its port; to no other, nobody listens.

    Attributes:
        engines: how each of them answers; None for one that accepts no connection any more, and refuses none.
        hanging_dials: how often somebody has come to such a one.
    """

    def __init__(self, engines: Mapping[int, Serve | None]) -> None:
        super().__init__()
        self.engines = dict(engines)
        self.hanging_dials = 0

    async def create_connection(  # type: ignore[override]
        self, make: Any, host: Any = None, port: Any = None, **_: Any
    ) -> Any:
        """To an address; there are no names here."""
        if port not in self.engines:
            raise ConnectionRefusedError(f"nothing listens at {host}:{port}")
        serve = self.engines[port]
        if serve is None:
            self.hanging_dials += 1
            await never()
            raise AssertionError
        wire = make()
        conversation = Conversation(wire, serve)
        wire.connection_made(conversation)
        return conversation, wire
