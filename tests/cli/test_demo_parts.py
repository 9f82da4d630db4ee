"""The parts of the demo, really started: real sockets on free ports of this machine."""

import asyncio
import socket
from pathlib import Path

import pytest

from provider_agent.backends.base import BackendModel
from provider_agent.backends.discovery import Catalog, CatalogEntry
from provider_agent.cli.demo_chat import Measured, chat, completion_body
from provider_agent.cli.demo_parts import (
    CHAT,
    DemoFailed,
    Engine,
    Program,
    Wish,
    agent_config,
    background,
    choose,
    running,
)
from provider_agent.cli.output import OnEvent
from tests.fakes.backends import ScriptedBackend


class Events:
    """What was told, in order."""

    def __init__(self) -> None:
        self.names: list[str] = []

    def __call__(self, name: str, _fields: dict[str, object]) -> None:
        self.names.append(name)


def program(*events: str, code: int = 0, error: Exception | None = None) -> Program:
    """Says its events, then ends with an error or waits to be stopped."""

    async def run(stop: asyncio.Event, on_event: OnEvent) -> int:
        for name in events:
            on_event(name, {"said": name})
        if error is not None:
            raise error
        if code == 0:
            await stop.wait()
            on_event("stopped", {})
        return code

    return run


async def test_all_parts_come_up_in_order_and_answer(tmp_path: Path) -> None:
    """The whole line: client, coordinator, agent, engine."""
    events, text = Events(), ""
    async with (
        asyncio.timeout(20),
        running(tmp_path, Wish(simulated_only=True, port=0), events) as demo,
    ):
        parts = [name for name in events.names if name in ("engine", "coordinator", "agent")]
        body = {**completion_body(demo.engine.model, "hello"), "max_tokens": 3}
        async for said in chat(demo.url, body, Measured()):
            text += said.text

    assert parts == ["engine", "coordinator", "agent"]
    assert len(text.split()) == 3
    assert "job_ended" in events.names


async def test_a_taken_port_is_replaced_by_a_free_one(tmp_path: Path) -> None:
    """Somebody may run a coordinator of their own here."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        async with (
            asyncio.timeout(20),
            running(tmp_path, Wish(simulated_only=True, port=port), Events()) as demo,
        ):
            assert demo.url != f"http://127.0.0.1:{port}"


async def test_a_program_runs_beside_the_block_and_is_stopped_after_it() -> None:
    """The block begins with the facts of the ready event."""
    events = Events()
    async with asyncio.timeout(5), background(program("ready"), "ready", "it", events) as facts:
        assert facts == {"said": "ready"}
        assert events.names == ["ready"]

    assert events.names == ["ready", "stopped"]


async def test_a_program_is_stopped_when_the_block_fails() -> None:
    """Nothing is left running."""
    events = Events()
    with pytest.raises(ZeroDivisionError):
        async with asyncio.timeout(5), background(program("ready"), "ready", "it", events):
            raise ZeroDivisionError

    assert events.names == ["ready", "stopped"]


TROUBLES = [
    (program(error=RuntimeError("no luck")), "it could not start: no luck"),
    (program(code=75), "it ended at once"),
    (program("other"), "it was not ready after 0.05 seconds"),
]


@pytest.mark.parametrize(("trouble", "sentence"), TROUBLES)
async def test_a_program_that_does_not_come_up_fails_with_one_sentence(
    trouble: Program, sentence: str
) -> None:
    """Whether it broke, ended or hangs."""
    with pytest.raises(DemoFailed) as caught:
        async with asyncio.timeout(5), background(trouble, "ready", "it", start_limit_s=0.05):
            pass

    assert str(caught.value) == sentence


def entry(name: str, models: tuple[BackendModel, ...], *, healthy: bool = True) -> CatalogEntry:
    return CatalogEntry(ScriptedBackend(name=name), models, healthy)


def catalog() -> Catalog:
    """Models that embed, complete, are gone, and two that can chat."""
    chats = frozenset({CHAT})
    embeds = BackendModel("nomic", chats, is_embedding=True)
    completes = BackendModel("base", frozenset({"/v1/completions"}))
    return Catalog(
        (
            entry("a", (embeds, completes)),
            entry("b", (BackendModel("gone", chats),), healthy=False),
            entry("c", (embeds, BackendModel("llama", chats), BackendModel("qwen", chats))),
        )
    )


@pytest.mark.parametrize(("wanted", "expected"), [(None, "llama"), ("qwen", "qwen")])
def test_the_first_model_that_can_chat_is_taken_or_the_wanted_one(wanted: str | None, expected: str) -> None:
    """Not one that embeds only, and not one whose engine does not answer."""
    engine = choose(catalog(), wanted)

    assert engine is not None
    assert engine.model == expected


def test_without_any_engine_there_is_none_to_choose() -> None:
    """The simulated one stands in."""
    assert choose(Catalog(()), None) is None


def test_a_model_that_nobody_offers_is_one_sentence() -> None:
    """With those that could have been meant."""
    with pytest.raises(DemoFailed, match=r"offers gone .* they offer llama, qwen"):
        choose(catalog(), "gone")


def test_the_agent_of_the_demo_leaves_nothing_behind(tmp_path: Path) -> None:
    """Its identity is in the directory that goes, it listens nowhere, it looks for nothing."""
    config = agent_config(Engine("ollama", "http://127.0.0.1:1", "a"), "ws://127.0.0.1:2/", tmp_path)

    assert config.identity.key_path.parent == tmp_path
    assert config.telemetry.status_listen == ""
    assert not config.discovery.enabled
