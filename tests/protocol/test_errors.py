"""The table of error codes against the contract, and the sentence of each protocol error."""

import pytest

from provider_agent.protocol.errors import (
    RULES,
    BadFrame,
    ErrorCode,
    LocalTurnError,
    ProtocolError,
    RemoteTurnError,
    Stage,
    TurnError,
    UnknownFrame,
    rule_of,
)

# Code, what a protocol-2 peer is told (None: silence), retryable elsewhere: section 4 of docs/protocol.md.
CONTRACT: list[tuple[str, str | None, bool]] = [
    ("out_of_capacity", "out_of_capacity", True),
    ("model_not_loaded", "model_not_loaded", True),
    ("backend_unreachable", "backend_unreachable", True),
    ("backend_timeout", "backend_timeout", True),
    ("auth_rejected_by_backend", "auth_rejected_by_backend", True),
    ("internal", "internal", True),
    ("bad_request", "internal", False),
    ("unsupported_endpoint", "internal", True),
    ("request_too_large", "internal", False),
    ("duplicate_job", "internal", False),
    ("draining", "out_of_capacity", True),
    ("rate_limited", "internal", True),
    ("backend_loading", "internal", True),
    ("backend_error", "internal", True),
    ("first_byte_timeout", "backend_timeout", True),
    ("idle_timeout", "backend_timeout", True),
    ("stream_truncated", "internal", True),
    ("stream_error", "internal", True),
    ("backpressure_timeout", "internal", False),
    ("cancelled", None, False),
    ("session_lost", "internal", True),  # no fallback is agreed: an old peer is owed an outcome all the same
    ("agent_shutdown", "internal", True),
    ("unknown_job", None, False),
]


@pytest.mark.parametrize(("code", "legacy", "retryable"), CONTRACT)
def test_a_code_means_what_the_contract_says(code: str, legacy: str | None, *, retryable: bool) -> None:
    """Both programs and every third-party peer rely on it."""
    rule = RULES[ErrorCode(code)]

    assert (rule.legacy.value if rule.legacy else None) == legacy
    assert rule.retryable is retryable


def test_the_table_is_whole() -> None:
    """Every code has its rule, and there is none that the contract does not list."""
    assert [code.value for code in ErrorCode] == [code for code, *_ in CONTRACT]
    assert set(RULES) == set(ErrorCode)


def test_a_legacy_code_is_one_of_protocol_2() -> None:
    """A fallback needs no further fallback."""
    for rule in RULES.values():
        assert rule.legacy is None or RULES[rule.legacy].legacy is rule.legacy


def test_every_code_is_an_http_error() -> None:
    """A client never sees a failed job as a success."""
    assert all(400 <= rule.http_status < 600 for rule in RULES.values())


def test_an_unknown_code_is_treated_as_internal() -> None:
    """A newer agent's reason is a reason all the same."""
    assert rule_of("brand_new") is RULES[ErrorCode.INTERNAL]
    assert rule_of("draining") is RULES[ErrorCode.DRAINING]


def test_the_stages_are_those_of_the_wire() -> None:
    """In the order in which a job passes them."""
    assert [stage.value for stage in Stage] == ["refused", "before_first_byte", "streaming"]


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (BadFrame("is missing", frame_type="job", field="request"), "job.request: is missing"),
        (BadFrame("is not valid JSON"), "message: is not valid JSON"),
        (BadFrame("is missing or not text", field="type"), "message.type: is missing or not text"),
        (BadFrame("is not valid JSON", frame_type="job"), "job: is not valid JSON"),
        (UnknownFrame("job_ack"), "unknown frame type 'job_ack'"),
        (UnknownFrame("x" * 100), f"unknown frame type '{'x' * 64}'"),
        (
            LocalTurnError("agent", "jobs are served", "auth_response"),
            "the agent may not send auth_response while jobs are served",
        ),
    ],
)
def test_every_error_is_one_sentence(error: ProtocolError, sentence: str) -> None:
    """Names what, where and why."""
    assert str(error) == sentence


def test_the_tree_tells_whose_fault_it_is() -> None:
    """Ours is a defect, the peer's is a reason to close."""
    assert issubclass(LocalTurnError, TurnError)
    assert issubclass(RemoteTurnError, TurnError)
    assert not issubclass(LocalTurnError, RemoteTurnError)
    assert all(issubclass(each, ProtocolError) for each in (BadFrame, UnknownFrame, TurnError))
