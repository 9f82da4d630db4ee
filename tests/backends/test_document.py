"""One JSON document, fed by hand."""

import json
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from provider_agent.backends.base import StreamTruncated, Usage
from provider_agent.backends.document import MAX_HELD_BYTES, DocumentScanner, Nesting
from tests.backends.test_stream import UNREADABLE_ERRORS
from tests.fakes.scanning import BORDERS, byte_by_byte, read, split

CHAT = {
    "choices": [{"message": {"content": 'a } \\ " { é'}}],
    "usage": {"prompt_tokens": 3, "completion_tokens": 2},
}


def document(value: object) -> bytes:
    return json.dumps(value, ensure_ascii=False).encode()


def test_a_whole_answer_is_relayed_verbatim_and_counted() -> None:
    """Its line end, too."""
    body = b" \n" + document(CHAT) + b"\n"

    assert read(DocumentScanner(), [body]) == (body, Usage(3, 2), "whole")


def test_an_embedding_counts_its_input() -> None:
    """Field note 14: there is no output to count, so it is unknown and not zero."""
    body = document({"data": [{"embedding": [0.1]}], "usage": {"prompt_tokens": 8, "total_tokens": 8}})

    assert read(DocumentScanner(), [body])[1] == Usage(8, None)


def test_a_list_is_an_answer_where_the_endpoint_has_such() -> None:
    """Recorded from llama.cpp's `/v1/rerank` with `texts`; SGLang's is one, too."""
    body = b'[{"index":1,"score":-0.91},{"index":0,"score":-1.02}]'

    assert read(DocumentScanner(may_be_list=True), [body, b"\n"]) == (body + b"\n", Usage(), "whole")
    assert read(DocumentScanner(may_be_list=True), [body[:-1]])[2].startswith("StreamTruncated")
    assert read(DocumentScanner(may_be_list=True), [b"[1,]"])[2].startswith("BackendFailed")
    assert read(DocumentScanner(), [body])[2].startswith("BackendFailed")


def test_an_answer_of_ollama_is_counted() -> None:
    """Its counts are beside the message."""
    body = document({"message": {"content": "a"}, "done": True, "prompt_eval_count": 4, "eval_count": 1})

    assert read(DocumentScanner(), [body])[1] == Usage(4, 1)


def test_the_answer_is_complete_at_its_last_brace() -> None:
    """Nobody waits for an engine that keeps the connection open."""
    scanner = DocumentScanner()
    scanner.feed(document(CHAT))

    assert scanner.ended


def test_nothing_is_relayed_before_the_answer_is_whole() -> None:
    """A bad answer has to fail before its first byte, so that another engine can be asked."""
    scanner = DocumentScanner()

    assert scanner.feed(document(CHAT)[:-1]) == b""


def test_an_error_in_a_200_fails_before_the_first_byte() -> None:
    """Field note 28."""
    assert read(DocumentScanner(), [document({"error": {"message": "boom", "code": 500}})]) == (
        b"",
        Usage(),
        "StreamFailed: the engine reported an error inside its answer",
    )


@pytest.mark.parametrize("error", UNREADABLE_ERRORS[:-1])
def test_an_error_that_is_hard_to_read_is_one(error: bytes) -> None:
    """A quoted prompt may have been cut amid a character."""
    assert read(DocumentScanner(), [error])[::2] == (
        b"",
        "StreamFailed: the engine reported an error inside its answer",
    )


def test_half_a_character_is_the_clients_to_judge() -> None:
    """An answer that was cut at its limit, within a surrogate pair, is JSON all the same."""
    body = rb'{"choices":[{"message":{"content":"half \ud83d"}}],"usage":{"prompt_tokens":3}}'

    assert read(DocumentScanner(), [body]) == (body, Usage(3, None), "whole")


def test_an_error_that_is_null_is_none() -> None:
    """Some engines send the member always."""
    assert read(DocumentScanner(), [document({"error": None, **CHAT})])[2] == "whole"


def test_a_truncated_answer_fails_before_the_first_byte() -> None:
    """Field note 28."""
    scanner = DocumentScanner()
    scanner.feed(document(CHAT)[:-3])

    with pytest.raises(StreamTruncated):
        scanner.finish()


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"<html></html>", "the engine's answer is no JSON object"),
        (b"[1]", "the engine's answer is no JSON object"),
        (b"{oops}", "the engine's answer is no valid JSON"),
        (b'{"embedding":[NaN]}', "the engine's answer is no valid JSON"),
        (b"", "the engine's answer is empty"),
    ],
)
def test_what_is_no_json_object_is_no_answer(body: bytes, words: str) -> None:
    """Field note 28: HTML with a false header."""
    assert read(DocumentScanner(), [body]) == (b"", Usage(), f"BackendFailed: {words}")


