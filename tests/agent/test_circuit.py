"""A circuit opens after failures in a row, lets one job try, and closes with an answer."""

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from provider_agent.agent.circuit import (
    FAILURES,
    FIRST_PAUSE_S,
    LONGEST_PAUSE_S,
    LONGEST_REST_S,
    VOUCHED_S,
    Block,
    Circuits,
)
from provider_agent.protocol.errors import ErrorCode

KEY = ("den", "m")
BUSY = Block(ErrorCode.RATE_LIMITED, "the engine limits its rate", 3.0)


def opened(at_s: float = 0.0) -> Circuits:
    circuits = Circuits()
    for _ in range(FAILURES):
        circuits.failed(KEY, at_s)
    return circuits


def test_a_circuit_opens_after_failures_in_a_row() -> None:
    """The ordinary case; the last one tells for how long."""
    circuits = Circuits()

    assert [circuits.failed(KEY, 0.0) for _ in range(FAILURES)] == [None] * (FAILURES - 1) + [FIRST_PAUSE_S]
    block = circuits.block(KEY, 1.0, untried=0)
    assert block is not None
    assert (block.code, block.wait_s) == (ErrorCode.OUT_OF_CAPACITY, FIRST_PAUSE_S - 1.0)
    assert circuits.open_keys(1.0) == {KEY}


def test_an_answer_between_two_failures_begins_the_count_anew() -> None:
    """Engines answer 500 to odd requests while they serve all others."""
    circuits = Circuits()
    for _ in range(FAILURES - 1):
        circuits.failed(KEY, 0.0)
    circuits.succeeded(KEY)

    assert circuits.failed(KEY, 0.0) is None
    assert circuits.block(KEY, 0.0, untried=0) is None


def test_a_route_is_proven_by_an_answer_and_not_by_time() -> None:
    """While it may be tried again, nobody knows yet; failures that open no circuit are no reason to doubt."""
    circuits = opened()
    circuits.failed(("other", "m"), 0.0)

    assert circuits.open_keys(FIRST_PAUSE_S) == frozenset()
    assert circuits.unproven_keys == {KEY}
    circuits.succeeded(KEY)
    assert circuits.unproven_keys == frozenset()


def test_one_job_at_a_time_tries_a_circuit_that_was_open() -> None:
    """The others are told that there is no room."""
    circuits = opened()

    assert circuits.open_keys(FIRST_PAUSE_S) == frozenset()
    assert circuits.block(KEY, FIRST_PAUSE_S, untried=0) is None
    second = circuits.block(KEY, FIRST_PAUSE_S, untried=1)
    assert second is not None
    assert second.code is ErrorCode.OUT_OF_CAPACITY


def test_an_answer_closes_a_circuit() -> None:
    """From then on it is as if nothing had been."""
    circuits = opened()

    assert circuits.succeeded(KEY)
    assert not circuits
    assert circuits.block(KEY, 0.0, untried=9) is None


def test_each_failure_of_a_trial_doubles_the_pause_up_to_a_limit() -> None:
    """An engine that stays broken is asked twice a minute."""
    circuits, now_s, pauses_s = opened(), FIRST_PAUSE_S, []
    for _ in range(4):
        pause_s = circuits.failed(KEY, now_s)
        assert pause_s is not None
        pauses_s.append(pause_s)
        now_s += pause_s

    assert pauses_s == [2 * FIRST_PAUSE_S, 4 * FIRST_PAUSE_S, LONGEST_PAUSE_S, LONGEST_PAUSE_S]


def test_what_fails_while_a_circuit_is_open_does_not_keep_it_open() -> None:
    """It had begun before."""
    circuits = opened()

    assert circuits.failed(KEY, 1.0) is None
    assert circuits.block(KEY, FIRST_PAUSE_S, untried=0) is None


