"""What the agent tells of itself: its offer, heartbeats, status page; decides nothing and sends nothing."""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Final
from urllib.parse import urlsplit

from provider_agent import __version__
from provider_agent.agent.config import AgentConfig
from provider_agent.agent.executor import Executor
from provider_agent.agent.heartbeat import ExecutorView, build
from provider_agent.agent.outcomes import EndedJob
from provider_agent.agent.pause import Rest
from provider_agent.agent.routing import Policy, RoutingTable
from provider_agent.agent.status import StatusSource
from provider_agent.backends.discovery import Catalog
from provider_agent.protocol.errors import ErrorCode
from provider_agent.protocol.frames import Capabilities, Heartbeat, Limits, Metadata
from provider_agent.protocol.vitals import BackendStatus
from provider_agent.telemetry.hardware import Hardware
from provider_agent.telemetry.metrics import AgentMetrics, AgentView
from provider_agent.telemetry.rolling import Outcomes

NOT_OUR_FAULT = frozenset({ErrorCode.CANCELLED, ErrorCode.BAD_REQUEST, ErrorCode.REQUEST_TOO_LARGE})
"""Outcomes that say nothing about how well this agent serves."""

_NOTHING: Final = RoutingTable(Catalog(()), Policy())


class Report:
    """Counts what ends, and reads all else from its owner when somebody asks.

    Attributes:
        config: the present settings; `reconfigure` replaces them.
        settings_refused: why the settings as they stand now cannot be used; None if they can.
        settings_at_restart: the keys that wait for a restart, dotted.
        catalog: the engines that are known.
        revision: of the offer; grows with each change of it.
        metrics: for Prometheus.
        session_up: whether there is a session now.
        why_no_session: why there is none, as far as that is known.
        rest: the present pause, if there is one: then nothing is on offer.
    """

    def __init__(
        self, config: AgentConfig, executor: Callable[[], Executor], *, clock: Callable[[], float]
    ) -> None:
        """`executor` gives the one that serves; it tells its ends here, so it is made later."""
        self.settings_refused: str | None = None
        self.settings_at_restart: tuple[str, ...] = ()
        self.catalog = Catalog(())
        self.revision = 0
        self.session_up: Callable[[], bool] = lambda: False
        self.why_no_session: Callable[[], str] = str
        self.rest: Callable[[], Rest | None] = lambda: None
        self._executor = executor
        self._clock = clock
        self._started_s = clock()
        self._outcomes = Outcomes()
        self.metrics = AgentMetrics(self.view)
        self.reconfigure(config)

    def reconfigure(self, config: AgentConfig) -> None:
        """Go by these settings from now on."""
        self.config = config
        self._hardware = Hardware() if config.telemetry.hardware else None

    # --- what is counted ------------------------------------------------------------------

    def job_ended(self, ended: EndedJob) -> None:
        code = None if ended.code is None else ended.code.value
        usage = ended.usage
        self.metrics.job_ended(
            code=code,
            backend=ended.backend,
            duration_s=ended.latency_s,
            first_byte_s=ended.first_byte_s,
            input_tokens=usage.input_tokens,
            output_tokens=usage.output_tokens,
            relayed_bytes=ended.relayed_bytes,
        )
        for backend, why in ended.moved_from:
            self.metrics.job_moved(backend, why.value)
        if ended.code not in NOT_OUR_FAULT:
            self._outcomes.record(
                self._clock(),
                code=code,
                model_id=ended.model_id,
                latency_ms=ended.latency_s * 1000,
                tokens_per_s=ended.tokens_per_s,
                at=datetime.now(UTC),
            )

    def job_refused(self, code: ErrorCode) -> None:
        self.metrics.job_ended(code=code.value, backend="", duration_s=0.0)

    # --- what is told ---------------------------------------------------------------------

    @property
    def models(self) -> list[str]:
        """The names on offer."""
        return [offer.model_id for offer in self._table.offers]

    @property
    def _table(self) -> RoutingTable:
        """What is on offer, which is not always what could be run."""
        return self._executor().table if self.rest() is None else _NOTHING

    def capabilities(self) -> Capabilities:
        table, limits, operator = self._table, self.config.limits, self.config.operator
        return Capabilities(
            revision=self.revision,
            models=table.offers,
            limits=Limits(
                max_concurrent_total=limits.max_concurrent,
                max_tokens_per_minute=limits.max_tokens_per_minute,
                max_job_bytes=limits.max_job_bytes,
            ),
            metadata=Metadata(
                agent_version=__version__,
                name=operator.display_name or operator.name,
                contact_email=operator.contact_email,
                wallet=operator.wallet,
                labels=operator.labels,
            ),
            catalog_fingerprint=table.fingerprint,
        )

    def heartbeat(self) -> Heartbeat:
        now_s, executor = self._clock(), self._executor()
        return build(
            self._outcomes.summary(now_s),
            ExecutorView(
                active_jobs=len(executor.running),
                max_concurrent=self.config.limits.max_concurrent,
                draining=executor.draining,
                paused=self.rest() is not None,
            ),
            backends=self._backends(),
            catalog_fingerprint=self._table.fingerprint,
            uptime_s=now_s - self._started_s,
            hardware=None if self._hardware is None else self._hardware.pressure(),
        )

    def view(self) -> AgentView:
        executor, rest = self._executor(), self.rest()
        return AgentView(
            session_up=self.session_up(),
            why_no_session=self.why_no_session(),
            active_jobs=len(executor.running),
            max_concurrent=self.config.limits.max_concurrent,
            draining=executor.draining,
            models=len(self._table),
            backends=self._backends(),
            paused="" if rest is None else rest.why,
        )

    def status(self, coordinator: str) -> StatusSource:
        """What the status page is made of; `coordinator` is the host that is dialled."""
        return StatusSource(self.view, self.metrics.render, lambda: self._facts(coordinator))

    def _facts(self, coordinator: str) -> dict[str, object]:
        return {
            "coordinator": coordinator,
            "offers": self.models,
            "engines": [
                {
                    "name": entry.backend.name,
                    "url": entry.backend.url,
                    "models": [model.model_id for model in entry.models],
                }
                for entry in self.catalog.entries
            ],
            "warm": [offer.model_id for offer in self._table.offers if offer.warm],
            "cold": [offer.model_id for offer in self._table.offers if offer.warm is False],
            "failing": [
                {"backend": backend, "model": model}
                for backend, model in sorted(self._executor().breaker.open_keys)
            ],
            "catalog_fingerprint": self._table.fingerprint,
            "uptime_s": round(self._clock() - self._started_s, 1),
            "settings_refused": self.settings_refused,
            "settings_at_restart": self.settings_at_restart,
        }

    def _backends(self) -> tuple[BackendStatus, ...]:
        return tuple(
            BackendStatus(
                name=entry.backend.name,
                kind=entry.backend.kind,
                healthy=entry.healthy,
                active_jobs=self._executor().active_on(entry.backend.name),
                max_concurrent=entry.backend.max_concurrent,
            )
            for entry in self.catalog.entries
        )


def ports_of(catalog: Catalog) -> frozenset[int]:
    """Where the engines listen, if they do so on this machine."""
    ports = (urlsplit(entry.backend.url).port for entry in catalog.entries)
    return frozenset(port for port in ports if port)
