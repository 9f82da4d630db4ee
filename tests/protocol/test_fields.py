"""What may stand in a field, and what may not."""

import msgspec
import pytest

from provider_agent.protocol import fields


@pytest.mark.parametrize(
    ("kind", "good", "bad"),
    [
        (fields.JobId, "~ a", ""),
        (fields.JobId, "a" * 128, "a" * 129),
        (fields.JobId, "a", "a\n"),
        (fields.Name, "é", ""),
        (fields.Count, 2**53, 2**53 + 1),
        (fields.Milliseconds, 1, 0),
        (fields.U32, 2**32 - 1, 2**32),
        (fields.ChunkNumber, -1, -2),
    ],
)
def test_each_kind_has_its_bounds(kind: object, good: object, bad: object) -> None:
    """The last value that is allowed, and the first that is not."""
    assert msgspec.convert(good, kind) == good

    with pytest.raises(msgspec.ValidationError):
        msgspec.convert(bad, kind)


def test_a_part_is_written_whole() -> None:
    """Null included: a reader need not know any default."""

    class Example(fields.Part, frozen=True, kw_only=True):
        known: int = 0
        unknown: int | None = None

    assert msgspec.json.encode(Example()) == b'{"known":0,"unknown":null}'
