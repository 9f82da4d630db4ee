"""A client that takes nothing is noticed; one that takes little is not mistaken for it."""

import asyncio
import socket
from collections.abc import Callable
from typing import Any, cast

from provider_agent.coordinator.http.stall import LOOK_EVERY_S, WRITE_PATIENCE_S, StallWatch, taken_bytes
from provider_agent.transport.tcp import HIGH_WATER_BYTES
from tests.fakes.coordinators import until
from tests.fakes.transports import MemoryTransport


class Alarm:
    """One thing that is due."""

    def __init__(self, due_s: float, call: Callable[[], None]) -> None:
        self.due_s = due_s
        self.call = call
        self.is_cancelled = False

    def cancel(self) -> None:
        self.is_cancelled = True


class HandTurnedLoop:
    """A loop in which time passes when the test says so."""

    def __init__(self) -> None:
        self.now_s = 1000.0
        self.alarms: list[Alarm] = []

    def time(self) -> float:
        return self.now_s

    def call_later(self, delay_s: float, call: Callable[[], None]) -> Alarm:
        self.alarms.append(Alarm(self.now_s + delay_s, call))
        return self.alarms[-1]

    @property
    def waiting(self) -> list[Alarm]:
        return [alarm for alarm in self.alarms if not alarm.is_cancelled]

    def pass_time(self, seconds: float) -> None:
        until_s = self.now_s + seconds
        while due := [alarm for alarm in self.waiting if alarm.due_s <= until_s]:
            alarm = min(due, key=lambda each: each.due_s)
            self.alarms.remove(alarm)
            self.now_s = alarm.due_s
            alarm.call()
        self.now_s = until_s


class Client:
    """A connection that is full, and how often its watch looked."""

    def __init__(self) -> None:
        self.loop = HandTurnedLoop()
        self.wire = ClosingTransport()
        self.looks = 0
        self.wire.hold()
        self.wire.write(b"x" * 4 * HIGH_WATER_BYTES)
        self.watch = StallWatch(
            cast("asyncio.AbstractEventLoop", self.loop), self.wire, WRITE_PATIENCE_S, self._look
        )

    def is_cut(self) -> bool:
        return self.wire.is_closed

    def _look(self) -> None:
        self.looks += 1


class ClosingTransport(MemoryTransport):
    """One whose protocol need not be told."""

    def abort(self) -> None:
        self.is_closed = True

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return default


def test_a_client_that_takes_nothing_is_cut_when_patience_is_at_its_end() -> None:
    """Neither before nor long after."""
    client = Client()
    client.watch.start()
    client.loop.pass_time(WRITE_PATIENCE_S - 1)
    assert not client.is_cut()

    client.loop.pass_time(1 + LOOK_EVERY_S)
    assert client.is_cut()
    assert client.loop.waiting == []


def test_a_client_that_takes_a_little_is_left_in_peace() -> None:
    """However long that takes; and whoever writes to it hears of it."""
    client = Client()
    client.watch.start()
    for _ in range(100):
        client.loop.pass_time(WRITE_PATIENCE_S - LOOK_EVERY_S)
        client.wire.let_go(100)

    assert not client.is_cut()
    assert client.looks >= 100


def test_a_client_that_has_room_again_is_not_watched() -> None:
    """Nothing runs on."""
    client = Client()
    client.watch.start()
    client.loop.pass_time(LOOK_EVERY_S)
    client.watch.stop()
    client.loop.pass_time(10 * WRITE_PATIENCE_S)

    assert not client.is_cut()
    assert client.looks == 1


def test_patience_begins_anew_with_each_stall() -> None:
    """Earlier ones are forgiven."""
    client = Client()
    for _ in range(3):
        client.watch.start()
        client.loop.pass_time(WRITE_PATIENCE_S - 1)
        client.watch.stop()

    assert not client.is_cut()


async def test_what_a_client_takes_is_what_its_end_of_the_connection_has_acknowledged() -> None:
    """The kernel tells: our own buffer empties in large lumps."""
    server, client = socket.create_server(("127.0.0.1", 0)), socket.socket()
    client.connect(server.getsockname())
    ours, _ = server.accept()
    loop = asyncio.get_running_loop()
    transport, _ = await loop.connect_accepted_socket(asyncio.Protocol, ours)
    before = taken_bytes(transport)
    transport.write(b"x" * 1000)
    client.setblocking(False)
    async with asyncio.timeout(5):
        while len(await loop.sock_recv(client, 1000)) < 1000:
            pass
        await until(lambda: taken_bytes(transport) > before)
    transport.abort()
    client.close()
    server.close()


async def test_a_connection_that_is_not_tcp_is_judged_by_our_buffer() -> None:
    """There is nothing else to judge it by."""
    ours, theirs = socket.socketpair()
    loop = asyncio.get_running_loop()
    transport, _ = await loop.connect_accepted_socket(asyncio.Protocol, ours)

    assert taken_bytes(transport) == 0
    transport.write(b"x" * 10_000_000)
    assert taken_bytes(transport) < 0
    transport.abort()
    theirs.close()
