"""The client's end of a job: bytes in order, then one end; knows no agent, no state and no HTTP."""

import asyncio
import sys
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Done:
    """The answer is whole."""


@dataclass(frozen=True, slots=True)
class Failed:
    """The answer will not be whole.

    Attributes:
        code: a wire code, as in `protocol.errors`.
        message: one sentence for the client.
        retryable: whether another agent may succeed.
        http_status: what the client sees if it has not seen a status yet.
        retry_after_s: when it may help to ask again.
    """

    code: str
    message: str
    retryable: bool
    http_status: int
    retry_after_s: float | None = None


DONE = Done()

NEVER = sys.maxsize
"""No answer has so many bytes: whoever asks to be told at them is not."""

_OK = 200
_END_MARKS = (b"data: [DONE]\n\n", b"data: [DONE]\r\n\r\n")
_TAIL_BYTES = 16
"""As long as the longest end mark."""

_SHORT_BYTES = 512
"""A piece that is kept whole where only its end is wanted: that is faster, and takes no room to speak of."""


def _tell_nobody(_total_bytes: int = 0) -> None:
    """Who is told when nobody asks."""


class Answer:
    """What a client gets of its job. One writer that never waits, and one consumer.

    The consumer either waits for bytes and reads them, or is told of them from within `feed` and
    takes them (`tell`, `take`). It says what it has consumed, for that is what is acknowledged
    to the agent: bytes that only wait here, or in a connection that is full, are not.

    Attributes:
        agent: who serves it, once somebody does.
        http_status, content_type: of the engine's response, as far as it is known: 200 and "" until its
            headers are here, and for ever in protocol 2, which does not pass them on.
        announced: whether the client has been told that events follow, and so a status, before any byte.
        taken: whether the consumer has had a byte; from then on, no other agent may begin anew.
        total_bytes: all bytes of this attempt so far.
        waiting_bytes: those of them that the consumer has not taken.
        consumed_bytes: those of them that it has consumed, as last told.
        outcome: how it ended, if it has; bytes may still wait then.
        tell: called from within `feed` whenever `tell_at_bytes` wait then.
    """

    __slots__ = (
        "_held_bytes", "_is_late", "_limit_bytes", "_on_consumed", "_parts", "_reader", "_tail", "agent",
        "announced", "consumed_bytes", "content_type", "http_status", "job_id", "outcome", "taken", "tell",
        "tell_at_bytes", "total_bytes", "waiting_bytes",
    )  # fmt: skip

    def __init__(
        self, job_id: str, limit_bytes: int, on_consumed: Callable[[int], None] = _tell_nobody
    ) -> None:
        """Begin without a byte.

        Args:
            job_id: whose answer it is.
            limit_bytes: so much may wait; the agent's window is meant to keep it far below.
            on_consumed: told how many bytes of this attempt have been consumed in all, whenever that
                grows, until the end. May be called from within `feed`.
        """
        self.job_id = job_id
        self.agent = ""
        self.http_status = _OK
        self.content_type = ""
        self.announced = False
        self.taken = False
        self.total_bytes = self.waiting_bytes = self.consumed_bytes = 0
        self._limit_bytes = limit_bytes
        self._held_bytes = 0
        self._is_late = False  # what is waited for
        self._on_consumed = on_consumed
        self._parts: list[bytes] = []
        self._tail = b""  # the last bytes that were taken
        self.outcome: Done | Failed | None = None
        self._reader: asyncio.Future[None] | None = None
        self.tell_at_bytes = NEVER
        self.tell: Callable[[], None] = _tell_nobody

    # --- the dispatcher's side: nothing waits ---------------------------------------------

    def start(self, http_status: int, content_type: str) -> None:
        self.http_status = http_status
        self.content_type = content_type

    def feed(self, data: bytes) -> bool:
        """Take bytes for the consumer; False when it is too far behind: `data` is dropped then."""
        size = len(data)
        waiting = self.waiting_bytes + size
        if waiting > self._limit_bytes and self._parts:
            return False
        self._parts.append(data)
        self.waiting_bytes = waiting
        self.total_bytes += size
        if self._held_bytes:
            self._store()
        if waiting >= self.tell_at_bytes:
            self.tell()
        return True

    def end(self, end: Done | Failed) -> None:
        """Say how it ends; the consumer learns of it behind the bytes that wait."""
        self.outcome = end
        self._wake()

    def reset(self) -> None:
        """Forget an attempt of which the consumer has seen nothing."""
        self._parts.clear()
        self.total_bytes = self.waiting_bytes = self.consumed_bytes = 0
        self.start(_OK, "")

    def status_for(self, end: Done | Failed) -> int:
        """The HTTP status of an answer that ends so: an error changes none that was sent before it."""
        if self.announced:
            return _OK
        return end.http_status if isinstance(end, Failed) and not self.taken else self.http_status

    # --- the consumer's side ----------------------------------------------------------------

    @property
    def is_whole(self) -> bool:
        """Whether the consumer has had all of it."""
        return isinstance(self.outcome, Done) and not self._parts

    @property
    def has_end_mark(self) -> bool:
        """Whether the consumer has had the end mark of its stream: clients leave at it with all."""
        return self._tail.endswith(_END_MARKS)

    def ends_with(self, piece_end: bytes) -> bool:
        """Whether what the consumer has had ends so, as a whole event or line does."""
        return self._tail.endswith(piece_end)

    def is_ready(self, at_least_bytes: int = 1) -> bool:
        """Whether so many bytes wait, or no more will come."""
        return self.waiting_bytes >= at_least_bytes or self.outcome is not None

    async def ready(self, at_least_bytes: int = 1, *, within_s: float | None = None) -> bool:
        """Wait for that; False when `within_s` passed first. May be cancelled without loss."""
        if self.is_ready(at_least_bytes):
            return True
        loop = asyncio.get_running_loop()
        self._is_late = False
        alarm = None if within_s is None else loop.call_later(within_s, self._be_late)
        self.tell_at_bytes, self.tell = at_least_bytes, self._wake
        try:
            while not self.is_ready(at_least_bytes) and not self._is_late:
                await self._next_wake(loop)
        finally:
            self.tell_nobody()
            if alarm is not None:
                alarm.cancel()
        return self.is_ready(at_least_bytes)

    async def read(self, at_least_bytes: int = 1) -> bytes | Done | Failed:
        """All bytes that wait, once there are so many or no more will come; then how it ended.

        May be cancelled without loss. What is read counts as consumed. An end as Failed comes at
        once, before bytes of which the consumer has not yet seen any: they are no answer.
        """
        await self.ready(at_least_bytes)
        if self.outcome is not None and (
            not self._parts or (isinstance(self.outcome, Failed) and not self.taken)
        ):
            return self.outcome
        data = self.take()
        self.consumed()
        return data

    async def ended(self) -> Done | Failed:
        """Wait for the end, whatever becomes of the bytes meanwhile. May be cancelled without loss."""
        while self.outcome is None:
            await self._next_wake(asyncio.get_running_loop())
        return self.outcome

    def hold(self, limit_bytes: int) -> None:
        """Keep the answer until it has so many bytes: till then they are consumed as they arrive."""
        self._held_bytes = limit_bytes
        self._store()

    def tell_nobody(self) -> None:
        """Not of any bytes: they wait until they are asked for."""
        self.tell_at_bytes, self.tell = NEVER, _tell_nobody

    def take(self, limit_bytes: int = NEVER) -> bytes:
        """Bytes that wait: all, or so many whole pieces as it takes to reach the limit."""
        parts = self._parts
        if not parts:
            return b""
        if self.waiting_bytes > limit_bytes:
            size = count = 0
            while size < limit_bytes:
                size += len(parts[count])
                count += 1
            parts, self._parts = parts[:count], parts[count:]
        else:
            self._parts = []
        data = parts[0] if len(parts) == 1 else b"".join(parts)
        size = len(data)
        self.waiting_bytes -= size
        self._held_bytes = 0
        if _TAIL_BYTES <= size <= _SHORT_BYTES:
            self._tail = data
        else:
            self._tail = (self._tail + data if size < _TAIL_BYTES else data)[-_TAIL_BYTES:]
        self.taken = True
        return data

    def consumed(self, but_bytes: int = 0) -> None:
        """Say that whatever was taken has been consumed, but for the last `but_bytes`."""
        total_bytes = self.total_bytes - self.waiting_bytes - but_bytes
        if total_bytes > self.consumed_bytes:
            self.consumed_bytes = total_bytes
            if self.outcome is None:  # else nobody waits for it: with the end, the agent was told of all
                self._on_consumed(total_bytes)

    # --- within -----------------------------------------------------------------------------

    def _store(self) -> None:
        if self.total_bytes <= self._held_bytes:
            self.consumed(-self.waiting_bytes)

    def _be_late(self) -> None:
        self._is_late = True
        self._wake()

    def _wake(self) -> None:
        if self._reader is not None and not self._reader.done():
            self._reader.set_result(None)

    async def _next_wake(self, loop: asyncio.AbstractEventLoop) -> None:
        self._reader = loop.create_future()
        try:
            await self._reader
        finally:
            self._reader = None
