"""What the operator settles reaches the part that keeps it, through the whole agent."""

import asyncio
import ssl
from pathlib import Path
from typing import Any

import pytest
import trustme

from provider_agent.protocol.frames import Capabilities, Drain, Heartbeat, JobChunk, JobError, Limits, Scheme
from provider_agent.protocol.vitals import HardwarePressure
from provider_agent.transport.channel import ChannelClosed
from tests.fakes.engine import Act, Answer, FakeEngine, chat_chunk, json_answer, sse, whole_chat
from tests.fakes.peers import ScriptedCoordinator
from tests.fakes.running import Process, agent, with_models


async def test_what_the_operator_says_of_models_is_what_is_offered_and_run(tmp_path: Path) -> None:
    """Exposed, hidden, renamed, priced: in the offer, and when a job asks for it (field note 24)."""
    offers: list[Capabilities] = []
    codes: list[str] = []
    async with FakeEngine(models=("tiny", "tiny-base", "other")) as engine:
        process: Process

        async def play(peer: ScriptedCoordinator) -> None:
            offers.append(await with_models(peer))
            for model in ("tiny-base", "other"):
                await peer.dispatch(model, model)
                codes.append((await peer.answer(model)).error.error_code)
            await peer.dispatch("j", "small")
            codes.append(type((await peer.answer("j")).outcome).__name__)
            process.stop.set()

        async with agent(
            tmp_path,
            play,
            engine,
            MODELS__EXPOSE="tiny*, small",
            MODELS__HIDE="*-base",
            MODELS__ALIASES="small=tiny",
            PRICING__DEFAULT_INPUT_PER_1M="5",
            PRICING__DEFAULT_OUTPUT_PER_1M="7",
        ) as process:
            pass

    assert [(m.model_id, m.input_per_1m, m.output_per_1m) for m in offers[0].models] == [
        ("small", 5, 7),
        ("tiny", 5, 7),
    ]
    assert codes == ["model_not_loaded", "model_not_loaded", "JobDone"]
    assert [post.json()["model"] for post in engine.posts] == ["tiny"]


async def test_what_the_operator_allows_is_told_and_kept(tmp_path: Path) -> None:
    """Jobs at once, their size, the length and the price in tokens of their answers."""
    gate = asyncio.Event()
    told: list[Limits] = []
    codes: dict[str, str] = {}
    async with FakeEngine() as engine:
        engine.will_answer(sse(gate, *whole_chat().steps))
        process: Process

        async def play(peer: ScriptedCoordinator) -> None:
            told.append((await with_models(peer)).limits)
            await peer.dispatch("first", "tiny", {"messages": [], "stream": True})
            await peer.dispatch("second", "tiny")
            await peer.dispatch("big", "tiny", {"prompt": "x" * 2000})
            for job_id in ("second", "big"):
                codes[job_id] = (await peer.answer(job_id)).error.error_code
            gate.set()
            assert (await peer.answer("first")).done.tokens.output == 2
            await peer.dispatch("third", "tiny")
            codes["third"] = (await peer.answer("third")).error.error_code
            process.stop.set()

        async with agent(
            tmp_path,
            play,
            engine,
            LIMITS__MAX_CONCURRENT="1",
            LIMITS__MAX_JOB_BYTES="1024",
            LIMITS__MAX_TOKENS_PER_MINUTE="5",
            LIMITS__MAX_OUTPUT_TOKENS="99",
        ) as process:
            pass

    assert told == [Limits(max_concurrent_total=1, max_tokens_per_minute=5, max_job_bytes=1024)]
    assert codes == {"second": "out_of_capacity", "big": "request_too_large", "third": "rate_limited"}
    assert [post.json()["max_tokens"] for post in engine.posts] == [99]


@pytest.mark.parametrize(("allowed", "requests"), [("false", 0), ("true", 1)])
async def test_an_engine_fetches_a_picture_only_where_the_operator_says_so(
    tmp_path: Path, allowed: str, requests: int
) -> None:
    """By default the request never reaches it, and the client reads what to do instead."""
    outcomes: list[object] = []
    picture = {"type": "image_url", "image_url": {"url": "http://10.0.0.1/x.png"}}
    request = {"messages": [{"role": "user", "content": [picture]}], "stream": True}
    async with FakeEngine() as engine:
        engine.will_answer(whole_chat())
        process: Process

        async def play(peer: ScriptedCoordinator) -> None:
            await with_models(peer)
            await peer.dispatch("j", "tiny", request)
            outcomes.append((await peer.answer("j")).outcome)
            process.stop.set()

        async with agent(tmp_path, play, engine, LIMITS__ALLOW_REMOTE_MEDIA=allowed) as process:
            pass

    assert len(engine.posts) == requests
    assert isinstance(outcomes[0], JobError) is (allowed == "false")
    if isinstance(outcomes[0], JobError):
        assert outcomes[0].error_code == "bad_request"
        assert "as a data URL" in outcomes[0].message


