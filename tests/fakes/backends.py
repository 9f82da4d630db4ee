"""Backends that follow a script; their trouble is in the script."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress

from provider_agent.backends.base import BackendFailed, BackendModel, Call, Usage

CHAT = "/v1/chat/completions"

Step = bytes | Exception | asyncio.Event
"""Bytes to relay, an error to raise, or an event to wait for."""


class ScriptedReply:
    """Plays the steps of one answer; usage is known from the first byte on.

    Attributes:
        is_paused: no step is played until `resume`.
        pauses: how often it was paused.
    """

    http_status = 200
    content_type = "text/event-stream"

    def __init__(self, steps: Sequence[Step], usage: Usage) -> None:
        self._steps = steps
        self._known = usage
        self._goes_on = asyncio.Event()
        self._goes_on.set()
        self.usage = Usage()
        self.pauses = 0

    @property
    def is_paused(self) -> bool:
        return not self._goes_on.is_set()

    async def relay(self, take: Callable[[bytes], None]) -> None:
        for step in self._steps:
            await self._goes_on.wait()
            match step:
                case bytes():
                    self.usage = self._known
                    take(step)
                case asyncio.Event():
                    await step.wait()
                case _:
                    raise step

    def pause(self) -> None:
        self.pauses += not self.is_paused
        self._goes_on.clear()

    def resume(self) -> None:
        self._goes_on.set()


class ReplyThatIgnoresCancel(ScriptedReply):
    """Ends as if it were whole when its reader is cancelled, as code does that swallows cancellation."""

    async def relay(self, take: Callable[[bytes], None]) -> None:
        with suppress(asyncio.CancelledError):
            await super().relay(take)


class ScriptedBackend:
    """Answers each call with the same steps, or fails to open with `refuses`.

    Attributes:
        calls: what was asked, in order.
        open_connections: connections to the engine at this moment.
        most_open: the most there ever were.
        replies: what was opened, in order.
    """

    def __init__(
        self,
        *steps: Step,
        name: str = "scripted",
        models: Sequence[str] = ("m",),
        max_concurrent: int | None = None,
        priority: int = 100,
        standby: bool = False,
        aliases: Mapping[str, str] | None = None,
        refuses: Exception | None = None,
        usage: Usage | None = None,
    ) -> None:
        self.name = name
        self.kind = "openai"
        self.url = "http://127.0.0.1:9"
        self.max_concurrent = max_concurrent
        self.priority = priority
        self.standby = standby
        self.aliases: Mapping[str, str] = aliases or {}
        self.models = tuple(BackendModel(model, frozenset({CHAT})) for model in models)
        self.steps = steps
        self.refuses = refuses
        self.usage = usage or Usage(3, 5)
        self.calls: list[Call] = []
        self.open_connections = 0
        self.most_open = 0
        self.replies: list[ScriptedReply] = []

    async def list_models(self) -> tuple[BackendModel, ...]:
        return self.models

    async def keep_warm(self, model: BackendModel, *, within_s: float) -> None:
        """It has all its models in memory."""

    @asynccontextmanager
    async def open(self, call: Call) -> AsyncIterator[ScriptedReply]:
        self.calls.append(call)
        if self.refuses is not None:
            raise self.refuses
        self.open_connections += 1
        self.most_open = max(self.most_open, self.open_connections)
        try:
            self.replies.append(self.reply())
            yield self.replies[-1]
        finally:
            try:
                await self.close()
            finally:
                self.open_connections -= 1

    def reply(self) -> ScriptedReply:
        return ScriptedReply(self.steps, self.usage)

    async def close(self) -> None:
        """Closing takes a turn of the loop, as it does on a socket."""
        await asyncio.sleep(0)


class BackendThatIgnoresCancel(ScriptedBackend):
    """A cancel of its reader looks to it like the end of the answer."""

    def reply(self) -> ScriptedReply:
        return ReplyThatIgnoresCancel(self.steps, self.usage)


class BackendThatBreaksWhenLeft(ScriptedBackend):
    """Its connection reports an error when it is closed before the end."""

    async def close(self) -> None:
        raise BackendFailed("the connection broke while it was closed")


class BackendThatClosesLate(ScriptedBackend):
    """Its connection is closed only once `closed` is set, whatever happens to the job meanwhile."""

    def __init__(self, *steps: Step, **options: object) -> None:
        super().__init__(*steps, **options)  # type: ignore[arg-type]
        self.closed = asyncio.Event()

    async def close(self) -> None:
        await asyncio.shield(self.closed.wait())


class BackendThatLoads(ScriptedBackend):
    """Has some of its models in memory, and loads what it is asked to keep warm.

    Attributes:
        asked: what it was asked to keep warm, in order.
        fails: raised instead of loading.
        ready: loading waits for it.
        room: so many models fit; the first to come is the first to leave.
    """

    def __init__(self, *models: str, name: str = "loads", loaded: Sequence[str] = (), room: int = 9) -> None:
        super().__init__(name=name, models=models)
        self.asked: list[str] = []
        self.fails: Exception | None = None
        self.ready = asyncio.Event()
        self.ready.set()
        self.room = room
        self._news = asyncio.Event()
        self._loaded: list[str] = []
        self.have(*loaded)

    def have(self, *models: str) -> None:
        """These are in memory now."""
        self._loaded = list(models)
        self.models = tuple(
            BackendModel(each.model_id, each.endpoints, is_loaded=each.model_id in models)
            for each in self.models
        )

    async def keep_warm(self, model: BackendModel, *, within_s: float) -> None:
        del within_s
        self.asked.append(model.model_id)
        self._news.set()
        await self.ready.wait()
        if self.fails is not None:
            raise self.fails
        others = [each for each in self._loaded if each != model.model_id]
        self.have(*[*others, model.model_id][-self.room :])

    async def was_asked(self, times: int) -> None:
        """Wait until it was asked so often in all."""
        while len(self.asked) < times:
            self._news.clear()
            await self._news.wait()
