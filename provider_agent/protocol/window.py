"""What of one job's answer is on its way: a sender's window with its replay, a receiver's reassembly; no I/O.

One number, the `seq` of an ack, is flow control, end-to-end back-pressure and replay at once: what is
acknowledged was taken by the consumer, so it makes room and need not be kept; what is not, is kept, and
goes again over the next connection.
"""

from collections import deque
from enum import Enum

from provider_agent.protocol.errors import ProtocolError

WINDOW_BYTES = 256 * 1024
"""The default of `job.window_bytes`."""


class BadAck(ProtocolError):
    """The peer acknowledges, or claims to have, what cannot be.

    Attributes:
        seq: the number that it named.
        next_seq: of the next chunk to be made; everything below was sent.
    """

    def __init__(self, seq: int, next_seq: int) -> None:
        super().__init__(seq, next_seq)
        self.seq = seq
        self.next_seq = next_seq

    def __str__(self) -> str:
        return f"chunk {self.seq} cannot be acknowledged where the next one is {self.next_seq}"


class SendWindow:
    """The sender's side.

    Attributes:
        next_seq: of the next new chunk, and so how many were made.
        sent_bytes: payload of all chunks that were made; one that goes again counts once.
        waiting_bytes: entered, and not yet made into chunks.
        unacked_bytes: made into chunks, and not acknowledged; never more than `window_bytes`.
    """

    __slots__ = (
        "_again_seq",
        "_is_acked",
        "_unacked",
        "_waiting",
        "next_seq",
        "sent_bytes",
        "unacked_bytes",
        "waiting_bytes",
        "window_bytes",
    )

    def __init__(self, window_bytes: int | None = WINDOW_BYTES) -> None:
        """`window_bytes` None: the peer acknowledges nothing (protocol 2), so what has left is done with."""
        self.window_bytes = WINDOW_BYTES if window_bytes is None else max(1, window_bytes)
        self._is_acked = window_bytes is not None
        self._waiting: list[bytes | memoryview] = []  # an empty deque takes ten times the memory of a list
        self._unacked: list[bytes | memoryview] = []  # the last one is of the chunk before `next_seq`
        self._again_seq = 0  # the next chunk that goes again; `next_seq` when none does
        self.next_seq = 0
        self.sent_bytes = 0
        self.waiting_bytes = 0
        self.unacked_bytes = 0

    def __repr__(self) -> str:
        return f"<SendWindow seq {self.next_seq}, {self.waiting_bytes} waiting, {self.unacked_bytes} unacked>"

    @property
    def has_room(self) -> bool:
        """Whether the source may go on."""
        return self.waiting_bytes + self.unacked_bytes < self.window_bytes

    @property
    def can_send(self) -> bool:
        """Whether `take` has something to give: a chunk that goes again, or new bytes within the window."""
        if self._again_seq != self.next_seq:
            return True
        return self.waiting_bytes > 0 and self.unacked_bytes < self.window_bytes

    @property
    def is_drained(self) -> bool:
        """Whether every byte has left, acknowledged or not."""
        return self.waiting_bytes == 0 and self._again_seq == self.next_seq

    def put(self, data: bytes | memoryview) -> None:
        """Let bytes enter, never none; whoever does so with no room left takes more memory than agreed."""
        self._waiting.append(data)
        self.waiting_bytes += len(data)

    def take(self, limit_bytes: int) -> tuple[int, bytes | memoryview]:
        """The next chunk, as (seq, payload); only while `can_send`.

        1. One that goes again leaves as it was, whatever the limit.
        2. A new one holds what waits, as far as limit and window allow.
        """
        if self._again_seq != self.next_seq:  # 1
            seq = self._again_seq
            self._again_seq = seq + 1
            return seq, self._unacked[seq - self.next_seq]
        data = self._next_payload(min(limit_bytes, self.window_bytes - self.unacked_bytes))  # 2
        size = len(data)
        self.waiting_bytes -= size
        self.sent_bytes += size
        if self._is_acked:
            self._unacked.append(data)
            self.unacked_bytes += size
        seq = self.next_seq
        self.next_seq = self._again_seq = seq + 1
        return seq, data

    def pass_on(self, data: bytes, limit_bytes: int) -> int:
        """`put` and `take` in one, for the token that finds nothing before it: its `seq`.

        -1, and nothing is done, where it has to wait or to be cut.
        """
        seq, size = self.next_seq, len(data)
        unacked_bytes = self.unacked_bytes + size
        if (
            size > limit_bytes
            or unacked_bytes > self.window_bytes
            or self.waiting_bytes
            or self._again_seq != seq
        ):
            return -1
        if self._is_acked:
            self._unacked.append(data)
            self.unacked_bytes = unacked_bytes
        self.sent_bytes += size
        self.next_seq = self._again_seq = seq + 1
        return seq

    def _next_payload(self, limit_bytes: int) -> bytes | memoryview:
        waiting = self._waiting
        first = waiting[0]
        if len(first) > limit_bytes:
            whole = memoryview(first)
            waiting[0] = whole[limit_bytes:]
            return whole[:limit_bytes]
        count = size = 0
        for part in waiting:
            size += len(part)
            if size > limit_bytes:
                break
            count += 1
        data = first if count == 1 else b"".join(waiting[:count])
        del waiting[:count]
        return data

    def ack(self, seq: int) -> bool:
        """Note that every chunk up to `seq` was taken by the consumer; whether that was news.

        Raises:
            BadAck: there is no such chunk yet.
        """
        if seq >= self.next_seq:
            raise BadAck(seq, self.next_seq)
        count = seq + 1 - (self.next_seq - len(self._unacked))
        if count <= 0:
            return False
        self.unacked_bytes -= sum(map(len, self._unacked[:count]))
        del self._unacked[:count]
        self._again_seq = max(self._again_seq, seq + 1)
        return True

    def rewind(self, have_seq: int) -> None:
        """Let what follows `have_seq` go again, over a new connection; -1 stands for nothing received.

        Raises:
            BadAck: that chunk was never made, or it is said to be missing though it was acknowledged.
        """
        if not self.next_seq - len(self._unacked) <= have_seq + 1 <= self.next_seq:
            raise BadAck(have_seq, self.next_seq)
        self._again_seq = have_seq + 1

    def drop(self) -> None:
        """Forget all bytes: nothing of them leaves any more."""
        self._waiting.clear()
        self._unacked.clear()
        self.waiting_bytes = self.unacked_bytes = 0
        self._again_seq = self.next_seq


