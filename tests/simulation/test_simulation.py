"""Both programs, a bad network and moody engines on a clock that jumps: no seed breaks a promise."""

import asyncio

import pytest

from tests.simulation.__main__ import play
from tests.simulation.loop import Stalled, run_virtually
from tests.simulation.run import simulate, usual_configs

SEEDS = 2000

MUST_HAPPEN = (
    "ack",
    "cancel",
    "chunk",
    "end: done",
    "end: left",
    "end: lost its coordinator",
    "end: session_lost in the middle",
    "end: stream_truncated in the middle",
    "engine paused",
    "fault: crash",
    "fault: cut",
    "fault: cut_for",
    "fault: go_silent",
    "fault: kill",
    "fault: replace",
    "fault: run_a_twin",
    "fault: stall",
    "fault: terminate",
    "job: again",
    "off for good",
    "resumed: job in the middle",
    "resumed: unknown job",
)


@pytest.mark.timeout(400)
def test_no_seed_breaks_a_promise() -> None:
    """No byte lost or doubled, one end for each client, no slot or memory kept; and the dice fall on all."""
    happened: set[str] = set()
    for result in play(0, SEEDS):
        assert not result.broken, result.broken
        happened |= {what for what, count in result.counts.items() if count}

    assert set(MUST_HAPPEN) <= happened


@pytest.mark.parametrize("seed", range(7, 27))
def test_a_seed_plays_the_same_way_again(seed: int) -> None:
    """So that a story can be told twice."""
    first, second = simulate(seed, usual_configs()), simulate(seed, usual_configs())

    assert first == second


async def _nothing_ever_happens() -> None:
    await asyncio.Event().wait()


def test_a_world_in_which_nothing_can_happen_any_more_is_noticed() -> None:
    """Else a lost wake-up would look like a long wait."""
    with pytest.raises(Stalled):
        run_virtually(_nothing_ever_happens())
