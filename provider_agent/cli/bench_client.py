"""A client of any OpenAI-compatible endpoint that looks at the clock; knows no plan and no terminal."""

import asyncio
import contextlib
import json
import os
import socket
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from http import HTTPStatus
from types import TracebackType
from typing import Any, Self

import aiohttp

CONNECT_LIMIT_S = 10.0

KEPT_TRIES = 2
"""Requests that may meet a kept connection which the other end has just closed."""

SMALL_BUFFER_BYTES = 4096
"""What the system keeps for a reader that stalls: the less, the sooner the other end feels it."""

_PROMPT = "Count from one to one thousand in words, one number to a line, and say nothing else."


class EndpointFailed(Exception):
    """There was no whole answer; the text is one sentence. Attributes: status, None when there was none."""

    def __init__(self, sentence: str, status: int | None = None) -> None:
        super().__init__(sentence)
        self.status = status


@dataclass(slots=True)
class Heard:
    """What came of one answer; times in seconds since the request.

    Attributes:
        tokens: as the endpoint counted them; else the number of pieces.
        is_whole: its end mark came.
    """

    tokens: int = 0
    first_token_s: float | None = None
    last_token_s: float = 0.0
    is_whole: bool = False

    @property
    def tokens_per_s(self) -> float | None:
        """Speed after the first token; None when there was no time to see one."""
        took_s = self.last_token_s - (self.first_token_s or 0.0)
        return (self.tokens - 1) / took_s if took_s > 0 and self.tokens > 1 else None


@dataclass(frozen=True, slots=True)
class Stall:
    """When a reader stops, which it tells, and when it reads on, which it is told."""

    begun: asyncio.Event = field(default_factory=asyncio.Event)
    over: asyncio.Event = field(default_factory=asyncio.Event)


