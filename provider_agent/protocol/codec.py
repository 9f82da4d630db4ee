"""Bytes to frame and back; the one module that knows JSON, base64 and the binary form. Knows no turn.

A message that begins with `BINARY` is a chunk in the binary form and travels as a binary message; all
else is JSON, which cannot begin so, and travels as text.
"""

import re
import struct
from collections.abc import Callable, Mapping
from typing import TypeAlias

import msgspec
import pybase64
from msgspec import Raw

from provider_agent.protocol import fields, frames
from provider_agent.protocol.errors import BadFrame, UnknownFrame, rule_of
from provider_agent.protocol.frames import LEGACY_PROTOCOL, PROTOCOL, Frame
from provider_agent.protocol.link import Role

PROTOCOL_2_FIELDS: Mapping[type[Frame], tuple[str, ...]] = {
    frames.AuthChallenge: ("nonce",),
    frames.AuthResponse: ("pubkey", "signature", "agent_version", "enrollment_code"),
    frames.AuthOk: ("provider_id",),
    frames.AuthFailed: ("reason",),
    frames.Capabilities: ("models", "limits", "metadata"),
    frames.Job: ("job_id", "model_id", "request", "format", "deadline_ms"),
    frames.JobCancel: ("job_id",),
    frames.JobChunk: ("job_id", "data"),
    frames.JobDone: ("job_id", "tokens", "duration_ms"),
    frames.JobError: ("job_id", "error_code", "message", "tokens_emitted"),
    frames.Heartbeat: (
        "queue_depth",
        "tokens_per_sec_p50",
        "p50_latency_ms",
        "p95_latency_ms",
        "error_rate_60s",
        "last_error_at",
        "last_error_code",
    ),
}
"""What protocol 2 has of each frame. A frame that is not here does not exist for such a peer."""

_PROTOCOL_2_INSIDE: Mapping[str, tuple[str, ...]] = {
    "models": ("model_id", "input_per_1m", "output_per_1m", "max_concurrent", "backend", "context_window"),
    "limits": ("max_concurrent_total", "max_tokens_per_minute"),
    "metadata": ("agent_version",),
}

BINARY = 0x01
"""First byte of a chunk in the binary form: 0x01 | u32 stream_id | u32 seq | payload, big-endian."""

MAX_UNREADABLE_MODELS = 100
"""So many bad entries of one `capabilities` are told one by one: more are no accident, but another format."""

ChunkEncoder: TypeAlias = Callable[[int, bytes | memoryview], bytes]

_BINARY_START = bytes([BINARY])
_HEAD_BYTES = 4096
_PLAIN = rb"[ !#-\[\]-~]*"  # printable text without escapes
_HEAD_MEMBER = re.compile(rb'\s*"(\w+)"\s*:\s*"(' + _PLAIN + rb')"\s*,')
_HEAD_MEMBERS = re.compile(rb'\s*\{(?:\s*"\w+"\s*:\s*"' + _PLAIN + rb'"\s*,)+')

_binary_head = struct.Struct("!BII")
_encoder = msgspec.json.Encoder()
_members = msgspec.json.Decoder(dict[str, Raw])
_entries = msgspec.json.Decoder(list[Raw])
_offer = msgspec.json.Decoder(frames.ModelOffer)
_decoders: Mapping[Role, msgspec.json.Decoder[Frame]] = {
    Role.AGENT: msgspec.json.Decoder(frames.FromAgent),
    Role.COORDINATOR: msgspec.json.Decoder(frames.FromCoordinator),
}
_known_types: Mapping[Role, frozenset[str]] = {
    role: frozenset(str(frame.__struct_config__.tag) for frame in union.__args__)
    for role, union in ((Role.AGENT, frames.FromAgent), (Role.COORDINATOR, frames.FromCoordinator))
}


def encode(frame: Frame, protocol: int = PROTOCOL) -> bytes | None:
    """The frame as one JSON text message, or None when this dialect is silent about it."""
    if protocol <= LEGACY_PROTOCOL:
        return _encode_legacy(frame)
    if isinstance(frame, frames.JobChunk):
        return encode_chunk(frame.job_id, frame.seq or 0, frame.data, protocol)
    if isinstance(frame, frames.BinaryChunk):
        return encode_binary_chunk(frame.stream_id, frame.seq, frame.data)
    return _encoder.encode(frame)


