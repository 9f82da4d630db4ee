"""How families write errors."""

import pytest

from provider_agent.backends import facts
from provider_agent.simulator.forms import to_json
from provider_agent.simulator.style import (
    Error,
    anthropic_error,
    detail_error,
    flat_error,
    koboldcpp_error,
    llamacpp_error,
    openai_error,
    text_error,
    tgi_error,
    vllm_error,
)

IN_STREAMS = [anthropic_error, flat_error, llamacpp_error, openai_error, text_error, tgi_error, vllm_error]


def test_errors_have_a_message_a_type_and_the_status() -> None:
    """By whose fault it is."""
    types = {status: openai_error(status, "no")["error"]["type"] for status in (400, 404, 418, 429, 500)}

    assert types == {
        400: "invalid_request_error",
        404: "not_found_error",
        418: "invalid_request_error",
        429: "rate_limit_error",
        500: "server_error",
    }


@pytest.mark.parametrize("error", [*IN_STREAMS, detail_error, koboldcpp_error])
@pytest.mark.parametrize("status", [400, 404, 429, 500, 503])
def test_each_family_keeps_the_sentence(error: Error, status: int) -> None:
    """Wherever it puts it."""
    assert b'"it is so"' in to_json(error(status, "it is so"))


@pytest.mark.parametrize("error", IN_STREAMS)
def test_an_error_inside_a_stream_can_be_told_from_an_answer(error: Error) -> None:
    """Whatever its shape."""
    said = facts.read(to_json(error(500, "it broke")))

    assert said is not None
    assert said.failure is not None


def test_llamacpp_says_that_it_is_unavailable_while_it_loads() -> None:
    """With a type of its own."""
    assert llamacpp_error(503, "Loading model")["error"]["type"] == "unavailable_error"
