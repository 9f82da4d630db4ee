"""What leaves a channel and when: at once, in turns, merged, in order; what comes in; and how it all ends."""

import asyncio
import io
import json
from collections.abc import Iterable

import pytest
from msgspec import Raw

from provider_agent.protocol.codec import decode, encode
from provider_agent.protocol.errors import BadFrame, LocalTurnError, RemoteTurnError
from provider_agent.protocol.frames import (
    BinaryChunk,
    Frame,
    Heartbeat,
    Job,
    JobCancel,
    JobChunk,
    JobDone,
    JobError,
    JobStarted,
    Tokens,
)
from provider_agent.protocol.link import Link, Role
from provider_agent.telemetry import logs
from provider_agent.transport.channel import CONTROL_BYTES, TURN_BYTES, Channel, ChannelClosed
from provider_agent.transport.lane import MERGED_BYTES, Lane
from tests.fakes.peers import serving_link
from tests.fakes.sockets import (
    MemorySocket,
    SocketThatCloses,
    SocketThatIsFullUntilFlushed,
    SocketThatTellsWithinAFlush,
    StepSocket,
    StuckSocket,
    join,
    socket_pair,
)

DONE = JobDone(job_id="j", tokens=Tokens.of(1, 2), duration_ms=3)
BEAT = Heartbeat(queue_depth=0)
STARTED = JobStarted(job_id="j", backend="b", upstream_model="m", http_status=200, content_type="text/plain")


def failed(job_id: str, code: str = "internal") -> JobError:
    return JobError(job_id=job_id, error_code=code, message="m")


def frames_of(messages: Iterable[bytes]) -> list[Frame]:
    return [decode(message, Role.AGENT) for message in messages]


def chunks_of(socket: MemorySocket) -> list[JobChunk]:
    return [frame for frame in frames_of(socket.sent) if isinstance(frame, JobChunk)]


def kinds_of(socket: MemorySocket) -> list[str]:
    return [type(frame).__name__ for frame in frames_of(socket.sent)]


def agent_channel(socket: MemorySocket, *, protocol: int = 3, flush_timeout_s: float = 1.0) -> Channel:
    return Channel(socket, serving_link(Role.AGENT, protocol), flush_timeout_s=flush_timeout_s)


def lane_on(channel: Channel, job_id: str = "j", *, window_bytes: int | None = 1 << 20) -> Lane:
    lane = Lane(job_id, window_bytes=window_bytes)
    channel.attach(lane)
    return lane


def job_of(job_id: str, size: int = 1) -> Job:
    return Job(job_id=job_id, model_id="m", request=Raw(b'{"x":"' + b"x" * size + b'"}'))


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
    """From one end to the other, turn by turn (field note 15)."""
    ours, theirs = socket_pair()
    channel, peer = agent_channel(ours), Channel(theirs, serving_link(Role.COORDINATOR))
    lane = lane_on(channel)
    lane.start(STARTED)
    for part in (b"Hel", b"lo"):
        lane.write(part)
        await turns()
    lane.finish(DONE)
    got = [await peer.receive() for _ in range(4)]

    assert got == [
        STARTED,
        JobChunk(job_id="j", data=b"Hel", seq=0),
        JobChunk(job_id="j", data=b"lo", seq=1),
        JobDone(job_id="j", tokens=Tokens.of(1, 2), duration_ms=3, seq=2, chunks=2, bytes=5),
    ]


async def test_all_frames_of_one_turn_leave_in_one_write() -> None:
    """However many jobs and control frames there are; and nothing waits longer than that."""
    socket = MemorySocket()
    channel = agent_channel(socket)
    lanes = [lane_on(channel, f"j{number}") for number in range(20)]
    for lane in lanes:
        lane.write(b"token")
    channel.post(BEAT)
    lanes[0].finish(DONE)
    await turns(1)

    assert socket.writes == [22]


async def test_what_is_worth_a_write_does_not_wait_for_the_turn_to_end() -> None:
    """Above 16 KiB the next bytes find the cache cold and the kernel idle."""
    socket = MemorySocket()
    lane = lane_on(agent_channel(socket))
    lane.write(b"x" * TURN_BYTES)

    assert socket.writes == [1]


