"""Real sockets on loopback, an injected clock."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import pytest

from provider_agent.backends.address import BadAddress
from provider_agent.backends.base import BackendSettings
from provider_agent.backends.discovery import LOOPBACK_PORTS, Catalog
from provider_agent.backends.http import EngineHttp
from tests.fakes import engine_pages
from tests.fakes.clocks import ManualClock
from tests.fakes.discovering import LATE_S, Listener, configured, healthy, models, probing
from tests.fakes.engine import Act, FakeEngine, html, json_answer, models_page, sse
from tests.fakes.engine_pages import BrokenHttp, HttpOutOfSockets
from tests.fakes.logs import LogLines


@pytest.fixture
async def http() -> AsyncIterator[EngineHttp]:
    async with EngineHttp() as client:
        yield client


@pytest.fixture
async def engine() -> AsyncIterator[FakeEngine]:
    async with FakeEngine() as fake:
        yield fake


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def listener() -> Listener:
    return Listener()


async def test_a_configured_engine_is_listed(
    http: EngineHttp, engine: FakeEngine, listener: Listener
) -> None:
    """The ordinary case."""
    discovery = configured(http, BackendSettings("vllm", engine.url + "/v1", name="mine"), on_change=listener)
    assert discovery.catalog == Catalog(())
    catalog = await discovery.refresh()

    assert models(catalog) == {"mine": ["tiny"]}
    assert listener.catalogs == [catalog]
    assert discovery.catalog is catalog


async def test_engines_on_this_machine_are_found_and_told_by_their_answers(http: EngineHttp) -> None:
    """Three on ports that say nothing; configured ones first, then by port."""
    async with (
        engine_pages.FamilyEngine(engine_pages.llamacpp()) as llamacpp,
        engine_pages.FamilyEngine(engine_pages.ollama()) as ollama,
        FakeEngine() as mine,
    ):
        settings = (BackendSettings("openai", mine.url),)
        catalog = await probing(http, ollama.port, llamacpp.port, settings=settings).refresh()

    assert models(catalog) == {
        f"openai-{mine.port}": ["tiny"],
        f"ollama-{ollama.port}": ["tiny"],
        f"llamacpp-{llamacpp.port}": ["tiny"],
    }


async def test_every_family_is_found_by_itself_but_for_paid_ones(http: EngineHttp) -> None:
    """Field note 23: all of them on one machine, on ports that say nothing."""
    async with AsyncExitStack() as stack:
        engines = {
            kind: await stack.enter_async_context(engine_pages.FamilyEngine(pages()))
            for kind, pages in engine_pages.FAMILIES.items()
        }
        ports = [engine.port for engine in engines.values()]
        catalog = await probing(http, *ports, probe_timeout_s=5).refresh()

    assert {entry.backend.kind for entry in catalog.entries} == engines.keys() - {"remote"}
    assert all(model.model_id == "tiny" for entry in catalog.entries for model in entry.models)


@pytest.mark.parametrize(
    "spelling", ["http://localhost:{}", "127.0.0.1:{}/v1/", "http://127.0.0.1:{}/", "[::1]:{}"]
)
async def test_an_address_that_is_configured_is_not_found_again(
    http: EngineHttp, engine: FakeEngine, spelling: str
) -> None:
    """Field note 33: however it is written."""
    settings = (BackendSettings("openai", spelling.format(engine.port), name="mine"),)
    catalog = await probing(http, engine.port, settings=settings).refresh()

    assert list(models(catalog)) == ["mine"]


@pytest.mark.parametrize(
    "page",
    [
        html(),
        json_answer({"data": "x"}),
        json_answer({"object": "list", "data": []}),
        json_answer({"object": "list", "data": [{"title": "a book"}]}),
        json_answer([{"id": "a"}]),
        json_answer({}, 401),
        sse(Act.SILENCE),
        models_page("tiny", owned_by="provider-agent"),
        models_page("gpt-5", owned_by="openai"),
    ],
)
async def test_another_server_is_no_engine(http: EngineHttp, engine: FakeEngine, page: object) -> None:
    """Field note 23: nor is a coordinator of ours (a loop), nor a gateway to somebody's paid engines."""
    engine.pages["/v1/models"] = page  # type: ignore[assignment]
    catalog = await probing(http, engine.port, probe_timeout_s=0.1).refresh()

    assert catalog == Catalog(())


async def test_a_gateway_may_be_configured(http: EngineHttp, engine: FakeEngine) -> None:
    """The operator knows what it costs."""
    engine.pages["/v1/models"] = models_page("gpt-5", owned_by="openai")
    catalog = await configured(http, BackendSettings("auto", engine.url, name="paid")).refresh()

    assert models(catalog) == {"paid": ["gpt-5"]}


