"""Which host is meant, which certificates are shown, and what the way to it may say."""

import errno
import socket
import ssl
from pathlib import Path

import pytest
import trustme

from provider_agent.transport.dialling import (
    DialError,
    DialOptions,
    in_words,
    is_loopback,
    network_error,
    server_host,
    tls_context,
)


@pytest.mark.parametrize(
    ("url", "host"),
    [
        ("wss://coordinator.example/v1/agents/connect", "coordinator.example"),
        ("wss://Coordinator.Example:8443/", "coordinator.example"),
        ("ws://127.0.0.1:8700/v1/agents/connect", "127.0.0.1"),
        ("ws://[::1]:8700/", "::1"),
        ("wss://user:secret@host.example/", "host.example"),
        ("wss://Bücher.example/", "xn--bcher-kva.example"),
    ],
)
def test_the_host_is_what_was_dialled_without_case_and_port(url: str, host: str) -> None:
    """Both sides must sign and check the same text."""
    assert server_host(url) == host


@pytest.mark.parametrize(
    "url",
    [
        "",
        "host.example",
        "https://host.example",
        "wss://",
        "wss://h:x/",
        "ws://[::1",
        "wss://h..x",
        "wss://" + "h" * 64,
    ],
)
def test_what_is_no_websocket_url_is_refused_in_words(url: str) -> None:
    """The sentence says what one looks like."""
    with pytest.raises(DialError, match="is not the URL of a coordinator") as caught:
        server_host(url)

    assert caught.value.kind == "url"


@pytest.mark.parametrize(
    ("host", "expected"),
    [("localhost", True), ("127.0.0.53", True), ("::1", True), ("10.0.0.1", False), ("example.com", False)],
)
def test_loopback_is_told_by_name_and_address(host: str, expected: bool) -> None:
    """It is never proxied."""
    assert is_loopback(host) is expected


@pytest.mark.parametrize(
    ("error", "kind", "sentence"),
    [
        (TimeoutError(), "timeout", "h:1 did not answer within 10 s"),
        (
            socket.gaierror(socket.EAI_NONAME, "Name or service not known"),
            "dns",
            "the name of h:1 cannot be resolved: name or service not known",
        ),
        (
            ConnectionRefusedError(errno.ECONNREFUSED, "Connect call failed ('127.0.0.1', 1)"),
            "refused",
            "nothing listens at h:1: the connection was refused",
        ),
        (
            OSError("Multiple exceptions: [Errno 111] Connect call failed, [Errno 111] Connect call failed"),
            "refused",
            "nothing listens at h:1: the connection was refused",
        ),
        (
            OSError(errno.ENETUNREACH, "Network is unreachable"),
            "unreachable",
            "h:1 cannot be reached: network is unreachable",
        ),
        (ConnectionResetError(), "unreachable", "h:1 cannot be reached: connection lost"),
        (ssl.SSLError(1, "[SSL: WRONG_VERSION_NUMBER] wrong version number"), "tls", "TLS with h:1 failed: "),
    ],
)
def test_each_trouble_on_the_way_has_its_kind_and_its_sentence(
    error: OSError, kind: str, sentence: str
) -> None:
    """The operator reads what to look at, and never an errno."""
    told = network_error(error, "h:1", DialOptions())

    assert told.kind == kind
    assert str(told).startswith(sentence)


def test_words_hold_no_address() -> None:
    """An error's own text may quote one."""
    assert "127.0.0.1" not in in_words(ConnectionRefusedError(111, "Connect call failed ('127.0.0.1', 1)"))
    taken = "error while attempting to bind on address ('127.0.0.1', 1): address already in use"
    assert in_words(OSError(98, taken)) == "address already in use"
    assert in_words(None) == ""


def test_a_client_certificate_is_loaded(tmp_path: Path) -> None:
    """Key and certificate may share a file."""
    ca = trustme.CA()
    ca.cert_pem.write_to_path(tmp_path / "ca.pem")
    ca.issue_cert("agent").private_key_and_cert_chain_pem.write_to_path(tmp_path / "agent.pem")
    context = tls_context(DialOptions(ca_file=tmp_path / "ca.pem", client_cert_file=tmp_path / "agent.pem"))

    assert context.verify_mode is ssl.CERT_REQUIRED
    assert context.check_hostname


@pytest.mark.parametrize("content", [None, b"not a certificate"])
@pytest.mark.parametrize("key", ["ca_file", "client_cert_file"])
def test_a_file_that_cannot_be_used_is_named(tmp_path: Path, key: str, content: bytes | None) -> None:
    """Missing or wrong: the sentence names the setting and the file."""
    path = tmp_path / "some.pem"
    if content is not None:
        path.write_bytes(content)
    options = DialOptions(ca_file=path) if key == "ca_file" else DialOptions(client_cert_file=path)
    with pytest.raises(DialError) as caught:
        tls_context(options)

    assert str(caught.value).startswith(f"{key} {path} cannot be used: ")
