"""One job's way out: what is due of it, and in which order. Knows no socket and no engine.

A `Lane` belongs to its job and outlives connections. What leaves while it is attached to a channel:

1. `job_started`, then chunks as far as the window allows, then the outcome, once no byte waits.
2. After a resume all that the peer does not have goes again, in the same order.
3. After `discard` nothing but an outcome that is finished later. After the outcome, nothing.
"""

from collections.abc import Callable
from typing import Protocol

import msgspec

from provider_agent.protocol.codec import ChunkEncoder, chunk_encoder, encode
from provider_agent.protocol.frames import JobDone, JobStarted, Outcome
from provider_agent.protocol.window import WINDOW_BYTES, SendWindow

MERGED_BYTES = 64 * 1024
"""The largest payload of a chunk frame."""


class Way(Protocol):
    """What a lane needs of the channel that it is attached to.

    Attributes:
        protocol: the dialect in use.
        binary: whether the peer takes chunks in the binary form.
        is_free: whether nothing has to wait at present.
        turn: changes whenever what was entered is handed over, at least once in a turn of the loop.
    """

    binary: bool
    is_free: bool
    turn: int

    @property
    def protocol(self) -> int: ...

    def send(self, message: bytes) -> None:
        """Send at once; only while `is_free`."""
        ...

    def enter(self, lane: "Lane", size_bytes: int) -> None:
        """The lane has something to send, `size_bytes` of it new: it takes its turn."""
        ...

    def withdraw(self, lane: "Lane") -> None:
        """The lane has nothing to send any more, and nothing to hear."""
        ...

    def tell(self, lane: "Lane") -> None:
        """Call the lane's `hear` soon."""
        ...


