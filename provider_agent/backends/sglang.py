"""SGLang: OpenAI's API; tells whether its one model generates or embeds, and how many jobs run at once."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

from provider_agent.backends.base import BackendModel, BackendSettings
from provider_agent.backends.fingerprint import fingerprint
from provider_agent.backends.http import EngineHttp
from provider_agent.backends.listing import Answers, Item, api_paths, positive, said_by
from provider_agent.backends.openai import OpenAIBackend
from provider_agent.backends.vllm import described


@dataclass(frozen=True, slots=True)
class _Told:
    model: Item
    slots: int | None
    paths: frozenset[str] | None


class SglangBackend(OpenAIBackend):
    """See the module."""

    kind: ClassVar[str] = "sglang"
    default_url: ClassVar[str | None] = "http://127.0.0.1:30000"

    def __init__(self, http: EngineHttp, settings: BackendSettings, *, url: str, name: str) -> None:
        super().__init__(http, settings, url=url, name=name)
        self._slots: int | None = None  # a busy engine may not answer in time, and has not fewer then

    @classmethod
    def recognises(cls, answers: Answers) -> bool:
        return answers.is_owned_by("sglang")

    async def _ask_more(self, listed: Sequence[Item]) -> _Told:  # noqa: ARG002
        """Newer versions are about to drop the `get_`."""
        server, newer_server, model, newer_model, api = await self._ask_all(
            "/get_server_info", "/server_info", "/get_model_info", "/model_info", "/openapi.json"
        )
        self._slots = _slots(said_by(server) or said_by(newer_server)) or self._slots
        return _Told(said_by(model) or said_by(newer_model), self._slots, api_paths(api))

    def _model(self, item: Item, more: Any) -> BackendModel:
        model = super()._model(item, more)
        return replace(
            model,
            endpoints=described(self.endpoints, more.paths),
            max_concurrent=more.slots,
            fingerprint=fingerprint(
                model_path=more.model.get("model_path"),
                weights=more.model.get("weight_version"),
                context_window=model.context_window,
            ),
            is_embedding=more.model.get("is_generation") is False,
            is_loaded=True,
        )


def _slots(info: Item) -> int | None:
    """What its schedulers run at once; else what it was started with."""
    states = info.get("internal_states")
    each = [
        positive(state, "effective_max_running_requests_per_dp", "max_running_requests")
        for state in (states if isinstance(states, list) else ())
        if isinstance(state, Mapping)
    ]
    told = [number for number in each if number is not None]
    return positive({"all": sum(told)}, "all") or positive(info, "max_running_requests")
