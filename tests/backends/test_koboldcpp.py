"""What KoboldCpp tells; the rest is in the contract of all adapters."""

import pytest

from tests.fakes import engine_pages


@pytest.mark.parametrize(("said", "slots"), [(None, 1), (4, None)])
async def test_it_runs_one_job_at_a_time_unless_the_operator_says_otherwise(
    said: int | None, slots: int | None
) -> None:
    """Others wait in silence, or are refused."""
    (model,) = await engine_pages.models_of("koboldcpp", engine_pages.koboldcpp(), max_concurrent=said)

    assert (model.max_concurrent, model.context_window, model.is_loaded) == (slots, 1024, True)


async def test_a_second_model_for_embeddings_is_told() -> None:
    """It is loaded beside the first, under one name."""
    (both,) = await engine_pages.models_of("koboldcpp", engine_pages.koboldcpp(embeddings=True))
    (only,) = await engine_pages.models_of("koboldcpp", engine_pages.koboldcpp(embeddings=True, llm=False))

    assert (set(both.endpoints), both.is_embedding) == (
        {"/v1/chat/completions", "/v1/completions", "/v1/embeddings"},
        False,
    )
    assert (set(only.endpoints), only.is_embedding) == ({"/v1/embeddings"}, True)


async def test_one_without_a_model_offers_none() -> None:
    """It may be there for images only; it lists a model all the same."""
    pages = engine_pages.koboldcpp(name="inactive", llm=False)

    assert await engine_pages.models_of("koboldcpp", pages) == ()
