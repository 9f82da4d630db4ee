"""A client that leaves frees the engine's slot within 250 ms, all the way through coordinator and agent."""

import asyncio
from typing import Any

import httpx
import pytest

from tests.engines.conftest import Line
from tests.engines.processes import eventually

LIMIT_S = 0.25
LOOKS_EVERY_S = 1.0
LONG: dict[str, Any] = {
    "model": "slow",
    "messages": [{"role": "user", "content": "An agent carries words"}],
    "temperature": 0,
    "max_tokens": 1500,
    "ignore_eos": True,
}


def slots_are_free(line: Line) -> None:
    eventually(lambda: line.slow.busy_slots() == 0, LIMIT_S, "the engine's slots are free")


def test_leaving_a_stream_frees_the_slot(line: Line) -> None:
    """In the middle of an answer; field note 70."""
    body = LONG | {"stream": True}
    with httpx.stream("POST", f"{line.url}/v1/chat/completions", json=body, timeout=30) as answer:
        lines = answer.iter_lines()
        for _ in range(6):
            next(lines)
        assert line.slow.busy_slots() == 1

    slots_are_free(line)


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("prompt", ["An agent", "word " * 1500], ids=["answering", "reading the prompt"])
async def test_leaving_before_the_first_byte_reaches_the_engine(
    line: Line, stream: bool, prompt: str
) -> None:
    """Nothing has come yet: an answer that is not streamed, or a prompt that is still being read; note 70.

    Until its first byte llama-server looks only once a second whether its client is still there
    (and less often while it answers other questions, so it is not asked for its slots meanwhile).
    """
    before = line.slow.cancels()
    body = LONG | {"stream": stream, "messages": [{"role": "user", "content": prompt}]}
    async with httpx.AsyncClient(timeout=30) as asking:
        waiting = asyncio.create_task(asking.post(f"{line.url}/v1/chat/completions", json=body))
        await asyncio.to_thread(eventually, lambda: line.slow.busy_slots() > 0, 10, "a slot is taken")
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting

    limit_s = LOOKS_EVERY_S + LIMIT_S
    eventually(lambda: line.slow.cancels() > before, limit_s, "the engine has noticed")


def test_the_openai_client_frees_the_slot_when_it_closes_its_stream(line: Line) -> None:
    """As people do it."""
    stream = line.through.chat.completions.create(
        model="slow", messages=LONG["messages"], max_tokens=1500, extra_body={"ignore_eos": True}, stream=True
    )
    next(iter(stream))
    assert line.slow.busy_slots() == 1
    stream.close()

    slots_are_free(line)


def test_leaving_frees_only_ones_own_slot(line: Line) -> None:
    """Two clients ask the same; one leaves, and the other gets its whole answer."""
    short = LONG | {"max_tokens": 120, "stream": True}
    url = f"{line.url}/v1/chat/completions"
    with (
        httpx.stream("POST", url, json=short, timeout=30) as staying,
        httpx.stream("POST", url, json=LONG | {"stream": True}, timeout=30) as leaving,
    ):
        next(leaving.iter_lines())
        leaving.close()
        body = staying.read().decode()

    assert body.rstrip().endswith("data: [DONE]")
    assert body.count('"content"') >= 120
    slots_are_free(line)
