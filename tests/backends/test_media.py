"""What an engine would fetch is found however it is spelled, and nothing else is taken for it."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from provider_agent.backends.media import remote_member

DATA = "data:image/png;base64,iVBORw0KGgo="
ADDRESSES = (
    "http://10.0.0.1/x.png",
    "https://example.org/x.png",
    "HTTPS://example.org/",
    " http://10.0.0.1/",
    "file:///etc/passwd",
    "ftp://10.0.0.1/x",
    "//10.0.0.1/x.png",
    "//localhost/x",
    "/home/me/picture.png",
    "C:\\pictures\\x.png",
)


def parts(url: str) -> list[dict[str, Any]]:
    """Every way to name media that some engine understands."""
    return [
        {"type": "image_url", "image_url": {"url": url, "detail": "low"}},
        {"type": "image_url", "image_url": url},
        {"type": "input_image", "image_url": url},
        {"image_url": {"url": url}},
        {"type": "video_url", "video_url": {"url": url}},
        {"type": "audio_url", "audio_url": {"url": url}},
        {"type": "input_audio", "input_audio": {"url": url}},
        {"type": "input_file", "file_url": url},
        {"type": "file", "file": {"file_data": url}},
        {"type": "document_url", "document_url": url},
        {"type": "image", "source": {"type": "url", "url": url}},
        {"type": "document", "source": {"type": "url", "url": url}},
        {"type": "image", "url": url},
        {"type": "image", "image": url},
        {"type": "video", "video": [DATA, url]},
        {"text": "a cat", "image": url},
    ]


def places(part: Any) -> list[dict[str, Any]]:
    """Bodies of all endpoints that have it where they read it."""
    return [
        {"messages": [{"role": "user", "content": [{"type": "text", "text": "what is this?"}, part]}]},
        {"messages": [{"role": "user", "content": [{"type": "tool_result", "content": [part]}]}]},
        {"input": [{"role": "user", "content": [part]}]},
        {"input": [{"type": "function_call_output", "output": [part]}]},
        {"input": [part]},
        {"query": part, "documents": [{"content": [part]}]},
    ]


def found(body: Any) -> str | None:
    return remote_member(json.dumps(body).encode())


@pytest.mark.parametrize("address", ADDRESSES)
def test_media_named_by_an_address_is_found_wherever_it_stands(address: str) -> None:
    """Whatever the scheme: the engine would look there from where it runs."""
    assert all(found(body) for part in parts(address) for body in places(part))


@pytest.mark.parametrize(
    "data", [DATA, "DATA:,x", "", "iVBORw0KGgo=", "/9j/4AAQ" + "A" * 5000, "data:;base64," + "A" * 5000]
)
def test_media_that_comes_with_the_request_passes(data: str) -> None:
    """As a data URL, or bare."""
    assert [found(body) for part in parts(data) for body in places(part)] == [None] * 16 * 6


URL = "https://example.org/x.png"


@pytest.mark.parametrize(
    "body",
    [
        {"messages": [{"role": "user", "content": f"what is at {URL}? ![]({URL})"}]},
        {"messages": [{"role": "user", "content": f'{{"image_url": {{"url": "{URL}"}}}}'}]},
        {"messages": [{"role": "user", "content": [{"type": "text", "text": URL}]}]},
        {"prompt": '"image_url":"http://10.0.0.1/"'},
        {"tools": [{"function": {"parameters": {"image_url": URL, "image": {"url": URL}}}}]},
        {"tools": [{"name": "f", "input_schema": {"properties": {"image_url": {"default": URL}}}}]},
        {"messages": [{"tool_calls": [{"function": {"name": "f", "arguments": {"image_url": URL}}}]}]},
        {"messages": [{"tool_calls": [{"function": {"arguments": f'{{"image_url":"{URL}"}}'}}]}]},
        {"messages": [{"content": [{"type": "tool_use", "input": {"image_url": URL}}]}]},
        {"messages": [{"content": [{"type": "search_result", "source": URL, "title": "x"}]}]},
        {"messages": [{"annotations": [{"type": "url_citation", "url": URL}]}]},
        {"input": [{"type": "web_search_call", "action": {"type": "open_page", "url": URL}}]},
        {"messages": [{"role": "user", "content": "x", "images": [URL]}]},
        {"messages": [{"content": [{"image_url": {"url": DATA}}, {"type": "text", "text": URL}]}]},
        {"response_format": {"json_schema": {"properties": {"image_url": URL}}}, "image_url": None},
        {"metadata": {"image_url": URL, "image": URL}},
        {"messages": [{"content": [{"type": "image", "source": {"type": "file", "file_id": "a.b"}}]}]},
        {"n": int("9" * 4000), "url": "x"},
    ],
)  # fmt: skip
def test_an_ordinary_request_is_never_refused(body: dict[str, Any]) -> None:
    """Text may talk of addresses; tools and schemas may have members of any name."""
    assert found(body) is None


def test_a_tool_use_hides_no_picture() -> None:
    """Only its `input` is the tool's; an object of two types is looked at whole."""
    part = parts(URL)[0]
    both = b'{"messages":[{"type":"tool_use","type":"message","input":[%b]}]}' % json.dumps(part).encode()

    assert found({"messages": [{"type": "tool_use", "input": {}, "content": [part]}]}) == "image_url"
    assert remote_member(both) == "image_url"


