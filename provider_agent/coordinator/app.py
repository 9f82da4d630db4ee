"""The composition root of the coordinator: builds its parts, opens the port, stops in order."""

import asyncio
import errno
import ssl
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from aiohttp import web

from provider_agent.coordinator.admission import Admission
from provider_agent.coordinator.config import ConfigError, CoordinatorConfig, is_wildcard
from provider_agent.coordinator.dispatcher import Dispatcher, DispatchLimits
from provider_agent.coordinator.enrollment import Enrollment
from provider_agent.coordinator.http.admin import AdminDoor
from provider_agent.coordinator.http.agents import AgentDoor
from provider_agent.coordinator.http.anthropic import AnthropicDoor
from provider_agent.coordinator.http.cors import Cors
from provider_agent.coordinator.http.counting import count_jobless
from provider_agent.coordinator.http.errors import tell_errors
from provider_agent.coordinator.http.ollama import OllamaDoor
from provider_agent.coordinator.http.openai import OpenAIDoor
from provider_agent.coordinator.http.server import Runner
from provider_agent.coordinator.observer import Observer, OnEvent
from provider_agent.coordinator.revocation import expel_revoked
from provider_agent.coordinator.store.base import Store
from provider_agent.coordinator.store.memory import MemoryStore
from provider_agent.telemetry.logs import get_logger
from provider_agent.telemetry.metrics import CoordinatorMetrics
from provider_agent.transport.dialling import in_words

BACKLOG = 1024
"""Connections that may wait to be accepted: after a restart all agents come at once."""

AGENTS_ARRIVE_S = 10.0
"""After its start a coordinator knows all agents: they are back within 5 s of a deploy (protocol.md 10)."""

HANDLERS_GRACE_S = 2.0
"""What answers may still take to end once their agents are gone."""

_log = get_logger(__name__)


class CannotListen(Exception):
    """The address cannot be listened on.

    Attributes:
        in_use: another process has it now: starting again later may help.
    """

    def __init__(self, host: str, port: int, error: OSError) -> None:
        super().__init__(host, port, error)
        self.host = host
        self.port = port
        self.in_use = error.errno == errno.EADDRINUSE
        self.reason = in_words(error)

    def __str__(self) -> str:
        if self.in_use:
            return (
                f"port {self.port} on {self.host} is in use; "
                "stop what uses it, or choose another with --listen HOST:PORT"
            )
        return (
            f"cannot listen on {self.host} port {self.port}: {self.reason}; choose another --listen HOST:PORT"
        )


@dataclass(frozen=True, slots=True)
class Parts:
    """What `run` needs of what `build_app` made."""

    app: web.Application
    dispatcher: Dispatcher
    agents: AgentDoor
    store: Store


def build_app(
    config: CoordinatorConfig,
    store: Store,
    *,
    on_event: OnEvent,
    is_stopping: Callable[[], bool] = lambda: False,
    clock: Callable[[], float] = time.monotonic,
) -> Parts:
    """All doors over one dispatcher; nothing runs yet."""
    limits = DispatchLimits(
        queue_max_wait_s=config.queue_max_wait_s,
        queue_max_jobs=config.queue_max_jobs,
        resume_window_s=config.resume_window_s,
        young_s=AGENTS_ARRIVE_S,
    )
    metrics = CoordinatorMetrics(lambda: dispatcher.view())  # noqa: PLW0108 - it does not exist yet
    observer = Observer(metrics, on_event)
    dispatcher = Dispatcher(limits, clock=clock, on_event=observer.take)
    enrollment = Enrollment(
        store,
        server_names=config.server_names,
        dev=config.dev,
        allow_legacy_auth=config.allow_legacy_auth,
        clock=clock,
    )
    admission = Admission(store, dev=config.dev, clock=clock)
    app = web.Application(
        client_max_size=config.max_body_bytes, middlewares=[count_jobless(metrics), tell_errors]
    )
    agents = AgentDoor(
        dispatcher,
        enrollment,
        heartbeat_interval_ms=config.heartbeat_interval_ms,
        on_event=observer.take,
    )
    agents.add_to(app)
    keepalive_s = config.keepalive_s
    OpenAIDoor(dispatcher, admission, keepalive_s=keepalive_s, created=int(time.time())).add_to(app)
    AnthropicDoor(dispatcher, admission, keepalive_s=keepalive_s).add_to(app)
    OllamaDoor(dispatcher, admission, keepalive_s=keepalive_s).add_to(app)
    AdminDoor(store, metrics, is_stopping=is_stopping).add_to(app)
    Cors(config.cors_origins).add_to(app)
    return Parts(app, dispatcher, agents, store)


