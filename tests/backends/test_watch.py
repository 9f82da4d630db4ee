"""From probe to probe, with time as an argument."""

import pytest

from provider_agent.backends.base import Backend, BackendModel, BackendSettings
from provider_agent.backends.watch import CatalogEntry, Watch
from tests.fakes.backends import ScriptedBackend

GRACE_S = 10.0
MODELS = tuple(BackendModel(name, frozenset()) for name in ("llama-1b", "llama-70b", "phi"))


@pytest.fixture
def backend() -> Backend:
    return ScriptedBackend()


def watched(
    backend: Backend | None = None,
    *,
    is_configured: bool = True,
    models: tuple[str, ...] = ("*",),
    exclude: tuple[str, ...] = (),
) -> Watch:
    settings = BackendSettings("auto", models=models, exclude=exclude)
    return Watch(settings, "http://x", is_configured=is_configured, backend=backend)


def test_an_engine_that_answers_is_offered_with_its_models(backend: Backend) -> None:
    """The ordinary case."""
    watch = watched()
    watch.succeeded(backend, MODELS, asked_at=0)

    assert watch.entry == CatalogEntry(backend, MODELS, healthy=True)


def test_only_models_that_the_operator_lets_through_are_offered(backend: Backend) -> None:
    """Field note 24: the engine's own globs; those of all engines come later."""
    watch = watched(models=("llama-*",), exclude=("*-70b",))
    watch.succeeded(backend, MODELS, asked_at=0)

    assert watch.entry is not None
    assert [model.model_id for model in watch.entry.models] == ["llama-1b"]


def test_one_hiccup_keeps_the_models(backend: Backend) -> None:
    """Field note 26."""
    watch = watched()
    watch.succeeded(backend, MODELS, asked_at=0)
    watch.failed(100.0, GRACE_S)
    watch.failed(109.9, GRACE_S)

    assert watch.entry == CatalogEntry(backend, MODELS, healthy=False)
    assert watch.is_in_grace


def test_failing_for_the_grace_drops_them(backend: Backend) -> None:
    """Field note 26: a dead engine does not stay advertised."""
    watch = watched()
    watch.succeeded(backend, MODELS, asked_at=0)
    watch.failed(100.0, GRACE_S)
    watch.failed(110.0, GRACE_S)

    assert watch.entry == CatalogEntry(backend, (), healthy=False)
    assert not watch.is_in_grace


def test_a_success_starts_the_grace_anew(backend: Backend) -> None:
    """It must fail without a break."""
    watch = watched()
    watch.succeeded(backend, MODELS, asked_at=0)
    watch.failed(100.0, GRACE_S)
    watch.succeeded(backend, MODELS, asked_at=0)
    watch.failed(115.0, GRACE_S)

    assert watch.is_in_grace


def test_a_job_that_found_it_dead_gives_no_grace(backend: Backend) -> None:
    """Field note 25: every further job would fail."""
    watch = watched()
    watch.succeeded(backend, MODELS, asked_at=0)
    watch.reported_dead(100.0)

    assert watch.entry == CatalogEntry(backend, (), healthy=False)


def test_what_it_said_before_it_died_is_no_news(backend: Backend) -> None:
    """A probe under way while a job finds it dead does not bring it back; the next one does."""
    watch = watched()
    watch.succeeded(backend, MODELS, asked_at=0)
    asked_at = watch.deaths
    watch.reported_dead(100.0)
    watch.succeeded(backend, MODELS, asked_at=asked_at)

    assert watch.entry == CatalogEntry(backend, (), healthy=False)
    watch.succeeded(backend, MODELS, asked_at=watch.deaths)
    assert watch.entry == CatalogEntry(backend, MODELS, healthy=True)


def test_a_configured_engine_is_in_the_catalog_while_it_is_away(backend: Backend) -> None:
    """The operator's heartbeat and status page show that it is."""
    watch = watched(backend)
    watch.failed(0.0, GRACE_S)

    assert watch.entry == CatalogEntry(backend, (), healthy=False)


def test_a_guess_leaves_the_catalog_when_it_is_gone(backend: Backend) -> None:
    """Nobody said that it should be there."""
    watch = watched(is_configured=False)
    assert watch.entry is None
    watch.succeeded(backend, MODELS, asked_at=0)
    watch.failed(0.0, GRACE_S)
    watch.failed(20.0, GRACE_S)

    assert watch.entry is None


def test_an_engine_without_models_is_found(backend: Backend) -> None:
    """Ollama before its first pull."""
    watch = watched(is_configured=False)
    watch.succeeded(backend, (), asked_at=0)

    assert watch.entry == CatalogEntry(backend, (), healthy=True)
