"""What one object of an answer says."""

import pytest

from provider_agent.backends.base import Usage
from provider_agent.backends.facts import Facts, make_out, read, with_usage


def test_the_last_event_of_a_stream_is_read() -> None:
    """The ordinary case."""
    said = read(b'{"id":"x","choices":[{"index":0,"delta":{},"finish_reason":"stop"}],"usage":null}')

    assert said is not None
    assert said.failure is None
    assert said.finished_choices == {"0"}
    assert said.usage_after(Usage(1, 2)) == Usage(1, 2)


@pytest.mark.parametrize(
    ("body", "usage"),
    [
        (b'{"usage":{"prompt_tokens":3,"completion_tokens":0}}', Usage(3, 0)),
        (b'{"usage":{"input_tokens":3,"output_tokens":4}}', Usage(3, 4)),
        (b'{"prompt_eval_count":3,"eval_count":4}', Usage(3, 4)),
        (b'{"usage":{"prompt_tokens":"3","completion_tokens":-1}}', Usage(None, None)),
        (b'{"usage":{"prompt_tokens":true}}', Usage(None, None)),
        (
            b'{"usage":{"prompt_tokens":1%b,"completion_tokens":9007199254740992}}' % (b"0" * 30),
            Usage(None, 2**53),
        ),
        (b'{"usage":[3]}', Usage(None, None)),
        (b'{"timings":{"prompt_n":3,"predicted_n":4}}', Usage(3, 4)),
        (b'{"timings":{"cache_n":5,"prompt_n":1,"predicted_n":4}}', Usage(6, 4)),
        (b'{"usage":{"prompt_tokens":6,"completion_tokens":4},"timings":{"prompt_n":1}}', Usage(6, 4)),
        (b'{"timings":7}', Usage(None, None)),
        (b'{"usage":{"total_tokens":9},"results":[]}', Usage(9, None)),
        (b'{"usage":{"input_tokens":1,"cache_read_input_tokens":5,"output_tokens":2}}', Usage(6, 2)),
        (b'{"usage":{"input_tokens":0,"cache_read_input_tokens":5,"output_tokens":0}}', Usage(5, 0)),
        (b'{"usage":{"input_tokens":1,"cache_creation_input_tokens":2}}', Usage(3, None)),
        (b"{}", Usage(None, None)),
    ],
)
def test_usage_is_read_in_each_familys_words(body: bytes, usage: Usage) -> None:
    """Field note 14: nonsense and absence are unknown, and only a zero is zero."""
    said = read(body)

    assert said is not None
    assert said.usage_after(Usage()) == usage


@pytest.mark.parametrize(
    "usage",
    [
        b'{"prompt_tokens":0,"completion_tokens":0,"total_tokens":0}',
        b'{"input_tokens":0,"output_tokens":0}',
        b'{"total_tokens":0}',
        b"{}",
    ],
)
def test_a_usage_that_has_counted_nothing_says_nothing(usage: bytes) -> None:
    """Ollama and LocalAI send it with each token; a cancel must not bill zero (field note 14)."""
    said = read(b'{"choices":[{"index":0}],"usage":' + usage + b"}")

    assert said is not None
    assert said.usage_after(Usage()) == Usage(None, None)
    assert said.usage_after(Usage(3, 4)) == Usage(3, 4)


def test_later_counts_replace_earlier_ones_one_by_one() -> None:
    """Anthropic tells input at the start and output at the end."""
    assert with_usage(Usage(9, 1), {"output_tokens": 5}) == Usage(9, 5)


@pytest.mark.parametrize(
    "body",
    [b"[1]", b"", b"nonsense", b"\xff", b"[" * 100_000, b'"error"'],
)
def test_what_is_no_object_says_nothing(body: bytes) -> None:
    """It is relayed unread."""
    assert read(body) is None


@pytest.mark.parametrize("unit", [b"{}", b"[]"])
def test_what_is_nothing_but_brackets_is_not_read(unit: bytes) -> None:
    """It would stop the other jobs for longer than a token takes; a list of numbers is read."""
    brackets = b'{"done":true,"choices":[' + (unit + b",") * 150_000 + unit + b"]}"
    numbers = b'{"done":true,"choices":[' + b"0.5," * 150_000 + b"1]}"

    assert read(brackets) is make_out(brackets) is None
    assert read(numbers) is not None


def test_what_a_strict_reader_refuses_can_still_be_made_out() -> None:
    """An end in the object of a text that was cut within a surrogate pair is an end, even of a name."""
    body = rb'{"\ud83d":1,"message":{"content":"\ud83d"},"done":true,"eval_count":4}'
    said = make_out(body)

    assert read(body) is None
    assert said is not None
    assert (said.done, said.failure, said.usage_after(Usage())) == (True, None, Usage(None, 4))


@pytest.mark.parametrize(
    ("body", "is_error"),
    [(b'{"error":', True), (b'{"error":"\xff"}', True), (b"an error", False), (b'["error"]', False)],
)
def test_what_cannot_be_made_out_is_an_error_if_it_speaks_of_one(body: bytes, *, is_error: bool) -> None:
    """The safe side: an error that nobody can read must not look like an answer."""
    said = make_out(body)

    assert (said is not None and said.failure is not None) is is_error


@pytest.mark.parametrize("body", [b'{"choices":{}}', b'{"choices":[1]}', b'{"choices":[{"index":[]}]}'])
def test_odd_choices_finish_nothing(body: bytes) -> None:
    """An engine's slip must not hide the other members."""
    said = read(body)

    assert said is not None
    assert said.finished_choices == frozenset()


@pytest.mark.parametrize("index", ["0", [1], None, "a" * 100_000, 10**300, -1, 0.5])
def test_an_index_that_is_no_number_is_still_one_choice_and_a_small_one(index: object) -> None:
    """It only has to be told from the others, and is remembered for as long as the answer lasts."""
    (finished,) = Facts(choices=[{"index": index, "finish_reason": "stop"}]).finished_choices

    assert len(str(finished)) <= 20


def test_an_empty_reason_to_finish_is_none() -> None:
    """LocalAI has sent it with each token: such a stream is not whole because of it (field note 28)."""
    assert Facts(choices=[{"index": 0, "finish_reason": ""}]).finished_choices == frozenset()


@pytest.mark.parametrize(
    "body",
    [
        b'{"choices":[{"index":0,"finish_reason":"error"}]}',
        b'{"choices":[{"index":0,"finish_reason":"abort"}]}',
        b'{"choices":[{"index":0,"error":{"code":502,"message":"upstream"},"finish_reason":null}]}',
        b'{"object":"response","status":"failed","error":null}',
    ],
)
def test_an_answer_that_the_engine_gave_up_is_an_error(body: bytes) -> None:
    """In the words of SGLang, OpenRouter and `/v1/responses`: it never looks whole (field note 28)."""
    said = read(body)

    assert said is not None
    assert said.failure is not None


@pytest.mark.parametrize("reason", ["stop", "length", "tool_calls", "content_filter", "eos_token"])
def test_a_models_own_reason_to_finish_is_no_error(reason: str) -> None:
    """Whatever it is called."""
    assert Facts(choices=[{"index": 0, "finish_reason": reason}]).failure is None
