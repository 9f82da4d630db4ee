"""Whoever speaks for the agent finds the present session, and an agent that was forgotten can come back."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from provider_agent.agent.config import AgentConfig
from provider_agent.agent.contact import Contact
from provider_agent.agent.identity import Identity
from provider_agent.agent.reconnect import SessionEnd
from provider_agent.agent.session import Credentials, Duties
from provider_agent.protocol.frames import AuthFailed, AuthOk, Capabilities, Limits, Metadata
from tests.fakes.configs import loaded
from tests.fakes.executors import executing
from tests.fakes.peers import HOST, ScriptedCoordinator
from tests.fakes.sessions import no_heartbeats
from tests.fakes.sockets import MemorySocket, join

WAIT_S = 5.0


@pytest.fixture
def identity(tmp_path: Path) -> Identity:
    return Identity.load_or_create(tmp_path / "identity" / "key.pem")


@dataclass
class Stage:
    """A contact that serves a session, and the coordinator's end of it."""

    contact: Contact
    peer: ScriptedCoordinator
    running: asyncio.Task[SessionEnd]
    accepted: list[AuthOk]

    async def end(self) -> SessionEnd:
        async with asyncio.timeout(WAIT_S):
            return await self.running


@asynccontextmanager
async def contact(config: AgentConfig, identity: Identity, code: str | None = None) -> AsyncIterator[Stage]:
    accepted: list[AuthOk] = []
    offer = Capabilities(
        models=(), limits=Limits(max_concurrent_total=1), metadata=Metadata(agent_version="1")
    )
    duties = Duties(lambda: offer, no_heartbeats, accepted.append)
    ours, theirs = join(MemorySocket(), MemorySocket())
    async with executing() as bench, asyncio.TaskGroup() as tasks:
        made = Contact(config, Credentials(identity, HOST, code), bench.executor, duties)
        running = tasks.create_task(made.serve(ours))
        yield Stage(made, ScriptedCoordinator(theirs), running, accepted)
        running.cancel()


async def test_it_is_up_from_the_welcome_to_the_end_of_the_session(
    tmp_path: Path, identity: Identity
) -> None:
    """The ordinary case; who it is at this coordinator is remembered."""
    async with contact(loaded(tmp_path / "agent.toml", ""), identity) as stage:
        was_up = [stage.contact.is_up]
        await stage.peer.welcome("prov-7")
        was_up.append(stage.contact.is_up)
        stage.contact.announce()
        await stage.peer.expect(Capabilities)
        await stage.peer.close(4008, "no heartbeat")
        end = await stage.end()
        was_up.append(stage.contact.is_up)

    assert was_up == [False, True, False]
    assert end.accepted
    assert identity.provider_id(HOST) == "prov-7"
    assert [frame.provider_id for frame in stage.accepted] == ["prov-7"]


async def test_without_a_session_nothing_is_said_and_nothing_breaks(
    tmp_path: Path, identity: Identity
) -> None:
    """What there is to say comes with the next one."""
    async with contact(loaded(tmp_path / "agent.toml", ""), identity) as stage:
        await stage.peer.welcome()
        await stage.peer.close(1001, "drain:deploy")
        await stage.end()

        stage.contact.announce()
        await stage.contact.leave(within_s=1.0)


async def test_an_agent_that_was_forgotten_enrols_again_with_its_code(
    tmp_path: Path, identity: Identity
) -> None:
    """The coordinator lost its data: the end is one of ours, so that another try follows."""
    identity.remember_provider_id(HOST, "prov-old")
    config = loaded(tmp_path / "agent.toml", 'coordinator.enrollment_code = "again"')
    async with contact(config, identity) as stage:
        await stage.peer.challenge()
        await stage.peer.say(AuthFailed(reason="who?", code="unknown_identity", retry=False))
        end = await stage.end()

    assert (end.by_us, end.auth_failed) == (True, None)
    assert identity.provider_id(HOST) is None


async def test_a_code_that_was_refused_is_not_tried_twice(tmp_path: Path, identity: Identity) -> None:
    """No login loop (field note 39)."""
    config = loaded(tmp_path / "agent.toml", 'coordinator.enrollment_code = "bad"')
    async with contact(config, identity, "bad") as stage:
        await stage.peer.challenge()
        await stage.peer.say(AuthFailed(reason="who?", code="unknown_identity", retry=False))
        end = await stage.end()

    assert end.auth_failed is not None
