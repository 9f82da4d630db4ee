"""The proxy that cuts, delays and loses: what each fault does to two ends that only know TCP."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import pytest

from tests.fakes.proxy import Cut, FaultProxy, ProxiedConnection
from tests.fakes.servers import tcp_server

LIMIT_S = 10.0
LONG = bytes(range(256)) * 4096


@dataclass
class End:
    """One end of a connection."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def say(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def hear(self, size_bytes: int) -> bytes:
        return await self.reader.readexactly(size_bytes)

    async def hear_to_end(self) -> tuple[bytes, bool]:
        """All that comes, and whether the end was a reset."""
        heard = bytearray()
        try:
            while data := await self.reader.read(4096):
                heard += data
        except ConnectionResetError:
            return bytes(heard), True
        return bytes(heard), False

    async def is_reset(self) -> bool:
        """Wait for the end: True for a reset, False for an ordinary close."""
        return (await self.hear_to_end())[1]

    @property
    def has_heard(self) -> bool:
        """Whether anything is there, the end included."""
        return bool(self.reader._buffer) or self.reader.at_eof()  # type: ignore[attr-defined]


@dataclass
class Ends:
    """Two ends, and the proxy between them."""

    proxy: FaultProxy
    near: End
    far: End

    @property
    def between(self) -> ProxiedConnection:
        return self.proxy.newest


@asynccontextmanager
async def ends() -> AsyncIterator[Ends]:
    """A connection through a proxy, with both ends in the test's hands."""
    arrived: asyncio.Queue[End] = asyncio.Queue()
    over = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        arrived.put_nowait(End(reader, writer))
        await over.wait()

    async with asyncio.timeout(LIMIT_S), tcp_server(serve) as port, FaultProxy(port) as proxy:
        near = End(*await asyncio.open_connection("127.0.0.1", proxy.port))
        try:
            yield Ends(proxy, near, await arrived.get())
        finally:
            over.set()
            near.writer.close()


async def test_bytes_pass_both_ways_and_an_end_of_one_way_leaves_the_other_open() -> None:
    """Without a fault it is a wire: half-closed by one end, it still carries what the other says."""
    async with ends() as two:
        two.near.writer.write(LONG)
        two.near.writer.write_eof()
        up = await two.far.reader.read(-1)
        await two.far.say(b"still here")
        down = await two.near.hear(10)
        two.far.writer.close()
        await two.between.closed.wait()

    assert up == LONG
    assert down == b"still here"
    assert (two.between.up.passed_bytes, two.between.down.passed_bytes) == (len(LONG), 10)


async def test_a_cut_after_some_bytes_passes_exactly_these() -> None:
    """The place of a cut is the test's choice, to the byte, however the bytes were written."""
    async with ends() as two:
        two.between.up.cut_after(70_001)
        two.near.writer.write(LONG)
        far = await two.far.hear_to_end()
        near = await two.near.hear_to_end()
        await two.between.closed.wait()

    assert far == (LONG[:70_001], True)
    assert near == (b"", True)


@pytest.mark.parametrize(("how", "is_reset"), [(Cut.RST, True), (Cut.FIN, False)])
async def test_a_cut_now_tells_both_ends(how: Cut, is_reset: bool) -> None:
    """As a reset, or as an ordinary end of the stream."""
    async with ends() as two:
        await two.near.say(b"x")
        await two.far.hear(1)
        two.between.cut(how)

        assert await two.near.is_reset() is is_reset
        assert await two.far.is_reset() is is_reset


async def test_an_end_that_is_not_cut_hears_nothing() -> None:
    """The half-open connection that an agent leaves behind when its address changes."""
    async with ends() as two:
        two.between.cut(far=False)
        assert await two.near.is_reset()
        await two.far.say(b"anybody?")
        await two.near.is_reset()

        assert not two.far.has_heard
        assert not two.between.closed.is_set()


