"""What an agent sends is in its client's connection at the end of the loop turn, or waits for room there."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, cast

from hypothesis import given
from hypothesis import strategies as st

from provider_agent.coordinator.answer import DONE, NEVER, Answer
from provider_agent.coordinator.failures import failed
from provider_agent.coordinator.http.outflow import PIECE_BYTES, TURN_BYTES, Outflow, Turn
from provider_agent.protocol.errors import ErrorCode
from provider_agent.transport.tcp import HIGH_WATER_BYTES
from tests.fakes.answering import dechunk
from tests.fakes.transports import MemoryTransport

FAILED = failed(ErrorCode.STREAM_ERROR, "the engine failed")


class HandTurnedLoop:
    """Calls nothing by itself."""

    def __init__(self) -> None:
        self._soon: list[Callable[[], object]] = []

    def call_soon(self, call: Callable[[], object]) -> None:
        self._soon.append(call)

    def go_round(self) -> None:
        calls, self._soon = self._soon, []
        for call in calls:
            call()


class Connection(asyncio.Protocol):
    """Tells the outflow of its transport, as the server's connections do."""

    outflow: Outflow | None = None

    def pause_writing(self) -> None:
        assert self.outflow is not None
        self.outflow.pause()

    def resume_writing(self) -> None:
        assert self.outflow is not None
        self.outflow.resume()


@dataclass
class Line:
    """One answer with its outflow, and a client that takes what the test lets it take."""

    is_chunked: bool = True
    is_paused: bool = False
    told: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.loop = HandTurnedLoop()
        self.wire = MemoryTransport()
        self.answer = Answer("j", 8 * 1024**2, self.told.append)
        self.turn = Turn(cast("asyncio.AbstractEventLoop", self.loop))
        self.flow = self.join(self.answer, self.wire)

    def join(self, answer: Answer, wire: MemoryTransport) -> Outflow:
        wire.protocol = connection = Connection()
        flow = Outflow(answer, wire, self.turn, is_chunked=self.is_chunked, is_paused=self.is_paused)
        connection.outflow = flow
        return flow

    @property
    def sent(self) -> bytes:
        return bytes(self.wire.written)


def test_all_that_comes_in_one_loop_turn_leaves_in_one_write() -> None:
    """And counts as consumed, for the transport has room."""
    line = Line()
    for data in (b"one", b"two", b"three"):
        line.answer.feed(data)
    assert line.sent == b""
    line.loop.go_round()

    assert line.sent == b"b\r\nonetwothree\r\n"
    assert (line.wire.writes, line.told) == (1, [11])


def test_each_loop_turn_has_its_write() -> None:
    """Nothing is held back to fill a buffer (field notes 34, 69)."""
    line = Line()
    for data in (b"one", b"two"):
        line.answer.feed(data)
        line.loop.go_round()

    assert line.sent == b"3\r\none\r\n3\r\ntwo\r\n"
    assert line.told == [3, 6]


def test_much_does_not_wait_for_the_end_of_the_turn() -> None:
    """What follows it in the same turn does."""
    line = Line()
    line.answer.feed(b"x" * (TURN_BYTES - 1))
    line.answer.feed(b"x")
    assert line.told == [TURN_BYTES]

    line.answer.feed(b"y")
    assert line.told == [TURN_BYTES]
    line.loop.go_round()
    assert line.told == [TURN_BYTES, TURN_BYTES + 1]


def test_nothing_is_asked_for_each_token_that_would_change_nothing() -> None:
    """Neither for what leaves with the turn anyway, nor while the transport is full: that costs time."""
    line = Line()
    line.answer.feed(b"x")
    assert line.answer.tell_at_bytes == TURN_BYTES

    line.wire.hold()
    line.answer.feed(b"x" * 2 * HIGH_WATER_BYTES)
    line.loop.go_round()
    assert line.answer.tell_at_bytes == NEVER


def test_bytes_that_came_before_are_written_first() -> None:
    """They came between the opening of the response and this."""
    line = Line()
    line.flow.stop()
    line.answer.feed(b"before")
    line.join(line.answer, line.wire)
    line.answer.feed(b"after")
    line.loop.go_round()

    assert dechunk(line.sent + b"0\r\n\r\n") == (b"beforeafter", b"")


def test_many_answers_leave_at_the_end_of_the_same_turn() -> None:
    """Each to its own client."""
    line = Line()
    others = [(Answer("j", 1000), MemoryTransport()) for _ in range(3)]
    for answer, wire in others:
        line.join(answer, wire)
    for answer, _ in others:
        answer.feed(b"x")
    line.loop.go_round()

    assert [bytes(wire.written) for _, wire in others] == [b"1\r\nx\r\n"] * 3


def test_a_defect_in_one_answer_does_not_stop_the_others() -> None:
    """They leave a turn later."""

    def crash(_total_bytes: int) -> None:
        raise KeyError("a defect")

    line = Line()
    bad = Answer("j", 1000, crash)
    line.join(bad, MemoryTransport())
    line.answer.feed(b"x")
    bad.feed(b"x")
    try:
        line.loop.go_round()
    except KeyError:
        line.loop.go_round()

    assert line.sent == b"1\r\nx\r\n"


def test_a_client_of_http_1_0_gets_the_bytes_alone() -> None:
    """It knows no chunks."""
    line = Line(is_chunked=False)
    line.answer.feed(b"data: 1\n\n")
    line.loop.go_round()

    assert line.sent == b"data: 1\n\n"


