"""How the simulator speaks: one dialect for each engine family, by the name that `--api` takes."""

from collections.abc import Mapping

from provider_agent.backends.request import CHAT, COMPLETIONS, EMBEDDINGS
from provider_agent.simulator.dialects.base import Dialect, listing
from provider_agent.simulator.dialects.desktops import DOCKER, JAN, LMSTUDIO, LOCALAI
from provider_agent.simulator.dialects.llamacpp import (
    KOBOLDCPP,
    LLAMACPP,
    LLAMACPP_PYTHON,
    LLAMACPP_ROUTER,
    LLAMAFILE,
)
from provider_agent.simulator.dialects.ollama import OLLAMA
from provider_agent.simulator.dialects.servers import MLX, SGLANG, TGI, TRANSFORMERS, VLLM
from provider_agent.simulator.style import Style

_BASIC = frozenset({CHAT, COMPLETIONS, EMBEDDINGS})

OPENAI = Dialect(endpoints=_BASIC, pages={"/v1/models": listing("simulator", window="max_model_len")})
"""Nobody special."""

REMOTE = Dialect(
    endpoints=_BASIC,
    pages={
        "/v1/models": listing(
            None,
            window="context_length",
            more={"pricing": {"prompt": "0.0000001", "completion": "0.0000004"}},
        )
    },
    style=Style(
        members={"provider": "Simulated"},
        choice_members={"native_finish_reason": None},
        comment=b": OPENROUTER PROCESSING\n\n",
        usage="delta",
        counts_unasked=True,
    ),
    folder="/api",
)
"""A paid provider, as OpenRouter is; nothing is paid here."""

DIALECTS: Mapping[str, Dialect] = {
    "openai": OPENAI,
    "vllm": VLLM,
    "sglang": SGLANG,
    "llamacpp": LLAMACPP,
    "llamacpp-router": LLAMACPP_ROUTER,
    "llamafile": LLAMAFILE,
    "lmstudio": LMSTUDIO,
    "ollama": OLLAMA,
    "tgi": TGI,
    "localai": LOCALAI,
    "koboldcpp": KOBOLDCPP,
    "jan": JAN,
    "docker": DOCKER,
    "transformers": TRANSFORMERS,
    "mlx": MLX,
    "llamacpp-python": LLAMACPP_PYTHON,
    "remote": REMOTE,
}