async def run(
    config: CoordinatorConfig, *, stop: asyncio.Event, on_event: OnEvent = lambda _name, _fields: None
) -> int:
    """Serve until `stop` is set, then drain; gives back the exit code.

    Raises:
        ConfigError: the TLS files cannot be used.
        CannotListen: the address cannot be listened on.
        StoreError: the database cannot be opened.
    """
    tls = _tls(config)
    store = await _open_store(config.data_dir)
    try:
        parts = build_app(config, store, on_event=on_event, is_stopping=stop.is_set)
        await _serve(parts, config, tls, stop, on_event)
    finally:
        await store.close()
    return 0


async def _serve(
    parts: Parts,
    config: CoordinatorConfig,
    tls: ssl.SSLContext | None,
    stop: asyncio.Event,
    on_event: OnEvent,
) -> None:
    """Listen until told to stop, and stop in this order.

    1. Readiness is gone (`is_stopping`), whoever watches is told.
    2. New jobs are refused, and those that run get time to end.
    3. Agents are told to come back to whoever follows, and the port is closed.
    """
    runner = Runner(parts.app, handler_cancellation=True, access_log=None, shutdown_timeout=HANDLERS_GRACE_S)
    await runner.setup()
    try:
        await _listen(runner, config, tls)
        on_event("listening", _address(config, runner))
        async with asyncio.TaskGroup() as tasks:
            watchers = (
                tasks.create_task(parts.dispatcher.watch()),
                tasks.create_task(expel_revoked(parts.store, parts.dispatcher.end_session)),
            )
            await stop.wait()
            on_event("draining", {"running_jobs": parts.dispatcher.view().running_jobs})  # 1
            await parts.dispatcher.drain(config.shutdown_grace_s)  # 2
            for watcher in watchers:
                watcher.cancel()
        await parts.agents.goodbye()  # 3
    finally:
        await runner.cleanup()
    on_event("stopped", {})


async def _listen(runner: web.AppRunner, config: CoordinatorConfig, tls: ssl.SSLContext | None) -> None:
    site = web.TCPSite(runner, config.listen_host, config.listen_port, backlog=BACKLOG, ssl_context=tls)
    try:
        await site.start()
    except OSError as error:
        raise CannotListen(config.listen_host, config.listen_port, error) from error


def _address(config: CoordinatorConfig, runner: web.AppRunner) -> dict[str, object]:
    """Where this machine reaches us."""
    port = runner.addresses[0][1]
    host = "127.0.0.1" if is_wildcard(config.listen_host) else config.listen_host
    place = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    secure = "s" if config.tls_cert_file else ""
    return {
        "url": f"http{secure}://{place}",
        "agents_url": f"ws{secure}://{place}/v1/agents/connect",
        "port": port,
        "dev": config.dev,
    }


async def _open_store(data_dir: Path | None) -> Store:
    if data_dir is None:
        return MemoryStore()
    from provider_agent.coordinator.store.sqlite import open_sqlite

    return await open_sqlite(data_dir)


def _tls(config: CoordinatorConfig) -> ssl.SSLContext | None:
    if config.tls_cert_file is None:
        return None
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    try:
        context.load_cert_chain(config.tls_cert_file, config.tls_key_file)
    except (OSError, ssl.SSLError) as error:
        files = f"{config.tls_cert_file} and {config.tls_key_file}"
        remedy = "give a chain of certificates and its key, as PEM"
        raise ConfigError(f"the TLS files {files} cannot be used: {in_words(error)}; {remedy}") from error
    return context