async def test_the_same_catalog_is_not_announced_again(
    http: EngineHttp, engine: FakeEngine, listener: Listener
) -> None:
    """Nothing changed."""
    discovery = probing(http, engine.port, on_change=listener)
    await discovery.refresh()
    await discovery.refresh()

    assert len(listener.catalogs) == 1


async def test_a_new_model_is_announced(http: EngineHttp, engine: FakeEngine, listener: Listener) -> None:
    """Somebody pulled it."""
    discovery = probing(http, engine.port, on_change=listener)
    await discovery.refresh()
    engine.pages["/v1/models"] = models_page("tiny", "new")
    await discovery.refresh()

    assert [list(models(each).values()) for each in listener.catalogs] == [[["tiny"]], [["new", "tiny"]]]


async def test_one_hiccup_keeps_the_models(http: EngineHttp, engine: FakeEngine, clock: ManualClock) -> None:
    """Field note 26: and of no other engine, either."""
    async with FakeEngine() as other:
        discovery = probing(http, engine.port, other.port, clock=clock)
        before = models(await discovery.refresh())
        engine.pages["/v1/models"] = json_answer({}, 500)
        catalog = await discovery.refresh()

    assert models(catalog) == before
    assert healthy(catalog) == [False, True]


async def test_a_dead_engine_leaves_after_the_grace(
    http: EngineHttp, engine: FakeEngine, clock: ManualClock
) -> None:
    """Field note 26: it is not advertised for ever, and comes back by itself."""
    discovery = probing(http, engine.port, clock=clock, grace_s=10)
    await discovery.refresh()
    port = engine.port
    await engine.stop()
    await discovery.refresh()
    clock.now_s += 10

    assert models(await discovery.refresh()) == {}
    await engine.start(port)
    assert list(models(await discovery.refresh()).values()) == [["tiny"]]


async def test_an_engine_that_is_started_later_is_found(http: EngineHttp, engine: FakeEngine) -> None:
    """Field note 26: discovery is no matter of the connection's start."""
    port = engine.port
    await engine.stop()
    discovery = configured(http, BackendSettings("auto", f"http://127.0.0.1:{port}", name="late"))
    assert models(await discovery.refresh()) == {}
    await engine.start(port)

    assert models(await discovery.refresh()) == {"late": ["tiny"]}


async def test_an_engine_that_a_job_found_dead_is_gone_at_once(
    http: EngineHttp, engine: FakeEngine, listener: Listener
) -> None:
    """Field note 25: the next job goes elsewhere; a probe that succeeds brings it back."""
    discovery = configured(http, BackendSettings("openai", engine.url, name="mine"), on_change=listener)
    await discovery.refresh()
    discovery.report_unreachable("mine")
    discovery.report_unreachable("nobody")

    assert models(discovery.catalog) == {"mine": []}
    assert len(listener.catalogs) == 2
    assert models(await discovery.refresh()) == {"mine": ["tiny"]}


async def test_another_engine_on_the_port_is_not_taken_for_the_old_one(
    http: EngineHttp, engine: FakeEngine
) -> None:
    """Field note 23: the engine that is told is the one that executes."""
    discovery = probing(http, engine.port)
    before = await discovery.refresh()
    engine.pages = dict(engine_pages.vllm())
    after = await discovery.refresh()

    assert [entry.backend.kind for entry in (*before.entries, *after.entries)] == ["openai", "vllm"]
    assert [entry.backend.name for entry in after.entries] == [f"vllm-{engine.port}"]


@pytest.mark.parametrize("kind", ["openai", "auto"])
async def test_a_shortage_of_ours_costs_no_engine_its_place(
    kind: str, engine: FakeEngine, clock: ManualClock
) -> None:
    """An engine that nobody could ask is not gone, however long that lasts."""
    async with HttpOutOfSockets() as http:
        discovery = configured(http, BackendSettings(kind, engine.url, name="mine"), clock=clock)
        before = await discovery.refresh()
        http.is_short = True
        clock.now_s += 1000

        assert await discovery.refresh() == before
        assert models(before) == {"mine": ["tiny"]}


async def test_a_defect_in_a_look_at_one_engine_ends_nothing(clock: ManualClock) -> None:
    """It is a failed look like any other, with a traceback for us."""
    lines = LogLines()
    discovery = configured(BrokenHttp(), BackendSettings("vllm", "http://x:1", name="odd"), clock=clock)

    assert healthy(await discovery.refresh()) == [False]
    assert [line["backend"] for line in lines.named("engine_lost")] == ["odd"]
    assert "a defect" in lines.named("probe_crashed")[0]["exception"]


