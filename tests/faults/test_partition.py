"""A real partition: two machines, as name spaces of the network, and a router that drops what it is given."""

import asyncio
import ctypes
import os
import shutil
import socket
import subprocess
from collections.abc import Awaitable, Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.fakes.clients import RawClient
from tests.fakes.programs import command
from tests.fakes.tapes import TapeEngine, asks_for, tape
from tests.faults.parts import (
    LIMIT_S,
    NOTICED_S,
    SLACK_S,
    agent_apart,
    agent_settings,
    coordinator_apart,
    coordinator_settings,
    line_of,
)

IP = "ip"
CLONE_NEWNET = 0x40000000
NEAR, FAR = "10.213.1.1", "10.213.2.1"
NEAR_ROUTER, FAR_ROUTER = "10.213.1.254", "10.213.2.254"


@dataclass(frozen=True)
class Machines:
    """Two machines and the router between them, by the names of their name spaces."""

    near: str
    router: str
    far: str

    def part(self) -> None:
        """From now on the router drops whatever it should pass on, and tells nobody."""
        for address in (NEAR, FAR):
            ip("-n", self.router, "route", "add", "blackhole", f"{address}/32")

    def heal(self) -> None:
        for address in (NEAR, FAR):
            ip("-n", self.router, "route", "del", "blackhole", f"{address}/32")


def ip(*arguments: str) -> None:
    subprocess.run((IP, *arguments), check=True, capture_output=True)


def build(machines: Machines) -> None:
    """The near machine, the router, the far machine, and a cable between each two."""
    for name in (machines.near, machines.router, machines.far):
        ip("netns", "add", name)
        ip("-n", name, "link", "set", "lo", "up")
    ends = ((machines.near, NEAR, NEAR_ROUTER), (machines.far, FAR, FAR_ROUTER))
    for name, address, router in ends:
        ip("-n", name, "link", "add", "eth", "type", "veth", "peer", "name", name, "netns", machines.router)
        ip("-n", name, "address", "add", f"{address}/24", "dev", "eth")
        ip("-n", machines.router, "address", "add", f"{router}/24", "dev", name)
        ip("-n", machines.router, "link", "set", name, "up")
        ip("-n", name, "link", "set", "eth", "up")
        ip("-n", name, "route", "add", "default", "via", router)
    ip("netns", "exec", machines.router, "sh", "-c", "echo 1 > /proc/sys/net/ipv4/ip_forward")


def on(machine: str) -> tuple[str, ...]:
    """Starts a process on this machine."""
    return (IP, "netns", "exec", machine)


def socket_on(machine: str) -> socket.socket:
    """A socket of this machine, for us who run on another: it stays where it was made."""
    libc = ctypes.CDLL(None, use_errno=True)
    with Path("/proc/thread-self/ns/net").open() as ours, Path(f"/run/netns/{machine}").open() as theirs:
        if libc.setns(theirs.fileno(), CLONE_NEWNET) != 0:
            raise OSError(ctypes.get_errno(), f"no way into {machine}")
        try:
            made = socket.socket()
        finally:
            libc.setns(ours.fileno(), CLONE_NEWNET)
    made.setblocking(False)
    return made


def listener_on(machine: str) -> socket.socket:
    listener = socket_on(machine)
    listener.bind(("127.0.0.1", 0))
    return listener


@pytest.fixture
def machines() -> Iterator[Machines]:
    if shutil.which(IP) is None:
        pytest.skip("NO `ip`: a partition between two machines is not shown here")
    pid = os.getpid()
    made = Machines(f"pa-n-{pid}", f"pa-r-{pid}", f"pa-f-{pid}")
    try:
        build(made)
    except subprocess.CalledProcessError as error:
        pytest.skip(
            f"NO NETWORK NAME SPACES: a partition is not shown here ({error.stderr.decode().strip()})"
        )
    else:
        yield made
    finally:
        for name in (made.near, made.router, made.far):
            subprocess.run((IP, "netns", "del", name), check=False, capture_output=True)


async def created(kind: str, *arguments: str) -> str:
    """A secret that a command prints."""
    ended = await command("coordinator", kind, "create", *arguments)
    assert ended.code == 0, ended.stderr
    return ended.stdout.strip()


async def test_a_partition_is_noticed_by_both_sides_within_ten_seconds_and_resumed_after(
    tmp_path: Path, machines: Machines
) -> None:
    """Packets are dropped and nobody says so; once they pass again, the stream goes on where it was."""
    loop = asyncio.get_running_loop()
    data = ("--data", str(tmp_path / "data"))
    key, code = await asyncio.gather(created("key", "ann", *data), created("token", *data))
    far, near = on(machines.far), on(machines.near)
    engine = TapeEngine()
    await engine.start(listener=listener_on(machines.near))
    async with asyncio.timeout(LIMIT_S), AsyncExitStack() as stack:
        stack.push_async_callback(engine.stop)
        settings = coordinator_settings(SERVER_NAMES=FAR)
        front = coordinator_apart(settings, *data, host=FAR, before=far)
        await stack.enter_async_context(front)
        port = (await front.event("listening"))["port"]
        settings = agent_settings(
            tmp_path,
            port,
            engine,
            COORDINATOR__URL=f"ws://{FAR}:{port}/v1/agents/connect",
            COORDINATOR__ALLOW_INSECURE="true",
            COORDINATOR__ENROLLMENT_CODE=code,
        )
        worker = await stack.enter_async_context(agent_apart(settings, before=near))
        await worker.event("ready")

        gate = engine.hold("parted", before=10)
        client = RawClient(
            port,
            asks_for("parted", events=200),
            headers={"Authorization": f"Bearer {key}"},
            host=FAR,
            through=socket_on(machines.far),
        )
        async with client:
            await client.first(10)
            machines.part()
            parted_s = loop.time()
            gate.set()

            async def after(noticed: Awaitable[object]) -> float:
                await noticed
                return loop.time() - parted_s

            noticed_s = await asyncio.gather(
                after(worker.event("disconnected")), after(line_of(front, "agent_session_over"))
            )
            machines.heal()
            heard = await client.rest()

    assert max(noticed_s) < NOTICED_S + SLACK_S
    assert heard.body == tape("parted", events=200)
    assert engine.counts == {"parted": 1}
