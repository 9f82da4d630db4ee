"""What each API's clients are told by us is in the form that they read."""

import json
from typing import Any

import pytest

from provider_agent.coordinator.http.dialect import ANTHROPIC, OLLAMA, OPENAI, Dialect, dialect_of
from provider_agent.protocol.errors import RULES, ErrorCode

EACH = pytest.mark.parametrize("dialect", [OPENAI, ANTHROPIC, OLLAMA])


def said(dialect: Dialect, status: int, code: str | None = "any") -> Any:
    return json.loads(dialect.error(status, code, "why", "model"))


@pytest.mark.parametrize(
    ("dialect", "error"),
    [
        (
            OPENAI,
            {"error": {"message": "why", "type": "invalid_request_error", "param": "model", "code": "any"}},
        ),
        (ANTHROPIC, {"type": "error", "error": {"type": "invalid_request_error", "message": "why"}}),
        (OLLAMA, {"error": "why"}),
    ],
)
def test_an_error_has_the_form_of_its_api(dialect: Dialect, error: object) -> None:
    """The clients take it apart."""
    assert error == said(dialect, 400)


@EACH
def test_a_message_is_escaped_into_one_line(dialect: Dialect) -> None:
    """Else it could end the event or line that carries it."""
    assert b"\n" not in dialect.error(400, None, 'a\n\ndata: "x"', None)


def test_an_unknown_model_has_openais_code() -> None:
    """Clients look for it."""
    assert said(OPENAI, 404, ErrorCode.MODEL_NOT_LOADED.value)["error"]["code"] == "model_not_found"


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, "invalid_request_error"),
        (401, "authentication_error"),
        (403, "permission_error"),
        (404, "not_found_error"),
        (405, "invalid_request_error"),
        (413, "request_too_large"),
        (429, "rate_limit_error"),
        (500, "api_error"),
        (502, "api_error"),
        (503, "overloaded_error"),
        (504, "timeout_error"),
    ],
)
def test_errors_have_anthropics_types(status: int, kind: str) -> None:
    """Their names, where they have one for the case."""
    assert kind == said(ANTHROPIC, status)["error"]["type"]


@pytest.mark.parametrize("code", list(RULES))
def test_every_code_has_a_type_that_openais_clients_know(code: ErrorCode) -> None:
    """Whatever it is."""
    assert said(OPENAI, RULES[code].http_status, code.value)["error"]["type"].endswith("_error")


@pytest.mark.parametrize("kind", ["", "text/event-stream", "Text/Event-Stream; charset=utf-8"])
def test_events_are_a_stream_however_they_are_written(kind: str) -> None:
    """And presumed where nobody says."""
    assert OPENAI.may_be_stream(kind)
    assert not OPENAI.may_be_stream("application/json")


def test_a_bare_object_is_a_line_to_ollamas_clients() -> None:
    """It is all that they get where there is nothing to stream."""
    assert OLLAMA.may_be_stream("application/json; charset=utf-8")
    assert OLLAMA.may_be_stream("application/x-ndjson")
    assert not OLLAMA.may_be_stream("text/html")


def test_a_sign_of_life_is_no_part_of_a_line() -> None:
    """Clients decode each line: it may not be one, nor spoil the one that follows."""
    assert b"\n" not in OLLAMA.waiting
    assert json.loads(OLLAMA.waiting * 3 + b'{"done":true}') == {"done": True}


@pytest.mark.parametrize(
    ("path", "dialect"),
    [
        ("/v1/chat/completions", OPENAI),
        ("/v1/messages", ANTHROPIC),
        ("/v1/messages/count_tokens", ANTHROPIC),
        ("/api", OLLAMA),
        ("/api/made/up", OLLAMA),
        ("/apiary", OPENAI),
        ("/", OPENAI),
    ],
)
def test_a_path_tells_whose_clients_ask(path: str, dialect: Dialect) -> None:
    """Also where nothing is."""
    assert dialect_of(path) is dialect
