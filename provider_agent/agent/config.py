"""The settings of the agent, read and checked; knows no use of them.

The file `agent.toml` first, then the environment: `PROVIDER_AGENT__LIMITS__MAX_CONCURRENT=4`. Lists may be
JSON or separated by commas, tables JSON or `name=value` pairs, `PROVIDER_AGENT__BACKENDS__0__URL` sets a
member of the first backend, and an empty text unsets what may be absent.
"""

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from urllib.parse import SplitResult, urlsplit

import platformdirs

from provider_agent.agent.config_check import ConfigError, Origin
from provider_agent.agent.config_reader import read
from provider_agent.agent.config_sections import (
    PROGRAM,
    BackendSection,
    CoordinatorSection,
    ScheduleSection,
    Settings,
    TelemetrySection,
)
from provider_agent.agent.routing import Policy
from provider_agent.agent.schedule import BadSchedule
from provider_agent.backends.address import BadAddress, normalise
from provider_agent.backends.base import BackendSettings
from provider_agent.backends.listing import is_name
from provider_agent.protocol.fields import LONGEST_NAME
from provider_agent.transport.dialling import is_loopback

__all__ = ["AgentConfig", "ConfigError", "default_files", "load"]

FILE_NAME = "agent.toml"

_GLOB = re.compile(r"[*?[]")


class AgentConfig(Settings, frozen=True, kw_only=True):
    """All settings, checked; `origin` remembers where each came from."""

    origin: Origin = Origin()

    def backend_settings(self, environ: Mapping[str, str]) -> tuple[BackendSettings, ...]:
        """The configured backends with their secrets; raises ConfigError when one is not to be had."""
        return tuple(
            BackendSettings(
                kind=backend.kind,
                url=backend.url,
                name=backend.name,
                api_key=self._api_key(f"backends[{index}]", backend, environ),
                models=backend.models,
                exclude=backend.exclude,
                max_concurrent=backend.max_concurrent,
                priority=backend.priority,
                standby=backend.standby,
                aliases=backend.aliases,
            )
            for index, backend in enumerate(self.backends)
        )

    def enrollment_code(self) -> str | None:
        """The code for the first contact; raises ConfigError when its file cannot be read."""
        if self.coordinator.enrollment_code_file is None:
            return self.coordinator.enrollment_code
        return self._secret_file("coordinator.enrollment_code_file", self.coordinator.enrollment_code_file)

    def _api_key(self, key: str, backend: BackendSection, environ: Mapping[str, str]) -> str | None:
        if backend.api_key_file is not None:
            return self._secret_file(f"{key}.api_key_file", backend.api_key_file)
        if backend.api_key_env is None:
            return None
        if value := environ.get(backend.api_key_env, "").strip():
            return self._one_line(f"{key}.api_key_env", f"the variable {backend.api_key_env}", value)
        problem = f"names the environment variable {backend.api_key_env}, which is not set"
        raise self.origin.error(f"{key}.api_key_env", problem, "set it, or remove the key")

    def _secret_file(self, key: str, file: Path) -> str:
        if secret := _read_text(self.origin, key, file).strip():
            return self._one_line(key, f"the file {file}", secret)
        raise self.origin.error(key, f"names the file {file}, which is empty", "write the secret into it")

    def _one_line(self, key: str, source: str, secret: str) -> str:
        """The secret, if a header can hold it."""
        if secret.isprintable():
            return secret
        problem = f"names {source}, which holds more than one line of plain text"
        raise self.origin.error(key, problem, "leave only the secret in it")


def default_files() -> tuple[Path, ...]:
    """Where a configuration is looked for when none is named, in this order."""
    return (
        Path(FILE_NAME),
        platformdirs.user_config_path(PROGRAM, appauthor=False) / FILE_NAME,
        Path("/etc") / PROGRAM / FILE_NAME,
    )


def load(
    path: Path | None, environ: Mapping[str, str], *, search: Iterable[Path] | None = None
) -> AgentConfig:
    """The configuration of this file, or of the first default place that has one, and the environment.

    Raises:
        ConfigError: it cannot be used; the text is one sentence with place, key and remedy.
    """
    places = default_files() if search is None else tuple(search)
    file = path if path is not None else next((place for place in places if place.is_file()), None)
    settings, origin = read(Settings, file, environ)
    config = AgentConfig(
        **{name: getattr(settings, name) for name in Settings.__struct_fields__}, origin=origin
    )
    _check_coordinator(config.coordinator, origin)
    for index, backend in enumerate(config.backends):
        _check_backend(f"backends[{index}]", backend, origin)
    _check_backend_names(config.backends, origin)
    _check_globs(config, origin)
    _check_aliases(config, origin)
    _check_warm(config, origin)
    _check_schedule(config.schedule, origin)
    _check_status_listen(config.telemetry, origin)
    return config


# --- rules that concern more than a type -------------------------------------------------


def _check_coordinator(section: CoordinatorSection, origin: Origin) -> None:
    _check_coordinator_url(section, origin)
    if section.enrollment_code and section.enrollment_code_file:
        problem = "is set beside coordinator.enrollment_code_file"
        raise origin.error("coordinator.enrollment_code", problem, "keep one of them")
    for name in ("ca_file", "client_cert_file", "client_key_file"):
        file: Path | None = getattr(section, name)
        if file is not None:
            _read_text(origin, f"coordinator.{name}", file)
    if section.client_key_file and not section.client_cert_file:
        problem = "is set without coordinator.client_cert_file"
        raise origin.error("coordinator.client_key_file", problem, "set both")
    if section.proxy is not None:
        schemes = ("http", "https", "socks4", "socks4a", "socks5", "socks5h")
        _check_url("coordinator.proxy", section.proxy, schemes, "http://host:port", origin)


