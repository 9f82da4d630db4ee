"""Real sockets on loopback: what reaches the engine, and when its connection ends."""

import asyncio
import json
import resource
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Any

import pytest

from provider_agent.backends.base import (
    AuthRejected,
    BackendError,
    BackendFailed,
    BackendLoading,
    BackendUnreachable,
    BadRequest,
    Call,
    FirstByteTimeout,
    IdleTimeout,
    OutOfSockets,
    RateLimited,
    StreamFailed,
    StreamTruncated,
    Usage,
)
from provider_agent.backends.http import MAX_PAGE_VALUES, EngineHttp, Page
from provider_agent.protocol.errors import ErrorCode
from provider_agent.protocol.frames import MOST_MODELS
from tests.fakes.engine import (
    DONE,
    Act,
    Answer,
    FakeEngine,
    chat_chunk,
    html,
    json_answer,
    models_page,
    sse,
    usage_event,
    whole_chat,
)
from tests.fakes.takers import SlowTaker, Taker, relaying, take, whole

CHAT = "/v1/chat/completions"
LATE_S = 5.0
"""Bound of waits that end at once unless something is broken."""


@pytest.fixture
async def engine() -> AsyncIterator[FakeEngine]:
    async with FakeEngine() as fake:
        yield fake


@pytest.fixture
async def http() -> AsyncIterator[EngineHttp]:
    async with EngineHttp() as client:
        yield client


def call(body: bytes = b'{"stream":true}', *, first_byte_s: float = LATE_S, idle_s: float = LATE_S) -> Call:
    return Call(CHAT, "tiny", body, stream=True, first_byte_timeout_s=first_byte_s, idle_timeout_s=idle_s)


async def ask(http: EngineHttp, engine: FakeEngine, asked: Call | None = None, **options: Any) -> bytes:
    async with asyncio.timeout(LATE_S), http.open(engine.url, asked or call(), **options) as reply:
        return await whole(reply)


async def fail(http: EngineHttp, engine: FakeEngine, asked: Call | None = None) -> tuple[bytes, BackendError]:
    """What was relayed before the error, and the error."""
    taker = Taker()
    try:
        async with asyncio.timeout(LATE_S), http.open(engine.url, asked or call()) as reply:
            await reply.relay(taker)
    except BackendError as error:
        return taker.taken, error
    raise AssertionError("no error")


async def test_an_answer_comes_through_verbatim(http: EngineHttp, engine: FakeEngine) -> None:
    """Status, type, bytes; without the usage event that only we asked for."""
    async with http.open(engine.url, call()) as reply:
        relayed = await whole(reply)

    assert (reply.http_status, reply.content_type) == (200, "text/event-stream")
    assert relayed == chat_chunk("Hel") + chat_chunk("lo") + chat_chunk("", "stop") + DONE
    assert reply.usage == Usage(3, 2)


async def test_a_content_type_that_no_frame_can_hold_costs_no_answer(
    http: EngineHttp, engine: FakeEngine
) -> None:
    """Some gateway's Latin-1 in a parameter must not end the job as a defect of ours."""
    engine.will_answer(sse(chat_chunk("a", "stop"), DONE, content_type="text/event-stream; name=caf\xe9"))
    async with http.open(engine.url, call()) as reply:
        relayed = await whole(reply)

    assert reply.content_type == "text/event-stream; name=caf?"
    assert relayed == chat_chunk("a", "stop") + DONE


async def test_a_content_type_is_short_and_printable(http: EngineHttp, engine: FakeEngine) -> None:
    """It travels in a frame, and may be put into a header."""
    odd = "text/event-stream; a=\x00\x1b[31m" + "x" * 50_000
    engine.will_answer(sse(chat_chunk("a", "stop"), DONE, content_type=odd))
    async with http.open(engine.url, call()) as reply:
        await whole(reply)

    assert reply.content_type.startswith("text/event-stream; a=??[31mxx")
    assert len(reply.content_type) == 256


async def test_the_engine_gets_the_routed_model_and_the_key(http: EngineHttp, engine: FakeEngine) -> None:
    """Field notes 24 and 33: the key goes to local engines, too; nothing is asked for compressed."""
    await ask(http, engine, api_key="sk-1")
    request = engine.posts[0]

    assert (request.path, request.json()["model"]) == (CHAT, "tiny")
    assert request.headers["authorization"] == "Bearer sk-1"
    assert request.headers["accept-encoding"] == "identity"
    assert request.headers["host"] == f"127.0.0.1:{engine.port}"


