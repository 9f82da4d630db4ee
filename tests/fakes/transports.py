"""A connection without a network: what is written is kept, what arrives is said by the test."""

import asyncio
import socket
from types import TracebackType
from typing import Any, Self

from provider_agent.backends.wire import READ_BYTES, Wire


class LooseTransport(asyncio.Transport):
    """The end of a wire that leads nowhere. A context manager.

    Attributes:
        wire: what is at the other end.
        written: all that was sent.
        is_paused: nothing is read.
        lost: set when it is closed, and the wire told so.
    """

    def __init__(self) -> None:
        super().__init__()
        self._buffer = bytearray(READ_BYTES)
        self._socket, self.far_end = socket.socketpair()
        self._is_closing = False
        self.written = bytearray()
        self.is_paused = False
        self.lost = asyncio.Event()
        self.wire = Wire(memoryview(self._buffer))
        self.wire.connection_made(self)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.wire.silence.stop()
        self._socket.close()
        self.far_end.close()

    def arrive(self, data: bytes) -> None:
        """As the loop does: one read."""
        buffer = self.wire.get_buffer(-1)
        buffer[: len(data)] = data
        self.wire.buffer_updated(len(data))

    def lose(self, error: Exception | None = None) -> None:
        """The connection ends, as the loop would say."""
        if not self.lost.is_set():
            self.lost.set()
            self._is_closing = True
            self.wire.connection_lost(error)

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return self._socket if name == "socket" else default

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.written += data

    def get_write_buffer_size(self) -> int:
        return 0

    def is_closing(self) -> bool:
        return self._is_closing

    def pause_reading(self) -> None:
        self.is_paused = True

    def resume_reading(self) -> None:
        self.is_paused = False

    def abort(self) -> None:
        self._is_closing = True
        asyncio.get_running_loop().call_soon(self.lose)
