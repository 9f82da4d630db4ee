"""The coordinator's settings, from flags and environment; knows neither sockets nor the store.

A flag wins over the environment, the environment over the default. Each setting but `listen` and
`data` has the name of its field; `PROVIDER_COORDINATOR__QUEUE_MAX_JOBS` sets `queue_max_jobs`.
"""

import difflib
import ipaddress
import re
import socket
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import urlsplit

import msgspec
import platformdirs
from msgspec import Meta, inspect

from provider_agent.protocol.frames import MAX_MESSAGE_BYTES

ENVIRONMENT_PREFIX = "PROVIDER_COORDINATOR__"

LOOPBACK_NAMES = ("localhost", "127.0.0.1", "::1")

ENVELOPE_BYTES = 64 * 1024
"""What a body may lack of the largest message: it goes to an agent inside one."""

_MIB = 1024 * 1024
_LISTS = frozenset({"server_names", "cors_origins"})
_ORIGIN = re.compile(r"\*|[a-z][a-z0-9+.-]*://[^/\s?#@]+")
_SPELLED_OTHERWISE = {"listen": "listen_host and listen_port", "data": "data_dir"}

Port = Annotated[int, Meta(ge=0, le=65_535)]
Wait = Annotated[float, Meta(gt=0, le=86_400)]


class ConfigError(Exception):
    """The settings cannot be used; the text is one sentence that names the setting and the remedy.

    Attributes:
        setting: the one that is at fault; "" when it is none alone.
        variable: the environment variable that it came from, if it did.
    """

    def __init__(self, problem: str, *, setting: str = "", variable: str | None = None) -> None:
        super().__init__(problem)
        self.problem = problem
        self.setting = setting
        self.variable = variable

    def __str__(self) -> str:
        place = f"environment variable {self.variable}" if self.variable else self.setting
        return f"{place}: {self.problem}" if place else self.problem


class CoordinatorConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How a coordinator runs.

    Attributes:
        listen_port: 0 takes any free port.
        data_dir: where the database lives; None keeps everything in memory.
        dev: no keys, and any agent may enrol; loopback only.
        server_names: hosts that agents may have dialled, lower case and without ports: an agent's
            signature is bound to the name it dialled.
        allow_legacy_auth: take the unbound signature of protocol 2, too, which a hostile server could relay.
        cors_origins: whose web pages may read the answers to clients, as browsers name them; "*" is all.
        queue_max_wait_s: how long a request waits for a free agent.
        resume_window_s: how long an agent whose connection broke is waited for, and its jobs with it; 0 is
            not at all.
        keepalive_s: after so long without a byte a streamed answer gets a comment.
        shutdown_grace_s: how long running jobs may take to end once the coordinator is told to stop.
    """

    listen_host: Annotated[str, Meta(min_length=1)] = "127.0.0.1"
    listen_port: Port = 8700
    data_dir: Path | None = None
    dev: bool = False
    server_names: tuple[str, ...] = ()
    allow_legacy_auth: bool = False
    cors_origins: tuple[str, ...] = ()
    tls_cert_file: Path | None = None
    tls_key_file: Path | None = None
    queue_max_wait_s: Wait = 30.0
    queue_max_jobs: Annotated[int, Meta(ge=0)] = 1000
    resume_window_s: Annotated[float, Meta(ge=0, le=86_400)] = 60.0
    keepalive_s: Wait = 15.0
    max_body_bytes: Annotated[int, Meta(ge=1, le=MAX_MESSAGE_BYTES - ENVELOPE_BYTES)] = 32 * _MIB
    # Agents send no more than one a second.
    heartbeat_interval_ms: Annotated[int, Meta(ge=1000, le=3_600_000)] = 15_000
    shutdown_grace_s: Annotated[float, Meta(ge=0, le=86_400)] = 30.0
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    log_format: Literal["auto", "console", "json"] = "auto"


def load(
    flags: Mapping[str, object],
    environ: Mapping[str, str],
    *,
    hostname: Callable[[], str] = socket.gethostname,
) -> CoordinatorConfig:
    """The settings of one run. A flag that is None was not given.

    Raises:
        ConfigError: a setting is unknown, has a wrong value, or does not go with the others.
    """
    variables = _variables(environ)
    given = {name: value for name, value in flags.items() if value is not None}
    settings = {name: _value_of(name, environ[variable]) for name, variable in variables.items()}
    try:
        return _settle(settings | given, hostname)
    except ConfigError as error:
        is_alias = error.setting == "data_dir" and "data" in settings | given  # which wins over data_dir
        name = "data" if is_alias else error.setting
        variable = None if name in given else variables.get(name)
        raise ConfigError(error.problem, setting=error.setting, variable=variable) from error


def _settle(settings: dict[str, object], hostname: Callable[[], str]) -> CoordinatorConfig:
    listen = settings.pop("listen", None)
    if listen is not None:
        settings["listen_host"], settings["listen_port"] = split_listen(str(listen))
    if "data" in settings:
        settings["data_dir"] = settings.pop("data")
    config = _convert(settings)
    config = msgspec.structs.replace(
        config,
        data_dir=config.data_dir or (None if config.dev else default_data_dir()),
        server_names=_server_names(config, hostname),
    )
    _check(config)
    return config


def default_data_dir() -> Path:
    """Where the coordinator keeps its database unless it is told otherwise."""
    return Path(platformdirs.user_data_dir("provider-agent", appauthor=False)) / "coordinator"


def split_listen(text: str) -> tuple[str, int]:
    """`host:port`, `[v6]:port`, `host`, `port` (this machine only), or `:port` (every interface).

    Raises:
        ConfigError: it is none of these.
    """
    default = CoordinatorConfig()
    if text.isdecimal():
        text = f"{default.listen_host}:{text}"
    try:
        parts = urlsplit(f"//{text}")
        port = default.listen_port if parts.port is None else parts.port
    except ValueError as error:
        raise _no_address(text) from error
    if parts.path or parts.query or parts.username is not None or (text.count(":") > 1 and "[" not in text):
        raise _no_address(text)
    return parts.hostname or ("0.0.0.0" if text.startswith(":") else default.listen_host), port  # noqa: S104


def normal_host(text: str) -> str:
    """A host as it is compared and signed: lower case, ASCII, without port and brackets; "" if it is none."""
    try:
        if text.count(":") > 1 and not text.startswith("["):  # a bare IPv6 address has no port
            return str(ipaddress.IPv6Address(text))
        host = urlsplit(f"//{text}").hostname or ""
        return host if host.isascii() else host.encode("idna").decode("ascii")
    except ValueError:  # UnicodeError is one
        return ""


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach what listens there; of names, only localhost is known to be."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _variables(environ: Mapping[str, str]) -> dict[str, str]:
    """Those that are ours, by the setting that each is for."""
    variables = {
        variable.removeprefix(ENVIRONMENT_PREFIX).lower(): variable
        for variable in environ
        if variable.startswith(ENVIRONMENT_PREFIX)
    }
    for name, variable in variables.items():
        _check_name(name, variable)
    return variables


def _value_of(name: str, text: str) -> object:
    return [part.strip() for part in text.split(",")] if name in _LISTS else text


def _check_name(name: str, variable: str) -> None:
    known = [*_SPELLED_OTHERWISE, *CoordinatorConfig.__struct_fields__]
    if name in known:
        return
    near = difflib.get_close_matches(name, known, n=1)
    hint = (
        f"did you mean {ENVIRONMENT_PREFIX}{near[0].upper()}?" if near else "take it out of the environment"
    )
    raise ConfigError(f"{variable} names no setting; {hint}")


def _convert(settings: dict[str, object]) -> CoordinatorConfig:
    try:
        return msgspec.convert(settings, CoordinatorConfig, strict=False, dec_hook=_path)
    except msgspec.ValidationError as error:
        what, _, place = str(error).partition(" - at ")
        name = place.strip("`").removeprefix("$.").partition("[")[0]
        wanted = _wanted(name) or f"{what[:1].lower()}{what[1:]}"
        raise ConfigError(wanted, setting=name or "the settings") from error


def _wanted(name: str) -> str:
    """What a setting may be; "" where the library's own words do."""
    shape = inspect.type_info(CoordinatorConfig)
    assert isinstance(shape, inspect.StructType)  # noqa: S101 - for mypy
    match {field.name: field.type for field in shape.fields}.get(name):
        case inspect.BoolType():
            return "expected true or false"
        case inspect.LiteralType(values=values):
            return f"expected one of {', '.join(map(str, values))}"
        case inspect.IntType() as number:
            return f"expected a whole number{_bounds(number)}"
        case inspect.FloatType() as number:
            return f"expected a number{_bounds(number)}"
        case inspect.StrType():
            return "expected some text"
        case _:
            return ""