@pytest.mark.parametrize(
    ("setting", "script", "code"),
    [
        ("LIMITS__FIRST_BYTE_TIMEOUT_S", sse(before_headers=Act.SILENCE), "first_byte_timeout"),
        ("LIMITS__IDLE_TIMEOUT_S", sse(chat_chunk("a"), Act.SILENCE), "idle_timeout"),
    ],
)
async def test_an_engine_that_hangs_is_left_when_the_operator_says(
    tmp_path: Path, setting: str, script: Answer, code: str
) -> None:
    """Before its first byte, and in the middle (field note 17)."""
    codes: list[str] = []
    async with FakeEngine() as engine:
        engine.will_answer(script)
        process: Process

        async def play(peer: ScriptedCoordinator) -> None:
            await with_models(peer)
            await peer.dispatch("j", "tiny", {"messages": [], "stream": True})
            codes.append((await peer.answer("j")).error.error_code)
            process.stop.set()

        brief: dict[str, Any] = {setting: "0.1"}
        async with agent(tmp_path, play, engine, **brief) as process:
            pass

    assert codes == [code]


async def test_an_engine_that_a_job_finds_dead_is_not_offered_any_more(tmp_path: Path) -> None:
    """The next offer is without it, long before the next look (field note 25)."""
    offers: list[Capabilities] = []
    codes: list[str] = []
    async with FakeEngine() as engine:
        process: Process

        async def play(peer: ScriptedCoordinator) -> None:
            await with_models(peer)
            await engine.stop()
            await peer.dispatch("j", "tiny")
            offers.append(await peer.until(Capabilities))
            codes.append((await peer.answer("j")).error.error_code)
            process.stop.set()

        async with agent(tmp_path, play, engine) as process:
            pass

    assert codes == ["backend_unreachable"]
    assert offers[0].models == ()


@pytest.mark.parametrize("allowed", ["true", "false"])
async def test_the_unbound_signature_is_given_only_with_the_operators_consent(
    tmp_path: Path, allowed: str
) -> None:
    """Without it, the coordinator hears why, and nothing that it could relay (field note 42)."""
    answers: list[str] = []
    process: Process

    async def play(peer: ScriptedCoordinator) -> None:
        try:
            answers.append((await peer.challenge((Scheme.LEGACY,))).scheme)
        except ChannelClosed as closed:
            answers.append(f"{closed.code}: {closed.reason}")
        process.stop.set()

    async with agent(tmp_path, play, COORDINATOR__ALLOW_LEGACY_AUTH=allowed) as process:
        pass

    assert answers[0].startswith("ed25519" if allowed == "true" else "4003: ")
    assert ("signature" in answers[0]) == (allowed == "false")


@pytest.mark.parametrize("allowed", ["true", "false"])
async def test_hardware_is_told_only_with_the_operators_consent(tmp_path: Path, allowed: str) -> None:
    """Without it, heartbeats do not even have the field (field note 45)."""
    beats: list[Heartbeat] = []
    process: Process

    async def play(peer: ScriptedCoordinator) -> None:
        await peer.welcome()
        beats.append(await peer.until(Heartbeat))
        process.stop.set()

    async with agent(tmp_path, play, TELEMETRY__HARDWARE=allowed) as process:
        pass

    assert isinstance(beats[0].hardware_pressure, HardwarePressure) == (allowed == "true")


async def test_a_coordinator_with_the_operators_own_certificate_is_trusted(tmp_path: Path) -> None:
    """The name of the file reaches the dial."""
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(server)
    process: Process

    async def play(peer: ScriptedCoordinator) -> None:
        await peer.welcome()
        process.stop.set()

    async with agent(tmp_path, play, tls=server, COORDINATOR__CA_FILE=str(tmp_path / "ca.pem")) as process:
        pass

    assert "connected" in process.names


async def test_the_coordinator_may_shorten_the_time_to_leave(tmp_path: Path) -> None:
    """Its deadline goes before a longer grace; what cannot end in time is told (field note 44)."""
    codes: list[str] = []
    async with FakeEngine() as engine:
        engine.will_answer(sse(chat_chunk("a"), Act.SILENCE))

        async def play(peer: ScriptedCoordinator) -> None:
            await with_models(peer)
            await peer.dispatch("j", "tiny", {"messages": [], "stream": True})
            await peer.until(JobChunk)
            await peer.say(Drain(reason="maintenance", deadline_ms=50))
            codes.append((await peer.answer("j")).error.error_code)

        async with agent(tmp_path, play, engine, LIMITS__SHUTDOWN_GRACE_S="3600") as process:
            pass

    assert (codes, process.exit_code) == (["agent_shutdown"], 0)


async def test_what_is_the_clients_doing_does_not_make_the_agent_look_bad(tmp_path: Path) -> None:
    """Refused requests and cancels are no failures of this agent; an engine's failure is (field note 45)."""
    beats: list[Heartbeat] = []
    async with FakeEngine() as engine:
        engine.will_answer(
            json_answer({"error": "x"}, 400),
            sse(chat_chunk("a"), Act.SILENCE),
            json_answer({"error": "x"}, 500),
        )
        process: Process

        async def play(peer: ScriptedCoordinator) -> None:
            models = (await peer.welcome(heartbeat_interval_ms=20)).models
            while not models:
                models = (await peer.expect(Capabilities)).models
            await peer.dispatch("bad", "tiny")
            await peer.answer("bad")
            await peer.dispatch("left", "tiny", {"messages": [], "stream": True})
            await peer.until(JobChunk)
            await peer.cancel("left")
            await peer.answer("left")
            await peer.dispatch("broken", "tiny")
            await peer.answer("broken")
            while not (beat := await peer.until(Heartbeat)).recent_failures:
                pass
            beats.append(beat)
            process.stop.set()

        async with agent(tmp_path, play, engine) as process:
            pass

    assert [failure.code for failure in beats[0].recent_failures] == ["backend_error"]
    assert beats[0].error_rate_60s == 1.0
