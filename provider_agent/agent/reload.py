"""The settings change while the agent runs: sees that their files did, reads them, and says what is new.

Knows no use of a setting. A file is read once it has been the same for one look: an editor that empties it
and then writes it is seldom caught in between, and if it is, the next look finds the rest.
"""

import asyncio
import stat
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NamedTuple

import msgspec

from provider_agent.agent.config import AgentConfig, ConfigError, load
from provider_agent.agent.config_sections import Settings
from provider_agent.agent.waiting import Waiter, wait_until
from provider_agent.backends.base import BackendSettings
from provider_agent.telemetry.logs import get_logger

LOOK_EVERY_S: Final = 2.0

AT_RESTART: Final = ("coordinator", "identity", "telemetry.status_listen", "log.format")
"""Sections and keys that only a start can apply: who this agent is, and to whom; where and how it speaks."""

log = get_logger(__name__)


class Reading(NamedTuple):
    """What the files and the environment say.

    Attributes:
        backends: of `config`, with their secrets.
    """

    config: AgentConfig
    backends: tuple[BackendSettings, ...]


@dataclass(frozen=True, slots=True)
class Change:
    """What a new reading means for an agent that runs.

    Attributes:
        config: the new settings; where they must wait for a restart, the old ones.
        applied: the keys that hold from now on, dotted.
        at_restart: those that hold after a restart.
    """

    config: AgentConfig
    backends: tuple[BackendSettings, ...]
    applied: tuple[str, ...]
    at_restart: tuple[str, ...]


# --- the difference ----------------------------------------------------------------------


def compare(present: Reading, new: Reading) -> Change:
    """What changes if an agent that runs with `present` goes by `new`."""
    keys = tuple(changed_keys(present, new))
    at_restart = tuple(key for key in keys if _waits(key))
    return Change(
        _keeping(present.config, new.config, at_restart),
        new.backends,
        applied=tuple(key for key in keys if key not in at_restart),
        at_restart=at_restart,
    )


def changed_keys(old: Reading, new: Reading) -> Iterator[str]:
    """Where they differ: `backends` as a whole, with their secrets, else key by key."""
    for section in Settings.__struct_fields__:
        before, now = getattr(old.config, section), getattr(new.config, section)
        if section == "backends":
            if old.backends != new.backends:
                yield section
            continue
        for name in type(now).__struct_fields__:
            if getattr(before, name) != getattr(now, name):
                yield f"{section}.{name}"


def _waits(key: str) -> bool:
    return key in AT_RESTART or key.partition(".")[0] in AT_RESTART


def _keeping(old: AgentConfig, new: AgentConfig, keys: Collection[str]) -> AgentConfig:
    """The new settings, but for these keys."""
    sections: dict[str, msgspec.Struct] = {}
    for key in keys:
        section, _, name = key.partition(".")
        so_far = sections.get(section, getattr(new, section))
        sections[section] = msgspec.structs.replace(so_far, **{name: getattr(getattr(old, section), name)})
    return msgspec.structs.replace(new, **sections)


# --- the watch ---------------------------------------------------------------------------

_Stamps = Mapping[Path, tuple[int, ...] | None]
"""What shows that a file is another one, or has another content or owner; None for one that is not there."""


class Reloader:
    """Keeps an agent at the settings that its files say."""

    def __init__(
        self,
        start: Reading,
        environ: Mapping[str, str],
        *,
        apply: Callable[[Change], None],
        refuse: Callable[[str], None],
    ) -> None:
        """`apply` is told what is new, `refuse` in one sentence why new settings cannot be used."""
        self._apply = apply
        self._refuse = refuse
        self._environ = environ
        self._file = start.config.origin.file
        self._files = _files_of(start.config)
        self._present = start
        self._last = start
        self._refused: int | None = None
        self._seen: _Stamps = {}
        self._read_at: _Stamps = dict.fromkeys(self._files)  # a file that changed since the start is read

    async def run(self, asked: asyncio.Event, wait: Waiter = wait_until) -> None:
        """Look every now and then, and at once when `asked` is set; for ever."""
        while True:
            await wait(LOOK_EVERY_S, asked)
            is_asked = asked.is_set()
            asked.clear()
            self.look(is_asked=is_asked)

    def look(self, *, is_asked: bool = False) -> None:
        """Read what changed and is at rest, or what somebody asks to read. Its trouble ends nothing."""
        stamps = {file: _stamp(file) for file in self._files}
        is_at_rest, self._seen = stamps == self._seen, stamps
        if is_asked or (is_at_rest and stamps != self._read_at):
            self._read_at = stamps
            try:
                self._read(is_asked=is_asked)
            except Exception:  # whatever stands in a file: the agent goes on with what it has
                log.exception("settings_crashed")

    def _read(self, *, is_asked: bool) -> None:
        content = hash(tuple(_content(file) for file in self._files))
        try:
            new = self._reading()
        except ConfigError as error:
            if is_asked or content != self._refused:
                self._refused = content
                in_force = "the settings from before"
                log.error("settings_refused", problem=str(error), in_force=in_force)  # noqa: TRY400 - no defect
                self._refuse(str(error))
        else:
            self._take(new, is_asked=is_asked)

    def _reading(self) -> Reading:
        """Raises ConfigError with the sentence that a start would give."""
        if self._file is not None and self._file.exists() and not self._file.is_file():
            raise ConfigError("can be read once only", "restart the agent", file=self._file)
        config = load(self._file, self._environ)
        self._files = _files_of(config)  # also of a reading that lacks a secret: it may come
        return Reading(config, config.backend_settings(self._environ))

    def _take(self, new: Reading, *, is_asked: bool) -> None:
        """1. Nothing new. 2. Nothing new, but what stood there in between was refused."""
        was_refused, self._refused = self._refused is not None, None
        if not any(changed_keys(self._last, new)) and not was_refused:  # 1
            if is_asked:
                log.info("settings_unchanged")
            return
        change = compare(self._present, new)
        self._last, self._present = new, Reading(change.config, new.backends)
        if change.at_restart:
            log.warning("settings_need_restart", keys=list(change.at_restart))
        log.info("settings_applied", keys=list(change.applied))  # 2: none
        self._apply(change)


def _files_of(config: AgentConfig) -> tuple[Path, ...]:
    """The file, and those with the engines' keys."""
    named = (config.origin.file, *(backend.api_key_file for backend in config.backends))
    return tuple(file for file in named if file is not None)


def _stamp(file: Path) -> tuple[int, ...] | None:
    try:
        found = file.stat()
    except (OSError, ValueError):  # of a name that can be none
        return None
    if not stat.S_ISREG(found.st_mode):  # a pipe has nothing new to say
        return None
    return found.st_mtime_ns, found.st_ctime_ns, found.st_size, found.st_ino, found.st_dev


def _content(file: Path) -> bytes | None:
    try:
        return file.read_bytes() if file.is_file() else None
    except (OSError, ValueError):
        return None
