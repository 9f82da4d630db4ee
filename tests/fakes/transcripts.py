"""What each engine family sends, byte for byte; each with its source, and with what is to be made of it.

Sources: LIVE was recorded from llama.cpp's server, build 11434, with a tiny model, and shortened in its
middle; SOURCE is written after the engine's source, DOCUMENTS after its documentation or a published example.
RECORDED, at the end, are whole answers of several engines, as `tests/engines/record.py` wrote them down.
"""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import dropwhile
from typing import Final

from provider_agent.backends.base import Usage
from tests.fakes.recordings import RECORDINGS, Exchange, Recording

LIVE, SOURCE, DOCUMENTS = "recorded live", "written after the source", "written after documentation"

EVENTS, LINES, JSON = "text/event-stream", "application/x-ndjson", "application/json; charset=utf-8"
DONE: Final = "data: [DONE]\n\n"
NOTHING: Final = Usage(None, None)
COUNTED: Final = Usage(6, 4)


@dataclass(frozen=True)
class Transcript:
    """One answer.

    Attributes:
        family: as `kind` in the configuration.
        name: what it is an example of.
        body: all that the engine sends.
        relayed: what of it is the client's, who had not asked for usage; None for all of it.
        verdict: `whole`, or the name of the error.
        asked: the client's request, as far as it matters.
        source: see the module.
    """

    family: str
    name: str
    body: bytes
    usage: Usage = COUNTED
    source: str = SOURCE
    relayed: bytes | None = None
    verdict: str = "whole"
    content_type: str = EVENTS
    path: str = "/v1/chat/completions"
    asked: bytes = b"{}"

    def __str__(self) -> str:
        return f"{self.family} {self.name}"

    @property
    def expected(self) -> tuple[bytes, Usage, str]:
        """What the client gets, what is counted, and the verdict."""
        return self.body if self.relayed is None else self.relayed, self.usage, self.verdict

    @property
    def is_whole(self) -> bool:
        return self.verdict == "whole"


def _chunks(frame: str, *deltas: str, last: str = "{}", reason: str = '"stop"') -> str:
    """Chunks of a family, which differ in delta and finish_reason only: `frame` has a place for each."""
    return _running(frame, *deltas) + frame % (last, reason)


def _running(frame: str, *deltas: str) -> str:
    """The same without an end."""
    return "".join(frame % (delta, "null") for delta in deltas)


def _whole(
    family: str, name: str, chunks: str, counted: str, *, usage: Usage = COUNTED, source: str = SOURCE
) -> Transcript:
    """A chat: the chunks, the usage event that the agent asks for, and the end mark."""
    body, relayed = chunks + counted + DONE, chunks + DONE
    return Transcript(family, name, body.encode(), usage, source, relayed.encode())


def _failed(family: str, chunks: str, error: str, after: str = "", source: str = SOURCE) -> Transcript:
    return Transcript(
        family, "error", (chunks + error + after).encode(), NOTHING, source, chunks.encode(), "StreamFailed"
    )


def _say(*words: str, first: str = '{"role":"assistant","content":""}', key: str = "content") -> list[str]:
    return [first, *(f'{{"{key}":"{word}"}}' for word in words)]


def _call(*pieces: str, start: str) -> list[str]:
    """A tool is called, its arguments piece by piece."""
    return [
        start,
        *(f'{{"tool_calls":[{{"index":0,"function":{{"arguments":"{each}"}}}}]}}' for each in pieces),
    ]


_CALL = (
    '{"tool_calls":[{"index":0,"id":"call_1","type":"function","function":{"name":"look","arguments":""}}]}'
)
_ARGUMENTS = (r"{\"", r"at\"", r": \"[DONE]", r"\"}")
_TOOLS = '"tool_calls"'

# --- llama.cpp, and what is built around it ---------------------------------------------------

_LLAMACPP = (
    'data: {"choices":[{"finish_reason":%%(2)s,"index":0,"delta":%%(1)s}],"created":1795267471,'
    '"id":"chatcmpl-%s","model":"tiny","system_fingerprint":"b0-unknown","object":"chat.completion.chunk"%s}\n\n'
)
_TIMINGS = (
    ',"timings":{"cache_n":%d,"prompt_n":%d,"prompt_ms":1.652,"predicted_n":%d,"predicted_ms":3.138,'
    '"predicted_per_second":956.0229445506693}'
)


