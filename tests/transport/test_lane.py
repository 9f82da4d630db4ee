"""What a lane gives when its turn comes."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from provider_agent.protocol.frames import JobDone, JobError, Tokens
from provider_agent.transport.lane import ControlLane, Lane


def lane_of(*chunks: bytes) -> Lane:
    lane = Lane("j")
    for chunk in chunks:
        lane.chunks.append(chunk)
        lane.waiting_bytes += len(chunk)
    return lane


@pytest.mark.parametrize(
    ("chunks", "taken"),
    [
        ([b"abc"], [b"abc"]),
        ([b"ab", b"cd"], [b"abcd"]),
        ([b"abcd", b"e"], [b"abcd", b"e"]),
        ([b"ab", b"cde", b"f"], [b"ab", b"cdef"]),
        ([b"abcdefghij"], [b"abcd", b"efgh", b"ij"]),
        ([b"abcdef", b"g", b"h"], [b"abcd", b"efgh"]),
    ],
)
def test_a_turn_takes_what_fits_and_cuts_only_what_cannot(chunks: list[bytes], taken: list[bytes]) -> None:
    """Four bytes a turn: whole chunks merge, and one that is larger is cut."""
    lane = lane_of(*chunks)
    got = []
    while lane.chunks:
        got.append(bytes(lane.take(4)))

    assert got == taken


def test_a_single_chunk_is_not_copied() -> None:
    """The ordinary token costs no copy."""
    data = b"token"

    assert lane_of(data).take(100) is data


@given(st.lists(st.binary(min_size=1, max_size=50)), st.integers(1, 60))
def test_no_byte_is_lost_doubled_or_moved(chunks: list[bytes], limit_bytes: int) -> None:
    """Whatever the borders, the stream is the same, within the limit, and counted."""
    lane = lane_of(*chunks)
    taken = []
    while lane.chunks:
        taken.append(lane.take(limit_bytes))

    assert b"".join(taken) == b"".join(chunks)
    assert all(0 < len(part) <= limit_bytes for part in taken)
    assert (lane.waiting_bytes, lane.sent_bytes) == (0, len(b"".join(chunks)))


def test_an_outcome_is_stamped_with_what_left() -> None:
    """Both outcomes say the next number and the bytes, each in its own field."""
    lane = lane_of(b"abc")
    lane.take(100)
    lane.seq = 1
    done = lane.stamp(JobDone(job_id="j", tokens=Tokens(), duration_ms=1))
    error = lane.stamp(JobError(job_id="j", error_code="internal", message="m", tokens_emitted=9))

    assert done == JobDone(job_id="j", tokens=Tokens(), duration_ms=1, seq=1, chunks=1, bytes=3)
    assert error == JobError(
        job_id="j", error_code="internal", message="m", tokens_emitted=9, seq=1, bytes_sent=3
    )


def taken(lane: ControlLane) -> list[bytes]:
    return [lane.take() for _ in range(len(lane.waiting))]


def test_control_frames_leave_in_the_order_of_entry_and_are_counted() -> None:
    """Whatever they are; but what jobs weigh is not the peer's doing."""
    lane = ControlLane()
    lane.enter(b"one")
    lane.enter_job("j", b"x" * 1000)
    lane.enter(b"two")
    assert lane.waiting_bytes == 6

    assert taken(lane) == [b"one", b"x" * 1000, b"two"]
    assert lane.waiting_bytes == 0


def test_a_job_that_is_withdrawn_never_leaves() -> None:
    """The others stay as they are, and withdrawing it twice does nothing more."""
    lane = ControlLane()
    for job_id in ("a", "b"):
        lane.enter_job(job_id, job_id.encode())
    lane.withdraw("a")
    lane.withdraw("a")

    assert taken(lane) == [b"b"]


def test_a_new_attempt_of_a_job_that_waits_takes_its_place() -> None:
    """The agent has not seen the old one, and never will."""
    lane = ControlLane()
    lane.enter_job("j", b"attempt 1")
    lane.enter(b"other")
    lane.enter_job("j", b"attempt 2")

    assert taken(lane) == [b"attempt 2", b"other"]


def test_a_cleared_lane_is_as_new() -> None:
    """Nothing waits, nothing is counted."""
    lane = ControlLane()
    lane.enter(b"one")
    lane.enter_job("j", b"two")
    lane.clear()

    assert (len(lane.waiting), lane.waiting_bytes) == (0, 0)
