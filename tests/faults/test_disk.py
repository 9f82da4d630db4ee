"""State files on a disk that is full or read-only: one sentence, the right exit code, nothing destroyed.

A limit on the size of files makes every disk full, for one process and for any user. Where the
machine allows a name space of mounts, a real full and a real read-only file system are tried, too.
"""

import asyncio
import resource
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.fakes.clients import ask
from tests.fakes.programs import Ended, Program
from tests.fakes.tapes import TapeEngine, asks_for, tape
from tests.faults.parts import (
    LIMIT_S,
    agent_apart,
    agent_settings,
    coordinator_apart,
    coordinator_settings,
    line_of,
    needs_linux,
)

FULL = ("sh", "-c", 'ulimit -f 0; exec "$@"', "sh")
"""Starts a process that can write to no file."""

WRONG_SETTING = 78


def on_mount(options: str, directory: Path) -> Sequence[str]:
    """Starts a process for which this directory lies on a file system of its own."""
    mount = f'mount -t tmpfs -o {options} none "{directory}" && exec "$@"'
    return ("unshare", "--mount", "sh", "-c", mount, "sh")


def require_mounts(directory: Path) -> None:
    """Skip where nobody lets us mount anything."""
    if shutil.which("unshare") is None:
        pytest.skip("NO NAME SPACES: a real full and a real read-only disk are not tried here")
    try_out = [*on_mount("size=4k", directory), "true"]
    if subprocess.run(try_out, check=False, capture_output=True).returncode != 0:
        pytest.skip("NO RIGHT TO MOUNT: a real full and a real read-only disk are not tried here")


def assert_one_sentence(ended: Ended, about: Path) -> None:
    """What a person can act on, and nothing else."""
    assert ended.code == WRONG_SETTING
    assert len(ended.stderr.strip().splitlines()) == 1, ended.stderr
    assert ended.stderr.startswith("provider-agent: ")
    assert str(about) in ended.stderr
    assert ended.stdout == ""


async def end_of(program: Program) -> Ended:
    async with asyncio.timeout(LIMIT_S), program:
        return await program.end()


async def token(data: Path, *, before: Sequence[str] = ()) -> Ended:
    return await end_of(Program("coordinator", "token", "create", "--data", str(data), before=before))


async def test_an_agent_without_room_for_its_key_says_so_and_leaves_nothing(tmp_path: Path) -> None:
    """Half a key would be worse than none; field note 43."""
    directory = tmp_path / "state"
    settings = agent_settings(directory, 1)
    ended = await end_of(agent_apart(settings, before=FULL))

    assert_one_sentence(ended, directory / "identity.key")
    assert list(directory.iterdir()) == []


async def test_an_agent_on_a_real_bad_disk_says_so(tmp_path: Path) -> None:
    """Read-only, and without room for one more file."""
    require_mounts(tmp_path)
    settings = agent_settings(tmp_path, 1)
    disks = [on_mount(options, tmp_path) for options in ("size=4k,ro", "size=4k,nr_inodes=1")]
    ended = await asyncio.gather(*(end_of(agent_apart(settings, before=disk)) for disk in disks))

    for each in ended:
        assert_one_sentence(each, tmp_path / "identity.key")


async def test_an_agent_that_has_its_key_serves_without_any_room(tmp_path: Path) -> None:
    """What it cannot remember costs a warning, and its key stays as it is."""
    front = coordinator_apart(coordinator_settings())
    async with asyncio.timeout(LIMIT_S), TapeEngine() as engine, front:
        port = (await front.event("listening"))["port"]
        settings = agent_settings(tmp_path, port, engine)
        async with agent_apart(settings) as first:
            await first.event("ready")
        kept = forget_ids(tmp_path)
        async with agent_apart(settings, before=FULL) as second:
            await second.event("ready")
            heard = await ask(port, asks_for("full"))
            second.stop()
            ended = await second.end()

    assert heard.body == tape("full")
    assert ended.code == 0
    assert "provider_id_not_kept" in ended.stderr
    assert files_in(tmp_path) == kept


async def test_a_coordinator_without_room_for_its_database_says_so(tmp_path: Path) -> None:
    """At its start, and in every command; with room again both work."""
    data = tmp_path / "data"
    arguments = ("--data", str(data))
    starting = end_of(coordinator_apart(coordinator_settings(), *arguments, before=FULL))
    started, created = await asyncio.gather(starting, token(data, before=FULL))
    with_room = await token(data)

    assert_one_sentence(started, data / "coordinator.db")
    assert_one_sentence(created, data / "coordinator.db")
    assert with_room.code == 0, with_room.stderr


async def test_a_coordinator_on_a_real_bad_disk_says_so(tmp_path: Path) -> None:
    """Read-only at its start, and without room for a database in a command."""
    require_mounts(tmp_path)
    read_only, small = on_mount("size=4k,ro", tmp_path), on_mount("size=16k", tmp_path)
    arguments = ("--data", str(tmp_path))
    starting = end_of(coordinator_apart(coordinator_settings(), *arguments, before=read_only))
    started, created = await asyncio.gather(starting, token(tmp_path, before=small))

    assert_one_sentence(started, tmp_path / "coordinator.db")
    assert_one_sentence(created, tmp_path / "coordinator.db")


@needs_linux
async def test_a_disk_that_fills_under_a_coordinator_stops_enrolment_and_nothing_else(tmp_path: Path) -> None:
    """Clients and agents that are known are served; who would enrol waits, and gets in once there is room."""
    data = tmp_path / "data"
    creating_key = end_of(Program("coordinator", "key", "create", "ann", "--data", str(data)))
    created = await asyncio.gather(token(data), token(data), creating_key)
    *codes, key = (each.stdout.strip() for each in created)
    credentials = {"Authorization": f"Bearer {key}"}
    async with asyncio.timeout(LIMIT_S), TapeEngine() as engine:
        front = coordinator_apart(coordinator_settings(), "--data", str(data))
        async with front:
            port = (await front.event("listening"))["port"]
            known, late = (
                agent_of(tmp_path / name, port, engine, code) for name, code in zip("ab", codes, strict=True)
            )
            async with known:
                await known.event("ready")
                limit_files(front, 0)
                async with late:
                    refused = await line_of(late, "not_connected")
                    heard = await ask(port, asks_for("full"), headers=credentials)
                    limit_files(front, resource.RLIM_INFINITY)
                    await late.event("connected")
                again = await ask(port, asks_for("again"), headers=credentials)

    assert "cannot look up identities now" in refused
    assert heard.body == tape("full")
    assert again.body == tape("again")


def files_in(directory: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in directory.iterdir()}


def forget_ids(directory: Path) -> dict[str, bytes]:
    """Take away what coordinators call an agent; gives the files that are left."""
    (directory / "identity.key.providers.json").unlink()
    return files_in(directory)


def agent_of(directory: Path, port: int, engine: TapeEngine, code: str) -> Program:
    directory.mkdir()
    return agent_apart(agent_settings(directory, port, engine, COORDINATOR__ENROLLMENT_CODE=code))


def limit_files(program: Program, size_bytes: int) -> None:
    """From now on no file of this process may be longer."""
    resource.prlimit(program.process.pid, resource.RLIMIT_FSIZE, (size_bytes, resource.RLIM_INFINITY))
