"""What only a start would find wrong with the settings, found without one; knows no engine."""

from typing import Literal, NamedTuple

from provider_agent.agent.config import AgentConfig, ConfigError
from provider_agent.agent.identity import Identity, IdentityError
from provider_agent.transport.dialling import DialError, DialOptions, server_host, tls_context


class Problem(NamedTuple):
    """One thing that is wrong.

    Attributes:
        level: an `error` keeps the agent from serving until somebody mends it; a `warning` may not.
        about: whose it is.
        text: what it is, and what to do.
    """

    level: Literal["error", "warning"]
    about: str
    text: str


def start_problems(config: AgentConfig) -> list[Problem]:
    """All that a start would stumble over, in the order in which it would."""
    found = []
    identity = None
    try:
        identity = Identity.look(config.identity.key_path)
    except IdentityError as error:
        found.append(Problem("error", "identity", str(error)))
    return [*found, *_enrolment(config, identity), *_tls(config)]


def coordinator_that_knows(config: AgentConfig) -> str | None:
    """Where this agent was let in before, if it is where the settings lead to now."""
    host = server_host(config.coordinator.url)
    try:
        identity = Identity.look(config.identity.key_path)
    except IdentityError:
        return None
    return host if identity is not None and identity.is_known_at(host) else None


def _enrolment(config: AgentConfig, identity: Identity | None) -> list[Problem]:
    """A code is needed until the coordinator has given the identity a name, and not read after that."""
    host = server_host(config.coordinator.url)
    if identity is not None and identity.is_known_at(host):
        return []
    try:
        code = config.enrollment_code()
    except ConfigError as error:
        return [Problem("error", "enrolment", str(error))]
    if code:
        return []
    text = (
        f"this agent is not known at {host} yet, and has no code; unless that coordinator lets anybody in, "
        "ask its operator for one, and set coordinator.enrollment_code_file"
    )
    return [Problem("warning", "enrolment", text)]


def _tls(config: AgentConfig) -> list[Problem]:
    """Files that can be read, and hold no certificate or key."""
    section = config.coordinator
    if not section.url.startswith("wss:"):
        return []
    options = DialOptions(
        ca_file=section.ca_file,
        client_cert_file=section.client_cert_file,
        client_key_file=section.client_key_file,
    )
    try:
        tls_context(options)
    except DialError as error:
        return [Problem("error", "TLS", f"coordinator.{error}; name a PEM file that holds it")]
    return []
