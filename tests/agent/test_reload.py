"""Settings that change: what is read when, what it means, and what is told of it."""

import asyncio
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from provider_agent.agent.config import AgentConfig, load
from provider_agent.agent.config_sections import Settings
from provider_agent.agent.reload import (
    AT_RESTART,
    LOOK_EVERY_S,
    Change,
    Reading,
    Reloader,
    changed_keys,
    compare,
)
from tests.fakes.configs import URL, told_of
from tests.fakes.logs import LogLines

ENGINE = '[[backends]]\nkind = "openai"\nurl = "http://127.0.0.1:8000"\n'
BROKEN = "[limits]\nmax_concurrent = 0\n"


def reading(environ: Mapping[str, str]) -> Reading:
    """Settings that come from the environment only."""
    url = {"PROVIDER_AGENT__COORDINATOR__URL": "wss://c.example/v1/agents/connect"}
    config = load(
        None, url | {f"PROVIDER_AGENT__{name}": value for name, value in environ.items()}, search=()
    )
    return Reading(config, config.backend_settings({}))


@dataclass
class Desk:
    """A reloader at work on a file that a test writes.

    Attributes:
        changes, refusals: what it told the agent.
    """

    file: Path
    changes: list[Change] = field(default_factory=list)
    refusals: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        config = load(self.file, {})
        start = Reading(config, config.backend_settings({}))
        self.reloader = Reloader(start, {}, apply=self.changes.append, refuse=self.refusals.append)
        self.settle()

    def write(self, text: str) -> None:
        """Another content, however coarse the clock of the file system is."""
        self.file.write_text(URL + text)
        os.utime(self.file, ns=(0, self.file.stat().st_mtime_ns + 1_000_000))

    def settle(self) -> None:
        """So many looks that whatever is new has been read."""
        for _ in range(3):
            self.reloader.look()

    @property
    def applied(self) -> list[tuple[str, ...]]:
        return [change.applied for change in self.changes]


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    file = tmp_path / "agent.toml"
    file.write_text(URL)
    return Desk(file)


# --- what is read, and when --------------------------------------------------------------


def test_a_changed_file_is_read_and_applied(desk: Desk) -> None:
    """The ordinary case."""
    desk.write("[limits]\nmax_concurrent = 3")
    desk.settle()

    (change,) = desk.changes
    assert change.applied == ("limits.max_concurrent",)
    assert change.config.limits.max_concurrent == 3
    assert desk.refusals == []


def test_an_unchanged_file_is_no_news(desk: Desk) -> None:
    """Nor is one that was written again with the same content, or other comments."""
    desk.write("")
    desk.settle()
    desk.write("# nothing\n")
    desk.settle()
    desk.reloader.look(is_asked=True)

    assert (desk.changes, desk.refusals) == ([], [])


def test_a_file_that_is_being_written_is_left_alone(desk: Desk) -> None:
    """It is read after a look that finds it as the look before did."""
    for text in ("[limits]\nmax_conc", "[limits]\nmax_concurrent = 0", "[limits]\nmax_concurrent = 5"):
        desk.write(text)
        desk.reloader.look()
    assert (desk.changes, desk.refusals) == ([], [])
    desk.reloader.look()

    assert desk.applied == [("limits.max_concurrent",)]


def test_whoever_asks_is_not_kept_waiting(desk: Desk) -> None:
    """SIGHUP means now."""
    desk.write("[limits]\nmax_concurrent = 3")
    desk.reloader.look(is_asked=True)

    assert desk.applied == [("limits.max_concurrent",)]


def test_a_change_between_the_start_and_the_first_look_is_seen(tmp_path: Path) -> None:
    """The file was read by then, and nobody watched it yet."""
    file = tmp_path / "agent.toml"
    file.write_text(URL)
    config = load(file, {})
    changes: list[Change] = []
    reloader = Reloader(Reading(config, ()), {}, apply=changes.append, refuse=print)
    file.write_text(URL + "[limits]\nmax_concurrent = 3")
    reloader.look()
    reloader.look()

    assert [change.applied for change in changes] == [("limits.max_concurrent",)]


def test_the_environment_still_wins(tmp_path: Path) -> None:
    """What it sets cannot be changed by the file."""
    file = tmp_path / "agent.toml"
    file.write_text(URL)
    environ = {"PROVIDER_AGENT__LIMITS__MAX_CONCURRENT": "2"}
    changes: list[Change] = []
    reloader = Reloader(Reading(load(file, environ), ()), environ, apply=changes.append, refuse=print)
    file.write_text(URL + "[limits]\nmax_concurrent = 3\nidle_timeout_s = 7")
    reloader.look(is_asked=True)

    assert [change.applied for change in changes] == [("limits.idle_timeout_s",)]


