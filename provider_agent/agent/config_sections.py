"""Every setting of the agent, its type, default and range; knows neither TOML nor any use of a setting."""

from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo

import msgspec
import platformdirs
from msgspec import Meta

from provider_agent.agent.schedule import Schedule, find_zone, parse_hours
from provider_agent.protocol.fields import LARGEST_COUNT

PROGRAM = "provider-agent"

MAX_CONCURRENT = 256
MAX_JOB_BYTES = 64 * 1024 * 1024  # the largest message of the protocol

Slots = Annotated[int, Meta(ge=1, le=MAX_CONCURRENT)]
Price = Annotated[int, Meta(ge=0, le=LARGEST_COUNT)]
Positive = Annotated[int, Meta(ge=1, le=LARGEST_COUNT)]
Seconds = Annotated[float, Meta(ge=0, le=86_400)]
Wait = Annotated[float, Meta(ge=0.1, le=86_400)]

Kind = Literal[
    "auto", "ollama", "vllm", "llamacpp", "lmstudio", "sglang", "tgi", "localai", "koboldcpp", "jan",
    "llamafile", "docker", "transformers", "mlx", "llamacpp-python", "remote", "openai",
]  # fmt: skip

_HIDDEN = frozenset({"enrollment_code", "proxy"})  # a proxy's URL may hold a password


class Section(msgspec.Struct, frozen=True, kw_only=True):
    """A table of the file; its repr hides what is secret."""

    def __repr__(self) -> str:
        shown = (
            f"{name}={'…' if name in _HIDDEN and value else repr(value)}"
            for name, value in msgspec.structs.asdict(self).items()
        )
        return f"{type(self).__name__}({', '.join(shown)})"


class OperatorSection(Section, frozen=True, kw_only=True):
    """Who runs this agent; sent as metadata where set."""

    name: str = ""
    display_name: str = ""
    contact_email: str = ""
    wallet: str = ""
    labels: dict[str, str] = {}


class CoordinatorSection(Section, frozen=True, kw_only=True):
    """Where to dial, and what to trust there."""

    url: str
    enrollment_code: str | None = None
    enrollment_code_file: Path | None = None
    allow_insecure: bool = False
    allow_legacy_auth: bool = False
    ca_file: Path | None = None
    client_cert_file: Path | None = None
    client_key_file: Path | None = None
    proxy: str | None = None


def default_key_path() -> Path:
    """`identity.key` in the state directory of the user, or of the service."""
    return platformdirs.user_state_path(PROGRAM, appauthor=False) / "identity.key"


class IdentitySection(Section, frozen=True, kw_only=True):
    """Where the key lives."""

    key_path: Path = msgspec.field(default_factory=default_key_path)


class BackendSection(Section, frozen=True, kw_only=True):
    """One engine that the operator names; secrets are named by variable or file."""

    kind: Kind
    url: str | None = None
    name: str | None = None
    api_key_env: str | None = None
    api_key_file: Path | None = None
    models: tuple[str, ...] = ("*",)
    exclude: tuple[str, ...] = ()
    aliases: dict[str, str] = {}
    max_concurrent: Slots | None = None
    priority: int = 100
    standby: bool = False


class DiscoverySection(Section, frozen=True, kw_only=True):
    """How engines on this machine are found and watched."""

    enabled: bool = True
    interval_s: Annotated[float, Meta(ge=1, le=86_400)] = 30.0
    grace_s: Seconds = 10.0


class ModelsSection(Section, frozen=True, kw_only=True):
    """What is offered: globs over all backends, and other names for models."""

    expose: tuple[str, ...] = ("*",)
    hide: tuple[str, ...] = ()
    aliases: dict[str, str] = {}
    max_concurrent: dict[str, Slots] = {}
    warm: tuple[str, ...] = ()


class ModelPrice(Section, frozen=True, kw_only=True):
    """The price of one model in micro-units per million tokens; None for the default."""

    input_per_1m: Price | None = None
    output_per_1m: Price | None = None


class PricingSection(Section, frozen=True, kw_only=True):
    """Prices in integer micro-units of the operator's currency per million tokens; 0 is free."""

    default_input_per_1m: Price = 0
    default_output_per_1m: Price = 0
    models: dict[str, ModelPrice] = {}

    def of(self, model_id: str) -> tuple[int, int]:
        """What a million tokens of input, and of output, cost."""
        own = self.models.get(model_id, ModelPrice())
        return (
            self.default_input_per_1m if own.input_per_1m is None else own.input_per_1m,
            self.default_output_per_1m if own.output_per_1m is None else own.output_per_1m,
        )


class LimitsSection(Section, frozen=True, kw_only=True):
    """How much is taken on, and how long is waited."""

    max_concurrent: Slots = 8
    max_tokens_per_minute: Positive | None = None
    max_job_bytes: Annotated[int, Meta(ge=1024, le=MAX_JOB_BYTES)] = 32 * 1024 * 1024
    max_output_tokens: Positive | None = None
    allow_remote_media: bool = False
    backpressure_timeout_s: Wait = 30.0
    first_byte_timeout_s: Wait = 900.0
    idle_timeout_s: Wait = 120.0
    shutdown_grace_s: Seconds = 30.0


class ScheduleSection(Section, frozen=True, kw_only=True):
    """When this agent serves."""

    active: str | None = None
    timezone: str | None = None
    pause_when_gpu_busy: bool = False

    @property
    def is_set(self) -> bool:
        """Whether there is anything that might make it rest."""
        return self.active is not None or self.pause_when_gpu_busy

    @property
    def zone(self) -> ZoneInfo | None:
        """None for local time. Raises BadSchedule."""
        return None if self.timezone is None else find_zone(self.timezone)

    @property
    def hours(self) -> Schedule:
        """Raises BadSchedule."""
        return Schedule(() if self.active is None else parse_hours(self.active), self.zone)


class TelemetrySection(Section, frozen=True, kw_only=True):
    """What is told of this machine, and to whom."""

    hardware: bool = False
    status_listen: str = "127.0.0.1:9464"

    @property
    def status_address(self) -> tuple[str, int] | None:
        """Host and port of the status page; None when it is off. Raises ValueError when it is neither."""
        if not self.status_listen:
            return None
        parts = urlsplit(f"//{self.status_listen}")
        if parts.port is None:
            raise ValueError("no port")
        host = parts.hostname or ""
        host.encode("idna")  # UnicodeError is a ValueError
        return host, parts.port


class LogSection(Section, frozen=True, kw_only=True):
    """How much is said, and in what form."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    format: Literal["auto", "console", "json"] = "auto"


class Settings(Section, frozen=True, kw_only=True):
    """The file, table by table."""

    coordinator: CoordinatorSection
    identity: IdentitySection = msgspec.field(default_factory=IdentitySection)
    operator: OperatorSection = OperatorSection()
    backends: tuple[BackendSection, ...] = ()
    discovery: DiscoverySection = DiscoverySection()
    models: ModelsSection = ModelsSection()
    pricing: PricingSection = PricingSection()
    limits: LimitsSection = LimitsSection()
    schedule: ScheduleSection = ScheduleSection()
    telemetry: TelemetrySection = TelemetrySection()
    log: LogSection = LogSection()
