"""A link over a socket: two lanes out, frames in. Knows turns and order, but no WebSocket and no job.

What leaves, and when:

1. Control frames enter at once and leave first, in the order of entry. A peer that makes more and
   more of them wait is given up. A job that is cancelled while it waits does not leave at all.
2. Chunks wait in a lane per job, and the lanes take turns. What waits in one lane merges into
   one frame when its turn comes: up to `MERGED_BYTES`, or `TURN_BYTES` while other lanes wait.
3. An outcome whose job has chunks waiting enters that job's lane, any other one the control
   lane. So it never overtakes its own chunks, and never waits for those of others.
4. A `seq` is taken when its frame is put together, and nothing waits between that and the socket.
"""

import asyncio
import contextlib
from collections import deque

from provider_agent.protocol.codec import decode, encode, encode_chunk
from provider_agent.protocol.errors import UnknownFrame
from provider_agent.protocol.frames import Frame, Job, JobCancel, JobChunk, Outcome
from provider_agent.protocol.link import Link
from provider_agent.telemetry.logs import get_logger
from provider_agent.transport.lane import ControlLane, Lane
from provider_agent.transport.socket import ChannelClosed as ChannelClosed  # noqa: PLC0414 - also found here
from provider_agent.transport.socket import Socket as Socket  # noqa: PLC0414

log = get_logger(__name__)

LANE_BYTES = 256 * 1024
"""How much of one job waits at most (but for one read of the backend) before `relay` waits, too."""

MERGED_BYTES = 64 * 1024
"""The largest payload of a chunk frame."""

TURN_BYTES = 16 * 1024
"""The largest payload of a chunk frame while other jobs wait for their turn."""

FLUSH_TIMEOUT_S = 1.0
"""How long a close waits for the frames that were posted before it."""

CONTROL_BYTES = 8 * 1024 * 1024
"""How much control may wait when one more frame enters, of whatever size: some 40,000 refusals. A peer
that reads never gets near, since we read a few hundred kilobytes of its questions between two sends."""

PROTOCOL_ERROR = 4003
"""Our code for a peer that takes nothing, but goes on asking (protocol.md 10)."""

_NAMED_UNKNOWN_TYPES = 16  # a peer that invents types must not fill the log


class BackpressureTimeout(Exception):
    """The peer did not take a job's bytes for too long."""

    def __init__(self, job_id: str, timeout_s: float) -> None:
        super().__init__(job_id, timeout_s)
        self.job_id = job_id
        self.timeout_s = timeout_s

    def __str__(self) -> str:
        return f"the coordinator took no bytes of this job for {self.timeout_s:g} s"