def encode_chunk(
    job_id: str, seq: int, data: bytes | bytearray | memoryview, protocol: int = PROTOCOL
) -> bytes:
    """A `job_chunk`, put together by hand: the one frame whose cost every token pays."""
    head = b'{"type":"job_chunk","job_id":' + _encoder.encode(job_id)
    if protocol > LEGACY_PROTOCOL:
        head += b',"seq":%d' % seq
    return head + b',"data":"' + pybase64.b64encode(data) + b'"}'


def encode_binary_chunk(stream_id: int, seq: int, data: bytes | memoryview) -> bytes:
    """A chunk in the binary form."""
    return _binary_head.pack(BINARY, stream_id, seq) + data


def chunk_encoder(job_id: str, protocol: int, stream_id: int | None = None) -> ChunkEncoder:
    """What makes the chunks of one job, of `seq` and payload: all that is the same for each is done once.

    With a `stream_id` they are in the binary form.
    """
    if stream_id is not None:
        pack = _binary_head.pack
        return lambda seq, data: pack(BINARY, stream_id, seq) + data
    if protocol <= LEGACY_PROTOCOL:
        return lambda _, data: encode_chunk(job_id, 0, data, protocol)
    encode_base64 = pybase64.b64encode
    job_member = _encoder.encode(job_id).replace(b"%", b"%%")
    form = b'{"type":"job_chunk","job_id":' + job_member + b',"seq":%d,"data":"%b"}'
    return lambda seq, data: form % (seq, encode_base64(data))


def _encode_legacy(frame: Frame) -> bytes | None:
    if isinstance(frame, frames.JobError):
        legacy = rule_of(frame.error_code).legacy
        if legacy is None:
            return None
        frame = msgspec.structs.replace(
            frame, error_code=legacy.value, tokens_emitted=frame.tokens_emitted or 0
        )
    if isinstance(frame, frames.JobDone):
        known = frame.tokens
        frame = msgspec.structs.replace(frame, tokens=frames.Tokens.of(known.input or 0, known.output or 0))
    fields = PROTOCOL_2_FIELDS.get(type(frame))
    if fields is None:
        return None
    whole = _members.decode(_encoder.encode(frame))
    kept = _only(whole, ("type", *fields))
    for name, inside in _PROTOCOL_2_INSIDE.items() if isinstance(frame, frames.Capabilities) else ():
        kept[name] = _narrow(kept[name], inside)
    return _encoder.encode(kept)


def _narrow(part: Raw, names: tuple[str, ...]) -> Raw:
    """The object, or each object of the list, with these members only."""
    value = msgspec.json.decode(part, type=dict[str, Raw] | list[dict[str, Raw]])
    narrow = [_only(each, names) for each in value] if isinstance(value, list) else _only(value, names)
    return Raw(_encoder.encode(narrow))


def _only(whole: Mapping[str, Raw], names: tuple[str, ...]) -> dict[str, Raw]:
    return {name: whole[name] for name in names if name in whole}


def decode(message: bytes, sender: Role) -> Frame:
    """The frame in a message that `sender` sent.

    Models of `capabilities` that break the rules are UnreadableOffers among the others: the only list
    that a stranger fills, an engine, so one bad entry does not make the frame bad.

    Raises:
        UnknownFrame: well-formed, but of a type that `sender` has no frame for here.
        BadFrame: anything else that is not a frame; carries `job_id` if that much is readable.
    """
    if message[:1] == _BINARY_START:
        return _decode_binary(message, sender)
    try:
        frame = _decoders[sender].decode(message)
    except msgspec.ValidationError as error:
        frame = _without_bad_models(message, sender, _explain(message, sender, str(error)))
    except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
        raise _unreadable(message, error) from None
    if type(frame) is frames.Job:
        _check_request(frame)
    return frame


def _decode_binary(message: bytes, sender: Role) -> frames.BinaryChunk:
    if sender is not Role.AGENT:
        raise BadFrame("is binary, which only an agent may send")
    if len(message) < _binary_head.size:
        raise BadFrame("is shorter than the head of a binary chunk")
    _, stream_id, seq = _binary_head.unpack_from(message)
    return frames.BinaryChunk(stream_id=stream_id, seq=seq, data=message[_binary_head.size :])


