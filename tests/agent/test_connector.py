"""The loop: each try is one dial, at most one session, one wait."""

import asyncio
import random
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import pytest

from provider_agent.agent.connector import Connector, SessionEnd
from provider_agent.agent.reconnect import CAP_S
from provider_agent.protocol.frames import AuthFailed
from provider_agent.transport.channel import ChannelClosed
from provider_agent.transport.dialling import DialError
from tests.fakes.logs import LogLines


class IdleSocket:
    """A socket that nobody reads; remembers how it was closed."""

    def __init__(self) -> None:
        self.closed: tuple[int, str] | None = None
        self.on_room: Callable[[], None] = lambda: None

    async def receive(self) -> bytes:
        raise AssertionError("nobody reads here")

    is_full = False

    def send(self, message: bytes) -> None:
        raise AssertionError("nobody writes here")

    def flush(self) -> None:
        raise AssertionError("nobody writes here")

    async def close(self, code: int, reason: str) -> None:
        self.closed = (code, reason)

    def abort(self, closed: ChannelClosed) -> None:
        raise AssertionError("nobody aborts here")


class World:
    """Time that passes only while somebody waits or serves, and a script of what each dial leads to.

    Attributes:
        waits: how long the connector waited, each time.
        tries: when it dialled.
        jobs_wait_until_s: until when there are jobs that a new session would save.
    """

    def __init__(self, *script: DialError | SessionEnd) -> None:
        self.now_s = 1000.0
        self.waits: list[float] = []
        self.tries: list[float] = []
        self.results: list[str] = []
        self.stop = asyncio.Event()
        self.jobs_wait_until_s = 0.0
        self._script: Iterator[DialError | SessionEnd] = iter(script)
        self._next: SessionEnd | None = None

    async def dial(self) -> IdleSocket:
        self.tries.append(self.now_s)
        following = next(self._script, None)
        if following is None:
            self.stop.set()
            following = SessionEnd()
        if isinstance(following, DialError):
            raise following
        self._next = following
        return IdleSocket()

    async def serve(self, _socket: object) -> SessionEnd:
        assert self._next is not None
        self.now_s += self._next.lasted_s
        return self._next

    async def wait(self, wait_s: float, until: asyncio.Event) -> None:
        assert not until.is_set()
        self.waits.append(wait_s)
        self.now_s += wait_s

    async def run(self, seed: int = 1) -> int:
        self.connector = Connector(
            dial=self.dial,
            serve=self.serve,
            clock=lambda: self.now_s,
            wait=self.wait,
            source=random.Random(seed),  # noqa: S311 - the same chances each time
            jobs_wait_s=lambda: max(0.0, self.jobs_wait_until_s - self.now_s),
            on_dialled=self.results.append,
            on_ended=self.results.append,
        )
        async with asyncio.timeout(10):
            return await self.connector.run(self.stop)


def healthy(code: int | None = None) -> SessionEnd:
    """A session of an hour that ended so."""
    return SessionEnd(code, accepted=True, lasted_s=3600.0)


async def test_it_dials_again_after_each_end_until_it_is_stopped() -> None:
    """Each try is one dial, at most one session, one wait."""
    world = World(DialError("refused", "nobody there"), healthy(1006))

    assert await world.run() == 0
    assert len(world.tries) == 3
    assert len(world.waits) == 2
    assert world.results == ["refused", "ok", "network", "ok"]


@pytest.mark.parametrize(
    ("end", "exit_code"),
    [
        (healthy(4001), 78),
        (healthy(4002), 75),
        (SessionEnd(auth_failed=AuthFailed(reason="no", retry=False)), 78),
    ],
)
async def test_a_final_end_stops_it_with_the_exit_code(end: SessionEnd, exit_code: int) -> None:
    """75 and 78 tell the service manager to leave it at that."""
    world = World(end)

    assert await world.run() == exit_code
    assert len(world.tries) == 1


async def test_being_accepted_and_dropped_slows_down_like_any_failure() -> None:
    """A ban or a duplicate key is no login loop at 1 Hz (field note 39)."""
    world = World(*[SessionEnd(1008, "banned", accepted=True, lasted_s=0.1)] * 30)

    await world.run()

    assert sum(world.waits[10:]) / 20 > 15
    assert max(world.waits) <= CAP_S


async def test_the_quick_answers_of_the_table_cannot_be_abused_either() -> None:
    """A coordinator that lets in and says 4008 or drain:deploy each time is waited for as for any other."""
    for code, reason in ((4008, ""), (1001, "drain:deploy")):
        world = World(*[SessionEnd(code, reason, accepted=True, lasted_s=0.1)] * 30)
        await world.run()

        assert sum(world.waits[10:]) / 20 > 15


