"""Whose turn it is: the table, and two links back to back."""

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from provider_agent.protocol import frames as f
from provider_agent.protocol.errors import LocalTurnError, RemoteTurnError, TurnError
from provider_agent.protocol.link import TRANSITIONS, Link, Role, State
from tests.fakes.peers import handshake, serving_link
from tests.protocol.examples import EXAMPLES

A, C = Role.AGENT, Role.COORDINATOR
FRAMES = {type(each.frame): each.frame for each in EXAMPLES}


class LinkPair:
    """Both ends of one conversation: what one sends the other receives."""

    def __init__(self) -> None:
        self.ends = {role: Link(role) for role in Role}

    def say(self, sender: Role, frame: f.Frame) -> None:
        self.ends[sender].send(frame)
        self.ends[sender.peer].receive(frame)


def pair_in(state: State) -> LinkPair:
    pair = LinkPair()
    for end in pair.ends.values():
        end.state = state
    return pair


def test_a_whole_handshake_ends_in_serving_on_both_sides() -> None:
    """Challenge, response, verdict, capabilities."""
    pair = LinkPair()
    for sender, frame in handshake():
        pair.say(sender, frame)

    assert {end.state for end in pair.ends.values()} == {State.SERVING}
    assert {end.protocol for end in pair.ends.values()} == {3}


def test_serving_takes_jobs_and_answers_for_ever() -> None:
    """Payload leaves the state as it is."""
    pair = pair_in(State.SERVING)
    answer: list[type[f.Frame]] = [f.JobStarted, f.JobChunk, f.JobChunk, f.JobDone, f.JobError, f.Heartbeat]
    ask: list[type[f.Frame]] = [f.Job, f.JobCancel, f.CapabilitiesOk, f.Drain]
    rounds: list[tuple[Role, list[type[f.Frame]]]] = [(C, ask), (A, answer), (A, [f.Capabilities]), (C, ask)]
    for sender, kinds in rounds:
        for kind in kinds:
            pair.say(sender, FRAMES[kind])

    assert {end.state for end in pair.ends.values()} == {State.SERVING}


@pytest.mark.parametrize("kind", FRAMES, ids=lambda kind: kind.__name__)
@pytest.mark.parametrize("sender", Role)
@pytest.mark.parametrize("state", State)
def test_both_ends_judge_every_step_alike(state: State, sender: Role, kind: type[f.Frame]) -> None:
    """In each state each frame of each side is either a step for both, or out of turn for both."""
    sending, receiving = Link(sender), Link(sender.peer)
    sending.state = receiving.state = state
    following = TRANSITIONS[state][sender].get(kind)
    if following is not None:
        sending.send(FRAMES[kind])
        receiving.receive(FRAMES[kind])

        assert sending.state is receiving.state is following
        return
    with pytest.raises(LocalTurnError) as ours:
        sending.send(FRAMES[kind])
    with pytest.raises(RemoteTurnError) as theirs:
        receiving.receive(FRAMES[kind])

    assert str(ours.value) == str(theirs.value)
    assert sending.state is receiving.state is state


def test_an_error_of_turn_names_who_what_and_when() -> None:
    """The sentence is fit for a close frame."""
    with pytest.raises(TurnError) as caught:
        Link(C).receive(FRAMES[f.Heartbeat])

    assert str(caught.value) == "the agent may not send heartbeat while a challenge is due"
    assert (caught.value.sender, caught.value.frame_type) == ("agent", "heartbeat")


def test_only_the_agent_or_only_the_coordinator_may_say_each_frame() -> None:
    """No frame is in the table for both sides, and each is somewhere in it."""
    said = {role: {kind for turns in TRANSITIONS.values() for kind in turns[role]} for role in Role}

    assert said[A] == {*f.FromAgent.__args__, f.BinaryChunk}
    assert said[C] == set(f.FromCoordinator.__args__)


def test_a_frame_that_says_a_protocol_moves_the_conversation_on() -> None:
    """So a frame that leaves the state as it is need not be asked for one."""
    speaking = (f.AuthChallenge, f.AuthResponse, f.AuthOk)

    for state, turns in TRANSITIONS.items():
        for following in turns.values():
            assert all(following.get(kind) is not state for kind in speaking)


def test_a_rejected_session_has_no_future() -> None:
    """Nothing follows a rejection."""
    assert TRANSITIONS[State.REJECTED] == {A: {}, C: {}}


def test_every_state_can_be_reached() -> None:
    """No line of the table is dead."""
    reached, before = {State.CONNECTED}, set[State]()
    while reached != before:
        before = set(reached)
        for state in before:
            for turns in TRANSITIONS[state].values():
                reached |= set(turns.values())

    assert reached == set(State)


@pytest.mark.parametrize(
    ("challenge", "response", "spoken"),
    [(3, 3, 3), (2, 2, 2), (3, 2, 2), (2, 3, 2), (4, 3, 3), (3, 9, 3), (0, 3, 2), (1, 1, 2)],
)
def test_the_lower_of_both_dialects_is_spoken(challenge: int, response: int, spoken: int) -> None:
    """Each says its highest; nobody speaks less than protocol 2 or more than we know."""
    pair = LinkPair()
    pair.say(C, f.AuthChallenge(nonce="n", protocol=challenge))
    pair.say(A, f.AuthResponse(pubkey="p", signature="s", agent_version="1", protocol=response))

    assert {end.protocol for end in pair.ends.values()} == {spoken}


def test_a_peer_that_does_not_say_speaks_protocol_2() -> None:
    """As the peers in the field do."""
    link = Link(A)
    link.receive(f.AuthChallenge(nonce="n"))

    assert link.protocol == 2


def test_a_link_shows_its_condition() -> None:
    """`repr` reads like the error sentences."""
    assert repr(serving_link(C, 2)) == "<Link coordinator, protocol 2, while jobs are served>"


class Conversation(RuleBasedStateMachine):
    """Random frames of both sides: the two ends never disagree."""

    def __init__(self) -> None:
        super().__init__()
        self.pair = LinkPair()

    @rule(sender=st.sampled_from(Role), kind=st.sampled_from(sorted(FRAMES, key=lambda kind: kind.__name__)))
    def say(self, sender: Role, kind: type[f.Frame]) -> None:
        try:
            self.pair.ends[sender].send(FRAMES[kind])
        except LocalTurnError:
            try:
                self.pair.ends[sender.peer].receive(FRAMES[kind])
            except RemoteTurnError:
                return
            raise AssertionError("one side takes what the other may not send") from None
        self.pair.ends[sender.peer].receive(FRAMES[kind])

    @invariant()
    def both_ends_agree(self) -> None:
        agent, coordinator = self.pair.ends[A], self.pair.ends[C]
        assert (agent.state, agent.protocol) == (coordinator.state, coordinator.protocol)


TestConversation = Conversation.TestCase
TestConversation.settings = settings(max_examples=50, deadline=None)
