"""A body is received whole; of it, only model and stream are read; what no peer could read is refused."""

import asyncio
import contextlib
import gzip
import json
import zlib
from collections.abc import AsyncIterable, AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from hypothesis import given
from hypothesis import strategies as st

from provider_agent.coordinator.http.body import (
    MAX_BRACKETS,
    MAX_NESTING,
    Wanted,
    nesting,
    read_body,
    receive_body,
)
from provider_agent.coordinator.http.errors import RequestError, tell_errors
from provider_agent.coordinator.http.server import Runner
from tests.fakes.coordinators import LIMIT_S, error_in
from tests.fakes.logs import LogLines


def refusal(body: bytes) -> RequestError:
    with pytest.raises(RequestError) as caught:
        read_body(body)
    return caught.value


def test_model_and_stream_are_read() -> None:
    """Whatever else is there goes on unread (field notes 35, 76)."""
    body = b'{"model":"llama3.2:3b","stream":true,"tools":[{"x":1}],"unknown":null,"seed":1e400}'

    assert Wanted("llama3.2:3b", stream=True) == read_body(body)


@pytest.mark.parametrize("stream", [b"", b',"stream":false', b',"stream":null'])
def test_an_answer_is_streamed_only_on_request(stream: bytes) -> None:
    """As OpenAI does."""
    assert not read_body(b'{"model":"m"%s}' % stream).stream


@pytest.mark.parametrize(
    ("stream", "streamed"), [(b"", True), (b',"stream":null', True), (b',"stream":false', False)]
)
def test_where_streams_are_usual_only_a_no_counts(stream: bytes, streamed: bool) -> None:
    """Ollama's way; also where a body has to be read member by member."""
    for body in (b'{"model":"m"%s}' % stream, b'{"model":1,"model":"m"%s}' % stream):
        assert streamed == read_body(body, streams_unless_told=True).stream


@pytest.mark.parametrize(
    ("body", "param", "message"),
    [
        (b"", None, "the request body is not valid JSON (Input data was truncated)"),
        (b'{"model":', None, "the request body is not valid JSON (Input data was truncated)"),
        (b"[]", None, "the request body is not a JSON object"),
        (b"7", None, "the request body is not a JSON object"),
        (b'{"model":"\xff"}', None, "the request body is not UTF-8"),
        (b"{}", "model", "the parameter model is missing"),
        (b'{"model":7}', "model", "the parameter model must be text"),
        (b'{"model":null}', "model", "the parameter model must be text"),
        (b'{"model":"m","stream":"yes"}', "stream", "the parameter stream must be true or false"),
        (b'{"model":"m","stream":1}', "stream", "the parameter stream must be true or false"),
    ],
)
def test_what_is_wrong_is_named(body: bytes, param: str | None, message: str) -> None:
    """400 and a sentence, never 500 and never a default (field note 61)."""
    error = refusal(body)

    assert (400, param, message) == (error.status, error.param, str(error))


def test_the_last_of_two_equal_names_counts() -> None:
    """As for engines; whether it is in order or not."""
    assert read_body(b'{"model":"a","stream":false,"model":"b","stream":true}') == Wanted("b", stream=True)
    assert refusal(b'{"model":"a","model":7}').param == "model"


_VALUES: st.SearchStrategy[Any] = st.sampled_from(
    ["m", "", "\u00e9\U0001f600", None, True, False, 0, 1.5, [], {}, ["m"]]
)


@given(
    st.dictionaries(st.sampled_from(["model", "stream", "Model", "messages", ""]), _VALUES),
    st.booleans(),
)
def test_a_body_is_read_as_any_reader_of_json_would(members: dict[str, Any], escaped: bool) -> None:
    """What is read in one step, and what is looked at member by member, is the same."""
    body = json.dumps(members, ensure_ascii=escaped).encode()
    model, stream = members.get("model"), members.get("stream")
    if not isinstance(model, str):
        assert refusal(body).param == "model"
    elif not isinstance(stream, bool | None):
        assert refusal(body).param == "stream"
    else:
        assert read_body(body) == Wanted(model, bool(stream))


def test_bytes_that_are_not_utf_8_anywhere_are_refused() -> None:
    """They would end the agent's session, and every other job on it (field note 64)."""
    assert refusal(b'{"model":"m","messages":[{"content":"\xc3\x28"}]}').code == "invalid_json"


@pytest.mark.parametrize("depth", [MAX_NESTING + 1, 5_000, 200_000])
def test_a_body_that_nests_too_deeply_is_refused(depth: int) -> None:
    """Its peer could not even read whose job it is."""
    body = b'{"model":"m","x":' + b"[" * (depth - 1) + b"]" * (depth - 1) + b"}"

    assert refusal(body).message.startswith("the request body is ")


def test_a_body_that_nests_as_deeply_as_is_allowed_passes() -> None:
    """The limit itself is fine."""
    inner = MAX_NESTING - 1

    assert read_body(b'{"model":"m","x":' + b"[" * inner + b"]" * inner + b"}").model_id == "m"


def test_brackets_beside_each_other_do_not_nest() -> None:
    """A long conversation is flat."""
    body = json.dumps({"model": "m", "messages": [{"content": [{"text": "hi"}]}] * 1000}).encode()

    assert nesting(body) == 5
    assert read_body(body).model_id == "m"


def test_brackets_within_text_do_not_nest() -> None:
    """Nor do quotes and backslashes in it end the text."""
    body = json.dumps({"model": "m", "text": '[{"\\[' * 1000}).encode()

    assert nesting(body) == 1


