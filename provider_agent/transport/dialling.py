"""How to dial a coordinator, and what can be wrong on the way; knows no WebSocket library."""

import errno
import socket
import ssl
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

from provider_agent.transport.liveness import PATIENCE, Patience

DialProblem = Literal[
    "url", "dns", "refused", "unreachable", "timeout", "tls", "client_certificate", "http", "proxy"
]


class DialError(Exception):
    """The coordinator could not be reached; the text is one sentence for the operator.

    Attributes:
        kind: what went wrong.
        http_status: the answer, when it was not the one that makes a WebSocket.
        retry_after_s: the server's wish, if it gave one.
    """

    def __init__(
        self,
        kind: DialProblem,
        message: str,
        *,
        http_status: int | None = None,
        retry_after_s: float | None = None,
    ) -> None:
        super().__init__(message)
        self.kind = kind
        self.message = message
        self.http_status = http_status
        self.retry_after_s = retry_after_s


@dataclass(frozen=True, slots=True)
class DialOptions:
    """How to dial.

    Attributes:
        ca_file: trust the authorities in this file (PEM) instead of the system's.
        client_cert_file, client_key_file: show this certificate; the key may be in the same file.
        proxy: URL of a proxy; None for the one of the environment. Loopback is never proxied.
        dial_timeout_s: for everything up to the open WebSocket.
        patience: with a coordinator that is silent, or takes nothing.
    """

    ca_file: Path | None = None
    client_cert_file: Path | None = None
    client_key_file: Path | None = None
    proxy: str | None = None
    dial_timeout_s: float = 10.0
    patience: Patience = PATIENCE


def server_host(url: str) -> str:
    """The host of a URL, lower case, ASCII and without port: what an agent's signature is bound to.

    Raises:
        DialError: there is none.
    """
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname or "", parts.port
        host = host.encode("idna").decode("ascii")  # which also finds labels that are empty or too long
    except ValueError:  # UnicodeError is one
        host = ""
    if not host or parts.scheme not in ("ws", "wss"):
        raise DialError(
            "url", f"{url!r} is not the URL of a coordinator, such as wss://host/v1/agents/connect"
        )
    return host


def is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def tls_context(options: DialOptions) -> ssl.SSLContext:
    """What to trust, and which certificate to show. Raises DialError when a file cannot be used."""
    try:
        context = ssl.create_default_context(cafile=options.ca_file)
    except OSError as error:  # ssl.SSLError is one
        sentence = f"ca_file {options.ca_file} cannot be used: {in_words(error)}"
        raise DialError("tls", sentence) from error
    if options.client_cert_file is not None:
        try:
            context.load_cert_chain(options.client_cert_file, options.client_key_file)
        except OSError as error:
            sentence = f"client_cert_file {options.client_cert_file} cannot be used: {in_words(error)}"
            raise DialError("client_certificate", sentence) from error
    return context


def network_error(error: OSError, server: str, options: DialOptions) -> DialError:
    """What the operating system says of the way to `server` (host and port)."""
    match error:
        case TimeoutError():
            return DialError("timeout", f"{server} did not answer within {options.dial_timeout_s:g} s")
        case ssl.SSLCertVerificationError():
            why = error.verify_message.rstrip(".")
            remedy = "set ca_file to the authority that signed it, if it is one of your own"
            return DialError("tls", f"the certificate of {server} is not trusted: {why}; {remedy}")
        case ssl.SSLError():
            remedy = "a server without TLS is dialled with ws://"
            return DialError("tls", f"TLS with {server} failed: {in_words(error)}; {remedy}")
        case socket.gaierror():
            return DialError("dns", f"the name of {server} cannot be resolved: {in_words(error)}")
    if isinstance(error, ConnectionRefusedError) or f"[Errno {errno.ECONNREFUSED}]" in str(error):
        # A name with several addresses fails as one bare OSError that only quotes the others.
        return DialError("refused", f"nothing listens at {server}: the connection was refused")
    return DialError("unreachable", f"{server} cannot be reached: {in_words(error) or 'connection lost'}")


def in_words(error: BaseException | None) -> str:
    """What a connection died of, without addresses."""
    if isinstance(error, ssl.SSLError):
        reason: str | None = getattr(error, "reason", None)
        return reason.lower().replace("_", " ") if reason else "not a certificate or key in PEM"
    if isinstance(error, OSError):
        return (error.strerror or "").lower().rpartition("): ")[2].partition(" (")[0]
    return "" if error is None else str(error)[:100]
