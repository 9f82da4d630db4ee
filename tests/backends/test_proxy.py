"""Which proxy the environment means; no connection is opened."""

import pytest

from provider_agent.backends.proxy import Proxy, environment_proxy, read


@pytest.fixture(autouse=True)
def _bare_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


def test_an_engine_elsewhere_is_reached_over_the_environments_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    """By the scheme of the engine's URL, or one for all."""
    monkeypatch.setenv("https_proxy", "http://proxy.lan:3128")
    assert environment_proxy("https://engine.example.com") == Proxy("proxy.lan", 3128, is_tls=False)
    assert environment_proxy("http://engine.example.com") is None

    monkeypatch.setenv("all_proxy", "https://proxy.lan")
    assert environment_proxy("http://engine.example.com") == Proxy("proxy.lan", 443, is_tls=True)


def test_an_engine_on_this_machine_needs_none(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever its spelling; nor does one that `no_proxy` names, nor is a proxy of another kind used."""
    monkeypatch.setenv("http_proxy", "http://proxy.lan:3128")
    monkeypatch.setenv("no_proxy", "engine.example.com")
    for url in ("http://localhost:11434", "http://[::1]:8000", "http://engine.example.com"):
        assert environment_proxy(url) is None
    monkeypatch.setenv("http_proxy", "socks5://proxy.lan:1080")
    assert environment_proxy("http://other.example.com") is None


def test_its_account_is_sent_to_it() -> None:
    """Unquoted, as RFC 7617 has it."""
    proxy = read("http://us%40er:p%3Ass@proxy.lan:3128")

    assert proxy.authorization == "Basic dXNAZXI6cDpzcw=="


@pytest.mark.parametrize("url", ["http://", "http://proxy.lan:99999"])
def test_an_impossible_one_is_said_to_be(url: str) -> None:
    """And not quietly left out."""
    with pytest.raises(ValueError):  # noqa: PT011 - whatever its words
        read(url)