def test_data_that_looks_like_an_end_hides_no_picture() -> None:
    """Long data is cut out before the body is read: only data, and all that follows stays."""
    filler = "base64," + "x" * 2000
    for text in (filler, filler + "\\", filler + '"', filler + '\\"' + filler, "http://" + filler):
        assert found({"messages": [{"content": text}, *parts(URL)]}) is not None
        assert found({"image_url": "http://x/" + text}) == "image_url"
        assert found({"messages": [{"content": text}]}) is None


def test_what_cannot_be_read_is_not_passed() -> None:
    """It may hold anything."""
    with pytest.raises(ValueError, match="too deeply"):
        remote_member(b'{"a":' * 100_000 + b'{"url":1}' + b"}" * 100_000)
    with pytest.raises(ValueError, match="Expecting"):
        remote_member(b'{"image_url":')


# --- every spelling ----------------------------------------------------------------------


@st.composite
def spelled(draw: st.DrawFn, text: str, *, any_case: bool = False) -> str:
    """A text of JSON that reads as this one: some of its characters as escapes, maybe in another case."""
    if any_case:
        text = draw(st.sampled_from([text, text.upper(), text.title()]))
    escaped = draw(st.sets(st.integers(0, max(len(text) - 1, 0)), max_size=3))
    upper = draw(st.booleans())
    code = "\\u{:04X}" if upper else "\\u{:04x}"
    return "".join(
        code.format(ord(char)) if index in escaped else json.dumps(char)[1:-1]
        for index, char in enumerate(text)
    )


@st.composite
def objects(draw: st.DrawFn, value: Any, *, decoy: str) -> str:
    """A text of JSON for this value, whose members may stand twice: the other time with the decoy's data."""
    if isinstance(value, str):
        return f'"{draw(spelled(value))}"'
    if isinstance(value, list):
        return "[" + ", ".join([draw(objects(inner, decoy=decoy)) for inner in value]) + "]"
    members = []
    for name, inner in value.items():
        key = draw(spelled(name, any_case=True))
        member = f'"{key}":{draw(objects(inner, decoy=decoy))}'
        twin = f'"{name}":{json.dumps(decoy)}'
        members += draw(st.sampled_from([[member], [member, twin], [twin, member]]))
    return "{" + ",".join(members) + "}"


NAMES = st.sampled_from(["messages", "content", "input", "x", "documents", "role", "url", "image"])


@st.composite
def bodies(draw: st.DrawFn) -> str:
    """A picture by its address, somewhere."""
    part = draw(st.sampled_from(parts(draw(st.sampled_from(ADDRESSES)))))
    text = draw(objects(part, decoy=DATA))
    for _ in range(draw(st.integers(0, 6))):
        name = json.dumps(draw(NAMES))
        text = draw(
            st.sampled_from(
                [
                    f"[{text}]",
                    f"[7, {text}]",
                    f"{{{name}:{text}}}",
                    f'{{{name}:1,{name}: {text},"b":"é"}}',
                    f"{{{name}:{text},{name}:[]}}",
                ]
            )
        )
    return f'{{"messages":{text}}}'


@given(bodies())
def test_no_spelling_nesting_or_repetition_hides_a_picture(body: str) -> None:
    """Whichever of two members an engine takes, and whatever escapes stand in their names."""
    assert remote_member(body.encode()) is not None


PLAIN = ["role", "content", "text", "name", "k\N{LATIN SMALL LETTER LONG S}", "images", "url_", "arguments"]
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=20) | st.just(URL),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(PLAIN), inner, max_size=3),
    max_leaves=20,
)


@given(VALUES, st.booleans())
def test_a_request_without_media_always_passes(value: Any, ascii_only: bool) -> None:
    """Whatever its texts say, and however they are encoded."""
    assert remote_member(json.dumps({"messages": value}, ensure_ascii=ascii_only).encode()) is None
