"""The command `coordinator`."""

import os
import signal
import socket
import sys
from pathlib import Path

import pytest

from provider_agent.cli.coordinator import _print_event, _serve
from provider_agent.cli.main import main


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[object, str]:
    """Exit code and stderr of `coordinator` with these arguments."""
    with pytest.raises(SystemExit) as end:
        main(["coordinator", *arguments], {})
    return end.value.code, capsys.readouterr().err


@pytest.mark.skipif(sys.platform == "win32", reason="Windows cannot send itself this signal")
def test_it_serves_until_a_signal_and_then_drains() -> None:
    """Field note 44: SIGTERM is an orderly end, with exit code 0; a script can follow it by events."""
    events: list[str] = []

    def on_event(name: str, _fields: dict[str, object]) -> None:
        events.append(name)
        if name == "listening":
            os.kill(os.getpid(), signal.SIGTERM)

    assert _serve({"dev": True, "listen": "127.0.0.1:0"}, on_event) == 0
    assert events == ["listening", "draining", "stopped"]


def test_dev_on_a_public_address_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    """One sentence with the remedy; exit code 78."""
    code, err = run(capsys, "--dev", "--listen", "192.0.2.1:8700")

    assert code == 78
    assert err == (
        "provider-agent: --dev lets anybody in, so it listens on loopback only, not on 192.0.2.1; "
        "leave out --dev, or listen on loopback\n"
    )


def test_json_in_the_wrong_place_is_told_and_not_ignored(capsys: pytest.CaptureFixture[str]) -> None:
    """A script that gave it would wait for JSON in vain."""
    code, err = run(capsys, "--json", "key", "list")

    assert code == 64
    assert "behind the command" in err


def test_a_port_in_use_ends_in_69(capsys: pytest.CaptureFixture[str]) -> None:
    """Another start may find it free, so this is no settings error."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        code, err = run(capsys, "--dev", "--listen", f"127.0.0.1:{port}")

    assert code == 69
    assert err.startswith(f"provider-agent: port {port} on 127.0.0.1 is in use; ")


@pytest.mark.parametrize(("dev", "next_step"), [(True, "/v1/models"), (False, "coordinator token create")])
def test_a_person_is_told_what_to_do_next(
    capsys: pytest.CaptureFixture[str], dev: bool, next_step: str
) -> None:
    """With lines to copy."""
    url, agents_url = "http://127.0.0.1:8700", "ws://127.0.0.1:8700/v1/agents/connect"

    _print_event("listening", {"url": url, "agents_url": agents_url, "port": 8700, "dev": dev})

    err = capsys.readouterr().err
    assert next_step in err
    assert agents_url in err
    assert max(map(len, err.splitlines())) <= 80


def test_the_next_steps_name_the_folder_that_was_given(capsys: pytest.CaptureFixture[str]) -> None:
    """Without it, the codes and keys would be made in another database than the one that is served."""
    url, agents_url = "http://127.0.0.1:8700", "ws://127.0.0.1:8700/v1/agents/connect"

    _print_event("listening", {"url": url, "agents_url": agents_url, "dev": False}, Path("my data"))

    err = capsys.readouterr().err
    assert "coordinator token create --data 'my data'\n" in err
    assert "coordinator key create NAME --data 'my data'\n" in err


@pytest.mark.parametrize(
    ("name", "fields", "sentence"),
    [
        ("draining", {"running_jobs": 2}, "Finishing 2 running jobs; Ctrl-C once more stops at once.\n"),
        ("draining", {"running_jobs": 1}, "Finishing 1 running job; Ctrl-C once more stops at once.\n"),
        ("draining", {"running_jobs": 0}, ""),
        ("capabilities_taken", {"name": "den", "models": ("a", "b")}, "Agent den offers a, b.\n"),
        (
            "capabilities_taken",
            {"name": "", "provider_id": "p-1", "models": ()},
            "Agent p-1 offers nothing now.\n",
        ),
        ("agent_away", {"name": "den"}, "Agent den lost its connection; its jobs wait for it.\n"),
        ("agent_back", {"name": "den"}, "Agent den is back.\n"),
        ("agent_left", {"name": "den"}, "Agent den left.\n"),
        ("stopped", {}, ""),
    ],
)
def test_a_person_is_told_what_happens(
    capsys: pytest.CaptureFixture[str], name: str, fields: dict[str, object], sentence: str
) -> None:
    """In sentences; jobs are for the log."""
    _print_event(name, fields)

    assert capsys.readouterr().err == sentence
