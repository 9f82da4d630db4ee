"""Messages in and out of frames, wherever the network splits them, and every way to break the rules."""

import contextlib
import time
import tracemalloc
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from websockets.frames import Frame, Opcode

from provider_agent.transport.framing import BadFraming, MessageReader, MessageWriter

LIMIT = 1000
CLOSE = b"\x88\x02\x03\xe8"


class Reading:
    """A reader of unmasked frames, and what it has read.

    Attributes:
        messages: the inbox.
        controls: the control frames.
    """

    def __init__(self, *, is_masked: bool = False, max_message_bytes: int = LIMIT) -> None:
        self.messages: list[bytes] = []
        self.controls: list[bytes] = []
        self._reader = MessageReader(
            is_masked=is_masked, max_message_bytes=max_message_bytes, on_control=self.controls.append
        )

    def feed(self, data: bytes) -> None:
        self._reader.feed(data, self.messages)


def wire(*messages: bytes, is_masked: bool = False) -> bytes:
    writer = MessageWriter(is_masked=is_masked)
    for message in messages:
        writer.add(message)
    return writer.take()


def text(payload: bytes, *, is_last: bool = True) -> bytes:
    return Frame(Opcode.TEXT, payload, fin=is_last).serialize(mask=False)


def more(payload: bytes, *, is_last: bool = True) -> bytes:
    return Frame(Opcode.CONT, payload, fin=is_last).serialize(mask=False)


# --- the ordinary case -------------------------------------------------------------------


@pytest.mark.parametrize("is_masked", [False, True])
def test_what_is_written_is_read_in_order(is_masked: bool) -> None:
    """Either side's frames, of all three lengths of head."""
    messages = [b"x" * size for size in (0, 1, 125, 126, 0xFFFF, 0x10000)]
    reading = Reading(is_masked=is_masked, max_message_bytes=0x10000)
    reading.feed(wire(*messages, is_masked=is_masked))

    assert reading.messages == messages


@pytest.mark.parametrize(
    ("message", "head"),
    [
        (b"{}", b"\x81\x02"),
        (b"", b"\x81\x00"),
        (b"\x01\x00", b"\x82\x02"),
        (b"x" * 126, b"\x81\x7e\x00\x7e"),
        (b"x" * 0x10000, b"\x81\x7f\x00\x00\x00\x00\x00\x01\x00\x00"),
    ],
)
def test_a_head_says_kind_and_size(message: bytes, head: bytes) -> None:
    """A message that begins with 0x01 is binary, any other text."""
    assert wire(message) == head + message


def test_what_was_collected_leaves_once() -> None:
    """The next batch begins with nothing."""
    writer = MessageWriter(is_masked=False)
    writer.add(b"a")
    writer.add(b"b")

    assert writer.take() == b"\x81\x01a\x81\x01b"
    assert writer.take() == b""


def test_each_message_of_a_client_has_a_key_of_its_own() -> None:
    """Nobody can predict it (RFC 6455, 10.3), also beyond the keys that are drawn at once."""
    data = wire(*[b"\0\0\0\0"] * 3000, is_masked=True)
    keys = [data[at + 2 : at + 6] for at in range(0, len(data), 10)]

    assert len(set(keys)) > 2990
    assert all(data[at : at + 2] == b"\x81\x84" for at in range(0, len(data), 10))


# --- as the network gives it -------------------------------------------------------------


@st.composite
def conversations(draw: st.DrawFn) -> tuple[list[bytes], list[bytes], list[Frame]]:
    """Messages, control frames' payloads, and the frames that carry them."""
    payloads = st.one_of(st.binary(max_size=20), st.sampled_from([b"y" * 125, b"z" * 126, b"w" * 400]))
    messages, pings, frames = [], [], []

    def maybe_ping() -> None:
        if draw(st.booleans()):
            pings.append(draw(st.binary(max_size=10)))
            frames.append(Frame(draw(st.sampled_from([Opcode.PING, Opcode.PONG])), pings[-1]))

    for _ in range(draw(st.integers(0, 6))):
        pieces = draw(st.lists(payloads, min_size=1, max_size=4))
        messages.append(b"".join(pieces))
        for number, piece in enumerate(pieces):
            maybe_ping()
            opcode = draw(st.sampled_from([Opcode.TEXT, Opcode.BINARY])) if number == 0 else Opcode.CONT
            frames.append(Frame(opcode, piece, fin=number == len(pieces) - 1))
    maybe_ping()
    return messages, pings, frames


@given(conversations(), st.booleans(), st.data())
def test_any_split_gives_the_same_messages_in_order(
    conversation: tuple[list[bytes], list[bytes], list[Frame]], is_masked: bool, data: st.DataObject
) -> None:
    """Whatever the mixture, in pieces or whole, masked or not."""
    messages, pings, frames = conversation
    stream = b"".join(frame.serialize(mask=is_masked) for frame in frames)
    cuts = data.draw(st.lists(st.integers(0, len(stream)), max_size=12).map(sorted))
    reading = Reading(is_masked=is_masked, max_message_bytes=2000)
    for start, stop in pairwise([0, *cuts, len(stream)]):
        reading.feed(stream[start:stop])

    assert reading.messages == messages
    assert len(reading.controls) == len(pings)
    if not is_masked:
        assert [control[2:] for control in reading.controls] == pings


