"""An engine that keeps failing is asked a short question of our own; only a whole answer is passed on."""

import asyncio
import time
from contextlib import suppress

import pytest

from provider_agent.agent.breaker import Breaker
from provider_agent.agent.circuit import FAILURES
from provider_agent.agent.prober import Prober
from provider_agent.agent.routing import Route
from provider_agent.backends.base import BackendFailed, BackendModel, BackendUnreachable, StreamTruncated
from tests.fakes.backends import CHAT, ScriptedBackend
from tests.fakes.logs import LogLines
from tests.simulation.loop import run_virtually

WITHIN_S = 5.0


class NotingBreaker(Breaker):
    """Notes whom it hears well of."""

    def __init__(self, found: list[Route]) -> None:
        super().__init__(clock=time.monotonic, running=tuple)
        self._found = found

    def vouch(self, route: Route) -> None:
        self._found.append(route)


def route(backend: ScriptedBackend, *endpoints: str) -> Route:
    return Route(backend, BackendModel("m", frozenset(endpoints or (CHAT,))))


def answered(*asked: Route, after_s: float = 2 * WITHIN_S) -> list[Route]:
    """Which of these give a whole answer when they are asked."""
    found: list[Route] = []

    async def play() -> None:
        prober = Prober(NotingBreaker(found))
        for each in asked:
            prober.ask(each, WITHIN_S)
        with suppress(TimeoutError):
            async with asyncio.timeout(after_s):
                await prober.run()

    run_virtually(play())
    return found


def test_a_whole_answer_is_told() -> None:
    """To one short question, at the endpoint that most requests go to."""
    sound = route(ScriptedBackend(b"x"), "/v1/embeddings", CHAT)

    assert answered(sound) == [sound]
    (call,) = sound.backend.calls  # type: ignore[attr-defined]
    assert (call.endpoint, call.model, call.stream) == (CHAT, "m", True)


@pytest.mark.parametrize(
    "backend",
    [
        ScriptedBackend(refuses=BackendFailed("it failed", http_status=500)),
        ScriptedBackend(b"x", StreamTruncated("it broke off")),
        ScriptedBackend(asyncio.Event()),
    ],
    ids=["fails", "breaks off", "says nothing"],
)
def test_whatever_else_comes_is_not_told(backend: ScriptedBackend) -> None:
    """The circuit stays as it is."""
    assert answered(route(backend)) == []
    assert backend.open_connections == 0


def test_an_engine_that_is_gone_is_told() -> None:
    """What killed it broke the jobs first: else it stays on offer until a job is sent to it once more."""
    gone: list[str] = []

    async def play() -> None:
        breaker = Breaker(clock=asyncio.get_running_loop().time, running=tuple)
        prober = Prober(breaker)
        prober.on_unreachable = gone.append
        lost = ScriptedBackend(refuses=BackendUnreachable("the engine does not accept connections"))
        replaced = ScriptedBackend(refuses=BackendUnreachable("the engine does not accept connections"))
        breaker.present = [lost]
        prober.ask(route(lost), WITHIN_S)
        prober.ask(route(replaced), WITHIN_S)
        with suppress(TimeoutError):
            async with asyncio.timeout(1.0):
                await prober.run()

    run_virtually(play())
    assert gone == ["scripted"]


def test_an_engine_is_asked_as_soon_as_its_circuit_opens() -> None:
    """Five failures in a row, and one answer: it is out for no longer than that takes."""

    async def play() -> None:
        breaker = Breaker(clock=asyncio.get_running_loop().time, running=tuple)
        prober, sound = Prober(breaker), route(ScriptedBackend(b"x"))
        asking = asyncio.create_task(prober.run())
        for _ in range(FAILURES):
            breaker.failed(sound, BackendFailed("an odd request", http_status=500))
        assert breaker.open_keys == {sound.key}
        await asyncio.sleep(0.1)
        assert breaker.open_keys == frozenset()
        asking.cancel()

    run_virtually(play())


def test_engines_are_asked_side_by_side() -> None:
    """One that says nothing keeps nobody waiting."""
    sound = route(ScriptedBackend(b"x"))

    assert answered(route(ScriptedBackend(asyncio.Event())), sound, after_s=1.0) == [sound]


def test_no_paid_provider_is_asked_and_nothing_that_cannot_be_tried() -> None:
    """Nobody should pay for a question of ours."""
    paid = ScriptedBackend(b"x")
    paid.kind = "remote"
    odd = ScriptedBackend(b"x")

    assert answered(route(paid), route(odd, "/v1/odd")) == []
    assert paid.calls + odd.calls == []


def test_a_defect_in_an_adapter_ends_no_agent() -> None:
    """It is logged, and the next engine is asked."""
    logs, sound = LogLines(), route(ScriptedBackend(b"x"))

    assert answered(route(ScriptedBackend(refuses=ZeroDivisionError("a defect"))), sound) == [sound]
    (line,) = logs.named("probe_crashed")
    assert (line["backend"], line["upstream_model"]) == ("scripted", "m")
