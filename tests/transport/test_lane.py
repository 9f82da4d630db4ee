"""What leaves of a job, in which order, what of it goes again, and when its source may go on."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from provider_agent.protocol.frames import (
    BinaryChunk,
    Frame,
    JobChunk,
    JobDone,
    JobError,
    JobStarted,
    Outcome,
    Tokens,
)
from provider_agent.protocol.window import WINDOW_BYTES, BadAck
from provider_agent.transport.lane import MERGED_BYTES, Lane
from tests.fakes.ways import FakeWay

STARTED = JobStarted(job_id="j", backend="b", upstream_model="m", http_status=200, content_type="text/plain")
DONE = JobDone(job_id="j", tokens=Tokens.of(1, 2), duration_ms=3)
FAILED = JobError(job_id="j", error_code="internal", message="m", tokens_emitted=9)


def done(seq: int, sent_bytes: int) -> JobDone:
    return JobDone(job_id="j", tokens=Tokens.of(1, 2), duration_ms=3, seq=seq, chunks=seq, bytes=sent_bytes)


def chunk(seq: int, data: bytes) -> JobChunk:
    return JobChunk(job_id="j", seq=seq, data=data)


def lane_on(way: FakeWay, window_bytes: int | None = WINDOW_BYTES) -> Lane:
    lane = Lane("j", window_bytes=window_bytes)
    lane.attach(way)
    return lane


def calls_of(lane: Lane) -> list[None]:
    """Grows with each call of `on_room`."""
    calls: list[None] = []
    lane.on_room = lambda: calls.append(None)
    return calls


# --- the ordinary case --------------------------------------------------------------------


def test_an_answer_leaves_from_its_start_to_its_outcome() -> None:
    """Chunks are numbered from 0, and the outcome counts what left before it (field note 15)."""
    way = FakeWay()
    lane = lane_on(way)
    lane.start(STARTED)
    for part in (b"Hel", b"lo"):
        assert lane.write(part)
        way.end_turn()
    lane.finish(DONE)
    way.end_turn()

    assert way.frames == [STARTED, chunk(0, b"Hel"), chunk(1, b"lo"), done(2, 5)]
    assert lane.outcome == done(2, 5)


def test_a_token_that_finds_the_way_free_leaves_at_once() -> None:
    """Nobody has to wait for the turn to end; what comes in the same turn merges."""
    way = FakeWay()
    lane = lane_on(way)
    for part in (b"a", b"b", b"c"):
        lane.write(part)
    assert way.frames == [chunk(0, b"a")]
    way.end_turn()

    assert way.frames == [chunk(0, b"a"), chunk(1, b"bc")]


def test_a_token_does_not_overtake_the_start() -> None:
    """However free the way is."""
    way = FakeWay()
    lane = lane_on(way)
    lane.start(STARTED)
    lane.write(b"a")
    assert way.messages == []
    way.end_turn()

    assert way.frames == [STARTED, chunk(0, b"a")]


def test_after_the_start_tokens_take_the_short_way() -> None:
    """And again in each turn."""
    way = FakeWay()
    lane = lane_on(way)
    lane.start(STARTED)
    way.end_turn()
    for _ in range(2):
        lane.write(b"a")
        assert lane.window.waiting_bytes == 0
        way.end_turn()


def test_a_start_of_before_the_channel_leaves_before_the_first_token() -> None:
    """The engine answered while no channel was there."""
    lane = Lane("j")
    lane.start(STARTED)
    lane.attach(way := FakeWay())
    lane.write(b"a")
    assert way.messages == []
    way.end_turn()

    assert way.frames == [STARTED, chunk(0, b"a")]


def test_nothing_is_nothing_to_say() -> None:
    """An empty piece is no chunk, neither on the short nor on the long way."""
    way = FakeWay()
    lane = lane_on(way)

    assert lane.write(b"")
    way.is_free = False
    assert lane.write(b"")
    way.end_turn()

    assert way.messages == []


def test_a_large_piece_leaves_in_frames_of_64_kib() -> None:
    """Also where nothing was before it."""
    way = FakeWay()
    lane_on(way).write(b"x" * (MERGED_BYTES + 1))
    way.end_turn(MERGED_BYTES)

    assert way.frames == [chunk(0, b"x" * MERGED_BYTES), chunk(1, b"x")]


def test_where_both_sides_agreed_chunks_are_binary() -> None:
    """And only then, and only if the job has a number for it."""
    way, binary_way = FakeWay(), FakeWay(binary=True)
    for number, (lane, its_way) in enumerate(
        [(Lane("j", stream_id=7), binary_way), (Lane("j"), binary_way), (Lane("j", stream_id=7), way)]
    ):
        lane.attach(its_way)
        lane.write(b"%d" % number)

    assert binary_way.frames == [BinaryChunk(stream_id=7, seq=0, data=b"0"), chunk(0, b"1")]
    assert way.frames == [chunk(0, b"2")]


# --- windows ------------------------------------------------------------------------------


def test_a_source_pauses_when_the_window_is_full_and_goes_on_when_it_is_not() -> None:
    """A slow consumer slows its own engine (field note 11)."""
    way = FakeWay()
    lane = lane_on(way, window_bytes=4)
    calls = calls_of(lane)

    assert [lane.write(b"ab"), lane.write(b"cd"), lane.write(b"e")] == [True, False, False]
    way.end_turn()
    assert way.frames == [chunk(0, b"ab"), chunk(1, b"cd")]
    assert calls == []
    lane.ack(0)
    assert len(calls) == 1
    way.end_turn()
    assert way.frames[2:] == [chunk(2, b"e")]


def test_a_source_that_fills_the_window_to_the_brim_pauses_too() -> None:
    """On the short way as on the long one."""
    lane = lane_on(FakeWay(), window_bytes=4)
    calls = calls_of(lane)

    assert not lane.write(b"abcd")
    lane.ack(0)
    assert len(calls) == 1


def test_an_ack_that_makes_no_difference_calls_nobody() -> None:
    """The source was not told to pause, or the ack is an old one."""
    lane = lane_on(FakeWay(), window_bytes=4)
    calls = calls_of(lane)
    lane.write(b"a")
    lane.ack(0)
    lane.ack(0)

    assert calls == []


def test_a_source_that_was_told_is_not_told_again() -> None:
    """It goes on already."""
    lane = lane_on(way := FakeWay(), window_bytes=4)
    calls = calls_of(lane)
    for part in (b"ab", b"cd"):
        lane.write(part)
        way.end_turn()
    lane.ack(0)
    lane.ack(1)

    assert len(calls) == 1


def test_a_source_hears_when_all_has_left() -> None:
    """The executor ends a job then, and not before."""
    way = FakeWay(is_free=False)
    lane = lane_on(way)
    calls = calls_of(lane)
    lane.write(b"abcd")
    was_drained = lane.is_drained
    way.end_turn(limit_bytes=4)

    assert (was_drained, lane.is_drained) == (False, True)
    assert len(calls) == 1


def test_nobody_is_called_from_within_a_write() -> None:
    """A source that is resumed would write again before its own write has returned."""
    way = FakeWay()
    lane = lane_on(way)
    lane.on_room = lambda: pytest.fail("called from within")
    for _ in range(3):
        lane.write(b"x" * 100_000)
    lane.finish(DONE)


@pytest.mark.parametrize("seq", [2, 3])
def test_an_ack_of_what_never_left_is_an_error_of_the_peer(seq: int) -> None:
    """The outcome's number counts only once the outcome has left."""
    lane = lane_on(FakeWay())
    lane.write(b"a")
    lane.finish(DONE)

    with pytest.raises(BadAck):
        lane.ack(seq)


