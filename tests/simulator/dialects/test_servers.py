"""What vLLM, SGLang, TGI, `transformers serve` and mlx_lm.server tell of themselves."""

from provider_agent.simulator.dialects.servers import MLX, SGLANG, TGI, TRANSFORMERS, VLLM
from tests.simulator.dialects.test_base import view


def test_sglang_tells_its_slots_by_scheduler() -> None:
    """What each one runs at once."""
    info = SGLANG.pages["/get_server_info"](view(), {})

    assert info["internal_states"] == [{"effective_max_running_requests_per_dp": 3}]
    assert SGLANG.pages["/get_model_info"](view(), {})["is_generation"] is True


def test_tgi_tells_its_limits_and_refuses_beyond_them() -> None:
    """Nobody waits there."""
    info = TGI.pages["/info"](view(), {})

    assert (info["max_concurrent_requests"], info["max_total_tokens"]) == (3, 2048)
    assert (TGI.most_waiting, TGI.full[0]) == (0, 429)


def test_tgis_model_is_its_own_owner() -> None:
    """As its source has it."""
    (card,) = TGI.pages["/v1/models"](view(), {})["data"]

    assert card["owned_by"] == card["id"] == "a"


def test_python_servers_describe_their_endpoints() -> None:
    """All that they have."""
    for dialect in (VLLM, SGLANG, TRANSFORMERS):
        assert dialect.pages["/openapi.json"](view(), {})["paths"].keys() >= dialect.endpoints


def test_mlx_tells_of_a_model_no_more_than_its_name() -> None:
    """And of itself no more than which HTTP server it is."""
    (card,) = MLX.pages["/v1/models"](view(), {})["data"]

    assert card.keys() == {"id", "object", "created"}
    assert (MLX.server or "").startswith("BaseHTTP/")
