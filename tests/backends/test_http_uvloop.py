"""The same client on the loop that the agent runs on, which makes its transports by itself."""

import asyncio
import ssl
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
import trustme

from provider_agent.backends.base import BackendUnreachable, Call, StreamTruncated
from provider_agent.backends.http import EngineHttp
from tests.fakes.engine import DONE, Act, FakeEngine, chat_chunk, sse
from tests.fakes.takers import SlowTaker, relaying, take, whole

uvloop = pytest.importorskip("uvloop")

LATE_S = 5.0
BODY = chat_chunk("a", "stop") + DONE


def call(body: bytes = b"{}") -> Call:
    return Call("/v1/chat/completions", "tiny", body, True, LATE_S, LATE_S)


def run(scene: Callable[[EngineHttp, FakeEngine], Awaitable[None]], engine: FakeEngine | None = None) -> None:
    async def play() -> None:
        async with asyncio.timeout(LATE_S), engine or FakeEngine() as fake, EngineHttp() as http:
            await scene(http, fake)

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(play())


def test_answers_come_through_over_one_connection() -> None:
    """A big request, too."""

    async def scene(http: EngineHttp, engine: FakeEngine) -> None:
        engine.will_answer(*(sse(BODY, keeps=True) for _ in range(3)))
        for body in (b"{}", b'{"prompt":"' + b"x" * (4 << 20) + b'"}', b"{}"):
            async with http.open(engine.url, call(body)) as reply:
                assert await whole(reply) == BODY
        assert len(engine.connections) == 1

    run(scene)


def test_a_connection_that_is_closed_under_a_job_costs_nothing() -> None:
    """By the engine, right after each answer."""

    async def scene(http: EngineHttp, engine: FakeEngine) -> None:
        engine.will_answer(*(sse(BODY, keeps=True, afterwards=Act.CUT) for _ in range(10)))
        for _ in range(10):
            async with http.open(engine.url, call()) as reply:
                assert await whole(reply) == BODY

    run(scene)


@pytest.mark.parametrize("act", [Act.CUT, Act.RESET])
def test_a_cut_is_told_and_what_came_is_relayed(act: Act) -> None:
    """Field note 28."""

    async def scene(http: EngineHttp, engine: FakeEngine) -> None:
        engine.will_answer(sse(chat_chunk("a"), act))
        async with http.open(engine.url, call()) as reply:
            taker = SlowTaker(reply)
            async with relaying(reply, taker) as job:
                await taker.has(chat_chunk("a"))
                reply.resume()
                with pytest.raises(StreamTruncated):
                    await job

    run(scene)


def test_leaving_closes_the_engines_connection() -> None:
    """Field note 6."""

    async def scene(http: EngineHttp, engine: FakeEngine) -> None:
        engine.will_answer(sse(chat_chunk("a"), Act.SILENCE))
        async with http.open(engine.url, call()) as reply:
            await take(reply, chat_chunk("a"))
        await engine.connections[0].closed.wait()

    run(scene)


def test_a_closed_port_is_unreachable() -> None:
    """By name and by address."""

    async def scene(http: EngineHttp, engine: FakeEngine) -> None:
        await engine.stop()
        for host in ("127.0.0.1", "localhost"):
            with pytest.raises(BackendUnreachable, match="does not accept connections"):
                await http.ask(f"http://{host}:{engine.port}", "/", timeout_s=LATE_S)

    run(scene)


def test_tls_works_and_is_verified(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Into the one buffer, as without."""
    authority, engine = trustme.CA(), FakeEngine()
    authority.cert_pem.write_to_path(str(tmp_path / "trusted.pem"))
    engine.host, engine.tls = "localhost", ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(engine.tls)

    async def scene(http: EngineHttp, engine: FakeEngine) -> None:
        engine.will_answer(sse(BODY, keeps=True), sse(BODY, keeps=True))
        for _ in range(2):
            async with http.open(engine.url, call()) as reply:
                assert await whole(reply) == BODY
        assert len(engine.connections) == 1
        with pytest.raises(BackendUnreachable, match="certificate is not trusted"):
            await http.ask(f"https://127.0.0.1:{engine.port}", "/", timeout_s=LATE_S)

    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "trusted.pem"))
    run(scene, engine)
