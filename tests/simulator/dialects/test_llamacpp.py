"""What llama.cpp's server and those built on it tell of themselves."""

from provider_agent.simulator.dialects.llamacpp import KOBOLDCPP, LLAMACPP, LLAMACPP_PYTHON, LLAMACPP_ROUTER
from tests.simulator.dialects.test_base import view


def test_llamacpp_tells_slots_and_window() -> None:
    """The window is that of one slot."""
    props = LLAMACPP.pages["/props"](view(), {})
    (card,) = LLAMACPP.pages["/v1/models"](view(), {})["data"]

    assert (props["total_slots"], card["meta"]["n_ctx"]) == (3, 2048)


async def test_llamacpp_tells_which_slots_are_busy() -> None:
    """One after the other."""
    shown = view()
    async with shown.slots.one():
        slots = LLAMACPP.pages["/slots"](shown, {})

    assert [slot["is_processing"] for slot in slots] == [True, False, False]


def test_a_router_tells_the_state_of_each_model() -> None:
    """What is cold tells nothing else."""
    (warm,) = LLAMACPP_ROUTER.pages["/v1/models"](view(), {})["data"]
    (cold,) = LLAMACPP_ROUTER.pages["/v1/models"](view("a", load_s=1), {})["data"]

    assert (warm["status"], cold["status"]) == ({"value": "loaded"}, {"value": "unloaded"})
    assert "meta" in warm
    assert "meta" not in cold


def test_a_router_tells_of_one_model_what_its_server_does() -> None:
    """If it is loaded; asking loads nothing."""
    props = LLAMACPP_ROUTER.pages["/props"]

    assert props(view(), {})["role"] == "router"
    assert props(view("a", "b"), {"model": "b"})["model_path"] == "/simulated/b.gguf"
    assert props(view("a", load_s=1), {"model": "a"}) == {}


def test_koboldcpp_imitates_ollama() -> None:
    """Under its own name."""
    (tag,) = KOBOLDCPP.pages["/api/tags"](view(), {})["models"]

    assert (tag["name"], tag["details"]["family"]) == ("koboldcpp", "koboldcpp")
    assert KOBOLDCPP.pages["/api/extra/true_max_context_length"](view(), {}) == {"value": 2048}
    assert KOBOLDCPP.pages["/api/extra/version"](view(), {})["llm"] is True


def test_llamacpp_python_calls_itself_by_its_name() -> None:
    """In its description; its models are "mine", says each."""
    (card,) = LLAMACPP_PYTHON.pages["/v1/models"](view(), {})["data"]

    assert LLAMACPP_PYTHON.pages["/openapi.json"](view(), {})["info"]["title"].endswith(
        "llama.cpp Python API"
    )
    assert card["owned_by"] == "me"