def _llamacpp(delta: str, finish: str = "null", *, more: str = "", number: str = "ybVi2Tg5V3xS") -> str:
    return (_LLAMACPP % (number, more)) % {"1": delta, "2": finish}


_LLAMACPP_BEGIN = _llamacpp('{"role":"assistant","content":null}')
_LLAMACPP_TEXT = _LLAMACPP_BEGIN + "".join(
    _llamacpp(f'{{"content":"{word}"}}') for word in (" The", " engine", " reads", " a")
)
_LLAMACPP_COUNT = (
    'data: {"choices":[],"created":1795267471,"id":"chatcmpl-ybVi2Tg5V3xS","model":"tiny",'
    '"system_fingerprint":"b0-unknown","object":"chat.completion.chunk","usage":{"completion_tokens":4,'
    '"prompt_tokens":6,"total_tokens":10,"prompt_tokens_details":{"cached_tokens":0}}%s}\n\n'
) % (_TIMINGS % (0, 6, 4))
_LLAMACPP_CALL = (
    '{"tool_calls":[{"index":0,"id":"uin4RP3n97yL","type":"function",'
    '"function":{"name":"look","arguments":"{"}}]}'
)
_OVERFLOW = (
    'data: {"error":{"code":500,"message":"Context size has been exceeded.","type":"server_error"}}\n\n'
)


def _prompt(index: int, prompt_tokens: int) -> str:
    """One of several prompts of a request for completions."""
    head = (
        f'data: {{"choices":[{{"text":"%s","index":{index},"logprobs":null,"finish_reason":%s}}],"created":1'
    )
    tail = ',"model":"tiny","object":"text_completion"%s,"id":"chatcmpl-UxYI"}\n\n'
    count = f',"usage":{{"completion_tokens":2,"prompt_tokens":{prompt_tokens},"total_tokens":9}}'
    return head % (" Each", "null") + tail % "" + head % ("", '"length"') + tail % count


def _named(*events: tuple[str, str]) -> str:
    """Events with names, which their data repeat."""
    return "".join(
        f'event: {name}\ndata: {{"type":"{name}"{members and "," + members}}}\n\n' for name, members in events
    )


_MESSAGE_BEGIN = _named(
    (
        "message_start",
        (
            '"message":{"id":"chatcmpl-fLyA","type":"message","role":"assistant","content":[],"model":"tiny",'
            '"stop_reason":null,"usage":{"cache_read_input_tokens":5,"input_tokens":1,"output_tokens":0}}'
        ),
    ),
    ("content_block_start", '"index":0,"content_block":{"type":"text","text":""}'),
    ("content_block_delta", '"index":0,"delta":{"type":"text_delta","text":" The"}'),
    ("content_block_delta", '"index":0,"delta":{"type":"text_delta","text":" engine"}'),
)
_MESSAGE_END = _named(
    ("content_block_stop", '"index":0'),
    (
        "message_delta",
        '"delta":{"stop_reason":"max_tokens","stop_sequence":null},"usage":{"output_tokens":3}',
    ),
    ("message_stop", ""),
)
_RESPONSE_BEGIN = _named(
    ("response.created", '"response":{"id":"resp_5wL0","object":"response","status":"in_progress"}'),
    ("response.output_text.delta", '"item_id":"msg_pg9g","delta":" Here"'),
    ("response.output_text.delta", '"item_id":"msg_pg9g","delta":" ends"'),
    ("response.output_text.done", '"item_id":"msg_pg9g","text":" Here ends"'),
)
_RESPONSE_END = (
    '"response":{"id":"resp_5wL0","object":"response","status":"%s","error":%s,"output":[],'
    '"usage":{"input_tokens":6,"output_tokens":3,"total_tokens":9}}'
)


def _end_of_response(how: str, error: str = "null") -> str:
    return _named((f"response.{how}", _RESPONSE_END % (how, error)))


