"""The documentation names only what exists, and all of it where it promises a whole table; field note 54."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
import typer.main

from provider_agent.agent.config_sections import BackendSection, Settings
from provider_agent.cli.commands import build
from provider_agent.coordinator.config import CoordinatorConfig
from provider_agent.protocol import frames
from provider_agent.protocol.codec import PROTOCOL_2_FIELDS
from provider_agent.protocol.errors import RULES, ErrorCode
from provider_agent.protocol.frames import Frame
from provider_agent.protocol.link import TRANSITIONS, Role, State
from provider_agent.telemetry.metrics import AgentMetrics, AgentView, CoordinatorMetrics, CoordinatorView

ROOT = Path(__file__).parents[2]
NOTHING = "\N{EN DASH}"
PAGES = {path.name: path.read_text() for path in [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]}
every_page = pytest.mark.parametrize("page", PAGES)


def table(page: str, first_head: str) -> list[list[str]]:
    """The cells of the table whose first column has that head, without marks."""
    lines = iter(PAGES[page].splitlines())
    for line in lines:
        if line.startswith(f"| {first_head} |"):
            break
    rows: list[list[str]] = []
    for line in lines:
        if not line.startswith("|"):
            break
        rows.append([cell.strip().replace("`", "") for cell in line.strip("|").split("|")])
    return rows[1:]


def test_the_table_of_error_codes_is_that_of_the_code() -> None:
    """Code, what protocol 2 is told, whether another agent may succeed, HTTP status."""

    def told(code: ErrorCode, legacy: ErrorCode | None) -> str:
        return "silence" if legacy is None else "the same" if legacy is code else legacy.value

    expected = [
        [code.value, told(code, rule.legacy), "yes" if rule.retryable else "no", str(rule.http_status)]
        for code, rule in RULES.items()
    ]

    assert [
        [code, legacy, may, http] for code, legacy, _, may, http, _ in table("protocol.md", "code")
    ] == expected


def test_the_table_of_turns_is_that_of_the_code() -> None:
    """States, who may send what in each, and where that leads."""

    def told(state: State, sender: Role) -> str:
        return (
            ", ".join(
                f"{tag(frame)}" + ("" if to is state else f" → {to.value}")
                for frame, to in TRANSITIONS[state][sender].items()
            )
            or NOTHING
        )

    expected = [
        [state.value, told(state, Role.AGENT), told(state, Role.COORDINATOR)] for state in TRANSITIONS
    ]

    assert table("protocol.md", "while") == expected


def tag(frame: type[Frame]) -> str:
    return str(frame.__struct_config__.tag)


def test_each_frame_is_described_with_its_fields_and_those_of_protocol_2() -> None:
    """A ² stands behind what protocol 2 has, and behind nothing else."""
    text = PAGES["protocol.md"]
    for frame in [*frames.FromAgent.__args__, *frames.FromCoordinator.__args__]:
        if frame is frames.Capabilities:
            described = text.partition("## Capabilities\n")[2].partition("## Jobs")[0]
        else:
            described = next(
                line for line in text.splitlines() if re.match(rf"\| `{tag(frame)}`²? \| ", line)
            )
            assert (f"`{tag(frame)}`²" in described) == (frame in PROTOCOL_2_FIELDS), tag(frame)
        for field in msgspec.structs.fields(frame):
            assert f"`{field.name}`" in described, (tag(frame), field.name)
            is_old = field.name in PROTOCOL_2_FIELDS.get(frame, ())
            assert (f"`{field.name}`²" in described) == is_old, (tag(frame), field.name)


def metric_names() -> set[str]:
    """Every metric of both programs, as Prometheus shows it, of our own."""
    agent = AgentMetrics(lambda: AgentView(True, 0, 1, False, 0))
    coordinator = CoordinatorMetrics(lambda: CoordinatorView(0, 0, 0, 0, 0))
    shown = (agent.render() + coordinator.render()).decode()
    described = re.findall(r"^# TYPE (provider_\w+) (\w+)", shown, re.MULTILINE)
    return {name for name, _ in described if not name.endswith("_created")}


def test_the_metrics_are_those_of_the_code() -> None:
    """All of them, and no other."""
    text = PAGES["operations.md"].partition("## Metrics")[2].partition("## Troubleshooting")[0]

    assert set(re.findall(r"provider_(?:agent|coordinator)_\w+", text)) == metric_names()


def test_the_settings_of_the_coordinator_are_all_in_its_table() -> None:
    """By the names that the environment takes, with their defaults."""
    rows = [row for row in table("coordinator.md", "name") if row]
    names = {name for names, _, _ in rows for name in re.findall(r"\w+_\w+|^\w+", names) if name != "own"}
    fields = set(CoordinatorConfig.__struct_fields__) - {"listen_host", "listen_port", "data_dir"}
    defaults = CoordinatorConfig()

    assert names == fields | {"listen", "data"}
    for name, default, _ in rows:
        value = getattr(defaults, name, None)
        if isinstance(value, int | float) and not isinstance(value, bool):
            assert float(default) == value, name


def commands(command: Any, path: str = "provider-agent") -> Iterator[tuple[str, set[str]]]:
    """Each command with its options."""
    yield path, {option for parameter in command.params for option in parameter.opts}
    for name, inner in getattr(command, "commands", {}).items():
        yield from commands(inner, f"{path} {name}")


@every_page
def test_every_command_and_option_exists(page: str) -> None:
    """What stands in a block, or between backticks, can be typed."""
    known = dict(commands(typer.main.get_command(build())))
    known["provider-agent"] |= known["provider-agent run"] | {"--help"}  # it is short for `run`
    for typed in re.findall(
        r"(?:^|`|/)(provider-agent(?: [^`\n]*)?)$|`(provider-agent [^`]*)`", PAGES[page], re.MULTILINE
    ):
        words = "".join(typed).split()
        path = words.pop(0)
        while words and f"{path} {words[0]}" in known:
            path += f" {words.pop(0)}"
        options = {word for word in words if word.startswith("-")}
        assert options <= known[path], f"{path}: {options - known[path]}"


@every_page
def test_every_key_of_the_configuration_exists(page: str) -> None:
    """`section.key` in the text, and variables of the environment."""
    sections = {field.name: field.type for field in msgspec.structs.fields(Settings)}
    for section, key in re.findall(r"`(\w+)\.(\w+)(?: = [^`]*)?`", PAGES[page]):
        if section in sections:
            assert key in sections[section].__struct_fields__, f"{section}.{key}"
    for section, key in re.findall(r"PROVIDER_AGENT__([A-Z]+)__([A-Z_]+\b)", PAGES[page]):
        assert key.lower() in sections[section.lower()].__struct_fields__
    for name in re.findall(r"PROVIDER_COORDINATOR__([A-Z_]+\b)", PAGES[page]):
        assert name.lower() in {*CoordinatorConfig.__struct_fields__, "listen", "data"}


def test_the_keys_of_backends_in_the_examples_exist() -> None:
    """Of the blocks in TOML."""
    for block in re.findall(r"```toml\n(.*?)```", "".join(PAGES.values()), re.DOTALL):
        for backend in block.split("[[backends]]")[1:]:
            keys = re.findall(r"^(\w+) = ", backend.partition("\n[")[0], re.MULTILINE)
            assert set(keys) <= set(BackendSection.__struct_fields__)


@every_page
def test_every_link_leads_somewhere(page: str) -> None:
    """Files, and headings inside them."""
    folder = ROOT if page == "README.md" else ROOT / "docs"
    for target in re.findall(r"\]\(([^)]+)\)", PAGES[page]):
        file, _, anchor = target.partition("#")
        path = (folder / file).resolve() if file else folder / page
        assert path.exists(), target
        heads = re.findall(r"^#+ (.+)$", path.read_text(), re.MULTILINE) if path.suffix == ".md" else []
        assert not anchor or anchor in {head.lower().replace(" ", "-") for head in heads}, target
