"""Who may connect as an agent."""

import base64
from dataclasses import dataclass, field

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from provider_agent.coordinator.enrollment import (
    FAILURES_WITHIN_S,
    MAX_FAILURES,
    MAX_REMOTES,
    Accepted,
    Enrollment,
    Failures,
    Rejected,
    is_anybodys,
)
from provider_agent.coordinator.store.base import StoreError, digest, provider_id_of
from provider_agent.coordinator.store.memory import MemoryStore
from provider_agent.protocol.errors import RemoteTurnError
from provider_agent.protocol.frames import AuthChallenge, AuthResponse, Scheme
from provider_agent.protocol.link import Link, Role
from tests.fakes.clocks import ManualClock
from tests.fakes.signers import Signer
from tests.fakes.stores import BrokenStore

HOST = "coordinator.example"
CODE = "pa-enroll-1"
EXPIRES_AT_S = 2000


@dataclass
class Door:
    """An enrolment with one valid code, as the WebSocket door uses it."""

    clock: ManualClock = field(default_factory=ManualClock)
    store: MemoryStore = field(default_factory=MemoryStore)
    dev: bool = False
    allow_legacy_auth: bool = False

    async def open(self) -> "Door":
        await self.store.add_token(digest(CODE), "den", 0, EXPIRES_AT_S)
        self.enrollment = Enrollment(
            self.store,
            server_names=(HOST, "localhost"),
            dev=self.dev,
            allow_legacy_auth=self.allow_legacy_auth,
            now=self.clock,
            clock=self.clock,
        )
        return self

    async def meet(
        self,
        signer: Signer,
        *,
        code: str | None = None,
        host: str = HOST,
        scheme: Scheme = Scheme.BOUND,
        remote: str = "203.0.113.1",
    ) -> Accepted | Rejected:
        nonce = self.enrollment.challenge()
        return await self.enrollment.verify(
            nonce, signer.answer(nonce, code=code, scheme=scheme), host, remote
        )


async def test_a_code_lets_an_agent_in_and_from_then_on_its_key_does() -> None:
    """The ordinary case: the code is needed once."""
    door, signer = await Door().open(), Signer()
    expected = Accepted(provider_id_of(signer.public_key), name="den")

    assert await door.meet(signer, code=CODE) == expected
    assert await door.meet(signer) == expected


async def test_a_known_key_is_let_in_whatever_code_it_shows() -> None:
    """An agent may keep a used code in its configuration."""
    door, signer = await Door().open(), Signer()
    await door.meet(signer, code=CODE)

    assert isinstance(await door.meet(signer, code=CODE), Accepted)
    assert isinstance(await door.meet(signer, code="nonsense"), Accepted)


async def test_an_unknown_key_without_a_code_is_turned_away() -> None:
    """For good: trying again unchanged cannot help."""
    verdict = await (await Door().open()).meet(Signer())

    assert isinstance(verdict, Rejected)
    assert (verdict.code, verdict.retry) == ("unknown_identity", False)


async def test_a_wrong_code_is_invalid() -> None:
    """And enrols nobody."""
    door = await Door().open()

    verdict = await door.meet(Signer(), code="pa-enroll-2")

    assert verdict == Rejected("enrollment_invalid", "this enrolment code is not known here")
    assert await door.store.providers() == []


async def test_a_code_cannot_be_replayed_by_another_agent() -> None:
    """Field note 48: it is used up by the first key that shows it."""
    door = await Door().open()
    await door.meet(Signer(), code=CODE)

    verdict = await door.meet(Signer(), code=CODE)

    assert verdict == Rejected("enrollment_invalid", "this enrolment code has been used")


async def test_an_old_code_is_expired() -> None:
    """By the wall clock."""
    door = await Door(clock=ManualClock(EXPIRES_AT_S)).open()

    verdict = await door.meet(Signer(), code=CODE)

    assert verdict == Rejected("enrollment_expired", "this enrolment code has expired")


async def test_a_revoked_agent_is_turned_away() -> None:
    """Also with a fresh code."""
    door, signer = await Door().open(), Signer()
    await door.store.enroll(signer.public_key, "", 0)
    await door.store.revoke_provider(provider_id_of(signer.public_key), 1)

    verdict = await door.meet(signer, code=CODE)

    assert isinstance(verdict, Rejected)
    assert (verdict.code, verdict.retry) == ("revoked", False)


