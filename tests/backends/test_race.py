"""Real sockets on loopback: one that accepts, one that refuses, one that does not answer."""

import asyncio
import socket
from collections.abc import Iterator
from contextlib import ExitStack, closing

import pytest

from provider_agent.backends.race import Address, Race, addresses_of

LATE_S = 5.0


@pytest.fixture
def sockets() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def accepts(sockets: ExitStack) -> Address:
    listening = sockets.enter_context(closing(socket.create_server(("127.0.0.1", 0))))
    return Address(socket.AF_INET, listening.getsockname())


def refuses() -> Address:
    with closing(socket.create_server(("127.0.0.1", 0))) as gone:
        return Address(socket.AF_INET, gone.getsockname())


def does_not_answer(sockets: ExitStack) -> Address:
    """Its queue is full: the system drops what comes."""
    listening = sockets.enter_context(closing(socket.socket()))
    listening.bind(("127.0.0.1", 0))
    listening.listen(0)
    for _ in range(4):
        waiting = sockets.enter_context(closing(socket.socket()))
        waiting.setblocking(False)
        waiting.connect_ex(listening.getsockname())
    return Address(socket.AF_INET, listening.getsockname())


async def test_the_first_address_is_taken_when_it_accepts(sockets: ExitStack) -> None:
    """No other one is tried."""
    first = accepts(sockets)
    won, connected = await Race([first, refuses()]).run()
    with closing(connected):
        assert (won, connected.getpeername()) == (first, first.sockaddr)


async def test_an_address_that_refuses_is_passed_at_once(sockets: ExitStack) -> None:
    """`localhost` is two of them, and many an engine listens on one only."""
    second = accepts(sockets)
    async with asyncio.timeout(LATE_S):
        won, connected = await Race([refuses(), second]).run()
    with closing(connected):
        assert won == second


async def test_an_address_that_does_not_answer_is_passed_soon(sockets: ExitStack) -> None:
    """A broken IPv6 must not cost the whole dial."""
    second = accepts(sockets)
    async with asyncio.timeout(LATE_S):
        won, connected = await Race([does_not_answer(sockets), second]).run()
    with closing(connected):
        assert won == second


async def test_when_all_refuse_that_is_told() -> None:
    """By the first error."""
    with pytest.raises(ConnectionRefusedError):
        await Race([refuses(), refuses()]).run()


async def test_a_race_can_be_given_up(sockets: ExitStack) -> None:
    """Its sockets are closed."""
    race = Race([does_not_answer(sockets)])
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.02):
            await race.run()


async def test_a_name_has_addresses_of_both_families_in_turn() -> None:
    """As many as the machine knows."""
    addresses = await addresses_of("localhost", 80)

    assert ("127.0.0.1", 80) in [each.sockaddr[:2] for each in addresses]
    assert len(set(addresses)) == len(addresses)
