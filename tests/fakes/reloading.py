"""A whole agent whose settings a test rewrites while it runs."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from provider_agent.agent.app import run
from provider_agent.agent.config import load
from provider_agent.transport.accepted import AcceptedSocket
from tests.fakes.engine import FakeEngine
from tests.fakes.peers import ScriptedCoordinator
from tests.fakes.running import Play, Process
from tests.fakes.servers import websocket_server


class ReloadingProcess(Process):
    """An agent whose settings a test may rewrite.

    Attributes:
        file: its agent.toml.
    """

    def __init__(self, file: Path, url: str, engine: FakeEngine | None, interval_s: float) -> None:
        super().__init__()
        self.file = file
        self.reload = asyncio.Event()
        self._news = asyncio.Event()
        self._head = (
            f'coordinator.url = "{url}"\n'
            f'identity.key_path = "{file.parent / "identity" / "key.pem"}"\n'
            f"discovery.enabled = false\ndiscovery.interval_s = {interval_s}\n"
            'telemetry.status_listen = ""\n'
        )
        self._engine = "" if engine is None else f'[[backends]]\nkind = "openai"\nurl = "{engine.url}"\n'

    def write(self, text: str = "", *, backend: str = "", engines: str | None = None) -> None:
        """`text` is TOML before the tables; `backend` goes into that of the engine; `engines` replaces it."""
        tables = f"{self._engine}{backend}\n" if engines is None else engines
        self.file.write_text(f"{self._head}{text}\n{tables}")

    def note(self, name: str, facts: dict[str, object]) -> None:
        super().note(name, facts)
        self._news.set()

    async def rewrite(self, text: str = "", *, backend: str = "", engines: str | None = None) -> None:
        """Write, ask for it to be read, and wait for the verdict."""
        told = self._verdicts
        self.write(text, backend=backend, engines=engines)
        self.reload.set()
        while self._verdicts == told:
            self._news.clear()
            await self._news.wait()

    def facts(self, name: str) -> list[dict[str, object]]:
        return [facts for told, facts in self.events if told == name]

    @property
    def _verdicts(self) -> int:
        return len(self.facts("settings_applied")) + len(self.facts("settings_refused"))


@asynccontextmanager
async def reloading(
    tmp_path: Path,
    play: Play,
    engine: FakeEngine | None,
    text: str = "",
    *,
    backend: str = "",
    interval_s: float = 3600,
) -> AsyncIterator[ReloadingProcess]:
    async def serve(socket: AcceptedSocket) -> None:
        await play(ScriptedCoordinator(socket, host="127.0.0.1"))

    async with websocket_server(serve) as url:
        process = ReloadingProcess(tmp_path / "agent.toml", url, engine, interval_s)
        process.write(text, backend=backend)
        async with asyncio.timeout(20), asyncio.TaskGroup() as tasks:
            config = load(process.file, {})
            running = tasks.create_task(
                run(config, stop=process.stop, reload=process.reload, on_event=process.note, environ={})
            )
            yield process
            process.exit_code = await running