def _check_request(job: frames.Job) -> None:
    """The one part that is passed on unread: it must be an object, in the UTF-8 of text messages."""
    body = bytes(job.request)
    if not body.startswith(b"{"):
        raise BadFrame("is not an object", frame_type="job", field="request", job_id=job.job_id)
    try:
        body.decode()
    except UnicodeDecodeError:
        raise BadFrame("is not UTF-8", frame_type="job", field="request", job_id=job.job_id) from None


def _without_bad_models(message: str | bytes, sender: Role, error: BadFrame | UnknownFrame) -> Frame:
    """Capabilities that are good but for some of their models; raises `error` for anything else."""
    if not isinstance(error, BadFrame) or error.frame_type != "capabilities":
        raise error from None
    try:
        members = _members.decode(message)
        models = tuple(_offer_at(i, entry) for i, entry in enumerate(_entries.decode(members["models"])))
        rest = _decoders[sender].decode(_encoder.encode({**members, "models": []}))
    except (KeyError, msgspec.DecodeError, UnicodeError, RecursionError):
        raise error from None
    if sum(isinstance(each, frames.UnreadableOffer) for each in models) > MAX_UNREADABLE_MODELS:
        raise error from None
    return msgspec.structs.replace(rest, models=models)


def _offer_at(index: int, entry: Raw) -> frames.ModelOffer:
    try:
        return _offer.decode(entry)
    except msgspec.ValidationError as error:
        field, reason = _place_of(str(error))
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        field, reason = "", "is not valid JSON"
    place = f"models[{index}].{field}".rstrip(".")
    return frames.UnreadableOffer(model_id=_name_in(entry), reason=f"{place}: {reason}")


def _name_in(entry: Raw) -> str:
    try:
        return _text_in(_members.decode(entry), "model_id")[: fields.LONGEST_NAME]
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        return ""


def _explain(message: str | bytes, sender: Role, complaint: str) -> BadFrame | UnknownFrame:
    """What is wrong with a message that is JSON, but no frame."""
    try:
        members = _members.decode(message)
    except msgspec.ValidationError:
        return BadFrame("is not a JSON object")
    except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
        return _unreadable(message, error)
    frame_type = _text_in(members, "type")
    if not frame_type:
        return BadFrame("is missing or not text", field="type")
    if frame_type not in _known_types[sender]:
        return UnknownFrame(frame_type)
    field, reason = _place_of(complaint)
    return BadFrame(reason, frame_type=frame_type, field=field, job_id=_job_id(_text_in(members, "job_id")))


def _place_of(complaint: str) -> tuple[str, str]:
    """The field at fault and what is wrong with it, of a sentence of the library's."""
    reason, _, path = complaint.partition(" - at `$")
    field = path.rstrip("`").lstrip(".")
    if reason.startswith("Object missing required field"):  # msgspec names the object, not the field
        missing = reason.split("`")[1]
        field, reason = f"{field}.{missing}".lstrip("."), "is missing"
    if reason.startswith("Invalid"):  # it goes on with the value, which is the peer's
        reason = reason.partition(" '")[0]
    return field, reason


def _unreadable(message: str | bytes, error: Exception) -> BadFrame:
    """A message that is no JSON (for us). Its head may still say which job is owed an outcome."""
    why = "nested too deeply" if isinstance(error, RecursionError) else str(error).split(" (byte")[0][:100]
    head = message[:_HEAD_BYTES]
    found = _HEAD_MEMBERS.match(head if isinstance(head, bytes) else head.encode(errors="replace"))
    members = dict(_HEAD_MEMBER.findall(found[0])) if found else {}
    return BadFrame(
        f"is not valid JSON ({why})",
        frame_type=members.get(b"type", b"").decode(),
        job_id=_job_id(members.get(b"job_id", b"").decode()),
    )


def _text_in(members: Mapping[str, Raw], name: str) -> str:
    try:
        return msgspec.json.decode(members.get(name, Raw(b"null")), type=str)
    except (msgspec.DecodeError, UnicodeError):
        return ""


def _job_id(text: str) -> str:
    try:
        return msgspec.convert(text, fields.JobId)
    except msgspec.ValidationError:
        return ""
