"""The course of the demo, with real parts and the plain view."""

import asyncio
import io
import signal

from provider_agent.cli.demo_show import Show, show
from provider_agent.cli.demo_view import PlainView

ONCE = Show(prompt="Why?", port=0, once=True, simulated_only=True)


async def test_once_ends_after_the_first_answer() -> None:
    """With its numbers, and without next steps: nothing runs any more."""
    out = io.StringIO()
    async with asyncio.timeout(20):
        code = await show(ONCE, PlainView(out))

    assert code == 0
    assert "tokens/s" in out.getvalue()
    assert "curl" not in out.getvalue()


class ViewThatInterrupts(PlainView):
    """Presses Ctrl-C when the demo says what to do next."""

    def next_steps(self, url: str, model: str) -> None:
        super().next_steps(url, model)
        signal.raise_signal(signal.SIGINT)


async def test_it_keeps_running_until_a_signal_and_ends_cleanly() -> None:
    """Nothing is raised, nothing is left; the status is that of success."""
    out = io.StringIO()
    async with asyncio.timeout(20):
        code = await show(Show(prompt="Why?", port=0, simulated_only=True), ViewThatInterrupts(out))

    assert code == 0
    assert "curl" in out.getvalue()


class ImpatientView(PlainView):
    """Presses Ctrl-C at the question."""

    def asked(self, prompt: str, model: str) -> None:
        super().asked(prompt, model)
        signal.raise_signal(signal.SIGINT)


async def test_a_signal_before_the_answer_is_no_success() -> None:
    """A script that waits for `--once` learns that there was none."""
    async with asyncio.timeout(20):
        assert await show(ONCE, ImpatientView(io.StringIO())) == 130
