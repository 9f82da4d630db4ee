"""Pages of any program, read with care."""

import pytest

from provider_agent.backends.http import Page
from provider_agent.backends.listing import Answers, items, positive, text


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


def test_owners_are_compared_whole() -> None:
    """`openai-community` is not `openai`."""
    answers = Answers(page(b'{"data":[{"id":"a","owned_by":"openai-community"}]}'))

    assert not answers.is_owned_by("openai")
    assert not Answers().is_owned_by("openai")
