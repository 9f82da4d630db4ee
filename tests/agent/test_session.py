"""One session: a handshake that nobody can abuse, then jobs in and frames out."""

import asyncio
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from provider_agent.agent.identity import Identity
from provider_agent.agent.session import PROTOCOL_ERROR
from provider_agent.protocol.errors import ErrorCode
from provider_agent.protocol.frames import (
    AuthFailed,
    Capabilities,
    Drain,
    Frame,
    Heartbeat,
    JobError,
    JobStarted,
    Scheme,
)
from provider_agent.protocol.window import WINDOW_BYTES
from tests.fakes.backends import ScriptedBackend
from tests.fakes.logs import LogLines
from tests.fakes.peers import HOST, RawPeer, ScriptedCoordinator
from tests.fakes.sessions import say, session
from tests.fakes.sockets import StuckSocket


@pytest.fixture
def identity(tmp_path: Path) -> Identity:
    return Identity.load_or_create(tmp_path / "identity" / "key.pem")


async def test_a_session_authenticates_announces_and_serves(identity: Identity) -> None:
    """The ordinary case, from the challenge to a job's outcome."""
    async with session(identity, ScriptedBackend(b"Hel", b"lo")) as stage:
        peer = ScriptedCoordinator(stage.peer, host=HOST)
        capabilities = await peer.welcome()
        await peer.dispatch("j")
        answer = await peer.answer("j")

    assert [model.model_id for model in capabilities.models] == ["m"]
    assert answer.data == b"Hello"
    assert answer.done.bytes == 5
    assert [ok.provider_id for ok in stage.accepted] == ["prov-1"]
    assert stage.announced == [1]


async def test_the_signature_is_worthless_at_another_host(identity: Identity) -> None:
    """A hostile server cannot log in elsewhere as the provider (field note 42)."""
    async with session(identity) as stage:
        peer = ScriptedCoordinator(stage.peer, host="coordinator.victim")
        response = await peer.challenge()

        with pytest.raises(AssertionError, match="does not cover"):
            peer.check_signature(response)


async def test_the_unbound_signature_needs_the_operators_consent(identity: Identity) -> None:
    """A coordinator that offers nothing better is refused, with the remedy (field note 42)."""
    async with session(identity) as stage:
        await RawPeer(stage.peer).say(type="auth_challenge", nonce="A" * 43 + "=")
        end = await stage.end()

    assert end.by_us
    assert "allow_legacy_auth" in end.reason


async def test_a_short_nonce_is_refused(identity: Identity) -> None:
    """Fewer than 32 bytes can be collected and replayed."""
    async with session(identity) as stage:
        await RawPeer(stage.peer).say(
            type="auth_challenge", nonce="AAAA", protocol=3, schemes=[Scheme.BOUND.value]
        )
        end = await stage.end()

    assert "fewer than 32" in end.reason


async def test_the_enrollment_code_is_sent_only_on_first_contact(identity: Identity) -> None:
    """Once the identity has a provider id here, only its signature counts."""
    async with session(identity, enrollment_code="once") as stage:
        assert (await ScriptedCoordinator(stage.peer).challenge()).enrollment_code == "once"

    identity.remember_provider_id(HOST, "prov-1")
    async with session(identity, enrollment_code="once") as stage:
        assert (await ScriptedCoordinator(stage.peer).challenge()).enrollment_code is None


async def test_a_refusal_ends_the_session_with_the_coordinators_reason(identity: Identity) -> None:
    """The connector judges what to do about it."""
    async with session(identity) as stage:
        peer = ScriptedCoordinator(stage.peer)
        await peer.challenge()
        refused = AuthFailed(reason="revoked by the operator", code="revoked", retry=False)
        await peer.say(refused)
        end = await stage.end()

    assert end.auth_failed == refused
    assert not end.accepted


