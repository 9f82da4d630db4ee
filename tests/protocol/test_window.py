"""A window lets no byte be lost, none come twice, and none be more than was agreed, whatever breaks."""

from collections import deque

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from provider_agent.protocol.window import (
    WINDOW_BYTES,
    Arrival,
    BadAck,
    ReceiveWindow,
    SendWindow,
)


def filled(
    *payloads: bytes, window_bytes: int | None = WINDOW_BYTES, limit_bytes: int = 1 << 16
) -> SendWindow:
    """A window from which each of these left as a chunk of its own."""
    window = SendWindow(window_bytes)
    for payload in payloads:
        window.put(payload)
        window.take(limit_bytes)
    return window


def is_settled(window: SendWindow) -> bool:
    """Nothing waits, and all that left was acknowledged."""
    return window.waiting_bytes == 0 and window.unacked_bytes == 0


# --- sending ------------------------------------------------------------------------------


def test_what_enters_leaves_numbered_from_zero() -> None:
    """And counts as not acknowledged."""
    window = SendWindow()
    window.put(b"one")
    first = window.take(100)
    window.put(b"two")

    assert [first, window.take(100)] == [(0, b"one"), (1, b"two")]
    assert (window.next_seq, window.sent_bytes, window.unacked_bytes) == (2, 6, 6)
    assert window.is_drained
    assert not is_settled(window)


def test_what_waits_merges_up_to_the_limit() -> None:
    """A chunk's borders carry no meaning; what does not fit whole stays for the next."""
    window = SendWindow()
    for data in (b"abcd", b"ef", b"gh"):
        window.put(data)

    assert window.take(7) == (0, b"abcdef")
    assert window.take(7) == (1, b"gh")


def test_a_piece_that_is_larger_than_the_limit_is_cut() -> None:
    """In order."""
    window = SendWindow()
    window.put(b"abcdefg")

    assert [bytes(window.take(3)[1]) for _ in range(3)] == [b"abc", b"def", b"g"]


def test_no_more_leaves_than_the_window_allows() -> None:
    """The chunk that would not fit is cut at the window's edge; the rest waits for an ack."""
    window = SendWindow(4)
    window.put(b"abcdef")

    assert window.take(100) == (0, b"abcd")
    assert not window.can_send
    assert not window.has_room
    assert window.ack(0)
    assert window.take(100) == (1, b"ef")
    assert window.has_room


def test_a_window_of_nothing_still_lets_a_byte_through() -> None:
    """A peer that asks for 0 must not stop its job for ever."""
    window = SendWindow(0)
    window.put(b"ab")

    assert window.take(100) == (0, b"a")


def test_an_ack_covers_all_chunks_before_it_and_is_news_once() -> None:
    """It is cumulative: one that was lost, or comes late, changes nothing."""
    window = filled(b"a", b"b", b"c")

    assert window.ack(1)
    assert not window.ack(0)
    assert window.unacked_bytes == 1
    assert window.ack(2)
    assert is_settled(window)


@pytest.mark.parametrize("seq", [1, 7])
def test_a_chunk_that_was_never_made_cannot_be_acknowledged(seq: int) -> None:
    """The peer confuses jobs, or makes numbers up."""
    with pytest.raises(BadAck) as caught:
        filled(b"a").ack(seq)

    assert str(caught.value) == f"chunk {seq} cannot be acknowledged where the next one is 1"


def test_after_a_break_what_the_peer_does_not_have_goes_again_as_it_was() -> None:
    """Same numbers, same bytes, and before anything new."""
    window = filled(b"a", b"b", b"c")
    window.put(b"d")
    window.rewind(0)

    assert not window.is_drained
    assert [window.take(1) for _ in range(3)] == [(1, b"b"), (2, b"c"), (3, b"d")]
    assert window.sent_bytes == 4


def test_what_goes_again_needs_no_room() -> None:
    """It is within the window already."""
    window = filled(b"abcd", window_bytes=4)
    window.rewind(-1)

    assert window.can_send
    assert window.take(1) == (0, b"abcd")


def test_an_ack_in_the_middle_of_going_again_skips_what_it_covers() -> None:
    """The peer had it after all."""
    window = filled(b"a", b"b", b"c")
    window.rewind(-1)
    window.ack(1)

    assert window.take(1) == (2, b"c")


