"""Engines, and broken proxies before them, that speak HTTP as nobody should: the whole line, to the byte."""

import asyncio
import re
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.fakes.clients import Heard, ask
from tests.fakes.engine import DONE, Act, Answer, FakeEngine, chat_chunk, sse
from tests.fakes.tapes import tape
from tests.faults.parts import Line, line

PROMPT = "a prompt that nobody else may read"
WHOLE = chat_chunk("é") + chat_chunk("", "stop") + DONE
NEXT = chat_chunk("next", "stop") + DONE
STATUS = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"
CHUNKED = STATUS + b"Transfer-Encoding: chunked\r\n\r\n"
LAST = b"0\r\n\r\n"
BRIEF = {"LIMITS__FIRST_BYTE_TIMEOUT_S": "5", "LIMITS__IDLE_TIMEOUT_S": "5"}


def chunk(data: bytes, extension: bytes = b"") -> bytes:
    return b"%x%b\r\n%b\r\n" % (len(data), extension, data)


def with_field(field: bytes, body: bytes = WHOLE) -> bytes:
    return STATUS + field + b"\r\n\r\n" + body


def of_type(content_type: bytes, body: bytes) -> bytes:
    return b"HTTP/1.1 200 OK\r\nContent-Type: " + content_type + b"\r\n\r\n" + body


SERVED = {
    "an extension of a chunk": CHUNKED + chunk(WHOLE, b';a=b;c="d"') + LAST,
    "an extension as long as a read": CHUNKED + chunk(WHOLE, b";" + b"a" * 70_000) + LAST,
    "trailers": CHUNKED + chunk(WHOLE) + b"0\r\nContent-Length: 5\r\nX-A: b\r\n\r\n",
    "zeros before the size of a chunk": CHUNKED + b"0" * 20 + chunk(WHOLE) + LAST,
    "chunks in HTTP/1.0": CHUNKED.replace(b"1.1", b"1.0") + chunk(WHOLE) + LAST,
    "a folded field": with_field(b"X-A: b\r\n  folded"),
    "a long head": with_field(b"X-A: " + b"a" * 60_000),
    "lines that end with LF": STATUS.replace(b"\r\n", b"\n") + b"\n" + WHOLE,
    "blank lines before": b"\r\n\r\n" + with_field(b"X-A: b"),
    "interim answers": b"HTTP/1.1 100 Continue\r\n\r\n" * 3 + with_field(b"X-A: b"),
    "an interim answer with other fields": (
        b"HTTP/1.1 103 Early\r\nContent-Type: text/html\r\nContent-Encoding: gzip\r\n\r\n"
        + with_field(b"X: a")
    ),
    "an upgrade that is none": with_field(b"Upgrade: h2c\r\nConnection: upgrade"),
    "status 206": with_field(b"X-A: b").replace(b"200 OK", b"206 Part"),
    "a type that no header may hold": of_type(b"text/event-stream; a=\x00\x1b[31m", WHOLE),
    "a type without end": of_type(b"text/event-stream; a=" + b"x" * 50_000, WHOLE),
    "a byte order mark": with_field(b"X-A: b", b"\xef\xbb\xbf" + WHOLE),
    "two answers": with_field(b"X-A: b", WHOLE + WHOLE),
    "garbage behind the end": with_field(b"X-A: b", WHOLE + b"\x00" * 70_000),
    "more than its length": with_field(b"Content-Length: %d" % len(WHOLE), WHOLE + NEXT),
}

REFUSED = {
    "HTTP/0.9": WHOLE,
    "HTTP/2": b"HTTP/2 200\r\n\r\n" + WHOLE,
    "two lengths": with_field(b"Content-Length: %d\r\nContent-Length: 5" % len(WHOLE)),
    "a length below zero": with_field(b"Content-Length: -1"),
    "a length beyond all": with_field(b"Content-Length: " + b"9" * 30),
    "a length and chunks": STATUS + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n" + chunk(WHOLE),
    "chunks that are compressed": STATUS + b"Transfer-Encoding: gzip, chunked\r\n\r\n" + chunk(WHOLE) + LAST,
    "a chunk beyond all": CHUNKED + b"f" * 18 + b"\r\n" + WHOLE,
    "a chunk below zero": CHUNKED + b"-5\r\n" + WHOLE,
    "an extension without end": CHUNKED + b"5;" + b"a" * 300_000,
    "a head without end": with_field(b"X-A: " + b"a" * 600_000),
    "fields without end": with_field(b"\r\n".join(b"X-%d: a" % number for number in range(20_000))),
    "interim answers without end": b"HTTP/1.1 100 Continue\r\n\r\n" * 10_000,
    "an interim answer with a body": b"HTTP/1.1 102 P\r\nContent-Length: 5\r\n\r\nabcde"
    + with_field(b"X: a"),
    "a status that there is not": b"HTTP/1.1 099 O\r\nContent-Length: 5\r\n\r\nabcde" + with_field(b"X: a"),
    "a line that is no field": with_field(b"garbage"),
    "a lone CR in the head": with_field(b"X-A: a\rSet-Cookie: b"),
    "another protocol": b"HTTP/1.1 101 S\r\nUpgrade: h2c\r\nConnection: upgrade\r\n\r\n" + WHOLE,
    "status 204 with a body": with_field(b"Content-Length: 9").replace(b"200 OK", b"204 None"),
    "status 304 with a body": with_field(b"Content-Length: 9").replace(b"200 OK", b"304 None"),
    "status 999": with_field(b"Content-Length: 9").replace(b"200 OK", b"999 Odd"),
    "no body": with_field(b"Content-Length: 0", b""),
    "UTF-16": of_type(b"application/json; charset=utf-16", '{"choices":[]}'.encode("utf-16")),
}

