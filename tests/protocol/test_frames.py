"""What frames promise beyond their fields."""

import msgspec
import pytest
from msgspec import Raw

from provider_agent.protocol import frames as f
from tests.protocol.examples import EXAMPLES


@pytest.mark.parametrize("each", EXAMPLES, ids=lambda each: each.name)
def test_the_type_on_the_wire_is_the_class_in_snake_case(each: object) -> None:
    """One rule for all of them."""
    frame = each.frame  # type: ignore[attr-defined]
    tag = frame.__struct_config__.tag

    assert "".join(part.capitalize() for part in tag.split("_")) == type(frame).__name__


@pytest.mark.parametrize("each", EXAMPLES, ids=lambda each: each.name)
def test_a_frame_cannot_be_changed(each: object) -> None:
    """What was received is what everybody sees."""
    frame = each.frame  # type: ignore[attr-defined]
    with pytest.raises(AttributeError):
        setattr(frame, msgspec.structs.fields(frame)[0].name, None)


@pytest.mark.parametrize(
    ("fields", "path"),
    [
        ({}, "/v1/chat/completions"),
        ({"format": f.Format.ANTHROPIC}, "/v1/messages"),
        ({"endpoint": "/v1/embeddings"}, "/v1/embeddings"),
        ({"endpoint": "/api/chat", "format": f.Format.ANTHROPIC}, "/api/chat"),
    ],
)
def test_a_job_knows_its_path(fields: dict[str, object], path: str) -> None:
    """Protocol 2 says only the format."""
    job = f.Job(job_id="j", model_id="m", request=Raw(b"{}"), **fields)  # type: ignore[arg-type]

    assert job.path == path


def test_tokens_are_spelled_both_ways() -> None:
    """Both are in use in the field."""
    assert f.Tokens.of(1, None) == f.Tokens(input=1, output=None, input_tokens=1, output_tokens=None)
