"""What is set on a connection, and what is not where that makes no sense."""

import asyncio
import socket

from provider_agent.transport.tcp import HIGH_WATER_BYTES, is_reading, set_low_delay


async def transport_over(one: socket.socket) -> asyncio.Transport:
    transport, _ = await asyncio.get_running_loop().create_connection(asyncio.Protocol, sock=one)
    return transport


async def test_little_waits_in_the_kernel_where_no_control_frame_can_overtake_it() -> None:
    """Small frames leave at once; large ones wait here."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        transport = await transport_over(socket.create_connection(server.getsockname()))
        set_low_delay(transport)
        tcp = transport.get_extra_info("socket")

        assert tcp.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) != 0
        if hasattr(socket, "TCP_NOTSENT_LOWAT"):
            assert tcp.getsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT) == 2 * HIGH_WATER_BYTES
        transport.abort()


async def test_what_is_no_tcp_is_left_alone() -> None:
    """A socket of the machine has no such options."""
    ours, theirs = socket.socketpair()
    with theirs:
        transport = await transport_over(ours)
        set_low_delay(transport)
        transport.abort()


async def test_a_paused_transport_does_not_read_and_a_closing_one_counts_as_if_it_did() -> None:
    """While it closes nothing is to be proved any more."""
    ours, theirs = socket.socketpair()
    with theirs:
        transport = await transport_over(ours)
        await asyncio.sleep(0)
        assert is_reading(transport)
        transport.pause_reading()
        assert not is_reading(transport)
        transport.abort()
        assert is_reading(transport)