async def test_bytes_arrive_as_the_engine_makes_them(http: EngineHttp, engine: FakeEngine) -> None:
    """Field note 34: the first chunk is here while the second is not made yet."""
    second = asyncio.Event()
    engine.will_answer(sse(chat_chunk("a"), second, chat_chunk("b", "stop"), DONE))

    async with asyncio.timeout(LATE_S), http.open(engine.url, call()) as reply:
        taker = Taker()
        async with relaying(reply, taker) as job:
            await taker.has(chat_chunk("a"))
            second.set()
            await job

    assert taker.taken == chat_chunk("a") + chat_chunk("b", "stop") + DONE


async def test_a_connection_that_stays_open_after_the_end_mark_is_not_waited_for(
    http: EngineHttp, engine: FakeEngine
) -> None:
    """The answer is complete, and the slot is free."""
    engine.will_answer(sse(chat_chunk("a"), DONE, stays_open=True))

    assert await ask(http, engine) == chat_chunk("a") + DONE
    await asyncio.wait_for(engine.connections[0].closed.wait(), LATE_S)


async def test_leaving_closes_the_engines_connection_at_once(http: EngineHttp, engine: FakeEngine) -> None:
    """Field note 6: when leaving returns, the engine knows (best of five: machines are busy)."""
    loop = asyncio.get_running_loop()
    took_ms = []
    for _ in range(5):
        engine.will_answer(sse(chat_chunk("a"), Act.SILENCE))
        async with asyncio.timeout(LATE_S):
            async with http.open(engine.url, call()) as reply:
                await take(reply, chat_chunk("a"))
                began_s = loop.time()
            left_s = loop.time()
            await engine.connections[-1].closed.wait()
        seen_s = engine.connections[-1].closed_at_s
        assert seen_s is not None
        took_ms.append((max(left_s, seen_s) - began_s) * 1000)

    assert min(took_ms) < 1


async def test_the_connection_is_closed_when_leaving_returns(http: EngineHttp, engine: FakeEngine) -> None:
    """Not merely about to be: what follows is the slot of another job (field note 6)."""
    engine.will_answer(sse(chat_chunk("a"), Act.SILENCE))
    async with asyncio.timeout(LATE_S), http.open(engine.url, call()) as reply:
        await take(reply, chat_chunk("a"))
        connected = reply._wire.transport.get_extra_info("socket")
        assert connected.fileno() >= 0

    assert connected.fileno() == -1


@pytest.mark.parametrize("script", [sse(before_headers=Act.SILENCE), sse(chat_chunk("a"), Act.SILENCE)])
async def test_a_cancel_closes_the_engines_connection_wherever_it_is(
    http: EngineHttp, engine: FakeEngine, script: Answer
) -> None:
    """Field note 6: in prefill, where nothing has been answered yet, as in the middle of the answer."""
    engine.will_answer(script)
    job = asyncio.create_task(ask(http, engine))
    async with asyncio.timeout(LATE_S):
        await engine.has_received()
        job.cancel()
        with pytest.raises(asyncio.CancelledError):
            await job
        await engine.connections[0].closed.wait()

    assert engine.connections[0].closed_at_s is not None