async def test_the_same_engine_keeps_its_adapter(http: EngineHttp, engine: FakeEngine) -> None:
    """Jobs are counted by it."""
    discovery = probing(http, engine.port)
    before = await discovery.refresh()
    engine.pages["/v1/models"] = models_page("tiny", "new")
    after = await discovery.refresh()

    assert before.entries[0].backend is after.entries[0].backend


async def test_a_slow_engine_does_not_hold_up_the_others(
    http: EngineHttp, engine: FakeEngine, listener: Listener
) -> None:
    """Field note 27: all in parallel; what is slow is added when it comes."""
    gate = asyncio.Event()
    async with FakeEngine() as slow:
        slow.pages["/v1/models"] = sse(
            b'{"object":"list","data":[{"id":"big"}]}', before_headers=gate, content_type="application/json"
        )
        settings = (
            BackendSettings("openai", slow.url, name="slow"),
            BackendSettings("openai", engine.url, name="fast"),
        )
        discovery = configured(http, *settings, probe_timeout_s=0.1, on_change=listener)
        refresh = asyncio.create_task(discovery.refresh())
        await listener.hears(1)
        early = models(discovery.catalog)
        gate.set()
        late = models(await asyncio.wait_for(refresh, LATE_S))

    assert early == {"slow": [], "fast": ["tiny"]}
    assert late == {"slow": ["big"], "fast": ["tiny"]}


async def test_all_ports_are_asked_at_once(http: EngineHttp) -> None:
    """Field note 27: ten silent servers take as long as one."""
    waiting: list[asyncio.StreamWriter] = []
    all_here = asyncio.Event()

    def silent(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        waiting.append(writer)
        if len(waiting) == 10:
            all_here.set()

    servers = [await asyncio.start_server(silent, "127.0.0.1", 0) for _ in range(10)]
    refresh = asyncio.create_task(
        probing(http, *(server.sockets[0].getsockname()[1] for server in servers)).refresh()
    )
    await asyncio.wait_for(all_here.wait(), LATE_S)
    for each in waiting:
        each.close()
    for server in servers:
        server.close()

    assert await asyncio.wait_for(refresh, LATE_S) == Catalog(())


async def test_it_runs_until_it_is_cancelled(
    http: EngineHttp, engine: FakeEngine, listener: Listener
) -> None:
    """Interval after interval, and at once when a job found an engine dead."""
    discovery = configured(
        http, BackendSettings("openai", engine.url, name="mine"), interval_s=60, on_change=listener
    )
    running = asyncio.create_task(discovery.run())
    await listener.hears(1)
    discovery.report_unreachable("mine")
    await listener.hears(3)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running

    assert [list(models(each).values()) for each in listener.catalogs] == [[["tiny"]], [[]], [["tiny"]]]


async def test_a_failing_engine_is_looked_at_within_its_grace(
    http: EngineHttp, engine: FakeEngine, listener: Listener
) -> None:
    """The grace is shorter than the interval."""
    discovery = probing(http, engine.port, interval_s=60, grace_s=0.1, on_change=listener)
    await discovery.refresh()
    engine.pages["/v1/models"] = json_answer({}, 500)
    running = asyncio.create_task(discovery.run())
    await listener.hears(3)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running

    assert [healthy(each) for each in listener.catalogs] == [[True], [False], []]


async def test_two_engines_never_share_a_name(http: EngineHttp, engine: FakeEngine) -> None:
    """Jobs, heartbeats and reports go by it."""
    settings = (
        BackendSettings("openai", engine.url),
        BackendSettings("openai", engine.url, models=("other",)),
    )
    catalog = await configured(http, *settings).refresh()

    assert list(models(catalog)) == [f"openai-{engine.port}", f"openai-{engine.port}-2"]


async def test_nothing_to_look_at_is_an_empty_catalog(http: EngineHttp) -> None:
    """An agent without engines is legal."""
    assert await configured(http).refresh() == Catalog(())


async def test_an_unknown_kind_is_said(http: EngineHttp) -> None:
    """The configuration checks it before; this is for other callers."""
    with pytest.raises(ValueError, match="'olama' is no kind of engine"):
        configured(http, BackendSettings("olama"))


async def test_a_kind_without_a_usual_address_needs_one(http: EngineHttp) -> None:
    """Likewise."""
    with pytest.raises(BadAddress):
        configured(http, BackendSettings("openai"))


def test_the_usual_ports_are_probed_each_once() -> None:
    """engines.md."""
    assert {11434, 8000, 8080, 1234, 30000, 1337, 5001, 5000, 3000, 12434} <= set(LOOPBACK_PORTS)
    assert len(set(LOOPBACK_PORTS)) == len(LOOPBACK_PORTS)
