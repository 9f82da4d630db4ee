"""What is changed in a request on its way to an engine, and what is not."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from provider_agent.backends.base import BadRequest, Call
from provider_agent.backends.request import (
    CHAT,
    COMPLETIONS,
    EMBEDDINGS,
    MESSAGES,
    OLLAMA_CHAT,
    OLLAMA_EMBED,
    OLLAMA_GENERATE,
    RERANK,
    RESPONSES,
    EngineRequest,
    prepare,
    without,
)


def prepared(body: bytes, endpoint: str = CHAT, *, stream: bool = True) -> EngineRequest:
    return prepare(Call(endpoint, "routed", body, stream, first_byte_timeout_s=1, idle_timeout_s=1))


def test_all_but_the_named_edits_stays_as_it_was_spelled() -> None:
    """Field note 35: seed, tools, images, penalties, big numbers, number spelling, escapes, inner blanks."""
    body = (
        b'{"model": "m", "seed": 123456789012345678901234567890, "temperature": 1.50e-1,'
        b' "tools": [ {"a" : 1} ], "messages":[{"role":"user",'
        b'"content":[{"type":"image_url","image_url":{"url":"data:;base64,\\u0041"}}]}]}'
    )
    kept = (
        b'"seed":123456789012345678901234567890,"temperature":1.50e-1,"tools":[ {"a" : 1} ],'
        b'"messages":[{"role":"user","content":[{"type":"image_url","image_url":{"url":"data:;base64,\\u0041"}}]}]'
    )

    assert prepared(body, stream=False).body == b'{"model":"routed",' + kept + b',"stream":false}'


@pytest.mark.parametrize(
    "body", [b'{"model":"secret-big-one"}', b"{}", b'{"model":{"a":1}}', b'{"model":"a","model":"b"}']
)
@pytest.mark.parametrize(
    "endpoint", [CHAT, COMPLETIONS, EMBEDDINGS, OLLAMA_CHAT, OLLAMA_GENERATE, OLLAMA_EMBED]
)
def test_the_routed_model_is_the_one_that_is_executed(body: bytes, endpoint: str) -> None:
    """Field note 24: the body's model is overwritten, always."""
    assert json.loads(prepared(body, endpoint).body)["model"] == "routed"
    assert prepared(body, endpoint).body.count(b'"model"') == 1


@pytest.mark.parametrize("endpoint", [CHAT, COMPLETIONS])
def test_a_streamed_answer_is_asked_to_count_its_tokens(endpoint: str) -> None:
    """Field note 29: and the event is removed again, since the client did not ask."""
    request = prepared(b'{"stream":true}', endpoint)

    assert json.loads(request.body)["stream_options"] == {"include_usage": True}
    assert request.drops_usage


def test_other_stream_options_are_kept() -> None:
    """Field note 29: options without include_usage mean no usage event."""
    request = prepared(
        b'{"stream":true,"stream_options":{"include_obfuscation":false,"include_usage":false}}'
    )

    assert json.loads(request.body)["stream_options"] == {"include_obfuscation": False, "include_usage": True}
    assert request.drops_usage


def test_a_client_that_asks_for_usage_keeps_it() -> None:
    """Field note 29."""
    assert not prepared(b'{"stream":true,"stream_options":{"include_usage":true}}').drops_usage


def test_stream_options_that_are_none_are_the_engines_to_refuse() -> None:
    """We do not mend what the client got wrong."""
    request = prepared(b'{"stream":true,"stream_options":7}')

    assert json.loads(request.body)["stream_options"] == 7
    assert not request.drops_usage


def test_an_answer_in_one_piece_needs_no_options() -> None:
    """Engines refuse stream_options without stream."""
    request = prepared(b'{"stream":false}')

    assert "stream_options" not in json.loads(request.body)
    assert not request.is_streamed