LONG = [0.125] * (MAX_HELD_BYTES // 5)


@pytest.mark.parametrize(
    "value",
    [
        {"usage": {"prompt_tokens": 7, "x": {"y": 1}}, "data": LONG},
        {"data": LONG, "usage": {"prompt_tokens": 7, "x": {"y": 1}}},
    ],
)
def test_a_long_answer_streams_and_is_counted(value: object) -> None:
    """A hundred embeddings are megabytes; llama.cpp has usage first, others last."""
    body = document(value)
    scanner = DocumentScanner()
    pieces = [body[at : at + 65536] for at in range(0, len(body), 65536)]
    relayed = [scanner.feed(piece) for piece in pieces]

    assert b"".join(relayed) == body
    assert sum(map(bool, relayed)) > 1
    assert scanner.finish() == b""
    assert scanner.usage == Usage(7, None)
    assert len(scanner._held) + len(scanner._tail) < 65536


def test_a_long_answer_that_breaks_off_is_truncated() -> None:
    """The connection's clean end does not make it whole."""
    body = document({"data": LONG})[:-1]

    assert read(DocumentScanner(), [body])[2].startswith("StreamTruncated")


def test_a_long_answer_is_relayed_alike_in_one_piece() -> None:
    """Whether it is long is a matter of its bytes, not of the reads."""
    body = document({"data": LONG, "usage": {"prompt_tokens": 7}})

    assert read(DocumentScanner(), [body]) == (body, Usage(7, None), "whole")


VALUES = st.recursive(
    st.none() | st.integers() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text('ab"\\{}é', max_size=4), inner, max_size=3)
    ),
    max_leaves=8,
)
OBJECTS = st.dictionaries(st.sampled_from(["error", "usage", "choices", "x"]), VALUES, max_size=4)


@given(OBJECTS, st.sampled_from([b"", b"\n", b" x", b"{}"]), st.integers(0, 40), BORDERS)
def test_any_split_gives_the_same_bytes_usage_and_verdict(
    value: object, after: bytes, cut: int, borders: list[int]
) -> None:
    """Field note 32."""
    body = document(value) + after
    body = body[: len(body) - cut] if cut < 20 else body
    whole = read(DocumentScanner(), [body])

    assert read(DocumentScanner(), split(body, borders)) == whole
    assert read(DocumentScanner(), byte_by_byte(body)) == whole


@given(OBJECTS, BORDERS)
def test_the_last_brace_is_found(value: object, borders: list[int]) -> None:
    """Brackets and quotes inside texts are text."""
    body = document(value)
    nesting = Nesting()
    ends = [nesting.feed(piece) for piece in split(body, borders)]

    assert [end is None for end in ends] == [True] * (len(ends) - 1) + [False]


def end_sign_by_sign(data: bytes) -> int | None:
    """The slow way to find the end of what begins with a bracket."""
    depth, is_in_text, at = 0, False, 0
    while at < len(data):
        sign = data[at : at + 1]
        at += 1
        if sign == b"\\" and data[at : at + 1] in (b'"', b"\\"):
            at += 1
        elif sign == b'"':
            is_in_text = not is_in_text
        elif not is_in_text and sign in (b"{", b"["):
            depth += 1
        elif not is_in_text and sign in (b"}", b"]"):
            depth -= 1
            if depth == 0:
                return at
    return None


@given(st.text('"\\{}[]a', max_size=60).map(str.encode), BORDERS)
def test_the_end_is_the_same_one_however_it_is_looked_for(data: bytes, borders: list[int]) -> None:
    """Whether the brackets make sense or not, and wherever the bytes are cut."""
    nesting, at, found = Nesting(), 0, None
    for piece in split(b"{" + data, borders):
        end = nesting.feed(piece)
        if end is not None:
            found = at + end
            break
        at += len(piece)

    assert found == end_sign_by_sign(b"{" + data)


@pytest.mark.parametrize("unit", [b"[],", b"[[[[]]]],", b'"",', b'"\\"",', b"[" * 99 + b"]" * 99 + b","])
def test_no_answer_keeps_the_event_loop_busy(unit: bytes) -> None:
    """One that is all brackets and quotes is found out as fast as it comes."""
    busy_s, ends = finding_the_end(unit)
    ordinary_s, _ = finding_the_end(b'"the model said so, in ordinary words",')

    assert busy_s < 20 * ordinary_s
    assert [end is None for end in ends] == [True] * (len(ends) - 1) + [False]


def finding_the_end(unit: bytes) -> tuple[float, list[int | None]]:
    """CPU seconds for a large body of one thing, for comparison only; and what each read said."""
    body = b'{"data":[' + unit * (4 * MAX_HELD_BYTES // len(unit)) + b"0]}"
    nesting = Nesting()
    began_s = time.process_time()
    ends = [nesting.feed(body[at : at + 65536]) for at in range(0, len(body), 65536)]
    return time.process_time() - began_s, ends