async def test_a_coordinator_that_says_nothing_does_not_hang_the_agent(identity: Identity) -> None:
    """Each step of the handshake has its limit (field note 37)."""
    async with session(identity, step_limit_s=0.01) as stage:
        end = await stage.end()

    assert end.by_us
    assert "no answer" in end.reason


async def test_two_run_and_three_are_refused_at_once(identity: Identity) -> None:
    """max_concurrent = 2 and five jobs, from a peer that speaks the protocol by hand."""
    gate = asyncio.Event()
    async with session(identity, ScriptedBackend(gate, b"x"), max_concurrent=2) as stage:
        peer = ScriptedCoordinator(stage.peer)
        await peer.welcome()
        for number in range(5):
            await peer.dispatch(f"j{number}")
        refused = [await peer.answer(f"j{number}") for number in (2, 3, 4)]
        await peer.dispatch("ghost", "no-such-model")
        ghost = await peer.answer("ghost")
        gate.set()
        served = [await peer.answer(f"j{number}") for number in (0, 1)]

    assert [answer.error.error_code for answer in refused] == ["out_of_capacity"] * 3
    assert ghost.error.error_code == "model_not_loaded"
    assert [answer.data for answer in served] == [b"x", b"x"]


async def test_a_protocol_2_peer_sees_exactly_its_own_fields(identity: Identity) -> None:
    """Base frames, base fields, base codes; a deadline of a minute; silence on cancel (I6)."""
    gate = asyncio.Event()
    async with session(identity, ScriptedBackend(b"x", gate), max_concurrent=2, allow_legacy=True) as stage:
        peer = RawPeer(stage.peer)
        capabilities = await peer.welcome()
        assert set(capabilities) == {"type", "models", "limits", "metadata"}
        assert set(capabilities["models"][0]) == {
            "model_id",
            "backend",
            "max_concurrent",
            "input_per_1m",
            "output_per_1m",
        }

        for job_id in ("a", "b"):
            await peer.say(type="job", job_id=job_id, model_id="m", request={})
            assert await peer.hear() == {"type": "job_chunk", "job_id": job_id, "data": "eA=="}
        assert {running.job.deadline_ms for running in stage.executor.running} == {60_000}

        await peer.say(type="job", job_id="c", model_id="m", request={})
        refused = await peer.hear()
        assert set(refused) == {"type", "job_id", "error_code", "message", "tokens_emitted"}
        assert refused["error_code"] == "out_of_capacity"

        await peer.say(type="job_cancel", job_id="a")
        gate.set()
        done = await peer.hear()
        assert set(done) == {"type", "job_id", "tokens", "duration_ms"}
        assert done["job_id"] == "b"
        assert done["tokens"] == {"input": 3, "output": 5, "input_tokens": 3, "output_tokens": 5}


async def test_a_job_id_comes_back_letter_by_letter(identity: Identity) -> None:
    """Any printable ASCII, never re-formatted (field note 18)."""
    job_id = '{"A b"}\\/~ 0001'
    async with session(identity, ScriptedBackend(b"x")) as stage:
        peer = ScriptedCoordinator(stage.peer)
        await peer.welcome()
        await peer.dispatch(job_id)

        assert (await peer.answer(job_id)).done.job_id == job_id


async def test_a_malformed_job_is_answered_and_the_session_lives(identity: Identity) -> None:
    """Nobody waits for their own timeout, and no other job suffers (field notes 16, 17)."""
    async with session(identity, ScriptedBackend(b"x")) as stage:
        peer = ScriptedCoordinator(stage.peer)
        await peer.welcome()
        bad = {"type": "job", "job_id": "bad", "model_id": "m", "request": {}, "deadline_ms": 0}
        say(stage.peer, json.dumps(bad).encode())
        answer = await peer.answer("bad")
        await peer.dispatch("good")

        assert answer.error.error_code == "bad_request"
        assert "deadline_ms" in answer.error.message
        assert (await peer.answer("good")).data == b"x"


