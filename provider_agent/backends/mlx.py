"""mlx_lm.server: OpenAI's API for Apple's MLX; what is in the cache of Hugging Face, loaded on demand.

One model is in memory at a time. It tells neither which, nor slots, nor context. It trusts whoever asks it:

1. A request may name folders and repositories that it then loads, beside the model: these names do not leave.
2. Some members end the thread that computes, or its process, for all who come after: they are refused here.

When that thread has died it still lists its models, and answers 404 to all jobs; only `/health` tells.
Seen at 0.32.
"""

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from http import HTTPStatus
from typing import ClassVar, Final

import msgspec
from msgspec import Raw

from provider_agent.backends.base import BackendFailed, BackendModel, BadRequest, Call, ModelNotFound, Reply
from provider_agent.backends.listing import Answers, items
from provider_agent.backends.named import NamedModelsBackend
from provider_agent.backends.request import CHAT, COMPLETIONS, edited

_SERVER: Final = "BaseHTTP/"
_CARD: Final = {"id", "object", "created"}
_LOADED_BESIDE: Final = ("adapters", "draft_model")
_LARGEST_TOP_K: Final = 1000
"""The vocabulary's size is beyond it, and ends the thread."""

_DIED: Final = "the engine's thread that computes has ended; start it anew"
_DEAD: Final = "generation thread died"


class MlxBackend(NamedModelsBackend):
    """See the module."""

    kind: ClassVar[str] = "mlx"
    default_url: ClassVar[str | None] = "http://127.0.0.1:8080"
    endpoints: ClassVar[frozenset[str]] = frozenset({CHAT, COMPLETIONS})

    @classmethod
    def recognises(cls, answers: Answers) -> bool:
        """By the HTTP server of Python's own library, and a list that says of a model no more than these."""
        page = answers.models
        if page is None or not page.headers.get("server", "").startswith(_SERVER):
            return False
        listed = items(page, "data")
        if listed is None:  # without a cache: JSON it says, and nothing follows
            is_json = page.headers.get("content-type", "").startswith("application/json")
            return page.status == HTTPStatus.OK and is_json and page.value is None
        return all(item.keys() == _CARD for item in listed)

    @asynccontextmanager
    async def open(self, call: Call) -> AsyncIterator[Reply]:
        tamed = call._replace(body=edited(call.body, _tame))
        async with AsyncExitStack() as answer:
            try:
                reply = await answer.enter_async_context(super().open(tamed))
            except ModelNotFound as error:
                if _DEAD in error.message:
                    raise BackendFailed(_DIED, http_status=error.http_status) from error
                raise
            yield reply

    async def list_models(self) -> tuple[BackendModel, ...]:
        health = await self._ask_or_none("/health")
        if health is not None and health.status == HTTPStatus.SERVICE_UNAVAILABLE:
            raise BackendFailed(_DIED, http_status=health.status)
        return await super().list_models()


def _tame(members: dict[str, Raw]) -> None:
    """Raises BadRequest for what would end its thread or its process."""
    for name in _LOADED_BESIDE:
        members.pop(name, None)
    prompt = _value(members, "prompt")
    if isinstance(prompt, list) and len(prompt) == 1:  # as some clients write each prompt
        (prompt,) = prompt
        members["prompt"] = Raw(msgspec.json.encode(prompt))
    for name, (is_fit, wanted) in _WANTED.items():
        if name in members and not is_fit(_value(members, name)):
            raise BadRequest(f"this engine takes no such `{name}`: {wanted}")


def _value(members: Mapping[str, Raw], name: str) -> object:
    """A member, read; one that cannot be is a thing that fits nowhere."""
    try:
        return msgspec.json.decode(members[name]) if name in members else None
    except msgspec.DecodeError:
        return object()


def _is_stop(said: object) -> bool:
    texts = said if isinstance(said, list) else [said]
    return said is None or all(isinstance(each, str) for each in texts)


def _is_small(said: object) -> bool:
    return isinstance(said, int) and said <= _LARGEST_TOP_K


_WANTED: Final[Mapping[str, tuple[Callable[[object], bool], str]]] = {
    "prompt": (
        lambda said: isinstance(said, str) and said != "",
        "it must be one text, and not an empty one",
    ),
    "stop": (_is_stop, "it must be a text, or a list of texts"),
    "logit_bias": (lambda said: not said, "a token that the model does not have would end the engine"),
    "top_k": (_is_small, f"it must be a number of at most {_LARGEST_TOP_K}"),
}
