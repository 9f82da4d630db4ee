"""Frames to bytes and back in both dialects, and what comes of bytes that are no frame."""

import json

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from msgspec import Raw

from provider_agent.protocol import frames as f
from provider_agent.protocol.codec import (
    MAX_UNREADABLE_MODELS,
    PROTOCOL_2_FIELDS,
    chunk_encoder,
    decode,
    encode,
    encode_binary_chunk,
    encode_chunk,
)
from provider_agent.protocol.errors import BadFrame, ErrorCode, UnknownFrame
from provider_agent.protocol.link import Role
from tests.protocol.examples import EXAMPLES, Example

A, C = Role.AGENT, Role.COORDINATOR
JOB = {"type": "job", "job_id": "j", "model_id": "m", "request": {}}

every_example = pytest.mark.parametrize("each", EXAMPLES, ids=lambda each: each.name)


def same(one: f.Frame, other: f.Frame) -> bool:
    """Equal in type and in every field; `Raw` bodies byte for byte."""
    return type(one) is type(other) and all(
        bytes(a) == bytes(b) if isinstance(a, Raw) and isinstance(b, Raw) else (a == b and type(a) is type(b))
        for a, b in zip(msgspec.structs.astuple(one), msgspec.structs.astuple(other), strict=True)
    )


# --- one table, both directions -----------------------------------------------------------


@every_example
def test_a_frame_is_exactly_this_json(each: Example) -> None:
    """Names and order on the wire do not change by accident."""
    assert encode(each.frame) == each.json


@every_example
def test_this_json_is_exactly_that_frame(each: Example) -> None:
    """What was said is what is understood, types included."""
    assert same(decode(each.json, each.sender), each.frame)


@every_example
def test_an_old_peer_is_told_only_what_it_knows(each: Example) -> None:
    """Fields of protocol 3 are left out, and frames that it does not have are not sent."""
    assert encode(each.frame, 2) == each.legacy


@every_example
def test_what_an_old_peer_says_is_understood(each: Example) -> None:
    """The frame without the new fields, which have their defaults."""
    if each.legacy is not None:
        assert type(decode(each.legacy, each.sender)) is type(each.frame)


def test_every_frame_has_its_example() -> None:
    """A new frame must come with its bytes."""
    everything = {*f.FromAgent.__args__, *f.FromCoordinator.__args__}

    assert {type(each.frame) for each in EXAMPLES} == everything
    assert set(PROTOCOL_2_FIELDS) <= everything


@every_example
def test_a_field_that_is_not_known_is_ignored(each: Example) -> None:
    """A newer peer may say more."""
    more = each.json[:-1] + b',"news":{"deep":[1,null,"x"]}}'

    assert same(decode(more, each.sender), each.frame)


@every_example
def test_a_frame_of_the_wrong_side_is_unknown(each: Example) -> None:
    """An agent has no word that only a coordinator may say."""
    with pytest.raises(UnknownFrame):
        decode(each.json, each.sender.peer)


# --- chunks, ids, bodies ------------------------------------------------------------------


@given(
    st.text(st.characters(min_codepoint=32, max_codepoint=126), min_size=1, max_size=128),
    st.binary(),
    st.integers(0, 2**53),
)
def test_a_hand_made_chunk_is_what_an_encoder_would_write(job_id: str, data: bytes, seq: int) -> None:
    """The short cut of the hot path stays JSON, whatever the id and the bytes."""
    message = encode_chunk(job_id, seq, data)

    assert decode(message, A) == f.JobChunk(job_id=job_id, data=data, seq=seq)
    assert encode(f.JobChunk(job_id=job_id, data=data, seq=seq)) == message
    assert json.loads(encode_chunk(job_id, seq, memoryview(data), 2)).keys() == {"type", "job_id", "data"}


def test_a_binary_chunk_is_exactly_these_bytes() -> None:
    """0x01, stream, number, payload; the first byte tells it from JSON, the integers are big-endian."""
    frame = f.BinaryChunk(stream_id=0x01020304, seq=5, data=b"token")

    assert encode(frame) == b"\x01\x01\x02\x03\x04\x00\x00\x00\x05token"
    assert decode(encode(frame) or b"", A) == frame


@given(st.integers(0, 2**32 - 1), st.integers(0, 2**32 - 1), st.binary())
def test_a_binary_chunk_comes_back_as_it_left(stream_id: int, seq: int, data: bytes) -> None:
    """Whatever the bytes, the empty payload included."""
    message = encode_binary_chunk(stream_id, seq, memoryview(data))

    assert decode(message, A) == f.BinaryChunk(stream_id=stream_id, seq=seq, data=data)