def test_a_route_rests_as_long_as_its_engine_asks() -> None:
    """It offers its slots all the same: it only wants no job now."""
    circuits = Circuits()
    circuits.rest(KEY, 0.0, BUSY)

    assert circuits.block(KEY, 1.0, untried=0) == BUSY._replace(wait_s=2.0)
    assert circuits.block(KEY, 3.0, untried=5) is None
    assert circuits.open_keys(1.0) == frozenset()


def test_no_engine_is_left_alone_for_longer_than_a_minute() -> None:
    """Whatever it asks for: it may have been started anew since."""
    circuits = Circuits()
    circuits.rest(KEY, 0.0, BUSY._replace(wait_s=3600.0))

    assert circuits.block(KEY, LONGEST_REST_S, untried=0) is None


def test_an_engine_that_is_new_has_a_clean_slate_and_others_keep_theirs() -> None:
    """It is another process."""
    circuits, other = opened(), ("other", "m")
    circuits.rest(other, 0.0, BUSY)
    circuits.forget({"den"})

    assert circuits.block(KEY, 0.0, untried=0) is None
    assert circuits.block(other, 0.0, untried=0) == BUSY


def test_an_answer_to_a_question_of_our_own_closes_a_circuit() -> None:
    """Open or half-open; one that was closed was not open."""
    circuits = opened()

    assert circuits.vouch(KEY, 1.0)
    assert circuits.block(KEY, 1.0, untried=9) is None
    assert not circuits.vouch(KEY, 1.0)


def test_what_fails_soon_after_such_an_answer_is_not_held_against_the_engine() -> None:
    """One client's odd requests take it from nobody; a while later failures count as ever."""
    circuits = opened()
    circuits.vouch(KEY, 1.0)

    soon_s = 1.0 + VOUCHED_S / 2
    assert [circuits.failed(KEY, soon_s) for _ in range(3 * FAILURES)] == [None] * 3 * FAILURES

    later_s = 1.0 + VOUCHED_S
    assert [circuits.failed(KEY, later_s) for _ in range(FAILURES)][-1] == FIRST_PAUSE_S


EIGHTHS = st.integers(0, 40 * 8).map(lambda eighths: eighths / 8)
"""Seconds that add up without rounding."""


class CircuitMachine(RuleBasedStateMachine):
    """Any sequence of ends, rests and waits."""

    def __init__(self) -> None:
        super().__init__()
        self.circuits = Circuits()
        self.now_s = 0.0
        self.in_a_row = 0

    @rule(wait_s=EIGHTHS)
    def time_passes(self, wait_s: float) -> None:
        self.now_s += wait_s

    @rule()
    def a_job_fails(self) -> None:
        self.in_a_row += 1
        pause_s = self.circuits.failed(KEY, self.now_s)
        assert pause_s is None or FIRST_PAUSE_S <= pause_s <= LONGEST_PAUSE_S

    @rule()
    def a_job_succeeds(self) -> None:
        self.in_a_row = 0
        self.circuits.succeeded(KEY)
        assert self.circuits.block(KEY, self.now_s, untried=1) is None

    @rule()
    def a_question_of_our_own_is_answered(self) -> None:
        self.in_a_row = 0
        self.circuits.vouch(KEY, self.now_s)
        assert self.circuits.block(KEY, self.now_s, untried=1) is None

    @rule(wait_s=st.floats(0, 3600))
    def the_engine_wants_rest(self, wait_s: float) -> None:
        self.circuits.rest(KEY, self.now_s, BUSY._replace(wait_s=wait_s))

    @invariant()
    def nothing_blocks_without_a_reason_or_for_ever(self) -> None:
        """After the longest pause and the longest rest a job may try."""
        later_s = self.now_s + max(LONGEST_PAUSE_S, LONGEST_REST_S)
        assert self.circuits.block(KEY, later_s, untried=0) is None
        block = self.circuits.block(KEY, self.now_s, untried=0)
        if block is not None and block.code is ErrorCode.OUT_OF_CAPACITY:
            assert self.in_a_row >= FAILURES
            assert 0 < block.wait_s <= LONGEST_PAUSE_S


TestCircuits = CircuitMachine.TestCase