# --- the end of a job ---------------------------------------------------------------------


def test_an_outcome_waits_for_the_window_as_its_chunks_do() -> None:
    """It never overtakes them."""
    way = FakeWay()
    lane = lane_on(way, window_bytes=2)
    lane.write(b"abc")
    lane.finish(DONE)
    way.end_turn()
    assert way.frames == [chunk(0, b"ab")]
    lane.ack(0)
    way.end_turn()

    assert way.frames[1:] == [chunk(1, b"c"), done(2, 3)]


def test_an_outcome_is_numbered_with_what_left() -> None:
    """`bytes_sent` is what the lane sent; `tokens_emitted` stays what the engine said (field note 13)."""
    way = FakeWay()
    lane = lane_on(way)
    lane.write(b"abc")
    lane.finish(FAILED)
    way.end_turn()

    assert way.frames[-1] == JobError(
        job_id="j", error_code="internal", message="m", tokens_emitted=9, seq=1, bytes_sent=3
    )


def test_an_outcome_with_its_numbers_leaves_as_it_is() -> None:
    """Where nothing has left since they were taken."""
    lane = lane_on(way := FakeWay())
    lane.write(b"abc")
    outcome = done(1, 3)
    lane.finish(outcome)
    way.end_turn()

    assert lane.outcome is outcome


