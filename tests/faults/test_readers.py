"""Clients that read slowly, or not at all: they slow their own engine, and nobody else."""

import asyncio
from contextlib import AsyncExitStack
from pathlib import Path

from tests.fakes.tapes import tape
from tests.faults.parts import line, needs_linux, resident_bytes

EVENTS = 10_000
ROOM_BYTES = 8 * 1024
"""What the kernel may hold for a slow client."""

WINDOW_BYTES = 256 * 1024
MARGIN_BYTES = 128 * 1024
KERNEL_BYTES = 12 * 1024 * 1024
"""What the kernel may hold on the way, in six buffers of three connections."""

MIB = 1024 * 1024
STUCK = 48


async def test_a_burst_of_10_000_chunks_reaches_a_slow_and_a_normal_reader_whole(tmp_path: Path) -> None:
    """The slow one reads once and pauses; the other is done by then, and it gets the rest; field note 80."""
    async with line(tmp_path, apart=False) as parts:
        async with parts.client("slow", events=EVENTS, event_bytes=400, room_bytes=ROOM_BYTES) as slow:
            await slow.first(1, read_bytes=1024)
            normal = await parts.ask("normal", events=EVENTS, event_bytes=400)
            late = await slow.rest()
        await parts.is_idle()

    assert normal.body == tape("normal", events=EVENTS, event_bytes=400)
    assert late.body == tape("slow", events=EVENTS, event_bytes=400)


async def test_a_client_at_1_kb_a_second_slows_its_own_engine_and_nobody_else(tmp_path: Path) -> None:
    """Its engine cannot write on, while others get whole answers at full speed; field note 11."""
    async with line(tmp_path, apart=False) as parts:
        wanted = {"events": 640, "event_bytes": 64 * 1024}
        async with parts.client("crawls", room_bytes=ROOM_BYTES, **wanted) as crawling:
            connection = await parts.engine.is_asked("crawls")

            async def crawl() -> None:
                while True:
                    await crawling.read(100)
                    await asyncio.sleep(0.1)

            reading = asyncio.create_task(crawl())
            others = [await parts.ask(f"quick-{number}", events=200) for number in range(10)]
            before = connection.sent_bytes
            await asyncio.sleep(1)  # what is bounded may not grow: only time shows that
            after = connection.sent_bytes
            reading.cancel()
        await connection.closed.wait()

    assert [each.body for each in others] == [tape(f"quick-{number}", events=200) for number in range(10)]
    assert after < KERNEL_BYTES
    assert after - before <= 2 * WINDOW_BYTES


@needs_linux
async def test_a_stuck_client_costs_less_than_its_window_and_128_kib_on_each_side(tmp_path: Path) -> None:
    """Memory of both processes, with 48 clients that read nothing while their engines would send 16 MiB."""
    async with line(tmp_path, apart=True) as parts, AsyncExitStack() as stack:
        for number in range(8):  # what is used once is not given back, and is no cost of the stuck
            await parts.ask(f"warm-{number}", events=100, event_bytes=32 * 1024)
        programs = (parts.agent, parts.coordinator)
        before = [resident_bytes(each) for each in programs]
        clients = [
            await stack.enter_async_context(
                parts.client(f"stuck-{number}", events=256, event_bytes=MIB // 16, room_bytes=ROOM_BYTES)
            )
            for number in range(STUCK)
        ]
        await asyncio.gather(*(client.read(1024) for client in clients))
        await parts.stands_still()
        grown = [(resident_bytes(each) - was) // STUCK for each, was in zip(programs, before, strict=True)]
        sent = [parts.engine.served[f"stuck-{number}"].sent_bytes for number in range(STUCK)]
        heard = await clients[0].rest()

    assert max(sent) < 16 * MIB
    assert max(grown) < WINDOW_BYTES + MARGIN_BYTES
    assert heard.body == tape("stuck-0", events=256, event_bytes=MIB // 16)


async def test_a_stalled_reader_that_leaves_frees_its_engine(tmp_path: Path) -> None:
    """Nothing can be written to it, and still its leaving is noticed; field note 70."""
    async with line(tmp_path, apart=False) as parts:
        wanted = {"events": 640, "event_bytes": 64 * 1024}
        async with parts.client("stalls", room_bytes=ROOM_BYTES, **wanted) as client:
            await client.first(1, read_bytes=1024)
            connection = await parts.engine.is_asked("stalls")
            await parts.stands_still()
            assert not connection.closed.is_set()
        await connection.closed.wait()
        await parts.is_idle()


async def test_a_client_that_takes_nothing_for_too_long_is_told_apart(tmp_path: Path) -> None:
    """Its job ends as `backpressure_timeout`; what it reads in the end is no whole answer."""
    brief = {"LIMITS__BACKPRESSURE_TIMEOUT_S": "1"}
    async with line(tmp_path, apart=False, agent=brief) as parts:
        wanted = {"events": 640, "event_bytes": 64 * 1024}
        async with parts.client("stuck", room_bytes=ROOM_BYTES, **wanted) as client:
            await client.first(1, read_bytes=1024)
            connection = await parts.engine.is_asked("stuck")
            await connection.closed.wait()
            heard = await client.rest()
        next_one = await parts.ask("next")
        await parts.is_idle()

    assert not heard.is_whole
    assert heard.has_one_clean_end(tape("stuck", **wanted))
    assert next_one.body == tape("next")
