"""From probe to probe, with time as an argument."""

import pytest

from provider_agent.backends.base import Backend, BackendModel, BackendSettings
from provider_agent.backends.watch import REMEMBERED_S, CatalogEntry, Pace, Watch
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


PACE = Pace(interval_s=30.0, grace_s=10.0, retry_s=2.0)


def test_an_engine_that_is_well_is_looked_at_once_an_interval(backend: Backend) -> None:
    """The ordinary case; the first look is due at once."""
    watch = watched(backend)
    assert watch.due_s(PACE) < 0.0
    watch.begin(100.0)
    watch.succeeded(backend, MODELS, asked_at=0)

    assert watch.due_s(PACE) == 130.0


def test_one_that_fails_is_looked_at_more_often(backend: Backend) -> None:
    """It must be used again soon after it is back."""
    watch = watched(backend)
    watch.begin(100.0)
    watch.failed(100.5, GRACE_S)

    assert watch.due_s(PACE) == 102.0


def test_its_grace_is_never_slept_through(backend: Backend) -> None:
    """However short the operator has made it."""
    watch = watched(backend)
    watch.succeeded(backend, MODELS, asked_at=0)
    watch.begin(100.0)
    watch.failed(100.0, 1.0)

    assert watch.due_s(PACE._replace(grace_s=1.0)) == 100.5


def test_an_address_where_nobody_was_ever_found_is_not_pressed() -> None:
    """Whoever listens there is no engine, and is asked once an interval."""
    watch = watched(is_configured=False)
    watch.begin(100.0)
    watch.failed(100.0, GRACE_S)

    assert watch.due_s(PACE) == 130.0


def test_a_guess_that_is_long_gone_is_a_guess_again(backend: Backend) -> None:
    """Somebody else may have the port by then; what is configured is waited for for ever."""
    due_s = []
    for is_configured in (False, True):
        watch = watched(is_configured=is_configured)
        watch.succeeded(backend, MODELS, asked_at=0)
        watch.failed(100.0, GRACE_S)
        watch.begin(100.0 + REMEMBERED_S)
        watch.failed(100.0 + REMEMBERED_S, GRACE_S)
        due_s.append(watch.due_s(PACE) - REMEMBERED_S)

    assert due_s == [130.0, 102.0]


def test_a_wish_to_look_brings_one_look(backend: Backend) -> None:
    """However many wish it."""
    watch = watched(backend)
    watch.begin(100.0)
    watch.want(101.0)
    watch.want(105.0)
    assert watch.due_s(PACE) == 101.0
    watch.begin(101.0)

    assert watch.due_s(PACE) == 131.0


def test_whoever_wishes_it_again_and_again_is_heard_at_the_pace_of_a_failing_engine(backend: Backend) -> None:
    """An engine that lists a model and answers 404 to it is not asked four times a second."""
    watch = watched(backend)
    watch.begin(100.0)
    watch.want_again(100.25, PACE.retry_s)

    assert watch.due_s(PACE) == 102.0
    watch.begin(102.0)
    watch.want_again(110.25, PACE.retry_s)

    assert watch.due_s(PACE) == 110.25


def test_what_was_known_under_other_settings_is_presumed_as_far_as_these_allow(backend: Backend) -> None:
    """And is looked at at once."""
    before, after = watched(), watched(backend, models=("llama-*",))
    before.begin(100.0)
    before.succeeded(backend, MODELS, asked_at=0)
    after.presume(before)

    assert after.entry == CatalogEntry(backend, MODELS[:2], healthy=True)
    assert after.due_s(PACE) < 100.0