class Lane:
    """One job's way out.

    Attributes:
        window: what waits, and what is not acknowledged.
        outcome: the end of the job, once there is one; with its numbers once it has left.
        on_room: called when a write was answered with False and there is room again, and when all
            that was written or finished so far has left. Never from within a method, but for `ack`.
        is_settled: the peer has the outcome, as far as it tells such a thing: the lane may be forgotten.
        is_queued: the channel's own note.
    """

    __slots__ = (
        "_encode",
        "_free_way",
        "_is_acked",
        "_is_dropped",
        "_is_outcome_due",
        "_is_over",
        "_is_start_due",
        "_started",
        "_turn",
        "_wants_room",
        "_was_said",
        "_way",
        "is_queued",
        "is_settled",
        "job_id",
        "on_room",
        "outcome",
        "stream_id",
        "window",
    )

    def __init__(
        self, job_id: str, *, window_bytes: int | None = WINDOW_BYTES, stream_id: int | None = None
    ) -> None:
        """`window_bytes` None: the peer acknowledges nothing (protocol 2), so there is no resume, either."""
        self.job_id = job_id
        self.stream_id = stream_id
        self.window = SendWindow(window_bytes)
        self.outcome: Outcome | None = None
        self.on_room: Callable[[], None] = _nobody_waits
        self.is_settled = False
        self.is_queued = False
        self._is_acked = window_bytes is not None
        self._started: JobStarted | None = None
        self._is_start_due = False
        self._is_over = False  # no byte is taken any more
        self._is_dropped = False
        self._is_outcome_due = False
        self._was_said = False  # the outcome has left
        self._wants_room = False
        self._way: Way | None = None
        self._free_way: Way | None = None  # the same while a byte may leave by the short cut
        self._turn = 0
        self._encode: ChunkEncoder  # of the present channel's form

    def __repr__(self) -> str:
        way = "attached" if self.attached else "detached"
        return f"<Lane {self.job_id}, {way}, {self.window!r}, outcome {self.outcome!r}>"

    # --- what the job does ----------------------------------------------------------------

    def start(self, frame: JobStarted) -> None:
        """Send this before the first chunk; nothing for a job that is over."""
        if self._is_over:
            return
        self._started = frame
        self._is_start_due = True
        self._free_way = None
        self._enter(0)

    def write(self, data: bytes) -> bool:
        """Send bytes of the answer; False says that the source has to pause until `on_room`.

        Never waits, and takes the bytes in any case, but for a job that is over.
        """
        way, window = self._free_way, self.window
        if way is not None and way.is_free and way.turn != self._turn and data:
            seq = window.pass_on(data, MERGED_BYTES)
            if seq >= 0:
                self._turn = way.turn  # what else comes in this turn merges
                encode = self._encode  # first a local: a field that is called at once costs twice the time
                way.send(encode(seq, data))
                if window.unacked_bytes < window.window_bytes:
                    return True
                self._wants_room = True
                return False
        return self._wait_with(data)

    def finish(self, outcome: Outcome) -> None:
        """Send the end of the job behind whatever waits of it; one that has not left yet is replaced."""
        if self._was_said:
            return
        self.outcome = outcome
        self._is_outcome_due = True
        self._close()
        self._enter(0)

    def discard(self) -> Outcome | None:
        """Drop all that waits; an outcome among it is given back."""
        unsent = self.outcome if self._is_outcome_due else None
        if unsent is not None:
            self.outcome = None
        self._is_start_due = self._is_outcome_due = False
        self._started = None
        self._is_dropped = True
        self._close()
        self.window.drop()
        if self._way is not None:
            self._way.withdraw(self)
        return unsent

    def recant(self, other: Callable[[Outcome], Outcome]) -> bool:
        """Drop the chunks of a job that has ended, and make `other` of its outcome; False if that has left.

        Then it is said again only to a peer that did not get it.
        """
        unsent = self.discard()
        ended = unsent or self.outcome
        if ended is not None:
            self.outcome = other(ended)
            self.finish(self.outcome)
        return unsent is not None

    def ack(self, seq: int) -> None:
        """Note that the consumer took every chunk up to `seq`, or the outcome whose number it is.

        Raises:
            BadAck: nothing with that number has left.
        """
        window = self.window
        if self._was_said and seq == window.next_seq:
            self.is_settled = True
            self.discard()
            return
        was_drained = window.is_drained
        if not window.ack(seq):
            return
        self._enter(0)
        if (self._wants_room and window.has_room) or window.is_drained > was_drained:
            self.hear()

    def resume(self, have_seq: int) -> None:
        """Make ready for another channel, whose peer has the chunks up to `have_seq` (-1: none), no outcome.

        Raises:
            BadAck: that cannot be.
        """
        if not self._is_dropped:
            self.window.rewind(have_seq)
        self._is_start_due = self._started is not None and have_seq < 0
        self._is_outcome_due = self.outcome is not None
        self._was_said = False

    @property
    def attached(self) -> bool:
        """Whether anything may leave now: there is a channel, and the outcome has not left."""
        return self._way is not None

    @property
    def is_drained(self) -> bool:
        """Whether every chunk has left, acknowledged or not."""
        return self.window.is_drained

    def _close(self) -> None:
        """From now on, no byte is taken."""
        self._is_over = True
        self._free_way = None

    def _wait_with(self, data: bytes) -> bool:
        """The long way of a write: what cannot leave now waits for its turn, for an ack or for a channel."""
        if self._is_over:
            return True
        if data:
            self.window.put(data)
            self._enter(len(data))
        self._wants_room = not self.window.has_room
        return not self._wants_room

    def _enter(self, size_bytes: int) -> None:
        if self._way is not None and self.is_due:
            self._way.enter(self, size_bytes)

    # --- what the channel does ------------------------------------------------------------

    @property
    def is_due(self) -> bool:
        """Whether something of it may leave now."""
        return self.window.can_send or self.is_urgent

    @property
    def is_urgent(self) -> bool:
        """Whether that is no chunk: it waits for no chunks of others, either."""
        return self._is_start_due or (self._is_outcome_due and self.window.is_drained)

    def attach(self, way: Way) -> None:
        """From now on, what is due leaves by this way."""
        self._way = way
        self._encode = chunk_encoder(self.job_id, way.protocol, self.stream_id if way.binary else None)
        self._open()
        self._enter(self.window.waiting_bytes)
        if self.window.next_seq and self.window.is_drained:  # which it may not have been before the resume
            way.tell(self)

    def detach(self) -> None:
        """Nothing leaves any more, and all is kept."""
        self._way = self._free_way = None
        self.is_queued = False

    def next_message(self, limit_bytes: int) -> bytes | None:
        """What is due first; None when nothing is, or the peer's dialect is silent about it."""
        if self._way is None:
            return None
        if self._is_start_due and self._started is not None:
            self._is_start_due = False
            self._open()
            return encode(self._started, self._way.protocol)
        if self.window.can_send:
            return self._next_chunk(self._way, limit_bytes)
        if self._is_outcome_due and self.outcome is not None and self.window.is_drained:
            return self._last_message(self.outcome, self._way)
        return None

    def hear(self) -> None:
        """Tell whoever waits for room, or for everything to have left."""
        self._wants_room = self._wants_room and not self.window.has_room
        self.on_room()

    def _next_chunk(self, way: Way, limit_bytes: int) -> bytes:
        window = self.window
        message = self._encode(*window.take(limit_bytes))
        if window.is_drained or (self._wants_room and window.has_room):
            way.tell(self)
        return message

    def _last_message(self, outcome: Outcome, way: Way) -> bytes | None:
        """The outcome leaves, and with it the job."""
        outcome = self.outcome = self._numbered(outcome)
        self._is_outcome_due = False
        self._was_said = True
        self.is_settled = not self._is_acked
        self.detach()
        way.tell(self)
        return encode(outcome, way.protocol)

    def _open(self) -> None:
        """From now on, a byte may leave by the short cut."""
        if not (self._is_over or self._is_start_due):
            self._free_way = self._way

    def _numbered(self, outcome: Outcome) -> Outcome:
        """The outcome with the count of what left before it, as only now no byte waits."""
        made, sent_bytes = self.window.next_seq, self.window.sent_bytes
        if outcome.seq == made:
            return outcome
        if isinstance(outcome, JobDone):
            return msgspec.structs.replace(outcome, seq=made, chunks=made, bytes=sent_bytes)
        return msgspec.structs.replace(outcome, seq=made, bytes_sent=sent_bytes)


def _nobody_waits() -> None:
    """What `on_room` is until the job sets it."""
