"""Clients of the coordinator, quick, slow, or soon gone; each checks its answer to the byte."""

import asyncio
import random
from dataclasses import dataclass

from provider_agent.coordinator.answer import Answer, Done, Failed
from provider_agent.coordinator.jobs import JobRequest
from tests.simulation.deployment import Coordinator
from tests.simulation.engine import CHAT, MODEL, Question
from tests.simulation.story import Story


@dataclass
class Client:
    """One client with one question.

    Attributes:
        patience_s: when it leaves, if it does.
        pace_s: how long it takes for what it was given.
        got: what it was given so far.
        end: how its answer ended; None when it left, or its coordinator died.
    """

    number: int
    question: Question
    patience_s: float | None
    pace_s: float
    got: bytes = b""
    end: Done | Failed | None = None
    is_over: bool = False

    @classmethod
    def by_the_dice(cls, number: int, rng: random.Random) -> "Client":
        sizes = rng.choice(((1, 40), (12, 120), (8, 70_000), (40, 30), (0, 1)))
        return cls(
            number,
            Question(number, *sizes),
            patience_s=rng.uniform(0, 30) if rng.random() < 0.2 else None,
            pace_s=rng.choice((0.0, 0.0, 0.0, 0.05, 3.0)),
        )

    async def ask(self, coordinator: Coordinator, story: Story) -> None:
        name = f"client {self.number}"
        request = JobRequest(MODEL, CHAT, self.question.body, stream=True)
        story.tell(
            name, "asks", coordinator.name, self.question, "patience", self.patience_s, "pace", self.pace_s
        )
        dying = asyncio.create_task(coordinator.is_gone.wait())
        reading = asyncio.create_task(self._read(coordinator, request, story))
        try:
            await asyncio.wait({dying, reading}, timeout=self.patience_s, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (dying, reading):
                task.cancel()
            await asyncio.wait({dying, reading})
            self.is_over = True
        if not reading.cancelled():
            reading.result()
        story.tell(name, "is over:", self.end, len(self.got), "bytes")
        story.counts[f"end: {self._ending(coordinator)}"] += 1
        self._check(story)

    def _ending(self, coordinator: Coordinator) -> str:
        match self.end:
            case Failed(code=code):
                return f"{code} {'in the middle' if self.got else 'before a byte'}"
            case Done():
                return "done"
            case None:
                return "lost its coordinator" if coordinator.is_gone.is_set() else "left"

    async def _read(self, coordinator: Coordinator, request: JobRequest, story: Story) -> None:
        with coordinator.dispatcher.run(request) as answer:
            story.tell(f"client {self.number} is", answer.job_id)
            while True:
                await answer.ready()
                if answer.outcome is not None and not answer.waiting_bytes:
                    break
                if isinstance(answer.outcome, Failed) and not answer.taken:
                    break
                await self._take(answer)
            self.end = answer.outcome

    async def _take(self, answer: Answer) -> None:
        """What it has taken counts only after a while, as with a connection that is full."""
        self.got += answer.take()
        await asyncio.sleep(self.pace_s)
        answer.consumed()

    def _check(self, story: Story) -> None:
        """Every byte once and in order; all of them if the answer is called whole."""
        whole = b"".join(self.question.answer())
        story.demand(whole.startswith(self.got), f"client {self.number} was given other bytes than its own")
        if isinstance(self.end, Done):
            story.demand(len(self.got) == len(whole), f"client {self.number} lacks bytes of a whole answer")
