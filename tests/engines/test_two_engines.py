"""Two llama.cpp servers with one model share its jobs, and cover for each other when one is killed."""

from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.engines.conftest import Line, StartAgent, data_of, error_in
from tests.engines.processes import LlamaServer, eventually

SLOTS = 4
LONG_PROMPT = "An agent asks an engine. " * 60
BACK_WITHIN_S = 10.0


@dataclass
class Pair:
    """Two servers, and the requests that were sent to their model through the coordinator."""

    line: Line
    one: LlamaServer
    other: LlamaServer
    pool: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(16))

    def ask(self, prompt: str = "An agent", **more: Any) -> "Future[httpx.Response]":
        """The whole answer, when it is there."""
        messages = [{"role": "user", "content": prompt}]
        body = {"model": self.one.alias, "messages": messages, "temperature": 0, "max_tokens": 8} | more
        url = f"{self.line.url}/v1/chat/completions"
        return self.pool.submit(httpx.post, url, json=body, timeout=60)

    def busy(self) -> tuple[int, int]:
        return self.one.busy_slots(), self.other.busy_slots()


@pytest.fixture(scope="module")
def pair(folder: Path, line: Line, start_agent: StartAgent) -> Iterator[Pair]:
    """An agent that looks at its engines as often as it does by default."""
    with ExitStack() as stack:
        one, other = (
            stack.enter_context(LlamaServer(folder, "pair", model="slow", name=f"pair-{name}"))
            for name in ("one", "other")
        )
        engines = [("llamacpp", server.url, "") for server in (one, other)]
        environ = {"PROVIDER_AGENT__DISCOVERY__INTERVAL_S": "30"}
        stack.enter_context(start_agent("pair-den", *engines, models={"pair"}, **environ))
        made = Pair(line, one, other)
        yield made
        made.pool.shutdown()


@contextmanager
def begun(pair: Pair, tokens: int) -> Iterator[list[str]]:
    """A stream of which some lines have come; the rest is added when it is left."""
    body = {"model": "pair", "messages": [{"role": "user", "content": "Go on"}], "stream": True}
    more = {"max_tokens": tokens, "ignore_eos": True, "temperature": 0}
    with httpx.stream("POST", f"{pair.line.url}/v1/chat/completions", json=body | more, timeout=60) as answer:
        lines = answer.iter_lines()
        got = [next(lines) for _ in range(4)]
        yield got
        got += lines


def test_eight_jobs_run_four_and_four(pair: Pair) -> None:
    """Each server has four slots, and neither is idle while the other is full; field notes 25, 71."""
    with ExitStack() as stack:
        streams = [stack.enter_context(begun(pair, tokens=60)) for _ in range(2 * SLOTS)]
        assert pair.busy() == (SLOTS, SLOTS)

    assert all(data_of("\n".join(stream))[-1] == "[DONE]" for stream in streams)


def test_what_a_killed_engine_had_begun_ends_and_what_it_had_not_moves(pair: Pair) -> None:
    """New jobs never see it, and it is used again soon after it is back; field notes 25, 26, 28."""
    with ExitStack() as stack:
        streams = [stack.enter_context(begun(pair, tokens=150)) for _ in range(4)]
        unanswered = [pair.ask(LONG_PROMPT) for _ in range(2)]
        eventually(lambda: pair.busy() == (3, 3), 10, "an unanswered job runs on each server")
        assert not any(job.done() for job in unanswered)
        pair.one.kill()
        new = [pair.ask() for _ in range(4)]

    ends = [data_of("\n".join(stream))[-1] for stream in streams]
    assert [end for end in ends if end == "[DONE]"] == ["[DONE]"] * 2
    assert [error_in(end)["code"] for end in ends if end != "[DONE]"] == ["stream_truncated"] * 2
    assert [job.result().status_code for job in (*unanswered, *new)] == [200] * 6

    pair.one.start()
    eventually(lambda: uses_both(pair), BACK_WITHIN_S, "the server that is back gets jobs")


def uses_both(pair: Pair) -> bool:
    """Whether two jobs at once run on one server each."""
    with begun(pair, tokens=30), begun(pair, tokens=30):
        return pair.busy() == (1, 1)