@pytest.mark.parametrize("have_seq", [-1, 3])
def test_what_was_dropped_or_never_made_cannot_go_again(have_seq: int) -> None:
    """Chunk 0 was acknowledged, chunk 3 does not exist."""
    window = filled(b"a", b"b", b"c")
    window.ack(0)

    with pytest.raises(BadAck):
        window.rewind(have_seq)


def test_a_token_that_finds_nothing_before_it_is_a_chunk_at_once() -> None:
    """The same as to put and take it, in one step."""
    window = filled(b"a")

    assert window.pass_on(b"b", 100) == 1
    assert (window.next_seq, window.sent_bytes, window.unacked_bytes) == (2, 2, 2)
    window.rewind(-1)
    assert [window.take(100) for _ in range(2)] == [(0, b"a"), (1, b"b")]


@pytest.mark.parametrize("reason", ["too large", "no room", "something waits", "something goes again"])
def test_what_has_to_wait_or_to_be_cut_is_not_passed_on(reason: str) -> None:
    """And nothing is done with it."""
    window = filled(b"abc", window_bytes=4 if reason == "no room" else 100)
    limit_bytes = 1 if reason == "too large" else 100
    if reason == "something waits":
        window.put(b"d")
    if reason == "something goes again":
        window.rewind(-1)
    before = (window.next_seq, window.sent_bytes, window.waiting_bytes, window.unacked_bytes)

    assert window.pass_on(b"ef", limit_bytes) == -1
    assert (window.next_seq, window.sent_bytes, window.waiting_bytes, window.unacked_bytes) == before


def test_without_acks_what_is_passed_on_is_done_with() -> None:
    """Protocol 2 keeps nothing, and so has room as often as asked."""
    window = SendWindow(None)

    assert [window.pass_on(b"a" * WINDOW_BYTES, WINDOW_BYTES) for _ in range(3)] == [0, 1, 2]
    assert is_settled(window)


def test_a_window_without_acks_keeps_nothing_that_has_left() -> None:
    """Protocol 2: there is no replay, and the limit is for what waits."""
    window = filled(b"a" * WINDOW_BYTES, window_bytes=None, limit_bytes=WINDOW_BYTES)

    assert is_settled(window)
    window.put(b"b" * WINDOW_BYTES)
    assert not window.has_room
    assert window.can_send


def test_what_is_dropped_never_leaves() -> None:
    """Neither what waits, nor what was to go again; an ack that is under way is harmless."""
    window = filled(b"a", b"b")
    window.rewind(-1)
    window.put(b"c")
    window.drop()

    assert not window.can_send
    assert is_settled(window)
    assert not window.ack(1)
    assert window.next_seq == 2


# --- receiving ----------------------------------------------------------------------------


def test_chunks_are_taken_in_order() -> None:
    """The next one counts, one that was here is ignored, one too far ahead shows a gap."""
    window = ReceiveWindow()

    assert [window.receive(seq, 1) for seq in (0, 1, 1, 0, 3, 2)] == [
        Arrival.NEXT,
        Arrival.NEXT,
        Arrival.AGAIN,
        Arrival.AGAIN,
        Arrival.GAP,
        Arrival.NEXT,
    ]
    assert (window.have_seq, window.received_bytes) == (2, 3)


def test_nothing_is_acknowledged_before_the_consumer_has_taken_a_whole_chunk() -> None:
    """Half of one is not enough."""
    window = ReceiveWindow()
    window.receive(0, 4)
    window.consume(3)

    assert window.ack_due(now=True) is None
    window.consume(4)
    assert window.ack_due(now=True) == 0
    assert window.ack_due(now=True) is None
    assert window.acked_seq == 0


def test_half_a_window_is_acknowledged_without_being_asked_for() -> None:
    """Less than that waits for its time."""
    window = ReceiveWindow(8)
    for seq in range(3):
        window.receive(seq, 2)
    window.consume(3)
    assert window.ack_due(now=False) is None
    window.consume(5)

    assert window.ack_due(now=False) == 1


def test_a_consumer_that_takes_less_than_before_takes_nothing() -> None:
    """Totals only grow."""
    window = ReceiveWindow()
    window.receive(0, 4)
    window.consume(4)
    window.consume(2)

    assert window.ack_due(now=True) == 0


