"""What is made of what real engines said of themselves, and refused; `tests/engines/record.py` wrote it down.

Their answers are transcripts, too: `tests/backends/test_stream_transcripts.py` judges each of them, also cut
into single bytes and at each place, and `tests/faults/test_engine_answers.py` does in each framing of HTTP.
"""

import tempfile
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import pytest

from provider_agent.backends.base import BackendModel, BackendSettings
from provider_agent.backends.failures import of_status
from provider_agent.backends.families import FAMILIES, identify, recognise
from provider_agent.backends.http import EngineHttp
from provider_agent.backends.request import CHAT, COMPLETIONS, EMBEDDINGS, MESSAGES, RERANK, RESPONSES
from tests.fakes.engine_pages import answers_of
from tests.fakes.recordings import FOLDER, RECORDINGS, RecordedEngine, Recording
from tests.fakes.transcripts import RECORDED

LATE_S: Final = 5.0
MOST_BYTES: Final = 60_000
NOW: Final = datetime(2026, 11, 21, tzinfo=UTC)

WRITES: Final = frozenset({CHAT, COMPLETIONS, RESPONSES, MESSAGES})
VLLM: Final = BackendModel("tiny", WRITES, context_window=1024, is_loaded=True)
LLAMACPP: Final = replace(VLLM, max_concurrent=4, features=frozenset({"tools"}))
TINY: Final = replace(LLAMACPP, context_window=2048)
COLD: Final = BackendModel("other", WRITES | {EMBEDDINGS}, is_loaded=False)
MODELS: Final[Mapping[str, tuple[BackendModel, ...]]] = {
    "vllm-0.32.0": (VLLM,),
    "vllm-0.32.0-embeddings": (replace(VLLM, endpoints=frozenset({EMBEDDINGS, RERANK}), is_embedding=True),),
    "transformers-5.23.0": (BackendModel("some/tiny", frozenset({CHAT, COMPLETIONS, RESPONSES})),),
    "mlx-0.32.2": (BackendModel("some/tiny", frozenset({CHAT, COMPLETIONS})),),
    "llamacpp-python-0.3.36": (
        BackendModel("tiny", frozenset({CHAT, COMPLETIONS}), max_concurrent=1, is_loaded=True),
    ),
    "llamacpp-11434": (LLAMACPP,),
    "llamacpp-11434-embeddings": (replace(LLAMACPP, endpoints=WRITES | {EMBEDDINGS}),),
    "llamacpp-11434-reranking": (replace(LLAMACPP, endpoints=WRITES | {EMBEDDINGS, RERANK}),),
    "llamacpp-11434-router": (COLD, TINY),
}

CODES: Final = {
    "wrong model": "model_not_loaded",
    "too long": "bad_request",
    "bad value": "bad_request",
    "bad parameter": "bad_request",
    "bad schema": "bad_request",
    "no JSON": "bad_request",
    "nothing": "bad_request",
    "no such endpoint": "model_not_loaded",
}
"""What a refusal means, by its name, streamed or not."""

ODD: Final = {
    ("transformers-5.23.0", "wrong model"): "backend_error",
    ("transformers-5.23.0", "bad value"): "backend_error",
    ("transformers-5.23.0", "bad parameter"): "backend_error",
    ("transformers-5.23.0", "nothing"): "backend_error",
    ("llamacpp-python-0.3.36", "bad value"): "backend_error",
    ("llamacpp-python-0.3.36", "bad parameter"): "backend_error",
    ("llamacpp-python-0.3.36", "bad schema"): "backend_error",
    ("llamacpp-python-0.3.36", "nothing"): "backend_error",
    ("llamacpp-python-0.3.36", "no JSON"): "backend_error",
    ("llamacpp-11434-router", "wrong model"): "bad_request",
    ("llamacpp-11434-embeddings", "too long"): "backend_error",
}
"""Where an engine's status says something else: 500 to what it does not like, 400 of a router."""

TELL_NO_FINGERPRINT: Final = {"transformers", "mlx", "llamacpp-python"}
ANSWER_NOTHING: Final = {"llamacpp-python"}
"""They have an answer to `{}`, too."""

COUNT_NO_STREAMS: Final = {"llamacpp-python"}

recordings = pytest.mark.parametrize("recording", RECORDINGS, ids=str)


