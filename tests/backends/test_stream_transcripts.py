"""What is made of each engine family's answers, however they are cut: fed by hand, no loop, no socket."""

import json
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from provider_agent.backends.base import Call, Usage
from provider_agent.backends.keepalive import KeepAlive
from provider_agent.backends.request import prepare
from provider_agent.backends.stream import Scanner, scanner_for
from tests.fakes.scanning import BORDERS, byte_by_byte, read, split
from tests.fakes.transcripts import EVENTS, JSON, LINES, TRANSCRIPTS, Transcript

FAMILIES_OF_CHAT = {
    "docker",
    "jan",
    "koboldcpp",
    "llamacpp",
    "llamafile",
    "lmstudio",
    "localai",
    "ollama",
    "sglang",
    "tgi",
    "transformers",
    "vllm",
}
transcripts = pytest.mark.parametrize("transcript", TRANSCRIPTS, ids=str)
drawn = st.sampled_from(TRANSCRIPTS)
line_ends = st.sampled_from([b"\n", b"\r\n", b"\r"])


def scanner_of(transcript: Transcript) -> Scanner:
    """As a job's request chooses it: the client had not asked for usage."""
    request = prepare(Call(transcript.path, "tiny", transcript.asked, transcript.content_type != JSON, 1, 1))
    return scanner_for(
        transcript.content_type,
        drops_usage=request.drops_usage,
        choices=request.choices,
        may_be_list=request.may_be_list,
    )


def answer_in(pieces: list[bytes]) -> Iterator[bytes]:
    """Without what comes before the answer."""
    keep_alive, rest = KeepAlive(), iter(pieces)
    for piece in rest:
        answer = keep_alive.skip(piece)
        if answer:
            yield answer
            break
    yield from rest


def made_of(transcript: Transcript, pieces: list[bytes]) -> tuple[bytes, Usage, str]:
    relayed, usage, verdict = read(scanner_of(transcript), answer_in(pieces))
    return relayed, usage, verdict.partition(":")[0]


def prefixes(transcript: Transcript) -> Iterator[bytes]:
    """All that lack a part of what says that it is whole: the last finish_reason, else the last byte."""
    body = transcript.body.rstrip()
    reason = body.rfind(b'"finish_reason"')
    for size in range(len(body) if reason < 0 else reason):
        yield body[:size]


def test_each_family_has_a_chat_and_most_an_error() -> None:
    """So that a family that comes new has them, too."""
    named = {(each.family, each.name) for each in TRANSCRIPTS}

    assert {family for family, name in named if "chat" in name} >= FAMILIES_OF_CHAT
    assert {family for family, name in named if name == "error"} >= FAMILIES_OF_CHAT - {
        "llamafile",
        "transformers",
    }


@transcripts
def test_an_answer_is_relayed_counted_and_judged(transcript: Transcript) -> None:
    """In one piece; usage that only the agent asked for is not in it (field notes 14, 28 and 29)."""
    assert made_of(transcript, [transcript.body]) == transcript.expected


@transcripts
def test_byte_by_byte_it_means_the_same(transcript: Transcript) -> None:
    """The slowest network, which cuts each character, too (field note 32)."""
    assert made_of(transcript, byte_by_byte(transcript.body)) == transcript.expected


@given(drawn, BORDERS)
def test_in_any_pieces_it_means_the_same(transcript: Transcript, borders: list[int]) -> None:
    """Field note 32."""
    assert made_of(transcript, split(transcript.body, borders)) == transcript.expected


@given(drawn.filter(lambda each: each.content_type == EVENTS), line_ends, BORDERS)
def test_in_each_spelling_of_a_line_end_it_means_the_same(
    transcript: Transcript, end: bytes, borders: list[int]
) -> None:
    """As HTML's standard lets servers write them (field note 32)."""
    relayed, usage, verdict = transcript.expected
    pieces = split(transcript.body.replace(b"\n", end), borders)

    assert made_of(transcript, pieces) == (relayed.replace(b"\n", end), usage, verdict)