class Arrival(Enum):
    """What a chunk is to its receiver."""

    NEXT = "next"
    AGAIN = "again"
    """It was here before the connection broke: to be ignored."""
    GAP = "gap"
    """One before it is missing."""
    BEYOND = "beyond"
    """It is more than the sender may send before it hears of an ack."""


class ReceiveWindow:
    """The receiver's side.

    Attributes:
        have_seq: the last chunk that is here; -1 for none.
        received_bytes: payload of all chunks that are here.
        acked_seq: the last chunk that was acknowledged; -1 for none.
    """

    __slots__ = (
        "_acked_bytes",
        "_consumed_bytes",
        "_ends",
        "_most_chunks",
        "_window_bytes",
        "acked_seq",
        "have_seq",
        "received_bytes",
    )

    def __init__(self, window_bytes: int = WINDOW_BYTES) -> None:
        self._window_bytes = window_bytes
        self._most_chunks = min(window_bytes, WINDOW_BYTES)  # also of empty ones
        self._ends: deque[int] = deque()  # where each chunk after `acked_seq` ends in the whole answer
        self._acked_bytes = 0
        self._consumed_bytes = 0
        self.have_seq = -1
        self.received_bytes = 0
        self.acked_seq = -1

    def __repr__(self) -> str:
        return f"<ReceiveWindow has {self.have_seq}, acknowledged {self.acked_seq}>"

    def receive(self, seq: int, size_bytes: int) -> Arrival:
        """Note a chunk; only one that is NEXT counts."""
        if seq != self.have_seq + 1:
            return Arrival.AGAIN if seq <= self.have_seq else Arrival.GAP
        end = self.received_bytes + size_bytes
        if end - self._acked_bytes > self._window_bytes or len(self._ends) >= self._most_chunks:
            return Arrival.BEYOND
        self.have_seq = seq
        self.received_bytes = end
        self._ends.append(end)
        return Arrival.NEXT

    def consume(self, total_bytes: int) -> None:
        """Note that the consumer has now taken so many bytes of the answer in all."""
        self._consumed_bytes = max(self._consumed_bytes, total_bytes)

    @property
    def is_ack_due(self) -> bool:
        """Whether so much was taken that the sender should hear of it without delay."""
        return 2 * (self._consumed_bytes - self._acked_bytes) >= self._window_bytes

    def ack_due(self, *, now: bool) -> int | None:
        """The chunk to acknowledge, which counts as acknowledged then; None when there is no reason to.

        A reason is half a window, or, if it is to be done `now`, any whole chunk that was taken.
        """
        if not (now or self.is_ack_due):
            return None
        ends, seq = self._ends, self.acked_seq
        while ends and ends[0] <= self._consumed_bytes:
            self._acked_bytes = ends.popleft()
            seq += 1
        if seq == self.acked_seq:
            return None
        self.acked_seq = seq
        return seq