def _check_coordinator_url(section: CoordinatorSection, origin: Origin) -> None:
    key = "coordinator.url"
    url = _check_url(key, section.url, ("wss", "ws"), "wss://host/v1/agents/connect", origin)
    host = url.hostname or ""
    if url.scheme == "ws" and not section.allow_insecure and not is_loopback(host):
        problem = f"uses ws:// to {host}, so that anybody on the way can read and change everything"
        raise origin.error(key, problem, "use wss://, or set coordinator.allow_insecure = true")


def _check_backend(key: str, backend: BackendSection, origin: Origin) -> None:
    if backend.url is not None:
        _check_url(f"{key}.url", backend.url, ("http", "https"), "http://host:port", origin)
        try:
            normalise(backend.url)
        except BadAddress as error:
            problem = f"is no base URL of an engine: {error.reason}"
            raise origin.error(f"{key}.url", problem, "write it as http://host:port") from error
        _check_privacy(key, backend, origin)
    elif backend.kind in ("openai", "auto", "remote"):
        problem = f"is missing, and kind {backend.kind} has no usual address"
        raise origin.error(f"{key}.url", problem, 'write for example url = "http://127.0.0.1:8000"')
    if backend.api_key_env and backend.api_key_file:
        raise origin.error(f"{key}.api_key_env", f"is set beside {key}.api_key_file", "keep one of them")


def _check_privacy(key: str, backend: BackendSection, origin: Origin) -> None:
    """A key that is worth money, and other people's prompts, leave this machine over TLS only."""
    url = urlsplit(backend.url or "")
    if backend.kind == "remote" and url.scheme == "http" and not is_loopback(url.hostname or ""):
        problem = (
            f"uses http:// to {url.hostname}, so that anybody on the way can read your key and all prompts"
        )
        raise origin.error(
            f"{key}.url", problem, 'use https://, or kind = "openai" for an engine of your own'
        )


def _check_backend_names(backends: tuple[BackendSection, ...], origin: Origin) -> None:
    names = [backend.name for backend in backends]
    for index, name in enumerate(names):
        if name is not None and name in names[:index]:
            problem = f'repeats the name "{name}" of backends[{names.index(name)}]'
            raise origin.error(f"backends[{index}].name", problem, "give each backend its own")


def _check_globs(config: AgentConfig, origin: Origin) -> None:
    lists = {
        "models.expose": config.models.expose,
        "models.hide": config.models.hide,
        "models.max_concurrent": tuple(config.models.max_concurrent),
        "models.warm": config.models.warm,
    }
    for index, backend in enumerate(config.backends):
        lists |= {f"backends[{index}].models": backend.models, f"backends[{index}].exclude": backend.exclude}
    for key, globs in lists.items():
        if not all(glob.strip() for glob in globs):
            raise origin.error(key, "holds an empty glob, which no model matches", "remove it")


def _check_aliases(config: AgentConfig, origin: Origin) -> None:
    tables = {"models.aliases": config.models.aliases} | {
        f"backends[{index}].aliases": backend.aliases for index, backend in enumerate(config.backends)
    }
    for key, aliases in tables.items():
        for alias in aliases:
            if not is_name(alias):
                problem = f"holds a name of {len(alias)} characters that no model can be offered by"
                raise origin.error(key, problem, f"choose 1 to {LONGEST_NAME} characters of plain text")


def _check_warm(config: AgentConfig, origin: Origin) -> None:
    """Of a glob it depends on what the engines have; a name that is not on offer is a contradiction."""
    policy = Policy(expose=config.models.expose, hide=config.models.hide)
    for name in config.models.warm:
        if not _GLOB.search(name) and not policy.lets_through(name):
            problem = f'holds "{name}", which models.expose and models.hide do not let through'
            raise origin.error("models.warm", problem, "offer that model, or do not keep it warm")


def _check_schedule(section: ScheduleSection, origin: Origin) -> None:
    try:
        _ = section.zone
    except BadSchedule as bad:
        raise origin.error("schedule.timezone", bad.problem, bad.remedy) from bad
    try:
        _ = section.hours
    except BadSchedule as bad:
        raise origin.error("schedule.active", bad.problem, bad.remedy) from bad


def _check_status_listen(section: TelemetrySection, origin: Origin) -> None:
    try:
        _ = section.status_address
    except ValueError as error:
        remedy = 'write for example status_listen = "127.0.0.1:9464", or "" to turn it off'
        raise origin.error("telemetry.status_listen", "must be host:port", remedy) from error


def _check_url(key: str, text: str, schemes: tuple[str, ...], example: str, origin: Origin) -> SplitResult:
    try:
        url = urlsplit(text)
        is_whole = bool(url.hostname) and url.port != 0
        (url.hostname or "").encode("idna")  # a label may be empty or too long to be asked for
    except ValueError as error:
        raise origin.error(key, "is no URL", f"write it as {example}") from error
    if url.scheme not in schemes or not is_whole:
        raise origin.error(
            key, f"must be a URL that begins with {schemes[0]}:// and names a host", f"write it as {example}"
        )
    return url


def _read_text(origin: Origin, key: str, file: Path) -> str:
    try:
        return file.read_bytes().decode()
    except OSError as error:
        reason = (error.strerror or "it cannot be read").lower()
        raise origin.error(
            key, f"names {file}, which cannot be read ({reason})", "correct the path or its permissions"
        ) from error
    except UnicodeDecodeError as error:
        raise origin.error(key, f"names {file}, which is not text", "name a PEM or text file") from error
