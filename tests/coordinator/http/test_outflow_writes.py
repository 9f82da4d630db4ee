"""How often a connection is written to, and what is said of it: over connections in memory."""

from provider_agent.coordinator.answer import DONE, NEVER
from provider_agent.coordinator.http.server import Connection
from provider_agent.transport.tcp import HIGH_WATER_BYTES
from tests.fakes.answering import dechunk, door, let_pass
from tests.fakes.coordinators import until

TOKEN = b"data: 1\n\n"
PATIENCE_S = 0.1


def body_of(raw: bytes) -> bytes:
    """The one body of one response."""
    body, rest = dechunk(raw.partition(b"\r\n\r\n")[2])
    assert rest == b""
    return body


def is_pushed(connection: Connection) -> bool:
    """Whether somebody writes to it from within `feed`."""
    return connection.outflow is not None


async def test_an_answer_that_is_there_at_once_is_one_write() -> None:
    """Head, bytes and end: each write is a call of the kernel, the dearest thing in a small answer."""
    async with door() as it:
        connection, wire = it.client_in_memory()
        asked = await it.asked()
        asked.give(TOKEN)
        asked.answer.end(DONE)
        await asked.over.wait()

        assert (wire.writes, body_of(bytes(wire.written))) == (1, TOKEN)
        connection.connection_lost(None)


async def test_the_head_leaves_with_the_first_bytes_and_the_last_ones_with_the_end() -> None:
    """And nothing waits for anything."""
    async with door() as it:
        connection, wire = it.client_in_memory()
        asked = await it.asked()
        asked.give(TOKEN)
        await until(lambda: wire.writes == 1)
        assert wire.written.endswith(b"9\r\n" + TOKEN + b"\r\n")

        asked.give(TOKEN)
        asked.answer.end(DONE)
        await asked.over.wait()
        assert (wire.writes, body_of(bytes(wire.written))) == (2, TOKEN + TOKEN)
        connection.connection_lost(None)


async def test_a_comment_leaves_at_once_and_the_bytes_behind_it() -> None:
    """The head has left with the comment by then."""
    async with door(keepalive_s=0.01) as it:
        connection, wire = it.client_in_memory()
        asked = await it.asked()
        await until(lambda: wire.writes >= 2)
        asked.give(TOKEN)
        asked.answer.end(DONE)
        await asked.over.wait()

        body = body_of(bytes(wire.written))
        assert body.count(b": waiting for the engine\n\n") == wire.writes - 1
        assert body.endswith(b"\n\n" + TOKEN)
        connection.connection_lost(None)


async def test_an_answer_leaves_nothing_behind() -> None:
    """Neither at its connection nor at itself."""
    async with door() as it:
        connection, wire = it.client_in_memory()
        asked = await it.asked()
        asked.give(TOKEN)
        await until(lambda: wire.writes == 1)
        assert is_pushed(connection)
        asked.answer.end(DONE)
        await asked.over.wait()

        assert not is_pushed(connection)
        assert asked.answer.tell_at_bytes == NEVER
        connection.connection_lost(None)


async def test_bytes_that_fill_the_connection_up_are_not_consumed_yet() -> None:
    """The answer before them, on the same connection, still waits there."""
    async with door() as it:
        connection, wire = it.client_in_memory(times=2)
        wire.hold()
        first = await it.asked()
        first.give(b"x" * (HIGH_WATER_BYTES - 5000))
        first.answer.end(DONE)
        second = await it.asked()
        second.give(b"y" * 10_000)
        await until(lambda: wire.writes == 2)
        await until(lambda: is_pushed(connection))
        second.give(b"z")
        assert second.told == []

        wire.let_go()
        assert second.told == [10_000, 10_001]
        connection.connection_lost(None)


async def test_a_very_slow_client_is_noticed_to_take_something() -> None:
    """Before its connection has room again: its agent would give it up."""
    async with door(write_patience_s=PATIENCE_S) as it:
        connection, wire = it.client_in_memory()
        asked = await it.asked()
        asked.give(TOKEN)
        await until(lambda: wire.writes == 1)
        wire.hold()
        asked.give(b"x" * 2 * HIGH_WATER_BYTES)
        wire.let_go(50_000)
        await until(lambda: asked.consumed_bytes > len(TOKEN))

        assert asked.consumed_bytes <= 50_000
        connection.connection_lost(None)


async def test_a_client_that_has_taken_everything_may_wait_for_more_as_long_as_it_must() -> None:
    """Patience is for those who do not take what is there."""
    async with door(write_patience_s=PATIENCE_S) as it:
        connection, wire = it.client_in_memory()
        asked = await it.asked()
        asked.give(TOKEN)
        await until(lambda: wire.writes == 1)
        wire.hold()
        asked.give(b"x" * 2 * HIGH_WATER_BYTES)
        wire.let_go()
        await let_pass(3 * PATIENCE_S)

        assert not wire.is_closed
        connection.connection_lost(None)