def test_an_outcome_without_a_byte_counts_zeros() -> None:
    """A job that failed before its first byte says so in numbers."""
    lane = lane_on(way := FakeWay())
    lane.finish(DONE)
    way.end_turn()

    assert way.frames == [done(0, 0)]


def test_nothing_follows_an_outcome() -> None:
    """Neither bytes nor another outcome; the job has left its channel (I1, I2)."""
    lane = lane_on(way := FakeWay())
    lane.finish(DONE)
    assert lane.write(b"late")
    way.end_turn()
    assert not lane.attached
    lane.finish(FAILED)
    lane.write(b"late")
    way.end_turn()

    assert way.frames == [done(0, 0)]
    assert lane.outcome == done(0, 0)


def test_an_outcome_that_has_not_left_can_be_replaced() -> None:
    """One leaves, not two (I1)."""
    lane = lane_on(way := FakeWay())
    lane.finish(DONE)
    lane.finish(FAILED)
    way.end_turn()

    assert [type(frame) for frame in way.frames] == [JobError]


def test_a_lane_is_settled_exactly_when_its_outcome_is_acknowledged() -> None:
    """The outcome's own number says that, and that all chunks are taken; then nothing is kept."""
    lane = lane_on(way := FakeWay())
    lane.write(b"abc")
    lane.finish(DONE)
    way.end_turn()
    lane.ack(0)
    was_settled = lane.is_settled
    lane.ack(1)

    assert (was_settled, lane.is_settled) == (False, True)
    assert (lane.window.waiting_bytes, lane.window.unacked_bytes) == (0, 0)


def test_a_lane_that_waits_for_the_acks_of_its_last_chunks_is_settled_by_that_of_its_outcome() -> None:
    """The coordinator holds what its client has not taken yet."""
    lane = lane_on(way := FakeWay())
    lane.write(b"abc")
    lane.finish(DONE)
    way.end_turn()
    lane.ack(1)

    assert lane.is_settled
    assert lane.window.unacked_bytes == 0


def test_whoever_waits_hears_that_the_outcome_has_left() -> None:
    """For a peer that acknowledges nothing the job is over then."""
    lane = lane_on(way := FakeWay(protocol=2), window_bytes=None)
    calls = calls_of(lane)
    lane.finish(DONE)
    was_settled = lane.is_settled
    way.end_turn()

    assert (was_settled, lane.is_settled) == (False, True)
    assert len(calls) == 1


# --- a job that is cancelled --------------------------------------------------------------


def test_what_is_discarded_never_leaves() -> None:
    """After a cancel only the outcome does, and counts what had really left (field note 5, I2)."""
    way = FakeWay()
    lane = lane_on(way)
    lane.write(b"abc")
    lane.write(b"def")
    assert lane.discard() is None
    lane.write(b"ghi")
    lane.finish(FAILED)
    way.end_turn()

    assert way.frames == [
        chunk(0, b"abc"),
        JobError(job_id="j", error_code="internal", message="m", tokens_emitted=9, seq=1, bytes_sent=3),
    ]


def test_a_start_that_is_discarded_does_not_leave() -> None:
    """Nothing of the job but the outcome."""
    lane = lane_on(way := FakeWay())
    lane.start(STARTED)
    lane.discard()
    way.end_turn()

    assert way.messages == []
    assert not lane.is_due


