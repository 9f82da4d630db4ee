"""Scanners are fed bytes by hand: no loop, no socket."""

import json
import tracemalloc
from collections.abc import Callable

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from provider_agent.backends.base import BackendFailed, StreamFailed, StreamTruncated, Usage
from provider_agent.backends.blocks import MAX_HELD_BYTES
from provider_agent.backends.document import DocumentScanner
from provider_agent.backends.stream import (
    EventScanner,
    LineScanner,
    Scanner,
    scanner_for,
)
from tests.fakes.engine import DONE, chat_chunk, usage_event
from tests.fakes.scanning import BORDERS, byte_by_byte, read, split

ANSWER = chat_chunk("Hel") + chat_chunk("lo") + chat_chunk("", "stop")
ERROR = b'data: {"error":{"message":"CUDA out of memory at 10.0.0.3","code":500}}\n\n'


UNREADABLE_ERRORS = [
    b'{"error":{"message":"boom \xff"}}',
    rb'{"error":{"message":"boom \ud83d"}}',
    b'{"error":{"message":"boom \x01","loss":NaN}}',
    b'{"object":"error","message":"boom \xff"}',
    b'{"error":' + b"[" * 2000 + b"]" * 2000 + b"}",
    b'{"error":"boom',
]
"""What no strict reader of JSON takes."""


