"""How the findings of `validate` look."""

import io
from typing import Any

import pytest
from rich.console import Console

from provider_agent.cli.validate_view import show

FINDINGS: dict[str, Any] = {
    "valid": True,
    "file": "agent.toml",
    "variables": ["PROVIDER_AGENT__LOG__LEVEL"],
    "coordinator": "wss://example.org/v1/agents/connect",
    "identity": {"key_path": "/state/identity.key", "exists": False, "known_at": None},
    "backends": [
        {
            "name": "ollama",
            "kind": "ollama",
            "url": "http://127.0.0.1:11434",
            "healthy": True,
            "state": "answers",
            "models": ["a"],
        },
        {
            "name": "vllm",
            "kind": "vllm",
            "url": "http://127.0.0.1:8000",
            "healthy": False,
            "state": "no answer",
            "models": [],
        },
    ],
    "problems": [],
    "models": [
        {
            "model_id": "a",
            "backend": "ollama",
            "endpoints": ["/api/chat", "/v1/chat/completions"],
            "max_concurrent": 4,
            "context_window": 131072,
            "warm": None,
            "input_per_1m": 0,
            "output_per_1m": 0,
        }
    ],
}


def shown(**changes: Any) -> str:
    out = io.StringIO()
    show({**FINDINGS, **changes}, Console(file=out, width=120, highlight=False))
    return out.getvalue()


def test_sources_engines_and_offer_are_shown() -> None:
    """In this order, each with what an operator asks for."""
    page = shown()

    assert page.index("agent.toml") < page.index("no answer") < page.index("131,072")
    assert "PROVIDER_AGENT__LOG__LEVEL" in page
    assert "/state/identity.key (made on first use)" in page
    assert "api/chat chat" in page
    assert "price" not in page


@pytest.mark.parametrize(
    ("known_at", "standing"), [("c.example", "known at c.example"), (None, "new to this coordinator")]
)
def test_whether_a_code_is_needed_can_be_seen(known_at: str | None, standing: str) -> None:
    """Of an identity that was made before."""
    identity = {**FINDINGS["identity"], "exists": True, "known_at": known_at}

    assert f"/state/identity.key ({standing})" in shown(identity=identity)


def test_prices_and_unknown_context_windows_are_shown_as_they_are() -> None:
    """Micro-units per million tokens."""
    (model,) = FINDINGS["models"]
    page = shown(models=[model, {**model, "input_per_1m": 5, "context_window": None}])

    assert "5 / 0" in page
    assert "free" in page
    assert page.count("131,072") == 1


def test_what_is_in_memory_is_warm_and_what_is_only_on_disk_cold() -> None:
    """Where an engine says so; what nobody says is not guessed."""
    (model,) = FINDINGS["models"]
    warm, cold = (shown(models=[{**model, "warm": each}]) for each in (True, False))

    assert ("warm" in warm, "cold" in warm) == (True, False)
    assert ("warm" in cold, "cold" in cold) == (False, True)
    assert not {"warm", "cold"} & set(shown().split())


def test_no_engine_and_no_offer_say_what_to_do() -> None:
    """An empty table would be a riddle."""
    page = shown(backends=[], models=[], file=None, variables=[])

    assert "no file" in page
    assert "none was found on this machine" in page
    assert "Start an engine" in page


# --- how it answers ----------------------------------------------------------------------


def trial(**changes: Any) -> dict[str, Any]:
    return {
        "backend": "ollama",
        "model": "a",
        "offered_as": ["a"],
        "endpoint": "/v1/chat/completions",
        "verdict": "answered",
        "first_byte_ms": 210.4,
        "duration_ms": 500.0,
        "output_tokens": 16,
        "tokens_per_s": 48.12,
        "code": None,
        "problem": None,
        "remedy": None,
        **changes,
    }


FAILED: dict[str, Any] = {
    "verdict": "failed",
    "first_byte_ms": None,
    "tokens_per_s": None,
    "problem": "the engine failed",
    "remedy": "see its log",
}


