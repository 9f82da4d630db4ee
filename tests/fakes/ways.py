"""The way out of a lane without a channel: takes messages at once, or when the test says so."""

from provider_agent.protocol.codec import decode
from provider_agent.protocol.frames import PROTOCOL, Frame
from provider_agent.protocol.link import Role
from provider_agent.transport.lane import Lane


class FakeWay:
    """What a lane needs of a channel.

    Attributes:
        messages: all that left, in order.
        waiting: lanes with something to send.
    """

    def __init__(self, *, protocol: int = PROTOCOL, binary: bool = False, is_free: bool = True) -> None:
        self.protocol = protocol
        self.binary = binary
        self.is_free = is_free
        self.turn = 1
        self.messages: list[bytes] = []
        self.waiting: list[Lane] = []
        self._to_hear: list[Lane] = []

    @property
    def frames(self) -> list[Frame]:
        return [decode(message, Role.AGENT) for message in self.messages]

    def send(self, message: bytes) -> None:
        self.messages.append(message)

    def enter(self, lane: Lane, size_bytes: int) -> None:
        if lane not in self.waiting:
            self.waiting.append(lane)

    def withdraw(self, lane: Lane) -> None:
        if lane in self.waiting:
            self.waiting.remove(lane)
        if lane in self._to_hear:
            self._to_hear.remove(lane)

    def tell(self, lane: Lane) -> None:
        self._to_hear.append(lane)

    def end_turn(self, limit_bytes: int = 1 << 16) -> None:
        """Everything that is due leaves, and the lanes hear of it."""
        self.turn += 1
        while self.waiting:
            lane = self.waiting.pop()
            while lane.is_due:
                message = lane.next_message(limit_bytes)
                if message is not None:
                    self.messages.append(message)
        while self._to_hear:
            self._to_hear.pop().hear()
