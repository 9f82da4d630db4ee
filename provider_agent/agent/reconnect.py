"""What the end of a session means and how long to wait for the next try; pure, knows no socket.

The table of `docs/protocol.md` section 10 is `classify`. Whatever a coordinator says, it is asked again
within `LONGEST_WAIT_S`: nothing that can pass disables an agent for ever.
"""

import random
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import Enum

from provider_agent.protocol.frames import AuthFailed
from provider_agent.transport.dialling import DialError

REPLACED = 75
"""Exit code: another agent runs with this identity. systemd must not restart us into a fight."""

REJECTED = 78
"""Exit code: only the operator can help."""

UNKNOWN_IDENTITY = "unknown_identity"
"""The refusal of a coordinator that does not know us, or no more: its data may be gone."""

FIRST_WAIT_S = 1.0
CAP_S = 60.0
HEALTHY_AFTER_S = 60.0
"""A session that held so long proves that the way is good; a shorter one may be part of a login loop."""

TRIES_TO_RESUME = 4
"""While jobs wait for a new session, no wait is longer than this part of the time that they have left."""

AT_ONCE_S = (0.0, 0.0)
DEPLOY_S = (0.0, 5.0)
OPERATOR_DRAIN_S = 60.0
SLOW_S = (30.0, 60.0)
LONGEST_WAIT_S = 3600.0

GOING_AWAY = 1001
_TOO_MANY_REQUESTS, _UNAVAILABLE = 429, 503
_REFUSING_STATUS = frozenset({401, 403, 404})
_MAX_REASON = 200


class Kind(Enum):
    """What an end was; the value is what logs and metrics call it."""

    NETWORK = "network"
    DIAL_FAILED = "dial_failed"
    REFUSED = "refused"
    BUSY = "busy"
    DEPLOY = "drain_deploy"
    OPERATOR_DRAIN = "drain_operator"
    HEARTBEAT_LOST = "heartbeat_lost"
    PROTOCOL_ERROR = "protocol_error"
    AUTH_POSTPONED = "auth_postponed"
    AUTH_REJECTED = "auth_rejected"
    REVOKED = "revoked"
    REPLACED = "replaced"


@dataclass(frozen=True, slots=True)
class SessionEnd:
    """How one try ended, from the dial on.

    Attributes:
        code: of the close frame; None when there was none.
        reason: of the close frame, or in our words.
        by_us: whether this side ended it.
        accepted: whether the coordinator had let us in.
        lasted_s: from the open socket on; the connector measures it.
        auth_failed: the coordinator's refusal, if that was the end.
        error: why there was no socket, if there was none.
    """

    code: int | None = None
    reason: str = ""
    by_us: bool = False
    accepted: bool = False
    lasted_s: float = 0.0
    auth_failed: AuthFailed | None = None
    error: DialError | None = None

    @property
    def was_healthy(self) -> bool:
        return self.accepted and self.lasted_s >= HEALTHY_AFTER_S


@dataclass(frozen=True, slots=True)
class Verdict:
    """What follows from an end.

    Attributes:
        why: one sentence for the log.
        wait_s: least and most to wait; None leaves it to the back-off alone.
        in_earnest: the back-off skips its quick first try.
        exit_code: stop for good, with this; None to go on.
    """

    kind: Kind
    why: str
    wait_s: tuple[float, float] | None = None
    in_earnest: bool = False
    exit_code: int | None = None


def classify(end: SessionEnd) -> Verdict:
    """What an end means: the table of the protocol, section 10.

    1. There was no socket.
    2. The handshake was refused.
    3. A close code of ours.
    4. 1001 with a reason of ours.
    5. Anything else is the network.
    """
    if end.error is not None:  # 1
        return _classify_dial(end.error)
    if end.auth_failed is not None:  # 2
        return _classify_refusal(end.auth_failed)
    why = _why(end)
    if ours := _CLOSE_CODES.get(end.code or 0):  # 3
        return replace(ours, why=f"{why}; {ours.why}" if ours.why else why)
    if end.code == GOING_AWAY and end.reason.startswith("drain:deploy"):  # 4
        return Verdict(Kind.DEPLOY, why, DEPLOY_S)
    if end.code == GOING_AWAY and end.reason.startswith("drain:operator"):
        asked = re.search(r"retry_after_ms=(\d{1,12})", end.reason)
        return Verdict(
            Kind.OPERATOR_DRAIN, why, _at_least(int(asked[1]) / 1000 if asked else OPERATOR_DRAIN_S)
        )
    return Verdict(Kind.NETWORK, why)  # 5


def outlived_by_jobs(end: SessionEnd) -> bool:
    """Whether the jobs of an accepted session that ended so wait for the next one (protocol.md 7).

    They do after whatever may be an accident. They do not where nobody will ask for them again:

    1. We are leaving, or have broken off because of what the coordinator said: it counts them as lost.
    2. This identity is revoked, or lives on in another process.
    3. An operator took this agent out.
    """
    if end.by_us and end.code is not None:  # 1
        return False
    return classify(end).kind not in _WITHOUT_RETURN  # 2, 3


