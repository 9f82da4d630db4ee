"""The course of the demo, with real parts and the plain view."""

import asyncio
import io
import signal
from dataclasses import replace

import pytest

from provider_agent.cli.demo_chat import ChatFailed, Measured, chat, completion_body
from provider_agent.cli.demo_jobs import Finished
from provider_agent.cli.demo_parts import Wish
from provider_agent.cli.demo_show import Show, show
from provider_agent.cli.demo_view import PlainView
from provider_agent.simulator import Failures, Pace, SimulatorConfig

FAST = SimulatorConfig(pace=Pace(0.01, 2000))
WISH = Wish(simulated_only=True, simulated=FAST, port=0)
ONCE = Show("Why?", WISH, once=True)
STAYING = Show("Why?", WISH)


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
        code = await show(STAYING, ViewThatInterrupts(out))

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


async def test_an_answer_that_breaks_off_fails_the_demo_after_the_parts_are_gone() -> None:
    """With one sentence; what came before it stays on the page."""
    out = io.StringIO()
    failing = replace(WISH, simulated=SimulatorConfig(failures=Failures(cut_after=3)))
    with pytest.raises(ChatFailed, match="the answer broke off"):
        async with asyncio.timeout(20):
            await show(Show("Why?", failing, once=True), PlainView(out))

    assert out.getvalue().splitlines()[-1].count(" ") == 2


class ViewWithSecondClient(PlainView):
    """Asks something itself while the demo keeps running, and then presses Ctrl-C."""

    def next_steps(self, url: str, model: str) -> None:
        super().next_steps(url, model)
        self.client = asyncio.create_task(self._ask(url, model))

    async def _ask(self, url: str, model: str) -> None:
        async for _ in chat(url, completion_body(model, "And now?"), Measured()):
            pass

    def job_ended(self, job: Finished) -> None:
        super().job_ended(job)
        signal.raise_signal(signal.SIGINT)


async def test_jobs_of_others_are_shown_when_they_end() -> None:
    """And only those: the demo's own answer was on the page already."""
    out = io.StringIO()
    view = ViewWithSecondClient(out)
    async with asyncio.timeout(20):
        await show(STAYING, view)
        await view.client
    lines = [line for line in out.getvalue().splitlines() if line.startswith("job ")]

    assert len(lines) == 1
    assert "simulated-7b" in lines[0]
