"""A job's lane has the window that its coordinator offers, within reason, and none in protocol 2."""

import pytest

from provider_agent.agent.lanes import LARGEST_WINDOW_BYTES, LEGACY_BACKPRESSURE_S, lane_for
from provider_agent.protocol.frames import LEGACY_PROTOCOL, PROTOCOL
from provider_agent.protocol.window import WINDOW_BYTES
from tests.fakes.executors import job


@pytest.mark.parametrize(
    ("offered", "given"),
    [(None, WINDOW_BYTES), (1024, 1024), (LARGEST_WINDOW_BYTES + 1, LARGEST_WINDOW_BYTES)],
)
def test_the_window_is_the_one_that_was_offered(offered: int | None, given: int) -> None:
    """Without one the usual, and never more than may be kept for a replay."""
    lane, patience_s = lane_for(job(window_bytes=offered, stream_id=7), PROTOCOL, 30.0)

    assert (lane.window.window_bytes, lane.stream_id, patience_s) == (given, 7, 30.0)


def test_protocol_2_has_neither_window_nor_much_patience() -> None:
    """Nothing is acknowledged there; a full lane stands in for it."""
    lane, patience_s = lane_for(job(window_bytes=1024), LEGACY_PROTOCOL, 30.0)
    _, shorter_s = lane_for(job(), LEGACY_PROTOCOL, 1.0)

    lane.write(bytes(WINDOW_BYTES - 1))
    while lane.window.can_send:
        lane.window.take(WINDOW_BYTES)
    assert lane.window.unacked_bytes == 0
    assert (lane.stream_id, patience_s, shorter_s) == (None, LEGACY_BACKPRESSURE_S, 1.0)
