"""The simulator's text: readable, repeatable, counted in its own tokens."""

from hypothesis import given
from hypothesis import strategies as st

from provider_agent.simulator import text


def test_the_same_seed_gives_the_same_answer() -> None:
    """A test that failed once fails again."""
    assert text.answer(text.digest("hello")) == text.answer(text.digest("hello"))


def test_different_prompts_give_different_answers() -> None:
    """Two users' answers can be told apart."""
    answers = {"".join(text.answer(text.digest(f"prompt {number}"))) for number in range(50)}

    assert len(answers) == 50


def test_an_answer_is_sentences() -> None:
    """It reads like text: a capital first, a full stop last."""
    said = "".join(text.answer(text.digest("hello")))

    assert said[0].isupper()
    assert said.endswith(".")
    assert len(said.split(". ")) >= text.SHORTEST_ANSWER_SENTENCES


@given(st.text())
def test_tokens_joined_are_the_text(words: str) -> None:
    """Nothing is lost at the borders of tokens, whatever the text."""
    assert "".join(text.tokens_of(words)) == words


def test_an_answer_counts_as_many_tokens_as_it_was_made_of() -> None:
    """Usage can be checked from outside, from the text alone."""
    tokens = text.answer(text.digest("hello"))

    assert text.count_tokens("".join(tokens)) == len(tokens)


@given(st.text(max_size=20), st.integers(1, 400))
def test_an_endless_answer_has_exactly_the_length_asked_for(prompt: str, count: int) -> None:
    """It begins like the short one, so only its length differs."""
    seed = text.digest(prompt)
    endless = text.endless_answer(seed, count)

    assert len(endless) == count
    assert endless == text.answer(seed)[:count] or count > len(text.answer(seed))


def test_a_vector_has_length_one() -> None:
    """As engines normalise their embeddings."""
    vector = text.vector("seed", 64)

    assert len(vector) == 64
    assert abs(sum(x * x for x in vector) - 1.0) < 1e-9
