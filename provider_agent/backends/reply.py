"""An engine's answer, pushed through its scanner to whoever takes it; knows no form of answer."""

import asyncio
import re
from collections.abc import Callable
from typing import Final

from provider_agent.backends.base import BackendError, FirstByteTimeout, IdleTimeout, Usage
from provider_agent.backends.framing import Head
from provider_agent.backends.keepalive import KeepAlive
from provider_agent.backends.stream import Scanner
from provider_agent.backends.wire import EngineSilent, Wire

_UNFIT: Final = re.compile(r"[^ -~]")
"""Control characters, which no header may hold, and what is no ASCII, such as lone surrogates."""

_LONGEST_TYPE: Final = 256

BELIEVED_S: Final = 3600.0
"""Who has said for so long that the answer is on its way, and nothing else, is not believed any more: it may
be a proxy that has not noticed that the engine behind it is gone."""


class HttpReply:
    """A `Reply` (see `base.py`).

    Attributes:
        is_whole: relayed to its end, and nothing was missing.
    """

    def __init__(
        self, wire: Wire, head: Head, scanner: Scanner, *, idle_s: float, believed_s: float = BELIEVED_S
    ) -> None:
        self.http_status = head.status
        self.content_type = _UNFIT.sub("?", head.text(b"content-type"))[:_LONGEST_TYPE]
        self.is_whole = False
        self._wire = wire
        self._scanner = scanner
        self._feed = scanner.feed
        self._silence = wire.silence
        self._idle_s = idle_s
        self._loop = asyncio.get_running_loop()
        self._now = self._loop.time
        self._take: Callable[[bytes], None] = _nobody
        self._keep_alive = KeepAlive()
        self._believed_until_s = self._now() + believed_s
        self._has_begun = False
        self._is_over = False
        self._error: Exception | None = None
        self._over: asyncio.Future[None] | None = None

    @property
    def usage(self) -> Usage:
        return self._scanner.usage

    async def relay(self, take: Callable[[bytes], None]) -> None:
        self._take = take
        self._silence.resume()
        self._wire.read(self._hear_first, self._end)
        if not self._is_over:
            self._over = self._loop.create_future()
            await self._over
        self._silence.end()
        if self._error is not None:
            raise self._error
        self.is_whole = True

    def pause(self) -> None:
        if not self._is_over:  # the wire may be another job's by now
            self._silence.pause()
            self._wire.pause()

    def resume(self) -> None:
        if not self._is_over:
            self._silence.resume()
            self._wire.resume()

    def _hear_first(self, data: bytes) -> None:
        """Until it begins, the limit for the first byte holds, and each sign of life starts it anew.

        Not for ever, though. Nor is such a sign for the client: a byte that it has seen would bind the job
        to this engine.
        """
        data = self._keep_alive.skip(data)
        if not data:
            if self._now() < self._believed_until_s:
                self._silence.since_s = self._now()
            return
        self._has_begun = True
        self._wire.read_on(self._hear)
        self._hear(data)
        if not self._is_over:
            self._silence.limit(self._idle_s)

    def _hear(self, data: bytes) -> None:
        """On the path of every token."""
        self._silence.since_s = self._now()
        try:
            relay = self._feed(data)
            if relay:
                self._take(relay)
        except Exception as error:  # noqa: BLE001 - it is the caller's of `relay`, who is not below us here
            self._close(error)
        else:
            if self._scanner.ended:
                self._end(None)

    def _end(self, cut: Exception | None) -> None:
        """The verdict, and what was held until then. An answer that was whole before a cut stays whole."""
        if self._is_over:
            return
        try:
            relay = self._scanner.finish()
            if relay:
                self._take(relay)
        except BackendError as verdict:
            error = self._silent_error(cut) or verdict
            error.__cause__ = cut
            self._close(error)
        except Exception as error:  # noqa: BLE001 - as above
            self._close(error)
        else:
            self._close(None)

    def _close(self, error: Exception | None) -> None:
        self._is_over = True
        self._error = error
        self._take = _nobody
        self._wire.read_on(_nobody)
        if self._over is not None and not self._over.done():
            self._over.set_result(None)

    def _silent_error(self, cut: Exception | None) -> BackendError | None:
        if not isinstance(cut, EngineSilent):
            return None
        if not self._has_begun:
            return FirstByteTimeout("the engine sent headers, and then no byte of its answer in time")
        return IdleTimeout(f"the engine was silent for {self._idle_s:g} s in the middle of its answer")


def _nobody(_data: bytes) -> None:
    """What comes before `relay`, or after the end."""