@given(
    st.text(st.characters(min_codepoint=32, max_codepoint=126), min_size=1, max_size=128),
    st.binary(),
    st.integers(0, 2**32 - 1),
)
def test_a_job_that_prepares_its_chunks_makes_the_same_ones(job_id: str, data: bytes, seq: int) -> None:
    """In every form; an id may hold what means something to a formatter or to JSON."""
    assert chunk_encoder(job_id, 3)(seq, data) == encode_chunk(job_id, seq, data)
    assert chunk_encoder(job_id, 3)(seq, memoryview(data)) == encode_chunk(job_id, seq, data)
    assert chunk_encoder(job_id, 2)(seq, data) == encode_chunk(job_id, seq, data, 2)
    assert chunk_encoder(job_id, 3, 7)(seq, data) == encode_binary_chunk(7, seq, data)


def test_an_old_peer_has_no_binary_chunks() -> None:
    """They were not negotiated."""
    assert encode(f.BinaryChunk(stream_id=1, seq=0, data=b""), 2) is None


@pytest.mark.parametrize(
    ("message", "sender", "sentence"),
    [
        (b"\x01\0\0\0\0\0\0\0", A, "message: is shorter than the head of a binary chunk"),
        (b"\x01\0\0\0\0\0\0\0\0", C, "message: is binary, which only an agent may send"),
    ],
)
def test_binary_nonsense_has_its_sentence(message: bytes, sender: Role, sentence: str) -> None:
    """Half a head, or the wrong side."""
    with pytest.raises(BadFrame) as caught:
        decode(message, sender)

    assert str(caught.value) == sentence


def test_no_json_makes_a_binary_chunk() -> None:
    """It exists in one form only."""
    with pytest.raises(UnknownFrame):
        decode(b'{"type":"binary_chunk","stream_id":1,"seq":0,"data":""}', A)


@given(st.text(st.characters(min_codepoint=32, max_codepoint=126), min_size=1, max_size=128))
@example("0x1F")
@example("00000000-0000-0000-0000-00000000ABCD")
@example("1e3")
def test_job_ids_come_back_verbatim(job_id: str) -> None:
    """Any printable ASCII, never re-formatted (field note 18)."""
    job = decode(json.dumps({**JOB, "job_id": job_id}).encode(), C)
    assert isinstance(job, f.Job)
    for protocol in (2, 3):
        message = encode(f.JobError(job_id=job.job_id, error_code="internal", message=""), protocol)
        assert json.loads(message or b"")["job_id"] == job_id


def test_a_request_is_passed_on_byte_for_byte() -> None:
    """Spaces, order, escapes, doubled keys and long numbers are the client's business."""
    body = b'{ "b":1.00, "a" : "\\u00e9\\/", "b":123456789012345678901234567890, "n":1E+2 }'
    job = decode(b'{"type":"job","job_id":"j","model_id":"m","request":' + body + b"}", C)
    assert isinstance(job, f.Job)

    assert bytes(job.request) == body


@pytest.mark.parametrize("code", list(ErrorCode))
def test_an_old_peer_gets_a_code_that_it_knows_or_silence(code: ErrorCode) -> None:
    """The fallback of the table, and integers where protocol 2 has no null."""
    known = {
        "out_of_capacity", "model_not_loaded", "backend_unreachable",
        "backend_timeout", "auth_rejected_by_backend", "internal",
    }  # fmt: skip
    message = encode(f.JobError(job_id="j", error_code=code.value, message="m"), 2)
    if code in (ErrorCode.CANCELLED, ErrorCode.UNKNOWN_JOB):
        assert message is None
    else:
        said = json.loads(message or b"")
        assert said["error_code"] in known
        assert said["tokens_emitted"] == 0


def test_a_code_that_is_not_known_still_ends_its_job() -> None:
    """A newer agent may have more reasons."""
    frame = decode(b'{"type":"job_error","job_id":"j","error_code":"brand_new","message":"m"}', A)

    assert isinstance(frame, f.JobError)
    assert frame.error_code == "brand_new"


def test_unknown_usage_is_null_and_not_zero() -> None:
    """Zero tokens and no idea are different bills (field note 14)."""
    message = encode(f.JobDone(job_id="j", tokens=f.Tokens.of(None, None), duration_ms=1))

    assert json.loads(message or b"")["tokens"] == {
        "input": None, "output": None, "input_tokens": None, "output_tokens": None,
    }  # fmt: skip


