"""Messages into WebSocket frames and out of them (RFC 6455, 5); knows no connection and no goodbye.

Our own, because every token of every answer passes here. What is rare, the control frames, is cut out
whole, for the library. Nothing costs more than its size: neither many small reads nor many pieces.
"""

import os
from collections.abc import Callable
from struct import Struct, iter_unpack
from typing import Final, Protocol

try:
    from websockets.speedups import apply_mask
except ImportError:  # no compiled part on this platform
    from websockets.utils import apply_mask

BINARY_MARK: Final = 0x01
"""What a binary message begins with; no text (JSON) can."""

PROTOCOL_VIOLATION, TOO_BIG = 1002, 1009
"""Codes to close with, RFC 6455, 7.4.1."""

_FIN, _RESERVED, _CONTROL = 0x80, 0x70, 0x08
_WHOLE = _TEXT, _BINARY = _FIN | 0x1, _FIN | 0x2
_STARTS = (0x1, 0x2, *_WHOLE)
_CONTINUATIONS = (0x0, _FIN)
_CONTROLS = _CLOSE, _PING, _PONG = _FIN | 0x8, _FIN | 0x9, _FIN | 0xA

_MASKED = 0x80
_KEY_BYTES = 4
_KEYS_AT_ONCE = 256

_SHORT = 125  # the longest payload whose size is in the second byte
_SIZE_IN_2, _SIZE_IN_8 = 126, 127
_LONGEST_IN_2 = 0xFFFF

_HEAD, _HEAD_2, _HEAD_8 = Struct("!BB").pack, Struct("!BBH").pack, Struct("!BBQ").pack


class BadFraming(Exception):
    """The peer broke the rules: nothing that follows can be read.

    Attributes:
        code, reason: to close with.
    """

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(code, reason)
        self.code = code
        self.reason = reason


class Inbox(Protocol):
    """Where messages go, in order."""

    def append(self, message: bytes, /) -> None: ...


