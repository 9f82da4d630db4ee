"""The two lanes of a channel: who goes first, what merges, what waits, and how it all ends."""

import asyncio
import io
import json
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager

import pytest
from msgspec import Raw

from provider_agent.protocol.codec import decode, encode
from provider_agent.protocol.errors import BadFrame, LocalTurnError, RemoteTurnError
from provider_agent.protocol.frames import (
    Frame,
    Heartbeat,
    Job,
    JobCancel,
    JobChunk,
    JobDone,
    JobError,
    Tokens,
)
from provider_agent.protocol.link import Link, Role
from provider_agent.telemetry import logs
from provider_agent.transport.channel import (
    CONTROL_BYTES,
    MERGED_BYTES,
    TURN_BYTES,
    BackpressureTimeout,
    Channel,
    ChannelClosed,
)
from tests.fakes.peers import serving_link
from tests.fakes.sockets import (
    MemorySocket,
    SlowSocket,
    SocketThatCloses,
    StepSocket,
    StuckSocket,
    join,
    socket_pair,
)

DONE = JobDone(job_id="j", tokens=Tokens.of(1, 2), duration_ms=3)
BEAT = Heartbeat(queue_depth=0)


def failed(job_id: str, code: str = "internal") -> JobError:
    return JobError(job_id=job_id, error_code=code, message="m")


def frames_of(messages: Iterable[bytes]) -> list[Frame]:
    return [decode(message, Role.AGENT) for message in messages]


def agent_channel(socket: MemorySocket, *, protocol: int = 3, **limits: float) -> Channel:
    return Channel(socket, serving_link(Role.AGENT, protocol), **limits)  # type: ignore[arg-type]


@asynccontextmanager
async def writing(channel: Channel) -> AsyncIterator[asyncio.Task[None]]:
    """The channel's writer runs; at the end it has ended with the conversation and not otherwise."""
    writer = asyncio.create_task(channel.write())
    try:
        yield writer
    finally:
        await channel.close()
        async with asyncio.timeout(5):
            with pytest.raises(ChannelClosed):
                await writer


@pytest.fixture
def log() -> io.StringIO:
    """What is logged while the test runs, a JSON object per line."""
    stream = io.StringIO()
    logs.configure("info", "json", stream)
    return stream


async def turns(count: int = 3) -> None:
    """Let the other tasks run until they wait again."""
    for _ in range(count):
        await asyncio.sleep(0)


# --- the ordinary case -------------------------------------------------------------------


async def test_an_answer_arrives_whole_numbered_and_before_its_outcome() -> None:
    """Chunks are numbered from 0 as they leave, and the outcome counts what left (field note 15)."""
    ours, theirs = socket_pair()
    channel, peer = agent_channel(ours), Channel(theirs, serving_link(Role.COORDINATOR))
    async with writing(channel):
        for part in (b"Hel", b"lo"):
            await channel.relay("j", part)
            await turns()
        channel.finish(DONE)
        got = [await peer.receive() for _ in range(3)]

    assert got == [
        JobChunk(job_id="j", data=b"Hel", seq=0),
        JobChunk(job_id="j", data=b"lo", seq=1),
        JobDone(job_id="j", tokens=Tokens.of(1, 2), duration_ms=3, seq=2, chunks=2, bytes=5),
    ]


async def test_an_outcome_without_a_byte_is_stamped_with_zeros() -> None:
    """A job that failed before its first byte says so in numbers."""
    socket = MemorySocket()
    channel = agent_channel(socket)
    async with writing(channel):
        channel.finish(failed("j"))

    assert frames_of(socket.sent) == [
        JobError(job_id="j", error_code="internal", message="m", seq=0, bytes_sent=0)
    ]


