"""Settings as the operator writes them, and the one sentence that each mistake is answered with."""

import itertools
import re
from dataclasses import dataclass
from pathlib import Path

import msgspec
import pytest
from msgspec import inspect

from provider_agent.agent.config import AgentConfig, ConfigError, default_files, load
from provider_agent.agent.config_check import known_keys
from provider_agent.agent.config_sections import CoordinatorSection, Settings
from provider_agent.backends.base import BackendSettings

EXAMPLE = Path(__file__).parents[2] / "agent.toml.example"
URL = 'coordinator.url = "wss://c.example/v1/agents/connect"\n'


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "agent.toml"


def loaded(file: Path, text: str, **environ: str) -> AgentConfig:
    """The configuration that consists of a coordinator and this text."""
    file.write_text(URL + text)
    return load(file, environ)


def sentence(file: Path, text: str, **environ: str) -> str:
    """What the operator is told about this text, without the path of the file."""
    file.write_text(text)
    with pytest.raises(ConfigError) as caught:
        load(file, environ).backend_settings(environ)
    return str(caught.value).replace(str(file), "agent.toml")


def test_a_coordinator_is_all_that_must_be_said(file: Path) -> None:
    """Everything else has a default."""
    config = loaded(file, "")

    assert config.coordinator == CoordinatorSection(url="wss://c.example/v1/agents/connect")
    assert config.limits.max_concurrent == 8
    assert config.limits.backpressure_timeout_s == 30
    assert config.telemetry.status_address == ("127.0.0.1", 9464)
    assert config.identity.key_path.name == "identity.key"
    assert config.backends == ()


def test_every_table_is_read(file: Path) -> None:
    """One key of each, nested tables included."""
    config = loaded(
        file,
        """
        operator = { name = "den", labels = { gpu = "4090" } }
        models.aliases = { llama3 = "llama3.2:3b" }
        limits.max_concurrent = 256
        discovery.interval_s = 5
        [pricing]
        default_output_per_1m = 7
        models."llama3.2:3b".input_per_1m = 3
        [[backends]]
        kind = "ollama"
        [[backends]]
        kind = "openai"
        url = "http://gpu:8000/v1/"
        models = ["qwen*"]
        priority = 1
        """,
    )

    assert config.operator.labels == {"gpu": "4090"}
    assert config.models.aliases == {"llama3": "llama3.2:3b"}
    assert config.limits.max_concurrent == 256
    assert config.discovery.interval_s == 5.0
    assert config.pricing.of("llama3.2:3b") == (3, 7)
    assert config.pricing.of("other") == (0, 7)
    assert [backend.kind for backend in config.backends] == ["ollama", "openai"]
    assert config.backend_settings({})[1] == BackendSettings(
        kind="openai", url="http://gpu:8000/v1/", models=("qwen*",), priority=1
    )


def test_the_environment_alone_is_enough(tmp_path: Path) -> None:
    """A container needs no file."""
    environ = {"PROVIDER_AGENT__COORDINATOR__URL": "ws://localhost:8700/v1/agents/connect", "HOME": "/root"}

    config = load(None, environ, search=[tmp_path / "none.toml"])

    assert config.coordinator.url == "ws://localhost:8700/v1/agents/connect"


def test_the_first_default_file_is_used(tmp_path: Path) -> None:
    """Here, then the user's, then the machine's."""
    first, second = tmp_path / "first.toml", tmp_path / "second.toml"
    second.write_text('coordinator.url = "wss://second.example/"')
    assert load(None, {}, search=[first, second]).coordinator.url == "wss://second.example/"
    first.write_text('coordinator.url = "wss://first.example/"')
    assert load(None, {}, search=[first, second]).coordinator.url == "wss://first.example/"


def test_the_default_places_are_the_documented_ones() -> None:
    """The example says where it is looked for."""
    here, user, machine = default_files()

    assert here == Path("agent.toml")
    assert user.parts[-2:] == ("provider-agent", "agent.toml")
    assert machine == Path("/etc/provider-agent/agent.toml")


# --- the example -------------------------------------------------------------------------


