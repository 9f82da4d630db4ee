"""Engines that hang: before a word, and in the middle of an answer."""

import asyncio
from pathlib import Path

from tests.fakes.tapes import HEADERS, tape
from tests.faults.parts import line

BRIEF = {"LIMITS__FIRST_BYTE_TIMEOUT_S": "0.5", "LIMITS__IDLE_TIMEOUT_S": "0.5"}


async def test_an_engine_that_hangs_before_its_headers_is_given_up(tmp_path: Path) -> None:
    """The client gets a status, the engine is left, the slot is free, the next job runs; field note 17."""
    async with line(tmp_path, apart=False, agent=BRIEF) as parts:
        heard = await parts.ask("hangs", stops_before=HEADERS)
        await parts.engine.served["hangs"].closed.wait()
        next_one = await parts.ask("next")
        await parts.is_idle()

    assert (heard.status, heard.error) == (504, "first_byte_timeout")
    assert next_one.body == tape("next")


async def test_an_engine_that_hangs_between_tokens_is_given_up(tmp_path: Path) -> None:
    """What came is the client's, then an error and no end mark; others go on meanwhile; field note 73."""
    async with line(tmp_path, apart=False, agent=BRIEF) as parts:
        async with parts.client("hangs", stops_before=10) as client:
            await client.first(10)
            meanwhile = await parts.ask("meanwhile")
            heard = await client.rest()
        await parts.engine.served["hangs"].closed.wait()
        await parts.is_idle()

    assert meanwhile.body == tape("meanwhile")
    assert heard.error == "idle_timeout"
    assert heard.has_one_clean_end(tape("hangs"))


async def test_a_hanging_engine_is_left_when_its_client_leaves(tmp_path: Path) -> None:
    """Nothing comes, so nobody would notice but for the client's own connection; field note 70."""
    async with line(tmp_path, apart=False) as parts:
        prefill = parts.client("prefill", stops_before=HEADERS)
        async with prefill, parts.client("middle", stops_before=10) as client:
            await client.first(10)
            connections = [await parts.engine.is_asked(name) for name in ("prefill", "middle")]
        await asyncio.gather(*(each.closed.wait() for each in connections))
        await parts.is_idle()

    assert not parts.engine.open_connections