async def test_a_failed_answer_counts_bytes_apart_from_tokens() -> None:
    """`bytes_sent` is what the channel sent; `tokens_emitted` stays what the engine said (field note 13)."""
    socket = MemorySocket()
    channel = agent_channel(socket)
    async with writing(channel):
        await channel.relay("j", b"x" * 1000)
        channel.finish(JobError(job_id="j", error_code="internal", message="m", tokens_emitted=7))
    outcome = frames_of(socket.sent)[-1]

    assert isinstance(outcome, JobError)
    assert (outcome.tokens_emitted, outcome.bytes_sent, outcome.seq) == (7, 1000, 1)


async def test_numbers_start_again_for_a_new_attempt() -> None:
    """A finished lane is forgotten, so that nothing is kept for ended jobs."""
    socket = MemorySocket()
    channel = agent_channel(socket)
    async with writing(channel):
        for _ in range(2):
            await channel.relay("j", b"x")
            channel.finish(DONE)
    chunks = [frame for frame in frames_of(socket.sent) if isinstance(frame, JobChunk)]

    assert [chunk.seq for chunk in chunks] == [0, 0]
    assert channel._lanes == {}


async def test_relay_does_not_suspend_while_there_is_room() -> None:
    """The hot path costs no turn of the loop."""
    channel = agent_channel(MemorySocket())
    step = channel.relay("j", b"x")
    with pytest.raises(StopIteration):
        step.send(None)


async def test_an_empty_chunk_is_no_frame() -> None:
    """Nothing is nothing to say."""
    socket = MemorySocket()
    channel = agent_channel(socket)
    async with writing(channel):
        await channel.relay("j", b"")

    assert socket.sent == []


# --- merging and turns -------------------------------------------------------------------


async def test_waiting_chunks_of_one_job_merge() -> None:
    """While the socket is busy small reads become one frame."""
    socket = StuckSocket()
    channel = agent_channel(socket)
    async with writing(channel):
        channel.post(BEAT)
        await socket.stuck.wait()
        for number in range(100):
            await channel.relay("j", b"%03d " % number)
        socket.release()
    beat, chunk = frames_of(socket.sent)

    assert beat == BEAT
    assert isinstance(chunk, JobChunk)
    assert chunk.data == b"".join(b"%03d " % number for number in range(100))


async def test_a_merged_frame_has_a_limit() -> None:
    """64 KiB at most, also when one read was larger."""
    socket = StuckSocket()
    channel = agent_channel(socket, lane_bytes=10**6)
    parts = [b"a" * 40_000, b"b" * 40_000, b"c" * 150_000, b"d"]
    async with writing(channel):
        for part in parts:
            await channel.relay("j", part)
        socket.release()
    chunks = [frame for frame in frames_of(socket.sent) if isinstance(frame, JobChunk)]

    assert b"".join(chunk.data for chunk in chunks) == b"".join(parts)
    assert max(len(chunk.data) for chunk in chunks) == MERGED_BYTES
    assert [chunk.seq for chunk in chunks] == list(range(len(chunks)))


async def test_jobs_take_turns_of_16_kib() -> None:
    """A job with much to say does not keep the others waiting (field note 11)."""
    socket = StuckSocket()
    channel = agent_channel(socket)
    async with writing(channel):
        channel.post(BEAT)
        await socket.stuck.wait()
        for job_id in ("big", "small-1", "small-2"):
            await channel.relay(job_id, b"x" * (200_000 if job_id == "big" else 10))
        socket.release()
    chunks = [frame for frame in frames_of(socket.sent) if isinstance(frame, JobChunk)]

    assert [chunk.job_id for chunk in chunks[:3]] == ["big", "small-1", "small-2"]
    assert len(chunks[0].data) == TURN_BYTES


async def test_all_busy_jobs_get_the_same_share() -> None:
    """Round-robin: after any number of frames two busy jobs differ by one turn at most."""
    socket = StepSocket()
    channel = agent_channel(socket)
    async with writing(channel):
        for job_id in ("a", "b", "c"):
            for _ in range(4):
                await channel.relay(job_id, b"x" * TURN_BYTES)
        socket.step(8)
        await turns(10)
        order = [frame.job_id for frame in frames_of(socket.sent) if isinstance(frame, JobChunk)]

        assert "".join(order) == "abcabcab"


