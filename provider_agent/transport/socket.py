"""What a channel asks of a connection, and how one ends; knows neither frames nor any library."""

from collections.abc import Callable
from typing import Protocol


class ChannelClosed(Exception):
    """The conversation is over, cleanly or not.

    Attributes:
        code: of the close frame; None when there was none.
        reason: of the close frame, or in our words what became of the connection.
        by_us: whether this side ended it.
    """

    def __init__(self, code: int | None, reason: str, *, by_us: bool = False) -> None:
        super().__init__(code, reason, by_us)
        self.code = code
        self.reason = reason
        self.by_us = by_us

    def __str__(self) -> str:
        why = f": {self.reason}" if self.reason else ""
        if self.code is None:
            return f"the connection was {'given up' if self.by_us else 'lost'}{why}"
        return f"{'we' if self.by_us else 'the peer'} closed the connection with {self.code}{why}"

    def again(self) -> "ChannelClosed":
        """The same end for one more who learns of it: an exception raised twice collects tracebacks."""
        return ChannelClosed(self.code, self.reason, by_us=self.by_us)


class Socket(Protocol):
    """A connection that carries messages. One that begins with 0x01 is binary, any other is text.

    Attributes:
        on_room: called once `is_full` has become false again; set by the channel.
    """

    on_room: Callable[[], None]

    @property
    def is_full(self) -> bool:
        """Too much waits below: send nothing more until `on_room` is called."""
        ...

    async def receive(self) -> bytes:
        """The next message; may be cancelled without loss. Raises ChannelClosed."""
        ...

    def send(self, message: bytes, /) -> None:
        """Collect a message for the next `flush`. Never waits; nothing leaves once the socket is closed."""
        ...

    def flush(self) -> None:
        """Hand what was collected to the kernel, in one write."""
        ...

    async def close(self, code: int, reason: str) -> None:
        """Send what was collected, then say goodbye; bounded to about a second, and never raises."""
        ...

    def abort(self, closed: ChannelClosed) -> None:
        """End at once and without a goodbye; whoever is in `receive` learns that it ended so."""
        ...
