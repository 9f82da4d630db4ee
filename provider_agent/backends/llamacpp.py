"""llama.cpp's server: OpenAI's API; `/props` tells its slots.

More jobs than slots wait in silence, so the slots are a limit. It does not tell whether it was started with
`--embeddings` or `--reranking`, but answers 501 where it was not, even to an empty request: so each model is
asked once, when its server is new. As a router it has several models and loads them on demand; one that is
not loaded is asked nothing, since that would load it.
"""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Final
from urllib.parse import quote

import msgspec

from provider_agent.backends.base import BackendModel, BackendSettings
from provider_agent.backends.features import features
from provider_agent.backends.fingerprint import fingerprint
from provider_agent.backends.http import EngineHttp
from provider_agent.backends.listing import Answers, Item, below, positive, said_by, text
from provider_agent.backends.openai import ENDPOINTS, OpenAIBackend
from provider_agent.backends.request import CHAT, EMBEDDINGS, MESSAGES, RERANK, RESPONSES

_DEPENDS_ON_FLAGS: Final = (CHAT, EMBEDDINGS, RERANK)
_NOT_SERVED: Final = frozenset({404, 405, 501})
_MOST_LOADED: Final = 16
"""Of so many models one look asks, each over connections of its own; a router loads 4 by default."""

_UNLOADED: Final = frozenset({"unloaded", "loading", "downloading"})

Props = Mapping[str, Item]
"""`/props` of each model that is loaded, by model."""


class LlamaCppBackend(OpenAIBackend):
    """See the module."""

    kind: ClassVar[str] = "llamacpp"
    default_url: ClassVar[str | None] = "http://127.0.0.1:8080"
    endpoints: ClassVar[frozenset[str]] = ENDPOINTS | {RESPONSES, MESSAGES}

    def __init__(self, http: EngineHttp, settings: BackendSettings, *, url: str, name: str) -> None:
        super().__init__(http, settings, url=url, name=name)
        self._refused: dict[tuple[str, ...], frozenset[str]] = {}  # by model and server process

    @classmethod
    def recognises(cls, answers: Answers) -> bool:
        server = answers.models.headers.get("server", "") if answers.models else ""
        return answers.is_owned_by("llamacpp") or server.startswith("llama.cpp")

    async def _ask_more(self, listed: Sequence[Item]) -> Props:
        props = said_by(await self._ask_or_none("/props"))
        if props.get("role") != "router":
            told = {text(item, "id"): props for item in listed}
        else:
            names = [text(item, "id") for item in listed if _is_loaded(item)][:_MOST_LOADED]
            pages = await self._ask_all(
                *(f"/props?model={quote(name, safe='')}&autoload=false" for name in names)
            )
            told = dict(zip(names, map(said_by, pages), strict=True))
        known = {_process(name, props): name for name, props in told.items() if props}
        new = [key for key in known if key not in self._refused][:_MOST_LOADED]
        refused = zip(new, await asyncio.gather(*(self._refuses(known[key]) for key in new)), strict=True)
        found = {key: paths for key, paths in refused if paths is not None}
        self._refused = {key: paths for key, paths in (self._refused | found).items() if key in known}
        return told

    async def _refuses(self, name: str) -> frozenset[str] | None:
        """The endpoints that this model's server has not got; None if it did not say so in time.

        An empty request makes no engine work.
        """
        body = msgspec.json.encode({"model": name})
        pages = await asyncio.gather(*(self._ask_or_none(path, body) for path in _DEPENDS_ON_FLAGS))
        if None in pages:
            return None
        answers = zip(_DEPENDS_ON_FLAGS, pages, strict=True)
        return frozenset(path for path, page in answers if page is not None and page.status in _NOT_SERVED)

    def _model(self, item: Item, more: Any) -> BackendModel:
        name = text(item, "id")
        props, meta = more.get(name, {}), below(item, "meta")
        refused = self._refused.get(_process(name, props))
        endpoints = self.endpoints if refused is None else (self.endpoints | {RERANK}) - refused
        if CHAT not in endpoints:  # then it writes nothing at all
            endpoints &= {EMBEDDINGS, RERANK}
        return BackendModel(
            name,
            endpoints,
            context_window=positive(meta, "n_ctx", "n_ctx_train"),
            max_concurrent=positive(props, "total_slots"),
            fingerprint=fingerprint(
                **{each: meta.get(each) for each in ("n_params", "size", "n_vocab", "ftype", "n_ctx")},
                template=props.get("chat_template"),
            ),
            is_embedding=CHAT not in endpoints and EMBEDDINGS in endpoints,
            is_loaded=_is_loaded(item),
            features=features(
                tools=below(props, "chat_template_caps").get("supports_tools"),
                **{each: below(props, "modalities").get(each) for each in ("vision", "audio")},
            ),
        )


def _is_loaded(item: Item) -> bool:
    """Only a router says so; the one model of any other server is."""
    return text(below(item, "status"), "value") not in _UNLOADED


def _process(name: str, props: Item) -> tuple[str, ...]:
    """What changes when the server is started anew: it marks its prompts' media with a random word."""
    return (name, text(props, "media_marker"), text(props, "model_path"), str(props.get("total_slots")))