def test_a_discarded_outcome_is_given_back() -> None:
    """A cancel that comes while the outcome waits replaces it: one leaves, not two (I1)."""
    lane = lane_on(way := FakeWay(is_free=False))
    lane.write(b"abc")
    lane.finish(DONE)
    assert lane.discard() == DONE
    assert lane.outcome is None
    lane.finish(FAILED)
    way.end_turn()

    assert [type(frame) for frame in way.frames] == [JobError]


def test_an_outcome_that_has_left_is_not_given_back() -> None:
    """It was said."""
    lane = lane_on(way := FakeWay())
    lane.finish(DONE)
    way.end_turn()

    assert lane.discard() is None
    assert lane.outcome == done(0, 0)


def test_an_answer_that_is_cancelled_after_its_end_is_another_one_when_it_goes_again() -> None:
    """A peer that did not get it resumes: without its chunks, it is not whole any more (I2)."""
    lane = lane_on(way := FakeWay())
    lane.write(b"abc")
    lane.finish(DONE)
    way.end_turn()
    lane.detach()

    assert lane.recant(lambda _: FAILED) is False
    lane.resume(-1)
    lane.attach(way := FakeWay())
    way.end_turn()

    assert [type(frame) for frame in way.frames] == [JobError]


def test_an_answer_that_is_cancelled_before_its_end_has_left_ends_otherwise() -> None:
    """One outcome leaves, not two (I1)."""
    lane = lane_on(way := FakeWay(is_free=False))
    lane.write(b"abc")
    lane.finish(DONE)

    assert lane.recant(lambda _: FAILED) is True
    way.end_turn()

    assert [type(frame) for frame in way.frames] == [JobError]


def test_a_job_that_was_cancelled_while_no_channel_was_there_takes_nothing_on_the_next_one() -> None:
    """Its engine may still give a piece before it is closed."""
    lane = Lane("j")
    lane.discard()
    lane.attach(way := FakeWay())
    lane.write(b"late")

    assert way.messages == []


def test_nobody_hears_of_what_was_discarded() -> None:
    """The engine of a cancelled job is closed, not resumed."""
    lane = lane_on(way := FakeWay(is_free=False), window_bytes=2)
    calls = calls_of(lane)
    lane.write(b"abc")
    lane.discard()
    way.end_turn()

    assert calls == []


# --- a connection that breaks -------------------------------------------------------------


def test_what_is_written_while_no_channel_is_there_is_kept() -> None:
    """The job runs on until its window is full."""
    lane = Lane("j", window_bytes=4)
    lane.start(STARTED)
    assert [lane.write(b"abc"), lane.write(b"d")] == [True, False]
    lane.finish(DONE)
    assert not lane.attached
    lane.attach(way := FakeWay())
    way.end_turn()

    assert way.frames == [STARTED, chunk(0, b"abcd"), done(1, 4)]


@pytest.mark.parametrize(
    ("have_seq", "again"),
    [
        (-1, [STARTED, chunk(0, b"a"), chunk(1, b"b"), chunk(2, b"c"), done(3, 3)]),
        (0, [chunk(1, b"b"), chunk(2, b"c"), done(3, 3)]),
        (2, [done(3, 3)]),
    ],
)
def test_after_a_break_all_that_the_peer_does_not_have_goes_again(have_seq: int, again: list[Frame]) -> None:
    """As it was, in order, the start and the outcome included (field notes 8 and 47)."""
    lane = lane_on(way := FakeWay())
    lane.start(STARTED)
    way.end_turn()
    for part in (b"a", b"b", b"c"):
        lane.write(part)
        way.end_turn()
    lane.finish(DONE)
    way.end_turn()
    lane.detach()
    lane.resume(have_seq)
    lane.attach(way := FakeWay())
    way.end_turn()

    assert way.frames == again


def test_what_comes_after_a_break_comes_behind_what_goes_again() -> None:
    """However free the new way is."""
    lane = lane_on(FakeWay())
    lane.write(b"a")
    lane.detach()
    lane.resume(-1)
    lane.attach(way := FakeWay())
    lane.write(b"b")
    way.end_turn()

    assert way.frames == [chunk(0, b"a"), chunk(1, b"b")]