class TestEvents:
    """Server-sent events."""

    def test_a_whole_answer_is_relayed_verbatim(self) -> None:
        """Role, text, finish_reason and end mark are the client's as the engine wrote them."""
        body = ANSWER + DONE

        assert read(EventScanner(), [body]) == (body, Usage(), "whole")

    def test_the_answer_is_complete_at_its_end_mark(self) -> None:
        """Some engines keep the connection open after `[DONE]`."""
        scanner = EventScanner()
        scanner.feed(ANSWER)

        assert not scanner.ended
        scanner.feed(DONE)
        assert scanner.ended

    def test_bytes_after_the_end_mark_are_not_relayed(self) -> None:
        """Whatever an engine sends there is not part of this answer."""
        assert read(EventScanner(), [ANSWER + DONE + chat_chunk("more")])[0] == ANSWER + DONE

    def test_a_finish_reason_before_the_end_of_the_body_is_an_end(self) -> None:
        """`transformers serve` never sends `[DONE]`."""
        assert read(EventScanner(), [ANSWER])[2] == "whole"

    def test_each_choice_must_finish(self) -> None:
        """With n=2, one finished choice is half an answer."""
        assert read(EventScanner(choices=2), [ANSWER])[2].startswith("StreamTruncated")

    def test_an_end_mark_without_its_blank_line_is_one_at_the_end_of_the_body(self) -> None:
        """Nothing of the answer is missing."""
        body = chat_chunk("a") + b"data: [DONE]"

        assert read(EventScanner(drops_usage=True), [body]) == (body, Usage(), "whole")

    @pytest.mark.parametrize("half", [b'data: {"choices":[],"usa', b"data: [DO", b": pi", b"data"])
    def test_half_an_event_behind_the_last_finish_reason_is_no_part_of_the_answer(self, half: bytes) -> None:
        """The answer is whole, what the cut left of the next event is not (field note 28)."""
        for scanner in (EventScanner(), EventScanner(drops_usage=True)):
            assert read(scanner, [ANSWER + half]) == (ANSWER, Usage(), "whole")

    def test_a_finish_reason_without_its_blank_line_is_one_at_the_end_of_the_body(self) -> None:
        """It can be read: nothing of it is missing."""
        body = ANSWER.rstrip(b"\n")

        assert read(EventScanner(), [body]) == (body, Usage(), "whole")

    def test_the_mark_inside_a_text_is_no_end(self) -> None:
        """A model may write about `[DONE]`."""
        scanner = EventScanner()
        scanner.feed(chat_chunk("[DONE]") + chat_chunk("data: [DONE]\n\n"))

        assert not scanner.ended

    def test_a_truncated_stream_is_not_done(self) -> None:
        """Field note 28."""
        relayed, _, verdict = read(EventScanner(), [chat_chunk("Hel")])

        assert relayed == chat_chunk("Hel")
        assert verdict == "StreamTruncated: the engine's answer stopped before its end"

    def test_an_error_event_fails_and_is_not_relayed(self) -> None:
        """Field note 28: neither it nor an end mark after it reaches the client; field note 31: our words."""
        relayed, _, verdict = read(EventScanner(), [chat_chunk("a") + ERROR + DONE])

        assert relayed == chat_chunk("a")
        assert verdict == "StreamFailed: the engine reported an error inside its answer"

    @pytest.mark.parametrize(
        "event",
        [
            b'data: {"error":"boom"}\n\n',
            b'data: {"object":"error","message":"boom","code":500}\n\n',
            b'event: error\ndata: {"type":"error","error":{"type":"overloaded_error"}}\n\n',
            b"event: error\ndata: boom\n\n",
            b'error: {"code":500,"message":"boom"}\n\n',
            b'data: {"error":\ndata: {"message":"boom"}}\n\n',
            b'id: 7\r\ndata: {"choices":[],"error":{"message":"boom"}}\r\n\r\n',
            *(b"data: " + each + b"\n\n" for each in UNREADABLE_ERRORS),
        ],
    )
    def test_every_engines_way_to_report_an_error_is_known(self, event: bytes) -> None:
        """OpenAI's, old vLLM's, Anthropic's, TGI's, old llama.cpp's, on several lines, beside choices.

        And none is lost for a quoted prompt that was cut amid a character.
        """
        relayed, _, verdict = read(EventScanner(drops_usage=True), [chat_chunk("a"), event, DONE])

        assert relayed == chat_chunk("a")
        assert verdict.startswith("StreamFailed")

    def test_the_engines_words_are_kept_with_a_4xx_code(self) -> None:
        """The client can mend its request; field note 30."""
        event = b'data: {"error":{"message":"context is full: see http://10.1.2.3/x","code":400}}\n\n'
        scanner = EventScanner()
        scanner.feed(event)

        with pytest.raises(StreamFailed, match=r"^context is full: see <url>$") as caught:
            scanner.finish()
        assert caught.value.http_status == 400

    @pytest.mark.parametrize(
        "member", [b'"error":null', b'"error": {}', b'"text":"\\"error\\""', b'"e":"error"']
    )
    def test_no_error_is_none(self, member: bytes) -> None:
        """Some engines send the member in each event."""
        body = b'data: {"choices":[],' + member + b"}\n\n" + DONE

        assert read(EventScanner(), [body]) == (body, Usage(), "whole")

    def test_a_page_is_no_stream(self) -> None:
        """Field note 28: HTML with a false header fails before its first byte."""
        assert read(EventScanner(), [b"\n<html>", b"</html>"]) == (
            b"",
            Usage(),
            "BackendFailed: the engine answered with a page instead of a stream",
        )

    @pytest.mark.parametrize("pieces", [[], [b""], [b"\n\n"]])
    def test_nothing_is_no_answer(self, pieces: list[bytes]) -> None:
        """Field note 28: a 200 with an empty body."""
        assert read(EventScanner(), pieces)[2] == "BackendFailed: the engine's answer is empty"

    def test_an_event_that_is_no_json_is_relayed(self) -> None:
        """It is between the engine and the client."""
        body = b": usage follows\n\ndata: an error, maybe\n\ndata: [1]\n\n" + DONE

        assert read(EventScanner(drops_usage=True), [body])[0] == body

    def test_half_a_character_hides_no_end(self) -> None:
        """Some engines cut a text within a surrogate pair; field note 28."""
        body = rb'data: {"choices":[{"delta":{"content":"\ud83d"},"finish_reason":"length"}]}' + b"\n\n"

        assert read(EventScanner(), [body])[::2] == (body, "whole")