def test_more_brackets_than_can_be_counted_in_time_are_refused() -> None:
    """One request must not hold up all others."""
    body = b'{"model":"m","x":[' + b"[]," * (MAX_BRACKETS // 2) + b"[]]}"

    assert refusal(body).message == f"the request body has more than {MAX_BRACKETS} brackets"


JSON = st.recursive(
    st.none() | st.integers() | st.text(alphabet='ab[]{}"\\,:é'),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(alphabet='k[{"\\'), inner, max_size=3)
    ),
    max_leaves=20,
)


def depth_of(value: Any) -> int:
    if isinstance(value, dict):
        return 1 + max(map(depth_of, value.values()), default=0)
    if isinstance(value, list):
        return 1 + max(map(depth_of, value), default=0)
    return 0


@given(JSON)
def test_nesting_is_what_a_parser_would_find(value: Any) -> None:
    """Padded with flat brackets, so that the count alone does not settle it."""
    padded = [value, [[]] * (MAX_NESTING + 1)]

    assert max(depth_of(value), 2) + 1 == nesting(json.dumps(padded).encode())


@given(st.binary())
def test_of_any_bytes_only_a_refusal_comes_out(body: bytes) -> None:
    """Or what they ask for."""
    with contextlib.suppress(RequestError):
        assert isinstance(read_body(body), Wanted)


# --- receiving ---------------------------------------------------------------------------


@asynccontextmanager
async def echo(*, patience_s: float = 60.0, max_bytes: int = 1024**2) -> AsyncIterator[aiohttp.ClientSession]:
    """A server that answers with the body that it received."""

    async def handle(request: web.Request) -> web.StreamResponse:
        return web.Response(body=await receive_body(request, patience_s))

    app = web.Application(client_max_size=max_bytes, middlewares=[tell_errors])
    app.router.add_post("/", handle)
    runner = Runner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        async with (
            asyncio.timeout(LIMIT_S),
            aiohttp.ClientSession(f"http://127.0.0.1:{runner.addresses[0][1]}") as client,
        ):
            yield client
    finally:
        await runner.cleanup()


async def told(
    client: aiohttp.ClientSession, body: bytes | AsyncIterable[bytes], **headers: str
) -> tuple[int, bytes]:
    """Status, and body or code of the error."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    async with client.post("/", data=body, headers=named) as response:
        answer = await response.read()
    return response.status, answer if response.status == 200 else error_in(answer)["code"].encode()


@pytest.mark.parametrize("body", [b"", b"x", b"x" * 1024**2])
async def test_a_body_is_received_whole(body: bytes) -> None:
    """Up to the limit, which is in."""
    async with echo() as client:
        assert await told(client, body) == (200, body)


async def test_a_byte_order_mark_is_left_out() -> None:
    """Files that were written under Windows begin with one; that is no reason to refuse what follows."""
    async with echo() as client:
        assert await told(client, b'\xef\xbb\xbf{"model":"m"}') == (200, b'{"model":"m"}')


@pytest.mark.parametrize(("coding", "compress"), [("gzip", gzip.compress), ("deflate", zlib.compress)])
async def test_a_compressed_body_is_received_as_it_was(coding: str, compress: Any) -> None:
    """Engines need not know the coding."""
    async with echo() as client:
        assert await told(client, compress(b"x" * 300_000), Content_Encoding=coding) == (200, b"x" * 300_000)


async def test_a_body_that_is_too_large_is_refused_before_it_is_there() -> None:
    """Also one that is only so once it is decompressed."""
    async with echo(max_bytes=1000) as client:
        assert await told(client, b"x" * 100_000) == (413, b"request_too_large")
        bomb = gzip.compress(b"x" * 10_000_000)
        assert await told(client, bomb, Content_Encoding="gzip") == (413, b"request_too_large")


@pytest.mark.parametrize("coding", ["gzip", "deflate"])
async def test_a_body_that_cannot_be_decompressed_is_the_clients_mistake(coding: str) -> None:
    """400, and nothing for our log: it is no defect of ours."""
    log = LogLines()
    async with echo() as client:
        assert await told(client, b"my secret prompt", Content_Encoding=coding) == (400, b"invalid_body")

    assert {"debug"} >= {entry["level"] for entry in log.entries}


async def test_a_body_that_has_no_end_is_refused_as_soon_as_it_is_too_large() -> None:
    """It need not be waited for."""

    async def endless() -> AsyncIterator[bytes]:
        yield b"x" * 2000
        await asyncio.Event().wait()

    async with echo(max_bytes=1000) as client:
        assert await told(client, endless()) == (413, b"request_too_large")


async def test_a_body_that_breaks_off_in_its_middle_is_given_up_in_time() -> None:
    """Else anybody could hold our sockets for ever."""

    async def half() -> AsyncIterator[bytes]:
        yield b"{"
        await asyncio.Event().wait()

    async with echo(patience_s=0.02) as client:
        assert await told(client, half()) == (408, b"request_timeout")


async def test_a_body_that_comes_slowly_is_waited_for() -> None:
    """Each part renews the patience."""
    patience_s, loop = 0.6, asyncio.get_running_loop()

    async def slowly() -> AsyncIterator[bytes]:
        for _ in range(5):
            yield b"x"
            later = loop.create_future()
            loop.call_later(patience_s / 4, later.set_result, None)
            await later

    async with echo(patience_s=patience_s) as client:
        began_s = loop.time()
        assert await told(client, slowly()) == (200, b"x" * 5)

    assert loop.time() - began_s > patience_s
