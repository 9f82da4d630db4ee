"""The simulated engine as an HTTP server: start and stop; knows neither pages nor text.

async with Simulator(SimulatorConfig(models=("a",))) as simulator:
    simulator.url  # http://127.0.0.1:40123
"""

import asyncio
import socket
import time
from contextlib import suppress
from datetime import UTC, datetime
from types import TracebackType
from typing import Self

from aiohttp import web

from provider_agent.simulator.config import SimulatorConfig
from provider_agent.simulator.dialects import DIALECTS
from provider_agent.simulator.dialects.base import View
from provider_agent.simulator.engine import Engine
from provider_agent.simulator.memory import Memory
from provider_agent.simulator.pacing import Clock, Sleep
from provider_agent.simulator.routes import Routes
from provider_agent.simulator.slots import Slots

MAX_BODY_BYTES = 64 * 1024 * 1024


class Simulator:
    """One simulated engine on one port, from entering to leaving."""

    def __init__(
        self, config: SimulatorConfig, *, clock: Clock = time.monotonic, sleep: Sleep = asyncio.sleep
    ) -> None:
        self._config = config
        self._sleep = sleep
        self._dialect = DIALECTS[config.api]
        self._engine = Engine(config, self._dialect, clock=clock, sleep=sleep)
        self._runner = web.AppRunner(
            self._application(),
            handler_cancellation=True,  # a client that leaves frees its slot at once
            shutdown_timeout=0.1,  # answers under way are cut when the engine stops
            access_log=None,
        )
        self._opening: asyncio.Task[None] | None = None
        self._port = 0

    @property
    def models(self) -> tuple[str, ...]:
        """As the engine spells them."""
        return self._engine.models

    @property
    def slots(self) -> Slots:
        return self._engine.slots

    @property
    def memory(self) -> Memory:
        return self._engine.memory

    @property
    def port(self) -> int:
        return self._port

    @property
    def url(self) -> str:
        """The base URL that an agent is told."""
        return f"http://{self._config.host}:{self._port}{self._dialect.folder}"

    async def __aenter__(self) -> Self:
        """Listen; an engine that loads before it listens has only its port at first.

        Raises OSError when the port is taken.
        """
        await self._runner.setup()
        try:
            if self._config.load_s and self._dialect.loads == "before listening":
                self._take_port()
            else:
                await web.TCPSite(self._runner, self._config.host, self._config.port).start()
                self._port = int(self._runner.addresses[0][1])
        except OSError:
            await self._runner.cleanup()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._opening is not None:
            self._opening.cancel()
            with suppress(asyncio.CancelledError):
                await self._opening
        await self._runner.cleanup()

    def _take_port(self) -> None:
        """Whoever knocks there is refused until the engine is loaded."""
        family, kind, *_, address = socket.getaddrinfo(
            self._config.host, self._config.port, type=socket.SOCK_STREAM
        )[0]
        listener = socket.socket(family, kind)
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(address)
        except OSError:
            listener.close()
            raise
        self._port = int(listener.getsockname()[1])
        self._opening = asyncio.get_running_loop().create_task(self._open(listener))

    async def _open(self, listener: socket.socket) -> None:
        with listener:
            await self._sleep(self._config.load_s)
            await web.SockSite(self._runner, listener.dup()).start()

    def _application(self) -> web.Application:
        started = datetime.now(UTC)
        engine = self._engine
        view = View(
            engine.models, self._config.context_window, engine.slots, engine.memory, started, _time_of_day
        )
        routes = Routes(self._dialect, engine, view)
        app = web.Application(client_max_size=MAX_BODY_BYTES, middlewares=[routes.while_starting])
        app.on_response_prepare.append(routes.name_server)
        app.add_routes(list(routes))
        return app


def _time_of_day() -> datetime:
    return datetime.now(UTC)
