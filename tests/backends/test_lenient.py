"""JSON that a strict reader refuses."""

import pytest

from provider_agent.backends.lenient import is_json, loads


@pytest.mark.parametrize(
    ("data", "value", "by_the_letter"),
    [
        (b'{"a":[1,"x"]}', {"a": [1, "x"]}, True),
        (rb'{"a":"\ud83d"}', {"a": "\ud83d"}, True),
        (b'{"a":"\xff"}', {"a": "\udcff"}, False),
        (b'{"a":"\x01"}', {"a": "\x01"}, False),
        (b'\xef\xbb\xbf{"a":1}', {"a": 1}, False),
        (b'{"a":Infinity}', {"a": float("inf")}, False),
    ],
)
def test_what_can_be_made_of_it_is(data: bytes, value: object, *, by_the_letter: bool) -> None:
    """Whether it is JSON by the letter is another question."""
    assert loads(data) == value
    assert is_json(data) is by_the_letter


@pytest.mark.parametrize("data", [b"", b"{", b'{"a":}', b"[" * 100_000, b"1" * 5000])
def test_the_rest_is_none(data: bytes) -> None:
    """One error, however it is wrong."""
    with pytest.raises(ValueError, match=r"."):
        loads(data)

    assert not is_json(data)