async def test_control_goes_before_waiting_chunks() -> None:
    """A refusal or heartbeat waits for no chunk but the one that the socket already has (I5)."""
    socket = StepSocket()
    channel = agent_channel(socket)
    async with writing(channel):
        for job_id in ("a", "b"):
            await channel.relay(job_id, b"x" * 100_000)
        await turns()
        channel.post(BEAT)
        channel.post(failed("refused", "out_of_capacity"))
        socket.step(4)
        await turns(10)
        kinds = [type(frame).__name__ for frame in frames_of(socket.sent)]

        assert kinds == ["JobChunk", "Heartbeat", "JobError", "JobChunk"]


async def test_posting_never_waits_on_a_stuck_socket() -> None:
    """Refusals need no room: the reader can always answer (field notes 1 and 12)."""
    socket = StuckSocket()
    channel = agent_channel(socket, lane_bytes=10, flush_timeout_s=0)
    async with writing(channel):
        await channel.relay("full", b"x" * 10)
        await socket.stuck.wait()
        for number in range(1000):
            channel.post(failed(f"job-{number}", "out_of_capacity"))
        socket.release()
        await turns(5)

        assert len(socket.sent) == 1001


async def test_an_outcome_does_not_wait_for_the_chunks_of_others() -> None:
    """An outcome with nothing before it is a control frame."""
    socket = StepSocket()
    channel = agent_channel(socket)
    async with writing(channel):
        await channel.relay("busy", b"x" * 200_000)
        await turns()
        channel.finish(failed("other"))
        socket.step(2)
        await turns(10)

        assert isinstance(frames_of(socket.sent)[1], JobError)


async def test_an_outcome_never_overtakes_its_chunks() -> None:
    """However much waits, all of it leaves before the outcome, which leaves right behind it."""
    socket = StuckSocket()
    channel = agent_channel(socket)
    async with writing(channel):
        await channel.relay("j", b"x" * 200_000)
        await channel.relay("other", b"y" * 200_000)
        channel.finish(DONE)
        socket.release()
    ours = [frame for frame in frames_of(socket.sent) if getattr(frame, "job_id", "") == "j"]

    assert [type(frame) for frame in ours[-2:]] == [JobChunk, JobDone]
    assert sum(len(frame.data) for frame in ours if isinstance(frame, JobChunk)) == 200_000


async def test_an_outcome_that_waits_is_not_said_twice() -> None:
    """A repeated dispatch is answered with the known outcome, which is already on its way (I1, I4)."""
    socket = StuckSocket()
    channel = agent_channel(socket)
    async with writing(channel):
        channel.post(BEAT)
        await socket.stuck.wait()
        await channel.relay("j", b"x")
        channel.finish(DONE)
        channel.post(DONE)
        socket.release()

    assert [type(frame) for frame in frames_of(socket.sent)] == [Heartbeat, JobChunk, JobDone]


# --- a peer that does not read -----------------------------------------------------------