class MessageReader:
    """Cuts what arrives into messages, wherever the network split it.

    Attributes:
        max_message_bytes: a larger message is refused as soon as it announces itself; may change at any time.
    """

    def __init__(
        self, *, is_masked: bool, max_message_bytes: int, on_control: Callable[[bytes], None]
    ) -> None:
        """`is_masked`: the peer is a client. `on_control` is given each control frame, whole, as it came."""
        self._is_masked = is_masked
        self.max_message_bytes = max_message_bytes
        self._on_control = on_control
        self._is_over = False
        self._rest = b""  # the first bytes of a frame: less than a head, or less than a control frame
        self._pieces: bytearray | None = None  # of a message in several frames, as far as it is here
        self._first, self._key = 0, b""  # of the frame whose payload is incomplete
        self._payload = bytearray()
        self._missing_bytes = 0

    def feed(self, data: bytes, inbox: Inbox) -> None:
        """Put into the inbox each message that `data` completes; nothing is read after a close frame.

        Raises:
            BadFraming: the messages before it are in the inbox.
        """
        if self._is_over:
            return
        if self._missing_bytes:
            data = self._fill(data, inbox)
        if self._rest:
            data = self._rest + data
        is_masked, at, end = self._is_masked, 0, len(data)
        while end - at > 1:
            first, size, start = data[at], data[at + 1], at + 2
            if is_masked:
                size ^= _MASKED
                start += _KEY_BYTES
            if size > _SHORT:
                start, size = self._long(data, at, start, size)
            if start > end:
                break
            stop = start + size
            if first in _WHOLE and stop <= end and self._pieces is None:
                payload = data[start:stop]
                inbox.append(apply_mask(payload, data[start - _KEY_BYTES : start]) if is_masked else payload)
            elif not (stop := self._uncommon(data, at, start, stop, inbox)):
                break
            at = stop
        self._rest = data[at:]

    def _long(self, data: bytes, at: int, start: int, size: int) -> tuple[int, int]:
        """Where a payload starts whose size did not fit into the second byte, and its size."""
        if size > _SIZE_IN_8:
            self._fail(PROTOCOL_VIOLATION, "incorrect masking")
        width = 2 if size == _SIZE_IN_2 else 8
        size = int.from_bytes(data[at + 2 : at + 2 + width], "big")
        if size > self.max_message_bytes:
            self._fail(TOO_BIG, f"a message of more than {self.max_message_bytes} bytes")
        return start + width, size

    def _uncommon(self, data: bytes, at: int, start: int, stop: int, inbox: Inbox) -> int:
        """Anything but a whole message in one frame. Gives where to go on, 0 for: not yet.

        1. A control frame, perhaps amidst the pieces of a message.
        2. A payload that is not all here.
        3. A piece of a message.
        """
        first = data[at]
        self._check(first, stop - start)
        if first & _CONTROL:  # 1
            if stop > len(data):
                return 0
            self._is_over = first == _CLOSE
            self._on_control(data[at:stop])
            return len(data) if self._is_over else stop
        self._first, self._key = first, data[start - _KEY_BYTES : start]
        if stop > len(data):  # 2
            self._payload += memoryview(data)[start:]
            self._missing_bytes = stop - len(data)
            return len(data)
        self._take(data[start:stop], inbox)  # 3
        return stop

    def _check(self, first: int, size: int) -> None:
        """Whether a frame may begin like this, judged before its payload is waited for."""
        if first & _RESERVED:
            self._fail(PROTOCOL_VIOLATION, "reserved bits must be 0")
        if first & _CONTROL:
            if first not in _CONTROLS or size > _SHORT:
                self._fail(PROTOCOL_VIOLATION, "no control frame is like that")
        elif first not in _STARTS and first not in _CONTINUATIONS:
            self._fail(PROTOCOL_VIOLATION, "invalid opcode")
        elif (first in _CONTINUATIONS) != (self._pieces is not None):
            self._fail(PROTOCOL_VIOLATION, "a continuation without a start, or a start without an end")
        elif size + len(self._pieces or b"") > self.max_message_bytes:
            self._fail(TOO_BIG, f"a message of more than {self.max_message_bytes} bytes")

    def _fail(self, code: int, reason: str) -> None:
        self._is_over = True
        raise BadFraming(code, reason)

    def _fill(self, data: bytes, inbox: Inbox) -> bytes:
        """Add to the incomplete payload; gives what follows it."""
        missing_bytes = self._missing_bytes
        self._payload += memoryview(data)[:missing_bytes]
        self._missing_bytes = max(0, missing_bytes - len(data))
        if not self._missing_bytes:
            payload, self._payload = self._payload, bytearray()
            self._take(payload, inbox)
        return data[missing_bytes:]

    def _take(self, payload: bytes | bytearray, inbox: Inbox) -> None:
        """A whole payload: of a message, or of a piece of one."""
        data = apply_mask(payload, self._key) if self._is_masked else payload
        if self._pieces is None and self._first & _FIN:
            inbox.append(bytes(data))
            return
        self._pieces = bytearray() if self._pieces is None else self._pieces
        self._pieces += data
        if self._first & _FIN:
            inbox.append(bytes(self._pieces))
            self._pieces = None


class MessageWriter:
    """Collects messages until they leave together.

    Attributes:
        add: takes a message; without a step in Python, for there are many.
    """

    __slots__ = ("_is_masked", "_keys", "_messages", "add")

    def __init__(self, *, is_masked: bool) -> None:
        """`is_masked`: we are the client."""
        self._is_masked = is_masked
        self._keys: list[bytes] = []
        self._messages: list[bytes] = []
        self.add: Callable[[bytes], None] = self._messages.append

    def take(self) -> bytes:
        """All that was added since the last time, framed."""
        messages = self._messages
        data = b"".join(self._masked(messages) if self._is_masked else _plain(messages))
        messages.clear()
        return data

    def _masked(self, messages: list[bytes]) -> list[bytes]:
        parts: list[bytes] = []
        keys = self._keys
        for message in messages:
            if not keys:
                keys += _new_keys()
            key = keys.pop()
            parts += _head(message, _MASKED), key, apply_mask(message, key)
        return parts


def _plain(messages: list[bytes]) -> list[bytes]:
    parts: list[bytes] = []
    for message in messages:
        parts += _head(message, 0), message
    return parts


def _head(message: bytes, mask_bit: int) -> bytes:
    size = len(message)
    first = _BINARY if size and message[0] == BINARY_MARK else _TEXT
    if size <= _SHORT:
        return _HEAD(first, size | mask_bit)
    if size <= _LONGEST_IN_2:
        return _HEAD_2(first, _SIZE_IN_2 | mask_bit, size)
    return _HEAD_8(first, _SIZE_IN_8 | mask_bit, size)


def _new_keys() -> list[bytes]:
    """Keys that nobody can predict, RFC 6455, 10.3; drawn many at a time."""
    return [key for (key,) in iter_unpack("4s", os.urandom(_KEYS_AT_ONCE * _KEY_BYTES))]