@given(conversations(), st.booleans())
def test_byte_by_byte_is_enough(
    conversation: tuple[list[bytes], list[bytes], list[Frame]], is_masked: bool
) -> None:
    """The worst of all networks."""
    messages, _, frames = conversation
    reading = Reading(is_masked=is_masked, max_message_bytes=2000)
    for byte in b"".join(frame.serialize(mask=is_masked) for frame in frames):
        reading.feed(bytes([byte]))

    assert reading.messages == messages


def test_a_control_frame_is_told_amidst_a_message_in_pieces() -> None:
    """A ping is answered before the message is whole."""
    reading = Reading()
    reading.feed(text(b"a", is_last=False) + b"\x89\x00")

    assert (reading.controls, reading.messages) == ([b"\x89\x00"], [])

    reading.feed(more(b"b"))

    assert reading.messages == [b"ab"]


def test_nothing_is_read_after_a_close_frame() -> None:
    """Whatever else may come was not meant for us (RFC 6455, 1.4)."""
    reading = Reading()
    reading.feed(text(b"a") + CLOSE + text(b"b"))
    reading.feed(text(b"c"))

    assert (reading.messages, reading.controls) == ([b"a"], [CLOSE])


# --- broken rules ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("frame", "code", "reason"),
    [
        (b"\xc1\x01a", 1002, "reserved bits must be 0"),
        (b"\xa1\x01a", 1002, "reserved bits must be 0"),
        (b"\x83\x00", 1002, "invalid opcode"),
        (b"\x8b\x00", 1002, "no control frame is like that"),
        (b"\x09\x00", 1002, "no control frame is like that"),
        (b"\x89\x7e\x00\x80", 1002, "no control frame is like that"),
        (b"\x80\x00", 1002, "a continuation without a start, or a start without an end"),
        (b"\x01\x00\x81\x00", 1002, "a continuation without a start, or a start without an end"),
        (b"\x81\x81kkkka", 1002, "incorrect masking"),
        (b"\x81\x7e\x03\xe9", 1009, "a message of more than 1000 bytes"),
        (b"\x81\x7e\x03\xe9" + b"x" * 1001, 1009, "a message of more than 1000 bytes"),
        (b"\x81\x7f\xff\xff\xff\xff\xff\xff\xff\xff", 1009, "a message of more than 1000 bytes"),
        (b"\x01\x7e\x03\xe8" + b"x" * 1000 + b"\x80\x01", 1009, "a message of more than 1000 bytes"),
    ],
)
def test_a_broken_rule_ends_the_reading(frame: bytes, code: int, reason: str) -> None:
    """Judged by the head alone; what came before is not lost, what follows is not read."""
    reading = Reading()
    with pytest.raises(BadFraming) as bad:
        reading.feed(text(b"before") + frame)
    reading.feed(text(b"after"))

    assert (bad.value.code, bad.value.reason) == (code, reason)
    assert reading.messages == [b"before"]


def test_a_client_must_mask() -> None:
    """A server that let it pass would be open to attacks on what lies between (RFC 6455, 10.3)."""
    with pytest.raises(BadFraming, match="incorrect masking"):
        Reading(is_masked=True).feed(text(b"a"))


def test_a_message_of_the_limit_passes_whole_and_in_pieces() -> None:
    """Only what is more is too much."""
    reading = Reading()
    reading.feed(text(b"x" * LIMIT) + text(b"x" * 600, is_last=False) + more(b"x" * 400))

    assert reading.messages == [b"x" * LIMIT] * 2


@given(st.binary(max_size=60), st.booleans())
def test_noise_is_read_or_refused(noise: bytes, is_masked: bool) -> None:
    """Nothing else comes out."""
    with contextlib.suppress(BadFraming):
        Reading(is_masked=is_masked).feed(noise)


# --- costs -------------------------------------------------------------------------------


@pytest.mark.parametrize("is_masked", [False, True])
def test_a_large_message_costs_no_more_than_its_size(is_masked: bool) -> None:
    """In the reads of a network; a copy of the whole for each read would take a thousand times as long."""

    def seconds(size: int) -> float:
        stream = wire(b"x" * size, is_masked=is_masked)
        reads = [stream[at : at + 0x4000] for at in range(0, len(stream), 0x4000)]
        reading = Reading(is_masked=is_masked, max_message_bytes=size)
        started_s = time.process_time()
        for read in reads:
            reading.feed(read)
        assert len(reading.messages[0]) == size
        return time.process_time() - started_s

    seconds(1 << 20)
    small_s, large_s = min(seconds(1 << 20) for _ in range(5)), min(seconds(1 << 25) for _ in range(2))

    assert large_s < 32 * 10 * max(small_s, 0.0001)


def test_a_message_in_tiny_pieces_costs_no_memory() -> None:
    """One of a byte a frame, each in a read of its own, would cost a hundred times its size."""
    frames = [text(b"x", is_last=False), *[more(b"x", is_last=False)] * 50_000, more(b"x")]
    reading = Reading(max_message_bytes=100_000)
    tracemalloc.start()
    for frame in frames:
        reading.feed(frame[:1])
        reading.feed(frame[1:])
    _, peak_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert len(reading.messages[0]) == 50_002
    assert peak_bytes < 400_000
