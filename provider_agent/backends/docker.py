"""Docker Model Runner: OpenAI's and Anthropic's API below `/engines`; loads its models on demand.

Beside that, below `/`, it tells each model's digest, and which of them are in memory.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Final

from provider_agent.backends.base import BackendModel
from provider_agent.backends.fingerprint import fingerprint
from provider_agent.backends.listing import Answers, Item, below, items, positive, text
from provider_agent.backends.openai import ENDPOINTS, OpenAIBackend
from provider_agent.backends.request import MESSAGES, RESPONSES

_FOLDER: Final = "/engines"


@dataclass(frozen=True, slots=True)
class _Told:
    """By model: what is on disk; and what is in memory."""

    stored: Mapping[str, Item]
    running: frozenset[str] | None


class DockerBackend(OpenAIBackend):
    """See the module."""

    kind: ClassVar[str] = "docker"
    default_url: ClassVar[str | None] = "http://127.0.0.1:12434/engines"
    endpoints: ClassVar[frozenset[str]] = ENDPOINTS | {RESPONSES, MESSAGES}

    @classmethod
    def recognises(cls, answers: Answers) -> bool:
        return answers.is_owned_by("docker")

    async def _ask_more(self, listed: Sequence[Item]) -> _Told:  # noqa: ARG002
        root = self.url.removesuffix(_FOLDER)
        models, ps = await self._ask_all("/models", f"{_FOLDER}/ps", url=root)
        running = items(ps, "running")
        return _Told(
            {name: item for item in items(models, "models") or () for name in _names(item)},
            None if running is None else frozenset(map(_running, running)) - {""},
        )

    def _model(self, item: Item, more: Any) -> BackendModel:
        name = text(item, "id")
        stored, dmr = more.stored.get(name, {}), below(item, "dmr")
        context_window = positive(dmr, "context_window") or positive(below(stored, "config"), "context_size")
        digest = text(stored, "id")
        described = fingerprint(
            **{each: text(dmr, each) for each in ("architecture", "parameters", "quantization", "size")}
        )
        return replace(
            super()._model(item, more),
            context_window=context_window,
            fingerprint=digest if digest.startswith("sha256:") else described,
            is_loaded=None if more.running is None else bool({name, digest} & more.running),
        )


def _names(item: Item) -> frozenset[str]:
    tags = item.get("tags")
    return frozenset(each for each in (tags if isinstance(tags, list) else ()) if isinstance(each, str))


def _running(item: Item) -> str:
    return "" if item.get("loading") is True else text(item, "model_name")