# --- what is wrong, and where -------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "field", "sentence"),
    [
        ({"job_id": None}, "job_id", "job.job_id: Expected `str`, got `null`"),
        ({"job_id": 7}, "job_id", "job.job_id: Expected `str`, got `int`"),
        ({"job_id": ""}, "job_id", "job.job_id: Expected `str` of length >= 1"),
        ({"job_id": "x" * 129}, "job_id", "job.job_id: Expected `str` of length <= 128"),
        ({"job_id": "ünïcode"}, "job_id", "job.job_id: Expected `str` matching regex"),
        ({"job_id": "line\n"}, "job_id", "job.job_id: Expected `str` matching regex"),
        ({"model_id": ""}, "model_id", "job.model_id: Expected `str` of length >= 1"),
        ({"deadline_ms": 0}, "deadline_ms", "job.deadline_ms: Expected `int` >= 1"),
        ({"deadline_ms": -5}, "deadline_ms", "job.deadline_ms: Expected `int` >= 1"),
        ({"deadline_ms": 2**64}, "deadline_ms", "job.deadline_ms: Expected `int` <= 9007199254740992"),
        ({"deadline_ms": 1.5}, "deadline_ms", "job.deadline_ms: Expected `int | null`, got `float`"),
        ({"deadline_ms": "60"}, "deadline_ms", "job.deadline_ms: Expected `int | null`, got `str`"),
        ({"attempt": 0}, "attempt", "job.attempt: Expected `int` >= 1"),
        ({"stream_id": 2**32}, "stream_id", "job.stream_id: Expected `int` <= 4294967295"),
        ({"stream": 1}, "stream", "job.stream: Expected `bool`, got `int`"),
        ({"format": "the prompt"}, "format", "job.format: Invalid enum value"),
        ({"request": "text"}, "request", "job.request: is not an object"),
        ({"request": None}, "request", "job.request: is not an object"),
        ({"request": [1]}, "request", "job.request: is not an object"),
    ],
)
def test_a_bad_job_names_its_field_and_the_reason(
    changes: dict[str, object], field: str, sentence: str
) -> None:
    """No default in the place of nonsense (field note 17), and the job is owed an outcome (field note 16)."""
    with pytest.raises(BadFrame) as bad:
        decode(json.dumps({**JOB, **changes}).encode(), C)

    assert str(bad.value).startswith(sentence)
    assert (bad.value.frame_type, bad.value.field) == ("job", field)
    assert bad.value.job_id == ("" if field == "job_id" else "j")
    assert "the prompt" not in str(bad.value)


@pytest.mark.parametrize("field", ["deadline_ms", "first_byte_timeout_ms", "idle_timeout_ms"])
@pytest.mark.parametrize("value_ms", [1, 2**31, 2**32 + 1, 2**53])
def test_a_time_limit_is_taken_as_it_is(field: str, value_ms: int) -> None:
    """None is rounded up, and none wraps at 32 bits (field note 17)."""
    job = decode(json.dumps({**JOB, field: value_ms}).encode(), C)

    assert getattr(job, field) == value_ms


@pytest.mark.parametrize("field", ["job_id", "model_id", "request"])
def test_a_missing_field_is_named(field: str) -> None:
    """As missing, not as a null of the wrong type."""
    with pytest.raises(BadFrame) as bad:
        decode(json.dumps({name: value for name, value in JOB.items() if name != field}).encode(), C)

    assert str(bad.value) == f"job.{field}: is missing"