# --- a client that does not keep up ------------------------------------------------------


def test_bytes_wait_in_the_answer_while_the_transport_is_full() -> None:
    """And are not consumed, as little as those that made it full (field notes 11, 80)."""
    line = Line()
    line.wire.hold()
    for _ in range(6):
        line.answer.feed(b"x" * TURN_BYTES)

    assert line.told == [TURN_BYTES * i for i in range(1, 4)]
    assert line.wire.get_write_buffer_size() > HIGH_WATER_BYTES
    assert line.answer.waiting_bytes == 2 * TURN_BYTES


def test_what_waits_leaves_piece_by_piece_when_the_client_takes_again() -> None:
    """Else a large write would be acknowledged only when all of it is gone."""
    line = Line()
    line.wire.hold()
    for _ in range(20):
        line.answer.feed(b"x" * TURN_BYTES)
    line.wire.let_go()

    assert line.told[-1] == 4 * TURN_BYTES
    assert line.answer.waiting_bytes == 16 * TURN_BYTES - PIECE_BYTES - TURN_BYTES + TURN_BYTES
    for _ in range(8):
        line.wire.let_go()
    assert line.answer.waiting_bytes == 0
    assert line.told[-1] == 20 * TURN_BYTES
    assert dechunk(line.sent + b"0\r\n\r\n") == (b"x" * 20 * TURN_BYTES, b"")


def test_what_has_left_a_full_transport_can_be_told_before_it_has_room() -> None:
    """A very slow client would else look like one that takes nothing."""
    line = Line()
    line.wire.hold()
    line.answer.feed(b"x" * 2 * HIGH_WATER_BYTES)
    line.flow.note_progress()
    assert line.told == []

    line.wire.let_go(50_000)
    line.flow.note_progress()
    assert len(line.told) == 1
    assert 49_000 < line.told[0] <= 50_000


def test_progress_is_nothing_new_while_there_is_room() -> None:
    """All that was written is consumed then."""
    line = Line()
    line.answer.feed(b"x")
    line.loop.go_round()
    line.flow.note_progress()

    assert line.told == [1]


def test_an_outflow_into_a_full_transport_begins_when_it_has_room() -> None:
    """Its connection still has the answer before this one to send."""
    line = Line(is_paused=True)
    line.answer.feed(b"x")
    line.loop.go_round()
    assert (line.sent, line.told) == (b"", [])
    line.flow.resume()

    assert (line.sent, line.told) == (b"1\r\nx\r\n", [1])


# --- ends --------------------------------------------------------------------------------


def test_bytes_in_the_last_turn_are_left_for_whoever_writes_the_end() -> None:
    """So that both leave in one write."""
    line = Line()
    line.answer.feed(b"x")
    line.answer.end(DONE)
    line.loop.go_round()

    assert line.sent == b""
    assert line.answer.take() == b"x"


def test_nothing_is_written_to_a_client_that_has_left() -> None:
    """Nor consumed."""
    line = Line()
    line.wire.is_closed = True
    line.answer.feed(b"x")
    line.loop.go_round()

    assert (line.sent, line.told) == (b"", [])


def test_an_outflow_that_was_stopped_writes_no_more() -> None:
    """Neither what was about to leave, nor what comes."""
    line = Line()
    line.answer.feed(b"x")
    line.flow.stop()
    line.loop.go_round()
    line.answer.feed(b"x" * TURN_BYTES)
    line.loop.go_round()

    assert line.sent == b""
    assert line.answer.waiting_bytes == 1 + TURN_BYTES


_STEPS = st.one_of(
    st.integers(1, 40_000).map(lambda size: ("feed", size)),
    st.just(("turn", 0)),
    st.just(("hold", 0)),
    st.integers(1, 200_000).map(lambda size: ("take", size)),
    st.just(("look", 0)),
)


@given(st.lists(_STEPS, max_size=60), st.booleans())
def test_however_it_comes_and_goes_the_client_gets_these_bytes(
    steps: list[tuple[str, int]], is_chunked: bool
) -> None:
    """In valid chunks; and never is more said to be consumed than has left."""
    line = Line(is_chunked=is_chunked)
    given_bytes = b""
    act: dict[str, Callable[[int], Any]] = {
        "turn": lambda _: line.loop.go_round(),
        "hold": lambda _: line.wire.hold(),
        "take": lambda size: line.wire.let_go(min(size, line.wire.get_write_buffer_size())),
        "look": lambda _: line.flow.note_progress(),
    }
    for step, size in steps:
        if step == "feed":
            data = bytes([len(given_bytes) % 251]) * size
            given_bytes += data
            assert line.answer.feed(data)
        else:
            act[step](size)
        left = len(line.sent) - line.wire.get_write_buffer_size()
        assert line.answer.consumed_bytes <= left + HIGH_WATER_BYTES
    line.answer.end(DONE)
    line.loop.go_round()
    rest = line.answer.take()
    if is_chunked:
        last = b"%x\r\n%b\r\n" % (len(rest), rest) if rest else b""
        assert dechunk(line.sent + last + b"0\r\n\r\n") == (given_bytes, b"")
    else:
        assert line.sent + rest == given_bytes
    assert line.told == sorted(set(line.told))
