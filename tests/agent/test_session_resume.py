"""A dropped session is not a dropped job: what the next one says, and what becomes of its jobs."""

import asyncio
from pathlib import Path

import pytest

from provider_agent.agent.identity import Identity
from provider_agent.protocol.errors import ErrorCode
from provider_agent.protocol.frames import AuthFailed, Capabilities, JobChunk, JobStarted, Resumed
from tests.fakes.backends import ScriptedBackend
from tests.fakes.peers import Answer, RawPeer, ScriptedCoordinator
from tests.fakes.sessions import Host, Stage, hosting

WINDOW_MS = 60_000


@pytest.fixture
def identity(tmp_path: Path) -> Identity:
    return Identity.load_or_create(tmp_path / "identity" / "key.pem")


async def first_session(host: Host, *job_ids: str, acks: bool = True) -> tuple[Stage, ScriptedCoordinator]:
    """A session with these jobs, each as far as its first chunk."""
    stage = host.begin()
    peer = ScriptedCoordinator(stage.peer)
    peer.acks = acks
    await peer.welcome(resume_window_ms=WINDOW_MS)
    for job_id in job_ids:
        await peer.dispatch(job_id)
        while job_id not in peer.answers or not peer.answers[job_id].chunks:
            await peer.hear()
    return stage, peer


async def settle() -> None:
    for _ in range(20):
        await asyncio.sleep(0)


async def test_a_job_goes_on_in_the_next_session(identity: Identity) -> None:
    """The engine never notices, and the coordinator gets every byte once (field notes 10, 47)."""
    gate = asyncio.Event()
    backend = ScriptedBackend(b"Hel", gate, b"lo")
    async with hosting(identity, backend) as host:
        stage, before = await first_session(host, "j")
        await stage.lose()
        gate.set()
        await settle()

        after = ScriptedCoordinator(host.begin().peer, answers=before.answers)
        response = await after.welcome_back()
        answer = await after.answer("j")

    assert response.resume is not None
    assert [(job.job_id, job.attempt, job.next_seq) for job in response.resume.jobs] == [("j", 1, 1)]
    assert response.resume.session_id == "session-1"
    assert (answer.data, answer.done.bytes) == (b"Hello", 5)
    assert len(backend.calls) == 1


async def test_what_was_lost_on_the_way_goes_again(identity: Identity) -> None:
    """Sent and not received: from `have_seq` on, also what had ended meanwhile (field note 8)."""
    async with hosting(identity, ScriptedBackend(b"Hello")) as host:
        stage, before = await first_session(host)
        await before.dispatch("j")
        await settle()
        await stage.lose()

        after = ScriptedCoordinator(host.begin().peer, answers={"j": Answer()})
        await after.welcome_back()
        answer = await after.answer("j")
        await settle()

        assert answer.started is not None
        assert answer.done.bytes == len(answer.data) == 5
        assert host.executor.resumable() == ()  # it was acknowledged


async def test_capabilities_go_before_the_bytes_of_jobs(identity: Identity) -> None:
    """The turn table asks for it, and so does the reader's mind."""
    async with hosting(identity, ScriptedBackend(b"Hel", asyncio.Event())) as host:
        stage, _ = await first_session(host, "j", acks=False)
        await stage.lose()
        after = ScriptedCoordinator(host.begin().peer, answers={"j": Answer()})
        await after.welcome_back()
        await after.until(JobChunk)

    kinds = [type(frame) for frame in after.heard if isinstance(frame, Capabilities | JobStarted | JobChunk)]
    assert kinds == [Capabilities, JobStarted, JobChunk]


async def test_a_job_that_the_coordinator_does_not_know_any_more_is_stopped_in_silence(
    identity: Identity,
) -> None:
    """Its client has gone: the engine is told, the log and the metrics are, and nobody else."""
    backend = ScriptedBackend(b"x", asyncio.Event())
    async with hosting(identity, backend) as host:
        stage, _ = await first_session(host, "gone")
        await stage.lose()
        after = ScriptedCoordinator(host.begin().peer)
        await after.welcome_back()
        await settle()

        assert (host.executor.running, backend.open_connections) == ((), 0)
        assert after.answers == {}
        assert [ended.code for ended in host.ended] == [ErrorCode.SESSION_LOST]