LLAMACPP = [
    _whole(
        "llamacpp",
        "chat",
        _LLAMACPP_TEXT + _llamacpp("{}", '"length"'),
        _LLAMACPP_COUNT,
        source=LIVE,
    ),
    _whole(
        "llamacpp",
        "tools",
        _LLAMACPP_BEGIN
        + "".join(map(_llamacpp, _call(r"\"", "at", r"\"", ":", r"\"ok\"", "}", start=_LLAMACPP_CALL)))
        + _llamacpp("{}", '"tool_calls"'),
        _LLAMACPP_COUNT,
        source=LIVE,
    ),
    _whole(
        "llamacpp",
        "reasoning",
        _LLAMACPP_BEGIN
        + "".join(
            map(_llamacpp, _say("Hm", ",", first='{"reasoning_content":"So"}', key="reasoning_content"))
        )
        + _llamacpp('{"content":"Yes"}')
        + _llamacpp("{}", '"stop"'),
        _LLAMACPP_COUNT,
        source=DOCUMENTS,
    ),
    Transcript(
        "llamacpp",
        "timings instead of usage",
        (
            _LLAMACPP_BEGIN
            + "".join(_llamacpp('{"content":"a"}', more=_TIMINGS % (5, 1, count)) for count in (1, 2, 3))
            + _llamacpp("{}", '"length"', more=_TIMINGS % (5, 1, 4))
            + DONE
        ).encode(),
        source=LIVE,
    ),
    _failed("llamacpp", _LLAMACPP_TEXT, _OVERFLOW, source=LIVE),
    Transcript(
        "llamacpp",
        "two prompts",
        (_prompt(0, 2) + "data: null\n\n" + _prompt(1, 5) + DONE).encode(),
        Usage(5, 2),
        LIVE,
        path="/v1/completions",
        asked=b'{"prompt":["a","b"]}',
    ),
    Transcript(
        "llamacpp",
        "message",
        (_MESSAGE_BEGIN + _MESSAGE_END).encode(),
        Usage(6, 3),
        LIVE,
        path="/v1/messages",
    ),
    Transcript(
        "llamacpp",
        "response",
        (_RESPONSE_BEGIN + _end_of_response("completed")).encode(),
        Usage(6, 3),
        LIVE,
        path="/v1/responses",
    ),
    Transcript(
        "llamacpp",
        "rerank",
        b'{"model":"tiny","object":"list","usage":{"prompt_tokens":9,"total_tokens":9},'
        b'"results":[{"index":1,"relevance_score":-0.91},{"index":0,"relevance_score":-1.02}]}',
        Usage(9, None),
        LIVE,
        content_type=JSON,
        path="/v1/rerank",
    ),
    Transcript(
        "llamacpp",
        "rerank of texts",
        b'[{"index":1,"score":-0.9105404019355774},{"index":0,"score":-1.02242105197052}]',
        NOTHING,
        LIVE,
        content_type=JSON,
        path="/v1/rerank",
    ),
    *(
        _whole(
            family,
            "chat",
            _LLAMACPP_TEXT + _llamacpp("{}", '"stop"'),
            _LLAMACPP_COUNT,
        )
        for family in ("docker", "jan", "llamafile")  # llama.cpp's server, passed on
    ),
    _failed("docker", _LLAMACPP_TEXT, _OVERFLOW),
    _failed("jan", _LLAMACPP_TEXT, _OVERFLOW),
]

# --- Python servers -----------------------------------------------------------------------------


def _frame(before: str, finish: str, after: str, delta: str = '"delta":%s,') -> str:
    """`before` and `after` the choice, which has an index, the delta, and the finish_reason."""
    return "data: {" + before + '"choices":[{"index":0,' + delta + finish + "}]" + after + "}\n\n"