def _classify_dial(error: DialError) -> Verdict:
    """A refused upgrade may be a proxy in the middle of a deploy: we slow down and never give up."""
    if error.http_status in (_TOO_MANY_REQUESTS, _UNAVAILABLE):
        wait_s = None if error.retry_after_s is None else _at_least(error.retry_after_s)
        return Verdict(Kind.BUSY, error.message, wait_s, in_earnest=True)
    if error.http_status in _REFUSING_STATUS:
        return Verdict(Kind.REFUSED, error.message, SLOW_S)
    return Verdict(Kind.DIAL_FAILED, error.message)


def _classify_refusal(frame: AuthFailed) -> Verdict:
    code = f" ({_short(frame.code)})" if frame.code else ""
    why = f"the coordinator refused this agent{code}: {_short(frame.reason)}"
    if not frame.retry:
        remedy = _REMEDIES.get(frame.code or "", "ask the coordinator's operator")
        return Verdict(Kind.AUTH_REJECTED, f"{why}; {remedy}", exit_code=REJECTED)
    wait_s = None if frame.retry_after_ms is None else _at_least(frame.retry_after_ms / 1000)
    return Verdict(Kind.AUTH_POSTPONED, why, wait_s, in_earnest=True)


def _at_least(wait_s: float) -> tuple[float, float]:
    """The wait that was asked for, spread by a tenth so that a fleet does not return as one."""
    least_s = min(max(wait_s, 0.0), LONGEST_WAIT_S)
    return least_s, least_s * 1.1


def _why(end: SessionEnd) -> str:
    reason = f": {_short(end.reason)}" if end.reason else ""
    who = "we" if end.by_us else "the coordinator"
    if end.code is None:
        return f"the connection was {'given up' if end.by_us else 'lost'}{reason}"
    return f"{who} closed the session with {end.code}{reason}"


def _short(text: str | None) -> str:
    return "".join(letter if letter.isprintable() else " " for letter in text or "")[:_MAX_REASON]


_ASK_FOR_A_CODE = (
    "ask the coordinator's operator for a new enrolment code, and set coordinator.enrollment_code, or put it "
    "into the file that enrollment_code_file names"
)
_REMEDIES = {
    UNKNOWN_IDENTITY: _ASK_FOR_A_CODE,
    "enrollment_invalid": _ASK_FOR_A_CODE,
    "enrollment_expired": _ASK_FOR_A_CODE,
    "revoked": (
        "to be let in anew, ask its operator for a new enrolment code, and set another identity.key_path"
    ),
    "bad_signature": "check that coordinator.url names the host by which the coordinator knows itself",
    "protocol_unsupported": "update the agent",
}
_TWO_AGENTS = "stop the other agent that uses the same identity file, or give this one its own"
_CLOSE_CODES: Mapping[int, Verdict] = {
    4001: Verdict(Kind.REVOKED, _REMEDIES["revoked"], exit_code=REJECTED),
    4002: Verdict(Kind.REPLACED, _TWO_AGENTS, exit_code=REPLACED),
    4003: Verdict(Kind.PROTOCOL_ERROR, "", in_earnest=True),
    4008: Verdict(Kind.HEARTBEAT_LOST, "", AT_ONCE_S),
}
"""What follows from our close codes; in place of `why` stands the remedy."""


_WITHOUT_RETURN = frozenset({Kind.REVOKED, Kind.REPLACED, Kind.OPERATOR_DRAIN})


class Backoff:
    """How long to wait before the next try.

    The ceilings are 1, 2, 4 … 60 s and the wait is anywhere below (after the first try from 1 s on), so
    that a fleet that lost its coordinator in one moment comes back spread out. Only a healthy session
    resets them: who is let in and thrown out at once slows down like anybody else.

    Attributes:
        failures: tries in a row that came to nothing.
    """

    def __init__(self, source: random.Random) -> None:
        self.failures = 0
        self._source = source

    def next_wait_s(self, verdict: Verdict, *, after_healthy: bool, jobs_wait_s: float = 0.0) -> float:
        """The wait after this end; a wait that the coordinator named is kept, and counts as a try.

        For `jobs_wait_s` there is work that a new session would save. Several tries fall into that time:
        neither our own doubling nor our guess about a refused upgrade (a proxy may be in the middle of a
        deploy) keeps us away for more than a part of it.
        """
        if after_healthy:
            self.failures = 0
        is_first = self.failures == 0 and not verdict.in_earnest
        self.failures += 1
        cap_s = max(FIRST_WAIT_S, jobs_wait_s / TRIES_TO_RESUME) if jobs_wait_s > 0 else CAP_S
        if verdict.wait_s is None or (verdict.kind is Kind.REFUSED and jobs_wait_s > 0):
            return self._jittered_s(cap_s, is_first=is_first)
        named_s = self._source.uniform(*verdict.wait_s)
        return named_s if is_first else max(named_s, self._jittered_s(cap_s, is_first=False))

    def _jittered_s(self, cap_s: float, *, is_first: bool) -> float:
        if is_first:
            return self._source.uniform(0.0, FIRST_WAIT_S)
        doublings = min(max(self.failures - 1, 1), 16)
        ceiling_s = min(CAP_S, cap_s, FIRST_WAIT_S * 2.0**doublings)
        return self._source.uniform(FIRST_WAIT_S, ceiling_s)