@pytest.mark.parametrize("resumed", [None, Resumed(jobs=())])
async def test_a_coordinator_that_knows_nothing_of_the_last_session_ends_its_jobs(
    identity: Identity, resumed: Resumed | None
) -> None:
    """It was restarted, or is another one."""
    backend = ScriptedBackend(b"x", asyncio.Event())
    async with hosting(identity, backend) as host:
        stage, _ = await first_session(host, "j")
        await stage.lose()
        after = ScriptedCoordinator(host.begin().peer)
        await after.challenge()
        await after.accept(resumed=resumed)
        await settle()

        assert (host.executor.running, backend.open_connections) == ((), 0)


async def test_an_agent_that_has_just_started_has_nothing_to_resume(identity: Identity) -> None:
    """It says nothing, and the coordinator knows what that means (protocol.md 7)."""
    async with hosting(identity) as host:
        assert (await ScriptedCoordinator(host.begin().peer).challenge()).resume is None


async def test_an_agent_without_jobs_says_so(identity: Identity) -> None:
    """Then a job that was on its way to it can be sent elsewhere at once."""
    async with hosting(identity) as host:
        stage, _ = await first_session(host)
        await stage.lose()
        response = await ScriptedCoordinator(host.begin().peer).challenge()

    assert response.resume is not None
    assert response.resume.jobs == ()


async def test_a_try_that_is_not_let_in_leaves_the_jobs_waiting(identity: Identity) -> None:
    """The next one may be; the time goes on from the drop."""
    gate = asyncio.Event()
    async with hosting(identity, ScriptedBackend(b"Hel", gate, b"lo")) as host:
        stage, before = await first_session(host, "j")
        await stage.lose()
        for refuse in (True, False):
            tried = host.begin()
            peer = ScriptedCoordinator(tried.peer)
            await peer.challenge()
            if refuse:
                await peer.say(AuthFailed(reason="busy", retry=True))
            else:
                tried.peer.drop()
            await tried.end()
        gate.set()

        after = ScriptedCoordinator(host.begin().peer, answers=before.answers)
        await after.welcome_back()
        assert (await after.answer("j")).data == b"Hello"


@pytest.mark.parametrize(
    ("code", "reason"), [(4002, "replaced"), (4001, "revoked"), (1001, "drain:operator")]
)
async def test_an_end_after_which_nobody_comes_back_ends_the_jobs(
    identity: Identity, code: int, reason: str
) -> None:
    """At once: the engine has better things to do."""
    backend = ScriptedBackend(b"x", asyncio.Event())
    async with hosting(identity, backend) as host:
        stage, peer = await first_session(host, "j")
        await peer.close(code, reason)
        await stage.end()
        await settle()

        assert (host.executor.running, backend.open_connections) == ((), 0)


async def test_a_refusal_for_good_ends_the_jobs(identity: Identity) -> None:
    """This coordinator will never ask for them."""
    backend = ScriptedBackend(b"x", asyncio.Event())
    async with hosting(identity, backend) as host:
        stage, _ = await first_session(host, "j")
        await stage.lose()
        tried = host.begin()
        peer = ScriptedCoordinator(tried.peer)
        await peer.challenge()
        await peer.say(AuthFailed(reason="no", retry=False))
        await tried.end()
        await settle()

        assert (host.executor.running, backend.open_connections) == ((), 0)


async def test_a_protocol_2_coordinator_is_not_told_of_resuming(identity: Identity) -> None:
    """It would not know what to do with it; nor do jobs wait for it."""
    backend = ScriptedBackend(b"x", asyncio.Event())
    async with hosting(identity, backend, allow_legacy=True) as host:
        stage = host.begin()
        peer = RawPeer(stage.peer)
        await peer.welcome()
        await peer.say(type="job", job_id="j", model_id="m", request={})
        await peer.hear_type("job_chunk")
        await stage.lose()
        await settle()

        assert (host.executor.running, backend.open_connections) == ((), 0)
        assert host.executor.resume_left_s == 0


async def test_an_acknowledgement_reaches_its_job(identity: Identity) -> None:
    """What is acknowledged need not be kept (protocol.md 5)."""
    async with hosting(identity, ScriptedBackend(b"Hel", asyncio.Event())) as host:
        await first_session(host, "j")
        await settle()
        (running,) = host.executor.running

        assert running.lane.window.sent_bytes == 3
        assert running.lane.window.unacked_bytes == 0