_VLLM_HEAD = '"id":"chatcmpl-9f0d1c","object":"chat.completion.chunk","created":1758000000,"model":"tiny",'
_VLLM = _frame(_VLLM_HEAD, '"logprobs":null,"finish_reason":%s,"token_ids":null', "")
_VLLM_RUNNING = _frame(
    _VLLM_HEAD,
    '"logprobs":null,"finish_reason":%s',
    ',"usage":{"prompt_tokens":6,"total_tokens":10,"completion_tokens":4}',
)
_VLLM_COUNT = (
    "data: {"
    + _VLLM_HEAD
    + '"choices":[],"usage":{"prompt_tokens":6,"total_tokens":10,"completion_tokens":4}}\n\n'
)
_VLLM_ERROR = (
    'data: {"error": {"message": "EngineCore encountered an issue. See stack trace (above) for the root '
    'cause.", "type": "InternalServerError", "param": null, "code": 500}}\n\n'
)
_SGLANG_HEAD = '"id":"5f1c","object":"chat.completion.chunk","created":1758000000,"model":"tiny",'
_SGLANG = _frame(_SGLANG_HEAD, '"logprobs":null,"finish_reason":%s,"matched_stop":null', ',"usage":null')
_SGLANG_FIRST = '{"role":"assistant","content":"","reasoning_content":null,"tool_calls":null}'
_SGLANG_COUNT = _VLLM_COUNT.replace(_VLLM_HEAD, _SGLANG_HEAD).replace(
    "}}\n", ',"prompt_tokens_details":null}}\n'
)
_SGLANG_ERROR = (
    'data: {"error": {"object": "error", "message": "Generation aborted.", "type": "SERVICE_UNAVAILABLE", '
    '"param": null, "code": 503}}\n\n'
)
_TGI_HEAD = '"object":"chat.completion.chunk","id":"","created":1738431890,"model":"tiny",'
_TGI_HEAD += '"system_fingerprint":"3.0.1-sha-bb9095a",'
_TGI = _frame(_TGI_HEAD, '"logprobs":null,"finish_reason":%s', ',"usage":null')
_TGI_COUNT = _VLLM_COUNT.replace(_VLLM_HEAD, _TGI_HEAD)
_TGI_ERROR = (
    'data: {"error":"Request failed during generation: Server error: CUDA out of memory",'
    '"error_type":"generation"}\n\n'
)
_HF = _frame(
    '"id":"req_0","created":1758000000,"model":"tiny","object":"chat.completion.chunk","system_fingerprint":"",',
    '"finish_reason":%s',
    "",
)
_HF_LAST = _HF.replace("]}", '],"usage":{"completion_tokens":4,"prompt_tokens":6,"total_tokens":10}}') % (
    "{}",
    '"stop"',
)
_SEVERAL = _say(" The", " engine", " réads", r" \"a\"", r" \\")
_THOUGHT = _say("Hm", " ", "so", key="reasoning_content")

PYTHON = [
    _whole("vllm", "chat", _chunks(_VLLM, *_SEVERAL), _VLLM_COUNT),
    _whole(
        "vllm",
        "tools",
        _chunks(_VLLM, *_call(*_ARGUMENTS, start=_CALL), reason=_TOOLS),
        _VLLM_COUNT,
    ),
    _whole(
        "vllm",
        "reasoning",
        _chunks(_VLLM, *_say("Hm", key="reasoning"), *_THOUGHT, '{"content":"Yes"}'),
        _VLLM_COUNT,
    ),
    _whole("vllm", "running usage", _chunks(_VLLM_RUNNING, *_SEVERAL), ""),
    _failed("vllm", _running(_VLLM, *_SEVERAL), _VLLM_ERROR, DONE),
    _whole(
        "sglang",
        "chat",
        _chunks(_SGLANG, _SGLANG_FIRST, *_SEVERAL[1:]),
        _SGLANG_COUNT,
    ),
    _whole(
        "sglang",
        "tools",
        _chunks(_SGLANG, _SGLANG_FIRST, *_call(*_ARGUMENTS, start=_CALL), reason=_TOOLS),
        _SGLANG_COUNT,
    ),
    _whole("sglang", "reasoning", _chunks(_SGLANG, *_THOUGHT), _SGLANG_COUNT),
    _failed("sglang", _SGLANG % (_SGLANG_FIRST, "null"), _SGLANG_ERROR, DONE),
    _failed("sglang", _SGLANG % (_SGLANG_FIRST, "null"), _SGLANG % ('{"content":""}', '"abort"'), DONE),
    Transcript(
        "sglang",
        "rerank",
        b'[{"score":0.99,"document":"b","index":0,"meta_info":{"id":"a"}}]',
        NOTHING,
        SOURCE,
        content_type="application/json",
        path="/v1/rerank",
    ),
    _whole("tgi", "chat", _chunks(_TGI, *_SEVERAL), _TGI_COUNT, source=DOCUMENTS),
    _whole(
        "tgi",
        "tools",
        _chunks(_TGI, *_call(*_ARGUMENTS, start=_CALL), reason=_TOOLS),
        _TGI_COUNT,
        source=DOCUMENTS,
    ),
    _failed("tgi", _TGI % (_SEVERAL[1], "null"), _TGI_ERROR, source=DOCUMENTS),
    Transcript(
        "transformers",
        "chat without an end mark",
        (_running(_HF, *_SEVERAL) + _HF_LAST).encode(),
    ),
    Transcript(
        "transformers",
        "cut",
        _running(_HF, *_SEVERAL).encode(),
        NOTHING,
        SOURCE,
        verdict="StreamTruncated",
    ),
]