async def test_a_black_hole_takes_bytes_and_tells_nobody() -> None:
    """In one direction the bytes are lost, while the other still carries; then in both."""
    async with ends() as two:
        two.between.up.black_hole()
        await two.near.say(b"lost")
        await two.far.say(b"heard")
        assert await two.near.hear(5) == b"heard"
        two.between.black_hole()
        await two.far.say(LONG)
        await two.near.say(LONG)

        assert not two.far.has_heard
        assert not two.near.has_heard
        assert two.between.up.passed_bytes == 0


async def test_a_black_hole_hides_the_end_of_either_end() -> None:
    """One end resets its connection: the proxy knows, the other end never will."""
    async with ends() as two:
        two.between.black_hole()
        two.near.writer.transport.abort()
        await two.between.up.ended.wait()
        await two.far.say(b"anybody?")
        await asyncio.sleep(0)

        assert not two.far.has_heard
        assert not two.between.down.ended.is_set()


async def test_a_paused_direction_holds_its_bytes_and_loses_none() -> None:
    """Sent into a pause, they arrive after it; the other direction does not wait."""
    async with ends() as two:
        two.between.up.pause()
        two.near.writer.write(LONG)
        await two.far.say(b"meanwhile")
        await two.near.hear(9)
        assert two.between.up.passed_bytes == 0
        two.between.up.resume()

        assert await two.far.hear(len(LONG)) == LONG


async def test_a_paused_direction_fills_the_sender() -> None:
    """Nobody reads: what is sent stays with the sender once the kernel's room is full."""
    async with ends() as two:
        two.between.up.pause()
        two.near.writer.write(LONG * 64)
        await two.far.say(b"x")
        await two.near.hear(1)

        assert two.near.writer.transport.get_write_buffer_size() > 0


async def test_half_closing_ends_one_direction_behind_its_bytes() -> None:
    """One end reads what was sent and then the end; its own words still arrive."""
    async with ends() as two:
        await two.near.say(b"last words")
        first = await two.far.hear(1)
        two.between.up.half_close()
        rest = await two.far.reader.read(-1)
        await two.near.say(b"lost")
        await two.far.say(b"answer")

        assert first + rest == b"last words"
        assert await two.near.hear(6) == b"answer"


async def test_latency_delays_bytes_and_keeps_their_order() -> None:
    """Two pieces are under way at once: the second does not wait for the first's arrival."""
    async with ends() as two:
        loop = asyncio.get_running_loop()
        two.between.up.latency_s = 0.2
        began_s = loop.time()
        await two.near.say(b"one")
        await two.near.say(b"two")
        heard = await two.far.hear(6)
        passed_s = loop.time() - began_s

    assert heard == b"onetwo"
    assert 0.2 <= passed_s < 0.39


async def test_a_rate_bounds_how_fast_bytes_go_on() -> None:
    """20 kB at 100 kB/s take a fifth of a second."""
    async with ends() as two:
        loop = asyncio.get_running_loop()
        two.between.up.bytes_per_s = 100_000
        began_s = loop.time()
        await two.near.say(LONG[:20_000])
        heard = await two.far.hear(20_000)
        passed_s = loop.time() - began_s

    assert heard == LONG[:20_000]
    assert passed_s >= 0.18


async def test_a_refusing_proxy_keeps_its_port_and_its_connections() -> None:
    """A new dial is refused by the kernel, the old connection lives, and later dials get in again."""
    async with ends() as two:
        two.proxy.refuse()
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection("127.0.0.1", two.proxy.port)
        await two.near.say(b"x")
        assert await two.far.hear(1) == b"x"
        two.proxy.accept()
        _, writer = await asyncio.open_connection("127.0.0.1", two.proxy.port)
        await two.proxy.connected(2)
        writer.close()


async def test_every_new_connection_can_be_prepared_before_its_first_byte() -> None:
    """`on_connection` comes first: even the first byte meets the fault."""
    async with ends() as two:
        two.proxy.on_connection = lambda new: new.up.cut_after(1)
        late = End(*await asyncio.open_connection("127.0.0.1", two.proxy.port))
        late.writer.write(b"ab")

        assert await late.is_reset()
        assert two.proxy.newest.up.passed_bytes == 1
        late.writer.close()
