"""Whether an engine is the process that it was."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from provider_agent.backends.base import BackendUnreachable
from provider_agent.backends.http import EngineHttp
from tests.fakes.engine import FakeEngine

LATE_S = 5.0


@pytest.fixture
async def engine() -> AsyncIterator[FakeEngine]:
    async with FakeEngine() as fake:
        yield fake


async def test_it_is_as_long_as_it_lives(engine: FakeEngine) -> None:
    """And of one that nobody held nothing is known."""
    async with EngineHttp() as http:
        assert not http.holds(engine.url)
        await http.hold(engine.url, timeout_s=LATE_S)

        assert http.holds(engine.url)
        assert engine.requests == []


async def test_one_that_came_back_at_once_is_another(engine: FakeEngine) -> None:
    """Nobody needs to look while it is away."""
    async with EngineHttp() as http:
        await http.hold(engine.url, timeout_s=LATE_S)
        await engine.stop()
        await engine.start(engine.port)
        assert not http.holds(engine.url)

        await http.hold(engine.url, timeout_s=LATE_S)
        assert http.holds(engine.url)


async def test_an_engine_has_one_such_connection(engine: FakeEngine) -> None:
    """The last; and none is left behind."""
    async with EngineHttp() as http:
        for _ in range(3):
            await http.hold(engine.url, timeout_s=LATE_S)
        assert http.holds(engine.url)
    async with asyncio.timeout(LATE_S):
        for connection in engine.connections:
            await connection.closed.wait()


async def test_one_that_is_not_there_cannot_be_held(engine: FakeEngine) -> None:
    """As for any question."""
    await engine.stop()
    async with EngineHttp() as http:
        with pytest.raises(BackendUnreachable):
            await http.hold(engine.url, timeout_s=LATE_S)
        assert not http.holds(engine.url)


async def test_one_that_does_not_answer_is_as_good_as_not_there(engine: FakeEngine) -> None:
    """No answer was asked for, so none is late; here it says nothing to TLS."""
    async with EngineHttp() as http:
        with pytest.raises(BackendUnreachable, match="in time"):
            await http.hold(engine.url.replace("http:", "https:"), timeout_s=0.05)
