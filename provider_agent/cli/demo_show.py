"""The course of the demo: parts up, one chat, next steps, wait; knows no part and no terminal."""

import asyncio
import signal
import tempfile
from dataclasses import dataclass
from pathlib import Path

from provider_agent.cli.demo_chat import ChatFailed, Measured, chat, completion_body
from provider_agent.cli.demo_jobs import Jobs
from provider_agent.cli.demo_parts import Demo, Wish, running
from provider_agent.cli.demo_view import View
from provider_agent.cli.signals import stop_on_signals

MAX_TOKENS = 120
"""Keeps a real engine's answer short."""

ANSWER_LIMIT_S = 300.0
"""A real engine may load its model first."""


@dataclass(frozen=True, slots=True)
class Show:
    """What is asked for.

    Attributes:
        once: end after the first answer.
    """

    prompt: str
    wish: Wish
    once: bool = False


async def show(plan: Show, view: View) -> int:
    """Show it until the end or a signal; gives the exit code.

    Raises:
        DemoFailed, ChatFailed: it cannot be shown.
    """
    with stop_on_signals() as stop:
        course = asyncio.create_task(_course(plan, view))
        stopped = asyncio.create_task(stop.wait())
        await asyncio.wait({course, stopped}, return_when=asyncio.FIRST_COMPLETED)
        stopped.cancel()
        course.cancel()  # nothing happens if it has ended; else it takes the parts down
        await asyncio.wait({course, stopped})
    if course.cancelled():
        return 128 + signal.SIGINT if plan.once else 0
    return course.result()


async def _course(plan: Show, view: View) -> int:
    jobs = Jobs()

    def on_event(name: str, fields: dict[str, object]) -> None:
        if name in ("engine", "coordinator", "agent"):
            view.part(name, fields)
        finished = jobs.take(name, fields)
        view.counts(jobs.running, jobs.served)
        if finished is not None and jobs.ended > 1:  # the first is the demo's own
            view.job_ended(finished)

    with tempfile.TemporaryDirectory(prefix="provider-agent-demo-") as directory, view:
        async with running(Path(directory), plan.wish, on_event) as demo:
            await _first_chat(demo, plan, view)
            if not plan.once:
                view.next_steps(demo.url, demo.engine.model)
                await asyncio.Event().wait()  # until a signal
    return 0


async def _first_chat(demo: Demo, plan: Show, view: View) -> None:
    view.asked(plan.prompt, demo.engine.model)
    body = {**completion_body(demo.engine.model, plan.prompt), "max_tokens": MAX_TOKENS}
    measured = Measured()
    try:
        async with asyncio.timeout(ANSWER_LIMIT_S):
            async for said in chat(demo.url, body, measured):
                view.said(said, measured)
    except TimeoutError as error:
        raise ChatFailed(f"the engine gave no whole answer in {ANSWER_LIMIT_S:.0f} seconds") from error
    view.answered(measured)
