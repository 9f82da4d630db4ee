"""Streaming HTTP to engines: requests, refusals, pages; knows no engine family and no form of answer.

A closed connection is the one cancel that all engines understand: leaving an answer closes its own. Only
after a whole answer a connection may serve the next job; engines drop those at will, so a job that finds
it closed takes a fresh one.
"""

import asyncio
from collections.abc import Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from http import HTTPStatus
from typing import Any, Final, NoReturn, Self

import msgspec

from provider_agent.backends import failures, lenient
from provider_agent.backends.base import (
    BackendFailed,
    BackendUnreachable,
    Call,
    FirstByteTimeout,
)
from provider_agent.backends.dial import Dialler
from provider_agent.backends.framing import Head, NotHttp
from provider_agent.backends.pool import Key, Pool
from provider_agent.backends.presence import Presence
from provider_agent.backends.proxy import environment_proxy
from provider_agent.backends.reply import HttpReply
from provider_agent.backends.request import prepare
from provider_agent.backends.stream import scanner_for
from provider_agent.backends.target import Target
from provider_agent.backends.wire import EngineSilent, Lost, Wire

MAX_ERROR_BYTES: Final = 64 * 1024
ERROR_TIMEOUT_S: Final = 2.0
MAX_PAGE_BYTES: Final = 8 * 1024 * 1024
MAX_PAGE_VALUES: Final = 300_000
"""Ten thousand models have fewer. To read a page of millions would stop every job for seconds."""
_SUCCESS: Final = range(200, 300)


@dataclass(frozen=True)
class Page:
    """An engine's answer to a question about itself. Header names are in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @cached_property
    def value(self) -> Any:
        """The body's JSON, or None. One odd character in it must not cost the rest."""
        if _values_at_most(self.body) > MAX_PAGE_VALUES:
            return None
        try:
            return msgspec.json.decode(self.body)
        except (msgspec.DecodeError, UnicodeError, RecursionError):
            pass
        try:
            return lenient.loads(self.body)
        except ValueError:
            return None

    def require(self) -> Any:
        """The JSON of a 2xx; raises the BackendError that anything else means."""
        if self.status == HTTPStatus.NOT_FOUND:  # of a page, not of a model
            raise BackendFailed("the engine has no such page; is its kind right?", http_status=self.status)
        self.require_success()
        value = self.value
        if value is None:
            raise BackendFailed("the engine answered with something else than JSON")
        return value

    def require_success(self) -> None:
        """Raise the BackendError that anything but a 2xx means."""
        if self.status not in _SUCCESS:
            words = self.body if len(self.body) <= MAX_ERROR_BYTES else b""
            raise failures.of_status(self.status, body=words, now=datetime.now(UTC))


def _values_at_most(body: bytes) -> int:
    """How many there can be in a list or an object: before each, one of these signs stands."""
    return sum(map(body.count, (b",", b"[", b"{")))


class _Client:
    """Requests and the heads of their answers, over connections that rest or fresh ones."""

    def __init__(self, *, dial_timeout_s: float) -> None:
        self.pool = Pool()
        self.presence = Presence()
        self._dialler = Dialler(timeout_s=dial_timeout_s)
        self._now = asyncio.get_running_loop().time
        self._targets: dict[str, Target] = {}  # by base URL; the environment does not change

    async def request(
        self, key: Key, path: str, body: bytes | None, *, timeout_s: float, keeps: bool
    ) -> tuple[Wire, Head]:
        """Send a request and wait for the head of its answer; the silence after it is paused.

        A connection that rested may have been closed just now: then a fresh one is taken, once.
        """
        base_url, api_key = key
        target = self._targets.get(base_url) or self._target(base_url)
        message = target.head(path, body, api_key=api_key, keeps=keeps), body or b""
        ends_s = self._now() + timeout_s
        try:
            wire = self.pool.take(key) if keeps else None
            if wire is not None:
                try:
                    return wire, await _head(wire, message, timeout_s)
                except Lost as lost:
                    if lost.was_heard:
                        raise
            return await self._fresh(target, message, ends_s)
        except EngineSilent:
            raise FirstByteTimeout(f"the engine sent no byte for {timeout_s:g} s") from None
        except Lost as error:
            raise BackendFailed("the engine closed the connection without an answer") from error
        except NotHttp as error:
            raise BackendFailed("the engine's answer is not HTTP") from error

    async def hold(self, base_url: str, *, timeout_s: float) -> None:
        target = self._targets.get(base_url) or self._target(base_url)
        self.presence.hold(base_url, await self._dialler.dial(target, within_s=timeout_s))

    async def _fresh(self, target: Target, message: tuple[bytes, bytes], ends_s: float) -> tuple[Wire, Head]:
        """The same over a new connection."""
        wire = await self._dialler.dial(target, within_s=ends_s - self._now())
        head = await _head(wire, message, ends_s - self._now())
        if target.proxy is not None and head.status == HTTPStatus.PROXY_AUTHENTICATION_REQUIRED:
            await wire.hang_up()
            raise BackendUnreachable("the proxy to the engine cannot be used")
        return wire, head

    def _target(self, base_url: str) -> Target:
        try:
            proxy = environment_proxy(base_url)
        except ValueError as error:
            raise BackendUnreachable("the proxy to the engine cannot be used") from error
        try:
            target = self._targets[base_url] = Target(base_url, proxy)
        except ValueError as error:  # a name that cannot even be asked for
            raise BackendUnreachable("the engine's host name is not known") from error
        return target