async def test_it_looks_at_its_pace_and_when_asked(desk: Desk) -> None:
    """The waiter of a test passes the time; being asked cuts a wait short, once."""
    asked, looks = asyncio.Event(), 0

    async def wait(wait_s: float, until: asyncio.Event) -> None:
        nonlocal looks
        assert wait_s == LOOK_EVERY_S
        looks += 1
        if looks == 1:
            desk.write("[limits]\nmax_concurrent = 3")
            until.set()
        elif looks == 3:
            await asyncio.Event().wait()

    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.05):
            await desk.reloader.run(asked, wait)

    assert desk.applied == [("limits.max_concurrent",)]
    assert not asked.is_set()


# --- what cannot be used -----------------------------------------------------------------


def test_a_file_that_cannot_be_used_is_refused_in_the_words_of_a_start(desk: Desk, tmp_path: Path) -> None:
    """And the settings from before stay in force, whole."""
    lines = LogLines()
    desk.write("[models]\nhide = ['a']\n" + BROKEN)
    desk.settle()

    told = told_of(tmp_path / "other.toml", URL + "[models]\nhide = ['a']\n" + BROKEN)
    assert desk.changes == []
    assert [each.replace(str(desk.file), "agent.toml") for each in desk.refusals] == [
        told.replace(str(tmp_path / "other.toml"), "agent.toml")
    ]
    assert [line["level"] for line in lines.named("settings_refused")] == ["error"]


def test_one_content_is_refused_once_and_another_one_again(desk: Desk) -> None:
    """Also if somebody touches the file; whoever asks is always answered."""
    desk.write(BROKEN)
    desk.settle()
    desk.write(BROKEN)
    desk.settle()
    assert len(desk.refusals) == 1
    desk.write(BROKEN + "# again\n")
    desk.settle()
    assert len(desk.refusals) == 2
    desk.reloader.look(is_asked=True)

    assert len(desk.refusals) == 3


def test_a_file_that_is_mended_applies(desk: Desk) -> None:
    """What is told then is the difference to what is in force."""
    desk.write(BROKEN)
    desk.settle()
    desk.write("[limits]\nmax_concurrent = 3")
    desk.settle()

    assert desk.applied == [("limits.max_concurrent",)]


def test_going_back_to_what_is_in_force_takes_the_refusal_back(desk: Desk) -> None:
    """There is nothing to apply, but whoever watches must hear that all is well."""
    desk.write(BROKEN)
    desk.settle()
    desk.write("")
    desk.settle()

    assert desk.applied == [()]


def test_a_file_that_vanishes_is_told_once(desk: Desk) -> None:
    """The settings stay; when it is back, it applies."""
    desk.file.unlink()
    desk.settle()
    desk.settle()
    assert len(desk.refusals) == 1
    assert "cannot be read" in desk.refusals[0]
    desk.file.write_text(URL + "[limits]\nmax_concurrent = 3")
    desk.settle()

    assert desk.applied == [("limits.max_concurrent",)]


def test_a_new_key_in_a_file_that_the_settings_name_is_seen(tmp_path: Path) -> None:
    """Keys are exchanged without a word in agent.toml."""
    (tmp_path / "key").write_text("old")
    (tmp_path / "agent.toml").write_text(URL + ENGINE + 'api_key_file = "key"\n')
    desk = Desk(tmp_path / "agent.toml")
    (tmp_path / "key").write_text("a new one")
    desk.settle()

    assert desk.applied == [("backends",)]
    assert [backend.api_key for backend in desk.changes[0].backends] == ["a new one"]
    assert "a new one" not in repr(desk.changes)


def test_a_key_that_comes_after_the_settings_that_name_it_is_seen(desk: Desk) -> None:
    """The refusal says what is missing; the file that is missing is watched, too."""
    desk.write(ENGINE + 'api_key_file = "key"\n')
    desk.settle()
    assert len(desk.refusals) == 1
    (desk.file.parent / "key").write_text("secret")
    desk.settle()

    assert desk.applied == [("backends",)]