class TestUsage:
    """What the engine counted."""

    def test_the_extra_usage_event_does_not_leak_to_a_client_that_did_not_ask(self) -> None:
        """Field note 29: the count is read, the event removed, all else verbatim."""
        body = ANSWER + usage_event(3, 2) + DONE

        assert read(EventScanner(drops_usage=True), [body]) == (ANSWER + DONE, Usage(3, 2), "whole")

    def test_a_client_that_asked_for_usage_gets_the_event(self) -> None:
        """Field note 29."""
        body = ANSWER + usage_event(3, 2) + DONE

        assert read(EventScanner(), [body]) == (body, Usage(3, 2), "whole")

    def test_usage_beside_choices_is_read_and_stays(self) -> None:
        """`transformers serve` sends it unasked in the last chunk."""
        body = b'data: {"choices":[{"index":0,"finish_reason":"stop"}],"usage":{"prompt_tokens":1}}\n\n'

        assert read(EventScanner(drops_usage=True), [body]) == (body, Usage(1, None), "whole")

    def test_an_event_without_choices_and_usage_stays(self) -> None:
        """Azure's first event holds filter results."""
        body = b'data: {"choices":[],"prompt_filter_results":[],"usage":null}\n\n' + DONE

        assert read(EventScanner(drops_usage=True), [body])[0] == body

    def test_usage_is_kept_when_the_stream_fails(self) -> None:
        """Field note 14: tokens were made, whatever came then."""
        running = b'data: {"choices":[{"index":0}],"usage":{"prompt_tokens":9,"completion_tokens":4}}\n\n'

        assert read(EventScanner(), [running + ERROR])[1] == Usage(9, 4)
        assert read(EventScanner(), [running])[1] == Usage(9, 4)

    @pytest.mark.parametrize(
        ("scanner", "body"),
        [
            (EventScanner(), b'data: {"error":{"message":"x"},"usage":{"prompt_tokens":3}}\n\n'),
            (
                EventScanner(),
                b'data: {"type":"response.failed","response":{"usage":{"input_tokens":3},"error":null}}\n\n',
            ),
            (LineScanner(), b'{"error":"boom","prompt_eval_count":3}\n'),
            (DocumentScanner(), b'{"error":{"message":"x"},"usage":{"prompt_tokens":3}}'),
        ],
    )
    def test_usage_beside_an_error_counts(self, scanner: Scanner, body: bytes) -> None:
        """Field note 14: it was computed, and then it failed."""
        _, usage, verdict = read(scanner, [body])

        assert verdict.startswith("StreamFailed")
        assert usage == Usage(3, None)

    def test_timings_are_read_with_each_token(self) -> None:
        """Of llama.cpp with `timings_per_token`: known also if the client leaves amid the answer."""
        event = b'data: {"choices":[{"index":0,"delta":{"content":"a"}}],"timings":{"predicted_n":%d}}\n\n'
        scanner = EventScanner()
        for number in range(1, 4):
            scanner.feed(event % number)

        assert scanner.usage == Usage(None, 3)

    def test_unknown_usage_is_none_and_not_zero(self) -> None:
        """Field note 14."""
        assert read(EventScanner(), [ANSWER + DONE])[1] == Usage(None, None)


