"""Which error a status means, and what of an engine's words may pass."""

import json
import time
from datetime import UTC, datetime

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from provider_agent.backends.base import (
    AuthRejected,
    BackendError,
    BackendFailed,
    BackendLoading,
    BadRequest,
    EndpointUnsupported,
    ModelNotFound,
    RateLimited,
    RequestTooLarge,
)
from provider_agent.backends.failures import MAX_MESSAGE_BYTES, in_answer, of_status, retry_after_ms, sanitise

NOW = datetime(2026, 8, 21, 12, 0, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("status", "kind", "code"),
    [
        (400, BadRequest, "bad_request"),
        (401, AuthRejected, "auth_rejected_by_backend"),
        (403, AuthRejected, "auth_rejected_by_backend"),
        (404, ModelNotFound, "model_not_loaded"),
        (405, EndpointUnsupported, "unsupported_endpoint"),
        (413, RequestTooLarge, "request_too_large"),
        (418, BadRequest, "bad_request"),
        (422, BadRequest, "bad_request"),
        (429, RateLimited, "rate_limited"),
        (500, BackendFailed, "backend_error"),
        (501, EndpointUnsupported, "unsupported_endpoint"),
        (502, BackendFailed, "backend_error"),
        (503, BackendLoading, "backend_loading"),
        (302, BackendFailed, "backend_error"),
    ],
)
def test_the_status_decides_and_no_word_of_the_message(
    status: int, kind: type[BackendError], code: str
) -> None:
    """Field note 30."""
    error = of_status(status, body=b'{"error":{"message":"401 model not found, rate limit"}}', now=NOW)

    assert type(error) is kind
    assert error.code == code
    assert error.http_status == status


@pytest.mark.parametrize(
    "body",
    [
        {"error": {"message": "max_tokens is too large", "code": 400}},
        {"error": "max_tokens is too large"},
        {"object": "error", "message": "max_tokens is too large"},
        {"detail": "max_tokens is too large"},
        {"detail": [{"loc": ["body"], "msg": "max_tokens is too large", "input": "my prompt"}]},
    ],
)
def test_the_engines_words_are_kept_for_a_bad_request(body: object) -> None:
    """Field note 30: wherever the family puts them, so that the client can mend it."""
    assert of_status(400, body=json.dumps(body).encode(), now=NOW).message == "max_tokens is too large"


@pytest.mark.parametrize("unit", ['{"error":', "[", '[{"detail":'])
def test_words_wrapped_without_end_are_none(unit: str) -> None:
    """At no depth is it a defect of ours, which would end the job."""
    ends = unit.replace("{", "}").replace("[", "]").replace('"error":', "").replace('"detail":', "")[::-1]
    for layers in range(1, 1100):
        body = unit * layers + '"words"' + ends * layers
        message = of_status(400, body=b'{"error":%b}' % body.encode(), now=NOW).message
        assert message in ("words", "the engine refused the request")


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (401, "the engine does not accept this agent's credentials"),
        (500, "the engine failed (status 500)"),
        (503, "the engine is loading the model or busy"),
    ],
)
def test_other_words_are_our_own(status: int, words: str) -> None:
    """Field note 31: they speak of the engine's insides, or quote a key."""
    assert (
        of_status(status, body=b'{"error":{"message":"key sk-1234567890 at 10.0.0.1"}}', now=NOW).message
        == words
    )


@pytest.mark.parametrize(
    "body", [b"", b"<html>10.0.0.1</html>", b"[]", b"\xff", b"[" * 100_000, b'{"error":7}']
)
def test_a_body_is_never_passed_on_as_it_is(body: bytes) -> None:
    """Field note 31."""
    assert of_status(400, body=body, now=NOW).message == "the engine refused the request"


