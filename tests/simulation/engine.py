"""An engine whose answers can be told byte by byte from the question, and that misbehaves by the dice."""

import asyncio
import random
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import ClassVar

from provider_agent.backends.base import (
    AuthRejected,
    BackendError,
    BackendFailed,
    BackendLoading,
    BackendModel,
    BackendUnreachable,
    Call,
    IdleTimeout,
    ModelNotFound,
    RateLimited,
    StreamFailed,
    StreamTruncated,
    Usage,
)
from tests.simulation.story import Story

CHAT = "/v1/chat/completions"
MODEL = "m"


@dataclass(frozen=True)
class Question:
    """One client's request; everything about its answer follows from `number`."""

    number: int
    pieces: int
    piece_bytes: int

    @property
    def body(self) -> bytes:
        return b'{"model":"m","q":[%d,%d,%d]}' % (self.number, self.pieces, self.piece_bytes)

    @classmethod
    def of(cls, body: bytes) -> "Question":
        numbers = body.partition(b"[")[2].partition(b"]")[0].split(b",")
        return cls(*(int(number) for number in numbers))

    def answer(self) -> Iterator[bytes]:
        """No two pieces are alike, so that none can be lost, doubled or swapped unseen."""
        for piece in range(self.pieces):
            yield (b"%d:%d;" % (self.number, piece)).ljust(self.piece_bytes, b".")


class Answering:
    """A `Reply`: pushes its pieces with pauses between them, and fails where it must."""

    http_status = 200
    content_type = "text/event-stream"

    def __init__(
        self, question: Question, rng: random.Random, story: Story, fails: BackendError | None
    ) -> None:
        self.usage = Usage()
        self.paused = False
        self._question = question
        self._rng = rng
        self._story = story
        self._fails = fails
        self._fails_at = rng.randrange(question.pieces + 1)
        self._go_on = asyncio.Event()
        self._go_on.set()

    async def relay(self, take: Callable[[bytes], None]) -> None:
        pause_s = self._rng.choice((0.0, 0.0, 0.01, 0.2))
        for number, piece in enumerate(self._question.answer()):
            if self._fails is not None and number == self._fails_at:
                await self._fail(self._fails)
            await asyncio.sleep(pause_s * self._rng.random())
            await self._go_on.wait()
            self.usage = Usage(1, number + 1)
            take(piece)
        if self._fails is not None and self._fails_at == self._question.pieces:
            await self._fail(self._fails)

    async def _fail(self, error: BackendError) -> None:
        if isinstance(error, IdleTimeout):
            await asyncio.sleep(self._rng.uniform(1.0, 20.0))
        raise error

    def pause(self) -> None:
        self._story.counts["engine paused"] += 1
        self._go_on.clear()

    def resume(self) -> None:
        self._go_on.set()


class SimulatedEngine:
    """A `Backend`.

    Attributes:
        open_jobs: connections to the engine at this moment.
        trouble: how often an answer fails, 0 to 1.
        moods: how often it fails a job of which no byte has come, 0 to 1; another engine may run that one.
    """

    kind = "openai"
    url = "http://127.0.0.1:9"
    priority = 100
    standby = False
    aliases: ClassVar[Mapping[str, str]] = {}

    def __init__(self, name: str, rng: random.Random, story: Story, *, slots: int) -> None:
        self.name = name
        self.max_concurrent = slots
        self.open_jobs = 0
        self.trouble = 0.0
        self.moods = 0.0
        self._rng = rng
        self._story = story

    @property
    def models(self) -> tuple[BackendModel, ...]:
        return (BackendModel(MODEL, frozenset({CHAT})),)

    async def list_models(self) -> tuple[BackendModel, ...]:
        return self.models

    async def keep_warm(self, model: BackendModel, *, within_s: float) -> None:
        """It has its model in memory."""

    @asynccontextmanager
    async def open(self, call: Call) -> AsyncIterator[Answering]:
        self.open_jobs += 1
        self._story.demand(
            self.open_jobs <= self.max_concurrent, f"{self.name} has {self.open_jobs} jobs at once"
        )
        try:
            await asyncio.sleep(self._rng.choice((0.0, 0.05, 2.0)) * self._rng.random())
            if self._rng.random() < self.trouble / 2:
                raise self._rng.choice((BackendUnreachable("refused"), BackendLoading("loading")))
            if self._rng.random() < self.moods:
                self._story.counts["engine in a mood"] += 1
                raise self._rng.choice(self._excuses())
            yield Answering(Question.of(call.body), self._rng, self._story, self._misfortune())
        finally:
            try:
                await self._hang_up()
            finally:
                self.open_jobs -= 1

    async def _hang_up(self) -> None:
        """It takes a while until the engine's connection is closed, whatever happens meanwhile."""
        await asyncio.sleep(self._rng.choice((0.0, 0.0, 0.5)) * self._rng.random())

    def _excuses(self) -> tuple[BackendError, ...]:
        """One of each kind that another engine may not have."""
        return (
            BackendUnreachable("refused"),
            BackendLoading("loading"),
            RateLimited("slow down", retry_after_ms=self._rng.randrange(20_000)),
            BackendFailed("broken", http_status=500),
            StreamTruncated("cut before the first byte"),
            ModelNotFound("unloaded"),
            AuthRejected("the key is old"),
        )

    def _misfortune(self) -> BackendError | None:
        if self._rng.random() >= self.trouble:
            return None
        return self._rng.choice(
            (
                StreamTruncated("cut"),
                StreamFailed("said so"),
                IdleTimeout("silent"),
            )
        )
