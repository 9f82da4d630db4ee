"""Heads of requests, byte for byte."""

import pytest

from provider_agent import __version__
from provider_agent.backends.proxy import Proxy
from provider_agent.backends.target import Target

PROXY = Proxy("proxy.lan", 3128, is_tls=False, authorization="Basic eDp5")


def lines(head: bytes) -> list[str]:
    assert head.endswith(b"\r\n\r\n")
    return head.decode().rstrip("\r\n").split("\r\n")


def test_a_request_says_what_it_is() -> None:
    """No more than an engine needs; nothing is asked for compressed."""
    target = Target("http://engine.lan:8000/base")

    assert lines(target.head("/v1/x", b"{}", api_key="sk-1", keeps=True)) == [
        "POST /base/v1/x HTTP/1.1",
        "Host: engine.lan:8000",
        f"User-Agent: provider-agent/{__version__}",
        "Accept: */*",
        "Accept-Encoding: identity",
        "Content-Type: application/json",
        "Authorization: Bearer sk-1",
        "Content-Length: 2",
    ]


def test_a_question_has_no_body_and_keeps_no_connection() -> None:
    """It is a GET, and says that it leaves."""
    asked = lines(Target("https://engine.lan").head("/v1/models", None, api_key=None, keeps=False))

    assert asked[:2] == ["GET /v1/models HTTP/1.1", "Host: engine.lan"]
    assert asked[-1] == "Connection: close"
    assert not any(line.startswith(("Content", "Authorization")) for line in asked)


@pytest.mark.parametrize(
    ("url", "host", "port", "named"),
    [
        ("http://engine.lan", "engine.lan", 80, "engine.lan"),
        ("https://engine.lan", "engine.lan", 443, "engine.lan"),
        ("http://[::1]:8000", "::1", 8000, "[::1]:8000"),
        ("http://b\u00fccher.example:81", "xn--bcher-kva.example", 81, "xn--bcher-kva.example:81"),
    ],
)
def test_a_host_is_dialled_and_named(url: str, host: str, port: int, named: str) -> None:
    """Brackets and the port of another scheme belong to the name only."""
    target = Target(url)

    assert (target.host, target.port) == (host, port)
    assert f"Host: {named}" in lines(target.head("/", None, api_key=None, keeps=True))


@pytest.mark.parametrize("url", ["http://engine..lan", "http://" + "e" * 64 + ".lan"])
def test_an_impossible_name_is_refused(url: str) -> None:
    """It cannot even be asked for."""
    with pytest.raises(UnicodeError):
        Target(url)


def test_nothing_in_a_path_ends_its_line() -> None:
    """It may come from a coordinator."""
    head = Target("http://engine.lan").head("/v1/x y\r\nX: 1", None, api_key=None, keeps=True)

    assert lines(head)[0] == "GET /v1/x%20y%0D%0AX:%201 HTTP/1.1"


def test_over_a_proxy_the_whole_url_is_asked_for() -> None:
    """And the proxy's account is shown to it."""
    asked = lines(Target("http://engine.lan:8000/b", PROXY).head("/v1/x", None, api_key=None, keeps=True))

    assert asked[:2] == ["GET http://engine.lan:8000/b/v1/x HTTP/1.1", "Host: engine.lan:8000"]
    assert "Proxy-Authorization: Basic eDp5" in asked


def test_over_a_tunnel_the_proxys_account_is_not_for_the_engine() -> None:
    """Only the CONNECT shows it."""
    target = Target("https://engine.lan", PROXY)

    assert lines(target.tunnel_head()) == [
        "CONNECT engine.lan:443 HTTP/1.1",
        "Host: engine.lan:443",
        "Proxy-Authorization: Basic eDp5",
    ]
    asked = lines(target.head("/v1/x", None, api_key=None, keeps=True))
    assert asked[0] == "GET /v1/x HTTP/1.1"
    assert not any(line.startswith("Proxy") for line in asked)
