"""The whole agent in one process: a real socket to a scripted coordinator, real HTTP to a scripted engine."""

import asyncio
import sys
from contextlib import suppress
from pathlib import Path

from provider_agent.agent.app import Agent
from provider_agent.agent.config import load
from provider_agent.agent.identity import Identity
from provider_agent.agent.session import Credentials
from provider_agent.backends.discovery import Catalog, CatalogEntry
from provider_agent.protocol.frames import AuthFailed, Capabilities, Heartbeat
from provider_agent.transport.socket import ChannelClosed
from tests.fakes.backends import ScriptedBackend
from tests.fakes.engine import FakeEngine, chat_chunk, json_answer, sse, whole_chat
from tests.fakes.peers import ScriptedCoordinator
from tests.fakes.running import Process, UnwatchedProcess, agent, with_models


async def first_bytes(peer: ScriptedCoordinator) -> None:
    """Dispatch a job, and wait until its answer has begun."""
    await peer.dispatch("j", "tiny", {"messages": [], "stream": True})
    while not peer.answers.get("j") or not peer.answers["j"].chunks:
        await peer.hear()


async def test_an_agent_finds_its_engine_serves_a_job_and_leaves_when_told(tmp_path: Path) -> None:
    """The ordinary case, from start to exit code 0."""
    answers: list[bytes] = []
    async with FakeEngine() as engine:
        engine.will_answer(whole_chat())
        process: Process

        async def play(peer: ScriptedCoordinator) -> None:
            await with_models(peer)
            await peer.dispatch("j", "tiny", {"model": "tiny", "messages": [], "stream": True})
            answers.append((await peer.answer("j")).data)
            process.stop.set()

        async with agent(tmp_path, play, engine) as process:
            pass

    assert process.exit_code == 0
    assert b"Hel" in answers[0]
    assert b"[DONE]" in answers[0]
    assert [name for name in ("connected", "job", "draining", "stopped") if name in process.names] == [
        "connected",
        "job",
        "draining",
        "stopped",
    ]


async def test_whoever_watches_cannot_disturb_what_it_watches(tmp_path: Path) -> None:
    """Each job still has its outcome and frees its slot, and the agent leaves as it should."""
    process = UnwatchedProcess()
    async with FakeEngine() as engine:
        engine.will_answer(whole_chat(), whole_chat())

        async def play(peer: ScriptedCoordinator) -> None:
            await with_models(peer)
            for job_id in ("j1", "j2"):
                await peer.dispatch(job_id, "tiny", {"messages": [], "stream": True})
                await peer.answer(job_id)
            process.stop.set()
            while not (beat := await peer.until(Heartbeat)).draining:
                pass
            assert beat.active_jobs == 0

        async with agent(tmp_path, play, engine, process=process):
            pass

    assert process.exit_code == 0
    assert process.names.count("job") == 2
    assert process.names[-1] == "stopped"


async def test_a_running_job_is_finished_before_the_agent_leaves(tmp_path: Path) -> None:
    """A deploy drains and never drops; the coordinator is told at once (field notes 44, 46)."""
    gate = asyncio.Event()
    drained: list[Heartbeat] = []
    answers: list[bytes] = []
    async with FakeEngine() as engine:
        engine.will_answer(sse(chat_chunk("Hel"), gate, chat_chunk("lo", "stop"), b"data: [DONE]\n\n"))
        process: Process

        async def play(peer: ScriptedCoordinator) -> None:
            await with_models(peer)
            await first_bytes(peer)
            process.stop.set()
            while not (beat := await peer.until(Heartbeat)).draining:
                pass
            drained.append(beat)
            gate.set()
            answers.append((await peer.answer("j")).data)

        async with agent(tmp_path, play, engine) as process:
            pass

    assert (drained[0].free_slots, drained[0].active_jobs) == (0, 1)
    assert b"lo" in answers[0]
    assert process.exit_code == 0


async def test_an_idle_agent_says_that_it_is_leaving_before_it_does(tmp_path: Path) -> None:
    """No job is sent to it in its last moment (field notes 44, 46)."""
    said: list[Heartbeat] = []
    process: Process

    async def play(peer: ScriptedCoordinator) -> None:
        await peer.welcome()
        process.stop.set()
        with suppress(ChannelClosed):
            while True:
                said.append(await peer.until(Heartbeat))

    async with agent(tmp_path, play) as process:
        pass

    assert (said[-1].draining, said[-1].free_slots) == (True, 0)
    assert process.exit_code == 0


