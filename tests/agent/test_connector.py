"""How ends are judged, how long is waited, and that the loop does just that."""

import asyncio
import random
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from provider_agent.agent.connector import (
    CAP_S,
    LONGEST_WAIT_S,
    REJECTED,
    REPLACED,
    Backoff,
    Connector,
    Kind,
    SessionEnd,
    Verdict,
    classify,
    wait_until,
)
from provider_agent.protocol.frames import AuthFailed
from provider_agent.transport.websocket import DialError
from tests.fakes.logs import LogLines


class IdleSocket:
    """A socket that nobody reads; remembers how it was closed."""

    def __init__(self) -> None:
        self.closed: tuple[int, str] | None = None

    async def receive(self) -> bytes:
        raise AssertionError("nobody reads here")

    async def send(self, message: bytes) -> None:
        raise AssertionError("nobody writes here")

    async def close(self, code: int, reason: str) -> None:
        self.closed = (code, reason)


class World:
    """Time that passes only while somebody waits or serves, and a script of what each dial leads to.

    Attributes:
        waits: how long the connector waited, each time.
        tries: when it dialled.
    """

    def __init__(self, *script: DialError | SessionEnd) -> None:
        self.now_s = 1000.0
        self.waits: list[float] = []
        self.tries: list[float] = []
        self.results: list[str] = []
        self.stop = asyncio.Event()
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
        connector = Connector(
            dial=self.dial,
            serve=self.serve,
            clock=lambda: self.now_s,
            wait=self.wait,
            source=chance(seed),
            on_dialled=self.results.append,
            on_ended=self.results.append,
        )
        async with asyncio.timeout(10):
            return await connector.run(self.stop)


def chance(seed: int) -> random.Random:
    return random.Random(seed)  # noqa: S311 - a test wants the same chances each time


def healthy(code: int | None = None, reason: str = "") -> SessionEnd:
    """A session of an hour that ended so."""
    return SessionEnd(code, reason, accepted=True, lasted_s=3600.0)


def refused(*, code: str | None = None, retry: bool = True, retry_after_ms: int | None = None) -> SessionEnd:
    """A handshake that ended in `auth_failed`."""
    return SessionEnd(
        auth_failed=AuthFailed(reason="no", code=code, retry=retry, retry_after_ms=retry_after_ms)
    )


def unanswered(kind: Any, status: int | None = None, retry_after_s: float | None = None) -> SessionEnd:
    """A dial that came to nothing."""
    return SessionEnd(error=DialError(kind, "x", http_status=status, retry_after_s=retry_after_s))


# --- the table of the protocol, section 10 -----------------------------------------------

TABLE: dict[str, tuple[SessionEnd, Kind, tuple[float, float], int | None]] = {
    "deploy": (healthy(1001, "drain:deploy"), Kind.DEPLOY, (0, 5), None),
    "operator": (healthy(1001, "drain:operator"), Kind.OPERATOR_DRAIN, (60, 66), None),
    "operator with a time": (
        healthy(1001, "drain:operator retry_after_ms=120000"), Kind.OPERATOR_DRAIN, (120, 132), None,
    ),
    "revoked": (healthy(4001, "bye"), Kind.REVOKED, (0, 0), REJECTED),
    "replaced": (healthy(4002), Kind.REPLACED, (0, 0), REPLACED),
    "protocol error": (healthy(4003, "capabilities.models: wrong"), Kind.PROTOCOL_ERROR, (1, 2), None),
    "heartbeat lost": (healthy(4008), Kind.HEARTBEAT_LOST, (0, 0), None),
    "no close frame": (healthy(), Kind.NETWORK, (0, 1), None),
    "1001 for another reason": (healthy(1001, "going away"), Kind.NETWORK, (0, 1), None),
    "1006": (healthy(1006), Kind.NETWORK, (0, 1), None),
    "1000": (healthy(1000), Kind.NETWORK, (0, 1), None),
    "an unknown code": (healthy(4999, "?"), Kind.NETWORK, (0, 1), None),
    "rejected": (refused(retry=False), Kind.AUTH_REJECTED, (0, 0), REJECTED),
    "postponed": (refused(), Kind.AUTH_POSTPONED, (1, 2), None),
    "postponed with a time": (
        refused(retry_after_ms=90_000), Kind.AUTH_POSTPONED, (90, 99), None,
    ),
    "connection refused": (unanswered("refused"), Kind.DIAL_FAILED, (0, 1), None),
    "500": (unanswered("http", 500), Kind.DIAL_FAILED, (0, 1), None),
    "503": (unanswered("http", 503), Kind.BUSY, (1, 2), None),
    "429 with a time": (
        unanswered("http", 429, 30), Kind.BUSY, (30, 33), None,
    ),
    "401": (unanswered("http", 401), Kind.REFUSED, (30, 60), None),
    "403": (unanswered("http", 403), Kind.REFUSED, (30, 60), None),
    "404": (unanswered("http", 404), Kind.REFUSED, (30, 60), None),
}  # fmt: skip