async def test_a_cancel_while_the_engine_does_not_read_closes_its_connection(http: EngineHttp) -> None:
    """Field note 6: a big body that nobody takes must not keep the slot."""
    arrived, job_is_over, lost = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def deaf(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        arrived.set()
        await job_is_over.wait()  # its buffers are small: most of the body is still with the client
        with suppress(ConnectionError):
            while await reader.read(1 << 20):
                pass
        lost.set()
        writer.close()

    server = await asyncio.start_server(deaf, "127.0.0.1", 0)
    async with asyncio.timeout(LATE_S), server:
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        job = asyncio.create_task(_open(http, url, call(b'{"prompt":"' + b"x" * (16 << 20) + b'"}')))
        await arrived.wait()
        job.cancel()
        with pytest.raises(asyncio.CancelledError):
            await job
        job_is_over.set()
        await lost.wait()


async def _open(http: EngineHttp, url: str, asked: Call) -> None:
    async with http.open(url, asked):
        pass


async def test_a_big_request_arrives_whole(http: EngineHttp, engine: FakeEngine) -> None:
    """Images make megabytes; they are written bit by bit."""
    prompt = "x" * (4 << 20)
    await ask(http, engine, call(b'{"prompt":"%b"}' % prompt.encode()))

    assert engine.posts[0].json()["prompt"] == prompt


@pytest.mark.parametrize(
    ("status", "kind"),
    [(400, BadRequest), (401, AuthRejected), (429, RateLimited), (500, BackendFailed), (503, BackendLoading)],
)
async def test_a_status_is_an_error_before_the_first_byte(
    http: EngineHttp, engine: FakeEngine, status: int, kind: type[BackendError]
) -> None:
    """Field note 30: each its own class, with the engine's wish when to come back."""
    engine.will_answer(json_answer({"error": {"message": "no"}}, status, headers={"Retry-After": "1.5"}))
    relayed, error = await fail(http, engine)

    assert (relayed, type(error), error.http_status) == (b"", kind, status)
    assert error.retry_after_ms == 1500


async def test_an_error_body_without_end_is_not_waited_for(engine: FakeEngine, http: EngineHttp) -> None:
    """It is read for 2 s and 64 KiB at most; the status says enough."""
    engine.will_answer(Answer((b"x" * 100_000, Act.SILENCE), status=500))

    assert type((await fail(http, engine))[1]) is BackendFailed


@pytest.mark.parametrize(
    ("script", "kind"),
    [
        (html(), BackendFailed),
        (sse(), BackendFailed),
        (sse(Act.CUT), BackendFailed),
        (sse(before_headers=Act.RESET), BackendFailed),
        (sse(before_headers=Act.CUT), BackendFailed),
        (json_answer(b'{"choices":'), StreamTruncated),
        (json_answer({"error": {"message": "boom"}}), StreamFailed),
    ],
)
async def test_an_answer_that_is_none_fails_before_the_first_byte(
    http: EngineHttp, engine: FakeEngine, script: Answer, kind: type[BackendError]
) -> None:
    """Field note 28: HTML, an empty 200, a cut or reset connection, half a document, an error in a 200."""
    engine.will_answer(script)
    relayed, error = await fail(http, engine)

    assert (relayed, type(error)) == (b"", kind)


@pytest.mark.parametrize("end", [Act.CUT, Act.RESET])
@pytest.mark.parametrize("chunked", [True, False])
async def test_a_cut_stream_is_truncated(
    http: EngineHttp, engine: FakeEngine, end: Act, chunked: bool
) -> None:
    """Field note 28: however the connection ends, the answer is not done, and what came is relayed."""
    engine.will_answer(sse(chat_chunk("a"), end, chunked=chunked))

    relayed, error = await fail(http, engine)

    assert (relayed, type(error)) == (chat_chunk("a"), StreamTruncated)


async def test_an_answer_that_is_whole_stays_whole_when_the_connection_breaks(
    http: EngineHttp, engine: FakeEngine
) -> None:
    """Some engines close without ending the HTTP body; what arrived unread is not lost with the error."""
    engine.will_answer(sse(chat_chunk("a"), chat_chunk("b"), DONE, Act.RESET))

    async with asyncio.timeout(LATE_S), http.open(engine.url, call()) as reply:
        await engine.connections[0].closed.wait()
        relayed = await whole(reply)

    assert relayed == chat_chunk("a") + chat_chunk("b") + DONE


async def test_an_error_event_ends_the_answer_and_keeps_its_usage(
    http: EngineHttp, engine: FakeEngine
) -> None:
    """Field notes 14 and 28."""
    engine.will_answer(sse(chat_chunk("a"), usage_event(4, 1), b'data: {"error":{"message":"x"}}\n\n', DONE))
    async with asyncio.timeout(LATE_S), http.open(engine.url, call()) as reply:
        taker = Taker()
        with pytest.raises(StreamFailed):
            await reply.relay(taker)

    assert taker.taken == chat_chunk("a")
    assert reply.usage == Usage(4, 1)


@pytest.mark.parametrize("script", [sse(before_headers=Act.SILENCE), sse(Act.SILENCE)])
async def test_silence_before_the_first_byte_has_its_own_limit(
    http: EngineHttp, engine: FakeEngine, script: Answer
) -> None:
    """With headers or without, at most so long; a long prefill is not an idle engine (field note 17)."""
    engine.will_answer(script)

    assert type((await fail(http, engine, call(first_byte_s=0.05)))[1]) is FirstByteTimeout


async def test_silence_in_the_middle_is_an_idle_engine(http: EngineHttp, engine: FakeEngine) -> None:
    """Not only a whole job has a limit; the one for the first byte does not count here (field note 17)."""
    engine.will_answer(sse(chat_chunk("a"), Act.SILENCE))
    relayed, error = await fail(http, engine, call(idle_s=0.05))

    assert (relayed, type(error)) == (chat_chunk("a"), IdleTimeout)


async def test_an_end_mark_and_then_silence_is_no_idle_engine(http: EngineHttp, engine: FakeEngine) -> None:
    """Its blank line is missing, nothing else."""
    engine.will_answer(sse(chat_chunk("a"), b"data: [DONE]\n", Act.SILENCE))

    assert await ask(http, engine, call(idle_s=0.05)) == chat_chunk("a") + b"data: [DONE]\n"


async def test_the_time_in_which_nobody_takes_bytes_is_not_the_engines(
    http: EngineHttp, engine: FakeEngine
) -> None:
    """A slow client must not make a healthy engine look dead, which has more to say when it is back."""
    gate = asyncio.Event()
    engine.will_answer(sse(chat_chunk("a"), gate, chat_chunk("b", "stop"), DONE))
    loop = asyncio.get_running_loop()
    passed = loop.create_future()

    async with asyncio.timeout(LATE_S), http.open(engine.url, call(idle_s=0.05)) as reply:
        taker = SlowTaker(reply)
        async with relaying(reply, taker) as job:
            await taker.has(chat_chunk("a"))
            loop.call_later(0.15, passed.set_result, None)
            await passed
            gate.set()
            reply.resume()
            await taker.has(chat_chunk("a") + chat_chunk("b", "stop") + DONE)
            await job


async def test_a_closed_port_is_unreachable(http: EngineHttp, engine: FakeEngine) -> None:
    """The words hold no address; field note 31."""
    await engine.stop()
    _, error = await fail(http, engine)

    assert type(error) is BackendUnreachable
    assert error.message == "the engine does not accept connections"


async def test_an_agent_without_a_socket_left_does_not_blame_the_engine(
    http: EngineHttp, engine: FakeEngine
) -> None:
    """It is our own shortage, and another agent may have sockets."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (3, hard))
    try:
        _, error = await fail(http, engine)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))

    assert type(error) is OutOfSockets
    assert error.code is ErrorCode.OUT_OF_CAPACITY


@pytest.mark.parametrize("host", ["engine.invalid", "engine..lan", "e" * 64 + ".lan"])
async def test_an_unknown_host_is_unreachable(http: EngineHttp, host: str) -> None:
    """A typo in the configuration; some names cannot even be asked for."""
    with pytest.raises(BackendUnreachable, match="host name is not known"):
        await http.ask(f"http://{host}:1", "/", timeout_s=LATE_S)


async def test_a_bad_body_never_reaches_the_engine(http: EngineHttp, engine: FakeEngine) -> None:
    """It is the client's fault, and known before."""
    _, error = await fail(http, engine, call(b"[]"))

    assert type(error) is BadRequest
    assert engine.requests == []


async def test_a_redirect_is_not_followed(http: EngineHttp, engine: FakeEngine) -> None:
    """A key must not follow to another host."""
    engine.will_answer(Answer(status=307, headers={"Location": engine.url + CHAT}))

    assert type((await fail(http, engine))[1]) is BackendFailed
    assert len(engine.requests) == 1


async def test_a_compressed_answer_is_none(http: EngineHttp, engine: FakeEngine) -> None:
    """Nobody had asked for it, and nobody could read it."""
    engine.will_answer(sse(b"\x1f\x8b", headers={"Content-Encoding": "gzip"}))
    engine.pages["/x"] = json_answer(b"\x1f\x8b", headers={"Content-Encoding": "gzip"})
    _, error = await fail(http, engine)

    assert (type(error), error.message) == (
        BackendFailed,
        "the engine compressed its answer, which nobody had asked it to do",
    )
    with pytest.raises(BackendFailed, match="compressed"):
        await http.ask(engine.url, "/x", timeout_s=LATE_S)


@pytest.mark.parametrize("encoding", ["gzip, chunked", "chunked, gzip"])
async def test_nor_is_one_that_is_compressed_for_the_way(
    http: EngineHttp, engine: FakeEngine, encoding: str
) -> None:
    """In whatever order; its chunks must not be taken for its text."""
    head = f"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: {encoding}\r\n\r\n"
    engine.will_answer(Answer((b"2\r\n\x1f\x8b\r\n0\r\n\r\n",), chunked=False, sent_as=head.encode()))
    _, error = await fail(http, engine)

    assert isinstance(error, BackendFailed)
    assert "compressed" in error.message


async def test_interim_answers_are_skipped(http: EngineHttp, engine: FakeEngine) -> None:
    """Some server announces that it goes on."""
    head = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n"
    engine.will_answer(Answer((chat_chunk("a", "stop"), DONE), chunked=False, sent_as=head))

    assert await ask(http, engine) == chat_chunk("a", "stop") + DONE


@pytest.mark.parametrize("said", [b"SSH-2.0-OpenSSH_9\r\n", b"HTTP/1.1 200 OK\r\nX: " + b"x" * 200_000])
async def test_another_protocol_is_no_answer(http: EngineHttp, engine: FakeEngine, said: bytes) -> None:
    """Nor is a head without end."""
    engine.will_answer(Answer(sent_as=said))
    _, error = await fail(http, engine)

    assert (type(error), error.message) == (BackendFailed, "the engine's answer is not HTTP")


async def test_a_page_may_end_with_its_connection(http: EngineHttp, engine: FakeEngine) -> None:
    """As small servers do it; but not where they had said how long it is."""
    engine.pages["/x"] = json_answer({"a": 1}, chunked=False)
    engine.pages["/y"] = json_answer({"a": 1}, chunked=False, headers={"Content-Length": "99"})

    assert (await http.ask(engine.url, "/x", timeout_s=LATE_S)).require() == {"a": 1}
    with pytest.raises(BackendFailed, match="broke off"):
        await http.ask(engine.url, "/y", timeout_s=LATE_S)


async def test_a_reader_that_pauses_stops_the_engine_and_loses_nothing(
    http: EngineHttp, engine: FakeEngine
) -> None:
    """What is on the way fills the buffers of the system, and no memory of ours."""
    events = [chat_chunk("x" * 10_000) for _ in range(1000)]
    engine.will_answer(sse(*events, DONE))
    async with asyncio.timeout(LATE_S), http.open(engine.url, call()) as reply:
        taker = SlowTaker(reply)
        async with relaying(reply, taker) as job:
            await taker.has_begun()
            for _ in range(20):
                await asyncio.sleep(0)
            assert len(taker.taken) <= 2 * 64 * 1024
            assert engine.answers_ended == 0
            while not job.done():
                reply.resume()
                await asyncio.wait((job,), timeout=0.001)
            await job

    assert taker.taken == b"".join(events) + DONE


async def test_many_answers_at_once_do_not_mix(http: EngineHttp, engine: FakeEngine) -> None:
    """All of them are read into one buffer."""
    gate = asyncio.Event()
    answers = [(chat_chunk(f"a{each}"), chat_chunk(f"b{each}", "stop") + DONE) for each in range(500)]
    engine.will_answer(*(sse(first, gate, last) for first, last in answers))
    patient = call(first_byte_s=10 * LATE_S, idle_s=10 * LATE_S)

    async def one() -> bytes:
        async with http.open(engine.url, patient) as reply:
            return await whole(reply)

    async with asyncio.timeout(10 * LATE_S), asyncio.TaskGroup() as group:
        jobs = [group.create_task(one()) for _ in answers]
        await engine.has_received(len(answers))
        gate.set()

    assert sorted(job.result() for job in jobs) == sorted(first + last for first, last in answers)


async def test_a_loopback_engine_is_asked_without_a_proxy(
    http: EngineHttp, engine: FakeEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The proxy of the environment is for engines elsewhere."""
    async with FakeEngine() as proxy:
        monkeypatch.setenv("http_proxy", proxy.url)
        monkeypatch.delenv("no_proxy", raising=False)
        await ask(http, engine)
        proxy.pages["http://engine.example.com/v1/models"] = models_page("far")
        page = await http.ask("http://engine.example.com", "/v1/models", timeout_s=LATE_S)

    assert page.require()["data"][0]["id"] == "far"
    assert len(engine.requests) == 1


async def test_a_page_tells_status_headers_and_json(http: EngineHttp, engine: FakeEngine) -> None:
    """What the adapters read of an engine."""
    engine.pages["/x"] = json_answer({"a": 1}, headers={"Server": "llama.cpp"})
    page = await http.ask(engine.url, "/x", timeout_s=LATE_S)

    assert (page.status, page.headers["server"], page.require()) == (200, "llama.cpp", {"a": 1})


async def test_a_page_that_is_no_json_is_none(http: EngineHttp, engine: FakeEngine) -> None:
    """Any program may be behind a port."""
    engine.pages["/x"] = html()

    assert (await http.ask(engine.url, "/x", timeout_s=LATE_S)).value is None
    with pytest.raises(BackendFailed):
        (await http.ask(engine.url, "/x", timeout_s=LATE_S)).require()


@pytest.mark.parametrize("odd", [rb"\ud800", b"\xff", b"\x01"])
def test_an_odd_character_in_a_page_costs_nothing_else(odd: bytes) -> None:
    """One model with such a name must not take the others off the air."""
    assert Page(200, {}, b'{"data":["' + odd + b'","a"]}').value["data"][1] == "a"


@pytest.mark.parametrize("value", [b"{}", b"[]", b"1", b'"\x01"'])
def test_a_page_of_millions_of_values_is_not_read(value: bytes) -> None:
    """It would stop every job for seconds, and fill half a gigabyte; a long text does neither."""
    body = b'{"data":[' + value + (b"," + value) * MAX_PAGE_VALUES + b"]}"

    assert Page(200, {}, body).value is None
    assert Page(200, {}, b'{"data":"' + b"x" * MAX_PAGE_VALUES + b'"}').value is not None


def test_a_page_is_read_once() -> None:
    """Each family looks at it."""
    page = Page(200, {}, b'{"data":[]}')

    assert page.value is page.value


def test_as_many_models_as_an_agent_offers_are_read() -> None:
    """In the words of Ollama, which has many for each."""
    details = {"parent_model": "", "format": "gguf", "family": "llama", "families": ["llama"], "more": "Q4"}
    model = {"name": "a", "model": "a", "modified_at": "", "size": 1, "digest": "", "details": details}
    page = Page(200, {}, json.dumps({"models": [model] * MOST_MODELS}).encode())

    assert len(page.value["models"]) == MOST_MODELS


def test_a_page_that_is_not_there_is_no_missing_model() -> None:
    """The operator of an engine of another kind must not look for a model."""
    with pytest.raises(BackendFailed, match="no such page; is its kind right"):
        Page(404, {}, b'{"error":"not found"}').require()


@pytest.mark.parametrize("script", [sse(before_headers=Act.SILENCE), sse(Act.SILENCE)])
async def test_a_page_that_does_not_come_is_unreachable(
    http: EngineHttp, engine: FakeEngine, script: Answer
) -> None:
    """A port that accepts and says nothing; its connection is not kept."""
    engine.pages["/x"] = script
    with pytest.raises(BackendUnreachable):
        await http.ask(engine.url, "/x", timeout_s=0.05)

    await asyncio.wait_for(engine.connections[0].closed.wait(), LATE_S)


async def test_use_before_entering_is_a_defect_of_ours(engine: FakeEngine) -> None:
    """And said so."""
    with pytest.raises(RuntimeError, match="before it is entered"):
        await EngineHttp().ask(engine.url, "/", timeout_s=1)


async def test_many_jobs_leave_no_connection_behind(http: EngineHttp, engine: FakeEngine) -> None:
    """Whatever their end."""
    engine.will_answer(*([whole_chat(), html(), sse(Act.CUT), sse(chat_chunk("a"), Act.RESET)] * 5))
    async with asyncio.TaskGroup() as group:
        for _ in range(20):
            group.create_task(_ignore(ask(http, engine)))
    async with asyncio.timeout(LATE_S):
        for connection in engine.connections:
            await connection.closed.wait()

    assert len(engine.connections) == 20


async def _ignore(job: Any) -> None:
    with suppress(BackendError):
        await job