async def test_a_frame_of_a_later_protocol_is_ignored(identity: Identity) -> None:
    """Unknown types and unknown fields are no errors."""
    async with session(identity, ScriptedBackend(b"x")) as stage:
        peer = ScriptedCoordinator(stage.peer)
        await peer.welcome()
        say(stage.peer, b'{"type":"horoscope","sign":"leo"}')
        say(stage.peer, b'{"type":"job","job_id":"j","model_id":"m","request":{},"mood":1}')

        assert (await peer.answer("j")).data == b"x"


async def test_a_message_that_is_no_frame_ends_the_session(identity: Identity) -> None:
    """The peer is told why, with the code for it."""
    async with session(identity) as stage:
        peer = ScriptedCoordinator(stage.peer)
        await peer.welcome()
        say(stage.peer, b"GET / HTTP/1.1")
        end = await stage.end()

    assert (end.code, end.by_us) == (PROTOCOL_ERROR, True)
    assert "JSON" in end.reason


async def test_a_frame_out_of_turn_ends_the_session(identity: Identity) -> None:
    """A second challenge in the middle of a session is somebody else's conversation."""
    async with session(identity) as stage:
        await ScriptedCoordinator(stage.peer).welcome()
        await RawPeer(stage.peer).say(type="auth_challenge", nonce="A" * 44)
        end = await stage.end()

    assert end.code == PROTOCOL_ERROR
    assert "auth_challenge" in end.reason


async def test_a_cancel_is_read_while_nothing_can_be_written(identity: Identity) -> None:
    """Full lane or not, the reader never waits for the writer (field notes 1, 12)."""
    socket = StuckSocket(stuck=False)
    backend = ScriptedBackend(b"x" * WINDOW_BYTES, b"more", asyncio.Event())
    async with session(identity, backend, max_concurrent=1, socket=socket) as stage:
        peer = ScriptedCoordinator(stage.peer)
        await peer.welcome()
        socket.hold()
        await peer.dispatch("j")
        await socket.stuck.wait()
        (running,) = stage.executor.running
        await peer.dispatch("refused")
        await peer.cancel("j")
        assert running.task is not None
        async with asyncio.timeout(5):
            await asyncio.wait([running.task])
        assert (stage.executor.running, backend.open_connections) == ((), 0)

        socket.release()
        refused, cancelled = await peer.answer("refused"), await peer.answer("j")

    assert refused.error.error_code == "out_of_capacity"
    assert cancelled.error.error_code == "cancelled"
    assert len(cancelled.data) < WINDOW_BYTES  # what the socket had taken


async def test_a_lost_session_stops_its_jobs_engine_work(identity: Identity) -> None:
    """The coordinator offers no way back: nobody would receive it (field note 10)."""
    backend = ScriptedBackend(b"x", asyncio.Event())
    async with session(identity, backend) as stage:
        peer = ScriptedCoordinator(stage.peer)
        await peer.welcome()
        await peer.dispatch("j")
        await peer.expect(JobStarted)
        (running,) = stage.executor.running
        stage.peer.drop()
        end = await stage.end()
        assert running.task is not None
        async with asyncio.timeout(5):
            await asyncio.wait([running.task])

    assert (end.code, end.accepted) == (None, True)
    assert running.stopping is ErrorCode.SESSION_LOST
    assert backend.open_connections == 0


async def test_new_capabilities_are_announced_during_the_session(identity: Identity) -> None:
    """Backends come, go and change while a session lasts (field note 26)."""
    async with session(identity) as stage:
        peer = ScriptedCoordinator(stage.peer)
        await peer.welcome()
        stage.session.announce()

        assert isinstance(await peer.hear(), Capabilities)