async def test_each_turns_token_leaves_without_waiting() -> None:
    """Nothing is kept back for the next one."""
    channel = agent_channel(MemorySocket())
    lane = lane_on(channel)
    for _ in range(3):
        lane.write(b"x")
        assert lane.window.waiting_bytes == 0
        await turns(1)


async def test_many_small_pieces_of_one_turn_are_written_as_soon_as_they_are_worth_it() -> None:
    """They merge until then."""
    socket = MemorySocket()
    lane = lane_on(agent_channel(socket))
    for _ in range(200):
        lane.write(b"x" * 100)
    before_the_end = len(socket.writes)
    await turns(1)

    assert before_the_end == 1
    assert b"".join(chunk.data for chunk in chunks_of(socket)) == b"x" * 20_000
    assert len(chunks_of(socket)) <= 5


async def test_numbers_start_again_for_a_new_attempt_and_nothing_of_the_old_one_is_kept() -> None:
    """An ended job leaves no trace in the channel (field note 47)."""
    socket = MemorySocket()
    channel = agent_channel(socket)
    for _ in range(2):
        lane = lane_on(channel)
        lane.write(b"x")
        lane.finish(DONE)
        await turns()

    assert [chunk.seq for chunk in chunks_of(socket)] == [0, 0]
    assert channel._lanes == {}


async def test_chunks_are_binary_where_that_was_agreed() -> None:
    """For jobs that have a number; all else stays text."""
    socket = MemorySocket()
    channel = agent_channel(socket)
    channel.binary = True
    lane = Lane("j", stream_id=3)
    channel.attach(lane)
    lane.write(b"x")
    lane_on(channel, "k").write(b"y")
    await turns()

    assert frames_of(socket.sent) == [
        BinaryChunk(stream_id=3, seq=0, data=b"x"),
        JobChunk(job_id="k", seq=0, data=b"y"),
    ]


# --- merging and turns -------------------------------------------------------------------


async def test_waiting_chunks_of_one_job_merge() -> None:
    """While the socket is busy small reads become one frame."""
    socket = StuckSocket()
    channel = agent_channel(socket)
    lane = lane_on(channel)
    channel.post(BEAT)
    await socket.stuck.wait()
    for number in range(100):
        lane.write(b"%03d " % number)
        await asyncio.sleep(0)
    socket.release()
    await turns()

    assert frames_of(socket.sent) == [
        BEAT,
        JobChunk(job_id="j", seq=0, data=b"".join(b"%03d " % number for number in range(100))),
    ]


async def test_a_merged_frame_has_a_limit() -> None:
    """64 KiB at most, also when one read was larger."""
    socket = MemorySocket()
    lane = lane_on(agent_channel(socket))
    parts = [b"a" * 40_000, b"b" * 40_000, b"c" * 150_000, b"d"]
    for part in parts:
        lane.write(part)
    await turns()
    chunks = chunks_of(socket)

    assert b"".join(chunk.data for chunk in chunks) == b"".join(parts)
    assert max(len(chunk.data) for chunk in chunks) == MERGED_BYTES
    assert [chunk.seq for chunk in chunks] == list(range(len(chunks)))


async def test_the_socket_is_asked_for_room_every_64_kib() -> None:
    """What it has not been given it cannot call too much: memory stays bounded."""
    socket = MemorySocket()
    lane = lane_on(agent_channel(socket))
    lane.write(b"x" * 900_000)

    assert len(socket.writes) >= 900_000 // MERGED_BYTES


async def test_jobs_take_turns_of_16_kib() -> None:
    """A job with much to say does not keep the others waiting (field note 11)."""
    socket = StepSocket()
    channel = agent_channel(socket)
    for job_id in ("big", "small-1", "small-2"):
        lane_on(channel, job_id).write(b"x" * (200_000 if job_id == "big" else 10))
    socket.step(100)
    chunks = chunks_of(socket)

    assert [chunk.job_id for chunk in chunks[:3]] == ["big", "small-1", "small-2"]
    assert [len(chunk.data) for chunk in chunks[:4]] == [TURN_BYTES, 10, 10, MERGED_BYTES]


async def test_all_busy_jobs_get_the_same_share() -> None:
    """Round-robin: after any number of frames two busy jobs differ by one turn at most."""
    socket = StepSocket()
    channel = agent_channel(socket)
    for job_id in ("a", "b", "c"):
        lane = lane_on(channel, job_id)
        for _ in range(4):
            lane.write(b"x" * TURN_BYTES)
    socket.step(8)

    assert "".join(chunk.job_id for chunk in chunks_of(socket)) == "abcabcab"