class TestResponses:
    """Events of `/v1/responses`, each with its name."""

    @staticmethod
    def event(kind: str, **members: object) -> bytes:
        payload = json.dumps({"type": kind, **members})
        return f"event: {kind}\ndata: {payload}\n\n".encode()

    def test_a_whole_response_is_relayed_and_counted(self) -> None:
        """The last event ends it, and holds the usage; there is no `[DONE]`."""
        response = {"error": None, "usage": {"input_tokens": 3, "output_tokens": 5}}
        body = (
            self.event("response.created", response={"error": None, "usage": None})
            + self.event("response.output_text.delta", delta="Hi")
            + self.event("response.completed", response=response)
        )
        scanner = EventScanner()

        assert read(scanner, [body]) == (body, Usage(3, 5), "whole")
        assert scanner.ended

    def test_a_response_that_reached_its_limit_is_whole(self) -> None:
        """`incomplete` is the engine's word for finish_reason `length`."""
        body = self.event("response.incomplete", response={"usage": {"output_tokens": 9}})

        assert read(EventScanner(), [body]) == (body, Usage(None, 9), "whole")

    def test_a_response_that_stops_before_its_last_event_is_truncated(self) -> None:
        """Field note 28."""
        body = self.event("response.output_text.delta", delta="Hi")

        assert "StreamTruncated" in read(EventScanner(), [body])[2]

    @pytest.mark.parametrize(
        "members", [{"response": {"error": {"message": "out of memory"}}}, {"response": None}, {}]
    )
    def test_a_failed_response_is_an_error(self, members: dict[str, object]) -> None:
        """Field note 28: it never looks whole, and its event is not relayed."""
        relayed, _, verdict = read(EventScanner(), [self.event("response.failed", **members)])

        assert relayed == b""
        assert verdict.startswith("StreamFailed")


class TestMessages:
    """Events of `/v1/messages`, as Anthropic names them."""

    BEGIN = TestResponses.event("message_start", message={"usage": {"input_tokens": 11, "output_tokens": 1}})
    TEXT = TestResponses.event("content_block_delta", index=0, delta={"type": "text_delta", "text": "Hi"})
    COUNT = TestResponses.event(
        "message_delta", delta={"stop_reason": "end_turn"}, usage={"output_tokens": 7}
    )
    END = TestResponses.event("message_stop")

    def test_a_whole_message_is_relayed_and_counted(self) -> None:
        """What went in is told at the beginning, what came out at the end; there is no `[DONE]`."""
        body = self.BEGIN + self.TEXT * 3 + self.COUNT + self.END
        scanner = EventScanner()

        assert read(scanner, [body]) == (body, Usage(11, 7), "whole")
        assert scanner.ended

    def test_its_end_is_seen_event_by_event(self) -> None:
        """Wherever the body was split."""
        events = [self.BEGIN, self.TEXT, self.TEXT, self.COUNT, self.END]

        assert read(EventScanner(), events) == (b"".join(events), Usage(11, 7), "whole")

    def test_a_message_that_stops_before_its_last_event_is_truncated(self) -> None:
        """Also behind its reason to stop (field note 28)."""
        assert "StreamTruncated" in read(EventScanner(), [self.BEGIN + self.TEXT + self.COUNT])[2]

    def test_an_overloaded_engine_is_an_error(self) -> None:
        """Its event is not relayed (field note 28)."""
        error = TestResponses.event("error", error={"type": "overloaded_error", "message": "busy"})

        assert read(EventScanner(), [self.TEXT, error])[0] == self.TEXT
        assert read(EventScanner(), [self.TEXT, error])[2].startswith("StreamFailed")


def line(**members: object) -> bytes:
    return json.dumps(members).encode() + b"\n"


