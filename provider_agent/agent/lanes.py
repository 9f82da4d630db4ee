"""Which lane a job's answer gets, and how patient it is: that depends on the dialect. Knows no channel."""

from typing import Final

from provider_agent.protocol.frames import LEGACY_PROTOCOL, Job
from provider_agent.protocol.window import WINDOW_BYTES
from provider_agent.transport.lane import Lane

LARGEST_WINDOW_BYTES: Final = 4 * WINDOW_BYTES
"""More of one job than this is not kept for replay, whatever window the coordinator offers."""

LEGACY_BACKPRESSURE_S: Final = 5.0
"""How long a full lane is borne in protocol 2, where it stands in for a window (protocol.md 5)."""


def lane_for(job: Job, protocol: int, patience_s: float) -> tuple[Lane, float]:
    """The job's lane, and for how many seconds its peer may take nothing of it."""
    if protocol <= LEGACY_PROTOCOL:
        return Lane(job.job_id, window_bytes=None), min(patience_s, LEGACY_BACKPRESSURE_S)
    offered = WINDOW_BYTES if job.window_bytes is None else job.window_bytes
    window_bytes = min(offered, LARGEST_WINDOW_BYTES)
    return Lane(job.job_id, window_bytes=window_bytes, stream_id=job.stream_id), patience_s