async def test_an_answer_goes_on_over_the_next_connection(tmp_path: Path) -> None:
    """The line breaks in the middle: the agent is back, and every byte comes once (field notes 10, 47)."""
    gate = asyncio.Event()
    sessions: list[ScriptedCoordinator] = []
    async with FakeEngine() as engine:
        engine.will_answer(sse(chat_chunk("Hel"), gate, chat_chunk("lo", "stop"), b"data: [DONE]\n\n"))
        process: Process

        async def play(peer: ScriptedCoordinator) -> None:
            sessions.append(peer)
            if len(sessions) == 1:
                await with_models(peer, resume_window_ms=60_000)
                await first_bytes(peer)
                await peer.close(4008, "no heartbeat")
                return
            peer.answers = sessions[0].answers
            await peer.welcome_back()
            gate.set()
            await peer.answer("j")
            process.stop.set()

        async with agent(tmp_path, play, engine) as process:
            pass

    answer = sessions[0].answers["j"]
    assert answer.data.count(b"Hel") == answer.data.count(b"lo") == answer.data.count(b"[DONE]") == 1
    assert answer.done.bytes == len(answer.data)
    assert len(engine.posts) == 1
    assert (process.exit_code, process.names.count("connected")) == (0, 2)


async def test_an_agent_that_is_told_to_leave_while_it_has_no_session_finishes_its_jobs(
    tmp_path: Path,
) -> None:
    """It comes back for them within its time to leave, and takes no new ones (field note 44)."""
    gate = asyncio.Event()
    sessions: list[ScriptedCoordinator] = []
    codes: list[str] = []
    async with FakeEngine() as engine:
        engine.will_answer(sse(chat_chunk("Hel"), gate, chat_chunk("lo", "stop"), b"data: [DONE]\n\n"))
        process: Process

        async def play(peer: ScriptedCoordinator) -> None:
            sessions.append(peer)
            if len(sessions) == 1:
                await with_models(peer, resume_window_ms=60_000)
                await first_bytes(peer)
                process.stop.set()
                await peer.close(4008, "no heartbeat")
                return
            peer.answers = sessions[0].answers
            await peer.welcome_back()
            await peer.dispatch("late", "tiny")
            codes.append((await peer.answer("late")).error.error_code)
            gate.set()
            await peer.answer("j")

        async with agent(tmp_path, play, engine) as process:
            pass

    assert codes == ["draining"]
    assert b"lo" in sessions[0].answers["j"].data
    assert process.exit_code == 0


async def test_the_process_of_an_agent_does_without_the_coordinators_libraries() -> None:
    """They would double its memory, and no part of it uses them."""
    script = "import sys, provider_agent.agent.app; print(*sorted(sys.modules))"
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", script, stdout=asyncio.subprocess.PIPE
    )
    out, _ = await process.communicate()

    assert {"aiohttp", "sqlalchemy", "alembic"} & set(out.decode().split()) == set()


async def test_a_rejected_agent_stops_for_good(tmp_path: Path) -> None:
    """Only the operator can help: exit code 78, no login loop (field note 39)."""

    async def play(peer: ScriptedCoordinator) -> None:
        await peer.challenge()
        await peer.say(AuthFailed(reason="no such agent", code="unknown_identity", retry=False))

    async with agent(tmp_path, play) as process:
        pass

    assert process.exit_code == 78


async def test_a_replaced_agent_says_so_and_stops(tmp_path: Path) -> None:
    """Two agents with one identity do not fight: exit code 75."""

    async def play(peer: ScriptedCoordinator) -> None:
        await peer.welcome()
        await peer.close(4002, "replaced by a newer connection of this identity")

    async with agent(tmp_path, play) as process:
        pass

    assert process.exit_code == 75


async def test_the_provider_id_is_remembered(tmp_path: Path) -> None:
    """The next start needs no enrolment code."""
    process: Process

    async def play(peer: ScriptedCoordinator) -> None:
        await peer.welcome("prov-77")
        process.stop.set()

    async with agent(tmp_path, play) as process:
        pass

    remembered = [path.read_text() for path in (tmp_path / "identity").iterdir() if path.suffix == ".json"]
    assert any("prov-77" in text for text in remembered)