async def test_only_a_minute_of_health_resets_the_back_off() -> None:
    """59 s do not, 60 s do; nor does a long handshake that was never accepted."""
    failing = [DialError("refused", "x")] * 8

    for last, is_reset in (
        (SessionEnd(1006, accepted=True, lasted_s=59.0), False),
        (SessionEnd(1006, accepted=False, lasted_s=600.0), False),
        (SessionEnd(1006, accepted=True, lasted_s=60.0), True),
    ):
        worlds = [World(*failing, last) for _ in range(20)]
        for seed, world in enumerate(worlds):
            await world.run(seed)
        assert (max(world.waits[-1] for world in worlds) <= 1.0) is is_reset


async def test_a_404_slows_down_and_never_gives_up() -> None:
    """A proxy in the middle of a deploy answers 404, too (field note 41)."""
    world = World(*[DialError("http", "404", http_status=404)] * 50, healthy(1006))

    assert await world.run() == 0
    assert len(world.tries) == 52
    assert min(world.waits[:50]) >= 30
    assert max(world.waits[:50]) <= 60
    assert world.waits[50] <= 1


async def test_while_jobs_wait_for_a_new_session_it_is_tried_for_often_enough() -> None:
    """An outage of most of the window costs no job; what follows is the usual slow pace (protocol.md 7)."""
    for seed in range(20):
        world = World(healthy(), *[DialError("refused", "x")] * 40)
        world.jobs_wait_until_s = world.now_s + 3600.0 + 60.0
        await world.run(seed)

        lost_s = world.now_s - sum(world.waits)
        within = [tried_s - lost_s for tried_s in world.tries[1:] if tried_s < world.jobs_wait_until_s]
        assert len(within) >= 8
        assert within[-1] > 55.0
        assert sum(world.waits[-10:]) / 10 > 15


async def test_an_outage_is_a_few_tries_a_minute_each_logged_once() -> None:
    """What, why and when next (field note 39)."""
    world = World(*[DialError("refused", "nothing listens at c.example:443")] * 100)
    log = LogLines()

    await world.run()

    eighth = log.entries[7]
    assert world.connector.why == "nothing listens at c.example:443"
    assert len(log.entries) == len(log.named("not_connected")) == 100
    assert eighth["why"] == "nothing listens at c.example:443"
    assert eighth["tries"] == 8
    assert eighth["next_try_in_s"] == round(world.waits[7], 1)
    assert len(world.tries) / (world.tries[-1] - world.tries[0]) < 0.1


async def test_a_final_end_is_logged_with_its_remedy() -> None:
    """The last line before the exit."""
    log = LogLines()

    await World(healthy(4002)).run()

    (entry,) = log.entries
    assert (entry["event"], entry["level"], entry["exit_code"]) == ("gave_up", "error", 75)
    assert "stop the other agent" in entry["why"]


class Halting:
    """Parts that set `stop` at a chosen moment, or wait for ever for it.

    Attributes:
        stop: to be set.
        socket: what the dial gives.
    """

    def __init__(self, moment: str) -> None:
        self.moment = moment
        self.stop = asyncio.Event()
        self.socket = IdleSocket()
        self.dial_was_cancelled = False

    async def dial(self) -> IdleSocket:
        if self.moment == "dial":
            self.stop.set()
            try:
                await asyncio.Event().wait()
            finally:
                self.dial_was_cancelled = True
        if self.moment == "dialled":
            self.stop.set()
        return self.socket

    async def serve(self, _socket: object) -> SessionEnd:
        assert self.moment != "dialled"
        if self.moment == "session":
            self.stop.set()
        return SessionEnd(4002, accepted=True)

    async def run(self) -> int:
        async with asyncio.timeout(10):
            return await Connector(dial=self.dial, serve=self.serve).run(self.stop)


async def test_a_stop_cuts_a_dial_short() -> None:
    """A coordinator that is not there must not hold up the end."""
    halting = Halting("dial")

    assert await halting.run() == 0
    assert halting.dial_was_cancelled


async def test_a_stop_between_dial_and_session_closes_the_socket() -> None:
    """Nobody would, otherwise."""
    halting = Halting("dialled")

    assert await halting.run() == 0
    assert halting.socket.closed == (1000, "the agent is leaving")


async def test_a_stop_during_a_session_makes_its_end_the_last() -> None:
    """Whatever that end says: we were told to go."""
    assert await Halting("session").run() == 0


async def test_a_stop_before_the_start_dials_nobody() -> None:
    """A second signal can be early."""
    world = World()
    world.stop.set()

    assert await world.run() == 0
    assert world.tries == []


async def test_a_defect_is_not_mistaken_for_the_network() -> None:
    """What is no DialError is raised, and no task is left behind."""

    async def broken() -> Any:
        raise ZeroDivisionError

    dial: Callable[[], Awaitable[IdleSocket]] = broken
    with pytest.RaisesGroup(ZeroDivisionError):
        await Connector(dial=dial, serve=World().serve).run(asyncio.Event())