async def test_control_goes_before_waiting_chunks() -> None:
    """A refusal or heartbeat waits for no chunk but those that the socket already has (I5)."""
    socket = StepSocket()
    channel = agent_channel(socket)
    for job_id in ("a", "b"):
        lane_on(channel, job_id).write(b"x" * 100_000)
    socket.step()
    channel.post(BEAT)
    channel.post(failed("refused", "out_of_capacity"))
    socket.step(3)

    assert kinds_of(socket) == ["JobChunk", "Heartbeat", "JobError", "JobChunk"]


async def test_posting_never_waits_on_a_stuck_socket() -> None:
    """Refusals need no room: the reader can always answer (field notes 1 and 12)."""
    socket = StuckSocket()
    channel = agent_channel(socket)
    lane_on(channel).write(b"x" * 500_000)
    for number in range(1000):
        channel.post(failed(f"job-{number}", "out_of_capacity"))
    socket.release()
    await turns()

    assert kinds_of(socket).count("JobError") == 1000


async def test_control_leaves_in_the_order_of_entry() -> None:
    """Also where some of it found the socket free and some did not."""
    socket = StuckSocket()
    channel = agent_channel(socket)
    for number in range(30):
        channel.post(failed(f"{number}"))
        await turns(1)
    socket.release()

    assert [getattr(frame, "job_id", "") for frame in frames_of(socket.sent)] == [f"{n}" for n in range(30)]


async def test_an_outcome_and_a_start_do_not_wait_for_the_chunks_of_others() -> None:
    """What has nothing before it goes with control."""
    socket = StepSocket()
    channel = agent_channel(socket)
    lane_on(channel, "busy").write(b"x" * 200_000)
    lane_on(channel, "j").start(STARTED)
    lane_on(channel, "ended").finish(failed("ended"))
    socket.step(3)

    assert kinds_of(socket) == ["JobStarted", "JobError", "JobChunk"]


async def test_an_outcome_leaves_right_behind_its_chunks() -> None:
    """However much waits: all of it, then the outcome, without waiting for the others' chunks."""
    socket = StepSocket()
    channel = agent_channel(socket)
    lane, other = lane_on(channel), lane_on(channel, "other")
    lane.write(b"x" * 200_000)
    other.write(b"y" * 200_000)
    lane.finish(DONE)
    socket.step(1000)
    ours = [
        index for index, frame in enumerate(frames_of(socket.sent)) if getattr(frame, "job_id", "") == "j"
    ]
    kinds = kinds_of(socket)

    assert [kinds[index] for index in ours[-2:]] == ["JobChunk", "JobDone"]
    assert ours[-1] == ours[-2] + 1
    assert sum(len(chunk.data) for chunk in chunks_of(socket) if chunk.job_id == "j") == 200_000


async def test_an_outcome_that_waits_is_not_said_twice() -> None:
    """A repeated dispatch is answered with the known outcome, which is already on its way (I1, I4)."""
    socket = StepSocket()
    channel = agent_channel(socket)
    lane = lane_on(channel)
    lane.write(b"x")
    lane.finish(DONE)
    channel.post(DONE)
    socket.step(1000)
    assert kinds_of(socket) == ["JobChunk", "JobDone"]
    channel.post(DONE)
    await turns()

    assert kinds_of(socket) == ["JobChunk", "JobDone", "JobDone"]


async def test_a_refusal_of_a_running_job_is_said() -> None:
    """Its own outcome is not known yet, so nothing is said twice."""
    socket = MemorySocket()
    channel = agent_channel(socket)
    lane_on(channel)
    channel.post(failed("j", "duplicate_job"))
    await turns()

    assert kinds_of(socket) == ["JobError"]


async def test_a_socket_that_has_room_again_after_a_flush_is_given_the_rest() -> None:
    """It counts what was collected; nobody has to tell that there is room."""
    socket = SocketThatIsFullUntilFlushed()
    lane = lane_on(agent_channel(socket))
    lane.write(b"x" * 900_000)

    assert sum(len(chunk.data) for chunk in chunks_of(socket)) == 900_000


# --- windows -----------------------------------------------------------------------------