def test_the_example_loads_and_changes_no_default() -> None:
    """What is not commented out is the one required key."""
    config = load(EXAMPLE, {})

    url = "wss://coordinator.example.org/v1/agents/connect"
    assert msgspec.structs.replace(config, origin=AgentConfig.__struct_defaults__[-1]) == AgentConfig(
        coordinator=CoordinatorSection(url=url)
    )


def test_the_example_names_every_key_with_its_default(file: Path, tmp_path: Path) -> None:
    """With each line put to use it still loads; and where a key has a default, the line shows that."""
    examples = {
        "enrollment_code": "enrollment_code_file",
        "api_key_env": "api_key_file",
    }  # one excludes the other
    text = re.sub(r"^#(?=[a-z\[])", "", EXAMPLE.read_text(), flags=re.MULTILINE)
    for one, other in examples.items():
        assert re.search(rf"^{other} = ", text, re.MULTILINE)
        text = re.sub(rf"^{one} = .*\n", "", text, flags=re.MULTILINE)
    text = re.sub(r'"/(?:etc|run)/\S+"', f'"{tmp_path / "any.pem"}"', text)
    (tmp_path / "any.pem").write_text("something")
    file.write_text(text)

    everything = msgspec.to_builtins(load(file, {}), enc_hook=str)
    defaults = msgspec.to_builtins(
        AgentConfig(
            coordinator=CoordinatorSection(url="wss://coordinator.example.org/v1/agents/connect"),
            backends=msgspec.convert(({"kind": "ollama"},), Settings.__annotations__["backends"]),
        ),
        enc_hook=str,
    )
    for key in known_keys(inspect.type_info(Settings)):
        section, name = key.replace("[]", "").split(".")
        assert re.search(rf"^#?{name} = ", EXAMPLE.read_text(), re.MULTILINE), key
        got, default = everything[section], defaults[section]
        if section == "backends":
            got, default = got[0], default[0]
        if name != "key_path" and default[name] is not None:
            assert got[name] == default[name], key


def test_each_key_of_the_example_has_its_own_comment_line() -> None:
    """A line of prose stands above each key."""
    lines = EXAMPLE.read_text().splitlines()
    for above, line in itertools.pairwise(lines):
        if re.match(r"#?[a-z_]+ = ", line):
            assert above.startswith("# "), line


# --- mistakes ----------------------------------------------------------------------------


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
        URL + "[models]\nmax_concurrent = 4",
        ", line 3: models.max_concurrent is no known key",
        "did you mean limits.max_concurrent?",
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
        ", line 2: pricing.default_input_per_1m must be an integer of at least 0, not 0.5",
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
    "engine of an unknown kind": Mistake(
        URL + '[[backends]]\nkind = "olama"',
        (
            ', line 3: backends[0].kind must be one of "auto", "llamacpp", "lmstudio", '
            '"ollama", "openai", "sglang", "vllm", not "olama"'
        ),
        'did you mean "ollama"?',
    ),
    "engine's URL without a scheme": Mistake(
        URL + '[[backends]]\nkind = "vllm"\nurl = "gpu:8000"',
        ", line 4: backends[0].url must be a URL that begins with http:// and names a host",
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
    "status address without a port": Mistake(
        URL + 'telemetry.status_listen = "localhost"',
        ", line 2: telemetry.status_listen must be host:port",
        'write for example status_listen = "127.0.0.1:9464", or "" to turn it off',
    ),
}


@pytest.mark.parametrize("mistake", MISTAKES.values(), ids=MISTAKES.keys())
def test_a_mistake_is_told_in_one_sentence_with_place_key_and_remedy(file: Path, mistake: Mistake) -> None:
    """Typos never pass silently (field note 50), and no sentence holds a secret."""
    told = sentence(file, mistake.text)

    assert told == f"agent.toml{mistake.complaint}; {mistake.remedy}"
    assert "\n" not in told
    assert "hunter2" not in told
    assert "sk-secret" not in told


