"""Notices a client that keeps its connection, but takes nothing; knows no request and no answer."""

import asyncio
import socket
import struct
from collections.abc import Callable

from provider_agent.telemetry.logs import get_logger

WRITE_PATIENCE_S = 60.0
"""How long a client may take nothing while more waits for it than its connection holds."""

LOOK_EVERY_S = 5.0
"""How often we look; as often we say what a slow client has taken."""

_ACKED_OFFSET = 120
"""Where `struct tcp_info` of Linux holds the bytes that the other end has acknowledged, 64 bits."""

_acked = struct.Struct("Q")

log = get_logger(__name__)


def taken_bytes(transport: asyncio.Transport) -> int:
    """A number that grows while the other end takes what we write.

    What our own buffer still holds tells less: from there, bytes go to the kernel in lumps that a
    slow client needs more than a minute for.
    """
    tcp = transport.get_extra_info("socket")
    if tcp is not None and hasattr(socket, "TCP_INFO"):
        try:
            info = tcp.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _ACKED_OFFSET + _acked.size)
        except OSError:  # no TCP, or not any more
            info = b""
        if len(info) >= _ACKED_OFFSET + _acked.size:
            acked: int = _acked.unpack_from(info, _ACKED_OFFSET)[0]
            return acked
    return -transport.get_write_buffer_size()


class StallWatch:
    """Looks at one transport while it is above its high water."""

    __slots__ = ("_due", "_loop", "_on_look", "_patience_s", "_since_s", "_taken", "_transport")

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        transport: asyncio.Transport,
        patience_s: float,
        on_look: Callable[[], None],
    ) -> None:
        """Wait to be started.

        Args:
            loop: where time passes.
            transport: where the client takes its answers from; is aborted when it does not.
            patience_s: how long it may take nothing.
            on_look: called from time to time while the watch goes on.
        """
        self._transport = transport
        self._patience_s = patience_s
        self._on_look = on_look
        self._loop = loop
        self._due: asyncio.TimerHandle | None = None
        self._since_s = 0.0
        self._taken = 0

    def start(self) -> None:
        self._since_s = self._loop.time()
        self._taken = taken_bytes(self._transport)
        self._arm()

    def stop(self) -> None:
        if self._due is not None:
            self._due.cancel()
            self._due = None

    def _arm(self) -> None:
        self.stop()
        self._due = self._loop.call_later(min(LOOK_EVERY_S, self._patience_s / 4), self._look)

    def _look(self) -> None:
        now_s, taken = self._loop.time(), taken_bytes(self._transport)
        if taken > self._taken:
            self._since_s, self._taken = now_s, taken
        elif now_s - self._since_s >= self._patience_s:
            log.info("client_stalled", patience_s=self._patience_s)
            self._transport.abort()
            return
        self._arm()
        self._on_look()
