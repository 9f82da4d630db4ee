"""The demo's client against the simulated engine, which speaks the same API as the coordinator."""

import asyncio

import pytest

from provider_agent.cli.demo_chat import ChatFailed, Measured, chat, completion_body
from provider_agent.simulator import Failures, Pace, Simulator, SimulatorConfig

BODY = completion_body("simulated-7b", "hello")


async def ask(failures: Failures, body: dict[str, object] = BODY) -> tuple[str, Measured]:
    measured, text = Measured(), ""
    config = SimulatorConfig(failures=failures, pace=Pace(0.01, 2000))
    async with asyncio.timeout(10), Simulator(config) as simulator:
        async for said in chat(simulator.url, body, measured):
            text += said.text
    return text, measured


async def test_an_answer_comes_whole_and_is_measured() -> None:
    """The engine's own count of tokens, and times that fit each other."""
    text, measured = await ask(Failures(), {**BODY, "max_tokens": 40})

    assert len(text.split()) > 30
    assert measured.tokens == 40
    assert 0.01 <= measured.first_token_s < measured.last_token_s
    assert measured.tokens_per_s is not None


FAILURES = [
    (Failures(status=429), "the coordinator answered 429: Too many requests"),
    (Failures(error_after=3), "the answer broke off: "),
    (Failures(end_after=3), "the answer ended without its end mark"),
    (Failures(cut_after=3), "the connection to the coordinator broke: "),
    (Failures(html=True), "the answer ended without its end mark"),
]


@pytest.mark.parametrize(("failures", "sentence"), FAILURES)
async def test_an_answer_that_is_not_whole_fails_with_one_sentence(failures: Failures, sentence: str) -> None:
    """A truncated answer never looks complete."""
    with pytest.raises(ChatFailed) as caught:
        await ask(failures)

    assert str(caught.value).startswith(sentence)
    assert "\n" not in str(caught.value)


async def test_nobody_there_is_one_sentence() -> None:
    """As after a crash of the coordinator."""
    with pytest.raises(ChatFailed, match="the connection to the coordinator broke"):
        async for _ in chat("http://127.0.0.1:9", BODY, Measured()):
            pass


def test_a_single_token_has_no_speed() -> None:
    """There was no time between the first and the last."""
    assert Measured(tokens=1, first_token_s=1.0, last_token_s=1.0).tokens_per_s is None
    assert Measured(tokens=11, first_token_s=1.0, last_token_s=2.0).tokens_per_s == 10.0