class TestLines:
    """JSON lines of Ollama."""

    HALF = line(message={"content": "Hé"}, done=False)
    LAST = line(message={"content": ""}, done=True, prompt_eval_count=5, eval_count=7)

    def test_a_whole_answer_is_relayed_verbatim_and_counted(self) -> None:
        """The last line ends it; nobody waits for the end of the body."""
        scanner = LineScanner()

        assert read(scanner, [self.HALF, self.LAST]) == (self.HALF + self.LAST, Usage(5, 7), "whole")
        assert scanner.ended

    def test_done_in_spacious_spelling_is_an_end(self) -> None:
        """The keyword is read as JSON, not as bytes."""
        assert read(LineScanner(), [b'{ "done" : true }\n'])[2] == "whole"

    @pytest.mark.parametrize("error", UNREADABLE_ERRORS)
    def test_an_error_that_is_hard_to_read_is_one(self, error: bytes) -> None:
        """It must not reach the client as a line of the answer."""
        relayed, _, verdict = read(LineScanner(), [self.HALF + error + b"\n" + self.LAST])

        assert relayed == self.HALF
        assert verdict == "StreamFailed: the engine reported an error inside its answer"

    def test_half_a_character_hides_no_end(self) -> None:
        """The last line is the last one, whatever its text."""
        last = self.LAST.replace(b'"content": ""', rb'"content": "\ud83d"')

        assert read(LineScanner(), [self.HALF, last]) == (self.HALF + last, Usage(5, 7), "whole")

    def test_done_inside_a_tool_call_is_no_end(self) -> None:
        """Arguments are an object of the model's own."""
        body = line(message={"tool_calls": [{"function": {"arguments": {"done": True}}}]}, done=False)

        assert read(LineScanner(), [body])[2].startswith("StreamTruncated")

    def test_a_last_line_without_a_line_end_is_one(self) -> None:
        """Nothing of the answer is missing."""
        assert read(LineScanner(), [self.HALF, self.LAST.rstrip()])[1:] == (Usage(5, 7), "whole")

    def test_an_error_line_fails_and_is_not_relayed(self) -> None:
        """Field note 28: Ollama keeps its 200 and sends an object with `error`."""
        relayed, _, verdict = read(LineScanner(), [self.HALF, line(error="runner crashed at /home/x/y")])

        assert relayed == self.HALF
        assert verdict == "StreamFailed: the engine reported an error inside its answer"

    def test_a_stream_without_done_is_truncated(self) -> None:
        """Field note 28."""
        assert read(LineScanner(), [self.HALF])[2].startswith("StreamTruncated")

    def test_counts_that_are_left_out_stay_unknown(self) -> None:
        """Field note 14: Ollama leaves out the count of a cached prompt."""
        assert read(LineScanner(), [line(done=True, eval_count=7)])[1] == Usage(None, 7)

    def test_a_line_that_never_ends_does_not_fill_memory(self) -> None:
        """Field note 32."""
        scanner = LineScanner()
        for _ in range(3):
            scanner.feed(b"x" * MAX_HELD_BYTES)

        assert not scanner._held


class TestChoice:
    """Which scanner for which type of content."""

    @pytest.mark.parametrize(
        ("content_type", "kind"),
        [
            ("text/event-stream", EventScanner),
            ("Text/Event-Stream; charset=utf-8", EventScanner),
            ("application/x-ndjson", LineScanner),
            ("application/json; charset=utf-8", DocumentScanner),
        ],
    )
    def test_the_header_decides(self, content_type: str, kind: type) -> None:
        """The engine says what it sends, whatever was asked for."""
        assert type(scanner_for(content_type)) is kind

    @pytest.mark.parametrize(
        ("content_type", "words"),
        [
            ("text/html", "the engine answered with text/html instead of JSON or a stream of events"),
            (
                "<b> http://10.0.0.1",
                "the engine answered with something instead of JSON or a stream of events",
            ),
            ("", "the engine's answer has no content type"),
        ],
    )
    def test_another_type_is_no_answer(self, content_type: str, words: str) -> None:
        """Field note 28: a 200 that is HTML."""
        with pytest.raises(BackendFailed) as caught:
            scanner_for(content_type)
        assert str(caught.value) == words


# --- any split of the same bytes means the same ---------------------------------------------

TEXTS = st.text(st.sampled_from('ab"\\né€😀[DONE]error usage'), max_size=12)
EVENTS = st.one_of(
    TEXTS.map(chat_chunk),
    TEXTS.map(lambda text: chat_chunk(text, "stop")),
    st.builds(usage_event, st.integers(0, 99), st.integers(0, 99)),
    st.sampled_from(
        [
            DONE,
            ERROR,
            b": ping\n\n",
            b"\n\n",
            b"\n",
            b"event: x\ndata: {\ndata: }\n\n",
            b'data: {"choices":[],\ndata: "usage":{"prompt_tokens":1,"completion_tokens":2}}\n\n',
            b"data: not json usage\n\n",
            b'data: {"error":null,"choices":[]}\n\n',
            b"\xff\xfe error\n\n",
            b"garbage",
        ]
    ),
)
LINE_ENDS = st.sampled_from([b"\n", b"\r\n", b"\r"])


