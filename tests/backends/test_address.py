"""Spellings of an engine's address."""

import pytest

from provider_agent.backends.address import BadAddress, Place, normalise, place_of


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        ("http://127.0.0.1:8000", "http://127.0.0.1:8000"),
        ("http://127.0.0.1:8000/v1", "http://127.0.0.1:8000"),
        ("http://127.0.0.1:8000/v1/", "http://127.0.0.1:8000"),
        ("http://gpu/", "http://gpu"),
        ("gpu-box:8000", "http://gpu-box:8000"),
        (" HTTP://GPU:80/v1 ", "http://gpu"),
        ("https://api.example.com/openai/v1", "https://api.example.com/openai"),
        ("http://[::1]:8080", "http://[::1]:8080"),
        ("0.0.0.0:11434", "http://127.0.0.1:11434"),
        ("http://127.0.0.1:12434/engines/v1", "http://127.0.0.1:12434/engines"),
    ],
)
def test_a_base_url_has_one_spelling(given: str, wanted: str) -> None:
    """Field note 33: with or without `/v1`, slash, scheme and port."""
    assert normalise(given) == wanted
    assert normalise(wanted) == wanted


@pytest.mark.parametrize(
    "url", ["localhost:8000", "http://127.0.0.1:8000/v1", "http://[::1]:8000/", "0.0.0.0:8000"]
)
def test_all_names_of_this_machine_are_one_place(url: str) -> None:
    """Field note 33: a trailing slash does not defeat the duplicate check."""
    assert place_of(url) == Place("loopback", 8000)
    assert place_of(url).is_loopback


@pytest.mark.parametrize(
    "url", ["http://10.0.0.1:8000", "https://example.com", "http://localhost.example.com"]
)
def test_other_machines_are_other_places(url: str) -> None:
    """Only loopback needs no proxy."""
    assert not place_of(url).is_loopback


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("ftp://x", "the scheme must be http or https"),
        ("", "it names no host"),
        ("http://x:99999", "the port is not a number up to 65535"),
        ("http://x:eight", "the port is not a number up to 65535"),
        ("http://user:sk-secret@x", "a key belongs into api_key_env, not into the URL"),
        ("http://x/?a=1", "it must not have a query or a fragment"),
    ],
)
def test_what_is_no_base_url_is_said(url: str, reason: str) -> None:
    """And a key in it is not repeated."""
    with pytest.raises(BadAddress) as caught:
        normalise(url)
    assert caught.value.reason == reason
    assert "sk-secret" not in str(caught.value)
