"""What `transformers serve` tells; the rest is in the contract of all adapters."""

from tests.fakes import engine_pages


async def test_it_serves_what_its_description_has() -> None:
    """Newer ones have completions, too."""
    newer = engine_pages.openapi("/v1/chat/completions", "/v1/completions", "/load_model", "/reset")
    (model,) = await engine_pages.models_of("transformers", engine_pages.transformers())
    (more,) = await engine_pages.models_of(
        "transformers", {**engine_pages.transformers(), "/openapi.json": newer}
    )

    assert model.endpoints == {"/v1/chat/completions", "/v1/responses"}
    assert more.endpoints == {"/v1/chat/completions", "/v1/completions"}


async def test_it_does_not_say_what_is_in_memory() -> None:
    """Its list is what is on disk."""
    (model,) = await engine_pages.models_of("transformers", engine_pages.transformers())

    assert (model.is_loaded, model.max_concurrent) == (None, None)