async def test_in_dev_mode_any_agent_may_enrol() -> None:
    """Without a code, but not without a signature."""
    door, signer = await Door(dev=True).open(), Signer()

    assert await door.meet(signer) == Accepted(provider_id_of(signer.public_key))
    assert isinstance(await door.meet(Signer(host="localhost"), host=HOST), Rejected)


async def test_a_signature_made_for_another_host_is_worthless_here() -> None:
    """Field note 42: a hostile server that relays our challenge cannot use the agent's answer."""
    door, signer = await Door().open(), Signer(host="hostile.example")
    await door.store.enroll(signer.public_key, "", 0)

    relayed = await door.meet(signer, host=HOST)

    assert isinstance(relayed, Rejected)
    assert (relayed.code, relayed.retry) == ("bad_signature", False)


async def test_a_relay_cannot_choose_the_host_that_the_signature_is_checked_for() -> None:
    """Field note 42: the Host header is the relay's, so only names of our own count."""
    door, signer = await Door().open(), Signer(host="hostile.example")
    await door.store.enroll(signer.public_key, "", 0)

    relayed = await door.meet(signer, host="hostile.example")

    assert isinstance(relayed, Rejected)
    assert relayed.code == "bad_signature"
    assert relayed.reason.endswith("have its operator start it with --server-name hostile.example")
    assert relayed.retry


@pytest.mark.parametrize("header", ["coordinator.example:8700", "Coordinator.Example", HOST])
async def test_the_host_header_is_read_as_the_agent_signed(header: str) -> None:
    """Lower case, without the port."""
    assert isinstance(await (await Door().open()).meet(Signer(), host=header, code=CODE), Accepted)


async def test_an_overheard_answer_is_of_no_use_on_another_connection() -> None:
    """Field note 48: each connection has its own nonce."""
    door, signer = await Door(dev=True).open(), Signer()
    nonce = door.enrollment.challenge()
    overheard = signer.answer(nonce)
    assert isinstance(await door.enrollment.verify(nonce, overheard, HOST, ""), Accepted)

    replayed = await door.enrollment.verify(door.enrollment.challenge(), overheard, HOST, "")

    assert isinstance(replayed, Rejected)
    assert replayed.code == "bad_signature"


def test_a_challenge_can_be_answered_once() -> None:
    """The order of turns sees to it; the nonce is 32 random bytes."""
    link, response = Link(Role.COORDINATOR), Signer().answer(b"n" * 32)
    link.send(AuthChallenge(nonce="", protocol=3))
    link.receive(response)

    with pytest.raises(RemoteTurnError):
        link.receive(response)
    enrollment = Enrollment(MemoryStore(), server_names=(HOST,))
    assert len({enrollment.challenge() for _ in range(10)}) == 10
    assert len(enrollment.challenge()) == 32


async def test_the_unbound_signature_is_refused_by_default() -> None:
    """Field note 42: it could be a relayed one."""
    door = await Door().open()

    verdict = await door.meet(Signer(), code=CODE, scheme=Scheme.LEGACY)

    assert isinstance(verdict, Rejected)
    assert (verdict.code, verdict.retry) == ("protocol_unsupported", False)
    assert door.enrollment.schemes == ("ed25519-bound",)


async def test_the_unbound_signature_is_taken_where_the_operator_allows_it() -> None:
    """It is offered, then; it says nothing of the host."""
    door = await Door(allow_legacy_auth=True).open()

    assert door.enrollment.schemes == ("ed25519-bound", "ed25519")
    verdict = await door.meet(Signer("x"), code=CODE, scheme=Scheme.LEGACY, host="anything")
    assert isinstance(verdict, Accepted)


async def test_an_older_protocol_is_not_spoken() -> None:
    """Protocol 2 is the lowest."""
    door = await Door().open()
    response = msgspec.structs.replace(Signer().answer(b""), protocol=1)

    verdict = await door.enrollment.verify(b"", response, HOST, "")

    assert isinstance(verdict, Rejected)
    assert verdict.code == "protocol_unsupported"


@pytest.mark.parametrize(
    ("pubkey", "signature", "reason"),
    [
        ("***", "", "pubkey is not valid base64"),
        (base64.b64encode(b"short").decode(), "", "pubkey has 5 bytes, not 32"),
        (base64.b64encode(b"k" * 32).decode(), "AAAA", "signature has 3 bytes, not 64"),
    ],
)
async def test_an_answer_that_cannot_be_read_is_a_bad_signature(
    pubkey: str, signature: str, reason: str
) -> None:
    """The reason says which part."""
    response = AuthResponse(
        pubkey=pubkey, signature=signature, agent_version="1", protocol=3, scheme="ed25519-bound"
    )

    verdict = await (await Door().open()).enrollment.verify(b"n" * 32, response, HOST, "")

    assert verdict == Rejected("bad_signature", reason)


