"""Models that the operator names and the engine does not list; with each engine in its own tests, too."""

import pytest

from provider_agent.backends.base import BackendFailed
from provider_agent.backends.families import FAMILIES
from provider_agent.backends.named import NamedModelsBackend
from tests.fakes import engine_pages
from tests.fakes.engine import json_answer

KINDS = sorted(kind for kind, family in FAMILIES.items() if issubclass(family, NamedModelsBackend))


@pytest.mark.parametrize("kind", KINDS)
async def test_a_model_called_by_its_whole_name_is_served_though_it_is_not_listed(kind: str) -> None:
    """A model in a folder, say; a pattern names nothing."""
    models = await engine_pages.models_of(
        kind, engine_pages.FAMILIES[kind](), models=("tiny", "./mine", "some/*")
    )

    assert [model.model_id for model in models] == ["./mine", "tiny"]


@pytest.mark.parametrize("kind", KINDS)
async def test_an_engine_that_fails_otherwise_is_not_taken_for_one_without_a_cache(kind: str) -> None:
    """Its models are not offered then, whatever the operator names."""
    pages = {**engine_pages.FAMILIES[kind](), "/v1/models": json_answer({}, 502)}

    with pytest.raises(BackendFailed) as told:
        await engine_pages.models_of(kind, pages, models=("./mine",))
    assert told.value.http_status == 502
