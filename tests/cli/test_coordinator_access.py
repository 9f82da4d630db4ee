"""The commands `coordinator token|key|provider`."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from provider_agent.cli.main import main
from provider_agent.coordinator.store.base import Provider, digest
from provider_agent.coordinator.store.sqlite import open_sqlite


class Terminal:
    """Runs `coordinator …` on one database."""

    def __init__(self, data: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self._data = data
        self._capsys = capsys
        self.out = ""
        self.err = ""

    def run(self, *arguments: str) -> object:
        """The exit code."""
        with pytest.raises(SystemExit) as end:
            main(["coordinator", *arguments, "--data", str(self._data)], {})
        self.out, self.err = self._capsys.readouterr()
        return end.value.code

    def json(self, *arguments: str) -> Any:
        assert self.run(*arguments, "--json") == 0
        return json.loads(self.out)


@pytest.fixture
def terminal(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Terminal:
    """One with an empty database."""
    asyncio.run(make_database(tmp_path))
    return Terminal(tmp_path, capsys)


async def make_database(data: Path) -> None:
    await (await open_sqlite(data)).close()


async def redeem(data: Path, code: str) -> Provider:
    """As a running coordinator does when an agent comes."""
    store = await open_sqlite(data)
    try:
        provider = await store.redeem(digest(code), b"a" * 32, 1)
        assert isinstance(provider, Provider)
        return provider
    finally:
        await store.close()


def test_a_code_is_printed_alone_and_enrols_an_agent(terminal: Terminal, tmp_path: Path) -> None:
    """Explanations go to stderr: `CODE=$(… token create)` works."""
    assert terminal.run("token", "create", "--name", "den") == 0
    code = terminal.out.strip()

    assert terminal.out == f"{code}\n"
    assert code.startswith("pa-enroll-")
    assert "coordinator.enrollment_code" in terminal.err
    assert asyncio.run(redeem(tmp_path, code)).name == "den"
    assert [token["state"] for token in terminal.json("token", "list")] == ["used"]
    assert [(agent["name"], agent["state"]) for agent in terminal.json("provider", "list")] == [
        ("den", "enrolled")
    ]


def test_a_code_is_shown_once(terminal: Terminal) -> None:
    """The list shows its id, from which nobody can enrol."""
    created = terminal.json("token", "create", "--hours", "1")

    listed = terminal.json("token", "list")

    assert created["enrollment_code"] not in terminal.out
    assert listed[0]["id"] == created["id"]
    assert (listed[0]["state"], listed[0]["provider_id"]) == ("usable", None)


def test_a_revoked_code_is_listed_as_such(terminal: Terminal) -> None:
    """Revoking it again finds nothing: exit code 66."""
    token_id = terminal.json("token", "create")["id"]

    assert terminal.run("token", "revoke", token_id) == 0
    assert terminal.json("token", "list")[0]["state"] == "revoked"
    assert terminal.run("token", "revoke", token_id) == 66
    assert "coordinator token list" in terminal.err


@pytest.mark.parametrize("name", ["", " ", "a\nb", "\x1b[2J", "a\udcff", "x" * 201])
def test_a_key_needs_a_name_that_can_be_shown(terminal: Terminal, name: str) -> None:
    """It stands in lists and logs; exit code 64, and nothing is made."""
    assert terminal.run("key", "create", name) == 64
    assert terminal.json("key", "list") == []
    assert terminal.run("token", "create", "--name", name) == (64 if name else 0)


def test_a_key_is_printed_alone(terminal: Terminal) -> None:
    """And never again."""
    assert terminal.run("key", "create", "alice") == 0
    key = terminal.out.strip()

    assert terminal.out == f"{key}\n"
    assert key.startswith("sk-pa-")
    listed = terminal.json("key", "list")
    assert key not in terminal.out
    assert [(each["name"], each["state"]) for each in listed] == [("alice", "usable")]


def test_a_second_key_of_one_name_is_refused(terminal: Terminal) -> None:
    """Until the first one is revoked; exit code 73."""
    terminal.run("key", "create", "alice")

    assert terminal.run("key", "create", "alice") == 73
    assert terminal.out == ""
    assert "there is a key named 'alice' already" in terminal.err
    assert terminal.run("key", "revoke", "alice") == 0
    assert terminal.run("key", "create", "alice") == 0


def test_a_key_that_is_not_there_cannot_be_revoked(terminal: Terminal) -> None:
    """Exit code 66, and where to look."""
    assert terminal.run("key", "revoke", "bob") == 66
    assert terminal.err == "provider-agent: no key 'bob' is left to revoke; see: coordinator key list\n"


def test_an_agent_can_be_turned_away(terminal: Terminal, tmp_path: Path) -> None:
    """By the id that the list shows, once."""
    code = terminal.json("token", "create")["enrollment_code"]
    provider_id = asyncio.run(redeem(tmp_path, code)).provider_id

    assert terminal.run("provider", "revoke", provider_id) == 0
    assert terminal.json("provider", "list")[0]["state"] == "revoked"
    assert terminal.run("provider", "revoke", provider_id) == 66


def test_lists_are_tables_for_people(terminal: Terminal) -> None:
    """What a bracket in a name says is not obeyed."""
    terminal.run("key", "create", "[bold]alice")
    assert terminal.run("key", "list") == 0

    assert "[bold]alice" in terminal.out


@pytest.mark.parametrize("what", ["token", "key", "provider"])
def test_an_empty_list_says_so_on_stderr(terminal: Terminal, what: str) -> None:
    """And is an empty list in JSON."""
    assert terminal.run(what, "list") == 0
    assert (terminal.out, terminal.err.startswith("No ")) == ("", True)
    assert terminal.json(what, "list") == []


@pytest.mark.parametrize("what", ["token", "key", "provider"])
@pytest.mark.parametrize("command", [("list",), ("list", "--json"), ("revoke", "x")])
def test_a_folder_without_a_database_has_nothing_to_list_or_revoke(
    what: str, command: tuple[str, ...], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A mistyped --data must not look like a coordinator with nobody in it; exit code 66, nothing is made."""
    folder = tmp_path / "mistyped"
    terminal = Terminal(folder, capsys)

    assert terminal.run(what, *command) == 66
    assert terminal.out == ""
    assert terminal.err == (
        f"provider-agent: there is no data of a coordinator in {folder}; "
        "give --data as the coordinator was given it\n"
    )
    assert not folder.exists()


