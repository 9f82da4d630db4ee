"""Secrets and what is kept of them."""

import base64

import pytest

from provider_agent.coordinator.store.base import (
    ENROLLMENT_PREFIX,
    KEY_PREFIX,
    NameTaken,
    Refusal,
    Token,
    digest,
    id_of,
    new_secret,
    provider_id_of,
)


@pytest.mark.parametrize("prefix", [ENROLLMENT_PREFIX, KEY_PREFIX])
def test_a_secret_has_256_random_bits_after_its_prefix(prefix: str) -> None:
    """Field note 48: nobody guesses one."""
    secret = new_secret(prefix)

    body = secret.removeprefix(prefix)
    assert len(base64.urlsafe_b64decode(body + "=")) == 32
    assert new_secret(prefix) != secret


def test_an_id_says_which_secret_but_not_the_secret() -> None:
    """It is a part of the hash."""
    secret = new_secret(KEY_PREFIX)

    assert digest(secret).hex().startswith(id_of(digest(secret)))
    assert id_of(digest(secret)) not in secret


def test_what_is_no_text_has_a_digest_all_the_same() -> None:
    """A header may hold any bytes; they are a wrong key, not an error."""
    assert len(digest("sk-pa-\udcff")) == 32


def test_a_provider_id_follows_from_its_key() -> None:
    """A new database knows its agents by the same names."""
    assert provider_id_of(b"a" * 32) == provider_id_of(b"a" * 32)
    assert provider_id_of(b"a" * 32) != provider_id_of(b"b" * 32)


@pytest.mark.parametrize(
    ("token", "refusal"),
    [
        (Token("id", "", 0, 10), None),
        (Token("id", "", 0, 9), Refusal.EXPIRED),
        (Token("id", "", 0, 9, provider_id="p-1"), Refusal.USED),
        (Token("id", "", 0, 9, provider_id="p-1", revoked_at_s=1), Refusal.REVOKED),
    ],
)
def test_what_was_decided_is_said_before_what_time_did(token: Token, refusal: Refusal | None) -> None:
    """Revoked, then used, then expired."""
    assert token.refusal(9) is refusal


def test_a_taken_name_names_the_remedy() -> None:
    """One sentence."""
    assert str(NameTaken("alice")) == (
        "there is a key named 'alice' already; choose another name, or revoke that one first"
    )
