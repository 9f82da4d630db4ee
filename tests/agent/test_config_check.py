"""Where a key stands in a file, and what is said of values."""

from pathlib import Path

import pytest
from msgspec import inspect

from provider_agent.agent.config_check import ConfigError, Origin, describe, known_keys, line_of
from provider_agent.agent.config_sections import Settings

TEXT = """\
# a comment = 1
operator.name = "x"
[limits]
max_concurrent = 4

[[backends]]
kind = "vllm"
[[ backends ]]
"kind" = "ollama"
models = [
  "a",
]
[pricing.models."llama3.2:3b"]
input_per_1m = 3
"""


@pytest.mark.parametrize(
    ("key", "line"),
    [
        ("operator.name", 2),
        ("limits.max_concurrent", 4),
        ("limits.idle_timeout_s", 3),
        ("backends[0].kind", 7),
        ("backends[1].kind", 9),
        ("backends[1].models[0]", 10),
        ("backends[1].url", 8),
        ("backends[2].url", None),
        ("pricing.models.llama3.2:3b.input_per_1m", 14),
        ("log.level", None),
    ],
)
def test_a_key_is_found_on_its_line(key: str, line: int | None) -> None:
    """Where the key itself is not set, the table that it belongs to is named."""
    assert line_of(TEXT, key) == line


def test_an_error_tells_place_key_problem_and_remedy() -> None:
    """Fields first, one sentence from them."""
    error = ConfigError("is wrong", "correct it", key="a.b", file=Path("agent.toml"), line=3)

    assert str(error) == "agent.toml, line 3: a.b is wrong; correct it"
    assert (error.key, error.file, error.line, error.remedy) == ("a.b", Path("agent.toml"), 3, "correct it")
    assert str(ConfigError("is wrong", "correct it", key="a.b")) == "a.b is wrong; correct it"
    assert (
        str(ConfigError("is wrong", "unset it", variable="V")) == "environment variable V: is wrong; unset it"
    )


def test_a_value_from_the_environment_is_blamed_on_its_variable() -> None:
    """The file has nothing to do with it, even where it sets the same key."""
    origin = Origin(Path("agent.toml"), TEXT, {"limits.max_concurrent": "A", "backends": "B"})

    assert origin.error("limits.max_concurrent", "p", "r").variable == "A"
    assert origin.error("backends[0].kind", "p", "r").variable == "B"
    assert origin.error("operator.name", "p", "r").line == 2


def test_all_keys_of_a_shape_are_listed() -> None:
    """Members of lists with `[]`; tables with free names as one key."""
    keys = set(known_keys(inspect.type_info(Settings)))

    assert {"coordinator.url", "backends[].api_key_env", "operator.labels", "pricing.models"} <= keys
    assert "limits" not in keys


def test_every_kind_of_value_has_its_words() -> None:
    """They read after "must be"."""
    fields = {key: describe(kind) for key, kind in _leaves(inspect.type_info(Settings))}

    assert fields["coordinator.url"] == "a string"
    assert fields["discovery.enabled"] == "true or false"
    assert fields["backends[]"] == "a list of tables"
    assert fields["models.hide"] == "a list of strings"
    assert fields["operator.labels"] == "a table"
    assert fields["limits.max_output_tokens"] == "an integer from 1 to 9007199254740992"
    assert fields["backends[].priority"] == "an integer"
    assert fields["limits.shutdown_grace_s"] == "a number from 0 to 86400"
    assert fields["log.format"] == 'one of "auto", "console", "json"'


def _leaves(kind: inspect.Type, key: str = "") -> list[tuple[str, inspect.Type]]:
    if isinstance(kind, inspect.UnionType):
        kind = next(one for one in kind.types if not isinstance(one, inspect.NoneType))
    if isinstance(kind, inspect.StructType):
        return [
            leaf for one in kind.fields for leaf in _leaves(one.type, f"{key}.{one.name}".removeprefix("."))
        ]
    if isinstance(kind, inspect.VarTupleType) and isinstance(kind.item_type, inspect.StructType):
        return [(f"{key}[]", kind), *_leaves(kind.item_type, f"{key}[]")]
    return [(key, kind)]