@pytest.mark.parametrize("command", [("token", "create"), ("key", "create", "alice")])
def test_the_first_code_or_key_makes_the_database_and_says_where(
    command: tuple[str, ...], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """One may begin before the coordinator runs, and notice a mistyped --data."""
    terminal = Terminal(tmp_path / "new", capsys)

    assert terminal.run(*command) == 0
    assert terminal.out.count("\n") == 1
    assert terminal.err.startswith(f"Made a new database in {tmp_path / 'new'}.\n")
    assert terminal.run("key", "create", "bob") == 0
    assert "Made" not in terminal.err


def test_a_folder_that_cannot_be_used_is_a_settings_error(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """One sentence; exit code 78."""
    (tmp_path / "file").touch()
    terminal = Terminal(tmp_path / "file", capsys)

    assert terminal.run("key", "list") == 78
    assert terminal.err.count("\n") == 1


def test_the_folder_may_stand_before_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """As it does for the coordinator itself."""
    with pytest.raises(SystemExit):
        main(["coordinator", "--data", str(tmp_path), "key", "create", "alice"], {})
    capsys.readouterr()

    assert Terminal(tmp_path, capsys).json("key", "list")[0]["name"] == "alice"


def test_in_dev_mode_there_is_nothing_to_list(capsys: pytest.CaptureFixture[str]) -> None:
    """Nothing is kept."""
    with pytest.raises(SystemExit) as end:
        main(["coordinator", "--dev", "key", "list"], {})

    assert end.value.code == 78
    assert "no key is needed" in capsys.readouterr().err
