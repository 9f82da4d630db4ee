"""A body with some of its members changed, all else verbatim."""

import pytest
from msgspec import Raw

from provider_agent.backends.request import edited, without


def test_what_is_not_edited_stays_verbatim() -> None:
    """A large number, and a text with escapes."""
    body = b'{"a":1.0000000000000000001,"b":"\\u0041","n":2}'

    assert edited(body, lambda members: members.update(n=Raw(b"3"))) == body.replace(b'"n":2', b'"n":3')
    assert without(body, "n") == body.replace(b',"n":2', b"")


@pytest.mark.parametrize("body", [b"[1]", b"no JSON", b"\xff", b"[" * 5000])
def test_what_is_no_object_stays(body: bytes) -> None:
    """Whoever prepares the request refuses it."""
    assert edited(body, lambda members: members.clear()) == body
