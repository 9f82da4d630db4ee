"""What engines may answer, over real sockets: in each framing of HTTP, too short, too long, compressed."""

import gzip
import json
import zlib
from asyncio import timeout
from collections.abc import AsyncIterator, Callable

import pytest

from provider_agent.backends.base import BackendError, Call, Usage
from provider_agent.backends.http import EngineHttp
from provider_agent.protocol.errors import ErrorCode
from tests.fakes.engine import DONE, Answer, FakeEngine, chat_chunk, json_answer, sse
from tests.fakes.scanning import byte_by_byte
from tests.fakes.takers import Taker
from tests.fakes.transcripts import EVENTS, TRANSCRIPTS, Transcript

CHAT = "/v1/chat/completions"
LATE_S = 5.0
WHOLE = chat_chunk("é") + chat_chunk("", "stop") + DONE
NEXT = chat_chunk("next", "stop") + DONE


@pytest.fixture
async def engine() -> AsyncIterator[FakeEngine]:
    async with FakeEngine() as fake:
        yield fake


@pytest.fixture
async def http() -> AsyncIterator[EngineHttp]:
    async with EngineHttp() as client:
        yield client


async def answered(
    http: EngineHttp, engine: FakeEngine, body: bytes = b'{"stream":true}', path: str = CHAT
) -> tuple[bytes, Usage, BackendError | None]:
    """What a client gets, what is counted, and the error."""
    taker, usage, failure = Taker(), Usage(), None
    asked = Call(path, "tiny", body, True, LATE_S, LATE_S)
    try:
        async with timeout(LATE_S), http.open(engine.url, asked) as reply:
            try:
                await reply.relay(taker)
            finally:
                usage = reply.usage
    except BackendError as error:
        failure = error
    return taker.taken, usage, failure


def chunked(body: bytes, content_type: str) -> Answer:
    """One chunk for each event or line, as engines do it."""
    ends = b"\n\n" if content_type == EVENTS else b"\n"
    pieces = [piece + ends for piece in body.split(ends) if piece]
    pieces[-1] = pieces[-1][: len(pieces[-1]) - len(b"".join(pieces)) + len(body)]
    return Answer(pieces, content_type=content_type)


def byte_for_byte(body: bytes, content_type: str) -> Answer:
    """One chunk for each byte."""
    return Answer(byte_by_byte(body), content_type=content_type)


def of_a_length(body: bytes, content_type: str) -> Answer:
    """Its length is said before."""
    return Answer(
        (body,), content_type=content_type, chunked=False, headers={"Content-Length": str(len(body))}
    )


def until_the_close(body: bytes, content_type: str) -> Answer:
    """It ends with the connection."""
    return Answer((body,), content_type=content_type, chunked=False)


def as_http_1_0(body: bytes, content_type: str) -> Answer:
    """As the oldest servers do it."""
    head = f"HTTP/1.0 200 OK\r\nContent-Type: {content_type}\r\n\r\n"
    return Answer((body,), chunked=False, sent_as=head.encode())


FRAMINGS = [chunked, byte_for_byte, of_a_length, until_the_close, as_http_1_0]


@pytest.mark.parametrize("framing", FRAMINGS)
@pytest.mark.parametrize("transcript", TRANSCRIPTS, ids=str)
async def test_an_answer_means_the_same_in_each_framing(
    http: EngineHttp, engine: FakeEngine, transcript: Transcript, framing: Callable[[bytes, str], Answer]
) -> None:
    """Of each family, its errors and cuts, too (field notes 14, 28, 29 and 32)."""
    engine.will_answer(framing(transcript.body, transcript.content_type))
    relayed, usage, failure = await answered(http, engine, transcript.asked, transcript.path)

    assert (relayed, usage, "whole" if failure is None else type(failure).__name__) == transcript.expected


# --- too short, too long ----------------------------------------------------------------------


@pytest.mark.parametrize("missing_bytes", [1, len(DONE) + 1, len(WHOLE) - 1])
async def test_a_body_that_is_shorter_than_its_length_is_cut(
    http: EngineHttp, engine: FakeEngine, missing_bytes: int
) -> None:
    """Unless its own end mark has come: then nothing of the answer is missing (field note 28)."""
    body = WHOLE[:-missing_bytes]
    engine.will_answer(Answer((body,), chunked=False, headers={"Content-Length": str(len(WHOLE) + 99)}))
    relayed, _, failure = await answered(http, engine)

    is_whole = b'"stop"' in body and body.endswith((b"\n", b"\n\n"))
    assert (failure is None) is is_whole
    assert WHOLE.startswith(relayed)


async def test_a_body_that_is_longer_than_its_length_ends_there(http: EngineHttp, engine: FakeEngine) -> None:
    """The rest is nobody's: this job is cut, and the next one gets its own answer (field note 28)."""
    length = len(chat_chunk("é"))
    for _ in range(2):
        engine.will_answer(
            Answer((WHOLE,), chunked=False, headers={"Content-Length": str(length)}, keeps=True), sse(NEXT)
        )
        relayed, _, failure = await answered(http, engine)

        assert (relayed, failure and failure.code) == (chat_chunk("é"), ErrorCode.STREAM_TRUNCATED)
        assert await answered(http, engine) == (NEXT, Usage(), None)


