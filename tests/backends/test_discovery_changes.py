"""Engines and settings change while it runs: each change is seen in time, and disturbs nobody else."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest

from provider_agent.backends.base import BackendSettings
from provider_agent.backends.discovery import Catalog, Discovery
from provider_agent.backends.http import EngineHttp
from tests.fakes import engine_pages
from tests.fakes.clocks import ManualClock
from tests.fakes.discovering import LATE_S, Listener, configured, healthy, models, probing
from tests.fakes.engine import FakeEngine, json_answer, models_page

OFTEN_S = 0.02


@pytest.fixture
async def http() -> AsyncIterator[EngineHttp]:
    async with EngineHttp() as client:
        yield client


@pytest.fixture
async def engine() -> AsyncIterator[FakeEngine]:
    async with FakeEngine() as fake:
        yield fake


@pytest.fixture
def listener() -> Listener:
    return Listener()


@asynccontextmanager
async def running(discovery: Discovery) -> AsyncIterator[None]:
    task = asyncio.create_task(discovery.run())
    try:
        yield
    finally:
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task


async def until(listener: Listener, holds: Callable[[Catalog], bool]) -> Catalog:
    """The first catalog from now on of which this holds."""
    async with asyncio.timeout(LATE_S):
        while not (listener.catalogs and holds(listener.catalogs[-1])):
            await listener.hears(len(listener.catalogs) + 1)
    return listener.catalogs[-1]


def reconfigured(discovery: Discovery, *settings: BackendSettings, probe_loopback: bool = False) -> None:
    discovery.reconfigure(settings, probe_loopback=probe_loopback, interval_s=60, grace_s=10)


# --- engines change ----------------------------------------------------------------------


async def test_an_engine_appears_swaps_its_models_and_vanishes(
    http: EngineHttp, engine: FakeEngine, listener: Listener
) -> None:
    """Each within one interval, without anybody asking for it (field note 26)."""
    port = engine.port
    await engine.stop()
    discovery = probing(http, port, interval_s=OFTEN_S, grace_s=0.1, on_change=listener)
    async with running(discovery):
        await engine.start(port)
        await until(listener, lambda catalog: list(models(catalog).values()) == [["tiny"]])
        engine.pages["/v1/models"] = models_page("other")
        await until(listener, lambda catalog: list(models(catalog).values()) == [["other"]])
        await engine.stop()
        await until(listener, lambda catalog: models(catalog) == {})


async def test_a_llama_server_that_has_other_slots_now_is_announced_with_them(
    http: EngineHttp, engine: FakeEngine, listener: Listener
) -> None:
    """It was started anew with another -np, between two looks."""
    engine.pages = dict(engine_pages.llamacpp())
    props = {"total_slots": 2, "model_path": "/models/tiny.gguf", "media_marker": "<__media_other__>"}
    discovery = probing(http, engine.port, interval_s=OFTEN_S, on_change=listener)
    async with running(discovery):
        before = await until(listener, lambda catalog: bool(catalog.entries))
        engine.pages["/props"] = json_answer(props)
        after = await until(listener, lambda catalog: catalog != before)

    assert [each.entries[0].models[0].max_concurrent for each in (before, after)] == [4, 2]
    assert before.entries[0].backend is after.entries[0].backend


async def test_a_model_that_ollama_has_pulled_is_offered(
    http: EngineHttp, engine: FakeEngine, listener: Listener
) -> None:
    """`ollama pull` tells nobody when it is done."""
    pulled = {"name": "new", "model": "new", "size": 1, "digest": "cd" * 32, "details": {}}
    engine.pages = dict(engine_pages.ollama())
    tag = pulled | {"name": "tiny", "model": "tiny", "digest": "ab" * 32}
    discovery = configured(
        http, BackendSettings("ollama", engine.url, name="mine"), interval_s=OFTEN_S, on_change=listener
    )
    async with running(discovery):
        await until(listener, lambda catalog: models(catalog) == {"mine": ["tiny"]})
        engine.pages["/api/tags"] = json_answer({"models": [tag, pulled]})
        await until(listener, lambda catalog: models(catalog) == {"mine": ["new", "tiny"]})


async def test_an_engine_that_is_back_is_used_long_before_the_interval_has_passed(
    http: EngineHttp, engine: FakeEngine, listener: Listener
) -> None:
    """One that is known and fails is looked at again and again, and nobody else because of that."""
    async with FakeEngine() as other:
        settings = (
            BackendSettings("openai", engine.url, name="mine"),
            BackendSettings("openai", other.url, name="other"),
        )
        discovery = configured(http, *settings, interval_s=60, retry_s=OFTEN_S, on_change=listener)
        async with running(discovery):
            await until(listener, lambda catalog: healthy(catalog) == [True, True])
            port = engine.port
            await engine.stop()
            discovery.report_unreachable("mine")
            await engine.start(port)
            await until(listener, lambda catalog: healthy(catalog) == [True, True])

        assert len(other.requests) == 1


async def test_a_paid_provider_is_not_pressed(
    http: EngineHttp, engine: FakeEngine, listener: Listener
) -> None:
    """It counts the questions; its key, say, only the operator can mend."""
    async with FakeEngine() as paid:
        paid.pages["/v1/models"] = json_answer({"error": "no"}, 401)
        settings = (
            BackendSettings("remote", paid.url, name="paid"),
            BackendSettings("openai", engine.url, name="mine"),
        )
        engine.pages["/v1/models"] = json_answer({}, 500)
        discovery = configured(http, *settings, interval_s=60, retry_s=OFTEN_S, on_change=listener)
        async with running(discovery), asyncio.timeout(LATE_S):
            while len(engine.requests) < 4:
                await engine.news()

        assert len(paid.requests) == 1


async def test_a_job_that_finds_another_model_there_brings_a_look(
    http: EngineHttp, engine: FakeEngine, listener: Listener
) -> None:
    """The engine was started anew between two looks; what else it serves is offered until then."""
    discovery = configured(
        http,
        BackendSettings("openai", engine.url, name="mine"),
        interval_s=60,
        retry_s=OFTEN_S,
        on_change=listener,
    )
    async with running(discovery):
        await until(listener, lambda catalog: models(catalog) == {"mine": ["tiny"]})
        engine.pages["/v1/models"] = models_page("other")
        discovery.report_changed("mine")
        assert models(discovery.catalog) == {"mine": ["tiny"]}
        await until(listener, lambda catalog: models(catalog) == {"mine": ["other"]})


async def test_a_silent_engine_keeps_nobody_waiting(http: EngineHttp, listener: Listener) -> None:
    """One that accepts and says nothing takes five seconds to give up; the others are looked at meanwhile."""
    gate = asyncio.Event()

    async def silent(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await gate.wait()
        writer.close()

    server = await asyncio.start_server(silent, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    async with FakeEngine() as engine:
        settings = (
            BackendSettings("openai", url, name="silent"),
            BackendSettings("openai", engine.url, name="mine"),
        )
        discovery = configured(http, *settings, interval_s=OFTEN_S, probe_timeout_s=0.01, on_change=listener)
        async with running(discovery):
            await until(listener, lambda catalog: models(catalog)["mine"] == ["tiny"])
            engine.pages["/v1/models"] = models_page("other")
            await until(listener, lambda catalog: models(catalog)["mine"] == ["other"])
            gate.set()
    server.close()


# --- settings change ---------------------------------------------------------------------


async def test_what_the_settings_leave_as_it_was_is_neither_asked_nor_announced(
    http: EngineHttp, engine: FakeEngine, listener: Listener
) -> None:
    """The same backend serves on, under the same name."""
    settings = BackendSettings("openai", engine.url, name="mine")
    async with FakeEngine() as new:
        discovery = configured(http, settings, interval_s=60, on_change=listener)
        async with running(discovery):
            before = await until(listener, lambda catalog: healthy(catalog) == [True])
            reconfigured(discovery, BackendSettings("openai", new.url, name="new"), settings)
            after = await until(listener, lambda catalog: healthy(catalog) == [True, True])

    assert after.entries[1].backend is before.entries[0].backend
    assert len(engine.requests) == 1
    assert all(models(each)["mine"] == ["tiny"] for each in listener.catalogs)


async def test_an_engine_that_is_not_named_any_more_is_gone_at_once(
    http: EngineHttp, engine: FakeEngine
) -> None:
    """It is neither offered nor watched."""
    discovery = configured(http, BackendSettings("openai", engine.url))
    await discovery.refresh()
    reconfigured(discovery)

    assert discovery.catalog == Catalog(())
    assert await discovery.refresh() == Catalog(())


async def test_new_globs_limits_and_priority_hold_at_once_and_nothing_flickers(
    http: EngineHttp, engine: FakeEngine, listener: Listener
) -> None:
    """What is known of the engine stays true; the adapter is another one."""
    engine.pages["/v1/models"] = models_page("tiny", "secret")
    discovery = configured(http, BackendSettings("openai", engine.url, name="mine"), on_change=listener)
    await discovery.refresh()
    changed = BackendSettings(
        "openai", engine.url, name="mine", exclude=("secret",), max_concurrent=2, priority=1
    )
    reconfigured(discovery, changed)
    now = discovery.catalog
    await discovery.refresh()

    backend = now.entries[0].backend
    assert models(now) == {"mine": ["tiny"]}
    assert (backend.max_concurrent, backend.priority, now.entries[0].healthy) == (2, 1, True)
    assert [list(models(each).values()) for each in listener.catalogs] == [[["secret", "tiny"]], [["tiny"]]]


async def test_a_new_key_is_used_at_once(http: EngineHttp, engine: FakeEngine, listener: Listener) -> None:
    """Somebody has exchanged it."""
    discovery = configured(
        http, BackendSettings("openai", engine.url, api_key="old"), interval_s=60, on_change=listener
    )
    async with running(discovery), asyncio.timeout(LATE_S):
        await until(listener, lambda catalog: healthy(catalog) == [True])
        reconfigured(discovery, BackendSettings("openai", engine.url, api_key="new"))
        assert healthy(discovery.catalog) == [True]
        while len(engine.requests) < 2:
            await engine.news()

    assert [each.headers["authorization"] for each in engine.requests] == ["Bearer old", "Bearer new"]


async def test_an_engine_that_moved_is_looked_at_where_it_is_now(
    http: EngineHttp, engine: FakeEngine, listener: Listener
) -> None:
    """Its name says that it is the same one."""
    async with FakeEngine(("tiny", "more")) as elsewhere:
        discovery = configured(
            http, BackendSettings("auto", engine.url, name="mine"), interval_s=60, on_change=listener
        )
        async with running(discovery):
            await until(listener, lambda catalog: models(catalog) == {"mine": ["tiny"]})
            reconfigured(discovery, BackendSettings("auto", elsewhere.url, name="mine"))
            assert models(discovery.catalog) == {"mine": ["tiny"]}
            after = await until(listener, lambda catalog: models(catalog) == {"mine": ["more", "tiny"]})

    assert after.entries[0].backend.url == elsewhere.url


async def test_what_a_replaced_watch_still_hears_is_no_news(http: EngineHttp, engine: FakeEngine) -> None:
    """A look was on its way when the operator took the engine out."""
    gate = asyncio.Event()
    engine.pages["/v1/models"] = json_answer({"data": [{"id": "tiny"}]}, before_headers=gate)
    discovery = configured(http, BackendSettings("openai", engine.url))
    looking = asyncio.create_task(discovery.refresh())
    async with asyncio.timeout(LATE_S):
        await engine.news()
        reconfigured(discovery)
        gate.set()

        assert await looking == Catalog(())


async def test_looking_around_can_be_turned_on_and_off(http: EngineHttp, engine: FakeEngine) -> None:
    """`discovery.enabled`."""
    clock = ManualClock()
    discovery = Discovery((), http, probe_loopback=False, loopback_ports=(engine.port,), clock=clock)
    await discovery.refresh()
    reconfigured(discovery, probe_loopback=True)
    found = models(await discovery.refresh())
    reconfigured(discovery)

    assert found == {f"openai-{engine.port}": ["tiny"]}
    assert models(discovery.catalog) == {}
