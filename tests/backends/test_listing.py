"""Pages of any program, read with care."""

import pytest

from provider_agent.backends.http import Page
from provider_agent.backends.listing import Answers, by_name, items, positive, text
from provider_agent.protocol.frames import MOST_MODELS


def page(body: bytes, status: int = 200) -> Page:
    return Page(status, {}, body)


@pytest.mark.parametrize(
    ("body", "listed"),
    [
        (b'{"data":[{"id":"a"}]}', ({"id": "a"},)),
        (b'[{"id":"a"}]', ({"id": "a"},)),
        (b'{"data":[]}', ()),
        (b'{"data":null}', ()),
        (b'{"data":7}', None),
        (b'{"data":["a"]}', None),
        (b'{"data":[null,5,{"id":"a"}]}', ({"id": "a"},)),
        (b'{"models":[]}', None),
        (b"7", None),
        (b"<html>", None),
    ],
)
def test_a_listing_is_a_list_of_objects(body: bytes, listed: object) -> None:
    """Ollama writes null for an empty one; anything else is none."""
    assert items(page(body), "data") == listed


def test_a_page_that_is_not_there_lists_nothing() -> None:
    """No answer, or a refusal."""
    assert items(None, "data") is None
    assert items(page(b'{"data":[]}', 404), "data") is None


@pytest.mark.parametrize(
    ("item", "number"),
    [
        ({"a": 4096}, 4096),
        ({"b": 7}, 7),
        ({"a": 0, "b": 7}, 7),
        ({"a": "4096"}, None),
        ({"a": True}, None),
        ({"a": 2**53 + 1, "b": 2**53}, 2**53),
        (None, None),
    ],
)
def test_a_size_is_a_positive_integer(item: object, number: int | None) -> None:
    """Zero, text and what no frame can hold say nothing: a coordinator would refuse the whole offer."""
    assert positive(item, "a", "b") == number


def test_a_name_is_a_text_that_is_not_empty() -> None:
    """Else the next one; what is too long for a frame would cost the whole offer."""
    assert text({"name": "", "model": "m"}, "name", "model") == "m"
    assert text({"name": "n" * 513, "model": "m" * 512}, "name", "model") == "m" * 512
    assert text({"name": 7}, "name") == ""


@pytest.mark.parametrize(
    "name", ["a\x00", "\x1b[31m", "a\r\nb", "a\x85", "a\u202eb", "a\u2028b", "\ud800", "n" * 513, "", None, 5]
)
def test_a_model_that_cannot_be_named_is_left_out_alone(name: object) -> None:
    """The others are still offered; what it is called in the log is short and plain."""
    usable, left_out = by_name([{"id": "a"}, {"id": name}, {"id": "é 模型"}], "id")

    assert list(usable) == ["a", "é 模型"]
    (shown,) = left_out
    assert shown.isprintable()
    assert len(shown) <= 80


def test_of_two_models_with_one_name_the_first_is_meant() -> None:
    """It must not count as two places to run."""
    assert by_name([{"id": "a", "n": 1}, {"id": "a", "n": 2}], "id") == ({"a": {"id": "a", "n": 1}}, {})


def test_no_engine_lists_more_than_an_agent_offers() -> None:
    """The rest is left out together."""
    usable, left_out = by_name([{"id": f"m{number}"} for number in range(MOST_MODELS + 5)], "id")

    assert len(usable) == MOST_MODELS
    assert left_out == {"after the first 10000": "an agent offers no more"}


def test_owners_are_compared_whole() -> None:
    """`openai-community` is not `openai`."""
    answers = Answers(page(b'{"data":[{"id":"a","owned_by":"openai-community"}]}'))

    assert not answers.is_owned_by("openai")
    assert not Answers().is_owned_by("openai")