def test_settings_that_come_from_a_pipe_are_not_read_again(tmp_path: Path) -> None:
    """It would have the agent wait for whoever writes the next time."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    config = msgspec.structs.replace(reading({}).config)
    config = msgspec.structs.replace(config, origin=config.origin.__class__(pipe))
    refusals: list[str] = []
    reloader = Reloader(Reading(config, ()), {}, apply=print, refuse=refusals.append)
    reloader.look()
    reloader.look()
    assert refusals == []
    reloader.look(is_asked=True)

    assert refusals == [f"{pipe}: can be read once only; restart the agent"]


@pytest.mark.parametrize("path", ["a\\u0000b", "a" * 5000])
def test_a_key_file_whose_name_no_file_can_have_ends_nothing(desk: Desk, path: str) -> None:
    """It is looked at all the same, again and again, until the settings name another one."""
    desk.write(f'{ENGINE}api_key_file = "{path}"\n')
    desk.settle()
    desk.write("")
    desk.settle()

    assert len(desk.refusals) == 1
    assert desk.applied == [()]


def test_a_defect_of_ours_ends_nothing(tmp_path: Path) -> None:
    """The agent serves on; the log has the traceback."""
    lines = LogLines()
    file = tmp_path / "agent.toml"
    file.write_text(URL)

    def fail(_change: Change) -> None:
        raise RuntimeError("a defect")

    reloader = Reloader(Reading(load(file, {}), ()), {}, apply=fail, refuse=print)
    file.write_text(URL + "[limits]\nmax_concurrent = 3")
    reloader.look(is_asked=True)

    assert "a defect" in lines.named("settings_crashed")[0]["exception"]


# --- what it means -----------------------------------------------------------------------


@pytest.mark.parametrize(
    "key", ["COORDINATOR__URL", "IDENTITY__KEY_PATH", "TELEMETRY__STATUS_LISTEN", "LOG__FORMAT"]
)
def test_what_only_a_start_can_apply_waits_and_the_rest_does_not(key: str) -> None:
    """Each such key is named, and the old value stays in the settings that hold."""
    values = {
        "COORDINATOR__URL": "wss://other.example/v1/agents/connect",
        "IDENTITY__KEY_PATH": "/other/key",
        "TELEMETRY__STATUS_LISTEN": "127.0.0.1:1",
        "LOG__FORMAT": "json",
    }
    before = reading({})
    change = compare(
        before, reading({key: values[key], "LIMITS__MAX_CONCURRENT": "3", "LOG__LEVEL": "debug"})
    )

    assert change.at_restart == (key.lower().replace("__", "."),)
    assert change.applied == ("limits.max_concurrent", "log.level")
    section, _, name = change.at_restart[0].partition(".")
    old = getattr(before.config, section)
    assert getattr(getattr(change.config, section), name) == getattr(old, name)


def test_what_waits_for_a_restart_is_told_once(desk: Desk) -> None:
    """And is not forgotten: it is part of each later change."""
    lines = LogLines()
    desk.write('[log]\nformat = "json"')
    desk.settle()
    desk.settle()
    assert [line["keys"] for line in lines.named("settings_need_restart")] == [["log.format"]]
    desk.write('[log]\nformat = "json"\nlevel = "debug"')
    desk.settle()

    assert [(change.applied, change.at_restart) for change in desk.changes] == [
        ((), ("log.format",)),
        (("log.level",), ("log.format",)),
    ]


def test_every_section_is_either_applied_or_named() -> None:
    """A key that waits is one that exists."""
    for key in AT_RESTART:
        section, _, name = key.partition(".")
        assert section in Settings.__struct_fields__
        assert not name or name in type(getattr(reading({}).config, section)).__struct_fields__


CHOICES: Mapping[str, list[str]] = {
    "COORDINATOR__URL": ["wss://a.example/x", "wss://b.example/x"],
    "COORDINATOR__PROXY": ["http://p:1", ""],
    "TELEMETRY__STATUS_LISTEN": ["127.0.0.1:1", ""],
    "TELEMETRY__HARDWARE": ["true", "false"],
    "LOG__FORMAT": ["json", "auto"],
    "LOG__LEVEL": ["debug", "info"],
    "LIMITS__MAX_CONCURRENT": ["1", "8"],
    "MODELS__HIDE": ["a", "b"],
    "BACKENDS__0__KIND": ["ollama", "vllm"],
    "OPERATOR__LABELS": ["gpu=1", "gpu=2"],
}
some_settings = st.fixed_dictionaries(
    {}, optional={key: st.sampled_from(values) for key, values in CHOICES.items()}
)


def plain(config: AgentConfig) -> dict[str, Any]:
    """The settings without their origin."""
    return {name: getattr(config, name) for name in Settings.__struct_fields__}


@given(old=some_settings, new=some_settings)
def test_a_change_leads_from_one_to_the_other(old: dict[str, str], new: dict[str, str]) -> None:
    """What then still differs waits for a restart; the same is no change; the way back leads back."""
    before, after = reading(old), reading(new)
    change = compare(before, after)
    present = Reading(change.config, change.backends)

    assert (not change.applied and not change.at_restart) == (plain(before.config) == plain(after.config))
    assert tuple(changed_keys(present, after)) == change.at_restart
    assert compare(present, after).applied == ()
    assert plain(compare(present, before).config) == plain(before.config)
