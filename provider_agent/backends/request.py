"""The few edits of a client's request on its way to an engine (protocol.md, 9); all else stays verbatim."""

from collections.abc import Callable, Mapping
from typing import Final, NamedTuple

import msgspec
from msgspec import Raw

from provider_agent.backends.base import BadRequest, Call
from provider_agent.backends.media import remote_member

CHAT: Final = "/v1/chat/completions"
COMPLETIONS: Final = "/v1/completions"
EMBEDDINGS: Final = "/v1/embeddings"
RESPONSES: Final = "/v1/responses"
MESSAGES: Final = "/v1/messages"
RERANK: Final = "/v1/rerank"
OLLAMA_CHAT: Final = "/api/chat"
OLLAMA_GENERATE: Final = "/api/generate"
OLLAMA_EMBED: Final = "/api/embed"

_COUNTS_IF_ASKED: Final = frozenset({CHAT, COMPLETIONS})
_STREAMS_IF_ASKED: Final = _COUNTS_IF_ASKED | {RESPONSES, MESSAGES}
_STREAMS_UNLESS_FORBIDDEN: Final = frozenset({OLLAMA_CHAT, OLLAMA_GENERATE})

_EDITED: Final = frozenset({
    "model", "stream", "stream_options", "options",
    "max_tokens", "max_completion_tokens", "max_output_tokens",
})  # fmt: skip

_DATA: Final = "as a data URL (data:image/png;base64,…)"
_DATA_AT_MESSAGES: Final = 'as a source {"type": "base64", "media_type": "image/png", "data": "…"}'

_COUNTED: Final = Raw(b'{"include_usage":true}')

_encode: Final = msgspec.json.Encoder().encode
_members: Final = msgspec.json.Decoder(dict[str, Raw])
_optional_members: Final = msgspec.json.Decoder(dict[str, Raw] | None)
_elements: Final = msgspec.json.Decoder(list[Raw])
_any: Final = msgspec.json.Decoder()


class EngineRequest(NamedTuple):
    """What is sent to the engine, and what to expect of its answer.

    Attributes:
        drops_usage: usage was asked for by us only: its event is not for the client.
        choices: how many answers the client wants: `n`, to each prompt of a list of them.
        may_be_list: the answer may be a JSON list.
    """

    body: bytes
    is_streamed: bool
    drops_usage: bool = False
    choices: int = 1
    may_be_list: bool = False


def prepare(call: Call) -> EngineRequest:
    """Apply the edits.

    1. `model` is overwritten, always: it is the routed one that is executed.
    2. A body that does not say `stream` gets the job's, where the engine's default might differ.
    3. A streamed OpenAI answer is asked to count its tokens.
    4. Where the operator limits the length of answers, a longer one is asked for at that length.
    5. Engines in Go read `Model` for `model`: another spelling of what is edited here does not leave.

    Raises BadRequest for a body that is no JSON object, and for one that would make the engine fetch media.
    """
    try:
        members = _members.decode(call.body)
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        raise BadRequest("the request body is not a JSON object") from None
    if not call.allow_remote_media:
        _refuse_remote_media(call.body, call.endpoint)
    for name in [name for name in members if name not in _EDITED and name.casefold() in _EDITED]:
        del members[name]  # 5
    members["model"] = Raw(_encode(call.model))  # 1
    is_streamed = _settle_stream(members, call)  # 2
    if call.max_output_tokens is not None:
        _limit_output(members, call.endpoint, call.max_output_tokens)  # 4
    drops_usage = is_streamed and call.endpoint in _COUNTS_IF_ASKED and _ask_for_usage(members)  # 3
    choices = _choices(members) * (_prompts(members) if call.endpoint == COMPLETIONS else 1)
    return EngineRequest(_encode(members), is_streamed, drops_usage, choices, call.endpoint == RERANK)


def without(body: bytes, name: str) -> bytes:
    """The body without one of its members."""
    return edited(body, lambda members: members.pop(name, None))


