"""vLLM: OpenAI's API; tells a model's context window as `max_model_len`, and fills its batches by itself."""

from typing import ClassVar

from provider_agent.backends.listing import Answers
from provider_agent.backends.openai import ENDPOINTS, OpenAIBackend
from provider_agent.backends.request import RESPONSES


class VllmBackend(OpenAIBackend):
    """See the module."""

    kind: ClassVar[str] = "vllm"
    default_url: ClassVar[str | None] = "http://127.0.0.1:8000"
    endpoints: ClassVar[frozenset[str]] = ENDPOINTS | {RESPONSES}

    @classmethod
    def recognises(cls, answers: Answers) -> bool:
        return answers.is_owned_by("vllm")
