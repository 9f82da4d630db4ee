"""The one sentence that each mistake in a configuration is answered with."""

from dataclasses import dataclass
from pathlib import Path

import pytest

from provider_agent.agent.config import ConfigError, load
from provider_agent.agent.config_reader import MOST_BYTES
from tests.fakes.configs import URL, told_of


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "agent.toml"


@dataclass(frozen=True)
class Mistake:
    """A text, what is said of it after the name of the file, and what is advised."""

    text: str
    complaint: str
    remedy: str


MISTAKES = {
    "typo in a key": Mistake(
        URL + "[limits]\nmax_concurrnt = 4",
        ", line 3: limits.max_concurrnt is no known key",
        "did you mean limits.max_concurrent?",
    ),
    "typo in a table": Mistake(
        URL + "[limit]\nmax_concurrent = 4",
        ", line 2: limit is no known key",
        "did you mean limits?",
    ),
    "key in the wrong table": Mistake(
        URL + "[models]\nmax_job_bytes = 4096",
        ", line 3: models.max_job_bytes is no known key",
        "did you mean limits.max_job_bytes?",
    ),
    "key that is like no other": Mistake(
        URL + "log.zzz = 4",
        ", line 2: log.zzz is no known key",
        "known keys here are format, level",
    ),
    "secret that is written": Mistake(
        URL + '[[backends]]\nkind = "vllm"\napi_key = "sk-secret"',
        ", line 4: backends[0].api_key is no known key",
        "did you mean backends[0].api_key_env?",
    ),
    "wrong type": Mistake(
        URL + '[limits]\nmax_concurrent = "eight"',
        ", line 3: limits.max_concurrent must be an integer from 1 to 256, not a string",
        "write for example max_concurrent = 1",
    ),
    "a glob that nobody may use": Mistake(
        URL + '[models]\nmax_concurrent = { "llama3.2:*" = 0 }',
        ', line 3: models.max_concurrent."llama3.2:*" must be an integer from 1 to 256, not 0',
        'write for example "llama3.2:*" = 1',
    ),
    "text in a list of tables": Mistake(
        'backends = ["x"]\n' + URL,
        ", line 1: backends[0] must be a table, not a string",
        "write for example [[backends]]",
    ),
    "more than a frame can hold": Mistake(
        URL + "pricing.default_input_per_1m = 9007199254740993",
        ", line 2: pricing.default_input_per_1m must be an integer from 0 to 9007199254740992, "
        "not 9007199254740993",
        "write for example default_input_per_1m = 1",
    ),
    "warm, and hidden": Mistake(
        URL + '[models]\nhide = ["*-base"]\nwarm = ["tiny", "tiny-base"]',
        ', line 4: models.warm holds "tiny-base", which models.expose and models.hide do not let through',
        "offer that model, or do not keep it warm",
    ),
    "warm without a name": Mistake(
        URL + 'models.warm = [""]',
        ", line 2: models.warm holds an empty glob, which no model matches",
        "remove it",
    ),
    "hours that are none": Mistake(
        URL + '[schedule]\nactive = "22-7"',
        ", line 3: schedule.active holds what is no range of hours",
        'write it as "22:00-07:00", several with commas between them',
    ),
    "zone that is none": Mistake(
        URL + '[schedule]\nactive = "22:00-07:00"\ntimezone = "Berlin"',
        ", line 4: schedule.timezone is no time zone that this machine knows",
        'write it as "Europe/Berlin", or remove it for local time',
    ),
    "alias without a name": Mistake(
        URL + 'models.aliases = { "" = "llama3" }',
        ", line 2: models.aliases holds a name of 0 characters that no model can be offered by",
        "choose 1 to 512 characters of plain text",
    ),
    "alias of one engine without a name": Mistake(
        URL + '[[backends]]\nkind = "ollama"\naliases = { "" = "llama3" }',
        ", line 4: backends[0].aliases holds a name of 0 characters that no model can be offered by",
        "choose 1 to 512 characters of plain text",
    ),
    "out of range": Mistake(
        URL + "limits.max_concurrent = 257",
        ", line 2: limits.max_concurrent must be an integer from 1 to 256, not 257",
        "write for example max_concurrent = 1",
    ),
    "zero slots": Mistake(
        URL + "limits.max_concurrent = 0",
        ", line 2: limits.max_concurrent must be an integer from 1 to 256, not 0",
        "write for example max_concurrent = 1",
    ),
    "money in floats": Mistake(
        URL + "pricing.default_input_per_1m = 0.5",
        ", line 2: pricing.default_input_per_1m must be an integer from 0 to 9007199254740992, not 0.5",
        "write for example default_input_per_1m = 1",
    ),
    "text for a list": Mistake(
        URL + 'models.expose = "llama*"',
        ", line 2: models.expose must be a list of strings, not a string",
        'write for example expose = ["*"]',
    ),
    "number in a list": Mistake(
        URL + 'models.expose = ["a", 3]',
        ", line 2: models.expose[1] must be a string, not an integer",
        'write for example expose = ["text"]',
    ),
    "number as a label": Mistake(
        URL + "[operator.labels]\ngpu = 4090",
        ", line 3: operator.labels.gpu must be a string, not an integer",
        'write for example gpu = "text"',
    ),
    "unknown level": Mistake(
        URL + 'log.level = "loud"',
        ', line 2: log.level must be one of "debug", "error", "info", "warning", not "loud"',
        'write for example level = "debug"',
    ),
    "one table for a list of tables": Mistake(
        URL + '[backends]\nkind = "vllm"',
        ", line 2: backends must be a list of tables, not a table",
        "write for example [[backends]]",
    ),
    "no coordinator": Mistake(
        "log.level = 'info'",
        ": coordinator.url is missing",
        "set it in agent.toml or as PROVIDER_AGENT__COORDINATOR__URL",
    ),
    "no kind": Mistake(
        URL + "[[backends]]\nurl = 'http://x:1'",
        ", line 2: backends[0].kind is missing",
        "set it in agent.toml or as PROVIDER_AGENT__BACKENDS__0__KIND",
    ),
    "broken TOML": Mistake(
        URL + "[limits\nmax_concurrent = 1",
        ", line 2: is no TOML there: expected ']' at the end of a table declaration",
        "correct that line",
    ),
    "broken TOML at the end": Mistake(
        'a = """',
        ", line 1: is no TOML there: unterminated string",
        "correct that line",
    ),
    "plain text to a public host": Mistake(
        'coordinator.url = "ws://c.example/v1/agents/connect"',
        (
            ", line 1: coordinator.url uses ws:// to c.example, so that anybody on the way "
            "can read and change everything"
        ),
        "use wss://, or set coordinator.allow_insecure = true",
    ),
    "another scheme": Mistake(
        'coordinator.url = "https://c.example/"',
        ", line 1: coordinator.url must be a URL that begins with wss:// and names a host",
        "write it as wss://host/v1/agents/connect",
    ),
    "no host": Mistake(
        'coordinator.url = "wss:///v1"',
        ", line 1: coordinator.url must be a URL that begins with wss:// and names a host",
        "write it as wss://host/v1/agents/connect",
    ),
    "no URL at all": Mistake(
        'coordinator.url = "wss://[c.example/"',
        ", line 1: coordinator.url is no URL",
        "write it as wss://host/v1/agents/connect",
    ),
    "port out of range": Mistake(
        'coordinator.url = "wss://c.example:99999/"',
        ", line 1: coordinator.url is no URL",
        "write it as wss://host/v1/agents/connect",
    ),
    "host that cannot be asked for": Mistake(
        'coordinator.url = "wss://c..example/"',
        ", line 1: coordinator.url is no URL",
        "write it as wss://host/v1/agents/connect",
    ),
    "home of nobody": Mistake(
        URL + 'coordinator.ca_file = "~nobody-here/ca.pem"',
        ": cannot be used: the home directory in ~nobody-here/ca.pem is not known",
        "write the whole path",
    ),
    "two enrolment codes": Mistake(
        URL + 'coordinator.enrollment_code = "a"\ncoordinator.enrollment_code_file = "b"',
        ", line 2: coordinator.enrollment_code is set beside coordinator.enrollment_code_file",
        "keep one of them",
    ),
    "certificate that is not there": Mistake(
        URL + 'coordinator.ca_file = "/nowhere/ca.pem"',
        (
            ", line 2: coordinator.ca_file names /nowhere/ca.pem, which cannot be read (no "
            "such file or directory)"
        ),
        "correct the path or its permissions",
    ),
    "proxy of an unknown kind": Mistake(
        URL + 'coordinator.proxy = "ftp://user:hunter2@p:1"',
        ", line 2: coordinator.proxy must be a URL that begins with http:// and names a host",
        "write it as http://host:port",
    ),
    "engine without an address": Mistake(
        URL + '[[backends]]\nkind = "openai"',
        ", line 2: backends[0].url is missing, and kind openai has no usual address",
        'write for example url = "http://127.0.0.1:8000"',
    ),
    "paid provider without an address": Mistake(
        URL + '[[backends]]\nkind = "remote"',
        ", line 2: backends[0].url is missing, and kind remote has no usual address",
        'write for example url = "http://127.0.0.1:8000"',
    ),
    "paid provider without encryption": Mistake(
        URL + '[[backends]]\nkind = "remote"\nurl = "http://api.example/v1"',
        (
            ", line 4: backends[0].url uses http:// to api.example, so that anybody on the way can read "
            "your key and all prompts"
        ),
        'use https://, or kind = "openai" for an engine of your own',
    ),
    "engine of an unknown kind": Mistake(
        URL + '[[backends]]\nkind = "olama"',
        (
            ', line 3: backends[0].kind must be one of "auto", "docker", "jan", "koboldcpp", "llamacpp", '
            '"llamacpp-python", "llamafile", "lmstudio", "localai", "mlx", "ollama", "openai", "remote", '
            '"sglang", "tgi", "transformers", "vllm", not "olama"'
        ),
        'did you mean "ollama"?',
    ),
    "engine's URL without a scheme": Mistake(
        URL + '[[backends]]\nkind = "vllm"\nurl = "gpu:8000"',
        ", line 4: backends[0].url must be a URL that begins with http:// and names a host",
        "write it as http://host:port",
    ),
    "engine's URL with a password": Mistake(
        URL + '[[backends]]\nkind = "vllm"\nurl = "http://joe:hunter2@gpu:8000"',
        (
            ", line 4: backends[0].url is no base URL of an engine: a key belongs into api_key_env, "
            "not into the URL"
        ),
        "write it as http://host:port",
    ),
    "engine's URL with a query": Mistake(
        URL + '[[backends]]\nkind = "vllm"\nurl = "http://gpu:8000/?key=hunter2"',
        ", line 4: backends[0].url is no base URL of an engine: it must not have a query or a fragment",
        "write it as http://host:port",
    ),
    "missing environment variable": Mistake(
        URL + '[[backends]]\nkind = "vllm"\napi_key_env = "VLLM_KEY"',
        ", line 4: backends[0].api_key_env names the environment variable VLLM_KEY, which is not set",
        "set it, or remove the key",
    ),
    "missing key file": Mistake(
        URL + '[[backends]]\nkind = "vllm"\napi_key_file = "/nowhere/key"',
        (
            ", line 4: backends[0].api_key_file names /nowhere/key, which cannot be read "
            "(no such file or directory)"
        ),
        "correct the path or its permissions",
    ),
    "two keys for one engine": Mistake(
        URL + '[[backends]]\nkind = "vllm"\napi_key_env = "A"\napi_key_file = "b"',
        ", line 4: backends[0].api_key_env is set beside backends[0].api_key_file",
        "keep one of them",
    ),
    "two engines of one name": Mistake(
        URL + '[[backends]]\nkind = "vllm"\nname = "a"\n[[backends]]\nkind = "ollama"\nname = "a"',
        ', line 7: backends[1].name repeats the name "a" of backends[0]',
        "give each backend its own",
    ),
    "empty glob": Mistake(
        URL + 'models.hide = [""]',
        ", line 2: models.hide holds an empty glob, which no model matches",
        "remove it",
    ),
    "status address that cannot be asked for": Mistake(
        URL + 'telemetry.status_listen = "a..b:9464"',
        ", line 2: telemetry.status_listen must be host:port",
        'write for example status_listen = "127.0.0.1:9464", or "" to turn it off',
    ),
    "status address without a port": Mistake(
        URL + 'telemetry.status_listen = "localhost"',
        ", line 2: telemetry.status_listen must be host:port",
        'write for example status_listen = "127.0.0.1:9464", or "" to turn it off',
    ),
    "what can be part of no path": Mistake(
        URL + 'coordinator.ca_file = "a\\u0000b"',
        ", line 2: coordinator.ca_file holds a NUL character",
        "remove it",
    ),
    "a film in place of settings": Mistake(
        "#" * (MOST_BYTES + 1), ": is larger than 1 MiB", "name a file of settings"
    ),
    "brackets without end": Mistake(
        "x = " + "[" * 100_000, ": is nested too deeply", "name a file of settings"
    ),
}


