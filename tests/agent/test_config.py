"""Settings as the operator writes them."""

import itertools
import re
from pathlib import Path

import msgspec
import pytest
from msgspec import inspect

from provider_agent.agent.config import AgentConfig, ConfigError, default_files, load
from provider_agent.agent.config_check import known_keys
from provider_agent.agent.config_sections import CoordinatorSection, Settings
from provider_agent.backends.base import BackendSettings
from tests.fakes.configs import URL, loaded, told_of

EXAMPLE = Path(__file__).parents[2] / "agent.toml.example"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "agent.toml"


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
        standby = true
        aliases = { best = "qwen3" }
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
        kind="openai",
        url="http://gpu:8000/v1/",
        models=("qwen*",),
        priority=1,
        standby=True,
        aliases={"best": "qwen3"},
    )


def test_the_environment_alone_is_enough(tmp_path: Path) -> None:
    """A container needs no file."""
    environ = {"PROVIDER_AGENT__COORDINATOR__URL": "ws://localhost:8700/v1/agents/connect", "HOME": "/home/x"}

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


def test_a_secret_of_two_lines_is_a_mistake(file: Path, tmp_path: Path) -> None:
    """No header can hold it; and the sentence does not hold it, either."""
    (tmp_path / "key").write_text("sk-one\nsk-two\n")

    told = told_of(file, URL + '[[backends]]\nkind = "vllm"\napi_key_file = "key"')

    assert told.endswith("which holds more than one line of plain text; leave only the secret in it")
    assert "sk-" not in told


def test_an_empty_secret_file_is_a_mistake(file: Path, tmp_path: Path) -> None:
    """A secret that was mounted too late."""
    (tmp_path / "key").write_text("\n")
    told = told_of(file, URL + '[[backends]]\nkind = "vllm"\napi_key_file = "key"')

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

    told = told_of(file, URL + 'coordinator.ca_file = "ca.der"')

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