def test_an_answer_is_shown_with_its_times() -> None:
    """Milliseconds, or seconds where a model was loaded."""
    page = shown(trials=[trial(), trial(endpoint="/api/chat", first_byte_ms=41_300.0)], all_answered=True)

    assert "210 ms" in page
    assert "41.3 s" in page
    assert "48.1" in page
    assert "All is well: 2 answered." in page


def test_well_is_not_all_while_there_is_something_to_see_to() -> None:
    """Each model answers, and the agent may not be let in all the same."""
    problems = [{"level": "warning", "about": "enrolment", "text": "there is no code; set one"}]
    page = shown(trials=[trial()], all_answered=True, problems=problems)

    assert "All is well" not in page
    assert "The models are well: 1 answered. What else there is to see to is above." in page


def test_well_is_nothing_of_which_nothing_was_tried() -> None:
    """Such as paid engines, without --paid."""
    page = shown(trials=[trial(verdict="untried")], all_answered=True)

    assert "All is well" not in page
    assert "Nothing failed, and nothing was tried: 1 untried." in page


def test_what_is_wrong_is_said_once_for_all_that_have_it() -> None:
    """Thirty models behind one broken engine need no thirty sentences."""
    trials = [
        trial(model=f"m{number}", endpoint=endpoint, **FAILED)
        for number in range(5)
        for endpoint in ("/v1/chat/completions", "/v1/completions")
    ]
    page = shown(trials=trials, all_answered=False)

    assert page.count("The engine failed; see its log.") == 1
    assert "ollama, chat, completions of m0, m1, m2 and 2 more" in page
    assert "Not all is well: 10 failed; 1 of 2 engines not there." in page


def test_problems_are_sentences_below_whose_they_are() -> None:
    """What begins with a file or a key is left as it is."""
    problems = [
        {"level": "error", "about": "identity", "text": "agent.toml is no key; mend it"},
        {"level": "warning", "about": "engine den", "text": "it has no model; load one"},
    ]
    page = shown(problems=problems, valid=False, trials=[], all_answered=True)

    assert "identity\n  agent.toml is no key; mend it.\n" in no_trailing_blanks(page)
    assert "engine den\n  It has no model; load one.\n" in no_trailing_blanks(page)
    assert "The settings cannot be used as they are. Of the engines: nothing was tried." in page


def test_everything_fits_eighty_columns() -> None:
    """Long names are folded, numbers and endpoints are not; a name in brackets is no markup."""
    name = "hf.co/[red]somebody/A-Very-Long-Name-Of-A-Model-3.2-3B-Instruct-GGUF:Q4_K_M"
    out = io.StringIO()
    trials = [trial(model=name, first_byte_ms=123_456.7, tokens_per_s=12_345.6), trial(model=name, **FAILED)]
    show({**FINDINGS, "trials": trials, "all_answered": False}, Console(file=out, width=80, highlight=False))
    lines = out.getvalue().splitlines()

    assert max(map(len, lines)) <= 80
    assert any(line.rstrip().endswith("chat      answers     123.5 s  12,345.6") for line in lines)
    assert "[red]" in out.getvalue()


@pytest.mark.parametrize(
    ("name", "price"), [("simulated-model-7b:latest", 0), ("qwen3-coder:30b", 30_000_000)]
)
def test_names_and_endpoints_are_whole_in_eighty_columns(name: str, price: int) -> None:
    """A name of usual length can be copied, and what is read as words stays words."""
    (model,) = FINDINGS["models"]
    endpoints = ["/api/chat", "/api/generate", "/v1/chat/completions", "/v1/completions", "/v1/embeddings"]
    said = {"model_id": name, "backend": "transformers", "endpoints": endpoints, "warm": False}
    prices = {"input_per_1m": price, "output_per_1m": price}
    out = io.StringIO()
    show({**FINDINGS, "models": [{**model, **said, **prices}]}, Console(file=out, width=80, highlight=False))
    words = set(out.getvalue().split())

    assert max(map(len, out.getvalue().splitlines())) <= 80
    assert {name, "transformers", "api/generate", "completions", "embeddings", "131,072", "cold"} <= words
    assert ("price" in words) is (price > 0)


def no_trailing_blanks(page: str) -> str:
    return "".join(f"{line.rstrip()}\n" for line in page.splitlines())