# --- servers in Go, C++ and C# ---------------------------------------------------------------------

_OLLAMA = _frame(
    '"id":"chatcmpl-523","object":"chat.completion.chunk","created":1758000000,"model":"tiny",'
    '"system_fingerprint":"fp_ollama",',
    '"finish_reason":%s',
    "",
)
_OLLAMA_COUNT = (
    'data: {"id":"chatcmpl-523","object":"chat.completion.chunk","created":1758000000,"model":"tiny",'
    '"system_fingerprint":"fp_ollama","choices":[],"usage":{"prompt_tokens":6,"completion_tokens":4,'
    '"total_tokens":10}}\n\n'
)
_OLLAMA_TEXT = [f'{{"role":"assistant","content":"{each}"}}' for each in (" The", " réads", r" \"a\"")]
_OLLAMA_LINE = (
    '{"model":"tiny","created_at":"2026-08-01T10:00:00.1Z","message":{"role":"assistant",%s},"done":false}\n'
)
_OLLAMA_LAST = (
    '{"model":"tiny","created_at":"2026-08-01T10:00:00.2Z","message":{"role":"assistant","content":""},'
    '"done":true,"done_reason":"stop","total_duration":4883583458,"load_duration":1334875,'
    '"prompt_eval_count":6,"prompt_eval_duration":342546000,"eval_count":4,"eval_duration":4535599000}\n'
)
_OLLAMA_CALL = (
    '"content":"","tool_calls":[{"function":{"name":"look","arguments":{"done":true,"at":"[DONE]"}}}]'
)
_OLLAMA_ERROR = '{"error":"an error was encountered while running the model: unexpected EOF"}\n'
_OLLAMA_COMPLETION = (
    'data: {"id":"cmpl-1","object":"text_completion","created":1,"choices":[%s],"model":"tiny",'
    '"system_fingerprint":"fp_ollama","usage":{"prompt_tokens":%d,"completion_tokens":%d,"total_tokens":%d}}\n\n'
)


def _lines(name: str, *members: str, end: str = _OLLAMA_LAST) -> Transcript:
    """An answer of Ollama's own API."""
    running = "".join(_OLLAMA_LINE % each for each in members)
    is_whole = end == _OLLAMA_LAST
    return Transcript(
        "ollama",
        f"own {name}",
        (running + end).encode(),
        COUNTED if is_whole else NOTHING,
        SOURCE,
        None if is_whole else running.encode(),
        "whole" if is_whole else "StreamFailed",
        LINES,
        "/api/chat",
    )


_LMSTUDIO_HEAD = '"id":"chatcmpl-k8x","object":"chat.completion.chunk","created":1758000000,"model":"tiny",'
_LMSTUDIO_HEAD += '"system_fingerprint":"tiny",'
_LMSTUDIO = _frame(_LMSTUDIO_HEAD, '"logprobs":null,"finish_reason":%s', "")
_LMSTUDIO_COUNT = _VLLM_COUNT.replace(_VLLM_HEAD, _LMSTUDIO_HEAD)
_LMSTUDIO_ERROR = (
    'event: error\ndata: {"error":{"message":"The model has crashed without additional information. '
    '(Exit code: 6)"}}\n\n'
)
_LOCALAI = (
    'data: {"created":1758000000,"object":"chat.completion.chunk","id":"7b0e","model":"tiny","choices":'
    '[{"index":0,"finish_reason":%s,"delta":%s}],"usage":{"prompt_tokens":%d,"completion_tokens":%d,'
    '"total_tokens":%d}}\n\n'
)


def _localai(*deltas: str, reason: str = '"stop"') -> str:
    """An older one: a reason of no words, and a usage of zeros, with each token."""
    running = "".join(_LOCALAI % ('""', delta, 0, 0, 0) for delta in deltas)
    return running + (_LOCALAI % (reason, '{"content":""}', 6, 4, 10) if reason else "")