@pytest.mark.parametrize(
    ("endpoint", "body", "job_says", "streamed", "written"),
    [
        (CHAT, b'{"stream":false}', True, False, False),
        (CHAT, b'{"stream":true}', False, True, True),
        (CHAT, b"{}", True, True, True),
        (CHAT, b'{"stream":null}', False, False, False),
        (COMPLETIONS, b"{}", False, False, False),
        (EMBEDDINGS, b"{}", True, False, None),
        (OLLAMA_CHAT, b"{}", True, True, None),
        (OLLAMA_CHAT, b"{}", False, False, False),
        (OLLAMA_GENERATE, b'{"stream":true}', False, True, True),
        (OLLAMA_EMBED, b"{}", True, False, None),
    ],
)
def test_the_body_decides_about_streaming_and_then_the_job(
    endpoint: str, body: bytes, job_says: bool, streamed: bool, written: bool | None
) -> None:
    """OpenAI's default is one piece, Ollama's a stream: the job's flag is written where they differ."""
    request = prepared(body, endpoint, stream=job_says)

    assert request.is_streamed is streamed
    assert json.loads(request.body).get("stream") is written


@pytest.mark.parametrize(
    ("body", "choices"),
    [
        (b'{"prompt":["a","b"]}', 2),
        (b'{"prompt": [ "a" , "b" ],"n":2}', 4),
        (b'{"prompt":[[1,2],[3]]}', 2),
        (b'{"prompt":[1,2,3]}', 1),
        (b'{"prompt":[]}', 1),
        (b'{"prompt":"a","n":3}', 3),
        (b'{"prompt":null}', 1),
        (b"{}", 1),
    ],
)
def test_each_prompt_of_a_list_has_its_choices(body: bytes, choices: int) -> None:
    """Else the end of the first answer would be taken for the end of all (field note 28)."""
    assert prepared(body, COMPLETIONS).choices == choices
    assert prepared(body, CHAT).choices == json.loads(body).get("n", 1)


def test_only_a_rerank_may_be_answered_with_a_list() -> None:
    """No other endpoint has such answers."""
    assert prepared(b"{}", RERANK).may_be_list
    assert not prepared(b"{}", EMBEDDINGS).may_be_list


def test_the_number_of_choices_is_read() -> None:
    """An answer without `[DONE]` ends when each of them has finished."""
    assert prepared(b'{"n":3}').choices == 3
    assert prepared(b'{"n":"x"}').choices == 1
    assert prepared(b'{"n":1e999}').choices == 1


@pytest.mark.parametrize(
    "body", [b"", b"[]", b'"x"', b'{"a":', b"\xff", b"[" * 100_000, b'{"a":' + b"[" * 100_000]
)
def test_a_body_that_is_no_json_object_is_a_bad_request(body: bytes) -> None:
    """It is refused before an engine is asked."""
    with pytest.raises(BadRequest, match="the request body is not a JSON object"):
        prepared(body)


VALUES = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.text(max_size=5)
    | st.lists(st.text(max_size=3), max_size=2)
)


@given(st.dictionaries(st.text(max_size=8), VALUES, max_size=5))
def test_every_other_member_arrives(members: dict[str, object]) -> None:
    """Field note 35."""
    mine = {"model", "stream", "stream_options"}
    sent = json.loads(prepared(json.dumps(members).encode()).body)

    assert {k: v for k, v in sent.items() if k not in mine} == {
        k: v for k, v in members.items() if k not in mine
    }


