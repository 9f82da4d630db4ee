"""The client's end of a job: bytes in order, then one end; knows no agent, no state and no HTTP."""

import asyncio
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

_OK = 200


_END_MARKS = (b"data: [DONE]\n\n", b"data: [DONE]\r\n\r\n")


class Answer:
    """What a client reads of its job. One writer that never waits, and one reader.

    Attributes:
        agent: who serves it, once somebody does.
        http_status, content_type: of the engine's response, as far as it is known: 200 and "" until its
            headers are here, and for ever in protocol 2, which does not pass them on.
        announced: whether the client has been told that events follow, and so a status, before any byte.
        taken: whether the reader has had a byte; from then on, no other agent may begin anew.
        has_end_mark: whether the reader has had the end mark of its stream: clients leave at it with all.
        total_bytes: all bytes of this attempt so far.
    """

    def __init__(self, job_id: str, limit_bytes: int) -> None:
        self.job_id = job_id
        self.agent = ""
        self.http_status = _OK
        self.content_type = ""
        self.announced = False
        self.taken = False
        self.has_end_mark = False
        self.total_bytes = 0
        self._limit_bytes = limit_bytes
        self._parts: list[bytes] = []
        self._waiting_bytes = 0
        self._end: Done | Failed | None = None
        self._reader: asyncio.Future[None] | None = None
        self._reader_wants_bytes = 0

    # --- the dispatcher's side: nothing waits ---------------------------------------------

    def start(self, http_status: int, content_type: str) -> None:
        self.http_status = http_status
        self.content_type = content_type

    def feed(self, data: bytes) -> bool:
        """Take bytes for the reader; False when it is too far behind: `data` is dropped then."""
        waiting = self._waiting_bytes + len(data)
        if waiting > self._limit_bytes and self._parts:
            return False
        self._parts.append(data)
        self._waiting_bytes = waiting
        self.total_bytes += len(data)
        if self._reader is not None and waiting >= self._reader_wants_bytes:
            self._wake()
        return True

    def end(self, end: Done | Failed) -> None:
        """Say how it ends; the reader learns of it behind the bytes that wait."""
        self._end = end
        self._wake()

    def reset(self) -> None:
        """Forget an attempt of which the reader has seen nothing."""
        self._parts.clear()
        self._waiting_bytes = self.total_bytes = 0
        self.start(_OK, "")

    def status_for(self, end: Done | Failed) -> int:
        """The HTTP status of an answer that ends so: an error changes none that was sent before it."""
        if self.announced:
            return _OK
        return end.http_status if isinstance(end, Failed) and not self.taken else self.http_status

    def _wake(self) -> None:
        if self._reader is not None and not self._reader.done():
            self._reader.set_result(None)

    # --- the reader's side ----------------------------------------------------------------

    @property
    def is_whole(self) -> bool:
        """Whether the reader has had all of it."""
        return isinstance(self._end, Done) and not self._parts

    async def ready(self, at_least_bytes: int = 1) -> None:
        """Wait until so many bytes wait, or no more will come. May be cancelled without loss."""
        while self._end is None and self._waiting_bytes < at_least_bytes:
            self._reader_wants_bytes = at_least_bytes
            self._reader = asyncio.get_running_loop().create_future()
            try:
                await self._reader
            finally:
                self._reader = None

    async def read(self, at_least_bytes: int = 1) -> bytes | Done | Failed:
        """All bytes that wait, once there are so many or no more will come; then how it ended.

        May be cancelled without loss. An end as Failed comes at once, before bytes of which
        the reader has not yet seen any: they are no answer.
        """
        await self.ready(at_least_bytes)
        if self._end is not None and (not self._parts or (isinstance(self._end, Failed) and not self.taken)):
            return self._end
        data = self._parts[0] if len(self._parts) == 1 else b"".join(self._parts)
        self._parts = []
        self._waiting_bytes = 0
        self.taken = True
        self.has_end_mark = data.endswith(_END_MARKS)
        return data
