"""The client and the engine of the fault tests: what they call whole, cut or wrong."""

import asyncio

import pytest

from tests.fakes.clients import Heard, RawClient, ask
from tests.fakes.engine import FakeEngine
from tests.fakes.tapes import HEADERS, TapeEngine, asks_for, document, event, tape

EXPECTED = tape("a", events=3)
ERROR = b'data: {"error":{"code":"session_lost"}}\n\n'


async def test_a_tape_is_what_its_client_hears() -> None:
    """Streamed and not streamed, to the byte."""
    async with asyncio.timeout(5), TapeEngine() as engine:
        streamed = await ask(engine.port, asks_for("a", events=3))
        whole = await ask(engine.port, asks_for("b", events=3, stream=False))

    assert streamed == Heard(200, EXPECTED, is_cut=False)
    assert whole == Heard(200, document("b", events=3), is_cut=False)


async def test_a_held_tape_waits_where_it_was_told_to() -> None:
    """Before its status line, or before one of its events; only once."""
    async with asyncio.timeout(5), TapeEngine() as engine:
        gates = [engine.hold("a", before=HEADERS), engine.hold("a", before=2)]
        async with RawClient(engine.port, asks_for("a", events=3)) as client:
            connection = await engine.is_asked("a")
            assert client.raw == b""
            gates[0].set()
            await client.first(2)
            assert connection.sent_bytes == 240
            gates[1].set()
            held = await client.rest()
        again = await ask(engine.port, asks_for("a", events=3))

    assert held.body == again.body == EXPECTED


async def test_an_engine_that_dies_leaves_a_cut_answer() -> None:
    """What came before is there, and it does not look whole."""
    async with asyncio.timeout(5), TapeEngine() as engine:
        engine.hold("a", before=2)
        async with RawClient(engine.port, asks_for("a", events=3)) as client:
            await client.first(2)
            await engine.stop()
            heard = await client.rest()

    assert heard == Heard(200, event("a", 0, 120) + event("a", 1, 120), is_cut=True)
    assert heard.has_one_clean_end(EXPECTED)


async def test_a_client_that_does_not_read_leaves_the_engine_waiting() -> None:
    """The kernel's room is small, so the engine soon cannot write."""
    async with asyncio.timeout(5), TapeEngine() as engine:
        asked = asks_for("a", events=200, event_bytes=100_000)
        async with RawClient(engine.port, asked, room_bytes=4096) as slow:
            await slow.first(1, read_bytes=4096)
            connection = await engine.is_asked("a")
            await ask(engine.port, asks_for("b"))

    assert connection.sent_bytes < 200 * 100_000


@pytest.mark.parametrize(
    "heard",
    [
        Heard(200, EXPECTED, is_cut=False),
        Heard(200, EXPECTED[:100], is_cut=True),
        Heard(200, EXPECTED[:240] + ERROR, is_cut=False),
        Heard(200, ERROR, is_cut=False),
        Heard(503, b'{"error":{"code":"session_lost"}}', is_cut=False),
        Heard(0, b"", is_cut=True),
    ],
)
def test_one_clean_end_is_one_of_these(heard: Heard) -> None:
    """Whole; cut in the middle; a beginning and an error; an error at once; no answer at all."""
    assert heard.has_one_clean_end(EXPECTED)


@pytest.mark.parametrize(
    "heard",
    [
        Heard(200, EXPECTED[:240], is_cut=False),
        Heard(200, EXPECTED[:120] + EXPECTED, is_cut=False),
        Heard(200, EXPECTED[120:], is_cut=False),
        Heard(200, EXPECTED[:120] + EXPECTED[240:], is_cut=True),
        Heard(200, EXPECTED + ERROR, is_cut=False),
        Heard(200, EXPECTED[:120] + ERROR + ERROR, is_cut=False),
        Heard(200, EXPECTED[:120] + ERROR + b"data: [DONE]\n\n", is_cut=False),
        Heard(503, b"", is_cut=False),
    ],
)
def test_anything_else_is_no_clean_end(heard: Heard) -> None:
    """Half an answer that looks whole, bytes twice, missing or misplaced, two ends, an error untold."""
    assert not heard.has_one_clean_end(EXPECTED)


async def test_an_ordinary_engine_is_still_heard() -> None:
    """Nothing of this needs a tape."""
    async with asyncio.timeout(5), FakeEngine() as engine:
        heard = await ask(engine.port, {"model": "tiny"})

    assert heard.is_whole
