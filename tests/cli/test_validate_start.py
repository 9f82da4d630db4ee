"""What a start would stumble over is known before it, and nothing is changed by asking."""

import os
from pathlib import Path

import pytest

from provider_agent.agent.config import load
from provider_agent.agent.identity import Identity
from provider_agent.cli.validate_start import Problem, coordinator_that_knows, start_problems


def problems(folder: Path, more: str = "", url: str = "wss://c.example/v1/agents/connect") -> list[Problem]:
    """Those of a configuration in this folder."""
    file = folder / "agent.toml"
    file.write_text(f'identity.key_path = "{folder}/identity.key"\n[coordinator]\nurl = "{url}"\n{more}')
    return start_problems(load(file, {}))


def test_an_agent_with_a_code_has_no_problem(tmp_path: Path) -> None:
    """Its identity is made by the start, not by the look."""
    (tmp_path / "code").write_text("secret\n")

    assert problems(tmp_path, f'enrollment_code_file = "{tmp_path}/code"') == []
    assert sorted(os.listdir(tmp_path)) == ["agent.toml", "code"]  # noqa: PTH208


def test_an_identity_that_cannot_be_read_is_an_error(tmp_path: Path) -> None:
    """As the start would say it."""
    (tmp_path / "identity.key").touch(0o600)

    (found,) = problems(tmp_path, 'enrollment_code = "x"')

    assert (found.level, found.about) == ("error", "identity")
    assert "is no private key" in found.text


def test_a_code_file_that_is_missing_matters_while_the_code_is_needed(tmp_path: Path) -> None:
    """Once the coordinator knows the agent, the file may be gone."""
    missing = f'enrollment_code_file = "{tmp_path}/code"'
    (found,) = problems(tmp_path, missing)
    assert (found.level, found.about) == ("error", "enrolment")
    assert "cannot be read" in found.text

    Identity.load_or_create(tmp_path / "identity.key").remember_provider_id("c.example", "prov-1")
    assert problems(tmp_path, missing) == []


def test_whether_the_coordinator_has_let_the_agent_in_before_is_told(tmp_path: Path) -> None:
    """Who moves to another one needs a code again."""
    file = tmp_path / "agent.toml"
    file.write_text(
        f'identity.key_path = "{tmp_path}/identity.key"\n[coordinator]\nurl = "wss://c.example/"\n'
    )
    before = coordinator_that_knows(load(file, {}))
    Identity.load_or_create(tmp_path / "identity.key").remember_provider_id("c.example", "prov-1")

    assert (before, coordinator_that_knows(load(file, {}))) == (None, "c.example")


def test_no_code_at_all_is_a_warning(tmp_path: Path) -> None:
    """A coordinator may let anybody in."""
    (found,) = problems(tmp_path)

    assert found.level == "warning"
    assert "not known at c.example yet" in found.text


@pytest.mark.parametrize("key", ["ca_file", "client_cert_file"])
def test_a_file_that_is_no_certificate_is_an_error(tmp_path: Path, key: str) -> None:
    """It can be read, so that only TLS would find out."""
    (tmp_path / "some.pem").write_text("no certificate\n")

    (found,) = problems(tmp_path, f'enrollment_code = "x"\n{key} = "{tmp_path}/some.pem"')

    assert (found.level, found.about) == ("error", "TLS")
    assert found.text.startswith(f"coordinator.{key} ")


def test_without_tls_nobody_reads_certificates(tmp_path: Path) -> None:
    """What is not used cannot be in the way."""
    (tmp_path / "some.pem").write_text("no certificate\n")
    more = f'enrollment_code = "x"\nca_file = "{tmp_path}/some.pem"'

    assert problems(tmp_path, more, url="ws://127.0.0.1:8700/v1/agents/connect") == []