@pytest.mark.parametrize(
    ("message", "kept"),
    [
        ("model 'llama3.2:3b' not found", "model 'llama3.2:3b' not found"),
        ('model "meta-llama/Llama-3.1-8B" not found, try pulling it first', None),
        ("request (18007 tokens) exceeds the context size (2048 tokens)", None),
        ("temperature must be >= 0 and <= 2; got 3.5 at 12:30:45", None),
        ("use /v1/chat/completions and/or n=1", None),
        ("cannot reach http://10.0.0.5:8000/v1/x?k=1.", "cannot reach <url>"),
        ("dial tcp 192.168.1.7:11434: refused", "dial tcp <address>: refused"),
        ("dial [fe80::1%eth0]:80 or ::1 or localhost:8080", "dial <address> or <address> or <address>"),
        ("2001:db8::7334: refused, as was ::1.", "<address>: refused, as was <address>."),
        ("std::vector, add::method", None),
        ("no grammar: root ::= (((", None),
        ("host gpu.lan.example.com:8000 is down", "host <address> is down"),
        ("host a.b.c.d.e.f.g.h.i.example.com:8000 is down", "host a.b.<address> is down"),
        ("failed to load /home/joe/.ollama/models/x.gguf", "failed to load <path>"),
        ("no such file: '~/models/x' or C:\\Users\\Joe\\x.bin", "no such file: '<path>' or <path>"),
        ("Incorrect API key provided: sk-proj-abcdefgh****wxyz", "Incorrect API key provided: <key>"),
        ("bad header Authorization: Bearer abc.def-123", "bad header Authorization: <key>"),
        ("token " + "a1B2" * 12, "token <key>"),
        ("1 error: [{'msg': 'x', 'input': {'prompt': 'my secret'}}]", "1 error: [{'msg': 'x',"),
        (
            "Input should be a list [type=list_type, input_value='my secret']",
            "Input should be a list [type=list_type,",
        ),
        ("bad content '" + "my secret " * 20 + "'", "bad content '…'"),
        ("line one\nline two\x00\x1b[31m", "line one line two [31m"),
    ],
)
def test_words_are_cleaned(message: str, kept: str | None) -> None:
    """Field note 31: no address, path, key or prompt; what the client needs stays."""
    assert sanitise(message) == (message if kept is None else kept)


@given(st.text())
def test_cleaned_words_are_one_short_line(message: str) -> None:
    """Whatever an engine says."""
    cleaned = sanitise(message * 50)

    assert len(cleaned.encode()) <= MAX_MESSAGE_BYTES
    assert cleaned.isprintable()


@pytest.mark.parametrize(
    "unit",
    [":", "a:", "a.", "a-", "1.", "1.1.1.", "/a.", "a@", "'a\"", "input ", "bearer ", "A", "\\\\", "["],
)
def test_no_words_keep_the_event_loop_busy(unit: str) -> None:
    """Engines quote prompts: a line of colons once took nine seconds to clean, and every session with it."""
    assert cleaning_s(unit) < 30 * cleaning_s("the model said so. ")


def cleaning_s(unit: str) -> float:
    """CPU seconds for long lines of one thing: to be compared with each other only."""
    began_s = time.process_time()
    for message in (unit * 8192, "::" + unit * 8192 + "g", "x " + unit * 4000 + " :80 g"):
        sanitise(message)
    return time.process_time() - began_s


@pytest.mark.parametrize(
    ("header", "wait_ms"),
    [
        ("", None),
        ("2", 2000),
        ("0.25", 250),
        ("-5", 0),
        ("99999999", 3_600_000),
        ("Fri, 21 Aug 2026 12:00:07 GMT", 7000),
        ("Fri, 21 Aug 2026 11:00:00 GMT", 0),
        ("Mon, 01 Jan 99999999999999999999 00:00:00 GMT", None),
        ("Mon, 01 Jan 2030 00:00:00 +99999999999999999999", None),
        ("soon", None),
        ("nan", None),
        ("inf", None),
    ],
)
def test_retry_after_is_seconds_or_a_date(header: str, wait_ms: int | None) -> None:
    """Field note 30: a 429 tells when to come back."""
    assert retry_after_ms(header, NOW) == wait_ms
    assert of_status(429, retry_after=header, now=NOW).retry_after_ms == wait_ms


DATE = r"[A-Z][a-z]{2}, ?\d{1,3} [A-Z][a-z]{2} \d{1,6} \d{1,3}:\d{1,3}:\d{1,3} ([+-]\d{1,6}|GMT|[A-Z]{1,4})"


@given(
    st.text(max_size=40) | st.from_regex(DATE, fullmatch=True) | st.integers().map(str) | st.floats().map(str)
)
@example("100E304")
def test_whatever_retry_after_says_the_wait_is_none_or_an_hour_at_most(header: str) -> None:
    """Any engine may send it, and no job ends of it (field note 30)."""
    wait_ms = retry_after_ms(header, NOW)

    assert wait_ms is None or 0 <= wait_ms <= 3_600_000


@pytest.mark.parametrize(
    ("error", "message", "status"),
    [
        ({"message": "too long", "code": 400}, "too long", 400),
        ({"message": "too long", "code": "422"}, "too long", 422),
        (
            {"message": "key sk-abcdefgh is wrong", "code": 401},
            "the engine reported an error inside its answer",
            401,
        ),
        ({"message": "CUDA error", "code": 500}, "the engine reported an error inside its answer", 500),
        ({"message": "CUDA error", "code": "cuda"}, "the engine reported an error inside its answer", None),
        ("CUDA error", "the engine reported an error inside its answer", None),
        (True, "the engine reported an error inside its answer", None),
    ],
)
def test_an_error_inside_an_answer_keeps_words_for_the_clients_faults_only(
    error: object, message: str, status: int | None
) -> None:
    """Field notes 28 and 31."""
    failure = in_answer(error)

    assert (failure.message, failure.http_status) == (message, status)
