"""Running a coroutine from the command line."""

import asyncio
import sys

import pytest

from provider_agent.cli.loop import run


async def loop_module() -> str:
    """Which library's loop runs this."""
    return type(asyncio.get_running_loop()).__module__


def test_the_result_of_the_coroutine_comes_back() -> None:
    """And its loop is closed."""
    assert run(asyncio.sleep(0, "result")) == "result"


@pytest.mark.skipif(sys.platform == "win32", reason="there is no uvloop")
def test_it_runs_on_uvloop() -> None:
    """A fifth less CPU on the relay."""
    assert run(loop_module()).startswith("uvloop")
