"""The command `demo`, as a process."""

import asyncio
import shutil
import sys
from asyncio.subprocess import PIPE

import pytest

from tests.fakes.programs import END_LIMIT_S, Program, command


async def test_once_shows_one_answer_and_exits_with_0() -> None:
    """What CI runs."""
    ended = await command("demo", "--once", "--simulated", "--port", "0")

    assert (ended.code, ended.stderr) == (0, "")
    assert "tokens/s" in ended.stdout


async def test_ctrl_c_ends_it_without_a_traceback() -> None:
    """In the middle of the answer, or later."""
    async with Program("demo", "--simulated", "--port", "0") as program:
        assert program.process.stdout is not None
        while not (await program.process.stdout.readline()).startswith(b"asking"):
            pass
        program.interrupt()
        ended = await program.end()

    assert (ended.code, ended.stderr) == (0, "")


async def test_an_unknown_flag_is_a_usage_error() -> None:
    """Flags are checked before anything starts."""
    ended = await command("demo", "--onec")

    assert ended.code == 64


@pytest.mark.skipif(shutil.which("curl") is None, reason="there is no curl on this machine")
async def test_the_printed_lines_work_while_it_keeps_running() -> None:
    """Copied as they stand: the shell's and Python's."""
    async with asyncio.timeout(2 * END_LIMIT_S), Program("demo", "--simulated", "--port", "0") as program:
        assert program.process.stdout is not None
        page = (await program.process.stdout.readuntil(b"Ctrl-C stops it.")).decode()
        shell = page[page.index("curl ") : page.index("from openai")]
        python = page[page.index("from openai") : page.index("Ctrl-C")]
        by_curl = await output("sh", "-c", shell)
        by_python = await output(sys.executable, "-c", python)

    assert by_curl.rstrip().endswith("data: [DONE]")
    assert by_python.endswith(".")


async def output(*arguments: str) -> str:
    """What another program prints."""
    process = await asyncio.create_subprocess_exec(*arguments, stdout=PIPE, stderr=PIPE)
    stdout, _ = await process.communicate()
    assert process.returncode == 0
    return stdout.decode()
