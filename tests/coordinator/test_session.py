"""One agent's conversation: it gets in or not, its frames arrive, and its end has a reason."""

import asyncio
from dataclasses import replace

import pytest

from provider_agent.coordinator import events
from provider_agent.coordinator.answer import DONE
from provider_agent.coordinator.dispatcher import DispatchLimits
from provider_agent.coordinator.enrollment import Accepted, Rejected
from provider_agent.coordinator.jobs import JobRequest
from provider_agent.coordinator.session import MAX_BAD_FRAMES
from provider_agent.coordinator.store.base import StoreError
from provider_agent.protocol.frames import (
    AuthChallenge,
    AuthFailed,
    AuthOk,
    Job,
    JobCancel,
    Resumed,
    ResumedJob,
    ResumeJob,
)
from provider_agent.transport.channel import ChannelClosed
from tests.fakes.agents import CHAT
from tests.fakes.coordinators import PATIENT, Hall, ScriptedEnrollment, hall, until
from tests.fakes.logs import LogLines
from tests.fakes.peers import RawPeer, ScriptedAgent
from tests.fakes.sockets import MemorySocket, StuckSocket

REQUEST = JobRequest("m", CHAT, b'{"model":"m"}', stream=True)


OFFER_2 = {"model_id": "m", "input_per_1m": 0, "output_per_1m": 0, "max_concurrent": 2, "backend": "ollama"}
LIMITS_2 = {"max_concurrent_total": 2, "max_tokens_per_minute": None}
TOKENS_2 = {"input": 1, "output": 2, "input_tokens": 1, "output_tokens": 2}


def verdict(provider_id: str) -> Accepted:
    return Accepted(provider_id)


async def close_of(peer: ScriptedAgent | RawPeer) -> tuple[int | None, str]:
    """How the coordinator closes, past all it still says."""
    while True:
        try:
            await peer.hear()
        except ChannelClosed as closed:
            return closed.code, closed.reason


# --- the ordinary case -------------------------------------------------------------------


async def test_an_agent_gets_in_and_serves_a_job() -> None:
    """From the challenge to the outcome."""
    async with hall() as it:
        agent = await it.agent("m")
        with it.dispatcher.run(REQUEST) as answer:
            await agent.serve(b"data: 1\n\n")

            assert await answer.read() == b"data: 1\n\n"
            assert await answer.read() == DONE

    assert {"scripted"} == {event.agent for event in it.events if isinstance(event, events.JobEnded)}


async def test_the_agent_is_told_what_it_needs_to_know() -> None:
    """Protocol, session and how often to report."""
    async with hall(times=replace(PATIENT, heartbeat_interval_ms=7000)) as it:
        agent = ScriptedAgent(it.connect())

        accepted = await agent.join("m")

    challenge = agent.heard[0]
    assert isinstance(challenge, AuthChallenge)
    assert (challenge.protocol, challenge.schemes) == (3, ("ed25519-bound",))
    assert (accepted.protocol, accepted.heartbeat_interval_ms) == (3, 7000)
    assert accepted.session_id


async def test_a_protocol_2_agent_is_served_with_the_fields_it_knows() -> None:
    """It sees no frame and no field of protocol 3."""
    async with hall(enrollment=ScriptedEnrollment(verdict("p-1"))) as it:
        peer = RawPeer(it.connect())
        await peer.hear()
        await peer.say(type="auth_response", pubkey="", signature="", agent_version="0.3.1")
        assert await peer.hear() == {"type": "auth_ok", "provider_id": "p-1"}
        await peer.say(
            type="capabilities", models=[OFFER_2], limits=LIMITS_2, metadata={"agent_version": "0.3.1"}
        )
        await until(lambda: "m" in it.dispatcher.fleet.models)

        with it.dispatcher.run(REQUEST) as answer:
            job = await peer.hear()
            await peer.say(type="job_chunk", job_id=job["job_id"], data="aGk=")
            await peer.say(type="job_done", job_id=job["job_id"], tokens=TOKENS_2, duration_ms=5)
            assert await answer.read() == b"hi"
            assert await answer.read() == DONE
        with it.dispatcher.run(REQUEST):
            second = await peer.hear()
        cancel = await peer.hear()

    assert {"type", "job_id", "model_id", "request", "deadline_ms"} == set(job)
    assert {"type": "job_cancel", "job_id": second["job_id"]} == cancel


