"""Streaming HTTP to engines: requests, refusals, pages; knows no engine family and no form of answer.

A closed connection is the one cancel that all engines understand: leaving an answer closes its own. Only
after a whole answer a connection may serve the next job; engines drop those at will, so a job that finds
it closed takes a fresh one.
"""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Any, Final, NamedTuple, Self

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
from provider_agent.backends.pool import Pool
from provider_agent.backends.proxy import environment_proxy
from provider_agent.backends.reply import HttpReply
from provider_agent.backends.request import prepare
from provider_agent.backends.silence import Silence
from provider_agent.backends.stream import scanner_for
from provider_agent.backends.target import Target
from provider_agent.backends.wire import EngineSilent, Lost, Wire

MAX_ERROR_BYTES: Final = 64 * 1024
ERROR_TIMEOUT_S: Final = 2.0
MAX_PAGE_BYTES: Final = 8 * 1024 * 1024
_SUCCESS: Final = range(200, 300)


@dataclass(frozen=True, slots=True)
class Page:
    """An engine's answer to a question about itself. Header names are in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def value(self) -> Any:
        """The body's JSON, or None. One odd character in it must not cost the rest."""
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
        if self.status not in _SUCCESS:
            raise failures.of_status(self.status, body=self.body, now=datetime.now(UTC))
        value = self.value
        if value is None:
            raise BackendFailed("the engine answered with something else than JSON")
        return value


class _Exchange(NamedTuple):
    """A request that is being answered."""

    wire: Wire
    head: Head
    silence: Silence

    async def hang_up(self) -> None:
        self.silence.stop()
        await self.wire.hang_up()


class EngineHttp:
    """HTTP to all engines. An async context manager; to be entered before use."""

    def __init__(self, *, dial_timeout_s: float = 10.0) -> None:
        self._dial_timeout_s = dial_timeout_s
        self._dialler: Dialler | None = None
        self._pool: Pool | None = None
        self._targets: dict[str, Target] = {}  # by base URL; the environment does not change

    async def __aenter__(self) -> Self:
        self._dialler = Dialler(timeout_s=self._dial_timeout_s)
        self._pool = Pool()
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._pool is not None:
            await self._pool.close()

    @asynccontextmanager
    async def open(self, base_url: str, call: Call, api_key: str | None = None) -> AsyncIterator[HttpReply]:
        """Send a job's request; entering waits for the headers.

        Leaving closes the connection; after a whole answer it may be kept for the next job.
        Raises BackendError on entering.
        """
        request = prepare(call)
        exchange = await self._request(
            base_url, call.endpoint, request.body, api_key, timeout_s=call.first_byte_timeout_s, keeps=True
        )
        try:
            wire, head, silence = exchange
            await _require_success(exchange)
            _require_plain(head)
            scanner = scanner_for(
                head.text(b"content-type"), drops_usage=request.drops_usage, choices=request.choices
            )
            reply = HttpReply(wire, head, scanner, silence, idle_s=call.idle_timeout_s)
            yield reply
        except BaseException:
            await exchange.hang_up()
            raise
        silence.stop()
        if not (reply.is_whole and self._pool is not None and self._pool.keep((base_url, api_key), wire)):
            await wire.hang_up()

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
        try:
            async with asyncio.timeout(timeout_s):
                exchange = await self._request(
                    base_url, path, body, api_key, timeout_s=timeout_s, keeps=False
                )
                try:
                    exchange.silence.stop()
                    _require_plain(exchange.head)
                    content = await exchange.wire.body(MAX_PAGE_BYTES)
                finally:
                    await exchange.hang_up()
        except (Lost, NotHttp) as error:
            raise BackendFailed("the engine's answer broke off") from error
        except (TimeoutError, FirstByteTimeout):
            raise BackendUnreachable("the engine does not answer in time") from None
        headers = {name.decode("latin-1"): exchange.head.text(name) for name in exchange.head.fields}
        return Page(exchange.head.status, headers, content)

    async def _request(
        self,
        base_url: str,
        path: str,
        body: bytes | None,
        api_key: str | None,
        *,
        timeout_s: float,
        keeps: bool,
    ) -> _Exchange:
        """Send a request and wait for the head of its answer, over a connection that rests or a fresh one."""
        if self._dialler is None or self._pool is None:
            raise RuntimeError("EngineHttp is used before it is entered")
        target = self._target(base_url)
        message = target.head(path, body, api_key=api_key, keeps=keeps), body or b""
        now = asyncio.get_running_loop().time
        ends_s = now() + timeout_s
        try:
            wire = self._pool.take((base_url, api_key)) if keeps else None
            if wire is not None:
                try:
                    return await _exchange(wire, message, timeout_s)
                except Lost as lost:
                    if lost.was_heard:
                        raise
            wire = await self._dialler.dial(target, within_s=ends_s - now())
            exchange = await _exchange(wire, message, ends_s - now())
        except EngineSilent:
            raise FirstByteTimeout(f"the engine sent no byte for {timeout_s:g} s") from None
        except Lost as error:
            raise BackendFailed("the engine closed the connection without an answer") from error
        except NotHttp as error:
            raise BackendFailed("the engine's answer is not HTTP") from error
        if target.proxy is not None and exchange.head.status == HTTPStatus.PROXY_AUTHENTICATION_REQUIRED:
            await exchange.hang_up()
            raise BackendUnreachable("the proxy to the engine cannot be used")
        return exchange

    def _target(self, base_url: str) -> Target:
        target = self._targets.get(base_url)
        if target is None:
            try:
                proxy = environment_proxy(base_url)
            except ValueError as error:
                raise BackendUnreachable("the proxy to the engine cannot be used") from error
            try:
                target = self._targets[base_url] = Target(base_url, proxy)
            except ValueError as error:  # a name that cannot even be asked for
                raise BackendUnreachable("the engine's host name is not known") from error
        return target


async def _exchange(wire: Wire, message: tuple[bytes, bytes], timeout_s: float) -> _Exchange:
    silence = Silence(timeout_s, wire.be_silent)
    try:
        wire.send(*message)
        head = await wire.answered()
    except BaseException:
        silence.stop()
        await wire.hang_up()
        raise
    silence.pause()
    return _Exchange(wire, head, silence)


def _require_plain(head: Head) -> None:
    """What nobody can read is no answer."""
    encoding = head.text(b"content-encoding").strip().lower()
    if encoding not in ("", "identity"):
        raise BackendFailed("the engine compressed its answer, which nobody had asked it to do")


async def _require_success(exchange: _Exchange) -> None:
    """Raises what a status other than 2xx means. The body has not much time: the status says enough."""
    head, body = exchange.head, b""
    if head.status in _SUCCESS:
        return
    exchange.silence.stop()
    try:
        async with asyncio.timeout(ERROR_TIMEOUT_S):
            body = await exchange.wire.body(MAX_ERROR_BYTES)
    except (TimeoutError, Lost, NotHttp):
        pass
    retry_after = head.text(b"retry-after")
    raise failures.of_status(head.status, body=body, retry_after=retry_after, now=datetime.now(UTC))
