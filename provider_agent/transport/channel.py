"""A link over a socket: frames in, control frames and lanes out. Knows turns and order, but no job.

What leaves, and when:

1. What finds the socket free is handed over at once, and all of one turn of the loop is flushed as one write.
2. While the socket is full everything waits. Then control frames leave first, in the order of entry. A peer
   that makes more and more of them wait is given up. A job that is cancelled while it waits does not leave.
3. Then what lanes have to say besides chunks: `job_started`, and outcomes whose chunks have all left.
4. Then chunks: the lanes take turns. What waits in one lane merges into one frame when its turn comes: up to
   `MERGED_BYTES`, or `TURN_BYTES` while other lanes wait.
"""

import asyncio
import contextlib
from collections import deque

from provider_agent.protocol.codec import decode, encode
from provider_agent.protocol.errors import UnknownFrame
from provider_agent.protocol.frames import Frame, Job, JobCancel, JobChunk, Outcome
from provider_agent.protocol.link import Link
from provider_agent.telemetry.logs import get_logger
from provider_agent.transport.control import ControlLane
from provider_agent.transport.lane import MERGED_BYTES, Lane
from provider_agent.transport.socket import ChannelClosed as ChannelClosed  # noqa: PLC0414 - also found here
from provider_agent.transport.socket import Socket as Socket  # noqa: PLC0414

log = get_logger(__name__)

TURN_BYTES = 16 * 1024
"""The largest payload of a frame while other jobs wait for their turn; more is worth a write at once."""

FLUSH_TIMEOUT_S = 1.0
"""How long a close waits for the frames that were posted before it."""

CONTROL_BYTES = 8 * 1024 * 1024
"""How much control may wait when one more frame enters, of whatever size: some 40,000 refusals. A peer
that reads never gets near, since we read a few hundred kilobytes of its questions between two writes."""

PROTOCOL_ERROR = 4003
"""Our code for a peer that takes nothing, but goes on asking (protocol.md 10)."""

_NAMED_UNKNOWN_TYPES = 16  # a peer that invents types must not fill the log


