"""Patterns are asked by hand, and by a scanner whose verdict must not depend on them."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from provider_agent.backends.pattern import Pattern, is_plain
from provider_agent.backends.stream import EventScanner
from tests.fakes.engine import DONE, chat_chunk
from tests.fakes.scanning import byte_by_byte, read

BEFORE, AFTER = chat_chunk("#").split(b"#")


def pattern_of(event: bytes) -> Pattern:
    pattern = Pattern.of(event)
    assert pattern is not None
    return pattern


def test_events_that_differ_in_their_text_fit() -> None:
    """One or many, short or long."""
    pattern = pattern_of(chat_chunk("Hel"))

    assert pattern.fits_all(chat_chunk("lo"))
    assert pattern.fits_all(chat_chunk("a") + chat_chunk("") + chat_chunk("\u00e9\\n" * 9))


@pytest.mark.parametrize(
    "text",
    [b'"', b'","error":"', b"\n", b"\r", b"\\", b"x\\\\", b'"}\n\ndata: {"error":"x'],
)
def test_a_text_that_may_end_before_its_end_does_not_fit(text: bytes) -> None:
    """What follows it could be anything."""
    event = BEFORE + text + AFTER
    pattern = pattern_of(chat_chunk("Hel"))

    assert not pattern.fits_all(event)
    assert not pattern.fits_all(chat_chunk("a") + event + chat_chunk("b"))
    assert not is_plain(event, len(BEFORE), len(event) - len(AFTER))


@pytest.mark.parametrize(
    "events",
    [chat_chunk("a", "stop"), chat_chunk("a") + DONE, DONE + chat_chunk("a"), BEFORE + AFTER[1:], b""],
)
def test_another_event_does_not_fit(events: bytes) -> None:
    """Nor does one with another one between."""
    assert not pattern_of(chat_chunk("Hel")).fits_all(events)


@pytest.mark.parametrize("event", [b"data: {}\n\n", DONE, BEFORE, BEFORE + b'say \\"x\\"' + AFTER])
def test_an_event_without_a_plain_text_has_no_pattern(event: bytes) -> None:
    """There is nothing to recognise the next one by."""
    assert Pattern.of(event) is None


RAW = st.lists(
    st.sampled_from(
        [
            b"a",
            b"error",
            b'"',
            b"\\",
            b"\n",
            b"\r",
            b"[DONE]",
            b'","usage":{}',
            b'"error"',
            b"\xff",
            b"\x01",
            b'"},"finish_reason":"stop"',
            b"data: [DONE]",
            b"\n\n",
            b"\\u00e9",
            AFTER,
            BEFORE,
        ]
    ),
    max_size=4,
).map(b"".join)


@given(st.lists(RAW, min_size=1, max_size=6), st.booleans())
@example([b"error"], True)
@example([b"\\", b"a"], True)
def test_what_is_known_by_its_pattern_is_judged_as_if_it_were_read(texts: list[bytes], whole: bool) -> None:
    """Whatever stands in the text, and however much comes at once."""
    events = [BEFORE + text + AFTER for text in [b"a", b"b", *texts]]
    body = b"".join(events)

    known = read(EventScanner(), [events[0], events[1], b"".join(events[2:])] if whole else events)
    assert known == read(EventScanner(), byte_by_byte(body))


@given(st.lists(RAW, min_size=1, max_size=4), st.sampled_from([b"", b"}"]))
def test_what_is_no_json_teaches_nothing(texts: list[bytes], missing: bytes) -> None:
    """An event that nobody can read, with the word `error` for a text, is an error."""
    odd = AFTER.replace(b"}", missing, 1)
    events = [BEFORE + text + odd for text in [b"a", b"b", *texts, b"error"]]

    assert read(EventScanner(), events) == read(EventScanner(), byte_by_byte(b"".join(events)))


def test_an_answer_whose_events_all_differ_is_not_learned_from_for_ever() -> None:
    """It would be labour lost."""
    scanner = EventScanner()
    for number in range(1000):
        event = chat_chunk("a").replace(b'"c1"', b'"c%d"' % number)
        assert scanner.feed(event) == event

    assert scanner._lessons == 0


def test_of_many_events_at_once_the_first_is_learned_from() -> None:
    """An engine in a hurry never gives one event alone, and is the one whose events must cost little."""
    scanner = EventScanner()
    scanner.feed(chat_chunk("one"))
    scanner.feed(chat_chunk("a") + chat_chunk("b"))

    assert scanner._pattern == pattern_of(chat_chunk("c"))


def test_what_comes_before_and_after_may_not_share_bytes() -> None:
    """An event that is shorter than both together is none of the pattern's."""
    assert is_plain(b"ab", 1, 1)
    assert not is_plain(b"ab", 2, 1)
