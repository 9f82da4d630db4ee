"""What both ends ask of the TCP connection below a WebSocket; knows no WebSocket."""

import asyncio
import socket

HIGH_WATER_BYTES = 64 * 1024
"""What a connection buffers before it is full: the most that a control frame ever waits behind."""


def set_low_delay(transport: asyncio.BaseTransport) -> None:
    """Small frames leave at once, and what waits does so here, where control overtakes, not in the kernel."""
    tcp = transport.get_extra_info("socket")
    if tcp is None or tcp.family not in (socket.AF_INET, socket.AF_INET6):
        return
    tcp.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    if hasattr(socket, "TCP_NOTSENT_LOWAT"):
        tcp.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, 2 * HIGH_WATER_BYTES)


def is_reading(transport: asyncio.Transport) -> bool:
    return transport.is_closing() or transport.is_reading()