@given(pubkey=st.binary(min_size=32, max_size=32), signature=st.binary(min_size=64, max_size=64))
async def test_no_made_up_key_and_signature_are_accepted(pubkey: bytes, signature: bytes) -> None:
    """Nor do they raise anything."""
    response = AuthResponse(
        pubkey=base64.b64encode(pubkey).decode(),
        signature=base64.b64encode(signature).decode(),
        agent_version="1",
        protocol=3,
        scheme="ed25519-bound",
    )
    enrollment = Enrollment(MemoryStore(), server_names=(HOST,), dev=True)

    assert isinstance(await enrollment.verify(b"n" * 32, response, HOST, ""), Rejected)


PRIME = 2**255 - 19
Y_OF_ORDER_8 = int.from_bytes(
    bytes.fromhex("26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05"), "little"
)
POINTS_OF_SMALL_ORDER = [
    (y | sign << 255).to_bytes(32, "little")
    for y in (0, 1, PRIME - 1, PRIME, PRIME + 1, Y_OF_ORDER_8, PRIME - Y_OF_ORDER_8)
    for sign in (0, 1)
]
"""Every way to spell a public key that needs no private one."""


@pytest.mark.parametrize("public_key", POINTS_OF_SMALL_ORDER, ids=bytes.hex)
async def test_a_key_that_anybody_could_sign_for_is_refused(public_key: bytes) -> None:
    """Else whoever shows one is the same agent, and none of them has proven anything."""
    door = await Door(dev=True).open()
    forged = AuthResponse(
        pubkey=base64.b64encode(public_key).decode(),
        signature=base64.b64encode((1).to_bytes(32, "little") + bytes(32)).decode(),
        agent_version="1",
        protocol=3,
        scheme="ed25519-bound",
    )

    verdicts = {await door.enrollment.verify(bytes([n]) * 32, forged, HOST, "") for n in range(32)}

    assert verdicts == {Rejected("bad_signature", "pubkey is one that anybody could sign for")}
    assert await door.store.providers() == []


def test_the_points_of_small_order_are_those_of_the_curve() -> None:
    """Doubled, a point of order 8 has y = 0, which is to say x² = -y² (RFC 8032, edwards25519)."""
    d = -121665 * pow(121666, -1, PRIME)

    assert (d * Y_OF_ORDER_8**4 + 2 * Y_OF_ORDER_8**2 - 1) % PRIME == 0
    assert not is_anybodys(Signer().public_key)


async def test_an_address_that_keeps_guessing_has_to_wait() -> None:
    """It is told for how long; a right code is not looked at either."""
    door = await Door().open()
    for _ in range(MAX_FAILURES):
        await door.meet(Signer(), code="wrong")

    held_up = await door.meet(Signer(), code=CODE)

    assert isinstance(held_up, Rejected)
    assert held_up.retry
    assert held_up.retry_after_ms is not None
    assert held_up.retry_after_ms >= FAILURES_WITHIN_S * 1000
    door.clock.advance(held_up.retry_after_ms / 1000)
    assert isinstance(await door.meet(Signer(), code=CODE), Accepted)


async def test_a_guessing_neighbour_does_not_hold_up_known_agents() -> None:
    """They may share one address behind a proxy; other addresses are not affected at all."""
    door, known = await Door().open(), Signer()
    await door.store.enroll(known.public_key, "", 0)
    for _ in range(MAX_FAILURES):
        await door.meet(Signer(), code="wrong")

    assert isinstance(await door.meet(known), Accepted)
    assert isinstance(await door.meet(Signer(), code=CODE, remote="203.0.113.2"), Accepted)


def test_failures_of_ever_new_addresses_take_bounded_memory() -> None:
    """The oldest ones are forgotten."""
    failures = Failures()
    for n in range(MAX_REMOTES + 10):
        failures.record(str(n), float(n))

    assert len(failures._times_s) == MAX_REMOTES


async def test_a_store_that_fails_turns_nobody_away() -> None:
    """The error goes up: a rejection would make the agent give up for good."""
    door = await Door(store=BrokenStore()).open()

    with pytest.raises(StoreError):
        await door.meet(Signer())