@given(drawn.filter(lambda each: each.content_type == EVENTS), st.data(), BORDERS)
def test_comments_between_events_change_nothing(
    transcript: Transcript, data: st.DataObject, borders: list[int]
) -> None:
    """They are relayed where they are."""
    events = transcript.body.split(b"\n\n")[:-1]
    at = data.draw(st.integers(0, len(events) - 1))
    with_ping = b"".join(
        b": ping\n\n" * (number == at) + each + b"\n\n" for number, each in enumerate(events)
    )
    relayed, usage, verdict = made_of(transcript, split(with_ping, borders))

    assert (relayed.replace(b": ping\n\n", b""), usage, verdict) == transcript.expected


@given(drawn.filter(lambda each: each.content_type == EVENTS), BORDERS)
def test_data_on_several_lines_mean_the_same(transcript: Transcript, borders: list[int]) -> None:
    """A line end within JSON is a blank; none of ours writes it so, and the standard allows it."""
    body = transcript.body.replace(b',"choices":', b',\ndata: "choices":').replace(
        b'"response":', b'\ndata:"response":'
    )
    _, usage, verdict = made_of(transcript, split(body, borders))

    assert (usage, verdict) == (transcript.usage, transcript.verdict)


@given(drawn.filter(lambda each: each.content_type == LINES), BORDERS)
def test_blank_lines_between_lines_change_nothing(transcript: Transcript, borders: list[int]) -> None:
    """Nor does a CR before the line end."""
    body = transcript.body.replace(b"\n", b"\r\n\n")
    _, usage, verdict = made_of(transcript, split(body, borders))

    assert (usage, verdict) == (transcript.usage, transcript.verdict)


@given(drawn.filter(lambda each: each.is_whole), st.binary(max_size=60), BORDERS)
def test_garbage_behind_the_end_changes_nothing(
    transcript: Transcript, garbage: bytes, borders: list[int]
) -> None:
    """It is not the client's, either, but for blanks."""
    if transcript.family == "transformers":  # what follows might be an error, as far as anybody can tell
        return
    relayed, usage, verdict = made_of(transcript, split(transcript.body + garbage, borders))

    assert (relayed.rstrip(), usage, verdict) == (transcript.expected[0].rstrip(), *transcript.expected[1:])


@transcripts
def test_no_part_of_it_from_its_beginning_is_whole(transcript: Transcript) -> None:
    """Each possible cut is told from the end (field note 28)."""
    for prefix in prefixes(transcript):
        relayed, _, verdict = made_of(transcript, [prefix])
        assert verdict != "whole", prefix[-80:]
        assert transcript.expected[0].startswith(relayed)


@given(st.sampled_from([EVENTS, LINES, JSON]), st.binary(max_size=300), BORDERS)
def test_garbage_is_never_an_answer(content_type: str, garbage: bytes, borders: list[int]) -> None:
    """It neither crashes nor ends well (field note 28)."""
    verdict = read(scanner_for(content_type), split(garbage, borders))[2]

    if content_type == JSON and verdict == "whole":
        assert isinstance(json.JSONDecoder().raw_decode(garbage.decode().lstrip())[0], dict)
    else:
        assert verdict != "whole"


@given(drawn, st.data(), BORDERS)
def test_a_flipped_byte_crashes_nothing(
    transcript: Transcript, data: st.DataObject, borders: list[int]
) -> None:
    """What is relayed stays a part of what came, in order."""
    body = bytearray(transcript.body)
    for _ in range(data.draw(st.integers(1, 4))):
        body[data.draw(st.integers(0, len(body) - 1))] = data.draw(st.integers(0, 255))
    whole = made_of(transcript, [bytes(body)])
    parts = made_of(transcript, split(bytes(body), borders))

    assert parts[2] in {"whole", "StreamFailed", "StreamTruncated", "BackendFailed"}
    assert parts[1:] == whole[1:]
    if whole[2] == "whole":
        assert parts[0] == whole[0]