WORDS = b"my secret /etc/passwd http://10.0.0.1:99/x sk-abcdefghijk \\u001b[31m\\r\\nX-A: y"
ERRORS = {
    "in a document": of_type(b"application/json", b'{"error":{"message":"' + WORDS + b'","code":500}}'),
    "in a document with a code of the client's": of_type(
        b"application/json", b'{"error":{"message":"' + WORDS + b'","code":400}}'
    ),
    "by the name of the event": with_field(b"X-A: b", b"event: error\ndata: " + WORDS + b"\n\n"),
    "by an event without data": with_field(b"X-A: b", b"event: error\n\n"),
    "behind a byte order mark": with_field(b"X-A: b", b'\xef\xbb\xbfdata: {"error":"' + WORDS + b'"}\n\n'),
    "by the status": (
        b'HTTP/1.1 400 Bad\r\nContent-Type: application/json\r\n\r\n{"error":{"message":"' + WORDS + b'"}}'
    ),
    "in words that are wrapped a thousand times": (
        b"HTTP/1.1 400 Bad\r\n\r\n" + b'{"error":' * 995 + b'"' + WORDS + b'"' + b"}" * 995
    ),
}


class Hostile(FakeEngine):
    """Sends what it is told to send, and then whole answers."""

    def __init__(self) -> None:
        super().__init__(models=("odd",))

    def will_send(self, raw: bytes, *steps: Act) -> None:
        self.will_answer(Answer(steps, sent_as=raw, chunked=False), sse(NEXT))


@pytest.fixture
async def engine() -> AsyncIterator[Hostile]:
    async with Hostile() as hostile:
        yield hostile


def beside(engine: FakeEngine) -> dict[str, str]:
    return {"BACKENDS__1__KIND": "openai", "BACKENDS__1__URL": engine.url, **BRIEF}


async def asks(parts: Line) -> Heard:
    body = {"model": "odd", "stream": True, "messages": [{"role": "user", "content": PROMPT}]}
    return await ask(parts.port, body)


async def is_well(parts: Line, engine: Hostile) -> None:
    """Slots and connections are free, and the next job gets its own answer, and nothing of the last one."""
    heard = await asks(parts)
    assert (heard.is_whole, heard.body) == (True, NEXT)
    assert await parts.active_jobs() == 0
    await asyncio.gather(*(each.closed.wait() for each in engine.connections))


async def test_odd_http_that_can_be_read_is_read(engine: Hostile, tmp_path: Path) -> None:
    """Each byte of the answer once, and none of what is around it (field note 28)."""
    async with line(tmp_path, apart=False, agent=beside(engine)) as parts:
        for name, raw in SERVED.items():
            engine.will_send(raw)
            heard = await asks(parts)
            assert (heard.is_whole, heard.body) == (True, WHOLE), name
            await is_well(parts, engine)


async def test_odd_http_that_cannot_be_trusted_is_an_error_and_never_an_answer(
    engine: Hostile, tmp_path: Path
) -> None:
    """Not a byte of it reaches the client; the engine beside it serves on."""
    async with line(tmp_path, apart=False, agent=beside(engine)) as parts:
        for name, raw in REFUSED.items():
            engine.will_send(raw)
            heard = await asks(parts)
            assert (heard.status, heard.error) == (502, "backend_error"), name
            await is_well(parts, engine)
        heard = await parts.ask("beside")

    assert heard.body == tape("beside")


async def test_errors_of_each_form_tell_nothing_that_is_not_the_clients(
    engine: Hostile, tmp_path: Path
) -> None:
    """No address, path or key, and no character that acts on a terminal (field note 31)."""
    async with line(tmp_path, apart=False, agent=beside(engine)) as parts:
        for name, raw in ERRORS.items():
            engine.will_send(raw)
            heard = await asks(parts)
            assert heard.error in ("stream_error", "bad_request"), name
            assert not re.search(rb"passwd|10\.0\.0|sk-abc|\x1b|u001b|prompt|\\[rn]", heard.body), name
            await is_well(parts, engine)


@pytest.mark.parametrize("end", [Act.CUT, Act.RESET])
async def test_a_connection_that_ends_anywhere_leaves_one_clean_end(
    engine: Hostile, tmp_path: Path, end: Act
) -> None:
    """In the head, in the size of a chunk, in an event, in the end mark (field notes 28 and 73).

    Behind the reason to finish nothing of the answer is missing but its end mark.
    """
    raw = CHUNKED + chunk(chat_chunk("é")) + chunk(chat_chunk("", "stop")) + chunk(DONE) + LAST
    async with line(tmp_path, apart=False, agent=beside(engine)) as parts:
        for size in (*range(0, len(raw) - 40, 45), *range(len(raw) - 40, len(raw), 4)):
            engine.will_send(raw[:size], end)
            heard = await asks(parts)
            if heard.is_whole:
                assert WHOLE.startswith(heard.body), size
                assert b'"finish_reason": "stop"}]}' in heard.body, size
            else:
                assert heard.error in ("backend_error", "stream_truncated"), size
                assert heard.has_one_clean_end(WHOLE), size
            await is_well(parts, engine)