async def test_a_peer_that_asks_on_and_on_and_takes_no_answer_is_given_up() -> None:
    """Answers need no room, so that there is a limit to how many may wait."""
    ours, theirs = join(StuckSocket(), MemorySocket())
    channel = agent_channel(ours)
    writer, reader = asyncio.create_task(channel.write()), asyncio.create_task(channel.receive())
    channel.post(BEAT)
    await ours.stuck.wait()
    refusal = JobError(job_id="j", error_code="out_of_capacity", message="m" * 2048)
    for _ in range(CONTROL_BYTES // 2048 + 1):
        channel.post(refusal)
    ends = await asyncio.gather(writer, reader, return_exceptions=True)
    with pytest.raises(ChannelClosed):
        await theirs.receive()

    assert [str(end) for end in ends] == [
        "we closed the connection with 4003: the peer goes on asking, but has left 8 MiB of answers waiting"
    ] * 2
    assert not channel._control.waiting
    assert ours.sent == []


async def test_one_large_frame_is_no_reason_to_give_up() -> None:
    """However large it is: the limit is for what waited before it."""
    socket = StuckSocket()
    channel = agent_channel(socket)
    async with writing(channel):
        channel.post(BEAT)
        await socket.stuck.wait()
        channel.post(JobError(job_id="j", error_code="internal", message="m" * (CONTROL_BYTES + 1)))
        socket.release()

    assert len(socket.sent) == 2


async def test_jobs_that_wait_for_a_slow_agent_are_no_reason_to_give_it_up() -> None:
    """A client waits for each of them; how many there are is not the agent's doing."""
    socket = StuckSocket()
    channel = Channel(socket, serving_link(Role.COORDINATOR))
    async with writing(channel):
        for number in range(5):
            channel.post(job_of(f"j{number}", size=CONTROL_BYTES // 2))
        channel.post(JobCancel(job_id="other"))
        socket.release()

    assert len(socket.sent) == 6


async def test_a_job_that_is_cancelled_while_it_waits_is_not_sent() -> None:
    """Only the cancel is: the agent's `unknown_job` tells that the slot is free."""
    socket = StuckSocket()
    channel = Channel(socket, serving_link(Role.COORDINATOR))
    async with writing(channel):
        channel.post(job_of("leaves"))
        await socket.stuck.wait()
        for job_id in ("stays", "goes"):
            channel.post(job_of(job_id))
        for job_id in ("leaves", "goes"):
            channel.post(JobCancel(job_id=job_id))
        socket.release()
    sent = [decode(message, Role.COORDINATOR) for message in socket.sent]

    assert [(type(frame), getattr(frame, "job_id", "")) for frame in sent] == [
        (Job, "leaves"),
        (Job, "stays"),
        (JobCancel, "leaves"),
        (JobCancel, "goes"),
    ]


def job_of(job_id: str, size: int = 1) -> Job:
    return Job(job_id=job_id, model_id="m", request=Raw(b'{"x":"' + b"x" * size + b'"}'))


# --- back-pressure -----------------------------------------------------------------------


async def test_a_full_lane_holds_up_its_own_job_only() -> None:
    """A slow peer stops the job whose bytes wait; others still have room (field note 11)."""
    socket = StuckSocket()
    channel = agent_channel(socket, lane_bytes=100, flush_timeout_s=0)
    async with writing(channel):
        await channel.relay("a", b"x" * 10)
        await socket.stuck.wait()
        await channel.relay("a", b"x" * 100)
        waiting = asyncio.create_task(channel.relay("a", b"more"))
        await channel.relay("b", b"y" * 100)
        await turns()

        assert not waiting.done()

        socket.release()
        async with asyncio.timeout(1):
            await waiting


async def test_a_lane_that_stays_full_ends_in_a_timeout() -> None:
    """The job is told how long nobody took its bytes; the bytes were not taken."""
    socket = StuckSocket()
    channel = agent_channel(socket, lane_bytes=10, backpressure_timeout_s=0.01, flush_timeout_s=0)
    async with writing(channel):
        await channel.relay("j", b"x" * 10)
        await socket.stuck.wait()
        await channel.relay("j", b"y" * 10)
        with pytest.raises(BackpressureTimeout, match=r"took no bytes of this job for 0\.01 s") as caught:
            await channel.relay("j", b"z")
        socket.release()
        await turns()

        assert caught.value.job_id == "j"
        assert b"".join(f.data for f in frames_of(socket.sent) if isinstance(f, JobChunk)) == (
            b"x" * 10 + b"y" * 10
        )


async def test_a_slow_line_is_not_mistaken_for_a_stuck_peer() -> None:
    """It took bytes all the time, if not all of them within the limit: a job on a thin uplink lives on."""
    channel = agent_channel(SlowSocket(takes_s=0.04), lane_bytes=1, backpressure_timeout_s=0.25)
    async with writing(channel):
        await channel.relay("j", b"x" * 10 * MERGED_BYTES)
        await channel.relay("j", b"y")


async def test_a_timeout_of_the_caller_is_not_mistaken_for_back_pressure() -> None:
    """A job's own deadline passes through a wait for room as itself."""
    channel = agent_channel(StuckSocket(), lane_bytes=1)
    await channel.relay("j", b"x")
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.001):
            await channel.relay("j", b"y")


# --- discarding --------------------------------------------------------------------------


async def test_discarded_chunks_never_leave() -> None:
    """After a cancel only the outcome leaves, and it counts what had really left (field note 5, I2)."""
    socket = StepSocket()
    channel = agent_channel(socket)
    async with writing(channel):
        await channel.relay("j", b"x" * MERGED_BYTES)
        await turns()
        await channel.relay("j", b"y" * 10)
        assert channel.discard("j") is None
        channel.finish(failed("j", "cancelled"))
        socket.step(5)
    *chunks, outcome = frames_of(socket.sent)

    assert [len(chunk.data) for chunk in chunks if isinstance(chunk, JobChunk)] == [MERGED_BYTES]
    assert isinstance(outcome, JobError)
    assert (outcome.error_code, outcome.bytes_sent, outcome.seq) == ("cancelled", MERGED_BYTES, 1)


async def test_a_discarded_outcome_is_given_back() -> None:
    """A cancel that comes while the outcome waits replaces it: one outcome leaves, not two (I1)."""
    socket = StuckSocket()
    channel = agent_channel(socket)
    async with writing(channel):
        channel.post(BEAT)
        await socket.stuck.wait()
        await channel.relay("j", b"x")
        channel.finish(DONE)
        assert channel.discard("j") == DONE
        channel.finish(failed("j", "cancelled"))
        socket.release()

    assert [type(frame) for frame in frames_of(socket.sent)] == [Heartbeat, JobError]


async def test_discarding_wakes_whoever_waits_for_room() -> None:
    """The lane is empty now: the wait is over."""
    channel = agent_channel(MemorySocket(), lane_bytes=1)
    await channel.relay("j", b"x")
    waiting = asyncio.create_task(channel.relay("j", b"y"))
    await turns()
    channel.discard("j")
    async with asyncio.timeout(1):
        await waiting


async def test_discarding_what_is_not_there_does_nothing() -> None:
    """A cancel may come for a job without a byte."""
    assert agent_channel(MemorySocket()).discard("nobody") is None


async def test_a_new_attempt_waits_for_the_outcome_of_the_old_one() -> None:
    """Two generations of a job id never mix on the wire (field note 4)."""
    socket = StuckSocket()
    channel = agent_channel(socket)
    async with writing(channel):
        channel.post(BEAT)
        await socket.stuck.wait()
        await channel.relay("j", b"old")
        channel.finish(DONE)
        again = asyncio.create_task(channel.relay("j", b"new"))
        await turns()
        assert not again.done()
        socket.release()
        await again
    kinds = [(type(frame), getattr(frame, "seq", None)) for frame in frames_of(socket.sent)[1:]]

    assert kinds == [(JobChunk, 0), (JobDone, 1), (JobChunk, 0)]


# --- dialects ----------------------------------------------------------------------------


async def test_a_protocol_2_peer_gets_chunks_without_numbers_and_silence_on_cancel() -> None:
    """What an old peer has no word for is not said (I6)."""
    socket = MemorySocket()
    channel = agent_channel(socket, protocol=2)
    async with writing(channel):
        await channel.relay("j", b"x")
        await turns()
        channel.finish(failed("j", "cancelled"))
        channel.post(failed("k", "draining"))

    assert channel.protocol == 2
    assert socket.sent == [
        b'{"type":"job_chunk","job_id":"j","data":"eA=="}',
        b'{"type":"job_error","job_id":"k","error_code":"out_of_capacity","message":"m","tokens_emitted":0}',
    ]


# --- receiving ---------------------------------------------------------------------------


async def test_unknown_frames_are_counted_named_once_and_skipped(log: io.StringIO) -> None:
    """A newer peer is not an error."""
    socket = MemorySocket()
    channel = agent_channel(socket)
    for message in (b'{"type":"job_ack"}', b'{"type":"job_ack"}', b'{"type":"other"}'):
        socket.feed(message)
    socket.feed(encode(JobCancel(job_id="j")) or b"")
    frame = await channel.receive()

    assert frame == JobCancel(job_id="j")
    assert channel.unknown_frames == 3
    assert [json.loads(line)["frame_type"] for line in log.getvalue().splitlines()] == ["job_ack", "other"]


async def test_a_peer_that_invents_types_does_not_fill_the_log(log: io.StringIO) -> None:
    """All are counted; only the first few are named."""
    socket = MemorySocket()
    channel = agent_channel(socket)
    for number in range(200):
        socket.feed(b'{"type":"t%d"}' % number)
    socket.feed(encode(JobCancel(job_id="j")) or b"")
    await channel.receive()

    assert channel.unknown_frames == 200
    assert len(log.getvalue().splitlines()) < 20


async def test_reading_goes_on_after_a_bad_frame_and_one_out_of_turn() -> None:
    """One wrong message costs nobody else anything (field note 16)."""
    socket = MemorySocket()
    channel = agent_channel(socket)
    socket.feed(b'{"type":"job","job_id":"j","model_id":7,"request":{}}')
    socket.feed(b'{"type":"auth_ok","provider_id":"p"}')
    socket.feed(encode(JobCancel(job_id="j")) or b"")
    with pytest.raises(BadFrame) as bad:
        await channel.receive()
    with pytest.raises(RemoteTurnError):
        await channel.receive()

    assert bad.value.job_id == "j"
    assert await channel.receive() == JobCancel(job_id="j")


async def test_a_waiting_receive_can_be_cancelled_without_loss() -> None:
    """What comes later is still received."""
    socket = MemorySocket()
    channel = agent_channel(socket)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.001):
            await channel.receive()
    socket.feed(encode(JobCancel(job_id="j")) or b"")

    assert await channel.receive() == JobCancel(job_id="j")


async def test_sending_out_of_turn_is_a_defect_that_is_told_at_once() -> None:
    """Post, relay and finish ask the table before they take anything."""
    channel = Channel(MemorySocket(), Link(Role.AGENT))
    with pytest.raises(LocalTurnError):
        channel.post(BEAT)
    with pytest.raises(LocalTurnError):
        await channel.relay("j", b"x")
    with pytest.raises(LocalTurnError):
        channel.finish(DONE)


# --- the end -----------------------------------------------------------------------------


async def test_close_lets_leave_what_was_posted_before() -> None:
    """A goodbye does not swallow the outcomes of a drain."""
    socket = StuckSocket()
    channel = agent_channel(socket)
    writer = asyncio.create_task(channel.write())
    await channel.relay("j", b"x")
    channel.finish(failed("j", "agent_shutdown"))
    await socket.stuck.wait()
    asyncio.get_running_loop().call_soon(socket.release)
    await channel.close(1000, "drained")
    with pytest.raises(ChannelClosed) as closed:
        await writer

    assert [type(frame) for frame in frames_of(socket.sent)] == [JobChunk, JobError]
    assert (closed.value.code, closed.value.reason, closed.value.by_us) == (1000, "drained", True)


async def test_close_sends_what_waits_even_without_a_writer() -> None:
    """A coordinator that rejects an agent has no writer yet, and the reason must arrive."""
    socket = MemorySocket()
    channel = agent_channel(socket)
    channel.post(failed("j"))
    await channel.close()

    assert len(socket.sent) == 1


async def test_close_does_not_wait_for_a_stuck_peer() -> None:
    """The flush has a limit."""
    socket = StuckSocket()
    channel = agent_channel(socket, flush_timeout_s=0.01)
    async with writing(channel):
        channel.post(BEAT)
        await socket.stuck.wait()
        async with asyncio.timeout(1):
            await channel.close(4003, "enough")

    assert socket.closed is not None
    assert socket.closed.code == 4003


async def test_close_takes_the_time_that_it_is_given() -> None:
    """Whoever leaves with grace has the last bytes of its jobs arrive over a thin line, too."""
    socket = StuckSocket()
    channel = agent_channel(socket, flush_timeout_s=0.01)
    async with writing(channel):
        channel.post(BEAT)
        await socket.stuck.wait()
        asyncio.get_running_loop().call_later(0.05, socket.release)
        await channel.close(within_s=5)

    assert len(socket.sent) == 1


async def test_a_closed_channel_takes_nothing_and_says_so_to_chunks_only() -> None:
    """Late refusals and outcomes of a dead session are dropped in silence; a job learns that it is alone."""
    socket = MemorySocket()
    channel = agent_channel(socket)
    await channel.relay("j", b"x")
    await channel.close(1000)
    left = len(socket.sent)
    channel.post(BEAT)
    channel.finish(DONE)
    assert channel.discard("j") is None
    with pytest.raises(ChannelClosed):
        await channel.relay("j", b"y")
    with pytest.raises(ChannelClosed):
        await channel.write()

    assert len(socket.sent) == left


async def test_the_peers_close_ends_reader_writer_and_waiting_jobs() -> None:
    """All who wait learn of the end, with the peer's code (field note 8's first half)."""
    ours, theirs = join(StuckSocket(), MemorySocket())
    channel = agent_channel(ours, lane_bytes=1)
    writer = asyncio.create_task(channel.write())
    reader = asyncio.create_task(channel.receive())
    await channel.relay("j", b"x")
    await ours.stuck.wait()
    await channel.relay("j", b"y")
    waiting = asyncio.create_task(channel.relay("j", b"z"))
    await turns()
    await theirs.close(4002, "replaced")
    ends = await asyncio.gather(writer, reader, waiting, return_exceptions=True)

    assert [(end.code, end.by_us) for end in ends if isinstance(end, ChannelClosed)] == [(4002, False)] * 3


async def test_a_socket_that_is_lost_while_sending_ends_the_writer() -> None:
    """The writer's end is the channel's."""
    channel = agent_channel(SocketThatCloses(after=1))
    channel.post(BEAT)
    channel.post(BEAT)
    with pytest.raises(ChannelClosed) as closed:
        await channel.write()
    with pytest.raises(ChannelClosed):
        await channel.relay("j", b"x")

    assert closed.value.code is None


async def test_a_cancelled_writer_leaves_a_channel_that_can_still_be_closed() -> None:
    """A task group that falls apart cancels the writer first."""
    socket = MemorySocket()
    channel = agent_channel(socket)
    writer = asyncio.create_task(channel.write())
    await turns()
    writer.cancel()
    with pytest.raises(asyncio.CancelledError):
        await writer
    channel.post(BEAT)
    async with asyncio.timeout(1):
        await channel.close()

    assert frames_of(socket.sent) == [BEAT]


@pytest.mark.parametrize(
    ("closed", "sentence"),
    [
        (ChannelClosed(1001, "drain:deploy"), "the peer closed the connection with 1001: drain:deploy"),
        (ChannelClosed(4003, "", by_us=True), "we closed the connection with 4003"),
        (ChannelClosed(None, ""), "the connection was lost"),
        (ChannelClosed(None, "silent", by_us=True), "the connection was given up: silent"),
    ],
)
def test_every_end_is_one_sentence(closed: ChannelClosed, sentence: str) -> None:
    """Logs and operators read the same words."""
    assert str(closed) == sentence


async def test_a_channel_shows_its_condition() -> None:
    """`repr` is enough for a log line."""
    channel = agent_channel(MemorySocket())
    await channel.relay("j", b"x")

    assert repr(channel) == (
        "<Channel 0 control, 1 of 1 lanes waiting, <Link agent, protocol 3, while jobs are served>>"
    )