# --- who does not get in -----------------------------------------------------------------


@pytest.mark.parametrize(("retry", "code"), [(False, 4001), (True, 1008)])
async def test_a_rejected_agent_is_told_why_and_closed(retry: bool, code: int) -> None:
    """The reason comes before the close, and both say whether to try again (field note 39)."""
    rejected = Rejected("revoked", "your key was revoked", retry=retry, retry_after_ms=5000)
    async with hall(enrollment=ScriptedEnrollment(rejected)) as it:
        agent = ScriptedAgent(it.connect())
        await agent.respond()

        failed = await agent.expect(AuthFailed)

        assert ("revoked", retry, 5000) == (failed.code, failed.retry, failed.retry_after_ms)
        assert (code, "your key was revoked") == await close_of(agent)
    assert [events.HandshakeEnded("revoked")] == it.events


async def test_a_store_that_cannot_be_asked_sends_agents_away_for_a_while() -> None:
    """It is no fault of theirs."""
    async with hall(enrollment=ScriptedEnrollment(StoreError("the disk is full"))) as it:
        agent = ScriptedAgent(it.connect())
        await agent.respond()

        assert await close_of(agent) == (1013, "the coordinator cannot look up identities now")


async def test_an_agent_that_does_not_answer_is_closed() -> None:
    """Each step of the handshake has a limit (field note 37)."""
    async with hall(times=replace(PATIENT, step_timeout_s=0.01)) as it:
        agent = ScriptedAgent(it.connect())

        assert await close_of(agent) == (4003, "the answer to the challenge took too long")
    assert [events.HandshakeEnded("timeout")] == it.events


async def test_a_verdict_that_takes_too_long_ends_the_handshake() -> None:
    """The limit is for our own steps, too."""
    async with hall(enrollment=ScriptedEnrollment(None), times=replace(PATIENT, step_timeout_s=0.2)) as it:
        agent = ScriptedAgent(it.connect())
        await agent.respond()

        assert (await close_of(agent))[0] == 4003


async def test_an_agent_that_sends_no_capabilities_is_closed() -> None:
    """A heartbeat does not stand in for them."""
    async with hall(times=replace(PATIENT, step_timeout_s=0.2)) as it:
        agent = ScriptedAgent(it.connect())
        await agent.respond()
        await agent.hear()
        await agent.heartbeat()

        assert await close_of(agent) == (4003, "the capabilities took too long")
        await it.sessions[0][1]
        assert is_away(it)  # our welcome may have been lost on the way


async def test_a_connection_that_breaks_in_the_handshake_leaves_nothing() -> None:
    """As port scanners do."""
    async with hall() as it:
        it.connect().drop()
        await it.sessions[0][1]

    assert [events.HandshakeEnded("lost")] == it.events
    assert it.dispatcher.fleet.providers == ()


# --- out of turn, and out of form --------------------------------------------------------


async def test_a_frame_out_of_turn_ends_the_session_with_the_reason() -> None:
    """Whose fault it is can be read at the other end."""
    async with hall() as it:
        peer = RawPeer(it.connect())
        await peer.hear()
        await peer.say(type="heartbeat", queue_depth=0)

        assert (await close_of(peer)) == (
            4003,
            "the agent may not send heartbeat while an answer to the challenge is due",
        )


async def test_a_frame_out_of_turn_ends_a_session_that_is_in() -> None:
    """The same rule for the whole conversation."""
    async with hall() as it:
        agent = await it.agent()
        peer = RawPeer(agent.socket)
        await peer.say(type="auth_response", pubkey="", signature="", agent_version="1")

        assert await close_of(peer) == (4003, "the agent may not send auth_response while jobs are served")


async def test_an_answer_to_the_challenge_that_cannot_be_read_is_named() -> None:
    """Field and reason, never the value."""
    async with hall() as it:
        peer = RawPeer(it.connect())
        await peer.hear()
        await peer.say(type="auth_response", signature="", agent_version="1")

        assert await close_of(peer) == (4003, "auth_response.pubkey: is missing")


