"""A name that is mistyped is told, where it would just do nothing."""

from provider_agent.agent.config import AgentConfig
from provider_agent.agent.config_sections import BackendSection, CoordinatorSection, ModelsSection
from provider_agent.cli.validate_names import name_problems


def told(models: ModelsSection, *backends: BackendSection) -> list[str]:
    coordinator = CoordinatorSection(url="wss://c.example/v1/agents/connect")
    config = AgentConfig(coordinator=coordinator, models=models, backends=backends)
    found = name_problems(config, ["llama3.2:3b", "llama3", "qwen3:30b"])
    assert {(problem.level, problem.about) for problem in found} <= {("warning", "models")}
    return [problem.text for problem in found]


def test_names_that_fit_a_model_on_offer_are_no_problem() -> None:
    """As globs, as they stand, and as aliases."""
    models = ModelsSection(
        warm=("llama3*", "qwen3:30b"), max_concurrent={"*:30b": 1}, aliases={"llama3": "llama3.2:3b"}
    )

    assert told(models) == []
    assert told(ModelsSection(expose=("gemma*",), hide=("*-private",))) == []


def test_a_glob_that_fits_no_model_is_told() -> None:
    """Nothing would be kept warm, and nothing limited."""
    warm, limit = told(ModelsSection(warm=("lama3*", "llama3*"), max_concurrent={"*:70b": 1}))

    assert warm.startswith('models.warm holds "lama3*", which fits no model on offer; ')
    assert limit.startswith('models.max_concurrent holds "*:70b", which fits no model on offer; ')


def test_an_alias_of_no_model_is_told() -> None:
    """Clients who ask for it would be told that nobody serves it."""
    (text,) = told(ModelsSection(aliases={"gpt": "qwen3:3b"}))

    assert text.startswith('models.aliases has "gpt" for "qwen3:3b", but no model on offer is called so; ')


def test_an_alias_of_one_engine_is_told_with_its_place() -> None:
    """There may be several."""
    named = BackendSection(kind="vllm", aliases={"gpt": "org/Qwen"})
    (text,) = told(ModelsSection(), BackendSection(kind="ollama"), named)

    assert text.startswith(
        'backends[1].aliases has "gpt" for "org/Qwen", but no model on offer is called so; '
    )
