"""The command `run`, as far as it goes without a coordinator; the rest is in `tests/e2e`."""

from pathlib import Path

import pytest

from tests.fakes.programs import Ended, Program, command

COORDINATOR = '[coordinator]\nurl = "wss://coordinator.example.org/v1/agents/connect"\n'

MISTAKES = [
    ('[coordinatr]\nurl = "wss://x.example"\n', "did you mean coordinator?"),
    (COORDINATOR + "[limits]\nmax_concurrent = 'many'\n", "limits.max_concurrent"),
    (COORDINATOR + "[limits]\nmax_concurrent = 0\n", "limits.max_concurrent"),
    ('[coordinator]\nurl = "ws://coordinator.example.org/"\n', "wss://"),
    (COORDINATOR + '[[backends]]\nkind = "vllm"\napi_key_env = "NOT_SET_HERE"\n', "NOT_SET_HERE"),
    (COORDINATOR + "limits = ", "line 3"),
    ("", "coordinator"),
]


async def run(tmp_path: Path, text: str) -> Ended:
    file = tmp_path / "agent.toml"
    file.write_text(text)
    return await command("--config", str(file), cwd=tmp_path)


@pytest.mark.parametrize(("text", "hint"), MISTAKES)
async def test_a_mistake_in_the_file_is_one_sentence_and_78(tmp_path: Path, text: str, hint: str) -> None:
    """With the file, the key and the remedy, and no traceback; field note 50."""
    ended = await run(tmp_path, text)

    assert (ended.code, ended.stdout) == (78, "")
    assert len(ended.stderr.splitlines()) == 1
    assert "agent.toml" in ended.stderr
    assert hint in ended.stderr


async def test_an_unknown_flag_is_a_usage_error() -> None:
    """Nothing is ignored silently; field note 50."""
    ended = await command("run", "--confg", "agent.toml")

    assert ended.code == 64
    assert "--confg" in ended.stderr


async def test_a_key_file_that_others_can_read_is_one_sentence_and_78(tmp_path: Path) -> None:
    """The identity is not used until the operator has looked at it; field note 43."""
    key = tmp_path / "identity.key"
    key.write_text("not a key")
    key.chmod(0o644)
    ended = await run(tmp_path, f'{COORDINATOR}[identity]\nkey_path = "{key}"\n')

    assert ended.code == 78
    assert len(ended.stderr.splitlines()) == 1
    assert "identity.key" in ended.stderr


async def test_it_ends_at_once_when_told_to_while_nobody_answers(tmp_path: Path) -> None:
    """A coordinator that is away must not hold the process."""
    environ = {
        "PROVIDER_AGENT__COORDINATOR__URL": "ws://127.0.0.1:9/v1/agents/connect",
        "PROVIDER_AGENT__IDENTITY__KEY_PATH": str(tmp_path / "identity.key"),
        "PROVIDER_AGENT__DISCOVERY__ENABLED": "false",
        "PROVIDER_AGENT__TELEMETRY__STATUS_LISTEN": "",
    }
    async with Program("run", "--json", environ=environ, cwd=tmp_path) as program:
        assert program.process.stderr is not None
        await program.process.stderr.readline()  # its first attempt is logged
        program.stop()
        await program.event("stopped")
        ended = await program.end()

    assert ended.code == 0
