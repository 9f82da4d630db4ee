"""The command `validate`, as a process, against a simulated engine."""

import json
import os
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from provider_agent.simulator import Simulator, SimulatorConfig
from tests.fakes.engine import FakeEngine, html
from tests.fakes.programs import command

WriteConfig = Callable[..., Path]


@pytest.fixture
def write_config(tmp_path: Path) -> WriteConfig:
    """Writes an `agent.toml` that finds nothing by itself, and gives its path."""

    def write(more: str = "", url: str = "wss://coordinator.example.org/v1/agents/connect") -> Path:
        file = tmp_path / "agent.toml"
        file.write_text(
            f'[coordinator]\nurl = "{url}"\n[identity]\nkey_path = "{tmp_path}/identity.key"\n'
            f"[discovery]\nenabled = false\n{more}"
        )
        return file

    return write


def backend(url: str, more: str = "") -> str:
    return f'[[backends]]\nkind = "openai"\nname = "sim"\nurl = "{url}"\n{more}\n'


async def test_it_shows_what_would_be_offered(write_config: WriteConfig) -> None:
    """Settings, engines and models, after the operator's own choice of them."""
    async with Simulator(SimulatorConfig(models=("small", "secret"))) as simulator:
        file = write_config('[models]\nhide = ["secret"]\n' + backend(simulator.url + "/v1/"))
        ended = await command("validate", "--config", str(file), "--json")
    findings = json.loads(ended.stdout)

    assert (ended.code, ended.stderr) == (0, "")
    assert findings["file"] == str(file)
    assert findings["identity"]["exists"] is False
    assert [(b["name"], b["healthy"], b["state"], b["models"]) for b in findings["backends"]] == [
        ("sim", True, "answers", ["secret", "small"])
    ]
    assert [model["model_id"] for model in findings["models"]] == ["small"]


async def test_an_engine_that_is_down_is_shown_and_is_no_error(write_config: WriteConfig) -> None:
    """`run` waits for it, too."""
    ended = await command("validate", "--config", str(write_config(backend("http://127.0.0.1:9"))))

    assert ended.code == 0
    assert "no answer" in ended.stdout
    assert "Nothing would be offered now" in ended.stdout


async def test_an_agent_that_rests_now_is_told_to(write_config: WriteConfig) -> None:
    """Whatever the engines: that is why no job comes (field note 79)."""
    now = datetime.now(UTC)
    hours = f"{now + timedelta(hours=1):%H:%M}-{now + timedelta(hours=2):%H:%M}"
    file = write_config(f'[schedule]\nactive = "{hours}"\ntimezone = "UTC"\npause_when_gpu_busy = true\n')
    ended = await command("validate", "--config", str(file), "--json")

    assert ended.code == 0
    problems = [(each["level"], each["text"]) for each in json.loads(ended.stdout)["problems"]]
    assert (
        "warning",
        f"the agent takes no jobs now: outside active hours, until {hours[:5]} (UTC)",
    ) in problems


async def test_a_name_that_no_model_has_is_told_once_all_engines_are_there(write_config: WriteConfig) -> None:
    """One that is away may have it."""
    async with Simulator(SimulatorConfig(models=("small",))) as simulator:
        there = '[models]\nwarm = ["smal"]\n' + backend(simulator.url)
        away = backend("http://127.0.0.1:9").replace("sim", "away")
        told = [
            (await command("validate", "-c", str(write_config(text)))).stdout
            for text in (there, there + away)
        ]

    assert ['models.warm holds "smal"' in each for each in told] == [True, False]


async def test_the_environment_is_named_where_it_was_used(write_config: WriteConfig) -> None:
    """It wins over the file, so one must see it."""
    environ = {"PROVIDER_AGENT__LIMITS__MAX_CONCURRENT": "3"}
    ended = await command("validate", "-c", str(write_config()), "--json", environ=environ)

    assert json.loads(ended.stdout)["variables"] == ["PROVIDER_AGENT__LIMITS__MAX_CONCURRENT"]


async def test_nothing_is_changed(write_config: WriteConfig, tmp_path: Path) -> None:
    """No identity is made by looking."""
    await command("validate", "--config", str(write_config()))

    assert os.listdir(tmp_path) == ["agent.toml"]  # noqa: PTH208 - nobody else waits for this loop


async def test_an_engine_of_unknown_family_that_is_down_is_shown(write_config: WriteConfig) -> None:
    """It was named, so it must not be missing from the picture; nobody answered who could be recognised."""
    file = write_config('[[backends]]\nkind = "auto"\nurl = "http://127.0.0.1:9"\n')
    ended = await command("validate", "--config", str(file))

    assert ended.code == 0
    assert "no answer" in ended.stdout
    assert "not recognised" not in ended.stdout
    assert "does not accept connections" in ended.stdout


async def test_an_engine_that_answers_and_is_not_recognised_is_shown(write_config: WriteConfig) -> None:
    """A web server that says yes to everything; scripts read the same as people."""
    async with FakeEngine() as engine:
        engine.pages["/v1/models"] = html()
        file = write_config(f'[[backends]]\nkind = "auto"\nurl = "{engine.url}"\n')
        ended = await command("validate", "--config", str(file), "--json")
    (found,) = json.loads(ended.stdout)["backends"]

    assert (found["healthy"], found["state"]) == (False, "not recognised")


async def test_what_only_a_start_would_find_is_78_with_all_the_rest(
    write_config: WriteConfig, tmp_path: Path
) -> None:
    """The operator mends everything at once, and a script reads the first of it as `error`."""
    file = write_config('[telemetry]\nstatus_listen = ""\n' + backend("http://127.0.0.1:9"))
    (tmp_path / "identity.key").touch(0o600)
    ended = await command("validate", "--config", str(file), "--json")
    findings = json.loads(ended.stdout)

    assert (ended.code, findings["valid"]) == (78, False)
    assert "is no private key" in findings["error"]
    assert [each["about"] for each in findings["problems"]] == ["identity", "enrolment", "engine sim"]


async def test_a_bad_configuration_is_one_sentence_and_78(write_config: WriteConfig) -> None:
    """As `run` would say it; field note 50."""
    ended = await command("validate", "--config", str(write_config("[limts]\n")))

    assert (ended.code, ended.stdout) == (78, "")
    assert len(ended.stderr.splitlines()) == 1
    assert "limits" in ended.stderr


async def test_a_script_reads_a_bad_configuration_from_stdout(write_config: WriteConfig) -> None:
    """The same sentence as JSON."""
    ended = await command("validate", "--json", "--config", str(write_config("[limts]\n")))

    assert ended.code == 78
    assert json.loads(ended.stdout)["valid"] is False
