"""An answer's way through the agent: one connection, one order, no byte held back that need not be."""

import asyncio
from pathlib import Path

from provider_agent.backends.base import Call
from provider_agent.backends.blocks import MAX_HELD_BYTES
from provider_agent.backends.http import EngineHttp
from tests.fakes.engine import DONE, FakeEngine, chat_chunk, sse
from tests.fakes.takers import Taker, relaying
from tests.fakes.tapes import tape
from tests.faults.parts import line

JOBS = 8
EVENTS = 1000
LATE_S = 10.0


async def test_the_chunks_of_an_answer_travel_in_order_over_one_connection(tmp_path: Path) -> None:
    """Of eight jobs at once, a thousand events each, and no two are equal (field note 36)."""
    names = [f"job-{number}" for number in range(JOBS)]
    async with line(tmp_path, apart=False) as parts:
        answers = await asyncio.gather(*(parts.ask(name, events=EVENTS) for name in names))
        to_coordinator = len(parts.proxy.connections)
        to_engine = len({id(each) for each in parts.engine.served.values()})

    assert [heard.body for heard in answers] == [tape(name, events=EVENTS) for name in names]
    assert to_coordinator == 1
    assert to_engine == JOBS


async def test_a_body_without_a_line_end_goes_on_before_it_ends() -> None:
    """Beyond a megabyte it is not collected any more, and its end is still found (field note 32)."""
    gate = asyncio.Event()
    endless = b"data: " + b"x" * (2 * MAX_HELD_BYTES)
    async with FakeEngine() as engine, EngineHttp() as http, asyncio.timeout(LATE_S):
        engine.will_answer(sse(endless, gate, b"y\n\n" + chat_chunk("a", "stop") + DONE))
        asked = Call("/v1/chat/completions", "tiny", b'{"stream":true}', True, LATE_S, LATE_S)
        async with http.open(engine.url, asked) as reply:
            taker = Taker()
            async with relaying(reply, taker) as job:
                await taker.has(endless)
                gate.set()
                await job

    assert taker.taken == endless + b"y\n\n" + chat_chunk("a", "stop") + DONE
