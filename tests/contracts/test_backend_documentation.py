"""What docs/engines.md says of each family is what its adapter does; field note 54."""

import re
from pathlib import Path

import pytest

from provider_agent.backends.families import FAMILIES

DOCS = Path(__file__).parents[2] / "docs"
PAGE = (DOCS / "engines.md").read_text()
AGENT_PAGE = (DOCS / "agent.md").read_text()
NAMES = {
    "chat": {"/v1/chat/completions"},
    "completions": {"/v1/completions"},
    "embeddings": {"/v1/embeddings"},
    "responses": {"/v1/responses"},
    "messages": {"/v1/messages"},
    "rerank": {"/v1/rerank"},
    "Ollama's own": {"/api/chat", "/api/generate", "/api/embed"},
}


def rows(second_head: str) -> dict[str, list[str]]:
    """The table with that second column, by the words in its first."""
    _, _, after = PAGE.partition(f"| kind | {second_head} |")
    lines = after.split("\n\n", maxsplit=1)[0].splitlines()[2:]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    return {kind: rest for first, *rest in cells for kind in re.findall("`([a-z-]+)`", first)}


@pytest.mark.parametrize("second_head", ["usual address", "context window", "tried"])
def test_each_table_has_each_family_once(second_head: str) -> None:
    """None is forgotten, none is left over; nothing was to be tried of the general one."""
    assert rows(second_head).keys() | {"openai"} == FAMILIES.keys()


def test_the_operators_page_has_the_same_addresses() -> None:
    """The short table in agent.md."""
    lines = re.findall(r"^\| `([a-z-]+)` \| [^|]+ \| (?:`(http[^`]+)`|none)", AGENT_PAGE, re.MULTILINE)

    assert {kind: url or None for kind, url in lines} == {
        kind: family.default_url for kind, family in FAMILIES.items()
    }


@pytest.mark.parametrize("kind", sorted(FAMILIES))
def test_address_and_endpoints_are_those_of_the_adapter(kind: str) -> None:
    """What stands in parentheses depends on the model."""
    address, _, served, *_ = rows("usual address")[kind]
    always = re.sub(r"\(.*\)", "", served).split(",")

    assert address.strip("`") == (FAMILIES[kind].default_url or "\N{EN DASH}")
    assert frozenset().union(*(NAMES[name.strip()] for name in always)) == FAMILIES[kind].endpoints
