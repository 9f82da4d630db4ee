"""Why an engine is not there, or has nothing to offer, in words; knows no terminal."""

import asyncio
from collections.abc import Sequence
from http import HTTPStatus
from typing import Final, NamedTuple

from provider_agent.backends.address import normalise
from provider_agent.backends.base import Backend, BackendError, BackendFailed, BackendSettings
from provider_agent.backends.discovery import Catalog, CatalogEntry
from provider_agent.backends.families import AUTO, FAMILIES, identify
from provider_agent.backends.http import EngineHttp, Page
from provider_agent.backends.openai import OpenAIBackend
from provider_agent.cli.validate_start import Problem

ASK_TIMEOUT_S: Final = 5.0

_KEY_WANTED: Final = (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN)


_NOT_CHECKED: Final = frozenset({AUTO, "openai", "remote"})


class Troubled(NamedTuple):
    """An engine of the catalog that offers nothing now.

    Attributes:
        answers: whether anybody is there at all.
        reason: what keeps it from offering models, and what to do.
    """

    backend: Backend
    answers: bool
    reason: str

    @property
    def problem(self) -> Problem:
        """The same, for the list of all that is wrong."""
        return _warning(self.backend.name, self.reason)

    @property
    def state(self) -> str:
        """The same, in a word."""
        return "fails" if self.answers else "no answer"


class Unrecognised(NamedTuple):
    """An engine of kind `auto` whose family could not be told: the catalog does not have it.

    Attributes:
        answers: whether anybody is there at all.
        reason: what keeps it from being told, and what to do.
    """

    settings: BackendSettings
    answers: bool
    reason: str

    @property
    def problem(self) -> Problem:
        """The same, for the list of all that is wrong."""
        return _warning(self.settings.name or str(self.settings.url), self.reason)

    @property
    def state(self) -> str:
        """The same, in a word."""
        return "not recognised" if self.answers else "no answer"


async def unrecognised(
    settings: Sequence[BackendSettings], catalog: Catalog, http: EngineHttp
) -> list[Unrecognised]:
    """Those among the settings. Each is asked once more, for the reason; a defect in one hides no other's."""
    known = {entry.backend.url for entry in catalog.entries}
    unknown = [each for each in settings if each.kind == AUTO and normalise(each.url or "") not in known]
    found = await asyncio.gather(*(_of_auto(each, http) for each in unknown), return_exceptions=True)
    return [
        Unrecognised(each, True, _of_defect(one)) if isinstance(one, BaseException) else one
        for each, one in zip(unknown, found, strict=True)
    ]


async def troubles(catalog: Catalog) -> list[Troubled]:
    """Whatever keeps one of the catalog from offering models. Each is asked once more, for the reason."""
    troubled = [entry for entry in catalog.entries if not (entry.healthy and entry.models)]
    said = await asyncio.gather(*map(_of_entry, troubled), return_exceptions=True)
    return [
        Troubled(entry.backend, True, _of_defect(one)) if isinstance(one, BaseException) else one
        for entry, one in zip(troubled, said, strict=True)
    ]


async def misnamed(settings: Sequence[BackendSettings], catalog: Catalog, http: EngineHttp) -> list[Problem]:
    """Engines that are known, by their answers, to be of another kind than the settings say.

    Who says `openai` takes any engine, and only the settings can say what is paid for.
    """
    names = {entry.backend.url: entry.backend.name for entry in catalog.entries}
    said = {_url_of(each): each for each in settings if each.kind not in _NOT_CHECKED}
    found = await asyncio.gather(
        *(_other_kind(each, url, http) for url, each in said.items()), return_exceptions=True
    )
    return [
        _warning(names.get(url, url), text)
        for url, text in zip(said, found, strict=True)
        if isinstance(text, str)
    ]


def _url_of(settings: BackendSettings) -> str:
    return normalise(settings.url or FAMILIES[settings.kind].default_url or "")


async def _other_kind(settings: BackendSettings, url: str, http: EngineHttp) -> str | None:
    family = await identify(http, url, api_key=settings.api_key, timeout_s=ASK_TIMEOUT_S)
    if family is None or family.kind in {settings.kind, OpenAIBackend.kind}:
        return None
    return (
        f'it answers as {family.kind} does, and not as {settings.kind}; correct its kind, or make it "auto"'
    )


def _warning(name: str, text: str) -> Problem:
    return Problem("warning", f"engine {name}", text)


async def _of_entry(entry: CatalogEntry) -> Troubled:
    backend = entry.backend
    try:
        async with asyncio.timeout(ASK_TIMEOUT_S):
            listed = await backend.list_models()
    except BackendError as error:
        answers = error.http_status is not None or isinstance(error, BackendFailed)
        return Troubled(backend, answers, _of_error(backend, error))
    except TimeoutError:
        reason = f"it does not list its models within {ASK_TIMEOUT_S:g} s; see its log"
        return Troubled(backend, False, reason)
    return Troubled(backend, True, _of_listing(entry, has_models=bool(listed)))


def _of_error(backend: Backend, error: BackendError) -> str:
    if error.http_status == HTTPStatus.NOT_FOUND:
        place = f"where an engine of kind {backend.kind} has it"
        return f"what answers there has no list of models {place} (404); correct its url or its kind"
    return f"{error.message}; {_remedy(error.http_status)}"


def _of_listing(entry: CatalogEntry, *, has_models: bool) -> str:
    if not entry.healthy:
        return "it did not answer at first, and does now; try again"
    if has_models:
        return "its settings `models` and `exclude` let none of its models through"
    return "it has no model; load or pull one there"


async def _of_auto(settings: BackendSettings, http: EngineHttp) -> Unrecognised:
    url = normalise(settings.url or "")
    try:
        page = await http.ask(url, "/v1/models", api_key=settings.api_key, timeout_s=ASK_TIMEOUT_S)
    except BackendError as error:
        answers = isinstance(error, BackendFailed)  # with what is none; else nobody does
        return Unrecognised(settings, answers, f"{error.message}; {_remedy(error.http_status)}")
    return Unrecognised(settings, True, await _of_page(page, settings, url, http))


async def _of_page(page: Page, settings: BackendSettings, url: str, http: EngineHttp) -> str:
    if page.status in _KEY_WANTED:
        return f"what answers there (with {page.status} to /v1/models) wants a key; {_remedy(page.status)}"
    if page.status == HTTPStatus.SERVICE_UNAVAILABLE:
        return "what answers there (with 503 to /v1/models) is loading or busy; try again in a while"
    return await _of_recognised(settings, url, http) or (
        f"what answers there (with {page.status} to /v1/models) is no engine that is known by its "
        'answers; correct the address, or name its kind, such as kind = "openai"'
    )


async def _of_recognised(settings: BackendSettings, url: str, http: EngineHttp) -> str | None:
    """What an engine says instead of its models that is known by its other answers."""
    try:
        family = await identify(http, url, api_key=settings.api_key, timeout_s=ASK_TIMEOUT_S)
        if family is None:
            return None
        await family(http, settings, url=url, name=family.kind).list_models()
    except BackendError as error:
        return error.message
    return "it did not answer at first, and does now; try again"


def _of_defect(error: BaseException) -> str:
    return f"a defect of this program ended the look at it ({type(error).__name__}); please report it"


def _remedy(http_status: int | None) -> str:
    if http_status in _KEY_WANTED:
        return "give it the right api_key_env or api_key_file"
    if http_status is None:
        return "see whether it runs, and listens at that address"
    return "see its log, and whether its kind is right"