def _kobold(*deltas: str, reason: str = '"stop"') -> str:
    """Blanks as Python's json has them."""
    frame = (
        'data: {"id": "chatcmpl-A1", "object": "chat.completion.chunk", "created": 1758000000, '
        '"model": "koboldcpp/tiny", "choices": [{"index": 0, "finish_reason": %s, "delta": %s}]}\n\n'
    )
    return "".join(frame % ("null", delta) for delta in deltas) + (frame % (reason, "{}") if reason else "")


_KOBOLD_COUNT = (
    'data: {"id": "chatcmpl-A1", "object": "chat.completion.chunk", "created": 1758000000, "model": '
    '"koboldcpp/tiny", "choices": [], "usage": {"prompt_tokens": 6, "completion_tokens": 4, '
    '"total_tokens": 10}}\n\n'
)

OTHERS = [
    _whole("ollama", "chat", _chunks(_OLLAMA, *_OLLAMA_TEXT), _OLLAMA_COUNT),
    _whole("ollama", "tools", _chunks(_OLLAMA, _CALL, reason=_TOOLS), _OLLAMA_COUNT),
    _whole(
        "ollama",
        "reasoning",
        _chunks(_OLLAMA, '{"role":"assistant","content":"","reasoning":"Hm"}', *_OLLAMA_TEXT),
        _OLLAMA_COUNT,
    ),
    Transcript(  # its own error becomes an empty chunk on the way to OpenAI's form, and then nothing comes
        "ollama",
        "error",
        _running(_OLLAMA, *_OLLAMA_TEXT, '{"role":"assistant","content":""}').encode(),
        NOTHING,
        SOURCE,
        verdict="StreamTruncated",
    ),
    Transcript(
        "ollama",
        "completion",
        (
            _OLLAMA_COMPLETION % ('{"text":" The","index":0,"finish_reason":null}', 0, 0, 0)
            + _OLLAMA_COMPLETION % ('{"text":"","index":0,"finish_reason":"stop"}', 0, 0, 0)
            + _OLLAMA_COMPLETION % ("", 6, 4, 10)
            + DONE
        ).encode(),
        COUNTED,
        SOURCE,
        (
            _OLLAMA_COMPLETION % ('{"text":" The","index":0,"finish_reason":null}', 0, 0, 0)
            + _OLLAMA_COMPLETION % ('{"text":"","index":0,"finish_reason":"stop"}', 0, 0, 0)
            + DONE
        ).encode(),
        path="/v1/completions",
    ),
    _lines("chat", '"content":" The"', '"content":" réads"', r'"content":" \"a\""'),
    _lines("tools", _OLLAMA_CALL),
    _lines("reasoning", '"content":"","thinking":"Hm"', '"content":"Yes"'),
    _lines("error", '"content":" The"', '"content":" réads"', end=_OLLAMA_ERROR),
    _whole("lmstudio", "chat", _chunks(_LMSTUDIO, *_OLLAMA_TEXT), _LMSTUDIO_COUNT, source=DOCUMENTS),
    _whole(
        "lmstudio",
        "tools",
        _chunks(_LMSTUDIO, *_call(*_ARGUMENTS, start=_CALL), reason=_TOOLS),
        _LMSTUDIO_COUNT,
        source=DOCUMENTS,
    ),
    _whole("lmstudio", "reasoning", _chunks(_LMSTUDIO, *_THOUGHT), _LMSTUDIO_COUNT, source=DOCUMENTS),
    _failed("lmstudio", _running(_LMSTUDIO, *_OLLAMA_TEXT), _LMSTUDIO_ERROR, source=DOCUMENTS),
    _whole("localai", "chat", _localai(*_OLLAMA_TEXT), ""),
    _whole(
        "localai",
        "tools",
        _localai(*_call(*_ARGUMENTS, start=_CALL), reason=_TOOLS),
        "",
    ),
    _failed(
        "localai",
        _localai(*_OLLAMA_TEXT, reason=""),
        'data: {"error":{"code":500,"message":"rpc error"}}\n\n',
    ),
    Transcript(
        "localai",
        "cut",
        _localai(*_OLLAMA_TEXT, reason="").encode(),
        NOTHING,
        SOURCE,
        verdict="StreamTruncated",
    ),
    _whole("koboldcpp", "chat", _kobold(*_OLLAMA_TEXT), _KOBOLD_COUNT),
    _whole(
        "koboldcpp",
        "reasoning",
        _kobold('{"role": "assistant", "reasoning_content": "Hm"}', *_OLLAMA_TEXT),
        _KOBOLD_COUNT,
    ),
    _whole("koboldcpp", "tools", _kobold(_CALL, reason=_TOOLS), "", usage=NOTHING),
    _failed("koboldcpp", _kobold(*_OLLAMA_TEXT, reason=""), _kobold(reason='"error"'), DONE),
]