def test_each_engine_that_runs_here_is_recorded() -> None:
    """A recording without a word on what is to be made of it is none."""
    assert {recording.name for recording in RECORDINGS} == MODELS.keys()


@recordings
async def test_a_recorded_engine_is_recognised(recording: Recording) -> None:
    """By all of its answers, and by the few that are asked for first."""
    family = FAMILIES[recording.kind]
    async with RecordedEngine(recording) as engine, EngineHttp() as http:
        assert await identify(http, engine.url, timeout_s=LATE_S) is family

    assert recognise(answers_of(recording.pages)) is family


@recordings
async def test_its_models_are_what_they_were(recording: Recording) -> None:
    """Name, endpoints, context, slots, and whether it is in memory."""
    async with RecordedEngine(recording) as engine, EngineHttp() as http:
        backend = FAMILIES[recording.kind](http, BackendSettings(recording.kind), url=engine.url, name="x")
        models = await backend.list_models()

    assert tuple(replace(model, fingerprint=None) for model in models) == MODELS[recording.name]


@recordings
async def test_what_is_served_has_a_fingerprint_where_the_engine_tells(recording: Recording) -> None:
    """And a router's model that is not loaded has none."""
    async with RecordedEngine(recording) as engine, EngineHttp() as http:
        backend = FAMILIES[recording.kind](http, BackendSettings(recording.kind), url=engine.url, name="x")
        told = {model.model_id for model in await backend.list_models() if model.fingerprint}

    assert told == ({recording.model} if recording.kind not in TELL_NO_FINGERPRINT else set())


@recordings
def test_each_refusal_has_its_code(recording: Recording) -> None:
    """Of bodies that the engine refused with a status (field notes 30 and 31)."""
    told = {
        exchange.name: of_status(exchange.status, body=exchange.body, now=NOW).code.value
        for exchange in recording.exchanges
        if not exchange.is_success
    }
    names = {name: name.removesuffix(" streamed") for name in told}

    assert told == {name: ODD.get((recording.name, what)) or CODES[what] for name, what in names.items()}
    assert {"no JSON", "no such endpoint"} <= told.keys()
    assert ("nothing" in told) == (recording.kind not in ANSWER_NOTHING)


@recordings
def test_a_client_hears_why_its_request_was_refused(recording: Recording) -> None:
    """In the engine's own words, without a path or an address in them (field note 31)."""
    for exchange in recording.exchanges:
        if exchange.status == 400:
            message = of_status(400, body=exchange.body, now=NOW).message
            assert message != "the engine refused the request"
            assert "/models/" not in message


def test_each_endpoint_of_each_engine_is_a_transcript() -> None:
    """So that none is left out of what is tried with all of them."""
    names = {each.name for each in RECORDED}
    for recording in RECORDINGS:
        asked = {exchange.path for exchange in recording.exchanges if exchange.is_success}
        assert asked <= {each.path for each in RECORDED if each.name.startswith(f"{recording.name} ")}
    assert {
        "vllm-0.32.0 bad schema streamed",
        "vllm-0.32.0 tools streamed",
        "transformers-5.23.0 two choices streamed",
        "vllm-0.32.0-embeddings rerank",
    } <= names


@recordings
def test_a_prompt_counts_the_same_streamed_or_not(recording: Recording) -> None:
    """The same prompt was sent, wherever the count of its tokens stands; the answers are random."""
    for streamed in recording.exchanges:
        name = streamed.name.removesuffix(" streamed")
        if streamed.name == name or name.startswith(("bad", "wrong", "two")) or not streamed.is_success:
            continue
        counted, again = streamed.usage, recording.exchange(name).usage
        if recording.kind in COUNT_NO_STREAMS:
            assert counted.input_tokens is None, name
            continue
        assert counted.input_tokens == again.input_tokens is not None, name
        assert min(counted.output_tokens or 0, again.output_tokens or 0) > 0, name


@recordings
def test_a_recording_is_small_and_of_no_particular_machine(recording: Recording) -> None:
    """It is read by people, too."""
    text = (FOLDER / f"{recording.name}.json").read_text()

    assert len(text) < MOST_BYTES
    for folder in (Path.home(), FOLDER.parents[2], Path(tempfile.gettempdir())):
        assert f"{folder}/" not in text