@pytest.mark.parametrize(("end", "kind", "range_s", "exit_code"), TABLE.values(), ids=TABLE.keys())
def test_each_end_has_its_kind_wait_and_exit_code(
    end: SessionEnd, kind: Kind, range_s: tuple[float, float], exit_code: int | None
) -> None:
    """The table of the protocol, section 10, line by line, after a healthy time."""
    verdict = classify(end)

    assert (verdict.kind, verdict.exit_code) == (kind, exit_code)
    if exit_code is None:
        waits = [
            Backoff(chance(seed)).next_wait_s(verdict, after_healthy=end.was_healthy) for seed in range(200)
        ]
        least_s, most_s = range_s
        assert least_s <= min(waits)
        assert max(waits) <= most_s
        assert max(waits) - min(waits) >= 0.9 * (most_s - least_s)


def test_the_sentence_says_who_what_and_why() -> None:
    """For the log, which is all that an operator has."""
    assert classify(healthy()).why == "the connection was lost"
    assert classify(SessionEnd(None, "no answer for 5 s", by_us=True)).why == (
        "the connection was given up: no answer for 5 s"
    )
    assert classify(healthy(4003, "bad")).why == "the coordinator closed the session with 4003: bad"
    assert classify(SessionEnd(4003, "bad", by_us=True)).why == "we closed the session with 4003: bad"
    assert classify(SessionEnd(error=DialError("dns", "no such name"))).why == "no such name"


def test_a_final_end_tells_the_operator_what_to_do() -> None:
    """An exit without a remedy is a riddle."""
    assert "stop the other agent" in classify(healthy(4002)).why
    assert "new enrolment code" in classify(healthy(4001)).why
    for code, remedy in {
        "enrollment_expired": "set coordinator.enrollment_code",
        "bad_signature": "check that coordinator.url",
        "protocol_unsupported": "update the agent",
        "never heard of": "ask the coordinator's operator",
    }.items():
        why = classify(refused(code=code, retry=False)).why
        assert why.startswith(f"the coordinator refused this agent ({code}): no; ")
        assert remedy in why


def test_a_peer_cannot_write_into_the_log_what_it_likes() -> None:
    """Line breaks and escape codes are taken out, and long reasons are cut."""
    why = classify(healthy(4003, "\x1b[31m\nfake line" + "y" * 500)).why

    assert why.isprintable()
    assert len(why) < 300


# --- the back-off ------------------------------------------------------------------------

NETWORK = Verdict(Kind.NETWORK, "lost")


def test_the_first_retry_is_quick_and_the_following_slow_down() -> None:
    """Ceilings of 1, 2, 4 … 60 s, jittered over the whole range."""
    ceilings: list[float] = [0.0] * 9
    for seed in range(400):
        backoff = Backoff(chance(seed))
        waits = [backoff.next_wait_s(NETWORK, after_healthy=False) for _ in ceilings]
        ceilings = [max(pair) for pair in zip(ceilings, waits, strict=True)]

    for ceiling, expected in zip(ceilings, [1, 2, 4, 8, 16, 32, 60, 60, 60], strict=True):
        assert 0.9 * expected < ceiling <= expected


