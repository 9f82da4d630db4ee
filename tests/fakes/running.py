"""A whole agent in this process, with a coordinator that a test plays."""

import asyncio
import ssl
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from provider_agent.agent.app import run
from provider_agent.agent.config import load
from provider_agent.protocol.frames import Capabilities
from provider_agent.transport.accepted import AcceptedSocket
from tests.fakes.engine import FakeEngine
from tests.fakes.peers import ScriptedCoordinator
from tests.fakes.servers import websocket_server

Play = Callable[[ScriptedCoordinator], Awaitable[None]]


@dataclass
class Process:
    """An agent that runs in this test.

    Attributes:
        events: what it told whoever watches, in order.
    """

    stop: asyncio.Event = field(default_factory=asyncio.Event)
    events: list[tuple[str, dict[str, object]]] = field(default_factory=list)
    exit_code: int | None = None

    def note(self, name: str, facts: dict[str, object]) -> None:
        self.events.append((name, facts))

    @property
    def names(self) -> list[str]:
        return [name for name, _ in self.events]


class UnwatchedProcess(Process):
    """Whoever watched it has gone, and fails whatever it is told."""

    def note(self, name: str, facts: dict[str, object]) -> None:
        super().note(name, facts)
        raise BrokenPipeError(32, "Broken pipe")


@asynccontextmanager
async def agent(
    tmp_path: Path,
    play: Play,
    engine: FakeEngine | None = None,
    *,
    process: Process | None = None,
    tls: ssl.SSLContext | None = None,
    wall_clock: Callable[[], float] = time.time,
    **settings: str,
) -> AsyncIterator[Process]:
    """An agent whose coordinator plays `play` on each session; leaving waits for its end.

    `settings` are variables of its environment, without the prefix.
    """

    async def serve(socket: AcceptedSocket) -> None:
        await play(ScriptedCoordinator(socket, host="localhost" if tls else "127.0.0.1"))

    async with websocket_server(serve, tls=tls) as url:
        environ = {
            "PROVIDER_AGENT__COORDINATOR__URL": url,
            "PROVIDER_AGENT__IDENTITY__KEY_PATH": str(tmp_path / "identity" / "key.pem"),
            "PROVIDER_AGENT__DISCOVERY__ENABLED": "false",
            "PROVIDER_AGENT__TELEMETRY__STATUS_LISTEN": "",
        }
        if engine is not None:
            environ |= {
                "PROVIDER_AGENT__BACKENDS__0__KIND": "openai",
                "PROVIDER_AGENT__BACKENDS__0__URL": engine.url,
            }
        environ |= {f"PROVIDER_AGENT__{name}": value for name, value in settings.items()}
        process = process or Process()
        async with asyncio.timeout(20), asyncio.TaskGroup() as tasks:
            running = tasks.create_task(
                run(
                    load(None, environ),
                    stop=process.stop,
                    on_event=process.note,
                    environ=environ,
                    wall_clock=wall_clock,
                )
            )
            yield process
            process.exit_code = await running


async def with_models(peer: ScriptedCoordinator, *, resume_window_ms: int = 0) -> Capabilities:
    """The first capabilities that offer something: discovery runs beside the handshake."""
    capabilities = await peer.welcome(resume_window_ms=resume_window_ms)
    while not capabilities.models:
        capabilities = await peer.expect(Capabilities)
    return capabilities