async def test_a_message_that_is_no_frame_at_all_ends_the_session() -> None:
    """Whoever sends that speaks another protocol."""
    async with hall() as it:
        agent = await it.agent()
        agent.socket.send(b"GET / HTTP/1.1")
        agent.socket.flush()

        assert (await close_of(agent))[0] == 4003


async def test_a_bad_frame_costs_its_own_job_and_no_other() -> None:
    """Not the session, and not what else runs on it (field notes 19, 64)."""
    async with hall() as it:
        agent = await it.agent()
        raw = RawPeer(agent.socket)
        with it.dispatcher.run(REQUEST) as struck, it.dispatcher.run(REQUEST) as spared:
            first, second = await agent.expect(Job), await agent.expect(Job)
            await raw.say(type="job_chunk", job_id=first.job_id, data="?")
            await raw.say(type="heartbeat", queue_depth="many")
            await raw.say(type="capabilities", models=7)
            await agent.chunk(second.job_id, b"fine")

            assert first.job_id == (await agent.until(JobCancel)).job_id
            assert await spared.read() == b"fine"
            assert getattr(await struck.read(), "code", "") == "internal"


async def test_the_first_capabilities_must_be_readable() -> None:
    """Without them the session is of no use."""
    async with hall() as it:
        agent = ScriptedAgent(it.connect())
        await agent.respond()
        await agent.hear()
        await RawPeer(agent.socket).say(type="capabilities", models=7)

        code, reason = await close_of(agent)
    assert code == 4003
    assert reason.startswith("capabilities.models: ")


async def test_a_model_that_breaks_the_rules_costs_neither_the_session_nor_the_other_models() -> None:
    """An engine may list anything; the agent is told which entry was not taken, and why."""
    async with hall() as it:
        agent = ScriptedAgent(it.connect())
        await agent.respond()
        await agent.expect(AuthOk)
        peer, bad = RawPeer(agent.socket), {**OFFER_2, "model_id": "big", "context_window": 2**60}
        metadata = {"agent_version": "1"}
        log = LogLines()

        for revision in (1, 2):  # the first capabilities, and later ones
            await peer.say(
                type="capabilities",
                models=[bad, OFFER_2],
                limits=LIMITS_2,
                metadata=metadata,
                revision=revision,
            )
            assert await peer.hear() == {
                "type": "capabilities_ok",
                "revision": revision,
                "rejected": [
                    {
                        "model_id": "big",
                        "reason": "models[0].context_window: Expected `int` <= 9007199254740992",
                    }
                ],
            }

        assert list(it.dispatcher.fleet.models) == ["m"]
    assert [entry["count"] for entry in log.named("models_rejected")] == [1, 1]


async def test_a_peer_that_sends_nothing_but_bad_frames_is_closed() -> None:
    """Each one costs a line in the log."""
    async with hall() as it:
        agent = await it.agent()
        for _ in range(MAX_BAD_FRAMES + 1):
            agent.socket.send(b'{"type":"heartbeat"}')
        agent.socket.flush()

        assert await close_of(agent) == (4003, "heartbeat.queue_depth: is missing")


async def test_a_frame_of_an_unknown_type_is_ignored() -> None:
    """A newer agent may say more."""
    async with hall() as it:
        agent = await it.agent()
        await RawPeer(agent.socket).say(type="telepathy")
        with it.dispatcher.run(REQUEST) as answer:
            await agent.serve(b"x")

            assert await answer.read() == b"x"


# --- how it ends -------------------------------------------------------------------------


async def test_three_missed_heartbeats_end_the_session() -> None:
    """And its jobs hear of it."""
    async with hall(times=replace(PATIENT, heartbeat_interval_ms=5)) as it:
        agent = await it.agent()

        assert await close_of(agent) == (4008, "three heartbeats were missed")
        await it.sessions[0][1]
        assert is_away(it)
    assert events.SessionEnded(4008) == it.events[-1]


async def test_a_heartbeat_keeps_the_session() -> None:
    """Each one gives it three intervals from then on."""
    async with hall(times=replace(PATIENT, heartbeat_interval_ms=20_000)) as it:
        agent = await it.agent()
        before_s = left_s(it)

        await agent.heartbeat()
        await until(lambda: it.dispatcher.fleet.providers[0].heartbeat is not None)

        assert 59 < before_s < 60
        assert left_s(it) > before_s