@pytest.mark.parametrize(
    ("endpoint", "body", "expected"),
    [
        (CHAT, {}, {"max_tokens": 100}),
        (CHAT, {"max_tokens": 7}, {"max_tokens": 7}),
        (CHAT, {"max_tokens": 700}, {"max_tokens": 100}),
        (CHAT, {"max_completion_tokens": 700}, {"max_completion_tokens": 100}),
        (COMPLETIONS, {"max_tokens": None}, {"max_tokens": 100}),
        (OLLAMA_CHAT, {}, {"options": {"num_predict": 100}}),
        (
            OLLAMA_GENERATE,
            {"options": {"num_predict": -1, "seed": 1}},
            {"options": {"num_predict": 100, "seed": 1}},
        ),
        (OLLAMA_CHAT, {"options": {"num_predict": 5}}, {"options": {"num_predict": 5}}),
        (EMBEDDINGS, {}, {}),
        (RESPONSES, {"max_output_tokens": 700}, {"max_output_tokens": 100}),
        (MESSAGES, {"max_tokens": 700}, {"max_tokens": 100}),
        (CHAT, {"max_tokens": 7, "n_predict": -1}, {"max_tokens": 7, "n_predict": 100}),
        (COMPLETIONS, {"max_tokens": -1}, {"max_tokens": 100}),
        (RESPONSES, {}, {"max_output_tokens": 100}),
        (MESSAGES, {}, {"max_tokens": 100}),
        (MESSAGES, {"max_tokens": 7}, {"max_tokens": 7}),
        (OLLAMA_GENERATE, {"options": None}, {"options": {"num_predict": 100}}),
        (OLLAMA_GENERATE, {"options": 7}, {"options": 7}),
        (RERANK, {}, {}),
        (RESPONSES, {"n_predict": 5}, {"max_output_tokens": 100, "n_predict": 5}),
        (OLLAMA_CHAT, {"Options": {"num_predict": -1}}, {"options": {"num_predict": 100}}),
        (CHAT, {"MAX_TOKENS": 700}, {"max_tokens": 100}),
    ],
)
def test_the_operators_limit_shortens_what_is_asked_for_and_nothing_else(
    endpoint: str, body: dict[str, object], expected: dict[str, object]
) -> None:
    """A request within the limit stays as it is; one without a length gets the limit."""
    call = Call(
        endpoint,
        "m",
        json.dumps(body).encode(),
        stream=False,
        first_byte_timeout_s=1,
        idle_timeout_s=1,
        max_output_tokens=100,
    )
    sent = json.loads(prepare(call).body)

    assert {name: value for name, value in sent.items() if name not in ("model", "stream")} == expected


@pytest.mark.parametrize("name", ["Model", "MODEL", "mod\\u0045l"])
def test_another_spelling_of_the_model_does_not_reach_an_engine_that_reads_it(name: str) -> None:
    """Engines in Go look for `model` in any case, and take the last one (field note 24)."""
    body = f'{{"model":"a","messages":[],"{name}":"secret-big-one"}}'.encode()

    assert json.loads(prepared(body, OLLAMA_CHAT).body) == {"model": "routed", "messages": []}


PICTURE = b'{"messages":[{"content":[{"type":"image_url","image_url":{"url":"http://10.0.0.1/"}}]}]}'


def test_a_picture_by_its_address_is_refused_with_what_to_do() -> None:
    """The engine would fetch it from inside the operator's network."""
    with pytest.raises(BadRequest) as refused:
        prepared(PICTURE)

    assert "`image_url` names media by its address" in refused.value.message
    assert "send the data itself, as a data URL" in refused.value.message
    assert "10.0.0.1" not in refused.value.message


def test_a_client_of_anthropics_is_told_of_the_form_that_its_api_has() -> None:
    """A `source` there takes no data URL."""
    source = b'{"type":"url","url":"http://10.0.0.1/"}'
    body = b'{"messages":[{"content":[{"type":"image","source":' + source + b"}]}]}"
    with pytest.raises(BadRequest) as refused:
        prepared(body, MESSAGES)

    assert "`source` names media by its address" in refused.value.message
    assert 'as a source {"type": "base64", "media_type": "image/png", "data": "…"}' in refused.value.message
    assert "data URL" not in refused.value.message


def test_a_picture_by_its_address_passes_where_the_operator_allows_it() -> None:
    """It is then sent as it came."""
    call = Call(CHAT, "m", PICTURE, False, first_byte_timeout_s=1, idle_timeout_s=1, allow_remote_media=True)

    assert PICTURE[1:-1] in prepare(call).body


def test_what_cannot_be_searched_for_pictures_is_refused() -> None:
    """No recursion brings the agent down, and no picture hides below one."""
    deep = b'{"a":' * 5_000 + PICTURE + b"}" * 5_000

    with pytest.raises(BadRequest):
        prepared(deep)


def test_a_member_that_an_engine_would_not_heed_can_be_left_out() -> None:
    """The others stay as they were spelled; what is no object is for `prepare` to refuse."""
    assert without(b'{"n":2,"temperature":1.0}', "n") == b'{"temperature":1.0}'
    assert without(b"[1,", "n") == b"[1,"
