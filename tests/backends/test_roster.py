"""Who is watched by which settings, and who stays who he was."""

from collections.abc import Collection

import pytest

from provider_agent.backends.base import Backend, BackendSettings
from provider_agent.backends.roster import free_name, watches_for
from provider_agent.backends.watch import Watch
from tests.fakes.backends import ScriptedBackend

A = BackendSettings("openai", "http://a:8000")
B = BackendSettings("openai", "http://b:8000")


def made(kind: str, settings: BackendSettings, url: str, beside: Collection[Watch]) -> Backend:
    return ScriptedBackend(name=free_name(settings, kind, url, beside))


def roster(
    *settings: BackendSettings, before: Collection[Watch] = (), ports: tuple[int, ...] = ()
) -> list[Watch]:
    return watches_for(settings, ports, before, made)


def names(watches: Collection[Watch]) -> list[str]:
    return [watch.backend.name for watch in watches if watch.backend is not None]


def listing(watch: Watch, *model_ids: str) -> None:
    """The engine there lists these."""
    backend = watch.backend or ScriptedBackend(name="found")
    watch.succeeded(backend, ScriptedBackend(models=model_ids).models, asked_at=0)


def models(watch: Watch) -> list[str]:
    return [] if watch.entry is None else [model.model_id for model in watch.entry.models]


def test_configured_engines_come_first_then_the_usual_ports() -> None:
    """The ordinary case; a port that is configured is not guessed."""
    watches = roster(BackendSettings("openai", "http://localhost:8000"), ports=(8000, 12434))

    assert [(watch.url, watch.is_configured) for watch in watches] == [
        ("http://localhost:8000", True),
        ("http://127.0.0.1:12434/engines", False),
    ]


def test_equal_settings_keep_their_watch_wherever_they_stand_now() -> None:
    """And their names, so that jobs are counted on."""
    before = roster(A, B)
    after = roster(B, A, before=before)

    assert after == before[::-1]
    assert names(after) == ["openai-8000-2", "openai-8000"]


def test_a_new_engine_takes_no_name_that_is_in_use() -> None:
    """Not even that of one which stands behind it."""
    before = roster(A)

    assert names(roster(B, A, before=before)) == ["openai-8000-2", "openai-8000"]


def test_of_two_equal_settings_each_has_its_own_watch() -> None:
    """Nobody forbids to write one down twice."""
    before = roster(A, A)
    after = roster(A, A, before=before)

    assert after == before
    assert after[0] is not after[1]


def test_a_guess_that_is_configured_now_is_known_already() -> None:
    """The operator gives it a limit: nothing of it is withdrawn meanwhile."""
    guess = roster(ports=(8000,))[0]
    listing(guess, "m", "secret")
    settings = BackendSettings("auto", "http://127.0.0.1:8000", exclude=("secret",), max_concurrent=1)
    (watch,) = roster(settings, before=[guess], ports=(8000,))

    assert watch.is_configured
    assert models(watch) == ["m"]


def test_one_that_is_not_configured_any_more_is_a_guess_again() -> None:
    """It must prove itself as any other."""
    before = roster(BackendSettings("openai", "http://127.0.0.1:8000"))
    (watch,) = roster(before=before, ports=(8000,))

    assert not watch.is_configured
    assert watch.entry is None


def test_nobody_inherits_from_a_stranger() -> None:
    """Another address, without a name that says that it is the same."""
    before = roster(A)
    listing(before[0], "m")

    assert models(roster(B, before=before)[0]) == []


def test_an_unknown_kind_is_said() -> None:
    """The configuration checks it before; this is for other callers."""
    with pytest.raises(ValueError, match="'olama' is no kind of engine"):
        roster(BackendSettings("olama"))