class Channel:
    """One conversation over one socket. Run `write` as a task beside the reader.

    Attributes:
        link: whose turn it is, and which dialect.
        unknown_frames: how many frames were ignored because their type is not known here.
    """

    def __init__(
        self,
        socket: Socket,
        link: Link,
        *,
        lane_bytes: int = LANE_BYTES,
        backpressure_timeout_s: float = 5.0,
        flush_timeout_s: float = FLUSH_TIMEOUT_S,
    ) -> None:
        self.link = link
        self.unknown_frames = 0
        self._socket = socket
        self._lane_bytes = lane_bytes
        self._backpressure_timeout_s = backpressure_timeout_s
        self._flush_timeout_s = flush_timeout_s
        self._unknown_types: set[str] = set()
        self._control = ControlLane()
        self._lanes: dict[str, Lane] = {}
        self._ready: deque[Lane] = deque()  # those with chunks, in the order of their turns
        self._closed: ChannelClosed | None = None
        self._has_writer = False
        self._sleeper: asyncio.Future[None] | None = None  # the writer waits on it for work
        self._flushed = asyncio.Event()

    def __repr__(self) -> str:
        waiting = (
            f"{len(self._control.waiting)} control, {len(self._ready)} of {len(self._lanes)} lanes waiting"
        )
        return f"<Channel {self._closed or waiting}, {self.link!r}>"

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
        if isinstance(frame, Job):
            self._control.enter_job(frame.job_id, message)
        else:
            if isinstance(frame, JobCancel):  # it leaves even so: the agent says then that it has no such job
                self._control.withdraw(frame.job_id)
            self._enter_control(message)
        self._wake()

    def _enter_control(self, message: bytes) -> None:
        if self._control.waiting_bytes < CONTROL_BYTES:
            self._control.enter(message)
            return
        asks_on = f"the peer goes on asking, but has left {CONTROL_BYTES >> 20} MiB of answers waiting"
        closed = ChannelClosed(PROTOCOL_ERROR, asks_on, by_us=True)
        self._end(closed)
        self._socket.abort(closed)

    async def relay(self, job_id: str, data: bytes) -> None:
        """Send bytes of a job's answer; does not suspend while the job's lane has room.

        Raises:
            BackpressureTimeout: the lane stayed full; `data` was not taken.
            ChannelClosed: the conversation is over.
        """
        lane = self._lanes.get(job_id)
        if lane is None:
            lane = self._open_lane(job_id)
        if lane.waiting_bytes >= self._lane_bytes or lane.outcome is not None:
            lane = await self._lane_with_room(job_id)
        if not data:
            return
        if not lane.chunks:
            self._ready.append(lane)
        lane.chunks.append(data)
        lane.waiting_bytes += len(data)
        if self._sleeper is not None:
            self._wake()

    def finish(self, outcome: Outcome) -> None:
        """Send the end of a job behind whatever waits of it; never waits. It is stamped on leaving.

        An outcome that still waits there, of an earlier attempt, is replaced.

        Raises:
            LocalTurnError: it is not our turn to say that.
        """
        if self._closed is not None:
            return
        self.link.send(outcome)
        lane = self._lanes.get(outcome.job_id) or Lane(outcome.job_id)
        lane.outcome = outcome
        if not lane.chunks:
            self._end_lane(lane)
            self._wake()

    def discard(self, job_id: str) -> Outcome | None:
        """Drop what waits of a job. An outcome that waited behind it is dropped, too, and returned."""
        lane = self._lanes.get(job_id)
        if lane is None:
            return None
        if lane.chunks:
            self._ready.remove(lane)
            lane.chunks.clear()
            lane.waiting_bytes = 0
        unsent, lane.outcome = lane.outcome, None
        lane.made_room()
        return unsent

    def _outcome_waits(self, job_id: str) -> bool:
        lane = self._lanes.get(job_id)
        return lane is not None and lane.outcome is not None

    def _open_lane(self, job_id: str) -> Lane:
        """A lane for a job's first bytes; whether it is our turn is asked once, not for each chunk."""
        if self._closed is not None:
            raise self._closed.again()
        self.link.send(JobChunk(job_id=job_id, data=b""))
        lane = self._lanes[job_id] = Lane(job_id)
        return lane

    async def _lane_with_room(self, job_id: str) -> Lane:
        """The job's lane, once it has room. An outcome in it is that of an earlier attempt: it goes first.

        As long as something of the lane leaves now and then, a slow line is not mistaken for a stuck peer.
        """
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(self._backpressure_timeout_s) as limit:
                while True:
                    lane = self._lanes.get(job_id) or self._open_lane(job_id)
                    if lane.waiting_bytes < self._lane_bytes and lane.outcome is None:
                        return lane
                    lane.room = lane.room or asyncio.Event()
                    lane.room.clear()
                    await lane.room.wait()
                    limit.reschedule(loop.time() + self._backpressure_timeout_s)
        except TimeoutError:
            raise BackpressureTimeout(job_id, self._backpressure_timeout_s) from None

    def _wake(self) -> None:
        if self._sleeper is not None and not self._sleeper.done():
            self._sleeper.set_result(None)

    # --- out: leaving ---------------------------------------------------------------------

    async def write(self) -> None:
        """Send what enters until the conversation is over; always ends in ChannelClosed."""
        self._has_writer = True
        try:
            while True:
                await self._send_waiting()
                await self._sleep()
        except ChannelClosed as closed:
            self._end(closed)
            raise
        finally:
            self._has_writer = False
            self._flushed.set()

    async def _send_waiting(self) -> None:
        send, control = self._socket.send, self._control.waiting
        while True:
            if control:
                await send(self._control.take())
            elif self._ready:
                await send(self._next_chunk())
            else:
                return

    def _next_chunk(self) -> bytes:
        lane = self._ready.popleft()
        data = lane.take(TURN_BYTES if self._ready else MERGED_BYTES)
        seq = lane.seq
        lane.seq += 1
        if lane.chunks:
            self._ready.append(lane)
        elif lane.outcome is not None:
            self._end_lane(lane)
        if lane.room is not None:
            lane.made_room()
        return encode_chunk(lane.job_id, seq, data, self.link.protocol)

    def _end_lane(self, lane: Lane) -> None:
        """Let the outcome leave, and forget the lane."""
        self._lanes.pop(lane.job_id, None)
        outcome, lane.outcome = lane.outcome, None
        message = encode(lane.stamp(outcome), self.link.protocol) if outcome is not None else None
        if message is not None:
            self._enter_control(message)

    async def _sleep(self) -> None:
        self._flushed.set()
        if self._closed is not None:
            raise self._closed.again()
        self._sleeper = asyncio.get_running_loop().create_future()
        try:
            await self._sleeper
        finally:
            self._sleeper = None

    # --- the end --------------------------------------------------------------------------

    async def close(self, code: int = 1000, reason: str = "", *, within_s: float = 0.0) -> None:
        """Send what waits, for `within_s` or else for a second at most, then say goodbye; never raises."""
        if self._closed is None:
            with contextlib.suppress(ChannelClosed, TimeoutError):
                async with asyncio.timeout(max(within_s, self._flush_timeout_s)):
                    await self._flush()
        self._end(ChannelClosed(code, reason, by_us=True))
        await self._socket.close(code, reason)

    async def _flush(self) -> None:
        """Until nothing waits; without a writer (any more) we are the one who sends."""
        if not self._has_writer:
            await self._send_waiting()
        elif self._sleeper is None or self._sleeper.done():
            self._flushed.clear()
            await self._flushed.wait()

    def _end(self, closed: ChannelClosed) -> None:
        """Note the end, once: what waits is dropped, and whoever waits learns of it."""
        if self._closed is not None:
            return
        self._closed = closed
        lanes = tuple(self._lanes.values())
        self._lanes.clear()
        self._ready.clear()
        self._control.clear()
        for lane in lanes:
            lane.made_room()
        self._wake()