async def test_a_drain_request_reaches_the_process(identity: Identity) -> None:
    """The coordinator may ask an agent to leave, and how soon."""
    async with session(identity, ScriptedBackend(b"x")) as stage:
        peer = ScriptedCoordinator(stage.peer)
        await peer.welcome()
        await peer.say(Drain(reason="maintenance", deadline_ms=1500))
        await peer.dispatch("j")
        await peer.answer("j")

    assert stage.drains == [1.5]


async def test_leaving_closes_cleanly_after_what_waits(identity: Identity) -> None:
    """The last frames leave before the goodbye, and the goodbye is 1000."""
    async with session(identity, ScriptedBackend(b"x")) as stage:
        peer = ScriptedCoordinator(stage.peer)
        await peer.welcome()
        await peer.dispatch("j")
        await peer.answer("j")
        await stage.session.leave()
        end = await stage.end()

    assert (end.code, end.by_us) == (1000, True)


@pytest.mark.parametrize(("asked_ms", "interval_s"), [(2500, 2.5), (1, 1.0)])
async def test_heartbeats_come_at_the_interval_that_the_coordinator_asks_for(
    identity: Identity, asked_ms: int, interval_s: float
) -> None:
    """But not faster than once a second: no coordinator can make the agent spin."""
    intervals: list[float] = []

    async def beat_once(post: Callable[[Frame], None], interval_s: float) -> None:
        intervals.append(interval_s)
        post(Heartbeat(queue_depth=0))
        await asyncio.Event().wait()

    async with session(identity, beat=beat_once) as stage:
        peer = ScriptedCoordinator(stage.peer)
        await peer.welcome(heartbeat_interval_ms=asked_ms)
        await peer.until(Heartbeat)

    assert intervals == [interval_s]


async def test_a_cancel_for_nothing_is_answered(identity: Identity) -> None:
    """I6: protocol 3 says that there is no such job."""
    async with session(identity) as stage:
        peer = ScriptedCoordinator(stage.peer)
        await peer.welcome()
        await peer.cancel("ghost")
        outcome = await peer.expect(JobError)

    assert outcome.error_code == "unknown_job"


async def test_a_defect_ends_the_session_and_not_the_process(identity: Identity) -> None:
    """It is told in full, to us; the coordinator learns that it is not its fault (field note 7)."""
    log = LogLines()

    async def broken(_post: Callable[[Frame], None], _interval_s: float) -> None:
        raise ZeroDivisionError

    async with session(identity, beat=broken) as stage:
        peer = ScriptedCoordinator(stage.peer)
        await peer.welcome()
        end = await stage.end()

    assert (end.code, end.by_us, end.accepted) == (PROTOCOL_ERROR, True, True)
    assert "a defect in the agent" in end.reason
    (entry,) = log.named("session_crashed")
    assert "ZeroDivisionError" in json.dumps(entry)


@pytest.mark.parametrize("binary", [True, False])
async def test_chunks_travel_in_the_form_that_the_coordinator_asked_for(
    identity: Identity, binary: bool
) -> None:
    """Binary where both know it, else JSON (protocol.md 6)."""
    async with session(identity, ScriptedBackend(b"Hello")) as stage:
        peer = ScriptedCoordinator(stage.peer)
        await peer.challenge()
        await peer.accept(binary=binary)
        await peer.dispatch("j", stream_id=7)
        answer = await peer.answer("j")
        sent = stage.host.sockets[0].sent

    assert answer.data == b"Hello"
    assert any(message.startswith(b"\x01") for message in sent) is binary


async def test_the_draining_heartbeat_waits_for_the_handshake(identity: Identity) -> None:
    """Before it there is nobody to tell; after it, it is told at once."""
    async with session(identity) as stage:
        stage.session.tell(Heartbeat(queue_depth=0, draining=True))
        peer = ScriptedCoordinator(stage.peer)
        await peer.welcome()
        stage.session.tell(Heartbeat(queue_depth=1, draining=True))

        assert (await peer.until(Heartbeat)).queue_depth == 1
