"""The environment over the file, value by value."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from provider_agent.agent.config_check import ConfigError
from provider_agent.agent.config_reader import read
from provider_agent.agent.config_sections import Settings

URL = {"PROVIDER_AGENT__COORDINATOR__URL": "wss://c.example/"}


def settings(variables: Mapping[str, str], file: Path | None = None) -> Settings:
    """What these variables give, each named without its prefix."""
    environ = {f"PROVIDER_AGENT__{name}": text for name, text in variables.items()}
    return read(Settings, file, URL | environ)[0]


def sentence(variables: Mapping[str, str], file: Path | None = None) -> str:
    with pytest.raises(ConfigError) as caught:
        settings(variables, file)
    return str(caught.value)


def sentence_or_none(variables: Mapping[str, str]) -> str | None:
    try:
        settings(variables)
    except ConfigError as error:
        return str(error)
    return None


def test_a_variable_wins_over_the_file(tmp_path: Path) -> None:
    """The rest of its table stays as the file has it."""
    file = tmp_path / "agent.toml"
    file.write_text("limits = { max_concurrent = 2, idle_timeout_s = 9 }")

    limits = settings({"LIMITS__MAX_CONCURRENT": "4"}, file).limits

    assert (limits.max_concurrent, limits.idle_timeout_s) == (4, 9)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("OPERATOR__NAME", "caf\udce9"),
        ("OPERATOR__LABELS", r'{"\ud800": "x"}'),
        ("OPERATOR__LABELS", "a=\udce9"),
        ("MODELS__ALIASES", "\udce9=m"),
    ],
)
def test_a_variable_that_is_no_utf_8_is_a_mistake(name: str, text: str) -> None:
    """No frame can hold it: the agent would lose every session over its own name."""
    assert "holds what is no UTF-8" in sentence({name: text})


PARSED: dict[str, tuple[str, str, Any]] = {
    "integer": ("LIMITS__MAX_CONCURRENT", "4", 4),
    "number": ("LIMITS__IDLE_TIMEOUT_S", "2.5", 2.5),
    "integer for a number": ("LIMITS__IDLE_TIMEOUT_S", "3", 3.0),
    "true": ("DISCOVERY__ENABLED", "Yes", True),
    "false": ("DISCOVERY__ENABLED", "0", False),
    "text": ("OPERATOR__NAME", "4090", "4090"),
    "empty text": ("TELEMETRY__STATUS_LISTEN", "", ""),
    "unset": ("LIMITS__MAX_OUTPUT_TOKENS", "", None),
    "list by commas": ("MODELS__EXPOSE", "llama*, qwen* ,", ("llama*", "qwen*")),
    "list as JSON": ("MODELS__EXPOSE", '["a,b", "c"]', ("a,b", "c")),
    "empty list": ("MODELS__HIDE", "", ()),
    "table by commas": ("OPERATOR__LABELS", "gpu=4090, rack = 2", {"gpu": "4090", "rack": "2"}),
    "table of numbers by commas": ("MODELS__MAX_CONCURRENT", "*:70b=1, tiny = 4", {"*:70b": 1, "tiny": 4}),
    "table as JSON": ("MODELS__ALIASES", '{"a": "b:3b"}', {"a": "b:3b"}),
}


@pytest.mark.parametrize(("name", "text", "expected"), PARSED.values(), ids=PARSED.keys())
def test_a_variable_is_read_by_the_type_of_its_key(name: str, text: str, expected: object) -> None:
    """Text has no types of its own."""
    section, key = name.lower().split("__")

    value = getattr(getattr(settings({name: text}), section), key)

    assert value == expected
    assert type(value) is type(expected)


def test_a_variable_may_name_a_member_of_a_table_or_list(tmp_path: Path) -> None:
    """One more label, another URL for the first backend, and a second backend."""
    file = tmp_path / "agent.toml"
    file.write_text('[[backends]]\nkind = "vllm"\nurl = "http://old:8000"')

    config = settings(
        {
            "OPERATOR__LABELS__GPU": "4090",
            "BACKENDS__0__URL": "http://new:8000",
            "BACKENDS__1__KIND": "ollama",
            "BACKENDS__1__MODELS": "llama*,qwen*",
        },
        file,
    )

    first, second = config.backends
    assert config.operator.labels == {"gpu": "4090"}
    assert (first.kind, first.url) == ("vllm", "http://new:8000")
    assert (second.kind, second.models) == ("ollama", ("llama*", "qwen*"))


def test_backends_and_prices_may_be_json() -> None:
    """Whole tables in one variable."""
    config = settings(
        {
            "BACKENDS": '[{"kind": "ollama", "max_concurrent": 2}]',
            "PRICING__MODELS": '{"a:1b": {"output_per_1m": 5}}',
        }
    )

    assert config.backends[0].max_concurrent == 2
    assert config.pricing.of("a:1b") == (0, 5)


def test_other_variables_are_none_of_ours() -> None:
    """Only the prefix with two underscores counts."""
    assert (
        read(Settings, None, URL | {"PROVIDER_AGENT_HOME": "/", "PATH": "/bin"})[0].limits.max_concurrent == 8
    )


WRONG = {
    "LIMITS__MAX_CONCURRNT": (
        "4",
        "is no known setting; did you mean PROVIDER_AGENT__LIMITS__MAX_CONCURRENT?",
    ),
    "XYZZY": ("4", "is no known setting; unset it"),
    "BACKENDS__5__URL": ("", "is no known setting; did you mean PROVIDER_AGENT__BACKENDS__0__URL?"),
    "MODELS__EXPOSE": ('["a"', "is no valid JSON (Expecting ',' delimiter); correct it"),
    "LIMITS__MAX_CONCURRENT": (
        "many",
        "limits.max_concurrent must be an integer from 1 to 256, not a string",
    ),
    "LIMITS__IDLE_TIMEOUT_S": ("inf", "limits.idle_timeout_s must be a number from 0.1 to 86400, not inf"),
    "LIMITS": ("4", "limits.4 is no known key; known keys here are "),
    "BACKENDS": ("{}", "backends must be a list of tables, not a table; write for example [[backends]]"),
    "MODELS__HIDE": ("[null]", "models.hide[0] must be a string, not null; write for example hide = "),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_variable_is_named(name: str) -> None:
    """A typo in the environment passes as little as one in the file (field note 50)."""
    text, expected = WRONG[name]

    told = sentence({name: text})

    assert told.startswith(f"environment variable PROVIDER_AGENT__{name}: {expected}")


def test_a_path_starts_at_the_directory_of_the_file(tmp_path: Path) -> None:
    """Wherever the program was started; `~` and absolute paths are as usual."""
    file = tmp_path / "agent.toml"
    file.write_text('identity.key_path = "keys/a"\ncoordinator.ca_file = "/etc/ca.pem"')

    config = settings({}, file)

    assert config.identity.key_path == tmp_path / "keys/a"
    assert config.coordinator.ca_file == Path("/etc/ca.pem")
    assert settings({"IDENTITY__KEY_PATH": "keys/a"}).identity.key_path == Path("keys/a")
    assert settings({"IDENTITY__KEY_PATH": "~/a"}).identity.key_path == Path("~/a").expanduser()


def test_a_file_in_another_encoding_is_refused(tmp_path: Path) -> None:
    """Windows editors still write UTF-16."""
    file = tmp_path / "agent.toml"
    file.write_bytes("a = 1".encode("utf-16"))

    assert sentence({}, file) == f"{file}: is not UTF-8 text; save it as UTF-8"


_names = st.sampled_from(
    ["limits", "max_concurrent", "backends", "kind", "models", "expose", "pricing", "labels", "x"]
)
_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(_names, inner, max_size=3),
    max_leaves=10,
)


@given(st.dictionaries(_names, _values, max_size=4))
def test_any_tree_gives_settings_or_a_sentence(tree: dict[str, Any]) -> None:
    """Whatever stands in a variable as JSON, msgspec never has to object after us."""
    variables = {name.upper(): msgspec.json.encode(value).decode() for name, value in tree.items()}
    told = sentence_or_none(variables)

    assert told is None or "; " in told


@given(
    st.lists(st.sampled_from(["LIMITS", "BACKENDS", "0", "1", "KIND", "MODELS", "", "X"]), max_size=4),
    st.text(),
)
def test_any_variable_gives_settings_or_a_sentence(names: list[str], text: str) -> None:
    """Names that lead nowhere, and text of any kind: the variable to mend, or to add, is named."""
    told = sentence_or_none({"__".join(names): text})

    assert told is None or re.search(
        r"(^environment variable |set it in agent\.toml or as )PROVIDER_AGENT__", told
    )