async def test_an_agent_whose_coordinator_lost_its_data_enrols_again(tmp_path: Path) -> None:
    """With a code at hand nobody has to start it anew: the next dial brings the code."""
    codes: list[str | None] = []
    process: Process

    async def enrol(peer: ScriptedCoordinator) -> None:
        codes.append((await peer.challenge()).enrollment_code)
        await peer.accept("prov-1")
        process.stop.set()

    async def forget_once(peer: ScriptedCoordinator) -> None:
        codes.append((await peer.challenge()).enrollment_code)
        if codes[-1] is None:
            await peer.say(AuthFailed(reason="no such agent", code="unknown_identity", retry=False))
        else:
            await peer.accept("prov-2")
            process.stop.set()

    for play in (enrol, forget_once):
        async with agent(tmp_path, play, COORDINATOR__ENROLLMENT_CODE="code") as process:
            pass
        assert process.exit_code == 0

    assert codes == ["code", None, "code"]


async def test_an_agent_that_is_unknown_and_has_no_code_stops_and_can_be_enrolled_later(
    tmp_path: Path,
) -> None:
    """Exit 78 with a remedy that works: its next start uses the code that the operator has set."""
    codes: list[str | None] = []
    process: Process

    async def enrol(peer: ScriptedCoordinator) -> None:
        codes.append((await peer.challenge()).enrollment_code)
        await peer.accept("prov-1")
        process.stop.set()

    async def forget(peer: ScriptedCoordinator) -> None:
        codes.append((await peer.challenge()).enrollment_code)
        await peer.say(AuthFailed(reason="no such agent", code="unknown_identity", retry=False))

    async with agent(tmp_path, enrol, COORDINATOR__ENROLLMENT_CODE="code") as process:
        pass
    async with agent(tmp_path, forget) as process:
        pass
    assert process.exit_code == 78
    async with agent(tmp_path, enrol, COORDINATOR__ENROLLMENT_CODE="code") as process:
        pass

    assert codes == ["code", None, "code"]


async def test_the_handshake_does_not_wait_for_the_engines(tmp_path: Path) -> None:
    """Whoever still looks for engines reads and answers all the same (field note 27)."""
    gate = asyncio.Event()
    offers: list[tuple[str, ...]] = []
    process: Process

    async def play(peer: ScriptedCoordinator) -> None:
        first = await peer.welcome()
        await peer.dispatch("early", "tiny")
        refused = await peer.answer("early")
        gate.set()
        later = await peer.until(Capabilities)
        offers.extend(tuple(model.model_id for model in each.models) for each in (first, later))
        assert refused.error.error_code == "model_not_loaded"
        process.stop.set()

    async with FakeEngine() as engine:
        listing = json_answer({"object": "list", "data": [{"id": "tiny"}]}, before_headers=gate)
        engine.pages["/v1/models"] = listing
        async with agent(tmp_path, play, engine) as process:
            pass

    assert offers == [(), ("tiny",)]


async def test_an_agent_without_any_engine_stays_connected(tmp_path: Path) -> None:
    """An empty list of models is legal; an engine may be started later (field note 26)."""
    process: Process
    offers: list[Capabilities] = []

    async def play(peer: ScriptedCoordinator) -> None:
        offers.append(await peer.welcome())
        process.stop.set()

    async with agent(tmp_path, play) as process:
        pass

    assert offers[0].models == ()
    assert "ready" not in process.names
    assert process.exit_code == 0


async def test_a_catalog_that_offers_the_same_is_not_announced_again(tmp_path: Path) -> None:
    """An engine that hiccups changes the catalog and not the offer."""
    environ = {"PROVIDER_AGENT__COORDINATOR__URL": "ws://127.0.0.1:1/"}
    credentials = Credentials(Identity.load_or_create(tmp_path / "key.pem"), "127.0.0.1")
    process = Process()
    idle = Agent(load(None, environ), credentials, on_event=process.note)
    backend = ScriptedBackend()
    for healthy in (True, False, True):
        idle.use(Catalog((CatalogEntry(backend, backend.models, healthy=healthy),)))

    assert process.names == ["models"]
