"""The demo's own client: one streamed chat over HTTP; knows no part of the demo."""

import json
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Any

import aiohttp


class ChatFailed(Exception):
    """There was no whole answer; the text is one sentence."""


@dataclass(frozen=True, slots=True)
class Said:
    """A piece of the answer; a thought is what a reasoning model says before it."""

    text: str
    is_thought: bool = False


@dataclass(slots=True)
class Measured:
    """What a client sees of an answer's speed; times in seconds since the request.

    Attributes:
        tokens: as the engine counted them; else the number of pieces.
    """

    tokens: int = 0
    first_token_s: float = 0.0
    last_token_s: float = 0.0

    @property
    def tokens_per_s(self) -> float | None:
        """Speed after the first token; None when there was no time to see one."""
        took_s = self.last_token_s - self.first_token_s
        return (self.tokens - 1) / took_s if took_s > 0 and self.tokens > 1 else None


async def chat(
    url: str,
    body: dict[str, Any],
    measured: Measured,
    *,
    clock: Callable[[], float] = time.monotonic,
) -> AsyncIterator[Said]:
    """Ask the coordinator at this URL; `measured` is filled on the way. Raises ChatFailed."""
    asked = {**body, "stream": True, "stream_options": {"include_usage": True}}
    start_s = clock()
    try:
        async with (
            aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=None, sock_connect=5)) as session,
            session.post(f"{url}/v1/chat/completions", json=asked) as response,
        ):
            if response.status != 200:  # noqa: PLR2004
                raise ChatFailed(_refusal(response.status, await response.text()))
            async for said in _pieces(response, measured):
                measured.last_token_s = clock() - start_s
                measured.first_token_s = measured.first_token_s or measured.last_token_s
                yield said
    except aiohttp.ClientError as error:
        raise ChatFailed(f"the connection to the coordinator broke: {error}") from error


def completion_body(model: str, prompt: str) -> dict[str, Any]:
    return {"model": model, "messages": [{"role": "user", "content": prompt}]}


async def _pieces(response: aiohttp.ClientResponse, measured: Measured) -> AsyncIterator[Said]:
    """The answer's pieces; raises ChatFailed unless the end mark comes.

    1. Lines that are no data (comments that keep the connection alive) say nothing.
    2. The end mark is the only good end.
    3. An error event is a bad one.
    4. Usage comes in an event of its own.
    """
    pieces = 0
    async for raw in response.content:
        line = raw.strip()
        if not line.startswith(b"data:"):  # 1
            continue
        data = line.removeprefix(b"data:").strip()
        if data == b"[DONE]":  # 2
            return
        event = json.loads(data)
        if error := event.get("error"):  # 3
            raise ChatFailed(f"the answer broke off: {error.get('message', error)}")
        if usage := event.get("usage"):  # 4
            measured.tokens = usage.get("completion_tokens") or measured.tokens
        for said in filter(None, map(_said, event.get("choices") or ())):
            pieces += 1
            measured.tokens = max(measured.tokens, pieces)
            yield said
    raise ChatFailed("the answer ended without its end mark")


def _said(choice: dict[str, Any]) -> Said | None:
    delta = choice.get("delta") or {}
    if text := delta.get("content"):
        return Said(text)
    if text := delta.get("reasoning_content") or delta.get("reasoning"):
        return Said(text, is_thought=True)
    return None


def _refusal(status: int, body: str) -> str:
    try:
        message = json.loads(body)["error"]["message"]
    except (ValueError, KeyError, TypeError):
        message = "no reason given"
    return f"the coordinator answered {status}: {message}"