def test_a_fleet_does_not_come_back_as_one() -> None:
    """A thousand agents that lost their coordinator in one moment spread over the range (field note 40)."""
    returns = sorted(Backoff(chance(seed)).next_wait_s(NETWORK, after_healthy=True) for seed in range(1000))

    for tenth in range(10):
        assert 50 < sum(tenth / 10 <= wait_s < (tenth + 1) / 10 for wait_s in returns) < 150


def test_the_wait_a_deploy_asks_for_is_spread_over_five_seconds() -> None:
    """As above, for the whole fleet at once (field note 40)."""
    verdict = classify(healthy(1001, "drain:deploy"))
    returns = [Backoff(chance(seed)).next_wait_s(verdict, after_healthy=True) for seed in range(1000)]

    for second in range(5):
        assert 120 < sum(second <= wait_s < second + 1 for wait_s in returns) < 280


ENDS = st.sampled_from([end for end, _, _, exit_code in TABLE.values() if exit_code is None])


@given(st.lists(ENDS, min_size=1, max_size=30), st.integers())
def test_no_history_of_ends_leads_to_a_wait_without_end_or_to_a_hot_loop(
    ends: list[SessionEnd], seed: int
) -> None:
    """At most the cap or what was asked for, and at least a second if nothing was healthy (field note 41)."""
    backoff = Backoff(chance(seed))
    for number, end in enumerate(ends):
        verdict = classify(end)
        wait_s = backoff.next_wait_s(verdict, after_healthy=end.was_healthy)

        named_s = verdict.wait_s[1] if verdict.wait_s else 0.0
        assert 0 <= wait_s <= max(CAP_S, named_s) <= LONGEST_WAIT_S * 1.1
        assert wait_s >= (verdict.wait_s[0] if verdict.wait_s else 0.0)
        if number and not end.was_healthy:
            assert wait_s >= 1.0


@pytest.mark.parametrize("asked", ["retry_after_ms=999999999999", "retry_after_ms=0", "retry_after_ms=x"])
def test_no_wait_that_is_asked_for_lasts_for_ever(asked: str) -> None:
    """An hour at most: what is wrong today may be right tomorrow (field note 41)."""
    verdict = classify(healthy(1001, f"drain:operator {asked}"))

    assert 0 <= Backoff(chance(1)).next_wait_s(verdict, after_healthy=True) <= LONGEST_WAIT_S * 1.1


# --- the loop ----------------------------------------------------------------------------


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
        (refused(code="revoked", retry=False), 78),
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


async def test_an_outage_is_a_few_tries_a_minute_each_logged_once() -> None:
    """What, why and when next (field note 39)."""
    world = World(*[DialError("refused", "nothing listens at c.example:443")] * 100)
    log = LogLines()

    await world.run()

    eighth = log.entries[7]
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


async def test_a_stop_ends_the_wait() -> None:
    """The real waiter, which no other test lets wait."""
    stop = asyncio.Event()
    async with asyncio.timeout(10), asyncio.TaskGroup() as tasks:
        waiting = tasks.create_task(wait_until(3600, stop))
        tasks.create_task(_set(stop))
    assert waiting.done()
    await wait_until(0.0, asyncio.Event())


async def _set(event: asyncio.Event) -> None:
    event.set()


async def test_a_defect_is_not_mistaken_for_the_network() -> None:
    """What is no DialError is raised, and no task is left behind."""

    async def broken() -> Any:
        raise ZeroDivisionError

    dial: Callable[[], Awaitable[IdleSocket]] = broken
    with pytest.RaisesGroup(ZeroDivisionError):
        await Connector(dial=dial, serve=World().serve).run(asyncio.Event())
