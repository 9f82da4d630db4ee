"""The command `demo`, as a process."""

from tests.fakes.programs import Program, command


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


async def test_an_engine_that_was_asked_for_in_vain_is_a_usage_error() -> None:
    """Flags are checked before anything starts."""
    ended = await command("demo", "--onec")

    assert ended.code == 64