@pytest.mark.parametrize("mistake", MISTAKES.values(), ids=MISTAKES.keys())
def test_a_mistake_is_told_in_one_sentence_with_place_key_and_remedy(file: Path, mistake: Mistake) -> None:
    """Typos never pass silently (field note 50), and no sentence holds a secret."""
    told = told_of(file, mistake.text)

    assert told == f"agent.toml{mistake.complaint}; {mistake.remedy}"
    assert "\n" not in told
    assert "hunter2" not in told
    assert "sk-secret" not in told


def test_a_client_key_needs_its_certificate(file: Path, tmp_path: Path) -> None:
    """Either both or none."""
    (tmp_path / "key.pem").write_text("key")

    told = told_of(file, URL + 'coordinator.client_key_file = "key.pem"')

    assert told.endswith("coordinator.client_key_file is set without coordinator.client_cert_file; set both")


def test_a_file_that_is_named_must_exist(file: Path) -> None:
    """With `--config` nothing else is tried."""
    with pytest.raises(ConfigError) as caught:
        load(file, {"PROVIDER_AGENT__COORDINATOR__URL": "wss://c.example/"})

    assert str(caught.value) == (
        f"{file}: cannot be read (no such file or directory); "
        "check the path given with --config and its permissions"
    )


def test_without_file_and_environment_the_sentence_names_both(tmp_path: Path) -> None:
    """The first thing that a new operator sees."""
    with pytest.raises(ConfigError) as caught:
        load(None, {}, search=[tmp_path / "none.toml"])

    assert str(caught.value) == (
        "coordinator.url is missing, as there is no agent.toml here; write one, name yours with --config, "
        "or set PROVIDER_AGENT__COORDINATOR__URL"
    )
