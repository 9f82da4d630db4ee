"""An engine whose every answer can be checked to the byte; a request says which one it wants.

It also runs as a process, which can be killed: `python -m tests.fakes.tapes --port 0`.

async with TapeEngine() as engine:
    gate = engine.hold("first", before=10)     # its tenth event waits; HEADERS: nothing at all comes
    ...ask for tape("first", events=20)...
    gate.set()
    assert heard.body == tape("first", events=20)
"""

import argparse
import asyncio
import json
import sys
from collections.abc import Sequence
from typing import Any

from tests.fakes.engine import DONE, Act, Answer, Connection, FakeEngine, Received, Step, json_answer

HEADERS = -1
"""Hold an answer before its status line."""

MODEL = "tiny"


def event(name: str, number: int, event_bytes: int) -> bytes:
    """One event of a tape, of exactly so many bytes; no two are equal."""
    text = f"{name}/{number};"
    frame = b'data: {"choices":[{"index":0,"delta":{"content":"%b"}}]}\n\n'
    filler = event_bytes - len(frame % text.encode())
    return frame % (text + ".,:-" * (filler // 4) + "." * (filler % 4)).encode()


def tape(name: str, events: int = 20, event_bytes: int = 120) -> bytes:
    """All that the engine says to a streamed request, and so all that its client may hear."""
    return b"".join(event(name, number, event_bytes) for number in range(events)) + DONE


def document(name: str, events: int = 20, event_bytes: int = 120) -> bytes:
    """The same for a request that is not streamed."""
    text = "".join(f"{name}/{number};".ljust(event_bytes, ".") for number in range(events))
    choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
    return json.dumps({"id": name, "object": "chat.completion", "choices": [choice]}).encode()


def asks_for(
    name: str,
    *,
    events: int = 20,
    event_bytes: int = 120,
    stream: bool = True,
    stops_before: int | None = None,
) -> dict[str, Any]:
    """The body of a request for this tape; the engine falls silent before an event, if told so."""
    return {
        "model": MODEL,
        "stream": stream,
        "messages": [{"role": "user", "content": name}],
        "tape": {"events": events, "event_bytes": event_bytes},
        "stops_before": stops_before,
    }


class TapeEngine(FakeEngine):
    """See the module.

    Attributes:
        served: the connection of each tape's latest request, by name.
        counts: how often each tape was asked for.
    """

    def __init__(self, models: Sequence[str] = (MODEL,)) -> None:
        super().__init__(models)
        self.served: dict[str, Connection] = {}
        self.counts: dict[str, int] = {}
        self._held: dict[str, dict[int, Step]] = {}

    def hold(self, name: str, before: int) -> asyncio.Event:
        """The next answer of this name waits before this event, until what this gives is set."""
        gate = asyncio.Event()
        self._held.setdefault(name, {})[before] = gate
        return gate

    async def is_asked(self, name: str, count: int = 1) -> Connection:
        """Wait until a tape has been asked for so often."""
        while self.counts.get(name, 0) < count:
            await self.news()
        return self.served[name]

    def answer(self, request: Received, connection: Connection) -> Answer:
        if request.method != "POST":
            return super().answer(request, connection)
        asked = request.json()
        name: str = asked["messages"][0]["content"]
        self.served[name] = connection
        self.counts[name] = self.counts.get(name, 0) + 1
        held = self._held.pop(name, {})
        if asked.get("stops_before") is not None:
            held[asked["stops_before"]] = Act.SILENCE
        before_headers = held.pop(HEADERS, None)
        assert not isinstance(before_headers, bytes)
        if not asked["stream"]:
            whole = document(name, **asked["tape"])
            return json_answer(whole, before_headers=before_headers)
        events, event_bytes = asked["tape"]["events"], asked["tape"]["event_bytes"]
        steps: list[Step] = []
        for number in range(events):
            steps += [held[number]] if number in held else []
            steps.append(event(name, number, event_bytes))
        return Answer([*steps, DONE], before_headers=before_headers)


async def _serve(port: int) -> None:
    engine = TapeEngine()
    await engine.start(port)
    sys.stdout.write(json.dumps({"event": "listening", "url": engine.url, "port": engine.port}) + "\n")
    sys.stdout.flush()
    await asyncio.Event().wait()  # until it is killed


if __name__ == "__main__":
    options = argparse.ArgumentParser()
    options.add_argument("--port", type=int, default=0)
    asyncio.run(_serve(options.parse_args().port))
