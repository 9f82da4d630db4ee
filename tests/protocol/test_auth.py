"""Which bytes are signed, which scheme is chosen, and what a bad handshake says."""

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from provider_agent.protocol.auth import (
    MIN_NONCE_BYTES,
    AuthError,
    choose_scheme,
    decode_exact,
    signed_bytes,
)
from provider_agent.protocol.frames import Scheme

NONCE = bytes(range(32))


def test_the_bound_signature_covers_version_host_and_nonce() -> None:
    """Exactly these bytes, as any other implementation must make them."""
    assert signed_bytes(Scheme.BOUND, "coordinator.example", NONCE) == (
        b"provider-agent/3\0coordinator.example\0" + NONCE
    )


def test_the_legacy_signature_covers_the_bare_nonce() -> None:
    """As protocol 2 has it."""
    assert signed_bytes(Scheme.LEGACY, "coordinator.example", NONCE) == NONCE


def test_a_signature_for_one_host_is_worthless_at_another() -> None:
    """A relayed challenge yields other bytes (field note 42)."""
    assert signed_bytes(Scheme.BOUND, "evil.example", NONCE) != signed_bytes(
        Scheme.BOUND, "coordinator.example", NONCE
    )


@given(
    st.from_regex(r"[a-z0-9.-]{1,40}", fullmatch=True),
    st.from_regex(r"[a-z0-9.-]{1,40}", fullmatch=True),
    st.binary(min_size=32, max_size=64),
    st.binary(min_size=32, max_size=64),
)
def test_no_two_handshakes_share_their_bytes(one: str, other: str, first: bytes, second: bytes) -> None:
    """The border between host and nonce cannot be moved."""
    same = signed_bytes(Scheme.BOUND, one, first) == signed_bytes(Scheme.BOUND, other, second)

    assert same == ((one, first) == (other, second))


def test_case_and_alphabet_of_a_host_do_not_matter() -> None:
    """Both sides may have it from a person."""
    assert signed_bytes(Scheme.BOUND, "Coordinator.EXAMPLE", NONCE) == signed_bytes(
        Scheme.BOUND, "coordinator.example", NONCE
    )
    assert b"xn--bcher-kva.example" in signed_bytes(Scheme.BOUND, "Bücher.example", NONCE)


def test_what_is_no_host_name_is_refused_in_words() -> None:
    """Not with an error of the codec."""
    with pytest.raises(AuthError, match="is no host name"):
        signed_bytes(Scheme.BOUND, "ü" * 100, NONCE)


@pytest.mark.parametrize(
    ("offered", "allow_legacy", "chosen"),
    [
        (["ed25519-bound", "ed25519"], False, Scheme.BOUND),
        (["ed25519", "ed25519-bound"], True, Scheme.BOUND),
        (["new", "ed25519-bound"], False, Scheme.BOUND),
        (["ed25519"], True, Scheme.LEGACY),
    ],
)
def test_the_bound_scheme_is_used_whenever_it_is_offered(
    offered: list[str], *, allow_legacy: bool, chosen: Scheme
) -> None:
    """The operator's consent to the weak one does not make it the favourite."""
    assert choose_scheme(offered, allow_legacy=allow_legacy) is chosen


@pytest.mark.parametrize(
    ("offered", "sentence"),
    [
        (["ed25519"], "set coordinator.allow_legacy_auth = true"),
        (["rsa"], "no signature scheme"),
        ([], "no signature"),
    ],
)
def test_without_a_safe_scheme_the_operator_is_told_what_to_do(offered: list[str], sentence: str) -> None:
    """A bare nonce is not signed for a stranger (field note 42)."""
    with pytest.raises(AuthError, match=sentence):
        choose_scheme(offered, allow_legacy=False)


@given(st.binary(max_size=80))
def test_base64_of_the_right_length_comes_back(raw: bytes) -> None:
    """Whatever the bytes."""
    assert decode_exact(base64.b64encode(raw).decode(), "x", exactly=len(raw)) == raw


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("not base64!", "nonce is not valid base64"),
        ("YQ", "nonce is not valid base64"),
        ("YQ==\n", "nonce is not valid base64"),
        ("ü", "nonce is not valid base64"),
        (base64.b64encode(bytes(31)).decode(), "nonce has 31 bytes, fewer than 32"),
    ],
)
def test_a_bad_nonce_is_refused_in_words(text: str, sentence: str) -> None:
    """Too short a nonce could be guessed or repeated."""
    with pytest.raises(AuthError) as caught:
        decode_exact(text, "nonce", at_least=MIN_NONCE_BYTES)

    assert str(caught.value) == sentence


def test_a_key_of_another_length_is_refused() -> None:
    """Neither cut nor padded."""
    with pytest.raises(AuthError, match="pubkey has 33 bytes, not 32"):
        decode_exact(base64.b64encode(bytes(33)).decode(), "pubkey", exactly=32)
