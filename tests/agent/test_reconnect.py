"""How ends are judged, and how long is waited after them."""

import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from provider_agent.agent.reconnect import (
    CAP_S,
    LONGEST_WAIT_S,
    REJECTED,
    REPLACED,
    Backoff,
    Kind,
    SessionEnd,
    Verdict,
    classify,
    outlived_by_jobs,
)
from provider_agent.protocol.frames import AuthFailed
from provider_agent.transport.dialling import DialError


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


def test_silence_is_an_end_like_any_other() -> None:
    """Dial, handshake and session each have their limit, and are tried again (field notes 37, 38)."""
    silent_dial = classify(unanswered("timeout"))
    silent_session = classify(SessionEnd(None, "no byte for 10 s", by_us=True, accepted=True, lasted_s=70.0))
    silent_handshake = classify(SessionEnd(4003, "no answer within 10 s in the handshake", by_us=True))

    assert (silent_dial.kind, silent_session.kind) == (Kind.DIAL_FAILED, Kind.NETWORK)
    assert silent_handshake.in_earnest
    assert {verdict.exit_code for verdict in (silent_dial, silent_session, silent_handshake)} == {None}


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


def test_jobs_that_wait_make_the_waits_short() -> None:
    """A part of the time that they have left, and a second or more after the first try (protocol.md 7)."""
    for seed in range(200):
        backoff, left_s = Backoff(chance(seed)), 60.0
        backoff.next_wait_s(NETWORK, after_healthy=True)
        while left_s > 0:
            wait_s = backoff.next_wait_s(NETWORK, after_healthy=False, jobs_wait_s=left_s)
            assert 1.0 <= wait_s <= max(1.0, left_s / 4)
            left_s -= wait_s


def test_a_proxy_in_the_middle_of_a_deploy_is_asked_again_soon_while_jobs_wait() -> None:
    """Its 404 is no word of the coordinator's; what the coordinator itself asks for is kept."""
    refused_upgrade, busy = classify(unanswered("http", 404)), classify(unanswered("http", 503, 40))

    waits = [
        Backoff(chance(1)).next_wait_s(each, after_healthy=False, jobs_wait_s=20.0)
        for each in (refused_upgrade, busy)
    ]
    assert waits[0] <= 5.0
    assert waits[1] >= 40.0


# --- what becomes of the jobs -------------------------------------------------------------

OUTLIVED = {
    "no close frame": True,
    "1001 for another reason": True,
    "1006": True,
    "1000": True,
    "an unknown code": True,
    "deploy": True,
    "heartbeat lost": True,
    "protocol error": True,
    "operator": False,
    "operator with a time": False,
    "revoked": False,
    "replaced": False,
}


@pytest.mark.parametrize(("name", "expected"), OUTLIVED.items())
def test_jobs_outlive_what_may_be_an_accident(name: str, expected: bool) -> None:
    """And no end after which nobody asks for them again (protocol.md 7, 10)."""
    assert outlived_by_jobs(TABLE[name][0]) is expected


@pytest.mark.parametrize(
    ("end", "expected"),
    [
        (SessionEnd(1000, "the agent is leaving", by_us=True, accepted=True), False),
        (SessionEnd(4003, "capabilities_ok: wrong", by_us=True, accepted=True), False),
        (SessionEnd(None, "no byte for 10 s", by_us=True, accepted=True), True),
    ],
)
def test_jobs_do_not_outlive_what_we_have_ended_ourselves(end: SessionEnd, expected: bool) -> None:
    """The coordinator counts them as lost; a line that we gave up as dead is an accident."""
    assert outlived_by_jobs(end) is expected


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