def _bounds(number: inspect.IntType | inspect.FloatType) -> str:
    if number.ge is not None and number.le is not None:
        return f" from {number.ge:.10g} to {number.le:.10g}"
    bounds = (("of at least", number.ge), ("above", number.gt), ("up to", number.le))
    said = ", ".join(f"{words} {bound:.10g}" for words, bound in bounds if bound is not None)
    return f" {said}" if said else ""


def _path(kind: type, value: object) -> object:
    if kind is Path and isinstance(value, str | Path) and str(value):
        try:
            return Path(value).expanduser()
        except RuntimeError as error:
            raise ValueError(f"the home directory in {value} is not known") from error
    raise ValueError("expected a path")


def _server_names(config: CoordinatorConfig, hostname: Callable[[], str]) -> tuple[str, ...]:
    """What the operator named, else what this machine is called without asking anybody."""
    if config.server_names:
        names = [(name, normal_host(name)) for name in config.server_names]
        for given, normal in names:
            if not normal:
                raise ConfigError(
                    f"{given!r} is no host name; give it as coordinator.example.org", setting="server_names"
                )
        return tuple(dict.fromkeys(normal for _, normal in names))
    own = (config.listen_host, hostname(), *LOOPBACK_NAMES)
    return tuple(dict.fromkeys(host for host in map(normal_host, own) if host and not is_wildcard(host)))


def is_wildcard(host: str) -> bool:
    """Whether it means every interface of this machine."""
    return host in {"0.0.0.0", "::"}  # noqa: S104


def _check(config: CoordinatorConfig) -> None:
    if config.dev and not is_loopback(config.listen_host):
        raise ConfigError(
            f"--dev lets anybody in, so it listens on loopback only, not on {config.listen_host}; "
            "leave out --dev, or listen on loopback"
        )
    if (config.tls_cert_file is None) != (config.tls_key_file is None):
        missing = "--tls-key" if config.tls_key_file is None else "--tls-cert"
        raise ConfigError(f"TLS needs a certificate and its key; give {missing}, too")
    _check_origins(config.cors_origins)
    for file in (config.tls_cert_file, config.tls_key_file):
        if file is not None and not file.is_file():
            raise ConfigError(f"the TLS file {file} does not exist")


def _check_origins(origins: tuple[str, ...]) -> None:
    for origin in origins:
        if not _ORIGIN.fullmatch(origin):
            raise ConfigError(
                f"{origin!r} is no origin; give it as https://chat.example.org, without a path",
                setting="cors_origins",
            )


def _no_address(text: str) -> ConfigError:
    problem = f"{text!r} is no address to listen on; give HOST:PORT, such as 127.0.0.1:8700"
    return ConfigError(problem, setting="listen")