async def test_a_protocol_2_agent_is_given_its_own_interval() -> None:
    """Nobody has told it another one."""
    async with hall(
        enrollment=ScriptedEnrollment(verdict("p-1")), times=replace(PATIENT, heartbeat_interval_ms=1)
    ) as it:
        agent = await it.agent(protocol=2)
        with it.dispatcher.run(REQUEST):
            await agent.expect(Job)
            assert 40 < left_s(it) <= 45


async def test_the_newer_connection_of_an_identity_wins() -> None:
    """The older one is closed with 4002, and told why."""
    async with hall(enrollment=ScriptedEnrollment(verdict("p-1"))) as it:
        older = await it.agent()
        newer = ScriptedAgent(it.connect())
        await newer.join("m")

        assert await close_of(older) == (4002, "replaced by a newer connection of this identity")
        with it.dispatcher.run(REQUEST) as answer:
            await newer.serve(b"x")
            assert await answer.read() == b"x"


async def test_only_the_first_reason_to_end_counts() -> None:
    """What comes later is a consequence."""
    async with hall() as it:
        agent = await it.agent()
        session, _ = it.sessions[0]

        session.end(4001, "revoked")
        session.end(1001, "drain:deploy")

        assert await close_of(agent) == (4001, "revoked")


async def test_a_session_can_be_ended_before_it_begins() -> None:
    """Its task has not had its first step."""
    async with hall() as it:
        socket = it.connect()
        it.sessions[0][0].end(1001, "drain:deploy")

        assert await close_of(RawPeer(socket)) == (1001, "drain:deploy")


async def test_what_was_posted_before_the_end_still_leaves() -> None:
    """A goodbye does not swallow a cancel."""
    async with hall() as it:
        agent = await it.agent()
        with it.dispatcher.run(REQUEST):
            await agent.expect(Job)
        it.sessions[0][0].end(1001, "drain:deploy")

        assert (await agent.expect(JobCancel)).reason == "client_gone"
        assert (await close_of(agent))[0] == 1001


async def test_a_lost_connection_leaves_the_provider_away() -> None:
    """At once, so nothing more is sent there (field note 68)."""
    async with hall() as it:
        agent = await it.agent()
        drop(agent)
        await it.sessions[0][1]

        assert (is_away(it), it.dispatcher.view().agents) == (True, 0)
    assert events.SessionEnded(None) == it.events[-1]


async def test_a_handler_that_is_cancelled_leaves_the_provider_away() -> None:
    """As the server does when the connection breaks under it."""
    async with hall() as it:
        await it.agent()
        _, task = it.sessions[0]
        task.cancel()
        await asyncio.wait([task])

        assert is_away(it)
    assert events.SessionEnded(None) == it.events[-1]


@pytest.mark.parametrize(
    ("code", "comes_back"), [(1000, False), (4001, False), (4003, False), (1001, True), (1006, True)]
)
async def test_an_agent_that_closes_on_purpose_is_not_waited_for(code: int, comes_back: bool) -> None:
    """It has ended its jobs; any other close is the network's, and it comes back to them."""
    async with hall() as it:
        agent = await it.agent()
        await agent.close(code)
        await it.sessions[0][1]

        assert is_away(it) is comes_back
        assert bool(it.dispatcher.fleet.providers) is comes_back


@pytest.mark.parametrize("code", [1001, 4001, 4003])
async def test_an_agent_that_is_sent_away_is_not_waited_for(code: int) -> None:
    """Whatever it has here is over."""
    async with hall() as it:
        await it.agent()
        session, task = it.sessions[0]
        session.end(code, "")
        await task

        assert it.dispatcher.fleet.providers == ()


@pytest.mark.parametrize("code", [1002, 1009, 4003])
async def test_an_agent_that_breaks_the_rules_below_is_not_waited_for(code: int) -> None:
    """What it would send again would be as wrong as before; or it takes nothing of what it is sent."""
    async with hall() as it:
        await it.agent()
        our_end(it).abort(ChannelClosed(code, "", by_us=True))
        await it.sessions[0][1]

        assert it.dispatcher.fleet.providers == ()