# --- remote providers, and ends of other endpoints ----------------------------------------------------

_ROUTED = _frame(
    '"id":"gen-1","provider":"X","model":"tiny","object":"chat.completion.chunk","created":1,',
    '"finish_reason":%s,"native_finish_reason":null',
    "",
)
_ROUTED_ERROR = (
    'data: {"id":"gen-1","object":"chat.completion.chunk","created":1,"model":"tiny","provider":"X",'
    '"error":{"code":"server_error","message":"Provider disconnected"},"choices":[{"index":0,'
    '"delta":{"content":""},"finish_reason":"error"}]}\n\n'
)

REMOTE = [
    Transcript(
        "remote",
        "chat behind comments",
        (": OPENROUTER PROCESSING\n\n" * 2 + _chunks(_ROUTED, *_OLLAMA_TEXT) + _VLLM_COUNT + DONE).encode(),
        source=DOCUMENTS,
        relayed=(_chunks(_ROUTED, *_OLLAMA_TEXT) + DONE).encode(),
    ),
    _failed("remote", _running(_ROUTED, *_OLLAMA_TEXT), _ROUTED_ERROR, source=DOCUMENTS),
    Transcript(
        "remote",
        "message, overloaded",
        (
            _MESSAGE_BEGIN + _named(("error", '"error":{"type":"overloaded_error","message":"Overloaded"}'))
        ).encode(),
        Usage(6, 0),
        DOCUMENTS,
        _MESSAGE_BEGIN.encode(),
        "StreamFailed",
        path="/v1/messages",
    ),
    Transcript(
        "remote",
        "response at its limit",
        (_RESPONSE_BEGIN + _end_of_response("incomplete")).encode(),
        Usage(6, 3),
        DOCUMENTS,
        path="/v1/responses",
    ),
    Transcript(
        "remote",
        "response, failed",
        (
            _RESPONSE_BEGIN
            + _end_of_response("failed", '{"code":"server_error","message":"The model broke"}')
        ).encode(),
        Usage(6, 3),
        DOCUMENTS,
        _RESPONSE_BEGIN.encode(),
        "StreamFailed",
        path="/v1/responses",
    ),
    Transcript(
        "remote",
        "embeddings",
        b'{"object":"list","data":[{"object":"embedding","index":0,"embedding":[0.1,-0.2]}],"model":"tiny",'
        b'"usage":{"prompt_tokens":6,"total_tokens":6}}\n',
        Usage(6, None),
        DOCUMENTS,
        content_type=JSON,
        path="/v1/embeddings",
    ),
]

# --- whole answers of real engines ---------------------------------------------------------------------


def _recorded(recording: Recording, exchange: Exchange) -> Transcript:
    """What the engine sent to a request as the agent makes it, whose client had not asked for usage."""
    request = exchange.request if isinstance(exchange.request, dict) else {}
    wants = {name: value for name, value in request.items() if name != "stream_options"}
    if recording.kind == "transformers":  # the adapter leaves it out
        wants.pop("n", None)
    events = exchange.body.decode().split("\n\n")
    error = next((each for each in events if each.startswith('data: {"error"')), None)
    begun = dropwhile(lambda each: each.startswith(":"), events)  # signs of life are not for the client
    relayed = "\n\n".join(each for each in begun if not re.search(r'"choices": ?\[\],.*"usage": ?\{', each))
    return Transcript(
        recording.kind,
        f"{recording.name} {exchange.name}",
        exchange.body,
        exchange.usage,
        LIVE,
        relayed.encode() if error is None else b"",
        "whole" if error is None else "StreamFailed",
        exchange.content_type.partition(";")[0] if "event-stream" in exchange.content_type else JSON,
        exchange.path,
        json.dumps(wants).encode(),
    )


RECORDED: Sequence[Transcript] = tuple(
    _recorded(recording, exchange)
    for recording in RECORDINGS
    for exchange in recording.exchanges
    if exchange.is_success
)

TRANSCRIPTS: Sequence[Transcript] = (*LLAMACPP, *PYTHON, *OTHERS, *REMOTE, *RECORDED)