async def test_a_full_window_holds_up_its_own_job_only() -> None:
    """A slow client stops the job whose bytes it does not take (field note 11)."""
    socket = MemorySocket()
    channel = agent_channel(socket)
    slow, other = lane_on(channel, "slow", window_bytes=100), lane_on(channel, "other")
    assert not slow.write(b"x" * 150)
    await turns()
    assert other.write(b"y")
    await turns()
    assert [len(chunk.data) for chunk in chunks_of(socket)] == [100, 1]
    slow.ack(0)
    await turns()

    assert [len(chunk.data) for chunk in chunks_of(socket)] == [100, 1, 50]


async def test_a_source_goes_on_when_a_socket_without_acks_has_room() -> None:
    """An old peer: the limit is for what waits, and the source hears in the turn in which it leaves."""
    socket = StepSocket()
    lane = lane_on(agent_channel(socket, protocol=2), window_bytes=None)
    calls: list[int] = []
    lane.on_room = lambda: calls.append(len(socket.sent))
    assert not lane.write(b"x" * 300_000)
    socket.step()

    assert calls == [1]
    socket.step(100)
    assert calls == [1, len(socket.sent)]


async def test_a_source_that_is_resumed_may_write_at_once() -> None:
    """From within the call, as an engine does that has read ahead."""
    socket = StepSocket()
    lane = lane_on(agent_channel(socket))
    pieces = [b"b" * 100_000, b"c" * 100_000]

    def write_on() -> None:
        if pieces:
            lane.write(pieces.pop(0))

    lane.on_room = write_on
    lane.write(b"a" * 100_000)
    socket.step(100)
    await turns()

    assert b"".join(chunk.data for chunk in chunks_of(socket)) == b"".join(
        letter * 100_000 for letter in (b"a", b"b", b"c")
    )


async def test_nobody_is_called_from_within_a_write() -> None:
    """Not even if the socket says in the middle of it that there is room."""
    socket = SocketThatTellsWithinAFlush()
    lane = lane_on(agent_channel(socket))
    is_writing, calls = False, 0

    def count() -> None:
        nonlocal calls
        calls += 1
        assert not is_writing

    lane.on_room = count
    for _ in range(3):
        is_writing = True
        lane.write(b"x" * 200_000)
        is_writing = False
        await turns()

    assert calls == 3
    assert len(b"".join(chunk.data for chunk in chunks_of(socket))) == 600_000


async def test_a_job_that_is_cancelled_right_after_it_wrote_is_not_called_any_more() -> None:
    """Its engine is closed, not resumed."""
    lane = lane_on(agent_channel(MemorySocket()))
    calls: list[None] = []
    lane.on_room = lambda: calls.append(None)
    lane.write(b"x" * 200_000)
    lane.discard()
    await turns()

    assert calls == []


# --- a peer that does not read -----------------------------------------------------------


