"""Whose turn it is and which dialect is spoken; knows frames, but neither bytes nor sockets.

Both peers hold a `Link` and judge both directions by the one table `TRANSITIONS`. Rules:

1. Sender and frame type decide the next state; a pair that is not listed is out of turn.
2. The table does not know which side we are.
3. REJECTED has no successors: the session ends there.
4. Frames that are only payload (chunks, heartbeats) leave the state as it is.
"""

from collections.abc import Mapping
from enum import Enum

from provider_agent.protocol import frames
from provider_agent.protocol.errors import LocalTurnError, RemoteTurnError, TurnError
from provider_agent.protocol.frames import PROTOCOL, Frame


class Role(Enum):
    """The two sides of a conversation."""

    AGENT = "agent"
    COORDINATOR = "coordinator"

    @property
    def peer(self) -> "Role":
        return Role.COORDINATOR if self is Role.AGENT else Role.AGENT


class State(Enum):
    """How far a session has come; the value reads after "while"."""

    CONNECTED = "a challenge is due"
    CHALLENGED = "an answer to the challenge is due"
    ANSWERED = "a verdict on the answer is due"
    ACCEPTED = "the first capabilities are due"
    SERVING = "jobs are served"
    REJECTED = "the session is rejected"


_A, _C, _S = Role.AGENT, Role.COORDINATOR, State

_SERVING: Mapping[Role, Mapping[type[Frame], State]] = {
    _C: {
        frames.CapabilitiesOk: _S.SERVING,
        frames.Job: _S.SERVING,
        frames.JobCancel: _S.SERVING,
        frames.JobAck: _S.SERVING,
        frames.Drain: _S.SERVING,
    },
    _A: {
        frames.Capabilities: _S.SERVING,
        frames.JobStarted: _S.SERVING,
        frames.JobChunk: _S.SERVING,
        frames.BinaryChunk: _S.SERVING,
        frames.JobDone: _S.SERVING,
        frames.JobError: _S.SERVING,
        frames.Heartbeat: _S.SERVING,
    },
}

TRANSITIONS: Mapping[State, Mapping[Role, Mapping[type[Frame], State]]] = {
    _S.CONNECTED: {_C: {frames.AuthChallenge: _S.CHALLENGED, frames.AuthFailed: _S.REJECTED}, _A: {}},
    _S.CHALLENGED: {_C: {frames.AuthFailed: _S.REJECTED}, _A: {frames.AuthResponse: _S.ANSWERED}},
    _S.ANSWERED: {_C: {frames.AuthOk: _S.ACCEPTED, frames.AuthFailed: _S.REJECTED}, _A: {}},
    _S.ACCEPTED: {
        _C: {frames.JobCancel: _S.ACCEPTED, frames.JobAck: _S.ACCEPTED, frames.Drain: _S.ACCEPTED},
        _A: {frames.Capabilities: _S.SERVING, frames.Heartbeat: _S.ACCEPTED},
    },
    _S.SERVING: _SERVING,
    _S.REJECTED: {_C: {}, _A: {}},
}


class Link:
    """One conversation, seen from one side.

    Attributes:
        role: the side that we are.
        state: how far the conversation has come.
        protocol: the dialect in use: the lower of what both sides speak, once both have said so.
    """

    def __init__(self, role: Role) -> None:
        self.role = role
        self.state = State.CONNECTED
        self.protocol = PROTOCOL

    def __repr__(self) -> str:
        return f"<Link {self.role.value}, protocol {self.protocol}, while {self.state.value}>"

    @property
    def state(self) -> State:
        return self._state

    @state.setter
    def state(self, state: State) -> None:
        # Each chunk is judged, and to hash an enum takes longer than all the rest of it: the rows of
        # the table are looked up once for a state.
        self._state = state
        self._we_may_send = TRANSITIONS[state][self.role]
        self._peer_may_send = TRANSITIONS[state][self.role.peer]

    def send(self, frame: Frame) -> None:
        """Note that we send this frame; raises LocalTurnError when it is not our turn."""
        following = self._we_may_send.get(type(frame))
        if following is None:
            raise self._out_of_turn(LocalTurnError, self.role, frame)
        if following is not self._state:
            self._go_on(following, frame)

    def receive(self, frame: Frame) -> None:
        """Note that the peer sent this frame; raises RemoteTurnError when it was not its turn."""
        following = self._peer_may_send.get(type(frame))
        if following is None:
            raise self._out_of_turn(RemoteTurnError, self.role.peer, frame)
        if following is not self._state:
            self._go_on(following, frame)

    def _go_on(self, following: State, frame: Frame) -> None:
        """Change the state; the frames that say a protocol are among those that do."""
        self.state = following
        if isinstance(frame, frames.AuthChallenge | frames.AuthResponse | frames.AuthOk):
            self.protocol = max(frames.LEGACY_PROTOCOL, min(self.protocol, frame.protocol))

    def _out_of_turn(self, error: type[TurnError], sender: Role, frame: Frame) -> TurnError:
        return error(sender.value, self.state.value, str(type(frame).__struct_config__.tag))
