"""A TCP proxy on loopback that does to a connection what networks do to it; knows nothing above TCP.

async with FaultProxy(coordinator_port) as proxy:        # dial proxy.port
    proxy.on_connection = lambda new: new.up.cut_after(5_000)
    await proxy.connected(1)
    proxy.newest.down.pause()                            # that direction stands still, nothing is lost
    proxy.newest.black_hole()                            # read, and lost: neither end learns of it
    proxy.newest.cut(Cut.RST)
    proxy.refuse()                                       # and nobody gets in any more
"""

import asyncio
import socket
import struct
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from enum import Enum
from types import TracebackType
from typing import Self

HOST = "127.0.0.1"

READ_BYTES = 64 * 1024
HELD_BYTES = 64 * 1024
"""What one direction holds before it reads no more, but for what latency keeps under way."""

PIECES_PER_S = 50.0
"""With a rate, bytes go on in so many pieces a second."""

_LINGER_FOR_NO_TIME = struct.pack("ii", 1, 0)
"""Turns a close into a reset."""


class Cut(Enum):
    """How an end learns that its connection is over."""

    FIN = "closed"
    RST = "reset"


class Pipe:
    """One direction of one connection; every setting may be changed at any time.

    Attributes:
        latency_s: how long each byte is under way.
        bytes_per_s: how fast they go on at most; None for any speed.
        taken_bytes: read so far from the one end.
        passed_bytes: written so far to the other.
        ended: set once the source has closed or reset its end; into a black hole, that is not passed on.
    """

    def __init__(self, source: socket.socket, sink: socket.socket, on_cut: Callable[[], None]) -> None:
        self.latency_s = 0.0
        self.bytes_per_s: float | None = None
        self.taken_bytes = 0
        self.passed_bytes = 0
        self.ended = asyncio.Event()
        self._source = source
        self._sink = sink
        self._on_cut = on_cut
        self._cut_at_bytes: int | None = None
        self._loses = False
        self._under_way: deque[tuple[float, bytes]] = deque()  # when it arrives, and what; b"" is the end
        self._news = asyncio.Event()
        self._flows = asyncio.Event()
        self._flows.set()

    def pause(self) -> None:
        """From now on nothing goes on, and soon nothing is read; nothing is lost."""
        self._flows.clear()

    def resume(self) -> None:
        self._flows.set()

    def black_hole(self) -> None:
        """Lose what is under way and what comes; the source may go on sending."""
        self._loses = True
        self._under_way.clear()

    def half_close(self) -> None:
        """End this direction behind what is under way; the other one lives on."""
        self._enter(b"")
        self._loses = True

    def cut_after(self, more_bytes: int) -> None:
        """Pass on exactly so many more bytes, then reset both ends."""
        self._cut_at_bytes = self.passed_bytes + more_bytes

    async def run(self) -> None:
        """Pass on until the source ends. Raises OSError when an end is reset."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._read())
            tasks.create_task(self._write())

    @property
    def _is_full(self) -> bool:
        return not self.latency_s and sum(len(data) for _, data in self._under_way) >= HELD_BYTES

    async def _read(self) -> None:
        data = b"-"
        while data:
            while self._is_full:
                await self._changed()
            data = await self._received()
            self.taken_bytes += len(data)
            if not self._loses:
                self._enter(data)
        self.ended.set()

    async def _received(self) -> bytes:
        """What has come; b"" at the end, and at a reset that nobody else may learn of."""
        try:
            return await asyncio.get_running_loop().sock_recv(self._source, READ_BYTES)
        except OSError:
            self.ended.set()
            if self._loses:
                return b""
            raise

    def _enter(self, data: bytes) -> None:
        self._under_way.append((asyncio.get_running_loop().time() + self.latency_s, data))
        self._news.set()

    async def _changed(self) -> None:
        self._news.clear()
        await self._news.wait()

    async def _write(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            while not self._under_way:
                await self._changed()
            due_s, _ = self._under_way[0]
            await asyncio.sleep(due_s - loop.time())
            await self._flows.wait()
            if not self._under_way:
                continue  # lost while it waited
            _, data = self._under_way.popleft()
            self._news.set()
            if not data:
                break
            await self._pass_on(data)
        with suppress(OSError):  # the other end may have gone by itself
            self._sink.shutdown(socket.SHUT_WR)

    async def _pass_on(self, data: bytes) -> None:
        loop = asyncio.get_running_loop()
        rest = memoryview(data)
        while rest:
            await self._flows.wait()
            piece = rest[: self._piece_bytes(len(rest))]
            await loop.sock_sendall(self._sink, piece)
            self.passed_bytes += len(piece)
            if self.passed_bytes == self._cut_at_bytes:
                self._on_cut()
                await asyncio.Event().wait()  # until the cut ends this task
            rest = rest[len(piece) :]
            if self.bytes_per_s is not None:
                await asyncio.sleep(len(piece) / self.bytes_per_s)

    def _piece_bytes(self, ready_bytes: int) -> int:
        limits = [ready_bytes]
        if self.bytes_per_s is not None:
            limits.append(max(1, int(self.bytes_per_s / PIECES_PER_S)))
        if self._cut_at_bytes is not None:
            limits.append(max(1, self._cut_at_bytes - self.passed_bytes))
        return min(limits)


class ProxiedConnection:
    """A connection through the proxy: two ends, two directions.

    Attributes:
        up: from whoever dialled to the server.
        down: from the server to whoever dialled.
        closed: set once the proxy holds no end of it any more.
    """

    def __init__(self, near: socket.socket, far: socket.socket) -> None:
        self.up = Pipe(near, far, self._cut_by_pipe)
        self.down = Pipe(far, near, self._cut_by_pipe)
        self.closed = asyncio.Event()
        self._ends = {"near": near, "far": far}
        self._task: asyncio.Task[None] | None = None
        self._kept: set[str] = set()

    async def serve(self) -> None:
        """Pass bytes on until both directions have ended, or it is cut."""
        self._task = asyncio.current_task()
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self.up.run())
                tasks.create_task(self.down.run())
        except* OSError:
            self._reset_at_close()
        except* asyncio.CancelledError:
            pass  # by `cut`
        finally:
            self._close()

    def black_hole(self) -> None:
        """Both ends may go on sending, and hear nothing."""
        self.up.black_hole()
        self.down.black_hole()

    def pause(self) -> None:
        self.up.pause()
        self.down.pause()

    def resume(self) -> None:
        self.up.resume()
        self.down.resume()

    def cut(self, how: Cut = Cut.RST, *, near: bool = True, far: bool = True) -> None:
        """End it now, whatever is under way. An end that is not cut stays open, and silent."""
        self._kept = {name for name, is_cut in (("near", near), ("far", far)) if not is_cut}
        if how is Cut.RST:
            self._reset_at_close()
        if self._task is not None:
            self._task.cancel()

    def _cut_by_pipe(self) -> None:
        self.cut(Cut.RST)

    def _reset_at_close(self) -> None:
        for name in self._ends.keys() - self._kept:
            with suppress(OSError):
                self._ends[name].setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_FOR_NO_TIME)

    def _close(self) -> None:
        for name in self._ends.keys() - self._kept:
            self._ends.pop(name).close()
        if not self._ends:
            self.closed.set()

    def let_go(self) -> None:
        """Close what a cut has left open."""
        self._kept = set()
        self._close()


class FaultProxy:
    """See the module.

    Attributes:
        port: where to dial.
        target_port: where new connections go.
        on_connection: told of each new connection before a byte of it has passed.
        connections: all of them, in order of arrival.
    """

    def __init__(self, target_port: int) -> None:
        self.target_port = target_port
        self.on_connection: Callable[[ProxiedConnection], object] = lambda _: None
        self.connections: list[ProxiedConnection] = []
        self.port = 0
        self._place: socket.socket | None = None  # keeps the port while nobody listens on it
        self._listener: socket.socket | None = None
        self._accepting: asyncio.Task[None] | None = None
        self._arrived = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def newest(self) -> ProxiedConnection:
        return self.connections[-1]

    @property
    def live(self) -> tuple[ProxiedConnection, ...]:
        return tuple(each for each in self.connections if not each.closed.is_set())

    async def connected(self, count: int) -> ProxiedConnection:
        """Wait until there have been so many connections in all; gives the last of these."""
        while len(self.connections) < count:
            self._arrived.clear()
            await self._arrived.wait()
        return self.connections[count - 1]

    def refuse(self) -> None:
        """From now on nobody gets in: a dial is refused by the kernel. Connections live on."""
        if self._listener is not None and self._accepting is not None:
            asyncio.get_running_loop().remove_reader(self._listener)
            self._listener.close()
            self._listener = None
            self._accepting.cancel()

    def accept(self) -> None:
        """Let whoever dials in, again."""
        self._listener = self._bound(self.port)
        self._listener.listen(1024)
        self._accepting = asyncio.get_running_loop().create_task(self._accept(self._listener))

    async def __aenter__(self) -> Self:
        self._place = self._bound(0)
        self.port = self._place.getsockname()[1]
        self.accept()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.refuse()
        for each in self.connections:
            each.cut()
        tasks = [*self._tasks, *([] if self._accepting is None else [self._accepting])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for each in self.connections:
            each.let_go()
        if self._place is not None:
            self._place.close()

    def _bound(self, port: int) -> socket.socket:
        bound = socket.socket()
        bound.setblocking(False)
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        bound.bind((HOST, port))
        return bound

    async def _accept(self, listener: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        while True:
            near, _ = await loop.sock_accept(listener)
            task = loop.create_task(self._pass_on(near))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _pass_on(self, near: socket.socket) -> None:
        far = socket.socket()
        for end in (near, far):
            end.setblocking(False)
            end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            await asyncio.get_running_loop().sock_connect(far, (HOST, self.target_port))
        except BaseException as error:
            near.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_FOR_NO_TIME)
            near.close()
            far.close()
            if isinstance(error, OSError):
                return  # nobody listens there: whoever dialled reads a reset
            raise
        connection = ProxiedConnection(near, far)
        self.connections.append(connection)
        self.on_connection(connection)
        self._arrived.set()
        await connection.serve()