def test_chunks_that_go_again_take_the_form_of_the_new_channel() -> None:
    """What was negotiated there."""
    lane = Lane("j", stream_id=7)
    lane.attach(FakeWay())
    lane.write(b"a")
    lane.detach()
    lane.resume(-1)
    lane.attach(way := FakeWay(binary=True))
    way.end_turn()

    assert way.frames == [BinaryChunk(stream_id=7, seq=0, data=b"a")]


def test_a_peer_that_asks_for_what_it_has_acknowledged_is_refused() -> None:
    """That is not kept; the lane stays as it was."""
    lane = lane_on(FakeWay())
    lane.write(b"a")
    lane.ack(0)
    lane.detach()

    with pytest.raises(BadAck):
        lane.resume(-1)
    assert lane.is_drained


def test_a_cancelled_job_says_its_outcome_again_and_nothing_else() -> None:
    """Its bytes are gone, whatever the peer has of them."""
    lane = lane_on(way := FakeWay())
    lane.start(STARTED)
    way.end_turn()
    lane.write(b"a")
    lane.discard()
    lane.finish(FAILED)
    way.end_turn()
    lane.detach()
    lane.resume(-1)
    lane.attach(way := FakeWay())
    way.end_turn()

    assert [type(frame) for frame in way.frames] == [JobError]


def test_an_outcome_that_goes_again_can_be_replaced_until_it_has_left() -> None:
    """The peer has not got it, or it would not have asked for the job to go on."""
    lane = lane_on(way := FakeWay())
    lane.finish(DONE)
    way.end_turn()
    lane.resume(-1)
    lane.attach(way := FakeWay())
    unsent: Outcome | None = lane.discard()
    lane.finish(FAILED)
    way.end_turn()

    assert unsent == done(0, 0)
    assert [type(frame) for frame in way.frames] == [JobError]


def test_a_lane_shows_its_condition() -> None:
    """`repr` is enough for a log line."""
    lane = lane_on(FakeWay())
    lane.write(b"abc")

    assert repr(lane) == "<Lane j, attached, <SendWindow seq 1, 0 waiting, 3 unacked>, outcome None>"


# --- an old peer --------------------------------------------------------------------------


def test_an_old_peer_gets_chunks_without_numbers_and_silence_on_cancel() -> None:
    """What it has no word for is not said (I6)."""
    lane = lane_on(way := FakeWay(protocol=2), window_bytes=None)
    lane.start(STARTED)
    lane.write(b"x")
    lane.finish(JobError(job_id="j", error_code="cancelled", message="m"))
    way.end_turn()

    assert way.messages == [b'{"type":"job_chunk","job_id":"j","data":"eA=="}']
    assert lane.is_settled


def test_towards_an_old_peer_the_limit_is_for_what_waits() -> None:
    """What has left is done with, and the source hears as soon as there is room."""
    way = FakeWay(protocol=2, is_free=False)
    lane = lane_on(way, window_bytes=None)
    calls = calls_of(lane)
    assert not lane.write(b"x" * WINDOW_BYTES)
    lane.next_message(1000)
    lane.next_message(1000)
    way.end_turn()

    assert len(calls) >= 1
    assert lane.write(b"x")


# --- whatever the borders -----------------------------------------------------------------


@given(
    parts=st.lists(st.binary(min_size=1, max_size=50)),
    ends=st.lists(st.booleans()),
    limit_bytes=st.integers(1, 60),
    window_bytes=st.integers(1, 200),
)
def test_no_byte_is_lost_doubled_or_moved(
    parts: list[bytes], ends: list[bool], limit_bytes: int, window_bytes: int
) -> None:
    """Whatever is merged, cut and acknowledged when: the stream is the same."""
    lane = lane_on(way := FakeWay(), window_bytes)
    for part, ends_turn in zip(parts, ends + [False] * len(parts), strict=False):
        lane.write(part)
        if ends_turn:
            way.end_turn(limit_bytes)
    lane.finish(DONE)
    while lane.attached:
        way.end_turn(limit_bytes)
        if lane.window.next_seq and lane.attached:
            lane.ack(lane.window.next_seq - 1)
    *chunks, outcome = way.frames

    assert b"".join(each.data for each in chunks if isinstance(each, JobChunk)) == b"".join(parts)
    assert outcome == done(len(chunks), len(b"".join(parts)))