def test_a_sender_that_ignores_the_window_is_seen() -> None:
    """What it sent beyond is not taken, so memory stays within what was agreed."""
    window = ReceiveWindow(4)

    assert window.receive(0, 4) is Arrival.NEXT
    assert window.receive(1, 1) is Arrival.BEYOND
    window.consume(4)
    window.ack_due(now=True)
    assert window.receive(1, 1) is Arrival.NEXT


def test_empty_chunks_are_no_way_around_the_window() -> None:
    """Each is remembered until it is acknowledged, and they cost their sender nothing."""
    window = ReceiveWindow(4)

    arrivals = [window.receive(seq, 0) for seq in range(5)]

    assert arrivals == [Arrival.NEXT] * 4 + [Arrival.BEYOND]


# --- both, over a connection that breaks ------------------------------------------------------


class WindowMachine(RuleBasedStateMachine):
    """One answer over a connection that delays, breaks, and is resumed; chunks and acks are lost with it."""

    @initialize(window_bytes=st.integers(1, 40))
    def begin(self, window_bytes: int) -> None:
        self.window_bytes = window_bytes
        self.sender = SendWindow(window_bytes)
        self.receiver = ReceiveWindow(window_bytes)
        self.written = b""
        self.received = b""
        self.consumed = 0
        self.chunks: deque[tuple[int, bytes]] = deque()
        self.acks: deque[int] = deque()

    @precondition(lambda self: self.sender.has_room)
    @rule(size=st.integers(1, 30))
    def write(self, size: int) -> None:
        data = bytes((len(self.written) + i) % 251 for i in range(size))
        self.sender.put(data)
        self.written += data

    @precondition(lambda self: self.sender.can_send)
    @rule(limit_bytes=st.integers(1, 20))
    def send(self, limit_bytes: int) -> None:
        seq, data = self.sender.take(limit_bytes)
        self.chunks.append((seq, bytes(data)))

    @precondition(lambda self: self.sender.has_room)
    @rule(size=st.integers(1, 30))
    def pass_on(self, size: int) -> None:
        data = bytes((len(self.written) + i) % 251 for i in range(size))
        seq = self.sender.pass_on(data, 20)
        if seq >= 0:
            self.chunks.append((seq, data))
            self.written += data

    @precondition(lambda self: self.chunks)
    @rule()
    def arrive(self) -> None:
        seq, data = self.chunks.popleft()
        arrival = self.receiver.receive(seq, len(data))
        assert arrival in (Arrival.NEXT, Arrival.AGAIN)
        if arrival is Arrival.NEXT:
            self.received += data

    @rule(share=st.floats(0, 1))
    def consume(self, share: float) -> None:
        self.consumed += round((len(self.received) - self.consumed) * share)
        self.receiver.consume(self.consumed)

    @rule(now=st.booleans())
    def acknowledge(self, now: bool) -> None:
        seq = self.receiver.ack_due(now=now)
        if seq is not None:
            self.acks.append(seq)

    @precondition(lambda self: self.acks)
    @rule()
    def ack_arrives(self) -> None:
        self.sender.ack(self.acks.popleft())

    @rule()
    def break_and_resume(self) -> None:
        self.chunks.clear()
        self.acks.clear()
        self.sender.rewind(self.receiver.have_seq)
        if self.receiver.acked_seq >= 0:
            self.acks.append(self.receiver.acked_seq)

    @invariant()
    def bytes_are_exact(self) -> None:
        assert self.written.startswith(self.received)
        assert self.receiver.received_bytes == len(self.received)

    @invariant()
    def no_more_is_on_its_way_than_agreed(self) -> None:
        assert self.sender.unacked_bytes <= self.window_bytes
        assert len(self.received) - self.consumed <= self.window_bytes

    def teardown(self) -> None:
        """Left alone, everything arrives, and everything is acknowledged."""
        if not hasattr(self, "sender"):
            return
        self.break_and_resume()
        while not is_settled(self.sender):
            while self.sender.can_send:
                self.send(7)
            while self.chunks:
                self.arrive()
            self.consume(1.0)
            self.acknowledge(now=True)
            while self.acks:
                self.ack_arrives()
        assert self.received == self.written


TestWindowMachine = WindowMachine.TestCase
