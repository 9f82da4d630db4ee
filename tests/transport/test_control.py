"""Control frames that wait: in order, counted, and jobs can be withdrawn."""

from provider_agent.transport.control import ControlLane


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