def edited(body: bytes, edit: Callable[[dict[str, Raw]], object]) -> bytes:
    """The body after that edit of its members; what is no JSON object stays, for `prepare` to refuse."""
    try:
        members = _members.decode(body)
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        return body
    edit(members)
    return _encode(members)


def _refuse_remote_media(body: bytes, endpoint: str) -> None:
    try:
        name = remote_member(body)
    except ValueError:
        raise BadRequest("the request body is no JSON that can be searched for remote media") from None
    if name is not None:
        raise BadRequest(
            f"`{name}` names media by its address, and this agent lets no engine fetch anything; "
            f"send the data itself, {_DATA_AT_MESSAGES if endpoint == MESSAGES else _DATA}"
        )


def _settle_stream(members: dict[str, Raw], call: Call) -> bool:
    said = _value(members, "stream")
    if said is not None:
        return said is True
    if call.endpoint in _STREAMS_IF_ASKED:
        members["stream"] = Raw(b"true" if call.stream else b"false")
        return call.stream
    if call.endpoint in _STREAMS_UNLESS_FORBIDDEN:
        if not call.stream:
            members["stream"] = Raw(b"false")
        return call.stream
    return False


def _ask_for_usage(members: dict[str, Raw]) -> bool:
    """True if the client had not asked itself. Options that are none are the engine's to refuse."""
    given = members.get("stream_options")
    if given is None or bytes(given) == b"null":
        members["stream_options"] = _COUNTED
        return True
    try:
        options = _members.decode(given)
    except msgspec.DecodeError:
        return False
    if bytes(options.get("include_usage", b"")) == b"true":
        return False
    options["include_usage"] = Raw(b"true")
    members["stream_options"] = Raw(_encode(options))
    return True


def _limit_output(members: dict[str, Raw], endpoint: str, limit: int) -> None:
    if "n_predict" in members:  # llama.cpp's own name, which it puts before all others
        members["n_predict"] = _at_most(members, "n_predict", limit)
    if endpoint == RESPONSES:
        members["max_output_tokens"] = _at_most(members, "max_output_tokens", limit)
    elif endpoint == MESSAGES:
        members["max_tokens"] = _at_most(members, "max_tokens", limit)
    elif endpoint in _COUNTS_IF_ASKED:
        names = [name for name in ("max_tokens", "max_completion_tokens") if name in members]
        for name in names or ["max_tokens"]:
            members[name] = _at_most(members, name, limit)
    elif endpoint in _STREAMS_UNLESS_FORBIDDEN:
        try:
            given = _optional_members.decode(members.get("options", Raw(b"null")))
        except msgspec.DecodeError:
            return  # options that are none are the engine's to refuse
        options = given or {}
        options["num_predict"] = _at_most(options, "num_predict", limit)
        members["options"] = Raw(_encode(options))


def _at_most(members: Mapping[str, Raw], name: str, limit: int) -> Raw:
    """The member, or the limit where it is absent, no count (null, -1 for endless), or larger."""
    said = _value(members, name)
    is_within = isinstance(said, int) and not isinstance(said, bool) and 0 <= said <= limit
    return members[name] if is_within else Raw(_encode(limit))


def _choices(members: Mapping[str, Raw]) -> int:
    said = _value(members, "n")
    return said if isinstance(said, int) and said > 0 else 1


def _prompts(members: Mapping[str, Raw]) -> int:
    """How many there are. A list of numbers is one prompt, in tokens."""
    given = members.get("prompt")
    if given is None or _first_byte(given) != b"[":
        return 1
    prompts = _elements.decode(given)
    return len(prompts) if prompts and _first_byte(prompts[0]) in (b'"', b"[") else 1


def _first_byte(value: Raw) -> bytes:
    return bytes(memoryview(value)[:1])


def _value(members: Mapping[str, Raw], name: str) -> object:
    """A member, read; one that cannot be (a number beyond all bounds) is not None, and nothing else."""
    try:
        return _any.decode(members[name]) if name in members else None
    except msgspec.DecodeError:
        return object()