@pytest.mark.parametrize(
    ("message", "sender", "sentence"),
    [
        (b"", C, "message: is not valid JSON"),
        (b'{"type":"drain"', C, "message: is not valid JSON"),
        (b"\xff\xfe\x00", C, "message: is not valid JSON"),
        (b'{"type":"drain"} {}', C, "message: is not valid JSON"),
        (b"[1]", C, "message: is not a JSON object"),
        (b"null", C, "message: is not a JSON object"),
        (b"{}", C, "message.type: is missing or not text"),
        (b'{"type":7}', C, "message.type: is missing or not text"),
        (b'{"type":""}', C, "message.type: is missing or not text"),
        (
            b'{"type":"capabilities","models":[{"model_id":"m"}],"limits":{},"metadata":{}}',
            A,
            "capabilities.models[0].backend: is missing",
        ),
        (b'{"type":"capabilities","models":{}}', A, "capabilities.models: Expected `array`, got `object`"),
        (
            b'{"type":"job_done","job_id":"j","tokens":{"input":-1},"duration_ms":1}',
            A,
            "job_done.tokens.input: Expected `int` >= 0",
        ),
        (b'{"type":"job_chunk","job_id":"j","data":"%"}', A, "job_chunk.data: Invalid base64 encoded string"),
        (
            b'{"type":"job_chunk","job_id":"j","data":"YQ==","seq":-1}',
            A,
            "job_chunk.seq: Expected `int` >= 0",
        ),
        (b'{"type":"heartbeat","queue_depth":NaN}', A, "heartbeat: is not valid JSON"),
    ],
)
def test_each_kind_of_nonsense_has_its_sentence(message: bytes, sender: Role, sentence: str) -> None:
    """Frame, field and reason, as far as they can be read."""
    with pytest.raises(BadFrame) as bad:
        decode(message, sender)

    assert str(bad.value).startswith(sentence)


@pytest.mark.parametrize(
    "request_body",
    [
        b'{"a":"\\ud800"}',  # half a character, as some JavaScript clients cut it
        b'{"a":"\xff"}',
        b'{"a":' + b"[" * 50_000 + b"]" * 50_000 + b"}",
        b'{"a":}',
        b'{"a":1',
    ],
)
def test_a_job_whose_body_cannot_be_read_is_still_owed_an_outcome(request_body: bytes) -> None:
    """Its id stands in front (field note 16, I1)."""
    with pytest.raises(BadFrame) as bad:
        decode(b'{"type":"job", "job_id" : "j-1","model_id":"m","request":' + request_body + b"}", C)

    assert (bad.value.frame_type, bad.value.job_id) == ("job", "j-1")


def test_the_id_of_another_job_inside_a_broken_body_is_not_taken() -> None:
    """Only the head of the message counts: what the client wrote does not name the job."""
    with pytest.raises(BadFrame) as bad:
        decode(b'{"type":"job","request":{"job_id":"victim","x":},"job_id":"j"}', C)

    assert bad.value.job_id == ""


def test_a_bad_field_is_named_even_if_the_body_is_odd() -> None:
    """Numbers that no reader can hold are the engine's to judge."""
    with pytest.raises(BadFrame) as bad:
        decode(b'{"type":"job","job_id":"j","model_id":7,"request":{"a":1e999}}', C)

    assert (bad.value.field, bad.value.job_id) == ("model_id", "j")


def test_a_frame_type_that_is_not_known_is_not_an_error_of_the_peer() -> None:
    """It is told apart, so that it can be counted and ignored."""
    with pytest.raises(UnknownFrame) as unknown:
        decode(b'{"type":"job_pause","job_id":"j","seq":1}', C)

    assert str(unknown.value) == "unknown frame type 'job_pause'"


# --- capabilities with a model that breaks the rules ---------------------------------------

OFFER = {"model_id": "m", "backend": "b", "max_concurrent": 1, "input_per_1m": 0, "output_per_1m": 0}


def capabilities(*models: object) -> bytes:
    entries = b",".join(each if isinstance(each, bytes) else json.dumps(each).encode() for each in models)
    rest = b'"limits":{"max_concurrent_total":1},"metadata":{"agent_version":"1"},"revision":7}'
    return b'{"type":"capabilities","models":[' + entries + b"]," + rest


@pytest.mark.parametrize(
    ("bad", "model_id", "reason"),
    [
        (
            {**OFFER, "context_window": 2**60},
            "m",
            "models[1].context_window: Expected `int` <= 9007199254740992",
        ),
        ({**OFFER, "context_window": -5}, "m", "models[1].context_window: Expected `int` >= 0"),
        ({"model_id": "m"}, "m", "models[1].backend: is missing"),
        ({**OFFER, "endpoints": [1]}, "m", "models[1].endpoints[0]: Expected `str`, got `int`"),
        ({**OFFER, "model_id": ""}, "", "models[1].model_id: Expected `str` of length >= 1"),
        ({**OFFER, "model_id": "x" * 600}, "x" * 512, "models[1].model_id: Expected `str` of length <= 512"),
        ({**OFFER, "model_id": 5}, "", "models[1].model_id: Expected `str`, got `int`"),
        (7, "", "models[1]: Expected `object`, got `int`"),
    ],
)
def test_one_bad_model_does_not_cost_the_others(bad: object, model_id: str, reason: str) -> None:
    """It keeps its place, offers nothing, and says what is wrong with it."""
    frame = decode(capabilities(OFFER, bad, {**OFFER, "model_id": "n"}), A)

    assert isinstance(frame, f.Capabilities)
    good, unreadable, other = frame.models
    assert isinstance(unreadable, f.UnreadableOffer)
    assert (unreadable.model_id, unreadable.reason, unreadable.max_concurrent) == (model_id, reason, 0)
    assert (good.model_id, other.model_id, frame.revision) == ("m", "n", 7)


