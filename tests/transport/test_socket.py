"""How a conversation ends, in words."""

import pytest

from provider_agent.transport.socket import ChannelClosed


@pytest.mark.parametrize(
    ("closed", "sentence"),
    [
        (ChannelClosed(1001, "drain:deploy"), "the peer closed the connection with 1001: drain:deploy"),
        (ChannelClosed(4003, "", by_us=True), "we closed the connection with 4003"),
        (ChannelClosed(None, ""), "the connection was lost"),
        (ChannelClosed(None, "silent", by_us=True), "the connection was given up: silent"),
    ],
)
def test_every_end_is_one_sentence(closed: ChannelClosed, sentence: str) -> None:
    """Logs and operators read the same words."""
    assert str(closed) == sentence


def test_whoever_learns_of_the_end_later_gets_an_end_of_its_own() -> None:
    """An exception that is raised twice collects the tracebacks of both."""
    closed = ChannelClosed(4002, "replaced", by_us=True)
    again = closed.again()

    assert again is not closed
    assert (again.code, again.reason, again.by_us) == (4002, "replaced", True)