class Channel:
    """One conversation over one socket.

    Attributes:
        link: whose turn it is, and which dialect.
        binary: whether the peer takes chunks in the binary form; to be set before lanes are attached.
        unknown_frames: how many frames were ignored because their type is not known here.
        is_free, turn: see `Way`.
    """

    def __init__(self, socket: Socket, link: Link, *, flush_timeout_s: float = FLUSH_TIMEOUT_S) -> None:
        self.link = link
        self.binary = False
        self.unknown_frames = 0
        self.is_free = not socket.is_full  # and nothing waits but what merges until this turn ends
        self.turn = 1
        self._socket = socket
        self._send = socket.send
        self._flush_timeout_s = flush_timeout_s
        self._unknown_types: set[str] = set()
        self._control = ControlLane()
        self._urgent: deque[Lane] = deque()  # those with something else than chunks to send
        self._ready: deque[Lane] = deque()  # those with chunks, in the order of their turns
        self._lanes: dict[str, Lane] = {}  # attached ones
        self._next_lanes: dict[str, Lane] = {}  # of a job's next attempt, while the one before is attached
        self._to_hear: dict[Lane, None] = {}  # in order, and each once
        self._collected_bytes = 0  # since the last flush
        self._is_scheduled = False
        self._is_handing_over = False
        self._closed: ChannelClosed | None = None
        self._emptied = asyncio.Event()
        socket.on_room = self._flush

    def __repr__(self) -> str:
        lanes = f"{len(self._urgent) + len(self._ready)} of {len(self._lanes)} lanes waiting"
        return f"<Channel {self._closed or f'{len(self._control.waiting)} control, {lanes}'}, {self.link!r}>"

    @property
    def protocol(self) -> int:
        """The dialect in use."""
        return self.link.protocol

    # --- in -------------------------------------------------------------------------------

    async def receive(self) -> Frame:
        """The peer's next frame; one of an unknown type is counted and skipped.

        Raises:
            BadFrame, RemoteTurnError: this message was wrong; the next one can still be received.
            ChannelClosed: the conversation is over.
        """
        sender = self.link.role.peer
        while True:
            try:
                message = await self._socket.receive()
            except ChannelClosed as closed:
                self._end(closed)
                raise
            try:
                frame = decode(message, sender)
            except UnknownFrame as unknown:
                self._count_unknown(unknown.frame_type)
                continue
            self.link.receive(frame)
            return frame

    def _count_unknown(self, frame_type: str) -> None:
        self.unknown_frames += 1
        if frame_type not in self._unknown_types and len(self._unknown_types) < _NAMED_UNKNOWN_TYPES:
            self._unknown_types.add(frame_type)
            log.warning("unknown_frame_ignored", frame_type=frame_type[:64])

    # --- out: entering --------------------------------------------------------------------

    def post(self, frame: Frame) -> None:
        """Send a control frame; never waits.

        Nothing is sent where the peer's dialect is silent about it, the channel is closed, or the
        frame is an outcome of a job whose own outcome still waits behind its chunks.

        Raises:
            LocalTurnError: it is not our turn to say that.
        """
        if self._closed is not None:
            return
        self.link.send(frame)
        if isinstance(frame, Outcome) and self._outcome_waits(frame.job_id):
            return
        message = encode(frame, self.link.protocol)
        if message is None:
            return
        if self.is_free:
            self.send(message)
        elif isinstance(frame, Job):
            self._control.enter_job(frame.job_id, message)
        else:
            if isinstance(frame, JobCancel):  # it leaves even so: the agent says then that it has no such job
                self._control.withdraw(frame.job_id)
            self._enter_control(message)

    def _outcome_waits(self, job_id: str) -> bool:
        lane = self._lanes.get(job_id)
        return lane is not None and lane.outcome is not None

    def _enter_control(self, message: bytes) -> None:
        if self._control.waiting_bytes < CONTROL_BYTES:
            self._control.enter(message)
            return
        asks_on = f"the peer goes on asking, but has left {CONTROL_BYTES >> 20} MiB of answers waiting"
        closed = ChannelClosed(PROTOCOL_ERROR, asks_on, by_us=True)
        self._end(closed)
        self._socket.abort(closed)

    def attach(self, lane: Lane) -> None:
        """Let the lane's frames leave by this channel; a new attempt waits for the outcome of the old one.

        Raises:
            LocalTurnError: it is not our turn yet to speak of jobs.
        """
        if self._closed is not None:
            return
        self.link.send(JobChunk(job_id=lane.job_id, data=b""))  # asked once, not for each chunk
        if lane.job_id in self._lanes:
            self._next_lanes[lane.job_id] = lane
        else:
            self._lanes[lane.job_id] = lane
            lane.attach(self)
            self._tell_later()

    # --- out: what lanes call -------------------------------------------------------------

    def send(self, message: bytes) -> None:
        collect = self._send  # first a local, as in `Lane.write`
        collect(message)
        collected_bytes = self._collected_bytes = self._collected_bytes + len(message)
        if collected_bytes > TURN_BYTES:
            self._hand_over_at_once()
        elif not self._is_scheduled:
            self._schedule()

    def enter(self, lane: Lane, size_bytes: int) -> None:
        if not lane.is_queued:
            self._queue(lane)
        if not self.is_free:
            return  # the socket will tell when it has room
        self._collected_bytes += size_bytes
        if self._collected_bytes > TURN_BYTES:
            self._hand_over_at_once()
        elif not self._is_scheduled:
            self._schedule()

    def withdraw(self, lane: Lane) -> None:
        if lane.is_queued:
            lane.is_queued = False
            (self._urgent if lane in self._urgent else self._ready).remove(lane)
        self._to_hear.pop(lane, None)

    def tell(self, lane: Lane) -> None:
        self._to_hear[lane] = None

    # --- out: leaving ---------------------------------------------------------------------

    def _schedule(self) -> None:
        self._is_scheduled = True
        asyncio.get_running_loop().call_soon(self._end_turn)

    def _end_turn(self) -> None:
        self._is_scheduled = False
        self._flush()

    def _flush(self) -> None:
        """Hand over what waits, then tell the lanes of which something has left."""
        if self._is_handing_over:
            return
        self._hand_over()
        if self._to_hear:
            to_hear, self._to_hear = self._to_hear, {}
            for lane in to_hear:
                lane.hear()

    def _hand_over_at_once(self) -> None:
        """Within a write: no lane hears of it before the turn ends."""
        self._hand_over()
        self._tell_later()

    def _tell_later(self) -> None:
        if self._to_hear and not self._is_scheduled:
            self._schedule()

    def _hand_over(self) -> None:
        """Everything that waits, as long as the socket has room."""
        self._is_handing_over = True
        self.turn += 1
        try:
            if self._waits:
                self._send_waiting()
            self._flush_socket()
            self.is_free = not self._socket.is_full
        finally:
            self._is_handing_over = False

    def _send_waiting(self) -> None:
        while self._waits and self._has_room:
            message = self._next_message()
            if message is not None:
                self._send(message)
                self._collected_bytes += len(message)
        if not self._waits:
            self._emptied.set()

    def _flush_socket(self) -> None:
        self._socket.flush()
        self._collected_bytes = 0

    @property
    def _waits(self) -> bool:
        return bool(self._ready or self._urgent or self._control.waiting)

    @property
    def _has_room(self) -> bool:
        """Whether the socket takes more: it may know only after a flush."""
        if self._collected_bytes >= MERGED_BYTES or self._socket.is_full:
            self._flush_socket()
            return not self._socket.is_full
        return True

    def _next_message(self) -> bytes | None:
        if self._control.waiting:
            return self._control.take()
        lane = (self._urgent or self._ready).popleft()
        lane.is_queued = False
        message = lane.next_message(TURN_BYTES if self._ready else MERGED_BYTES)
        if not lane.attached:
            self._forget(lane)
        elif lane.is_due:
            self._queue(lane)
        return message

    def _queue(self, lane: Lane) -> None:
        lane.is_queued = True
        (self._urgent if lane.is_urgent else self._ready).append(lane)

    def _forget(self, lane: Lane) -> None:
        if self._lanes.get(lane.job_id) is lane:
            del self._lanes[lane.job_id]
            if lane.job_id in self._next_lanes:
                self.attach(self._next_lanes.pop(lane.job_id))

    # --- the end --------------------------------------------------------------------------

    async def close(self, code: int = 1000, reason: str = "", *, within_s: float = 0.0) -> None:
        """Send what waits, for `within_s` or else for a second at most, then say goodbye; never raises."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(max(within_s, self._flush_timeout_s)):
                while self._waits:
                    self._emptied.clear()
                    await self._emptied.wait()
        self._end(ChannelClosed(code, reason, by_us=True))
        await self._socket.close(code, reason)

    def _end(self, closed: ChannelClosed) -> None:
        """Note the end, once: control frames that wait are dropped; lanes keep what they have."""
        if self._closed is not None:
            return
        self._closed = closed
        for lane in self._lanes.values():
            lane.detach()
        self._lanes.clear()
        self._urgent.clear()
        self._ready.clear()
        self._control.clear()
        self._emptied.set()