async def test_a_peer_that_asks_on_and_on_and_takes_no_answer_is_given_up() -> None:
    """Answers need no room, so that there is a limit to how many may wait."""
    ours, theirs = join(StuckSocket(), MemorySocket())
    channel = agent_channel(ours)
    reader = asyncio.create_task(channel.receive())
    channel.post(BEAT)
    await ours.stuck.wait()
    refusal = JobError(job_id="j", error_code="out_of_capacity", message="m" * 2048)
    for _ in range(CONTROL_BYTES // 2048 + 1):
        channel.post(refusal)
    (end,) = await asyncio.gather(reader, return_exceptions=True)
    with pytest.raises(ChannelClosed):
        await theirs.receive()

    assert str(end) == (
        "we closed the connection with 4003: the peer goes on asking, but has left 8 MiB of answers waiting"
    )
    assert not channel._control.waiting
    assert ours.sent == []


async def test_one_large_frame_is_no_reason_to_give_up() -> None:
    """However large it is: the limit is for what waited before it."""
    socket = StuckSocket()
    channel = agent_channel(socket)
    channel.post(BEAT)
    await socket.stuck.wait()
    channel.post(JobError(job_id="j", error_code="internal", message="m" * (CONTROL_BYTES + 1)))
    socket.release()

    assert len(socket.sent) == 2


async def test_jobs_that_wait_for_a_slow_agent_are_no_reason_to_give_it_up() -> None:
    """A client waits for each of them; how many there are is not the agent's doing."""
    socket = StuckSocket()
    channel = Channel(socket, serving_link(Role.COORDINATOR))
    for number in range(5):
        channel.post(job_of(f"j{number}", size=CONTROL_BYTES // 2))
    channel.post(JobCancel(job_id="other"))
    socket.release()

    assert len(socket.sent) == 6


async def test_a_job_that_is_cancelled_while_it_waits_is_not_sent() -> None:
    """Only the cancel is: the agent's `unknown_job` tells that the slot is free."""
    socket = StuckSocket()
    channel = Channel(socket, serving_link(Role.COORDINATOR))
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


# --- lanes that come and go --------------------------------------------------------------


async def test_discarded_chunks_never_leave() -> None:
    """After a cancel only the outcome leaves, and it counts what had really left (field note 5, I2)."""
    socket = StepSocket()
    lane = lane_on(agent_channel(socket))
    lane.write(b"x" * MERGED_BYTES)
    socket.step()
    lane.write(b"y" * 10)
    assert lane.discard() is None
    lane.finish(failed("j", "cancelled"))
    socket.step(5)
    (chunk, outcome) = frames_of(socket.sent)

    assert isinstance(chunk, JobChunk)
    assert len(chunk.data) == MERGED_BYTES
    assert isinstance(outcome, JobError)
    assert (outcome.error_code, outcome.bytes_sent, outcome.seq) == ("cancelled", MERGED_BYTES, 1)


async def test_the_outcome_of_a_cancelled_job_does_not_wait_for_the_chunks_of_others() -> None:
    """Its own were dropped, so nothing is before it."""
    socket = StepSocket()
    channel = agent_channel(socket)
    other, lane = lane_on(channel, "other"), lane_on(channel)
    other.write(b"x" * 100_000)
    lane.write(b"y" * 100_000)
    lane.finish(DONE)
    assert lane.discard() == DONE
    lane.finish(failed("j", "cancelled"))
    socket.step()

    assert kinds_of(socket) == ["JobError"]


async def test_a_new_attempt_waits_for_the_outcome_of_the_old_one() -> None:
    """Two generations of a job id never mix on the wire (field note 4)."""
    socket = StepSocket()
    channel = agent_channel(socket)
    old = lane_on(channel)
    old.write(b"old")
    old.finish(DONE)
    new = lane_on(channel)
    new.write(b"new")
    assert not new.attached
    socket.step(100)

    assert [(type(frame), getattr(frame, "seq", None)) for frame in frames_of(socket.sent)] == [
        (JobChunk, 0),
        (JobDone, 1),
        (JobChunk, 0),
    ]


async def test_a_job_goes_on_over_the_next_channel() -> None:
    """What the peer does not have goes again, behind what was posted before the lane was attached."""
    first = MemorySocket()
    channel = agent_channel(first)
    lane = lane_on(channel)
    for part in (b"a", b"b"):
        lane.write(part)
        await turns()
    first.drop()
    with pytest.raises(ChannelClosed):
        await channel.receive()
    assert not lane.attached
    lane.write(b"c")
    lane.finish(DONE)
    second = MemorySocket()
    channel = agent_channel(second)
    lane.resume(0)
    channel.post(BEAT)
    channel.attach(lane)
    await turns()

    assert frames_of(second.sent) == [
        BEAT,
        JobChunk(job_id="j", seq=1, data=b"b"),
        JobChunk(job_id="j", seq=2, data=b"c"),
        JobDone(job_id="j", tokens=Tokens.of(1, 2), duration_ms=3, seq=3, chunks=3, bytes=3),
    ]


async def test_an_ack_in_the_middle_of_going_again_is_taken_into_account() -> None:
    """The peer had it after all; the outcome follows even so."""
    socket = StepSocket()
    lane = lane_on(agent_channel(MemorySocket()))
    for part in (b"a", b"b"):
        lane.write(part)
        await turns()
    lane.detach()
    lane.finish(DONE)
    lane.resume(-1)
    agent_channel(socket).attach(lane)
    lane.ack(1)
    socket.step(10)

    assert kinds_of(socket) == ["JobDone"]


async def test_a_source_hears_that_all_has_left_even_if_the_channel_ends_just_then() -> None:
    """Nobody else would tell it: the peer may have everything, so that nothing goes again."""
    channel = agent_channel(MemorySocket())
    lane = lane_on(channel)
    calls: list[bool] = []
    lane.on_room = lambda: calls.append(lane.is_drained)
    lane.write(b"x" * 200_000)
    await channel.close()
    await turns()

    assert calls == [True]


async def test_a_source_hears_that_nothing_has_to_go_again() -> None:
    """The peer had all of it: of a second break, of an ack that was under way."""
    lane = lane_on(agent_channel(MemorySocket()))
    for part in (b"a", b"b"):
        lane.write(part)
        await turns()
    calls: list[bool] = []
    lane.on_room = lambda: calls.append(lane.is_drained)
    for have_seq in (-1, 1):
        lane.detach()
        lane.resume(have_seq)
        channel = agent_channel(StepSocket())
        channel.attach(lane)
        await turns()
    assert calls == [True]
    lane.detach()
    lane.resume(0)
    agent_channel(StepSocket()).attach(lane)
    lane.ack(1)

    assert calls == [True, True]


async def test_a_closed_channel_takes_no_lane() -> None:
    """It keeps what it has, for the next one."""
    channel = agent_channel(MemorySocket())
    await channel.close()
    lane = lane_on(channel)
    lane.write(b"x")

    assert not lane.attached
    assert lane.window.waiting_bytes == 1


# --- dialects ----------------------------------------------------------------------------


async def test_a_protocol_2_peer_gets_chunks_without_numbers_and_silence_on_cancel() -> None:
    """What an old peer has no word for is not said (I6)."""
    socket = MemorySocket()
    channel = agent_channel(socket, protocol=2)
    lane = lane_on(channel, window_bytes=None)
    lane.start(STARTED)
    lane.write(b"x")
    lane.finish(failed("j", "cancelled"))
    await turns()
    channel.post(failed("k", "draining"))
    await turns()

    assert channel.protocol == 2
    assert socket.sent == [
        b'{"type":"job_chunk","job_id":"j","data":"eA=="}',
        b'{"type":"job_error","job_id":"k","error_code":"out_of_capacity","message":"m","tokens_emitted":0}',
    ]
    assert lane.is_settled


# --- receiving ---------------------------------------------------------------------------


async def test_unknown_frames_are_counted_named_once_and_skipped(log: io.StringIO) -> None:
    """A newer peer is not an error."""
    socket = MemorySocket()
    channel = agent_channel(socket)
    for message in (b'{"type":"job_hint"}', b'{"type":"job_hint"}', b'{"type":"other"}'):
        socket.feed(message)
    socket.feed(encode(JobCancel(job_id="j")) or b"")
    frame = await channel.receive()

    assert frame == JobCancel(job_id="j")
    assert channel.unknown_frames == 3
    assert [json.loads(line)["frame_type"] for line in log.getvalue().splitlines()] == ["job_hint", "other"]


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


async def test_speaking_out_of_turn_is_a_defect_that_is_told_at_once() -> None:
    """For lanes that is when they are attached, never in the middle of an engine's callback."""
    channel = Channel(MemorySocket(), Link(Role.AGENT))
    with pytest.raises(LocalTurnError):
        channel.post(BEAT)
    with pytest.raises(LocalTurnError):
        channel.attach(Lane("j"))


# --- the end -----------------------------------------------------------------------------


async def test_close_lets_leave_what_was_posted_before() -> None:
    """A goodbye does not swallow the outcomes of a drain."""
    socket = StuckSocket()
    channel = agent_channel(socket)
    channel.post(BEAT)
    await socket.stuck.wait()
    lane = lane_on(channel)
    lane.write(b"x")
    lane.finish(failed("j", "agent_shutdown"))
    asyncio.get_running_loop().call_soon(socket.release)
    await channel.close(1000, "drained")
    with pytest.raises(ChannelClosed) as closed:
        await channel.receive()

    assert kinds_of(socket) == ["Heartbeat", "JobChunk", "JobError"]
    assert (closed.value.code, closed.value.reason, closed.value.by_us) == (1000, "drained", True)


async def test_close_does_not_wait_for_the_turn_to_end() -> None:
    """What was posted a moment ago leaves before the goodbye."""
    socket = MemorySocket()
    channel = agent_channel(socket)
    channel.post(failed("j"))
    await channel.close()

    assert len(socket.sent) == 1


async def test_close_does_not_wait_for_a_stuck_peer() -> None:
    """The flush has a limit."""
    socket = StuckSocket()
    channel = agent_channel(socket, flush_timeout_s=0.01)
    channel.post(BEAT)
    await socket.stuck.wait()
    channel.post(BEAT)
    async with asyncio.timeout(1):
        await channel.close(4003, "enough")

    assert socket.closed is not None
    assert socket.closed.code == 4003


async def test_close_does_not_wait_where_the_peer_has_gone() -> None:
    """What waits for it waits in vain; that holds for one who is closing already, too."""
    ours, theirs = join(StepSocket(), MemorySocket())
    channel = agent_channel(ours, flush_timeout_s=100)
    channel.post(BEAT)
    lane_on(channel).write(b"x")
    closing = asyncio.create_task(channel.close())
    await turns()
    theirs.drop()
    with pytest.raises(ChannelClosed):
        await channel.receive()
    async with asyncio.timeout(5):
        await closing
        await channel.close()


async def test_close_does_not_wait_for_acks() -> None:
    """A window that is full stays so: whoever would read the acks is the one who closes."""
    socket = MemorySocket()
    channel = agent_channel(socket, flush_timeout_s=100)
    lane_on(channel, window_bytes=1).write(b"xyz")
    async with asyncio.timeout(5):
        await channel.close()

    assert len(socket.sent) == 1


async def test_close_takes_the_time_that_it_is_given() -> None:
    """Whoever leaves with grace has the last bytes of its jobs arrive over a thin line, too."""
    socket = StuckSocket()
    channel = agent_channel(socket, flush_timeout_s=0.01)
    channel.post(BEAT)
    await socket.stuck.wait()
    channel.post(BEAT)
    asyncio.get_running_loop().call_later(0.05, socket.release)
    async with asyncio.timeout(5):
        await channel.close(within_s=100)

    assert len(socket.sent) == 2


async def test_a_closed_channel_takes_nothing() -> None:
    """Late refusals of a dead session are dropped in silence; a lane keeps its outcome for the next one."""
    socket = MemorySocket()
    channel = agent_channel(socket)
    lane = lane_on(channel)
    lane.write(b"x")
    await channel.close(1000)
    left = len(socket.sent)
    channel.post(BEAT)
    lane.finish(DONE)
    await turns()

    assert len(socket.sent) == left == 1
    assert lane.discard() == DONE


async def test_the_peers_close_ends_the_reader_and_detaches_every_lane() -> None:
    """All who wait learn of the end, with the peer's code; nothing is lost of the jobs (field note 8)."""
    ours, theirs = join(StepSocket(), MemorySocket())
    channel = agent_channel(ours)
    lanes = [lane_on(channel, job_id) for job_id in ("a", "b")]
    for lane in lanes:
        lane.write(b"x")
    await theirs.close(4002, "replaced")
    with pytest.raises(ChannelClosed) as closed:
        await channel.receive()
    ours.step(10)

    assert (closed.value.code, closed.value.by_us) == (4002, False)
    assert [(lane.attached, lane.window.waiting_bytes) for lane in lanes] == [(False, 1)] * 2
    assert ours.sent == []


async def test_a_socket_that_is_lost_while_sending_harms_nobody() -> None:
    """The reader learns of it, and whoever sends meanwhile does not."""
    socket = SocketThatCloses(after=1)
    channel = agent_channel(socket)
    lane = lane_on(channel)
    for _ in range(3):
        channel.post(BEAT)
        lane.write(b"x" * 50_000)
        await turns()
    with pytest.raises(ChannelClosed) as closed:
        await channel.receive()

    assert closed.value.code is None
    assert len(socket.sent) == 1
    await channel.close()


async def test_two_may_close_at_once() -> None:
    """The process leaves while the session ends: both wait, and both return."""
    socket = StuckSocket()
    channel = agent_channel(socket)
    channel.post(BEAT)
    await socket.stuck.wait()
    channel.post(BEAT)
    closes = [asyncio.create_task(channel.close(code)) for code in (1000, 1001)]
    await turns()
    socket.release()
    async with asyncio.timeout(5):
        await asyncio.gather(*closes)

    assert len(socket.sent) == 2


async def test_a_channel_shows_its_condition() -> None:
    """`repr` is enough for a log line."""
    channel = agent_channel(StepSocket())
    lane_on(channel).write(b"x")

    assert repr(channel) == (
        "<Channel 0 control, 1 of 1 lanes waiting, <Link agent, protocol 3, while jobs are served>>"
    )