async def test_the_jobs_of_an_agent_that_fell_silent_need_not_wait_for_it() -> None:
    """It was waited for already: three heartbeats long, or until the transport gave it up."""
    async with hall() as it:
        await it.agent()
        loop = asyncio.get_running_loop()
        given_up = ChannelClosed(None, "not heard for 10 s", by_us=True)
        our_end(it).abort(given_up)
        await it.sessions[0][1]

        assert is_away(it)
        assert it.dispatcher.fleet.away.popitem()[1].moves_at_s <= loop.time()


# --- resuming ----------------------------------------------------------------------------


async def test_an_answer_goes_on_over_a_new_connection() -> None:
    """Every byte once and in order, whatever was lost on the way (field note 8)."""
    async with hall() as it:
        agent = await it.agent()
        with it.dispatcher.run(REQUEST) as answer:
            job = await agent.expect(Job)
            await agent.start(job)
            await agent.binary_chunk(job, b"one ", b"two ")
            await until(lambda: answer.waiting_bytes == 8)
            drop(agent)
            await it.sessions[0][1]
            agent = agent.again(it.connect())
            accepted = await agent.resume(ResumeJob(job_id=job.job_id, attempt=1, next_seq=3))
            await agent.binary_chunk(job, b"three")
            await agent.done(job.job_id)

            assert accepted.resumed is not None
            assert accepted.resumed.jobs == (ResumedJob(job_id=job.job_id, have_seq=1),)
            assert await answer.ended() == DONE
            assert await answer.read() == b"one two three"
    assert [events.AgentAway, events.AgentBack] == [
        type(event) for event in it.events if isinstance(event, events.AgentAway | events.AgentBack)
    ]


async def test_a_newer_connection_takes_over_the_jobs_of_one_that_only_seems_to_hold() -> None:
    """The agent's address changed; what the older connection still holds is late."""
    async with hall() as it:
        older = await it.agent()
        with it.dispatcher.run(REQUEST) as answer:
            job = await older.expect(Job)
            newer = older.again(it.connect())
            await newer.resume(ResumeJob(job_id=job.job_id, attempt=1, next_seq=0))
            await older.chunk(job.job_id, b"old")
            await newer.chunk(job.job_id, b"new")
            await newer.done(job.job_id)

            assert await close_of(older) == (4002, "replaced by a newer connection of this identity")
            assert await answer.ended() == DONE
            assert await answer.read() == b"new"


async def test_what_was_said_to_the_agent_before_the_break_is_told_in_the_welcome() -> None:
    """A session that nobody knows here has nothing to resume: all its jobs are to be given up."""
    async with hall() as it:
        agent = ScriptedAgent(it.connect())
        agent.session_id = "of a coordinator before"
        accepted = await agent.resume(ResumeJob(job_id="j", attempt=1, next_seq=5))

        assert accepted.resumed == Resumed(jobs=(), unknown=("j",))


async def test_the_agent_is_told_how_long_it_is_waited_for() -> None:
    """And that chunks may come in the binary form."""
    async with hall(DispatchLimits(resume_window_s=2.5)) as it:
        accepted = await ScriptedAgent(it.connect()).join("m")

        assert (accepted.resume_window_ms, accepted.binary, accepted.resumed) == (2500, True, None)


async def test_an_agent_that_stops_reading_does_not_hold_up_the_frames_it_sends() -> None:
    """Reader and writer are two (field note 12)."""
    async with hall() as it:
        ours = StuckSocket(stuck=False)
        agent = ScriptedAgent(it.connect(ours))
        await agent.join("m")
        ours.hold()
        with it.dispatcher.run(REQUEST):
            await ours.stuck.wait()
            await agent.heartbeat(draining=True)
            await until(lambda: it.dispatcher.fleet.providers[0].draining)

        ours.release()
        assert REQUEST.model_id == (await agent.expect(Job)).model_id


def is_away(it: Hall) -> bool:
    return bool(it.dispatcher.fleet.away)


def left_s(it: Hall) -> float:
    """What is left of the first session's patience."""
    patience = it.sessions[0][0]._patience
    assert patience is not None
    return (patience.when() or 0) - asyncio.get_running_loop().time()


def our_end(it: Hall) -> MemorySocket:
    socket = it.sessions[0][0]._channel._socket
    assert isinstance(socket, MemorySocket)
    return socket


def drop(agent: ScriptedAgent) -> None:
    assert isinstance(agent.socket, MemorySocket)
    agent.socket.drop()