def test_a_bad_model_behind_another_is_found_as_well() -> None:
    """Even one that is no text."""
    frame = decode(capabilities(7, b'{"model_id":"m","backend":"\xff"}', b'{"model_id":"\xff"}'), A)

    assert isinstance(frame, f.Capabilities)
    assert [(each.model_id, getattr(each, "reason", "")) for each in frame.models] == [
        ("", "models[0]: Expected `object`, got `int`"),
        ("m", "models[1]: is not valid JSON"),
        ("", "models[2]: is not valid JSON"),
    ]


def test_capabilities_that_are_bad_elsewhere_too_are_bad() -> None:
    """Only models are taken one by one."""
    message = capabilities({**OFFER, "max_concurrent": -1}).replace(b'"revision":7', b'"revision":-7')

    with pytest.raises(BadFrame) as bad:
        decode(message, A)

    assert bad.value.frame_type == "capabilities"


def test_more_bad_models_than_an_accident_makes_are_a_bad_frame() -> None:
    """Else a small message would have a large answer."""
    as_many_as_may_be = capabilities(*[7] * MAX_UNREADABLE_MODELS)

    assert isinstance(decode(as_many_as_may_be, A), f.Capabilities)
    with pytest.raises(BadFrame) as bad:
        decode(capabilities(*[7] * MAX_UNREADABLE_MODELS, 7), A)
    assert bad.value.field == "models[0]"


# --- garbage ------------------------------------------------------------------------------

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
field_names = st.sampled_from(
    sorted({name for each in EXAMPLES for name in type(each.frame).__struct_fields__} | {"type", "x"})
)


def assert_only_documented_errors(message: bytes) -> None:
    for sender in Role:
        try:
            frame = decode(message, sender)
        except (BadFrame, UnknownFrame) as error:
            told = str(error)
            assert 0 < len(told) < 400
        else:
            assert encode(frame) is not None
            encode(frame, 2)


@given(st.binary(max_size=200))
def test_random_bytes_raise_documented_errors_only(message: bytes) -> None:
    """Nothing else may end a session."""
    assert_only_documented_errors(message)


@given(json_values)
def test_random_json_raises_documented_errors_only(value: object) -> None:
    """Valid JSON that is no frame."""
    assert_only_documented_errors(json.dumps(value).encode())


@given(st.sampled_from(EXAMPLES), field_names, json_values)
def test_a_frame_with_one_random_field_raises_documented_errors_only(
    each: Example, name: str, value: object
) -> None:
    """Right in all but one place."""
    assert_only_documented_errors(json.dumps({**json.loads(each.json), name: value}).encode())


@given(st.sampled_from(EXAMPLES), st.data())
def test_a_truncated_or_flipped_frame_raises_documented_errors_only(
    each: Example, data: st.DataObject
) -> None:
    """Cut anywhere, or with any one byte replaced."""
    at = data.draw(st.integers(0, len(each.json) - 1))
    byte = data.draw(st.binary(min_size=1, max_size=1))

    assert_only_documented_errors(each.json[:at])
    assert_only_documented_errors(each.json[:at] + byte + each.json[at + 1 :])


@pytest.mark.parametrize("opening", [b"[", b'{"a":', b'{"type":"job","request":'])
def test_deep_nesting_raises_documented_errors_only(opening: bytes) -> None:
    """A bomb of brackets is just no frame."""
    assert_only_documented_errors(opening * 100_000)


def test_an_oversized_frame_is_read_or_refused_like_any_other() -> None:
    """Tens of megabytes in one field."""
    filler = b"x" * 30_000_000
    job = decode(b'{"type":"job","job_id":"j","model_id":"m","request":{"p":"' + filler + b'"}}', C)

    assert isinstance(job, f.Job)
    assert_only_documented_errors(b'{"type":"' + filler + b'"}')
    assert_only_documented_errors(b'{"type":"job","job_id":"' + filler + b'","model_id":"m","request":{}}')