@pytest.mark.parametrize(
    "garbage", [b"garbage", chat_chunk("more"), b"\x00" * 70_000, b"HTTP/1.1 200 OK\r\n\r\n"]
)
@pytest.mark.parametrize("in_body", [True, False])
async def test_what_follows_the_end_mark_is_nobodys(
    http: EngineHttp, engine: FakeEngine, garbage: bytes, in_body: bool
) -> None:
    """Neither this client's nor the next one's, in the body or behind it (field note 28)."""
    script = sse(WHOLE, garbage, keeps=True) if in_body else sse(WHOLE, keeps=True, afterwards=garbage)
    engine.will_answer(script, sse(NEXT))

    assert await answered(http, engine) == (WHOLE, Usage(), None)
    assert await answered(http, engine) == (NEXT, Usage(), None)


async def test_half_a_chunk_is_no_end(http: EngineHttp, engine: FakeEngine) -> None:
    """The engine was killed while it wrote (field note 28)."""
    head = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
    event = chat_chunk("a")
    part = b"%x\r\n%b\r\n%x\r\n%b" % (len(event), event, len(event), event[:20])
    engine.will_answer(Answer((part,), chunked=False, sent_as=head))
    relayed, _, failure = await answered(http, engine)

    assert (relayed, failure and failure.code) == (event, ErrorCode.STREAM_TRUNCATED)


# --- compressed --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("encoding", "body"),
    [
        ("gzip", gzip.compress(WHOLE)),
        ("x-gzip", gzip.compress(WHOLE)),
        ("deflate", zlib.compress(WHOLE)),
        ("br", b"\x8b\x02\x80data\x03"),
        ("zstd", b"\x28\xb5\x2f\xfd"),
        ("GZIP , identity", gzip.compress(WHOLE)),
    ],
)
async def test_a_compressed_answer_is_refused_before_its_first_byte(
    http: EngineHttp, engine: FakeEngine, encoding: str, body: bytes
) -> None:
    """Nobody had asked for it: the request says `identity`; so another engine may still be asked."""
    engine.will_answer(Answer((body,), headers={"Content-Encoding": encoding}))
    relayed, _, failure = await answered(http, engine)

    assert engine.posts[0].headers["accept-encoding"] == "identity"
    assert (relayed, failure and failure.code) == (b"", ErrorCode.BACKEND_ERROR)
    assert failure is not None
    assert "compressed" in failure.message


async def test_an_answer_that_says_it_is_not_compressed_is_none_that_is(
    http: EngineHttp, engine: FakeEngine
) -> None:
    """Some servers spell it out."""
    engine.will_answer(Answer((WHOLE,), headers={"Content-Encoding": "identity"}))

    assert await answered(http, engine) == (WHOLE, Usage(), None)


async def test_a_compressed_refusal_is_still_that_refusal(http: EngineHttp, engine: FakeEngine) -> None:
    """The status says enough; its words are lost (field note 30)."""
    body = gzip.compress(b'{"error":{"message":"slow down"}}')
    engine.will_answer(json_answer(body, 429, headers={"Content-Encoding": "gzip", "Retry-After": "2"}))
    _, _, failure = await answered(http, engine)

    assert failure is not None
    assert (failure.code, failure.retry_after_ms) == (ErrorCode.RATE_LIMITED, 2000)
    assert failure.message == "the engine limits its rate"


# --- what must not get out, and what must not get lost ------------------------------------------------


@pytest.mark.parametrize("status", [400, 404, 422, 429, 500, 502, 503])
async def test_a_refusal_tells_no_address_key_path_or_prompt(
    http: EngineHttp, engine: FakeEngine, status: int
) -> None:
    """As engines write them, with all of these (field note 31)."""
    prompt = "my secret prompt, which is long enough to be told from a word of the engine's own " * 2
    words = f"at http://10.1.2.3:8000/v1, key sk-abcdef123456, file /home/op/model.gguf, input: '{prompt}'"
    engine.will_answer(json_answer({"error": {"message": words}}, status))
    _, _, failure = await answered(http, engine)

    assert failure is not None
    told = failure.message
    assert not any(each in told for each in ("10.1.2.3", "sk-abc", "/home", "secret", engine.url))


async def test_no_parameter_is_lost_on_the_way_and_the_reason_to_end_is_the_engines(
    http: EngineHttp, engine: FakeEngine
) -> None:
    """Field note 35: seed, tools, images, penalties, whatever is new; and `length` stays `length`."""
    sent = {
        "model": "x",
        "stream": True,
        "messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:,a"}}]}],
        "tools": [{"type": "function", "function": {"name": "look", "parameters": {"type": "object"}}}],
        "tool_choice": "auto",
        "seed": 2**53,
        "presence_penalty": -0.5,
        "frequency_penalty": 0.25,
        "logit_bias": {"50256": -100},
        "response_format": {"type": "json_schema", "json_schema": {"name": "a", "schema": {}}},
        "reasoning_effort": "low",
        "chat_template_kwargs": {"enable_thinking": False},
        "something_new": [1, {"a": None}],
        "stream_options": {"include_usage": True},
    }
    answer = chat_chunk("a") + chat_chunk("", "length") + DONE
    engine.will_answer(sse(answer))

    assert (await answered(http, engine, json.dumps(sent).encode()))[0] == answer
    assert engine.posts[0].json() == sent | {"model": "tiny"}