def test_a_client_key_needs_its_certificate(file: Path, tmp_path: Path) -> None:
    """Either both or none."""
    (tmp_path / "key.pem").write_text("key")

    told = sentence(file, URL + 'coordinator.client_key_file = "key.pem"')

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
        "coordinator.url is missing; set it in agent.toml or as PROVIDER_AGENT__COORDINATOR__URL"
    )


# --- secrets and files -------------------------------------------------------------------


@pytest.mark.parametrize("host", ["localhost:1", "127.0.0.1", "127.8.8.8:2", "[::1]:8700"])
def test_plain_text_on_this_machine_is_allowed(file: Path, host: str) -> None:
    """Nobody is on the way there."""
    file.write_text(f'coordinator.url = "ws://{host}/v1/agents/connect"')

    assert load(file, {}).coordinator.url.startswith("ws://")


def test_plain_text_elsewhere_is_allowed_on_demand(file: Path) -> None:
    """Behind a VPN, say."""
    file.write_text('coordinator = { url = "ws://10.0.0.2/", allow_insecure = true }')

    assert load(file, {}).coordinator.allow_insecure


def test_an_api_key_comes_from_its_variable_or_file(file: Path, tmp_path: Path) -> None:
    """Secrets are named, not written; a line break at the end of a file is not part of one."""
    (tmp_path / "key").write_text("from-file\n")
    config = loaded(
        file,
        """
        [[backends]]
        kind = "vllm"
        api_key_env = "KEY"
        [[backends]]
        kind = "ollama"
        api_key_file = "key"
        """,
    )

    first, second = config.backend_settings({"KEY": " from-env "})
    assert (first.api_key, second.api_key) == ("from-env", "from-file")


def test_an_empty_secret_file_is_a_mistake(file: Path, tmp_path: Path) -> None:
    """A secret that was mounted too late."""
    (tmp_path / "key").write_text("\n")
    told = sentence(file, URL + '[[backends]]\nkind = "vllm"\napi_key_file = "key"')

    assert told.endswith(", which is empty; write the secret into it")


def test_the_enrolment_code_comes_from_the_setting_or_its_file(file: Path, tmp_path: Path) -> None:
    """Its file is read when the code is needed: afterwards it may be gone."""
    (tmp_path / "code").write_text("from-file\n")

    assert loaded(file, "").enrollment_code() is None
    assert loaded(file, 'coordinator.enrollment_code = "written"').enrollment_code() == "written"
    config = loaded(file, 'coordinator.enrollment_code_file = "code"')
    assert config.enrollment_code() == "from-file"
    (tmp_path / "code").unlink()
    with pytest.raises(ConfigError, match=r"enrollment_code_file names .* which cannot be read"):
        loaded(file, 'coordinator.enrollment_code_file = "code"').enrollment_code()


def test_a_certificate_must_be_text(file: Path, tmp_path: Path) -> None:
    """A DER file is told apart before the first dial."""
    (tmp_path / "ca.der").write_bytes(b"\x30\x82\xff\xff")

    told = sentence(file, URL + 'coordinator.ca_file = "ca.der"')

    assert told.endswith("which is not text; name a PEM or text file")


def test_no_secret_is_in_the_repr(file: Path) -> None:
    """A configuration may end up in a traceback."""
    config = loaded(
        file,
        """
        coordinator.enrollment_code = "code-hunter2"
        coordinator.proxy = "http://user:hunter2@proxy:3128"
        [[backends]]
        kind = "vllm"
        api_key_env = "KEY"
        """,
    )

    assert "hunter2" not in repr(config)
    assert "hunter2" not in repr(config.backend_settings({"KEY": "hunter2"}))
    assert "max_concurrent=8" in repr(config)


@pytest.mark.parametrize("listen", ["127.0.0.1:0", "[::1]:9464", "0.0.0.0:9464", ""])
def test_a_status_address_may_be_any_address_or_none(file: Path, listen: str) -> None:
    """IPv6 in brackets; empty is off."""
    config = loaded(file, f'telemetry.status_listen = "{listen}"')

    expected = {"": None, "[::1]:9464": ("::1", 9464)}
    address = listen.rsplit(":", 1)
    assert config.telemetry.status_address == expected.get(listen, (address[0], int(address[-1] or 0)))