class _Answer:
    """What `open` gives: an engine's answer, and then what becomes of its connection."""

    _wire: Wire
    _reply: HttpReply

    def __init__(self, client: _Client, key: Key, call: Call, *, must_finish: bool) -> None:
        self._must_finish = must_finish
        self._client = client
        self._key = key
        self._call = call

    async def __aenter__(self) -> HttpReply:
        call = self._call
        request = prepare(call)
        wire, head = await self._client.request(
            self._key, call.endpoint, request.body, timeout_s=call.first_byte_timeout_s, keeps=True
        )
        try:
            if head.status not in _SUCCESS:
                await _refuse(wire, head)
            _require_plain(head)
            scanner = scanner_for(
                head.text(b"content-type"),
                drops_usage=request.drops_usage,
                choices=request.choices,
                may_be_list=request.may_be_list,
                must_finish=self._must_finish,
            )
            self._wire, self._reply = wire, HttpReply(wire, head, scanner, idle_s=call.idle_timeout_s)
        except BaseException:
            await wire.hang_up()
            raise
        return self._reply

    async def __aexit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        is_whole = error is None and self._reply.is_whole
        if not (is_whole and self._client.pool.keep(self._key, self._wire)):
            await self._wire.hang_up()


class EngineHttp:
    """HTTP to all engines. An async context manager; to be entered before use."""

    def __init__(self, *, dial_timeout_s: float = 10.0) -> None:
        self._dial_timeout_s = dial_timeout_s
        self._entered: _Client | None = None

    async def __aenter__(self) -> Self:
        self._entered = _Client(dial_timeout_s=self._dial_timeout_s)
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._entered is not None:
            await self._entered.pool.close()
            await self._entered.presence.close()

    def open(
        self, base_url: str, call: Call, api_key: str | None = None, *, must_finish: bool = False
    ) -> AbstractAsyncContextManager[HttpReply]:
        """Send a job's request; entering waits for the headers.

        Leaving closes the connection; after a whole answer it may be kept for the next job.
        Raises BackendError on entering. `must_finish`: see `scanner_for`.
        """
        return _Answer(self._client, (base_url, api_key), call, must_finish=must_finish)

    async def ask(
        self,
        base_url: str,
        path: str,
        *,
        timeout_s: float,
        api_key: str | None = None,
        body: bytes | None = None,
    ) -> Page:
        """GET a page about the engine, or POST a question. Raises BackendUnreachable or BackendFailed."""
        key = base_url, api_key
        try:
            async with asyncio.timeout(timeout_s):
                wire, head = await self._client.request(key, path, body, timeout_s=timeout_s, keeps=False)
                try:
                    wire.silence.end()
                    _require_plain(head)
                    content = await wire.body(MAX_PAGE_BYTES)
                finally:
                    await wire.hang_up()
        except (Lost, NotHttp) as error:
            raise BackendFailed("the engine's answer broke off") from error
        except (TimeoutError, FirstByteTimeout):
            raise BackendUnreachable("the engine does not answer in time") from None
        return Page(head.status, {name.decode("latin-1"): head.text(name) for name in head.fields}, content)

    async def hold(self, base_url: str, *, timeout_s: float) -> None:
        """Keep a connection on which nothing is asked, in place of the last. Raises BackendUnreachable."""
        try:
            await self._client.hold(base_url, timeout_s=timeout_s)
        except FirstByteTimeout:
            raise BackendUnreachable("the engine does not accept connections in time") from None

    def holds(self, base_url: str) -> bool:
        """The engine has not ended since the last `hold`, nor closed that connection."""
        return self._client.presence.holds(base_url)

    @property
    def _client(self) -> _Client:
        if self._entered is None:
            raise RuntimeError("EngineHttp is used before it is entered")
        return self._entered


async def _head(wire: Wire, message: tuple[bytes, bytes], timeout_s: float) -> Head:
    silence = wire.silence
    silence.begin(timeout_s)
    try:
        wire.send(*message)
        head = await wire.answered()
    except BaseException:
        await wire.hang_up()
        raise
    silence.pause()
    return head


def _require_plain(head: Head) -> None:
    """What nobody can read is no answer."""
    names = (b"content-encoding", b"transfer-encoding")
    content, transfer = (head.fields.get(name, b"").strip().lower() for name in names)
    if content not in (b"", b"identity") or transfer not in (b"", b"identity", b"chunked"):
        raise BackendFailed("the engine compressed its answer, which nobody had asked it to do")


async def _refuse(wire: Wire, head: Head) -> NoReturn:
    """Raise what a status other than 2xx means. The body has not much time: the status says enough."""
    body = b""
    wire.silence.end()
    try:
        async with asyncio.timeout(ERROR_TIMEOUT_S):
            body = await wire.body(MAX_ERROR_BYTES)
    except (TimeoutError, Lost, NotHttp):
        pass
    retry_after = head.text(b"retry-after")
    raise failures.of_status(head.status, body=body, retry_after=retry_after, now=datetime.now(UTC))