@st.composite
def bodies(draw: st.DrawFn) -> bytes:
    """A stream of events, maybe cut."""
    body = b"".join(draw(st.lists(EVENTS, max_size=8))).replace(b"\n", draw(LINE_ENDS))
    return body[: draw(st.integers(0, len(body)))] if draw(st.booleans()) else body


def test_choices_that_nobody_asked_for_are_not_collected() -> None:
    """An engine may name new ones in each event, without end."""
    scanner = EventScanner(choices=2)
    tracemalloc.start()
    try:
        for number in range(1000):
            index = f'"{number}{"x" * 1000}"'.encode()
            scanner.feed(b'data: {"choices":[{"index":%b,"finish_reason":"stop"}]}\n\n' % index)
        grown_bytes, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert grown_bytes < 50_000
    assert scanner.finish() == b""


def test_blank_lines_between_events_are_no_part_of_them() -> None:
    """They stay where the usage event goes, and do not wait."""
    scanner = EventScanner(drops_usage=True)

    assert scanner.feed(ANSWER + b"\n\n\n") == ANSWER + b"\n\n\n"
    assert scanner.feed(b"\n" + usage_event(1, 2) + DONE) == b"\n" + DONE


@given(bodies(), BORDERS)
@example(ANSWER + usage_event(1, 2) + DONE, [])
def test_any_split_of_held_events_gives_the_same_bytes_usage_and_verdict(
    body: bytes, borders: list[int]
) -> None:
    """Field note 32: the network may cut anywhere, also inside a character."""
    whole = read(EventScanner(drops_usage=True), [body])

    assert read(EventScanner(drops_usage=True), split(body, borders)) == whole
    assert read(EventScanner(drops_usage=True), byte_by_byte(body)) == whole


def agree(whole: tuple[bytes, Usage, str], parts: tuple[bytes, Usage, str], body: bytes) -> None:
    """The same, but that a piece of what then fails may be out already: never so much that it says so."""
    assert parts[1:] == whole[1:]
    if whole[2] == "whole":
        assert parts[0] == whole[0]
    else:
        assert parts[0].startswith(whole[0])
        assert body.startswith(parts[0])
        assert b"error" not in parts[0][len(whole[0]) :]


@given(bodies(), BORDERS)
def test_any_split_of_passed_events_gives_the_same_usage_and_verdict(body: bytes, borders: list[int]) -> None:
    """Nothing waits here."""
    whole = read(EventScanner(), [body])

    agree(whole, read(EventScanner(), split(body, borders)), body)


LINES = st.one_of(
    st.builds(lambda text, done: line(message={"content": text}, done=done), TEXTS, st.booleans()),
    st.sampled_from(
        [line(error="x"), line(done=True, eval_count=3), b"\n", b"no json\n", b'{"done":false}\r\n']
    ),
)


@given(st.lists(LINES, max_size=6).map(b"".join), BORDERS)
@example(b'\n{"done": false}\n', [1])
def test_any_split_of_lines_gives_the_same_usage_and_verdict(body: bytes, borders: list[int]) -> None:
    """Nothing waits here, either."""
    whole = read(LineScanner(), [body])

    agree(whole, read(LineScanner(), split(body, borders)), body)


@given(st.binary(max_size=200), BORDERS)
@pytest.mark.parametrize("make", [EventScanner, LineScanner, DocumentScanner])
def test_only_documented_errors_come_out_of_garbage(
    make: Callable[[], Scanner], body: bytes, borders: list[int]
) -> None:
    """Any program may be behind the port."""
    verdict = read(make(), split(body, borders))[2].partition(":")[0]

    assert verdict in {"whole", StreamTruncated.__name__, StreamFailed.__name__, BackendFailed.__name__}