class Endpoint:
    """One endpoint, asked over connections of its own; to be entered before use."""

    def __init__(
        self, url: str, api_key: str | None = None, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._url = url
        self._clock = clock
        self._headers = {} if api_key is None else {"Authorization": f"Bearer {api_key}"}
        self._session: aiohttp.ClientSession | None = None
        self._stalling: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_LIMIT_S)
        self._session = aiohttp.ClientSession(
            headers=self._headers, timeout=timeout, connector=aiohttp.TCPConnector(limit=0)
        )
        self._stalling = aiohttp.ClientSession(
            headers=self._headers,
            timeout=timeout,
            connector=aiohttp.TCPConnector(force_close=True, socket_factory=_small_socket),
            read_bufsize=SMALL_BUFFER_BYTES,
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for session in (self._session, self._stalling):
            if session is not None:
                await session.close()

    async def models(self) -> list[str]:
        """The models on offer. Raises EndpointFailed."""
        with _in_words():
            async with _entered(self._session).get(f"{self._url}/v1/models") as response:
                await _check(response)
                listed = json.loads(await response.read())
        try:
            return [str(model["id"]) for model in listed["data"]]
        except (KeyError, TypeError):
            raise EndpointFailed("the endpoint lists its models in no form that is known") from None

    async def hear(self, model: str, max_tokens: int) -> Heard:
        """One streamed answer to its end. Raises EndpointFailed."""
        heard = Heard()
        async for _ in self.pieces(model, max_tokens, heard):
            pass
        return heard

    async def pieces(self, model: str, max_tokens: int, heard: Heard) -> AsyncIterator[int]:
        """The pieces of a streamed answer by number from 1; leaving closes the connection.

        Raises:
            EndpointFailed: it did not come whole.
        """
        start_s = self._clock()
        async with self._asked(_entered(self._session), _body(model, max_tokens)) as response:
            async for piece in self._heard(response, heard, start_s):
                yield piece

    async def wait_unstreamed(self, model: str, max_tokens: int) -> None:
        """Ask for an answer in one piece; cancelled, it closes the connection. Raises EndpointFailed."""
        async with self._asked(
            _entered(self._session), {**_body(model, max_tokens), "stream": False}
        ) as response:
            await response.read()

    async def hear_stalled(self, model: str, max_tokens: int, stall: Stall, heard: Heard) -> None:
        """A streamed answer, of which nothing is read from the first token on until the stall is over.

        Raises:
            EndpointFailed: it did not come whole in the end.
        """
        start_s = self._clock()
        async with self._asked(_entered(self._stalling), _body(model, max_tokens)) as response:
            async for piece in self._heard(response, heard, start_s):
                if piece == 1:
                    stall.begun.set()
                    await _not_reading(response, stall.over)

    @asynccontextmanager
    async def _asked(
        self, session: aiohttp.ClientSession, body: dict[str, Any]
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        with _in_words():
            async with await self._post(session, body) as response:
                await _check(response)
                try:
                    yield response
                finally:
                    if not response.content.at_eof():
                        response.close()  # what was not read is not wanted: the other end is to know at once

    async def _post(self, session: aiohttp.ClientSession, body: dict[str, Any]) -> aiohttp.ClientResponse:
        """Ask again where the connection was a kept one, and closed: llama.cpp does so after each stream."""
        url = f"{self._url}/v1/chat/completions"
        for _ in range(KEPT_TRIES):
            try:
                return await session.post(url, json=body)
            except aiohttp.ClientConnectorError:
                raise
            except (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError):
                continue
        return await session.post(url, json=body)

    async def _heard(
        self, response: aiohttp.ClientResponse, heard: Heard, start_s: float
    ) -> AsyncIterator[int]:
        pieces = 0
        async for raw in response.content:
            data = _data_of(raw)
            if data == b"[DONE]":
                heard.is_whole = True
                return
            event = json.loads(data) if data else {}
            if error := event.get("error"):
                raise EndpointFailed(f"the answer broke off: {_message(error)}")
            if usage := event.get("usage"):
                heard.tokens = usage.get("completion_tokens") or heard.tokens
            if any(map(_says_something, event.get("choices") or ())):
                pieces += 1
                heard.tokens = max(heard.tokens, pieces)
                heard.last_token_s = self._clock() - start_s
                if heard.first_token_s is None:
                    heard.first_token_s = heard.last_token_s
                yield pieces
        raise EndpointFailed("the answer ended without its end mark")


async def _not_reading(response: aiohttp.ClientResponse, until: asyncio.Event) -> None:
    transport = response.connection.transport if response.connection is not None else None
    if transport is not None:
        transport.pause_reading()
    try:
        await until.wait()
    finally:
        if transport is not None and not transport.is_closing():
            transport.resume_reading()


def _entered(session: aiohttp.ClientSession | None) -> aiohttp.ClientSession:
    if session is None:
        raise RuntimeError("the endpoint was not entered")
    return session


def _small_socket(address: aiohttp.AddrInfoType) -> socket.socket:
    family, kind, protocol, _, _ = address
    made = socket.socket(family, kind, protocol)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SMALL_BUFFER_BYTES)
    return made


def _body(model: str, max_tokens: int) -> dict[str, Any]:
    return {
        "model": model,
        "messages": [{"role": "user", "content": _PROMPT}],
        "max_tokens": max_tokens,
        "stream": True,
        "stream_options": {"include_usage": True},
    }


def _data_of(line: bytes) -> bytes:
    """The data of an event's line; nothing for comments, which keep the connection alive."""
    return line.removeprefix(b"data:").strip() if line.startswith(b"data:") else b""


def _says_something(choice: dict[str, Any]) -> bool:
    delta = choice.get("delta") or {}
    return any(delta.get(name) for name in ("content", "reasoning_content", "reasoning"))


async def _check(response: aiohttp.ClientResponse) -> None:
    if response.status == HTTPStatus.OK:
        return
    try:
        message = _message(json.loads(await response.read())["error"])
    except (ValueError, KeyError, TypeError):
        message = "no reason given"
    raise EndpointFailed(f"the endpoint answered {response.status}: {message}", response.status)


def _message(error: Any) -> str:
    """What an endpoint says went wrong, on one line."""
    said = error.get("message", error) if isinstance(error, dict) else error
    return " ".join(str(said).split())[:300]


@contextlib.contextmanager
def _in_words() -> Any:
    """Whatever goes wrong below is an EndpointFailed."""
    try:
        yield
    except aiohttp.ClientConnectorError as error:
        reason = os.strerror(error.errno) if error.errno and error.errno > 0 else error.strerror or str(error)
        raise EndpointFailed(f"cannot connect: {reason}") from error
    except (aiohttp.ClientError, OSError) as error:
        raise EndpointFailed(f"the connection broke: {str(error) or type(error).__name__}") from error
    except ValueError as error:
        raise EndpointFailed("the endpoint said something that is no JSON") from error
    except (AttributeError, TypeError) as error:
        raise EndpointFailed("the endpoint said something in no form that is known") from error
