"""Connections without a network: what is written is kept, what arrives is said by the test."""

import asyncio
import socket
from types import TracebackType
from typing import Any, Self

from provider_agent.backends.wire import ReadBuffer, Wire
from provider_agent.transport.tcp import HIGH_WATER_BYTES


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
        self._socket, self.far_end = socket.socketpair()
        self._is_closing = False
        self.written = bytearray()
        self.is_paused = False
        self.lost = asyncio.Event()
        self.wire = Wire(ReadBuffer())
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


class MemoryTransport(asyncio.Transport):
    """Takes everything; a test may let it wait (`hold`) and leave (`let_go`).

    Attributes:
        written: all bytes that were written.
        writes: how many calls that took.
        is_half_closed, is_closed, is_paused: what the protocol has done to it.
        protocol: whose transport it is.
    """

    def __init__(self) -> None:
        super().__init__()
        self.written = bytearray()
        self.writes = 0
        self.is_half_closed = self.is_closed = self.is_paused = False
        self.protocol: asyncio.BaseProtocol | None = None
        self._waiting_bytes = 0
        self._is_held = False

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        self.protocol = protocol

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        assert high == HIGH_WATER_BYTES

    def get_write_buffer_size(self) -> int:
        return self._waiting_bytes

    def hold(self) -> None:
        """The peer takes nothing any more."""
        self._is_held = True

    def let_go(self, size_bytes: int | None = None) -> None:
        """The peer takes so much of what waits, or all."""
        was_full = self._waiting_bytes > HIGH_WATER_BYTES
        self._waiting_bytes -= self._waiting_bytes if size_bytes is None else size_bytes
        if was_full and self._waiting_bytes <= HIGH_WATER_BYTES // 4 and self.protocol is not None:
            self.protocol.resume_writing()

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.written += data
        self.writes += 1
        if not self._is_held:
            return
        was_full = self._waiting_bytes > HIGH_WATER_BYTES
        self._waiting_bytes += len(data)
        if self._waiting_bytes > HIGH_WATER_BYTES and not was_full and self.protocol is not None:
            self.protocol.pause_writing()

    def can_write_eof(self) -> bool:
        return True

    def write_eof(self) -> None:
        self.is_half_closed = True

    def is_reading(self) -> bool:
        return not self.is_paused

    def pause_reading(self) -> None:
        assert not self.is_paused
        self.is_paused = True

    def resume_reading(self) -> None:
        assert self.is_paused
        self.is_paused = False

    def is_closing(self) -> bool:
        return self.is_closed

    def close(self) -> None:
        self.abort()

    def abort(self) -> None:
        if not self.is_closed and self.protocol is not None:
            self.is_closed = True
            asyncio.get_running_loop().call_soon(self.protocol.connection_lost, None)
