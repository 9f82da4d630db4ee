"""The agent's composition root: builds the parts, wires them, and runs them until told to stop."""

import asyncio
import os
import random
import time
from collections.abc import Callable, Mapping

from provider_agent.agent.config import AgentConfig
from provider_agent.agent.connector import Connector, SessionEnd
from provider_agent.agent.contact import Contact, Dial
from provider_agent.agent.executor import Executor, ExecutorLimits
from provider_agent.agent.gpu_watch import GpuWatch
from provider_agent.agent.heartbeat import beat
from provider_agent.agent.identity import Identity
from provider_agent.agent.news import News
from provider_agent.agent.outcomes import EndedJob
from provider_agent.agent.pause import Pause
from provider_agent.agent.prober import Prober
from provider_agent.agent.reload import Change, Reading, Reloader
from provider_agent.agent.report import Report, ports_of
from provider_agent.agent.routing import Policy, RoutingTable
from provider_agent.agent.session import Credentials, Duties
from provider_agent.agent.status import status_page
from provider_agent.agent.waiting import Waiter, wait_until
from provider_agent.agent.warmer import Warmer
from provider_agent.backends.discovery import Catalog, Discovery
from provider_agent.backends.http import EngineHttp
from provider_agent.protocol.frames import AuthOk, Frame
from provider_agent.telemetry.logs import get_logger, set_level
from provider_agent.transport.channel import Socket
from provider_agent.transport.dialled import server_host

log = get_logger(__name__)

OnEvent = Callable[[str, dict[str, object]], None]
"""Told what happens, for whoever watches the process: a name and its facts."""


async def run(
    config: AgentConfig,
    *,
    stop: asyncio.Event,
    reload: asyncio.Event | None = None,
    on_event: OnEvent = lambda _name, _facts: None,
    environ: Mapping[str, str] = os.environ,
    wait: Waiter = wait_until,
    wall_clock: Callable[[], float] = time.time,
) -> int:
    """Serve until `stop` is set, then drain; gives the exit code (0, 75 replaced, 78 rejected for good).

    The settings are read again when their files change, or `reload` is set.

    Raises:
        ConfigError, IdentityError: the operator has something to mend; one sentence each.
    """
    settings = config.backend_settings(environ)
    identity = Identity.load_or_create(config.identity.key_path)
    host = server_host(config.coordinator.url)
    # A code file may be gone once its code was used: it is read only while it is needed.
    code = config.enrollment_code() if identity.provider_id(host) is None else None
    credentials = Credentials(identity, host, code, allow_legacy=config.coordinator.allow_legacy_auth)
    async with EngineHttp() as http:
        agent = Agent(config, credentials, on_event=on_event, wall_clock=wall_clock)
        discovery = Discovery(
            settings,
            http,
            probe_loopback=config.discovery.enabled,
            interval_s=config.discovery.interval_s,
            grace_s=config.discovery.grace_s,
            on_change=agent.use,
        )
        reloader = Reloader(
            Reading(config, settings),
            environ,
            apply=lambda change: agent.reconfigure(change, discovery),
            refuse=agent.refuse_settings,
        )
        async with asyncio.TaskGroup() as tasks:
            watching = tasks.create_task(reloader.run(reload or asyncio.Event()))
            try:
                return await agent.run(discovery, stop, wait)
            finally:
                watching.cancel()


