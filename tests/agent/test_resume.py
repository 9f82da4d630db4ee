"""What is kept for a coordinator that may come back, and how much of it at most."""

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from provider_agent.agent.resume import LONGEST_WINDOW_S, KeptLanes, LastSession, ResumeWindow
from provider_agent.protocol.frames import AuthOk, Resume, ResumeJob
from provider_agent.transport.lane import Lane
from tests.simulation.loop import run_virtually


def lane(job_id: str, unacked_bytes: int = 0) -> Lane:
    made = Lane(job_id)
    if unacked_bytes:
        made.write(bytes(unacked_bytes))
        made.window.take(unacked_bytes)
    return made


def names(kept: KeptLanes) -> list[str]:
    return [each.lane.job_id for each in kept]


def test_a_lane_is_kept_until_it_is_dropped() -> None:
    """The ordinary case."""
    kept, one = KeptLanes(), lane("j")
    kept.keep(one, attempt=2)

    assert [(each.lane, each.attempt) for each in kept] == [(one, 2)]
    assert kept.lane("j") is one
    kept.drop("j")
    assert (len(kept), kept.lane("j")) == (0, None)


def test_what_was_never_kept_can_be_dropped() -> None:
    """Whoever drops need not look first."""
    kept = KeptLanes()
    kept.drop("ghost")

    assert len(kept) == 0


def test_a_later_attempt_takes_the_place_of_an_earlier_one() -> None:
    """One lane a job."""
    kept = KeptLanes()
    for attempt in (1, 2):
        kept.keep(lane("j"), attempt)

    assert [each.attempt for each in kept] == [2]


def test_the_oldest_are_given_up_when_there_are_too_many() -> None:
    """A coordinator that acknowledges nothing does not fill memory (field note 47)."""
    kept = KeptLanes(most_lanes=2)
    for job_id in ("a", "b", "c"):
        kept.keep(lane(job_id), 1)

    assert names(kept) == ["b", "c"]


def test_the_oldest_are_given_up_when_they_weigh_too_much() -> None:
    """Bytes without acknowledgement are what is kept of a job."""
    kept = KeptLanes(most_bytes=100)
    for job_id, size in (("a", 60), ("b", 40), ("c", 30)):
        kept.keep(lane(job_id, size), 1)

    assert names(kept) == ["b", "c"]


@given(st.lists(st.tuples(st.sampled_from("abcde"), st.integers(0, 60), st.booleans())))
def test_the_bounds_hold_whatever_comes_and_goes(steps: list[tuple[str, int, bool]]) -> None:
    """Nothing is counted twice, and nothing stays counted that has gone."""
    kept = KeptLanes(most_lanes=3, most_bytes=100)
    for job_id, size, stays in steps:
        kept.keep(lane(job_id, size), 1)
        if not stays:
            kept.drop(job_id)
        weight = sum(each.lane.window.unacked_bytes for each in kept)
        assert len(kept) <= 3
        assert weight <= 100
    kept.clear()
    kept.keep(lane("z", 100), 1)
    assert names(kept) == ["z"]


JOBS = (ResumeJob(job_id="j", attempt=1, next_seq=3),)


def accepted(session_id: str | None = "s1", window_ms: int = 60_000) -> LastSession:
    last = LastSession()
    last.note(AuthOk(provider_id="p", session_id=session_id, resume_window_ms=window_ms), protocol=3)
    return last


def test_the_next_session_asks_for_the_jobs_of_the_last() -> None:
    """The ordinary case; no job at all is worth telling, too: the coordinator need not wait for any."""
    last = accepted()

    assert last.window_s == 60.0
    assert last.resume(JOBS, left_s=59.0) == Resume(session_id="s1", jobs=JOBS)
    assert last.resume((), left_s=59.0) == Resume(session_id="s1", jobs=())


def test_a_process_that_has_just_started_asks_for_nothing() -> None:
    """It has no session to resume (protocol.md 7)."""
    assert LastSession().resume((), left_s=1.0) is None


def test_nothing_is_asked_for_when_its_time_is_over() -> None:
    """The coordinator has given the jobs up, and so have we."""
    assert accepted().resume(JOBS, left_s=0.0) is None


def test_no_coordinator_is_waited_for_without_end() -> None:
    """Whatever it asks for."""
    assert accepted(window_ms=10**15).window_s == LONGEST_WINDOW_S


@pytest.mark.parametrize(("session_id", "protocol"), [(None, 3), ("s1", 2)])
def test_there_is_no_way_back_without_a_name_or_in_protocol_2(session_id: str | None, protocol: int) -> None:
    """Then a lost session is a lost session, also for its jobs."""
    last = accepted()
    last.note(AuthOk(provider_id="p", session_id=session_id, resume_window_ms=60_000), protocol)

    assert last.window_s == 0.0
    assert last.resume(JOBS, left_s=1.0) is None


# --- the window --------------------------------------------------------------------------


def test_a_window_passes_once_and_then_has_no_time_left() -> None:
    """The ordinary case."""

    async def main() -> None:
        passed: list[float] = []
        loop = asyncio.get_running_loop()
        window = ResumeWindow(lambda: passed.append(loop.time()))
        assert window.left_s == 0.0
        window.open(60.0)
        await asyncio.sleep(20.0)
        assert window.left_s == pytest.approx(40.0)
        await asyncio.sleep(100.0)

        assert passed == [pytest.approx(60.0)]
        assert window.left_s == 0.0

    run_virtually(main())


def test_a_window_that_is_closed_or_opened_anew_does_not_pass_as_it_would_have() -> None:
    """The coordinator came back; or it did, and went again."""

    async def main() -> None:
        passed: list[float] = []
        loop = asyncio.get_running_loop()
        window = ResumeWindow(lambda: passed.append(loop.time()))
        window.open(60.0)
        await asyncio.sleep(50.0)
        window.open(60.0)
        await asyncio.sleep(50.0)
        window.close()
        window.close()
        await asyncio.sleep(100.0)

        assert (passed, window.left_s) == ([], 0.0)

    run_virtually(main())