class Agent:
    """The running process: one executor, one table of models, and the session that there is just now."""

    def __init__(
        self,
        config: AgentConfig,
        credentials: Credentials,
        *,
        on_event: OnEvent,
        clock: Callable[[], float] = time.monotonic,
        wall_clock: Callable[[], float] = time.time,
        dial: Dial | None = None,
    ) -> None:
        self._config = config
        self._on_event = on_event
        self._clock = clock
        self._policy = policy_of(config)
        self._ready = False
        self._report = Report(config, lambda: self._executor, clock=clock)
        self._asked_to_leave = asyncio.Event()
        self._leave_within_s = config.limits.shutdown_grace_s
        self._left = asyncio.Event()
        self._executor = Executor(
            RoutingTable(Catalog(()), self._policy),
            _limits(config),
            clock=clock,
            on_end=self._job_ended,
            on_refused=self._report.job_refused,
        )
        self._executor.breaker.on_change = self._offer_anew
        self._prober = Prober(self._executor.breaker)
        duties = Duties(
            capabilities=self._report.capabilities,
            beat=self._beat,
            on_accepted=self._accepted,
            on_announced=self._announced,
            on_drain=self._asked,
        )
        self._contact = Contact(config, credentials, self._executor, duties, dial=dial)
        self._report.session_up = lambda: self._contact.is_up
        gpu = GpuWatch(lambda: ports_of(self._report.catalog))
        self._pause = Pause(config.schedule, gpu, clock=wall_clock)
        self._pause.on_change = self._rest_changed
        self._report.rest = lambda: self._pause.rest
        self._executor.paused = self._pause.refusal
        self._offer = self._report.capabilities()
        self._news = News(self._announce)
        self._warmer = Warmer(
            config.models.warm,
            table=lambda: self._executor.table,
            running=lambda: self._executor.running,
            clock=clock,
        )

    async def run(
        self,
        discovery: Discovery,
        stop: asyncio.Event,
        wait: Waiter = wait_until,
        source: random.Random | None = None,
    ) -> int:
        """Find engines, hold a session, serve; gives the exit code. `source`: of the jitter between tries."""
        self._executor.on_unreachable = self._prober.on_unreachable = discovery.report_unreachable
        self._executor.on_missing = discovery.report_changed
        self._warmer.on_loaded = discovery.report_changed
        self._pause.look()
        connector = Connector(
            dial=self._contact.dial,
            serve=self._serve,
            clock=self._clock,
            wait=wait,
            source=source,
            jobs_wait_s=self._jobs_wait_s,
            on_dialled=self._report.metrics.dialled,
            on_ended=self._report.metrics.session_ended,
        )
        self._report.why_no_session = lambda: connector.why
        status = status_page(
            self._config.telemetry.status_address, self._report.status(self._contact.server_host)
        )
        async with status, self._executor, asyncio.TaskGroup() as tasks:
            beside = [
                tasks.create_task(discovery.run()),
                tasks.create_task(self._warmer.run()),
                tasks.create_task(self._prober.run()),
                tasks.create_task(self._pause.run()),
                tasks.create_task(self._pass_on(stop)),
                tasks.create_task(self._leave()),
            ]
            code = await connector.run(self._left)
            for task in beside:
                task.cancel()
            self._news.close()
        self._tell("stopped", {"exit_code": code})
        return code

    def _tell(self, name: str, facts: dict[str, object]) -> None:
        """Let whoever watches know. It is told in the middle of our work, so its failure stays its own."""
        try:
            self._on_event(name, facts)
        except Exception:  # not our code: anything may come out of it
            log.exception("observer_failed", told=name)

    # --- what the parts tell --------------------------------------------------------------

    def use(self, catalog: Catalog) -> None:
        """The engines changed. One that answers again, or has other settings, has a clean slate."""
        well_before = {entry.backend for entry in self._report.catalog.entries if entry.healthy}
        well_now = {entry.backend for entry in catalog.entries if entry.healthy}
        self._report.catalog = catalog
        self._executor.breaker.present = {entry.backend for entry in catalog.entries}
        self._executor.breaker.forget({backend.name for backend in well_now - well_before})
        self._offer_anew()
        self._warmer.look()

    def _offer_anew(self) -> None:
        """Route by what is known now, and say so if the offer changed with it."""
        before, models = self._executor.table.fingerprint, self._report.models
        breaker = self._executor.breaker
        table = RoutingTable(
            self._report.catalog,
            self._policy,
            open_keys=breaker.open_keys,
            unproven_keys=breaker.unproven_keys,
        )
        self._executor.table = table
        if table.fingerprint != before:
            if table.left_out:
                log.warning("models_left_out", count=table.left_out, reason="an agent offers no more")
            self._report.metrics.catalog_changed()
        if self._report.models != models:  # slots and warmth change by the minute
            self._tell("models", {"models": self._report.models})
        self._news.changed()

    def _announce(self) -> bool:
        """Models, limits, or what the operator says of it: the coordinator hears of each change once."""
        if self._report.capabilities() == self._offer:
            return False
        self._report.revision += 1
        self._offer = self._report.capabilities()
        self._contact.announce()
        return True

    def _rest_changed(self) -> None:
        """A pause has begun, or ended: nothing is on offer meanwhile, and no model is kept in memory."""
        rest = self._pause.rest
        self._tell("resumed" if rest is None else "paused", {} if rest is None else {"reason": rest.why})
        self._keep_warm()
        self._news.flush()
        self._contact.tell(self._report.heartbeat())

    def _keep_warm(self) -> None:
        rests = self._asked_to_leave.is_set() or self._pause.rest is not None
        self._warmer.use(() if rests else self._config.models.warm)

    # --- settings -------------------------------------------------------------------------

    def reconfigure(self, change: Change, discovery: Discovery) -> None:
        """Go by these settings from now on, in one step. What runs goes on as it began."""
        config, before = change.config, self._config
        self._config = config
        if config.log.level != before.log.level:
            set_level(config.log.level)
        self._policy = policy_of(config)
        self._executor.reconfigure(_limits(config))
        self._report.reconfigure(config)
        self._report.settings_refused, self._report.settings_at_restart = None, change.at_restart
        if not self._asked_to_leave.is_set():
            self._leave_within_s = config.limits.shutdown_grace_s
        self._pause.use(config.schedule)
        self._keep_warm()
        self._tell("settings_applied", {"keys": change.applied, "at_restart": change.at_restart})
        discovery.reconfigure(
            change.backends,
            probe_loopback=config.discovery.enabled,
            interval_s=config.discovery.interval_s,
            grace_s=config.discovery.grace_s,
        )
        self._offer_anew()

    def refuse_settings(self, problem: str) -> None:
        """They changed, and cannot be used; those from before stay in force."""
        self._report.settings_refused = problem
        self._tell("settings_refused", {"problem": problem})

    # --- sessions' news -------------------------------------------------------------------

    def _accepted(self, frame: AuthOk) -> None:
        facts: dict[str, object] = {
            "provider_id": frame.provider_id,
            "session_id": frame.session_id,
            "protocol": frame.protocol,
        }
        log.info("session_up", **facts)
        self._news.flush()  # what is said to a new session is all that there is
        self._tell("connected", facts)

    def _announced(self, revision: int) -> None:
        models = self._report.models
        if revision == self._report.revision and models and not self._ready:
            self._ready = True
            self._tell("ready", {"models": models})

    def _asked(self, within_s: float | None) -> None:
        if within_s is not None:
            self._leave_within_s = min(self._leave_within_s, within_s)
        self._asked_to_leave.set()

    def _job_ended(self, ended: EndedJob) -> None:
        self._report.job_ended(ended)
        code = "done" if ended.code is None else ended.code.value
        self._tell("job", {"job_id": ended.job_id, "model_id": ended.model_id, "code": code})

    def _jobs_wait_s(self) -> float:
        """For how long yet a new session would save jobs."""
        return self._executor.resume_left_s if self._executor.resumable() else 0.0

    async def _serve(self, socket: Socket) -> SessionEnd:
        end = await self._contact.serve(socket)
        if end.accepted:
            self._tell("disconnected", {})
        return end

    async def _beat(self, post: Callable[[Frame], None], interval_s: float) -> None:
        await beat(post, self._report.heartbeat, interval_s, self._clock)

    # --- leaving --------------------------------------------------------------------------

    async def _pass_on(self, stop: asyncio.Event) -> None:
        await stop.wait()
        self._asked_to_leave.set()

    async def _leave(self) -> None:
        """Once asked: refuse new jobs, say so at once, finish what runs, close, and be gone.

        A job that has ended may wait for a thin line yet: its last bytes get what is left of the time.
        """
        await self._asked_to_leave.wait()
        end_s = self._clock() + self._leave_within_s
        log.info("draining", active_jobs=len(self._executor.running), within_s=self._leave_within_s)
        self._tell("draining", {"active_jobs": len(self._executor.running)})
        self._executor.draining = True
        self._keep_warm()
        self._contact.tell(self._report.heartbeat())
        await self._executor.drain(self._leave_within_s)
        self._left.set()
        await self._contact.leave(within_s=end_s - self._clock())


def policy_of(config: AgentConfig) -> Policy:
    """What the operator decides about models, as routing takes it."""
    return Policy(
        expose=config.models.expose,
        hide=config.models.hide,
        aliases=config.models.aliases,
        price_of=config.pricing.of,
        max_concurrent=config.limits.max_concurrent,
        limits=config.models.max_concurrent,
    )


def _limits(config: AgentConfig) -> ExecutorLimits:
    return ExecutorLimits(
        max_concurrent=config.limits.max_concurrent,
        max_job_bytes=config.limits.max_job_bytes,
        first_byte_timeout_s=config.limits.first_byte_timeout_s,
        idle_timeout_s=config.limits.idle_timeout_s,
        backpressure_timeout_s=config.limits.backpressure_timeout_s,
        max_tokens_per_minute=config.limits.max_tokens_per_minute,
        max_output_tokens=config.limits.max_output_tokens,
        allow_remote_media=config.limits.allow_remote_media,
    )
